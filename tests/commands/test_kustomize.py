"""Kustomize composes manifests as it composes resources, and a chart may be beside them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cli_world import Cli, Result
from support.files_samples import write
from support.git_repository import Repository

KUBECTL = shutil.which("kubectl")
_FILES = {
    "base/models.yaml": """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {name: adder, labels: {team: demo}}
spec:
  baseModel: models/gemini-3.5-flash
  dataset: {path: adder.csv}
  hyperparameters: {epochCount: 2, batchSize: 4, learningRate: 0.001}
---
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {name: child}
spec:
  source: {tunedModel: adder}
  dataset: {path: adder.csv}
  hyperparameters: {epochCount: 2, batchSize: 4, learningRate: 0.001}
""",
    "base/kustomization.yaml": "resources: [models.yaml, settings.yaml]\n",
    "base/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, creationTimestamp: null}\n",
    "base/adder.csv": "text_input,output\n" + "".join(f"{number},{number + 1}\n" for number in range(20)),
    "overlays/prod/kustomization.yaml": """\
resources: [../../base]
configurations: [names.yaml]
namePrefix: prod-
namespace: ml
commonAnnotations: {owner: demo}
labels: [{pairs: {env: prod}}]
patches:
- target: {kind: TunedModel, name: adder}
  patch: |-
    - {op: replace, path: /spec/hyperparameters/epochCount, value: 7}
""",
    "chart/Chart.yaml": "apiVersion: v2\nname: models\nversion: 0.1.0\n",
    "chart/values.yaml": "epochs: 3\n",
    "chart/templates/model.yaml": """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {name: {{ .Release.Name }}-adder}
spec: {baseModel: b, hyperparameters: {epochCount: {{ .Values.epochs }}}}
""",
    "ci/workflow.yml": "on: push\njobs: {test: {runs-on: ubuntu-latest}}\n",
}
_COMPOSED = """\
apiVersion: v1
kind: ConfigMap
metadata:
  annotations:
    owner: demo
  creationTimestamp: null
  labels:
    env: prod
  name: prod-settings
  namespace: ml
---
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata:
  annotations:
    owner: demo
  labels:
    env: prod
    team: demo
  name: prod-adder
  namespace: ml
spec:
  baseModel: models/gemini-3.5-flash
  dataset:
    path: adder.csv
  hyperparameters:
    batchSize: 4
    epochCount: 7
    learningRate: 0.001
---
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata:
  annotations:
    owner: demo
  labels:
    env: prod
  name: prod-child
  namespace: ml
spec:
  dataset:
    path: adder.csv
  hyperparameters:
    batchSize: 4
    epochCount: 2
    learningRate: 0.001
  source:
    tunedModel: prod-adder
"""
"""What kustomize 5.5.0 writes for overlays/prod."""


def _project(reconcile: Cli) -> Path:
    """Write the files, with the configuration that the command prints, and return their folder."""
    folder = reconcile.folder
    write(folder, {**_FILES, "overlays/prod/names.yaml": reconcile("schema", "--kustomize").out})
    shutil.move(reconcile.specs / "reconcile.yaml", folder / "reconcile.yaml")
    reconcile.specs.rmdir()
    return folder


def _composed(reconcile: Cli, *arguments: str) -> Result:
    return reconcile(*arguments, stdin=_COMPOSED.encode())


@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
def test_kustomize_renames_parents_with_the_configuration(reconcile: Cli) -> None:
    folder = _project(reconcile)
    assert KUBECTL is not None
    composed = subprocess.run(  # noqa: S603 - the kubectl that is there
        [KUBECTL, "kustomize", "overlays/prod"], cwd=folder, check=True, capture_output=True
    ).stdout
    assert _documents(composed.decode()) == _documents(_COMPOSED)


def _documents(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def test_a_composed_overlay_is_planned_and_applied_beside_files_of_other_tools(reconcile: Cli) -> None:
    repository = Repository(_project(reconcile))
    repository.commit()

    read = reconcile("validate")
    assert read.status == 0, read.out
    assert "template, not a manifest: skipped; render it" in read.out
    assert "7 YAML files are skipped, without manifests" in read.out
    assert read.out.endswith("2 manifests are valid\n")
    named = reconcile("validate", "chart/templates/model.yaml")
    assert (named.status, "template, not a manifest; render it" in named.out) == (1, True)

    planned = _composed(reconcile, "plan", "-", "--root", "base", "--format", "json")
    assert planned.status == 0, planned.err
    assert "note: -:1:1: 1 of 3 documents are not manifests and are skipped" in planned.err
    actions = {action["name"]: action for action in planned.document["actions"]}
    assert actions["prod-adder"]["training"]["epochs"] == 7
    assert set(actions) == {"prod-adder", "prod-child"}
    assert "adder.csv: no such file" in _composed(reconcile, "validate", "-").out
    refused = reconcile("plan", "--root", "base")
    assert (refused.status, "--root requires manifests from stdin; pass -" in refused.err) == (64, True)

    applied = _composed(reconcile, "apply", "-", "--root", "base", "--yes")
    assert applied.status == 0, applied.err
    repository.commit()

    # The folder declares other names: the composed models are not orphans because of that.
    note = "prod-adder is recorded, and a manifest may declare it: its manifest was read from standard input"
    assert note in reconcile("plan").out
    pruned = reconcile("prune", "--yes")
    assert (pruned.status, "Nothing was deleted" in pruned.out) == (0, True)
