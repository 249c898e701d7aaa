"""The manifest that is written for a model that is taken over."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from reconciler.domain.errors import InvalidInput, ReconcileError, UsageError
from reconciler.domain.identity import canonical_number
from reconciler.domain.model import API_VERSION, Capabilities, Number, RemoteModel
from reconciler.manifests.discovery import TUNED_MODEL, absolute, target_file_name, target_name
from reconciler.manifests.provider_fields import incapabilities
from reconciler.manifests.schema_validation import explain
from reconciler.manifests.yaml_parser import parse, plain
from reconciler.paths import repository_of, require_inside

_UNKNOWN = "    unknown: true\n"
_HINT = "    unknown: true # what it was trained on, declared in place of this line, is recorded; that trains nothing\n"
_REPORTED = "  # The service reports these. Declared, they train nothing either; changing them then does.\n  # {}: {}\n"


def manifest_text(name: str, model: RemoteModel, capabilities: Capabilities) -> str:
    """A manifest that says of a model what the service does, and that its data is not at hand.

    Hyperparameters are told in a comment, as what nobody declared is the service's to choose.

    Raises:
        InvalidInput: with what a manifest cannot say of this model.
    """
    document = {
        "apiVersion": API_VERSION,
        "kind": TUNED_MODEL,
        "metadata": {"name": name},
        "spec": dict(_spec(model)),
    }
    dumped = _revealed(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))
    origin = f"# Taken over from {model.remote}. All fields: `reconcile schema TunedModel`.\n"
    before, after = dumped.rsplit(_UNKNOWN, 1)
    text = f"{origin}{before}{_HINT}{after}{_reported(model, capabilities)}"
    parsed = parse(text.encode(), f"the manifest for {model.remote}")
    problems = [*parsed.problems]
    for one in parsed.documents:
        problems += [*explain(one, TUNED_MODEL), *incapabilities(one, capabilities)]
    if problems:
        raise InvalidInput(tuple(problems))
    if [one.value for one in parsed.documents] != [document]:
        raise AssertionError("what was written is not what is read")
    return text


def _spec(model: RemoteModel) -> Iterator[tuple[str, Any]]:
    source = model.source
    if source and source.base_model:
        yield "baseModel", source.base_model
    elif source:
        yield "source", {"remote": source.remote}
    if model.display_name:
        yield "displayName", model.display_name
    if model.description:
        yield "description", model.description
    yield "dataset", {"unknown": True}
    sampling = {
        "temperature": model.sampling.temperature,
        "topP": model.sampling.top_p,
        "topK": model.sampling.top_k,
    }
    shown = {name: canonical_number(value) for name, value in sampling.items() if value is not None}
    if shown:
        yield "sampling", shown


def _reported(model: RemoteModel, capabilities: Capabilities) -> str:
    known: Mapping[str, Number] = {
        name: canonical_number(value)
        for name, value in model.hyperparameters.items()
        if name in capabilities.hyperparameters
    }
    flow = "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in known.items()) + "}"
    if capabilities.block:
        return _REPORTED.format(capabilities.block, f"{{hyperparameters: {flow}}}") if known else ""
    return _REPORTED.format("hyperparameters", flow) if known else ""


_HIDING = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Categories of characters that hide or reorder text, or that some versions of YAML take for a line break."""


def _hides(char: str) -> bool:
    return char not in "\n\t" and unicodedata.category(char) in _HIDING


def _revealed(dumped: str) -> str:
    """What hides or reorders text, written out for those who review it; it stands between double quotes alone.

    The library writes out what lies beyond U+FFFF by itself there.
    """
    return "".join(f"\\u{ord(char):04X}" if _hides(char) else char for char in dumped)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 would read as something else than the text that it is."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    hiding = any(map(_hides, text))
    try:
        same = plain(text) == text and not hiding
    except ValueError:
        same = False
    style = None if same else '"'
    if "\n" in text and not hiding:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent)


def manifest_place(file: str | None, name: str, root: Path, target: str, cwd: Path) -> Path:
    """Where the manifest goes: to ``file``, or else beside the target file under the model's name.

    Raises:
        UsageError: when a later run would not read it there.
        ReconcileError: when something is there already, or it would lie outside the repository.
    """
    path = absolute(file, cwd) if file else root / f"{name}.yaml"
    shown = file or str(path.relative_to(cwd) if path.is_relative_to(cwd) else path)
    for why, remedy in _misplaced(path, root, target_file_name(target)):
        raise UsageError(f"{shown} {why}", remedy)
    require_inside(path, repository_of(root))
    if os.path.lexists(path):
        raise ReconcileError(f"{shown} is there already", "name another file with --file")
    return path


def _misplaced(path: Path, root: Path, target_file: str) -> Iterator[tuple[str, str]]:
    inside = f"name a file in {root} that ends in .yaml, with --file"
    if not path.is_relative_to(root) or path == root:
        yield "lies outside the folder of the target file", inside
        return
    if path.suffix not in {".yaml", ".yml"} or target_name(path):
        yield "is no name of a manifest", inside
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        yield "is hidden, so that no run would read it", inside
    if not path.parent.is_dir():
        yield "is in a folder that does not exist", "make the folder, or mend the path"
    between = (folder for folder in path.parents if folder != root and folder.is_relative_to(root))
    if any((folder / target_file).exists() for folder in between):
        yield "lies in a folder with a target file of its own", inside


def write_manifest(path: Path, text: str) -> None:
    """Write a manifest where nothing is yet; raises ReconcileError when that cannot be done."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ReconcileError(
            f"{path} cannot be written: {error.strerror}", "see to the permissions of its folder"
        ) from error
