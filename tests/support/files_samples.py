"""Folders with targets, manifests and data sets, and a way to load them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.domain.model import Capabilities
from reconciler.manifests.scaffold import DataFile
from reconciler.manifests.workspace import Workspace, load

TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata:
  name: default
spec:
  provider: embedded
  scope: demo
"""
MANIFEST = """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata:
  name: number-generator
spec:
  baseModel: models/gemini-3.5-flash
  dataset:
    path: data.csv
"""
DATA = "text_input,output\n1,2\n3,4\n"
CAPABILITIES = Capabilities(
    label="the test service",
    hyperparameters=frozenset({"epochCount", "batchSize", "learningRate", "learningRateMultiplier"}),
    max_input_characters=20,
    max_output_characters=10,
    max_dataset_bytes=200,
    recommended_examples=2,
    tuned_model_pattern=r"tunedModels/[a-z0-9-]{1,40}",
    tuned_model_example="tunedModels/number-generator-3kq7w2ma",
    base_model_prefix="models/",
)

VERTEX = Capabilities(
    label="Vertex AI",
    hyperparameters=frozenset({"epochCount", "learningRateMultiplier", "adapterSize"}),
    caller_chosen_ids=False,
    block="vertex",
    features=frozenset({"cloudStorage", "conversations"}),
    recommended_examples=2,
    max_display_name=128,
    base_model_example="gemini-3.5-flash",
    remedies={"access": "remove it, and grant roles/aiplatform.user on the project in IAM"},
)
CORPUS = Path(__file__).parents[1] / "corpus"
EXPECTED: dict[str, dict[str, Any]] = json.loads((CORPUS / "expected.json").read_text(encoding="utf-8"))
"""What is expected of each file of the corpus: the data set that `init` declares with its examples, or the error."""
READABLE = [name for name, expected in EXPECTED.items() if "examples" in expected]


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a folder; texts as UTF-8 and exactly as they are."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def sample(folder: Path, **files: str | bytes) -> Path:
    """A root with one valid manifest; ``files`` replaces ``target``, ``manifest`` or ``data``."""
    content = {"target": TARGET, "manifest": MANIFEST, "data": DATA, **files}
    names = {"target": "reconcile.yaml", "manifest": "m.yaml", "data": "data.csv"}
    return write(folder, {names[name]: text for name, text in content.items()})


def load_in(
    cwd: Path,
    *paths: str,
    target: str | None = None,
    stdin: str | None = None,
    environ: Mapping[str, str] | None = None,
    capabilities: Capabilities = CAPABILITIES,
) -> Workspace:
    """Load paths (the folder itself when there are none) as a run in ``cwd`` would."""
    return load(
        paths or (".",),
        target=target,
        cwd=cwd,
        stdin=None if stdin is None else io.StringIO(stdin),
        environ=environ or {},
        capabilities=lambda _target: capabilities,
    )


def messages(workspace: Workspace) -> list[str]:
    """Every problem as the user reads it."""
    return [str(problem) for problem in workspace.problems]


def data_file(path: Path) -> DataFile:
    """A file for `init` and `add`, with everything to be recognized."""
    return DataFile(path, path.name)


def close(path: Path) -> Path:
    """Take every permission away; skips the test where that keeps nobody out."""
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    return path
