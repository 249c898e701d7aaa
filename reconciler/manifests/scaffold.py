"""A first target, manifest and data set for `reconcile init`, and the files of the pull-request flow."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.domain.errors import InvalidInput, Place, Problem, ReconcileError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.model import API_VERSION
from reconciler.manifests.datasets.file_formats import field_names, require_format
from reconciler.manifests.datasets.records import Fault, Fields
from reconciler.manifests.datasets.validation import file_source, validate_dataset
from reconciler.manifests.workflows import Workflows
from reconciler.manifests.yaml_parser import plain
from reconciler.paths import repository_of, require_inside

_SPECS = "specs"
_NAME_LENGTH = 31
_SAMPLE_NAME = "number-generator"
_SAMPLE_ROWS = 20
_INPUTS = ("text_input", "input", "prompt", "question", "instruction", "query", "text", "source", "request")
_OUTPUTS = ("output", "completion", "answer", "response", "label", "target", "reply", "category", "summary")
_IGNORED = ".reconcile/"
_EPOCHS = 3
_BATCH_SIZES = (4, 8, 16, 32, 64)
_STEPS = 30
"""Training steps that a first run should not exceed by much: it is simulated in real time."""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """The files that were written, relative to the folder, the command to try next there, and what people must set up.

    There is no command where the project was there before.
    """

    created: tuple[str, ...]
    next_command: str = ""
    steps: tuple[str, ...] = ()


def init(folder: Path, *, data: Path | None, name: str | None) -> Scaffold:
    """Write a target for the embedded service, a first manifest and, without ``data``, a sample data set.

    They go to ``specs`` in the folder; ``data`` is used where it is, or copied there if it lies outside the
    repository. Nothing is overwritten. Raises ReconcileError when a file is there already, cannot be written or would
    be written through a link out of the repository, InvalidInput when the data set has errors, and UsageError for a
    bad name.
    """
    model = _name(name, data)
    files = {
        f"{_SPECS}/reconcile.yaml": _TARGET.format(version=API_VERSION, scope=_scalar(guess_scope(folder))).encode()
    }
    files |= _with_data(folder, model, data) if data else _with_sample(model)
    require_inside(folder / ".gitignore", repository_of(folder))
    _write_new(folder, files)
    created = [*sorted(files), ".gitignore"] if _ignore_world(folder) else sorted(files)
    return Scaffold(tuple(created), f"reconcile plan {_SPECS}")


def init_flow(folder: Path, flow: Workflows) -> Scaffold:
    """Write the pull-request flow into the repository that the folder is in; nothing is overwritten.

    Raises ReconcileError when a file is there already, cannot be written or would be written through a link out of the
    repository.
    """
    _write_new(flow.repository, flow.files)
    written = (os.path.relpath(flow.repository / name, folder.resolve()) for name in sorted(flow.files))
    return Scaffold(tuple(Path(name).as_posix() for name in written), steps=flow.steps)


def _name(name: str | None, data: Path | None) -> str:
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        remedy = "use 1 to 31 lower-case letters, digits and hyphens, beginning with a letter"
        raise UsageError(f'"{name}" is no name of a model', remedy)
    if name or data is None:
        return name or _SAMPLE_NAME
    words = re.sub(r"[^a-z0-9]+", "-", data.stem.lower()).strip("-")
    return (words if words[:1].isalpha() else f"model-{words}")[:_NAME_LENGTH].strip("-")


def _with_sample(model: str) -> dict[str, bytes]:
    rows = [f"{number},{number + 1}\n" for number in range(1, _SAMPLE_ROWS + 1)]
    path = f"datasets/{model}.csv"
    return {
        f"{_SPECS}/{path}": "".join(["text_input,output\n", *rows]).encode(),
        f"{_SPECS}/{model}.yaml": _manifest(model, path, Fields("text_input", "output"), len(rows)),
    }


def _with_data(folder: Path, model: str, data: Path) -> dict[str, bytes]:
    """A manifest for a data set that is there, and a copy of the data where the manifest may not reach it."""
    require_format(data)
    fields = _fields(data)
    shown = str(data)
    source = file_source(data, shown, shown, fields, (Place(shown), "spec.dataset"), "")
    checked = validate_dataset(source, None)
    if checked.dataset is None:
        raise InvalidInput(checked.problems)
    examples = checked.dataset.examples
    if data.resolve().is_relative_to(repository_of(folder / _SPECS)):
        path = Path(os.path.relpath(data.resolve(), (folder / _SPECS).resolve())).as_posix()
        return {f"{_SPECS}/{model}.yaml": _manifest(model, path, fields, examples)}
    path = f"datasets/{data.name}"
    manifest = _manifest(model, path, fields, examples)
    return {f"{_SPECS}/{model}.yaml": manifest, f"{_SPECS}/{path}": data.read_bytes()}


def _fields(data: Path) -> Fields:
    """The two fields that hold inputs and outputs by their names, else the first two that are left."""
    names = field_names(data)
    if isinstance(names, Fault):
        place = Place(str(data), names.number, names.column)
        raise InvalidInput((Problem(place, "", names.message, names.remedy),))
    known = {name.lower(): name for name in reversed(names)}
    output_field = next((known[name] for name in _OUTPUTS if name in known), None)
    input_field = next((known[name] for name in _INPUTS if name in known), None)
    others = [name for name in names if name not in {input_field, output_field}]
    chosen = [field or (others.pop(0) if others else None) for field in (input_field, output_field)]
    if not chosen[0] or not chosen[1]:
        message = f"{data} has no two fields, one for inputs and one for outputs"
        raise ReconcileError(message, "name a data set with a header, or with JSON objects, of two fields")
    return Fields(chosen[0], chosen[1])


def _manifest(model: str, path: str, fields: Fields, examples: int) -> bytes:
    batch_size = next((size for size in _BATCH_SIZES if examples * _EPOCHS <= size * _STEPS), _BATCH_SIZES[-1])
    return _MANIFEST.format(
        version=API_VERSION,
        name=_scalar(model),
        path=_scalar(path),
        input=_scalar(fields.input),
        output=_scalar(fields.output),
        epochs=_EPOCHS,
        batch=batch_size,
    ).encode()


def _scalar(text: str) -> str:
    """The text as a YAML scalar, quoted (as JSON, which is YAML) where it might mean something else."""
    safe = re.fullmatch(r"[A-Za-z0-9._/-]*[A-Za-z0-9]", text) and plain(text) == text
    return text if safe else json.dumps(text, ensure_ascii=False)


def _write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    for name in files:
        require_inside(folder / name, repository_of(folder))
    for name in files:
        if (folder / name).exists():
            raise ReconcileError(
                f"{folder / name} is there already", "nothing was written; move it away, or go on with it"
            )
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("xb") as file:
                file.write(content)
    except OSError as error:
        raise _not_written(folder, error) from error


def _ignore_world(folder: Path) -> bool:
    """Have git ignore the embedded service's world; whether that had to be written."""
    file = folder / ".gitignore"
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if _IGNORED in text.splitlines():
            return False
        gap = "" if text.endswith("\n") or not text else "\n"
        with file.open("a", encoding="utf-8") as end:
            end.write(f"{gap}{_IGNORED}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _not_written(folder, error) from error
    return True


def _not_written(folder: Path, error: Exception) -> ReconcileError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ReconcileError(f"files in {folder} cannot be written: {reason}", "see to the permissions of the folder")


_TARGET = """\
# Where the models live. All fields: `reconcile schema Target`.
apiVersion: {version}
kind: Target
metadata:
  name: default
spec:
  provider: embedded # simulates the tuning service on this machine: no account, no cost
  scope: {scope} # who owns the models; part of every key, so choose it before the first apply
"""
_MANIFEST = """\
# A model that should exist. All fields: `reconcile schema TunedModel`.
apiVersion: {version}
kind: TunedModel
metadata:
  name: {name}
spec:
  baseModel: models/text-bison-001
  dataset:
    path: {path}
    inputField: {input}
    outputField: {output}
  hyperparameters:
    epochCount: {epochs}
    batchSize: {batch}
"""

_FALLBACK = "my-models"
_LENGTH = 63
_NOT_ALLOWED = re.compile(r"[^a-z0-9./_-]+")
_SCP_STYLE = re.compile(r"[^/]*?:(?P<path>.*)")


def guess_scope(folder: Path) -> str:
    """``acme/nlp-models`` for a clone of a repository of that name, else the folder's name; always a legal scope."""
    resolved = folder.resolve()
    git = next((one / ".git" for one in (resolved, *resolved.parents) if (one / ".git").is_dir()), None)
    owner = _path(_origin(git / "config")) if git else ""
    return _sanitised(owner) or _sanitised(resolved.name) or _FALLBACK


def _origin(config: Path) -> str:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        parser.read_string(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return ""
    return parser.get('remote "origin"', "url", fallback="") or ""


def _path(url: str) -> str:
    """The last two parts of the path alone: what stands before it may hold credentials."""
    scp = _SCP_STYLE.fullmatch(url)
    path = urlsplit(url).path if "://" in url else scp["path"] if scp else url
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    return "/".join(parts[-2:])


def _sanitised(text: str) -> str:
    return _NOT_ALLOWED.sub("-", text.lower())[:_LENGTH].strip("./_-")
