"""Write the files of `reconcile init`: a target, a manifest and a data set, or the CI workflows."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Mapping
from functools import reduce
from importlib import resources
from pathlib import Path
from textwrap import indent
from typing import Final, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.domain.errors import InvalidInput, Place, ReconcileError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.model import API_VERSION, REMOTE_SCHEME, Target
from reconciler.domain.text import quote
from reconciler.files import create_file, write_errors, write_file
from reconciler.manifests.datasets.declarations import option_fields
from reconciler.manifests.datasets.detect import Fields, describe_mapping, detect_options
from reconciler.manifests.datasets.records import ReadOptions
from reconciler.manifests.datasets.validation import file_source, validate_dataset
from reconciler.manifests.discovery import DEFAULT, Root, target_file_name
from reconciler.manifests.yaml_parser import parse_scalar
from reconciler.paths import repository_of, require_inside, require_no_escape
from reconciler.providers.registry import capabilities_of

Platform = Literal["github", "gitlab"]

_GITHUB: Final = {
    **{
        f".github/workflows/reconcile-{name}@SUFFIX@.yml": f"github/{name}.yml"
        for name in ("pull-request", "locked", "settle", "merged", "drift")
    },
    ".github/reconcile.txt": "requirements.txt",
}
_GITLAB: Final = {
    ".gitlab/reconcile@SUFFIX@.yml": "gitlab/reconcile.yml",
    ".gitlab/reconcile.txt": "requirements.txt",
}
_FILES: Final[Mapping[Platform, Mapping[str, str]]] = {"github": _GITHUB, "gitlab": _GITLAB}
"""The paths of the files in the repository for each platform, and their templates."""
_REQUIREMENTS: Final[Mapping[Platform, str]] = {"github": ".github/reconcile.txt", "gitlab": ".gitlab/reconcile.txt"}
"""The files that all targets of a repository share; an existing one is kept."""
_SCRIPT: Final = re.compile(r"^( *)@([a-z]+\.sh)@$", re.MULTILINE)
"""A line of a template that stands for a script of several workflows."""
_FEDERATION: Final = (
    "Set up workload identity federation, and set the variables WORKLOAD_IDENTITY_PROVIDER{variables}, "
    "PLAN_ACCOUNT{variables} and APPLY_ACCOUNT{variables}."
)
_DEPLOY_KEY: Final = (
    "Add a deploy key with write access, and set its private key as RECONCILE_DEPLOY_KEY in the environments "
    "reconcile-train{suffix} and reconcile{suffix}."
)
_PUSH_ACCESS: Final = (
    "Set the masked variable RECONCILE_TOKEN in the environments reconcile-train{suffix} and reconcile{suffix} to an "
    "access token that can push."
)
_NEXT: Final[Mapping[Platform, tuple[str, ...]]] = {
    "github": (
        "Write the requirements for pip to install reconcile, with hashes, into .github/reconcile.txt.",
        "Create the environment reconcile-train{suffix}, with the reviewers who approve spending.",
        "Create the environment reconcile-decisions{suffix}, with the reviewers who approve rollbacks.",
        "Create the environment reconcile{suffix}, restricted to the branch {branch}.",
        _DEPLOY_KEY,
        _FEDERATION,
        "Require the check reconcile-locked{suffix} in a ruleset of {branch} that deploy keys bypass.",
        "Restrict what actions may do in the settings of the repository.",
        "Optional: enable the merge queue.",
    ),
    "gitlab": (
        "Include the file in .gitlab-ci.yml: include: [{{local: .gitlab/reconcile{suffix}.yml}}].",
        "Write the requirements for pip to install reconcile, with hashes, into .gitlab/reconcile.txt.",
        "Protect the environment reconcile-train{suffix}, with access for those who approve spending.",
        "Protect the environment reconcile-decisions{suffix}, with access for those who approve rollbacks.",
        "Protect the environment reconcile{suffix}, with access for maintainers.",
        _PUSH_ACCESS,
        "Set the masked variable RECONCILE_COMMENT_TOKEN to an access token that can comment.",
        _FEDERATION,
        "Schedule pipelines of {branch}: RECONCILE_JOB=settle every 20 minutes, RECONCILE_JOB=drift every day.",
        "Require pipelines to succeed before a merge. Optional: enable merge trains.",
    ),
}
_SIMULATED: Final = "Use a target of a real service: models on the embedded service are not shared between jobs."
_BRANCH: Final = re.compile(r"ref: refs/remotes/origin/([A-Za-z0-9._/-]+)\s*")


class Workflows(Struct, frozen=True):
    """The files to write, by path in the repository, and the ordered steps to do by hand."""

    repository: Path
    files: Mapping[str, bytes]
    steps: tuple[str, ...]


def create_workflows(platform: Platform, root: Root, target: Target, directory: Path) -> Workflows:
    """Return the workflows for a target and all manifests of its root, in the repository of a directory.

    Raises ReconcileError if the root is outside the repository, and UsageError if the lockfile is in a bucket or a path
    contains a ``$``.
    """
    if target.lock.startswith(REMOTE_SCHEME):
        raise UsageError(
            f"pull requests cannot contain the lockfile of target {target.name}, which is in a bucket",
            "remove spec.lock, or train after the merge as described in docs/ci.md",
        )
    repository = repository_of(directory)
    require_inside(root.folder, repository)
    suffix = "" if target.name == DEFAULT else f"-{target.name}"
    branch = _default_branch(repository)
    variables = suffix.upper().replace("-", "_")
    values = _values(root, target, repository) | {
        "SUFFIX": suffix,
        "VARIABLES": variables,
        "REF": f"'refs/heads/{branch}'",
        "BRANCH": _quoted(branch),
        "REQUIREMENTS": _REQUIREMENTS[platform],
    }
    files = {
        fill_in(path, {"SUFFIX": suffix}): fill_in(_template(name), values).encode()
        for path, name in _FILES[platform].items()
        if path != _REQUIREMENTS[platform] or not (repository / path).exists()
    }
    steps = tuple(step.format(branch=branch, suffix=suffix, variables=variables) for step in _NEXT[platform])
    return Workflows(repository, files, (*steps, _SIMULATED) if capabilities_of(target).simulated else steps)


def fill_in(template: str, values: Mapping[str, str]) -> str:
    """Return the template with each ``@NAME@`` replaced by the value of that name."""
    return reduce(lambda text, name: text.replace(f"@{name}@", values[name]), values, template)


def _values(root: Root, target: Target, repository: Path) -> dict[str, str]:
    def path(file: Path) -> str:
        return Path(os.path.relpath(file, repository)).as_posix()

    directory = root.folder.resolve()
    lockfile = (directory / target_file_name(target.name)).with_suffix(".lock.json")
    in_file = target.publish and not target.publish.startswith(REMOTE_SCHEME)
    paths = {
        "SPECS": path(directory),
        "LOCKFILE": path(lockfile),
        "POINTER": path(directory / target.publish) if in_file else "",
    }
    for relative in paths.values():
        if "$" in relative:
            raise UsageError(
                f"invalid path {quote(relative)}: CI expands the $ as a variable", "rename the file or directory"
            )
    return {name: _quoted(value) for name, value in {**paths, "TARGET": target.name}.items()}


def _quoted(text: str) -> str:
    """Return the text as a YAML scalar, in the form of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _template(name: str) -> str:
    """Return a template, with the scripts that it includes."""
    text = resources.files("reconciler.manifests").joinpath("ci", name).read_text(encoding="utf-8")
    return _SCRIPT.sub(lambda line: indent(_template(f"scripts/{line[2]}").removesuffix("\n"), line[1]), text)


