"""What a run reads, from paths to manifests."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import Check, Expectation
from reconciler.domain.errors import InvalidInput, Place, ReconcileError, UsageError
from reconciler.domain.identity import dataset_digest
from reconciler.domain.model import (
    Dataset,
    Example,
    FieldPlace,
    Lifecycle,
    Limits,
    Manifest,
    Sampling,
    Source,
    Suspension,
    Target,
)
from reconciler.manifests.workspace import Workspace, load
from support.cases import each_row
from support.files_samples import CAPABILITIES, DATA, MANIFEST, TARGET, VERTEX, close, load_in, messages, sample, write

_SECOND = MANIFEST.replace("number-generator", "second")
_FOREIGN = "apiVersion: v1\nkind: ConfigMap\n"


def test_a_manifest_with_everything_in_it(tmp_path: Path) -> None:
    manifest = (
        MANIFEST.replace("models/", "").replace(
            "number-generator", "x\n  labels: {team: demo}\n  annotations: {a/b: c}"
        )
        + '    preamble: "Say "\n'
        "  displayName: The name\n"
        "  description: What it is for\n"
        "  hyperparameters: {epochCount: 3.0, batchSize: 2, learningRate: 1e-3}\n"
        "  sampling: {temperature: 0.7, topP: 1, topK: 40.0}\n"
        "  checks: [{name: a, prompt: b, expect: {equals: c}, candidates: 2, minPass: 0.5}]\n"
        "  lifecycle: {protect: true, suspend: true, retain: 1, timeout: 1h30m5s, onFailedChecks: serve}\n"
        "  ignoreDrift: [description, sampling.topK]\n"
        "  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {epochCount: 3, adapterSize: 4}}\n"
    )
    (found,) = load_in(sample(tmp_path, manifest=manifest)).manifests
    assert found.field_places == {
        "baseModel": FieldPlace(Place("m.yaml", 8, 3), "spec.baseModel"),
        "epochCount": FieldPlace(Place("m.yaml", 14, 21), "spec.hyperparameters.epochCount"),
        "batchSize": FieldPlace(Place("m.yaml", 14, 38), "spec.hyperparameters.batchSize"),
        "learningRate": FieldPlace(Place("m.yaml", 14, 52), "spec.hyperparameters.learningRate"),
        "dataset": FieldPlace(Place("m.yaml", 9, 3), "spec.dataset"),
    }
    assert replace(found, field_places={}) == Manifest(
        name="x",
        file="m.yaml",
        place=Place("m.yaml", 4, 9),
        source=Source("models/gemini-3.5-flash"),
        dataset=Dataset(dataset_digest([Example("Say 1", "2"), Example("Say 3", "4")]), "data.csv", 2),
        hyperparameters={"epochCount": 3, "batchSize": 2, "learningRate": 0.001},
        labels={"team": "demo"},
        display_name="The name",
        description="What it is for",
        preamble="Say ",
        sampling=Sampling(temperature=0.7, top_p=1, top_k=40),
        checks=(Check("a", "b", (Expectation("equals", ("c",)),), candidates=2, min_pass=0.5),),
        lifecycle=Lifecycle(
            protect=True,
            suspend=Suspension(),
            retain=1,
            timeout=timedelta(hours=1, minutes=30, seconds=5),
            on_failed_checks="serve",
        ),
        ignore_drift=frozenset({"description", "sampling.topK"}),
        training_bytes=12,
        longest_example=6,
        training_tokens=8,
    )
    assert [type(value) for value in found.hyperparameters.values()] == [int, int, float]
    assert type(found.sampling.top_k) is int


@each_row("place", [0, 150, 199])
def test_the_longest_example_is_that_with_the_most_bytes_of_text_and_preamble(tmp_path: Path, place: int) -> None:
    rows = [f"{number},1" for number in range(200)]
    rows[place] = f"longest-{place:03},ü"
    manifest = MANIFEST.replace("path: data.csv", "path: data.csv\n    preamble: Say ü")
    sample(tmp_path, manifest=manifest.replace("models/", ""), data="\n".join(("text_input,output", *rows, "")))
    (loaded,) = load_in(tmp_path, capabilities=VERTEX).manifests
    assert loaded.longest_example == len("Say ülongest-000ü".encode())


def test_what_is_left_out_is_undeclared(tmp_path: Path) -> None:
    (found,) = load_in(sample(tmp_path)).manifests
    assert (found.display_name, found.description, found.hyperparameters) == (None, None, {})
    assert (found.sampling, found.lifecycle) == (Sampling(), Lifecycle())


@each_row(("text", "expected"), [("4h", 4 * 3600), ("30m", 1800), ("1h30m", 5400), ("90s", 90), ("100h0m", 360000)])
def test_timeouts(tmp_path: Path, text: str, expected: int) -> None:
    (found,) = load_in(sample(tmp_path, manifest=f"{MANIFEST}  lifecycle: {{timeout: {text}}}\n")).manifests
    assert found.lifecycle.timeout == timedelta(seconds=expected)


def test_folders_are_read_in_order_without_what_is_hidden_or_not_ours(tmp_path: Path) -> None:
    files = {
        "b.yml": _SECOND,
        "deep/er/c.yaml": MANIFEST.replace("number-generator", "third").replace("data.csv", "../../data.csv"),
        "deep/foreign.yaml": _FOREIGN,
        ".hidden.yaml": "broken: [",
        ".git/x.yaml": "broken: [",
        "reconcile.other.yaml": TARGET.replace("default", "other").replace("demo", "other"),
        "targets.yaml": TARGET,
        "readme.md": "broken: [",
        "empty.yaml": "# nothing\n",
    }
    workspace = load_in(write(sample(tmp_path), files))
    assert messages(workspace) == ["deep/foreign.yaml:1:1: 1 YAML file is skipped, without manifests"]
    assert [(one.name, one.file) for one in workspace.manifests] == [
        ("number-generator", "m.yaml"),
        ("second", "b.yml"),
        ("third", "deep/er/c.yaml"),
    ]
    assert workspace.files == 5
    assert workspace.complete


_OTHER_TOOLS = {
    "kustomization.yaml": "resources: [m.yaml]\n",
    "chart/Chart.yaml": "apiVersion: v2\nname: models\nversion: 0.1.0\n",
    "chart/values.yaml": "name: adder\nepochs: 3\n",
    "ci/workflow.yml": "on: push\njobs: {test: {runs-on: ubuntu-latest}}\n",
    "compose.yaml": "x: &x {a: 1}\nservices: {web: {<<: *x}}\n",
    "play.yml": "- hosts: all\n",
    "mkdocs.yml": "f: !!python/name:a.b\n",
    "node_modules/y.yml": "a: [1",
    "crd.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {kind: TunedModel}\n",
}
_CHART = "apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\n"
_TEMPLATES = {
    "a broken value": _CHART + "metadata: {name: {{ .Values.name }}}\n",
    "a quoted value": _CHART + 'metadata: {name: "{{ .Values.name }}"}\nspec: {baseModel: b}\n',
    "a block": "{{- if .Values.on }}\n" + MANIFEST + "{{- end }}\n",
    "a number": MANIFEST + "  hyperparameters: {epochCount: '{{ .Values.epochs }}'}\n",
    "the version": MANIFEST.replace("tuning.reconcile/v1alpha1", "{{ .Values.version }}"),
    "Jinja": "{% for name in names %}\n" + MANIFEST + "{% endfor %}\n",
}


def test_files_of_other_tools_are_skipped_with_a_note_unless_they_are_named(tmp_path: Path) -> None:
    write(sample(tmp_path), _OTHER_TOOLS)
    workspace = load_in(tmp_path)
    assert messages(workspace) == [
        (
            "chart/Chart.yaml:1:1: 9 YAML files are skipped, without manifests: this one, chart/values.yaml,"
            " ci/workflow.yml, compose.yaml and 5 more"
        )
    ]
    assert [manifest.name for manifest in workspace.manifests] == ["number-generator"]
    assert workspace.complete
    for file in _OTHER_TOOLS:
        assert load_in(tmp_path, file).errors, file
    assert "`kubectl kustomize FOLDER | reconcile" in str(load_in(tmp_path, "kustomization.yaml").errors[0])
    assert "`helm template FOLDER | reconcile" in str(load_in(tmp_path, "chart/Chart.yaml").errors[0])


@each_row("text", list(_TEMPLATES.values()))
def test_templates_are_skipped_with_a_note_unless_they_are_named(tmp_path: Path, text: str) -> None:
    write(sample(tmp_path), {"templates/t.yaml": text})
    workspace = load_in(tmp_path)
    assert messages(workspace) == [
        (
            "templates/t.yaml:1:1: template, not a manifest: skipped; render it and pass the output, as in"
            " `helm template CHART | reconcile plan -`"
        )
    ]
    assert str(tmp_path / "templates/t.yaml") not in workspace.read_files
    (error,) = load_in(tmp_path, "templates/t.yaml").errors
    assert error.message == "template, not a manifest"


def test_what_kubernetes_writes_is_ignored_and_a_misspelled_field_is_an_error(tmp_path: Path) -> None:
    written = """
