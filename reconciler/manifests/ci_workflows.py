"""The CI workflows of the pull-request flow, which `reconcile init --ci` writes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from importlib import resources
from pathlib import Path
from textwrap import indent
from typing import Final, Literal

from msgspec import Struct

from reconciler.domain.errors import UsageError
from reconciler.domain.model import REMOTE_SCHEME, Target
from reconciler.domain.text import quote
from reconciler.manifests.discovery import DEFAULT, Root, target_file_name, target_files, target_name
from reconciler.paths import repository_of, require_inside
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
_PULL_REQUESTS: Final = (
    "Set RECONCILE_PULL_REQUEST_TOKEN in the environment reconcile{suffix} to a token that can open pull requests, "
    "for base models that are retired."
)
_PUSH_ACCESS: Final = (
    "Set the masked variable RECONCILE_TOKEN in the environments reconcile-train{suffix} and reconcile{suffix} to an "
    "access token that can push and open merge requests."
)
_PROMOTE: Final = (
    "Schedule pipelines of {branch}: RECONCILE_JOB=promote every hour, for promotions whose soak time has ended."
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
        _PULL_REQUESTS,
        "Optional: enable the merge queue.",
    ),
    "gitlab": (
        "Add {{local: .gitlab/reconcile{suffix}.yml}} to the list of include in .gitlab-ci.yml.",
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
_EVERY_HOUR: Final = '\n  schedule:\n    - cron: "37 * * * *" # promotes what has been in a stage for its soak time'
_ENVIRONMENTS: Final = ("reconcile", "reconcile-train", "reconcile-decisions")
"""The environments of a target, without its suffix; platforms ignore the case of their names."""
_SIMULATED: Final = "Use a target of a real service: models on the embedded service are not shared between jobs."
_BRANCH: Final = re.compile(r"ref: refs/remotes/origin/([A-Za-z0-9._/-]+)\s*")


class Workflows(Struct, frozen=True):
    """The files to write, by path in the repository, and the ordered steps to do by hand."""

    repository: Path
    files: Mapping[str, bytes]
    steps: tuple[str, ...]


def create_workflows(platform: Platform, root: Root, targets: Sequence[Target], directory: Path) -> Workflows:
    """Return the workflows for targets and all manifests of their root, in the repository of a directory.

    Each target has workflows, environments, variables and concurrency groups of its own.

    Raises ReconcileError if the root is outside the repository, and UsageError if a lockfile is in a bucket, a path
    contains a ``$``, or two targets of the root would share an environment or an account.
    """
    names = [name for name in map(target_name, target_files(root.folder)) if name]
    _require_separate([target.name for target in targets], names)
    parts = [_of_target(platform, root, target, directory) for target in targets]
    files = {path: content for part in parts for path, content in part.files.items()}
    steps = tuple(
        dict.fromkeys(step for number in range(len(_NEXT[platform]) + 1) for step in _numbered(parts, number))
    )
    return Workflows(parts[0].repository, files, steps)


def _numbered(parts: Sequence[Workflows], number: int) -> Iterator[str]:
    """Yield the step of that number of each target: what is the same for all comes once."""
    yield from (part.steps[number] for part in parts if number < len(part.steps))


def _require_separate(chosen: Iterable[str], names: Iterable[str]) -> None:
    """Refuse targets whose environments or variables are also those of another target, which has other reviewers."""
    used: dict[str, str] = {}
    chosen = tuple(chosen)
    for name in (*chosen, *(name for name in names if name not in chosen)):
        suffix = _suffix(name)
        for shared in (
            f"variables {_variables(suffix)}",
            *(f"environment {kind}{suffix}".lower() for kind in _ENVIRONMENTS),
        ):
            other = used.setdefault(shared, name)
            if other != name and {other, name}.intersection(chosen):
                raise UsageError(
                    f"targets {other} and {name} would share the {shared.strip()} of the CI platform",
                    f"rename one of them, such as reconcile.{name}.yaml",
                )


def _suffix(name: str) -> str:
    return "" if name == DEFAULT else f"-{name}"


def _variables(suffix: str) -> str:
    return suffix.upper().replace("-", "_")


def _of_target(platform: Platform, root: Root, target: Target, directory: Path) -> Workflows:
    if target.lock.startswith(REMOTE_SCHEME):
        raise UsageError(
            f"pull requests cannot contain the lockfile of target {target.name}, which is in a bucket",
            "remove spec.lock, or train after the merge as described in docs/ci.md",
        )
    repository = repository_of(directory)
    require_inside(root.folder, repository)
    suffix = _suffix(target.name)
    branch = _default_branch(repository)
    variables = _variables(suffix)
    soaks = any(stage.soak for stage in target.stages)
    values = _values(root, target, repository) | {
        "SUFFIX": suffix,
        "VARIABLES": variables,
        "REF": f"'refs/heads/{branch}'",
        "BRANCH": _quoted(branch),
        "SCHEDULE": _EVERY_HOUR if soaks else "",
        "REQUIREMENTS": _REQUIREMENTS[platform],
    }
    files = {
        fill_in(path, {"SUFFIX": suffix}): fill_in(_template(name), values).encode()
        for path, name in _FILES[platform].items()
        if path != _REQUIREMENTS[platform] or not (repository / path).exists()
    }
    steps = (*_NEXT[platform], *([_PROMOTE] if soaks and platform == "gitlab" else []))
    steps = tuple(step.format(branch=branch, suffix=suffix, variables=variables) for step in steps)
    return Workflows(repository, files, (*steps, _SIMULATED) if capabilities_of(target).simulated else steps)


def fill_in(template: str, values: Mapping[str, str]) -> str:
    """Return the template with each ``@NAME@`` replaced by the value of that name."""
    return reduce(lambda text, name: text.replace(f"@{name}@", values[name]), values, template)


def _values(root: Root, target: Target, repository: Path) -> dict[str, str]:
    def path(file: Path) -> str:
        return Path(os.path.relpath(file, repository)).as_posix()

    directory = root.folder.resolve()
    lockfile = (directory / target_file_name(target.name)).with_suffix(".lock.json")
    addresses = (target.publish, *(stage.publish for stage in target.stages))
    files = [path(directory / address) for address in addresses if address and not address.startswith(REMOTE_SCHEME)]
    paths = {"SPECS": path(directory), "LOCKFILE": path(lockfile), "POINTERS": "\n".join(files)}
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
