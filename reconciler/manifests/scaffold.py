"""Write the files of `reconcile init` and `reconcile add`: a target, a manifest and a data set, or the CI workflows."""

from __future__ import annotations

import configparser
import filecmp
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import InvalidInput, Place, ReconcileError, UsageError
from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.model import API_VERSION, Method, Target
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names, quote, quote_escaped
from reconciler.files import create_file, write_errors, write_file
from reconciler.manifests.ci_workflows import Workflows
from reconciler.manifests.datasets.declarations import option_fields
from reconciler.manifests.datasets.detect import Detected, Fields, describe_options, detect_options
from reconciler.manifests.datasets.folders import FolderFiles
from reconciler.manifests.datasets.hub import HubFiles
from reconciler.manifests.datasets.records import Fault, ReadOptions, Row
from reconciler.manifests.datasets.shapes import PAIRED
from reconciler.manifests.datasets.validation import CONVERSATIONS, DatasetSource, files_source, validate_dataset
from reconciler.manifests.discovery import DEFAULT, EMBEDDED, TARGET, TUNED_MODEL
from reconciler.manifests.provider_fields import PREFERENCE_METHOD
from reconciler.manifests.schema_validation import explain, full_schema_text, target_schema
from reconciler.manifests.yaml_parser import parse, parse_scalar
from reconciler.paths import repository_of, require_file, require_inside
from reconciler.providers.registry import capabilities_of, provider_spec

