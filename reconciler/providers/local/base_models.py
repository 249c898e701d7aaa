"""Names of base models: models of the hub that are pinned to a commit, folders, and GGUF files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from msgspec import Struct

from reconciler.domain.text import quote
from reconciler.paths import repository_of
from reconciler.trainer.run_files import BaseModel

_HUB_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
HUB_PATTERN: Final = rf"{_HUB_NAME}@[0-9a-f]{{40}}"
PATH_PATTERN: Final = r"\.{0,2}/[^\0\r\n]*"
EXAMPLE: Final = "HuggingFaceTB/SmolLM2-135M-Instruct@12fd25f77366fa6b3b4b768ec3050bf629380bac"
PATTERN: Final = rf"{HUB_PATTERN}|{PATH_PATTERN}"
UNPINNED: Final = (
    rf"(?!tunedModels/)({_HUB_NAME})(?:@.*)?",
    (
        "the base model {0} is not pinned to a commit, and a model of the hub can change",
        "run `git ls-remote https://huggingface.co/{0} HEAD`, and write {0}@COMMIT with the 40 digits that it prints",
    ),
)
"""A pattern of models of the hub without a commit, and what is wrong and the remedy; ``{0}`` is the model."""
_WEIGHTS: Final = ("*.safetensors",)
_CONFIG: Final = "config.json"


class Fault(Struct, frozen=True):
    """Why a base model cannot be used, and what to do."""

    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


class Places(Struct, frozen=True):
    """Where base models may be.

    ``root`` has the target file: paths are relative to it. ``allowed`` are folders outside of the repository.
    """

    root: Path
    allowed: Collection[Path] = ()


def read_base_model(name: str, places: Places) -> BaseModel | Fault:
    """Return the base model of a name; paths are absolute. Files are looked up, but not read."""
    if re.fullmatch(HUB_PATTERN, name):
        hub, _, revision = name.rpartition("@")
        return BaseModel(hub=hub, revision=revision)
    if re.fullmatch(PATH_PATTERN, name):
        return _read_path(name, places)
    return Fault(
        f"invalid base model {quote(name)}: expected OWNER/NAME@COMMIT, or the path of a folder or of a GGUF file",
        f"write a model of the hub as {EXAMPLE}, and a path as ./models/NAME",
    )


def _read_path(name: str, places: Places) -> BaseModel | Fault:
    path = Path(os.path.realpath(places.root / name))
    shown = f"base model {quote(name)}"
    if not is_allowed(path, places):
        return Fault(f"{shown}: outside the repository", f"pass --allow-folder {path.parent} if you trust this folder")
    if path.is_file():
        if path.suffix == ".gguf":
            return BaseModel(gguf=str(path))
        return Fault(f"{shown} is neither a folder nor a GGUF file", "name the folder that has its config.json")
    if not path.is_dir():
        missing = "file" if name.endswith(".gguf") else "folder"
        return Fault(f"{shown}: no such {missing}", f"fix the path, which is relative to {places.root}")
    if not (path / _CONFIG).is_file() or not any(found for pattern in _WEIGHTS for found in path.glob(pattern)):
        return Fault(f"{shown} has no {_CONFIG} or no weights in safetensors", "name a folder as transformers saves it")
    return BaseModel(folder=str(path))


def is_allowed(path: Path, places: Places) -> bool:
    """Return whether a real path is in the repository or in a folder that the user has allowed."""
    allowed = (repository_of(places.root), *(Path(os.path.realpath(folder)) for folder in places.allowed))
    return any(path.is_relative_to(folder) for folder in allowed)