metadata:
  annotations: null
  creationTimestamp: "2026-01-01T00:00:00Z"
  deletionGracePeriodSeconds: 0
  deletionTimestamp: "2026-01-01T00:00:00Z"
  finalizers: [a/b]
  generateName: a-
  generation: 2
  labels: null
  managedFields: [{manager: kubectl, operation: Update}]
  name: NAME
  namespace: ml
  ownerReferences: [{kind: A, name: b}]
  resourceVersion: "12"
  selfLink: ""
  uid: 0b1c
status: {conditions: [{type: Ready}]}
"""
    own = "metadata:\n  name: {}\n"
    target = TARGET.replace(own.format("default"), written.replace("NAME", "default").lstrip())
    text = MANIFEST.replace(own.format("number-generator"), written.replace("NAME", "number-generator").lstrip())
    items = "".join(f"  {line}" for line in f"- {text}".splitlines(keepends=True)).replace("  - ", "- ", 1)
    nested = "v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List"
    for kind in ("v1\nkind: List", "tuning.reconcile/v1alpha1\nkind: TunedModelList", nested):
        listed = items.replace("\n", "\n  ").rstrip() + "\n" if kind == nested else items
        margin = "  " if kind == nested else ""
        lists = f"apiVersion: {kind}\n{margin}metadata: {{resourceVersion: ''}}\n{margin}items:\n{margin}{listed}"
        workspace = load_in(sample(tmp_path, target=target, manifest=lists))
        assert messages(workspace) == []
        assert [(one.name, one.labels) for one in workspace.manifests] == [("number-generator", {})]
    misspelled = sample(tmp_path, manifest=text.replace("  namespace:", "  namespaces:").replace("status:", "statuss:"))
    assert messages(load_in(misspelled)) == [
        'm.yaml:14:3: metadata.namespaces: unknown field "namespaces"; did you mean namespace?',
        'm.yaml:19:1: statuss: unknown field "statuss"; did you mean status?',
    ]


def test_braces_in_a_preamble_and_in_a_check_make_no_template(tmp_path: Path) -> None:
    checks = "  checks: [{name: json, prompt: 'Fill {{x}}', assert: [{type: contains, value: '{{'}]}]\n"
    workspace = load_in(sample(tmp_path, manifest=MANIFEST + checks))
    assert (messages(workspace), len(workspace.manifests)) == ([], 1)


@pytest.mark.parametrize("path", ["m\udcff.yaml", "fine\udcff/m.yaml"])
def test_a_path_that_is_not_utf_8_is_a_problem_before_anything_starts(tmp_path: Path, path: str) -> None:
    """The lockfile records the path, and is UTF-8 text."""
    (sample(tmp_path) / "m.yaml").unlink()
    write(tmp_path, {path: MANIFEST})
    workspace = load_in(tmp_path)
    shown = path.replace("\udcff", "\ufffd")
    assert messages(workspace) == [f"{shown}:1:1: the path of the file is not UTF-8 text; rename the file or folder"]
    assert not workspace.manifests


def test_a_folder_with_a_target_of_its_own_is_another_root(tmp_path: Path) -> None:
    write(sample(tmp_path), {"other/reconcile.yaml": TARGET, "other/m.yaml": "broken: ["})
    assert load_in(tmp_path).complete
    assert not load_in(tmp_path).problems


def test_several_documents_and_lists_in_a_file(tmp_path: Path) -> None:
    items = "".join(
        f"- {line}" if index == 0 else f"  {line}" for index, line in enumerate(_SECOND.splitlines(keepends=True))
    )
    text = (
        f"{MANIFEST}---\n{_FOREIGN}---\napiVersion: v1\nkind: List\nitems:\n{items}- {{apiVersion: v1, kind: Secret}}\n"
    )
    workspace = load_in(sample(tmp_path, manifest=text))
    assert [(one.name, one.place.line) for one in workspace.manifests] == [("number-generator", 4), ("second", 19)]
    assert messages(workspace) == ["m.yaml:1:1: 2 of 4 documents are not manifests and are skipped"]


def test_places_are_shown_as_the_paths_were_given(tmp_path: Path) -> None:
    sample(tmp_path / "specs", manifest="kind: TunedModel\n")
    shown = {
        path: messages(load_in(tmp_path / at, path))[0].split(":")[0]
        for at, path in [
            ("", "specs"),
            ("", "specs/"),
            ("", "./specs/m.yaml"),
            ("specs", "."),
            ("specs", "../specs"),
            ("", str(tmp_path / "specs")),
        ]
    }
    assert shown == {
        "specs": "specs/m.yaml",
        "specs/": "specs/m.yaml",
        "./specs/m.yaml": "specs/m.yaml",
        ".": "m.yaml",
        "../specs": "../specs/m.yaml",
        str(tmp_path / "specs"): str(tmp_path / "specs/m.yaml"),
    }


def test_without_paths_the_folder_specs_is_read_if_it_is_there(tmp_path: Path) -> None:
    sample(tmp_path / "specs")
    for cwd, shown in ((tmp_path, "specs/m.yaml"), (tmp_path / "specs", "m.yaml")):
        workspace = load((), target=None, cwd=cwd, stdin=None, environ={}, capabilities=lambda _target: CAPABILITIES)
        assert workspace.manifests[0].place.file == shown


def test_a_single_file_is_not_the_whole_root(tmp_path: Path) -> None:
    write(sample(tmp_path), {"second.yaml": _SECOND})
    workspace = load_in(tmp_path, "second.yaml", "second.yaml")
    assert [one.name for one in workspace.manifests] == ["second"]
    assert not workspace.complete
    assert workspace.files == 1
    assert load_in(tmp_path, "second.yaml", ".").complete


def test_standard_input(tmp_path: Path) -> None:
    sample(tmp_path)
    workspace = load_in(tmp_path, "-", stdin=_SECOND)
    (manifest,) = workspace.manifests
    assert (manifest.name, manifest.file, manifest.place) == ("second", "-", Place("-", 4, 9))
    assert manifest.dataset.path == "data.csv"
    assert not workspace.complete


def test_standard_input_as_bytes_may_be_no_text(tmp_path: Path) -> None:
    sample(tmp_path)
    workspace = load(
        ["-"],
        target=None,
        cwd=tmp_path,
        stdin=io.BytesIO(b"\xff"),
        environ={},
        capabilities=lambda _target: CAPABILITIES,
    )
    assert messages(workspace) == ["-:1:1: not valid UTF-8; save the file as UTF-8"]
    assert messages(load_in(tmp_path, "-", stdin="a: \udc80")) == [("-:1:4: not valid UTF-8; save the file as UTF-8")]


def test_no_standard_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^stdin is not available; pass files or directories$"):
        load_in(sample(tmp_path), "-")


@each_row(
    ("text", "message"),
    [
        (
            "- x\n",
            (
                "1:1: invalid document: expected a mapping, not a list; start it with apiVersion:"
                " tuning.reconcile/v1alpha1"
            ),
        ),
        (
            "kind: TunedModel\n",
            "1:1: apiVersion: missing required field; add apiVersion: tuning.reconcile/v1alpha1",
        ),
        (
            "ghp_secret\n",
            (
                "1:1: invalid document: expected a mapping, not a string; start it with apiVersion:"
                " tuning.reconcile/v1alpha1"
            ),
        ),
        (
            "123456\n",
            (
                "1:1: invalid document: expected a mapping, not a number; start it with apiVersion:"
                " tuning.reconcile/v1alpha1"
            ),
        ),
        (
            "true\n",
            (
                "1:1: invalid document: expected a mapping, not a boolean; start it with apiVersion:"
                " tuning.reconcile/v1alpha1"
            ),
        ),
        (
            f"apiVersion: tuning.reconcile/v1alpha1\nkind: {'secret' * 10}\n",
            f'2:7: kind: unsupported kind "{"secret" * 6}sec…"; use one of TunedModel, Target',
        ),
        ("apiVersion: tuning.reconcile/v1alpha1\n", "1:1: kind: missing required field; add kind: TunedModel"),
        (
            "apiVersion: 1\nkind: TunedModel\n",
            "1:13: apiVersion: invalid value 1: expected a string; set tuning.reconcile/v1alpha1",
        ),
        (
            "apiVersion: tuning.reconcile/v1\nkind: TunedModel\n",
            ('1:13: apiVersion: unsupported apiVersion "tuning.reconcile/v1"; did you mean tuning.reconcile/v1alpha1?'),
        ),
        (
            "apiVersion: tuning.reconciler/v1alpha1\nkind: TunedModel\n",
            (
                '1:13: apiVersion: unsupported apiVersion "tuning.reconciler/v1alpha1"; did you mean'
                " tuning.reconcile/v1alpha1?"
            ),
        ),
        (
            "apiVersion: tuning.reconcile/v1alpha1\nkind: TuneModel\n",
            '2:7: kind: unsupported kind "TuneModel"; did you mean TunedModel?',
        ),
        (
            "apiVersion: tuning.reconcile/v1alpha1\nkind: Pod\n",
            '2:7: kind: unsupported kind "Pod"; use one of TunedModel, Target',
        ),
    ],
)
def test_documents_that_are_no_manifests(tmp_path: Path, text: str, message: str) -> None:
    assert messages(load_in(sample(tmp_path, manifest=text), "m.yaml")) == [f"m.yaml:{message}"]


def test_a_document_without_anything_lacks_two_fields(tmp_path: Path) -> None:
    assert len(messages(load_in(sample(tmp_path, manifest="a: 1\n")))) == 2


def test_foreign_and_empty_files_are_problems_when_they_are_named(tmp_path: Path) -> None:
    write(sample(tmp_path), {"foreign.yaml": _FOREIGN, "empty.yaml": ""})
    assert messages(load_in(tmp_path, "foreign.yaml", "empty.yaml")) == [
        "empty.yaml:1:1: contains no manifest; add a manifest, or do not pass this file",
        (
            'foreign.yaml:1:13: apiVersion: unsupported apiVersion "v1"; pass only files whose documents'
            " have apiVersion: tuning.reconcile/v1alpha1"
        ),
    ]
    assert not messages(load_in(tmp_path, "reconcile.yaml", "m.yaml"))


def test_a_name_that_is_taken_names_the_other_place(tmp_path: Path) -> None:
    workspace = load_in(write(sample(tmp_path), {"n.yaml": MANIFEST}))
    assert messages(workspace) == [
        (
            'n.yaml:4:9: metadata.name: duplicate name "number-generator" (first defined at m.yaml:4:9);'
            " rename one of the manifests"
        )
    ]
    assert [one.file for one in workspace.manifests] == ["m.yaml"]


def test_a_link_to_nothing(tmp_path: Path) -> None:
    (sample(tmp_path) / "broken.yaml").symlink_to("nowhere")
    assert messages(load_in(tmp_path)) == ["broken.yaml:1:1: broken symbolic link; fix the path, or add the file"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    close(sample(tmp_path) / "m.yaml")
    assert messages(load_in(tmp_path)) == ["m.yaml:1:1: cannot read the file: Permission denied; check its permissions"]


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (sample(tmp_path) / "closed").mkdir()
    close(tmp_path / "closed")
    with pytest.raises(ReconcileError, match=r"cannot read .*closed/?.*: Permission denied; check its permissions"):
        load_in(tmp_path)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^nowhere: no such file or directory; pass a manifest, or a directory"):
        load_in(tmp_path, "nowhere")


def test_paths_of_several_roots(tmp_path: Path) -> None:
    for name in ("a", "b"):
        sample(tmp_path / name)
    write(tmp_path, {"c/x.yaml": _SECOND, "c/data.csv": DATA})
    assert messages(load_in(tmp_path, "a", "b/m.yaml", "c")) == [
        f"b/m.yaml:1:1: not in the root of a, {tmp_path}/a; run the command once for each root",
        f"c:1:1: not in the root of a, {tmp_path}/a; run the command once for each root",
    ]


_ASKED = (
    "  hyperparameters: {learningRateMultiplier: 2}\n"
    "  sampling: {topK: 1}\n"
    "  access: [{role: reader, everyone: true}]\n"
    f"  displayName: {'x' * 41}\n"
)


def test_what_the_service_cannot_do(tmp_path: Path) -> None:
    able = replace(CAPABILITIES, hyperparameters=frozenset({"epochCount", "batchSize"}))
    manifest = MANIFEST.replace("baseModel: models/gemini-3.5-flash", "source: {remote: tunedModels/x}") + _ASKED
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=able)) == [
        "m.yaml:6:3: spec.source: not supported by the test service; remove it",
        (
            "m.yaml:9:21: spec.hyperparameters.learningRateMultiplier: hyperparameter not supported by the"
            " test service; remove it, or use one of batchSize, epochCount"
        ),
        "m.yaml:11:3: spec.access: not supported by the test service; remove it",
        (
            "m.yaml:12:3: spec.displayName: 41 characters, which exceeds the limit of 40 for the test"
            " service; shorten it"
        ),
    ]


def test_what_the_service_can_do(tmp_path: Path) -> None:
    able = replace(CAPABILITIES, features=frozenset({"access"}), max_display_name=128)
    assert not load_in(sample(tmp_path, manifest=MANIFEST + _ASKED), capabilities=able).errors


_CHAT = '{"contents": [{"role": "user", "parts": [{"fileData": {}}]}, {"role": "model", "parts": [{"text": "b"}]}]}\n'


def _selecting(folder: Path, name: str) -> Workspace:
    return load(
        ["."],
        target=None,
        cwd=folder,
        stdin=None,
        environ={},
        capabilities=lambda _target: CAPABILITIES,
        is_selected=lambda of, _labels: of == name,
    )


@each_row(
    ("before", "after", "data"),
    [
        ("baseModel: models/gemini-3.5-flash", "source: {remote: tunedModels/x}", DATA),
        ("data.csv", "gs://bucket/data.jsonl", DATA),
        ("data.csv\n", f"data.csv\n  displayName: {'x' * 41}\n", DATA),
        ("data.csv", "data.csv", f"text_input,output\n{'x' * 21},2\n3,4\n"),
        ("data.csv", "chats.jsonl", DATA),
    ],
    ids=["source", "cloud storage", "display name", "long input", "conversations"],
)
def test_the_service_is_asked_about_selected_manifests_alone(
    tmp_path: Path, before: str, after: str, data: str
) -> None:
    write(sample(tmp_path, manifest=MANIFEST.replace(before, after), data=data), {"chats.jsonl": _CHAT})
    assert len(_selecting(tmp_path, "number-generator").errors) == 1
    other = _selecting(tmp_path, "other")
    assert not other.errors
    assert [one.name for one in other.manifests] == ["number-generator"]


def test_what_is_wrong_with_a_manifest_as_such_is_told_of_every_one(tmp_path: Path) -> None:
    sample(tmp_path, manifest=f"{MANIFEST}  colours: []\n", data="text_input,output\n1,\n")
    assert {problem.path for problem in _selecting(tmp_path, "other").errors} == {"spec.dataset.path", "spec.colours"}


@pytest.mark.parametrize("metadata", ["[]", "{name: [x], labels: 3}"])
def test_malformed_metadata_is_told_whatever_is_selected(tmp_path: Path, metadata: str) -> None:
    text = MANIFEST.replace("metadata:\n  name: number-generator", f"metadata: {metadata}")
    assert _selecting(sample(tmp_path, manifest=text), "x").errors[0].path.startswith("metadata")


def test_the_built_in_target_needs_no_file(tmp_path: Path) -> None:
    write(tmp_path, {"a/m.yaml": MANIFEST, "a/data.csv": DATA, "b/m.yaml": _SECOND, "b/data.csv": DATA})
    workspace = load_in(tmp_path, "a/m.yaml", "a", target="embedded")
    assert workspace.target == Target("embedded", "the built-in target", "embedded", "local")
    assert workspace.root == tmp_path / "a"
    assert workspace.lockfile == tmp_path / "a/reconcile.embedded.lock.json"
    assert workspace.complete
    assert "b:1:1: not in the root of a" in messages(load_in(tmp_path, "a", "b", target="embedded"))[0]
    assert load_in(tmp_path, ".", target="embedded").files == 2


def test_a_file_comes_before_the_built_in_target(tmp_path: Path) -> None:
    target = TARGET.replace("default", "embedded").replace("demo", "of-the-file")
    write(sample(tmp_path), {"reconcile.embedded.yaml": target})
    assert load_in(tmp_path, target="embedded").target.scope == "of-the-file"


def test_the_lockfile_stands_beside_the_target(tmp_path: Path) -> None:
    write(sample(tmp_path), {"reconcile.blue.yaml": TARGET.replace("default", "blue").replace("demo", "blue")})
    assert load_in(tmp_path).lockfile == tmp_path / "reconcile.lock.json"
    assert load_in(tmp_path, target="blue").lockfile == tmp_path / "reconcile.blue.lock.json"


def test_a_broken_target_is_told_with_everything_else(tmp_path: Path) -> None:
    sample(tmp_path, target=TARGET.replace("demo", "Demo"), manifest=MANIFEST + "  colours: []\n")
    with pytest.raises(InvalidInput) as caught:
        load_in(tmp_path)
    assert [problem.path for problem in caught.value.problems] == ["spec.colours", "spec.scope"]


def test_limits_and_settings_of_a_target(tmp_path: Path) -> None:
    more = (
        "  project: my-project-id\n  location: europe-west4\n  apiVersion: v1beta\n"
        "  endpoint: http://127.0.0.1:8080/\n"
        "  limits: {maxCreates: 1, maxSteps: 2, maxDeletePercent: 3, maxDeletes: 4, concurrency: 5,"
        " requestsPerMinute: 6}\n"
        "  embedded: {stepSeconds: 0.05, world: world.json}\n"
    )
    write(sample(tmp_path, target=TARGET.replace("embedded", "generativelanguage") + more), {"world.json": "{}"})
    assert load_in(tmp_path).target == Target(
        name="default",
        file="reconcile.yaml",
        provider="generativelanguage",
        scope="demo",
        project="my-project-id",
        location="europe-west4",
        api_version="v1beta",
        endpoint="http://127.0.0.1:8080",
        storage_endpoint="http://127.0.0.1:8080",
        limits=Limits(1, 2, None, 3, 4, 5, 6),
    )


def test_settings_of_the_embedded_service(tmp_path: Path) -> None:
    settings = "  embedded: {stepSeconds: 0.05, world: world.json}\n"
    write(sample(tmp_path, target=TARGET + settings), {"world.json": "{}"})
    assert load_in(tmp_path).target.settings == {"stepSeconds": 0.05, "world": "world.json"}


def test_a_minimal_target_has_the_defaults(tmp_path: Path) -> None:
    assert load_in(sample(tmp_path)).target == Target("default", "reconcile.yaml", "embedded", "demo")


@pytest.mark.parametrize("name", ["m.yaml", "reconcile.yaml"])
def test_aliases_upon_aliases_are_a_problem(tmp_path: Path, name: str) -> None:
    names = "abcdefghijklmnopq"
    lines = [f"{one}: &{one} {'[' * 60}*{before}{']' * 60}\n" for before, one in pairwise(names)]
    write(sample(tmp_path), {name: f"# TunedModel\na: &a [x]\n{''.join(lines)}"})
    try:
        found = messages(load_in(tmp_path))
    except InvalidInput as error:
        found = [str(problem) for problem in error.problems]
    assert found == [f"{name}:4:67: c{'[0]' * 60}: nested more than 64 levels deep; reduce the nesting"]


@contextmanager
def _nested(folder: Path, name: str, depth: int) -> Iterator[None]:
    """Folders inside one another: made, and removed, one from the other, as neither a path nor rmtree goes as deep."""
    at = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        at = _moved(at, name)
    try:
        yield
    finally:
        for _ in range(depth):
            at = _moved(at, "..")
            os.rmdir(name, dir_fd=at)
        os.close(at)


def _moved(at: int, name: str) -> int:
    there = os.open(name, os.O_RDONLY, dir_fd=at)
    os.close(at)
    return there


def test_folders_may_be_deep(tmp_path: Path) -> None:
    with _nested(sample(tmp_path), "x", 1_200):
        assert load_in(tmp_path).files == 1


def test_without_a_target_nothing_is_walked(tmp_path: Path) -> None:
    with _nested(tmp_path, "x" * 250, 20):
        with pytest.raises(UsageError, match=r'^target "default" not found: no reconcile.yaml in \. or a directory'):
            load_in(tmp_path)
        with pytest.raises(ReconcileError, match=r"cannot read .*: File name too long; check its permissions$"):
            load_in(sample(tmp_path))


def test_a_folder_with_all_manifests_of_a_root_above_it_is_the_whole_root(tmp_path: Path) -> None:
    files = {
        "reconcile.yaml": TARGET,
        "specs/m.yaml": MANIFEST.replace("data.csv", "../data.csv"),
        "compose.yaml": "a: 1",
    }
    sample(tmp_path)
    (tmp_path / "m.yaml").unlink()
    write(tmp_path, files)
    assert load_in(tmp_path).complete
    assert load_in(tmp_path, "specs").complete
    assert not load_in(tmp_path, "specs/m.yaml").complete
    write(tmp_path, {"second.yaml": _SECOND})
    assert not load_in(tmp_path, "specs").complete
