"""Write the manifest of an adopted model."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from reconciler.domain.errors import InvalidInput, ReconcileError, UsageError
from reconciler.domain.identity import canonical_number, canonical_value
from reconciler.domain.model import (
    API_VERSION,
    MUTABLE_FIELDS,
    Capabilities,
    Hyperparameters,
    RemoteModel,
)
from reconciler.domain.text import UNSEEN
from reconciler.files import create_file, write_errors
from reconciler.manifests.discovery import TUNED_MODEL, absolute, target_file_name, target_name
from reconciler.manifests.provider_fields import incapabilities
from reconciler.manifests.schema_validation import explain
from reconciler.manifests.yaml_parser import parse, parse_scalar
from reconciler.paths import repository_of, require_inside

_UNKNOWN = "    unknown: true\n"
_HINT = "    unknown: true # replace this with the training data; it is recorded, and nothing is trained\n"
_REPORTED = "  # Reported by the service. Declaring them trains nothing; changing them later does.\n  # {}: {}\n"


def manifest_text(name: str, model: RemoteModel, capabilities: Capabilities) -> str:
    """Return a manifest with the live state of a model, and unknown training data.

    Hyperparameters are in a comment, because the service may have chosen them. Raises InvalidInput if a manifest cannot
    declare a property of this model.
    """
    document = {
        "apiVersion": API_VERSION,
        "kind": TUNED_MODEL,
        "metadata": {"name": name},
        "spec": dict(_spec(model)),
    }
    dumped = _escape_hidden(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))
    origin = f"# Adopted from {model.remote}. All fields: `reconcile schema TunedModel`.\n"
    before, after = dumped.rsplit(_UNKNOWN, 1)
    text = f"{origin}{before}{_HINT}{after}{_reported(model, capabilities)}"
    parsed = parse(text.encode(), f"the manifest for {model.remote}")
    problems = [*parsed.problems]
    for parsed_document in parsed.documents:
        problems += [*explain(parsed_document, TUNED_MODEL), *incapabilities(parsed_document, capabilities)]
    if problems:
        raise InvalidInput(tuple(problems))
    if [parsed_document.value for parsed_document in parsed.documents] != [document]:
        raise AssertionError("the parsed manifest differs from the document")
    return text


def _spec(model: RemoteModel) -> Iterator[tuple[str, Any]]:
    source = model.source
    if source and source.base_model:
        yield "baseModel", source.base_model
    elif source:
        yield "source", {"remote": source.remote, **({"checkpoint": source.checkpoint} if source.checkpoint else {})}
    live = {field.name: field.value(model) for field in MUTABLE_FIELDS}
    declared = {name: value for name, value in live.items() if value not in {"", None}}
    yield from ((name, value) for name, value in declared.items() if "." not in name)
    yield "dataset", {"unknown": True}
    yield "adopted", model.remote
    nested = [(*name.split("."), value) for name, value in declared.items() if "." in name]
    for group, fields in groupby(nested, key=itemgetter(0)):
        yield group, {name: canonical_number(value) for _, name, value in fields}


def _reported(model: RemoteModel, capabilities: Capabilities) -> str:
    known: Hyperparameters = {
        name: canonical_value(value)
        for name, value in model.hyperparameters.items()
        if name in capabilities.hyperparameters
    }
    flow = "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in known.items()) + "}"
    if capabilities.block:
        return _REPORTED.format(capabilities.block, f"{{hyperparameters: {flow}}}") if known else ""
    return _REPORTED.format("hyperparameters", flow) if known else ""


_HIDDEN = re.compile(rf"(?![\n\t])[{UNSEEN}]")
"""Characters that hide or reorder text, or that are line breaks in some versions of YAML."""


def _escape_hidden(dumped: str) -> str:
    """Escape hidden characters so that reviewers see them; they occur only in double quotes.

    PyYAML escapes characters above U+FFFF itself.
    """
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04X}", dumped)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that YAML 1.2 would otherwise parse as another type."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    hidden = _HIDDEN.search(text) is not None
    try:
        plain = parse_scalar(text) == text and not hidden
    except ValueError:
        plain = False
    style = None if plain else '"'
    if "\n" in text and not hidden:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


def manifest_path(file: str | None, name: str, root: Path, target: str, cwd: Path) -> Path:
    """Return the path of the new manifest: ``file``, or by default the model's name beside the target file.

    Raises UsageError if later runs would not read this path, and ReconcileError if it exists or is outside the
    repository.
    """
    path = absolute(file, cwd) if file else root / f"{name}.yaml"
    shown = file or str(path.relative_to(cwd) if path.is_relative_to(cwd) else path)
    for message, remedy in _path_problems(path, root, target_file_name(target)):
        raise UsageError(f"{shown}: {message}", remedy)
    require_inside(path, repository_of(root))
    if os.path.lexists(path):
        raise ReconcileError(f"{shown} already exists", "pass another path with --file")
    return path


def _path_problems(path: Path, root: Path, target_file: str) -> Iterator[tuple[str, str]]:
    inside = f"pass a .yaml file in {root} with --file"
    if not path.is_relative_to(root) or path == root:
        yield "outside the directory of the target file", inside
        return
    if path.suffix not in {".yaml", ".yml"} or target_name(path):
        yield "not a file name for a manifest", inside
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        yield "hidden files are not read", inside
    if not path.parent.is_dir():
        yield "no such directory", "create the directory, or fix the path"
    between = (parent for parent in path.parents if parent != root and parent.is_relative_to(root))
    if any((parent / target_file).exists() for parent in between):
        yield "in the root of another target file", inside


def write_manifest(path: Path, text: str) -> None:
    """Write a new manifest; raises ReconcileError if the file exists or cannot be written."""
    with write_errors(path):
        create_file(path, text.encode())