_SPECS = "specs"
_NAME_LENGTH = 31
_SAMPLE_NAME = "number-generator"
_SAMPLE_ROWS = 20
_IGNORED = ".reconcile/"
_EPOCHS = 3
_BATCH_SIZES = (4, 8, 16, 32, 64)
_STEPS = 30
"""The approximate number of training steps of the sample, which is simulated in real time."""
_SCHEMAS: Final[Mapping[str, str]] = {
    kind: f".schemas/{name}.schema.json" for kind, name in ((TARGET, "target"), (TUNED_MODEL, "tuned-model"))
}
"""The schemas for editors, relative to the root."""
_MOST_NAMES: Final = 10
_MOST_SHOWN = 6
"""The number of turns of an example that are shown."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


class Scaffold(Struct, frozen=True):
    """The files that were written, relative to the directory, the next command, and the steps to do by hand.

    ``mapping`` has lines that say how the data set is read, with its first example.
    """

    created: tuple[str, ...]
    next_command: str = ""
    steps: tuple[str, ...] = ()
    mapping: tuple[str, ...] = ()


class Service(Struct, frozen=True):
    """The service of a new target: its provider, the fields that the provider requires, and the base model."""

    provider: str = EMBEDDED
    fields: Mapping[str, str] = {}
    base_model: str = "gemini-3.5-flash"


class DataFile(Struct, frozen=True):
    """A file for a new manifest, its path in messages, and what the user has chosen: fields, and if it has a header.

    For a data set of the Hugging Face Hub or in a folder, ``several`` has its files, of which ``path`` is the first.
    """

    path: Path
    shown: str
    fields: Fields = (None, None)
    header: bool | None = None
    several: HubFiles | FolderFiles | None = None

    @property
    def title(self) -> str:
        """The name of the data set, for that of the model."""
        name = self.several.address.name if self.several else ""
        return name or Path(re.sub(r"\.(gz|zst)$", "", self.path.name.lower())).stem


def init(directory: Path, *, data: DataFile | None, name: str | None, service: Service = Service()) -> Scaffold:  # noqa: B008 - frozen
    """Write a target, a manifest and, without ``data``, a sample data set to ``specs``.

    ``data`` is copied there only if it is outside the repository. Nothing is overwritten.

    Raises:
        AmbiguousFieldsError: if it is ambiguous which fields of the data set are inputs and outputs.
        ReconcileError: if a file exists, cannot be written or would be written through a link out of the repository.
        InvalidInput: if the data set has errors.
        UsageError: if the name is invalid, or the directory has a target.
    """
    model = _name(name, data.title if data else None)
    if (directory / "reconcile.yaml").exists():
        raise UsageError(
            "reconcile.yaml: this directory already has a target", "run `reconcile add`, or change directory"
        )
    root = directory / _SPECS
    target = Target(name=DEFAULT, file="", provider=service.provider, scope=guess_scope(directory))
    files: dict[Path, bytes | Path] = {root / "reconcile.yaml": _checked(_target(target, service), target)}
    if data:
        found, mapping = _with_data(root, root, model, data, target, service.base_model)
    else:
        found, mapping = _with_sample(root, model, target, service.base_model), ()
    files |= found | _schemas(root)
    require_inside(directory / ".gitignore", repository_of(directory))
    created = _write_new(directory, files, repository_of(directory))
    created += (".gitignore",) if _ignore_world(directory) else ()
    return Scaffold(created, f"reconcile plan {_SPECS}", mapping=mapping)


def add(
    directory: Path, *, root: Path, folder: Path, target: Target, name: str, data: DataFile, base_model: str
) -> Scaffold:
    """Write a manifest for a data set to a folder of an existing root; see :func:`init`."""
    files, mapping = _with_data(root, folder, _name(name, None), data, target, base_model)
    created = _write_new(directory, files | _schemas(root), repository_of(root))
    shown = os.path.relpath(folder / f"{name}.yaml", directory)
    return Scaffold(created, for_target(f"reconcile plan {shlex.quote(shown)}", target.name), mapping=mapping)


def init_workflows(directory: Path, workflows: Workflows) -> Scaffold:
    """Write the CI workflows into the repository of the directory; nothing is overwritten.

    Raises ReconcileError if a file exists, cannot be written or would be written through a link out of the repository.
    """
    files = {workflows.repository / name: content for name, content in workflows.files.items()}
    return Scaffold(_write_new(directory, files, workflows.repository), steps=workflows.steps)


def _name(name: str | None, title: str | None) -> str:
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        remedy = "use 1 to 31 lower-case letters, digits and hyphens, starting with a letter"
        raise UsageError(f"invalid model name {quote(name)}", remedy)
    if name or title is None:
        return name or _SAMPLE_NAME
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return (words if words[:1].isalpha() else f"model-{words}")[:_NAME_LENGTH].strip("-")


def _with_sample(root: Path, model: str, target: Target, base_model: str) -> dict[Path, bytes | Path]:
    rows = [f"{number},{number + 1}\n" for number in range(1, _SAMPLE_ROWS + 1)]
    path = f"datasets/{model}.csv"
    return {
        root / path: "".join(["text_input,output\n", *rows]).encode(),
        root / f"{model}.yaml": _manifest(
            model, path, ReadOptions(), _SCHEMAS[TUNED_MODEL], _training(target, len(rows)), base_model
        ),
    }


def _with_data(
    root: Path, folder: Path, model: str, data: DataFile, target: Target, base_model: str
) -> tuple[dict[Path, bytes | Path], tuple[str, ...]]:
    """Return a manifest for an existing data set, a copy of data outside the repository, and lines that describe it."""
    file, shown = data.path, data.shown
    require_file(file, shown)
    detected = detect_options(file, data.fields, header=data.header)
    capabilities = capabilities_of(target)
    single_turns = CONVERSATIONS not in capabilities.features
    declared_at = Place(shown), "spec.dataset"
    several = data.several
    files_read = several.files if several else {shown: file}
    source = files_source(files_read, shown, detected.options, declared_at, "", single_turns=single_turns)
    if detected.options.shape in PAIRED and PREFERENCE_METHOD in capabilities.features:
        source = replace(source, pairs=True)
    validated = validate_dataset(source, capabilities)
    if validated.dataset is None:
        raise InvalidInput(validated.problems)
    examples = validated.dataset.examples
    name = shown if several else file.name
    mapping = (describe_options(name, detected.options, examples), *_first_example(source, detected))
    files: dict[Path, bytes | Path] = {}
    if isinstance(several, HubFiles):
        path = shown
    elif several:
        path, copies = _folder_path(several, root, folder)
        files |= copies
        if copies:
            note = f"  copied into {root.name}, because they are outside the repository {repository_of(root)}"
            mapping = (*mapping, note)
    elif file.resolve().is_relative_to(repository_of(root)):
        path = Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    else:
        copy = root / "datasets" / file.name
        files[copy] = file
        path = Path(os.path.relpath(copy, folder)).as_posix()
        mapping = (*mapping, f"  copied into {root.name}, because it is outside the repository {repository_of(root)}")
    schema = Path(os.path.relpath(root / _SCHEMAS[TUNED_MODEL], folder)).as_posix()
    training = _training(target, examples)
    method: Method = "preference" if source.pairs else "supervised"
    files[folder / f"{model}.yaml"] = _manifest(model, path, detected.options, schema, training, base_model, method)
    return files, mapping


def _folder_path(found: FolderFiles, root: Path, folder: Path) -> tuple[str, dict[Path, bytes | Path]]:
    """Return the pattern of files of a folder for a manifest, and copies of them if they are outside the repository."""
    start, repository = found.folder.resolve(), repository_of(root)
    copies: dict[Path, bytes | Path] = {}
    if not all(file.resolve().is_relative_to(repository) for file in found.files.values()):
        start = root.resolve() / "datasets" / start.name
        copies = {start / name: file for name, file in found.relative.items()}
    path = Path(os.path.relpath(start / found.declared.path, folder.resolve())).as_posix()
    return path, copies


def _first_example(source: DatasetSource, detected: Detected) -> Iterator[str]:
    """Yield lines that show which texts of the first example are its input and output."""
    record = next((record for record in source.records() if not isinstance(record, Fault)), None)
    row = record and source.row(record)
    if isinstance(row, Row):
        options = detected.options
        names = ("", "") if options.shape else (f"{quote(options.input)} ", f"{quote(options.output)} ")
        yield f"  input  {names[0]}as in {quote(row.input)}"
        yield f"  output {names[1]}as in {quote(row.output)}"
    elif row is not None:
        for turn in row.value["contents"][:_MOST_SHOWN]:
            text = "".join(str(part.get("text", "…")) for part in turn["parts"])
            yield f"  {turn['role']:<6} as in {quote(text)}"
    if source.pairs and row is not None:
        yield f"  rejected as in {quote(row.rejected)}"
    unused = [name for name in detected.unused if not (source.pairs and name == "rejected")]
    if unused:
        yield f"  not used: {join_names(unused, _MOST_NAMES)}"


def _training(target: Target, examples: int) -> Mapping[str, int]:
    """Return the hyperparameters for a first training, which is short.

    A batch size has no default where a service takes it for some base models only.
    """
    batch_size = next((size for size in _BATCH_SIZES if examples * _EPOCHS <= size * _STEPS), _BATCH_SIZES[-1])
    epochs = {"epochCount": _EPOCHS}
    return epochs | {"batchSize": batch_size} if "batchSize" in capabilities_of(target).defaults else epochs


def _manifest(
    model: str,
    path: str,
    options: ReadOptions,
    schema: str,
    training: Mapping[str, int],
    base_model: str,
    method: Method = "supervised",
) -> bytes:
    return _MANIFEST.format(
        schema=schema,
        version=API_VERSION,
        name=_scalar(model),
        base_model=_scalar(base_model),
        path=_scalar(path),
        options=_fields(4, option_fields(options)),
        method="" if method == "supervised" else _fields(2, {"method": method}),
        training=_fields(4, training),
    ).encode()


def _target(target: Target, service: Service) -> bytes:
    comment = _PROVIDERS.get(service.provider, "")
    return _TARGET.format(
        schema=_SCHEMAS[TARGET],
        version=API_VERSION,
        provider=f"{service.provider}{comment}",
        scope=_scalar(target.scope),
        fields=_fields(2, service.fields) or "",
    ).encode()


def _checked(content: bytes, target: Target) -> bytes:
    """Return the content of a target file; raises UsageError if a field in it is invalid."""
    (document,) = parse(content, "").documents
    for problem in explain(document, TARGET, target_schema(provider_spec(target.provider))):
        raise UsageError(f"{problem.path}: {problem.message}", problem.remedy)
    return content


def _fields(indentation: int, values: Mapping[str, str | bool | int]) -> str:
    """Return lines of YAML, each after a line break."""
    return "".join(
        f"\n{' ' * indentation}{name}: {_scalar(value) if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    )


def _schemas(root: Path) -> dict[Path, bytes | Path]:
    """Return the schemas that the root does not have yet."""
    return {
        root / name: f"{full_schema_text(kind)}\n".encode()
        for kind, name in _SCHEMAS.items()
        if not os.path.lexists(root / name)
    }


def _scalar(text: str) -> str:
    """Return the text as a YAML scalar, quoted if YAML would otherwise parse it differently.

    Characters that YAML forbids or folds, or that hide or reorder text, are escaped. YAML does not accept JSON's pairs
    of escapes, so each character has one.

    Raises ReconcileError for an unpaired surrogate, which YAML cannot express.
    """
    if re.fullmatch(r"[A-Za-z0-9._/-]*[A-Za-z0-9]", text) and parse_scalar(text) == text:
        return text
    if _SURROGATE.search(text):
        message = f"the name {quote(text)} contains an unpaired surrogate character, which a manifest cannot contain"
        raise ReconcileError(message, "rename it, in UTF-8")
    return quote_escaped(text)


def _write_new(directory: Path, files: Mapping[Path, bytes | Path], repository: Path) -> tuple[str, ...]:
    """Create files, some of them as copies of others, and return their paths relative to the directory."""
    for file, content in files.items():
        require_inside(file, repository)
        if os.path.lexists(file) and not _is_copy(file, content):
            target = file.name == "reconcile.yaml"
            remedy = "use `reconcile add NAME --from FILE`" if target else "keep using it"
            message = f"{file} already exists, so nothing was written"
            raise ReconcileError(message, f"{remedy}, or move it away first")
    written = {file: content for file, content in files.items() if not os.path.lexists(file)}
    for file, content in written.items():
        with write_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            create_file(file, content)
    return tuple(sorted(Path(os.path.relpath(file, directory.resolve())).as_posix() for file in written))


def _is_copy(file: Path, content: bytes | Path) -> bool:
    """Return whether a file is the copy that an earlier command made of another one."""
    return isinstance(content, Path) and file.is_file() and filecmp.cmp(file, content, shallow=False)


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


_PROVIDERS: Final[Mapping[str, str]] = {
    EMBEDDED: " # simulates the tuning service on this machine: no account, no cost",
}
_TARGET = """\
# yaml-language-server: $schema={schema}
# Where the models are trained. All fields: `reconcile schema Target`.
apiVersion: {version}
kind: Target
metadata:
  name: default
spec:
  provider: {provider}
  scope: {scope} # the owner of the models; part of every key, so set it before the first apply{fields}
"""
_MANIFEST = """\
# yaml-language-server: $schema={schema}
# A tuned model. All fields: `reconcile schema TunedModel`.
apiVersion: {version}
kind: TunedModel
metadata:
  name: {name}
spec:
  baseModel: {base_model}
  dataset:
    path: {path}{options}{method}
  hyperparameters:{training}
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