def _default_branch(repository: Path) -> str:
    """Return the default branch of the clone's origin; ``main`` if it is unknown."""
    try:
        found = _BRANCH.fullmatch((repository / ".git/refs/remotes/origin/HEAD").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        found = None
    return found[1] if found else "main"


_SPECS = "specs"
_NAME_LENGTH = 31
_SAMPLE_NAME = "number-generator"
_SAMPLE_ROWS = 20
_IGNORED = ".reconcile/"
_EPOCHS = 3
_BATCH_SIZES = (4, 8, 16, 32, 64)
_STEPS = 30
"""The approximate number of training steps of the sample, which is simulated in real time."""


class Scaffold(Struct, frozen=True):
    """The files that were written, relative to the directory, the next command, and the steps to do by hand.

    ``mapping`` has lines that say how the data set is read.
    """

    created: tuple[str, ...]
    next_command: str = ""
    steps: tuple[str, ...] = ()
    mapping: tuple[str, ...] = ()


def init(directory: Path, *, data: Path | None, name: str | None, fields: Fields = (None, None)) -> Scaffold:
    """Write a target for the embedded service, a manifest and, without ``data``, a sample data set to ``specs``.

    ``data`` is copied there only if it is outside the repository. ``fields`` are those that the user has chosen.
    Nothing is overwritten.

    Raises:
        ReconcileError: if a file exists, cannot be written or would be written through a link out of the repository.
        InvalidInput: if the data set has errors.
        UsageError: if the name is invalid, or the directory has a target.
    """
    model = _name(name, data)
    if (directory / "reconcile.yaml").exists():
        raise UsageError(
            "reconcile.yaml: this directory already has a target", "write a manifest next to it, or change directory"
        )
    files = {
        f"{_SPECS}/reconcile.yaml": _TARGET.format(version=API_VERSION, scope=_scalar(guess_scope(directory))).encode()
    }
    detected = detect_options(data, fields) if data else None
    files |= _with_data(directory, model, data, detected.options) if data and detected else _with_sample(model)
    require_inside(directory / ".gitignore", repository_of(directory))
    _write_new(directory, files)
    created = [*sorted(files), ".gitignore"] if _ignore_world(directory) else sorted(files)
    mapping = describe_mapping(data.name, detected) if data and detected else ()
    return Scaffold(tuple(created), f"reconcile plan {_SPECS}", mapping=mapping)


def init_workflows(directory: Path, workflows: Workflows) -> Scaffold:
    """Write the CI workflows into the repository of the directory; nothing is overwritten.

    Raises ReconcileError if a file exists, cannot be written or would be written through a link out of the repository.
    """
    _write_new(workflows.repository, workflows.files)
    written = (os.path.relpath(workflows.repository / name, directory.resolve()) for name in sorted(workflows.files))
    return Scaffold(tuple(Path(name).as_posix() for name in written), steps=workflows.steps)


def _name(name: str | None, data: Path | None) -> str:
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        remedy = "use 1 to 31 lower-case letters, digits and hyphens, starting with a letter"
        raise UsageError(f"invalid model name {quote(name)}", remedy)
    if name or data is None:
        return name or _SAMPLE_NAME
    words = re.sub(r"[^a-z0-9]+", "-", data.stem.lower()).strip("-")
    return (words if words[:1].isalpha() else f"model-{words}")[:_NAME_LENGTH].strip("-")


def _with_sample(model: str) -> dict[str, bytes]:
    rows = [f"{number},{number + 1}\n" for number in range(1, _SAMPLE_ROWS + 1)]
    path = f"datasets/{model}.csv"
    return {
        f"{_SPECS}/{path}": "".join(["text_input,output\n", *rows]).encode(),
        f"{_SPECS}/{model}.yaml": _manifest(model, path, ReadOptions(), len(rows)),
    }


def _with_data(directory: Path, model: str, data: Path, options: ReadOptions) -> dict[str, bytes]:
    """Return a manifest for an existing data set, and a copy of the data if it is outside the repository."""
    shown = str(data)
    require_no_escape(data, shown)
    source = file_source(data, shown, data.name, options, (Place(shown), "spec.dataset"), "")
    validated = validate_dataset(source, None)
    if validated.dataset is None:
        raise InvalidInput(validated.problems)
    examples = validated.dataset.examples
    if data.resolve().is_relative_to(repository_of(directory / _SPECS)):
        path = Path(os.path.relpath(data.resolve(), (directory / _SPECS).resolve())).as_posix()
        return {f"{_SPECS}/{model}.yaml": _manifest(model, path, options, examples)}
    path = f"datasets/{data.name}"
    manifest = _manifest(model, path, options, examples)
    return {f"{_SPECS}/{model}.yaml": manifest, f"{_SPECS}/{path}": data.read_bytes()}


def _manifest(model: str, path: str, options: ReadOptions, examples: int) -> bytes:
    batch_size = next((size for size in _BATCH_SIZES if examples * _EPOCHS <= size * _STEPS), _BATCH_SIZES[-1])
    return _MANIFEST.format(
        version=API_VERSION,
        name=_scalar(model),
        path=_scalar(path),
        options="".join(
            f"\n    {name}: {_scalar(value) if isinstance(value, str) else json.dumps(value)}"
            for name, value in option_fields(options).items()
        ),
        epochs=_EPOCHS,
        batch=batch_size,
    ).encode()


def _scalar(text: str) -> str:
    """Return the text as a YAML scalar, quoted as JSON if YAML would otherwise parse it differently."""
    safe = re.fullmatch(r"[A-Za-z0-9._/-]*[A-Za-z0-9]", text) and parse_scalar(text) == text
    return text if safe else json.dumps(text, ensure_ascii=False)


def _write_new(directory: Path, files: Mapping[str, bytes]) -> None:
    for name in files:
        require_inside(directory / name, repository_of(directory))
    for name in files:
        if os.path.lexists(directory / name):
            message = f"{directory / name} already exists, so nothing was written"
            raise ReconcileError(message, "keep using it, or move it away first")
    for name, content in files.items():
        with write_errors(directory / name):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            create_file(directory / name, content)


def _ignore_world(directory: Path) -> bool:
    """Add the embedded service's world to .gitignore; return whether the file was changed."""
    file = directory / ".gitignore"
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ReconcileError(f"{file} cannot be read: {reason}", f"add {_IGNORED} to it") from error
    if _IGNORED in text.splitlines():
        return False
    gap = "" if text.endswith("\n") or not text else "\n"
    with write_errors(file):
        write_file(file, f"{text}{gap}{_IGNORED}\n".encode())
    return True


_TARGET = """\
# Where the models are trained. All fields: `reconcile schema Target`.
apiVersion: {version}
kind: Target
metadata:
  name: default
spec:
  provider: embedded # simulates the tuning service on this machine: no account, no cost
  scope: {scope} # the owner of the models; part of every key, so set it before the first apply
  embedded: {{stepSeconds: 0.2}} # the pace of the simulated training
"""
_MANIFEST = """\
# A tuned model. All fields: `reconcile schema TunedModel`.
apiVersion: {version}
kind: TunedModel
metadata:
  name: {name}
spec:
  baseModel: gemini-3.5-flash
  dataset:
    path: {path}{options}
  hyperparameters:
    epochCount: {epochs}
    batchSize: {batch}
"""

_FALLBACK = "my-models"
_LENGTH = 63
_NOT_ALLOWED = re.compile(r"[^a-z0-9./_-]+")
_SCP_STYLE = re.compile(r"[^/]*?:(?P<path>.*)")


def guess_scope(directory: Path) -> str:
    """Return a valid scope: the name of the repository, such as ``acme/nlp-models``, else that of the directory."""
    resolved = directory.resolve()
    git = next((path / ".git" for path in (resolved, *resolved.parents) if (path / ".git").is_dir()), None)
    owner = _path(_origin(git / "config")) if git else ""
    return _sanitize(owner) or _sanitize(resolved.name) or _FALLBACK


def _origin(config: Path) -> str:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        parser.read_string(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return ""
    return parser.get('remote "origin"', "url", fallback="") or ""


def _path(url: str) -> str:
    """Return only the last two parts of the path, because the rest of the URL may contain credentials."""
    scp = _SCP_STYLE.fullmatch(url)
    path = urlsplit(url).path if "://" in url else scp["path"] if scp else url
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    return "/".join(parts[-2:])


def _sanitize(text: str) -> str:
    return _NOT_ALLOWED.sub("-", text.lower())[:_LENGTH].strip("./_-")
