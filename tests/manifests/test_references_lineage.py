"""What is tuned further: sources of every kind, cycles, and parents that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.model import Source
from reconciler.manifests.manifest import cycles
from reconciler.manifests.workspace import Workspace, load
from support.cases import each_row
from support.files_samples import CAPABILITIES, MANIFEST, VERTEX, load_in, messages, sample, write

_ABLE = replace(CAPABILITIES, features=frozenset({"lineage"}))
_ON_VERTEX = replace(
    VERTEX,
    features=frozenset({"lineage"}),
    tuned_model_pattern=r"projects/[^/]+/models/[0-9]+",
    tuned_model_example="projects/p/models/1",
)
_BASE = "baseModel: models/gemini-3.5-flash"
_FIELD = "spec.source.tunedModel"


def _child(name: str, parent: str, more: str = "") -> str:
    return MANIFEST.replace("number-generator", name).replace(_BASE, f"source: {{tunedModel: {parent}}}") + more


def _family(folder: Path, **parents: str) -> Path:
    """The root of a manifest and of others that are tuned further from these."""
    return write(sample(folder), {f"{name}.yaml": _child(name, parent) for name, parent in parents.items()})


def _loaded(folder: Path, *paths: str) -> Workspace:
    return load_in(folder, *paths, capabilities=_ABLE)


def test_a_source_is_another_manifest_or_a_remote_model(tmp_path: Path) -> None:
    remote = MANIFEST.replace("number-generator", "outside").replace(_BASE, "source: {remote: tunedModels/x-1}")
    workspace = _loaded(write(_family(tmp_path, child="number-generator"), {"r.yaml": remote}))
    assert not workspace.problems
    assert {one.name: one.source for one in workspace.manifests} == {
        "child": Source(tuned_model="number-generator"),
        "number-generator": Source("models/gemini-3.5-flash"),
        "outside": Source(remote="tunedModels/x-1"),
    }


@each_row("source", ["source: {tunedModel: nobody}", "source: {remote: tunedModels/x}", _BASE])
def test_a_base_model_in_the_block_replaces_every_source(tmp_path: Path, source: str) -> None:
    manifest = MANIFEST.replace(_BASE, source) + "  vertex: {baseModel: gemini-3.5-flash}\n"
    for able in (_ON_VERTEX, VERTEX):
        workspace = load_in(sample(tmp_path, manifest=manifest), capabilities=able)
        assert not workspace.problems
        assert [one.source for one in workspace.manifests] == [Source("gemini-3.5-flash")]


def test_the_block_of_another_service_replaces_nothing(tmp_path: Path) -> None:
    child = _child("child", "number-generator", "  vertex: {baseModel: gemini-3.5-flash}\n")
    workspace = _loaded(write(sample(tmp_path), {"child.yaml": child}))
    assert workspace.manifests[0].source == Source(tuned_model="number-generator")


_INVALID = 'invalid value "models/number-generator": expected the name of a tuned model'


@pytest.mark.parametrize(
    ("able", "told"),
    [
        (_ABLE, "the test service; set a name such as tunedModels/number-generator-3kq7w2ma"),
        (_ON_VERTEX, "Vertex AI; set a name such as projects/p/models/1"),
    ],
)
def test_a_remote_name_that_is_none(tmp_path: Path, able: object, told: str) -> None:
    manifest = MANIFEST.replace(_BASE, "source: {remote: models/number-generator}")
    assert isinstance(able, type(_ABLE))
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=able)) == [
        f"m.yaml:6:12: spec.source.remote: {_INVALID} of {told}"
    ]


@each_row(
    ("source", "told"),
    [
        ("{remote: ''}", "20: spec.source.remote: empty value; set a value, or delete the line"),
        ("{}", "3: spec.source: missing required field: tunedModel or remote; add one of them"),
        (
            "{tunedModel: a, remote: tunedModels/x}",
            "27: spec.source.remote: tunedModel and remote are mutually exclusive; keep one of them",
        ),
        (
            "{tunedModel: A}",
            f'24: {_FIELD}: invalid value "A"; use the metadata.name of another manifest',
        ),
        (
            "{tunedModel: 1}",
            f"24: {_FIELD}: invalid value 1: expected a string; use the metadata.name of another manifest",
        ),
    ],
)
def test_sources_that_are_none(tmp_path: Path, source: str, told: str) -> None:
    workspace = _loaded(sample(tmp_path, manifest=MANIFEST.replace(_BASE, f"source: {source}")))
    assert messages(workspace) == [f"m.yaml:6:{told}"]
    assert not workspace.manifests


_OTHERWISE = "set baseModel, or another source, in one of these manifests"


@each_row(
    ("parents", "told"),
    [
        ({"a": "a"}, ["a.yaml:6:24: {}: cycle of sources: a → a; {}"]),
        ({"b": "a", "a": "b"}, ["a.yaml:6:24: {}: cycle of sources: a → b → a; {}"]),
        (
            {"c": "b", "b": "a", "a": "c", "d": "a", "e": "number-generator"},
            ["a.yaml:6:24: {}: cycle of sources: a → c → b → a; {}"],
        ),
        (
            {"a": "b", "b": "a", "x": "y", "y": "x"},
            [
                "a.yaml:6:24: {}: cycle of sources: a → b → a; {}",
                "x.yaml:6:24: {}: cycle of sources: x → y → x; {}",
            ],
        ),
    ],
)
def test_a_circle_is_told_once_and_as_a_whole(tmp_path: Path, parents: dict[str, str], told: list[str]) -> None:
    workspace = _loaded(_family(tmp_path, **parents))
    assert messages(workspace) == [one.format(_FIELD, _OTHERWISE) for one in told]
    assert {one.name for one in workspace.manifests} == {"number-generator", *parents} - {"a", "b", "c", "x", "y"}


def test_a_circle_among_some_of_the_files_is_told_too(tmp_path: Path) -> None:
    _family(tmp_path, a="b", b="a")
    assert len(_loaded(tmp_path, "a.yaml", "b.yaml").errors) == 1
    assert not _loaded(tmp_path, "a.yaml").errors


def test_a_circle_of_one_service_is_none_where_the_block_breaks_it(tmp_path: Path) -> None:
    block = "  vertex: {baseModel: gemini-3.5-flash}\n"
    write(sample(tmp_path, manifest=MANIFEST + block), {"a.yaml": _child("a", "b"), "b.yaml": _child("b", "a", block)})
    assert not load_in(tmp_path, capabilities=_ON_VERTEX).errors
    assert len(_loaded(tmp_path).errors) == 1


_BOTH = "restore it, or write source: {remote: …} with the model's remote name, which the lockfile keeps"


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        (
            "numbr-generator",
            (
                'no manifest is named "numbr-generator"; did you mean number-generator? Otherwise'
                " restore it, or set source: {remote: NAME} with the remote name from the lockfile"
            ),
        ),
        (
            "elsewhere",
            (
                'no manifest is named "elsewhere"; restore it, or set source: {remote: NAME} with the'
                " remote name from the lockfile"
            ),
        ),
    ],
)
def test_a_missing_parent_names_both_ways_out(tmp_path: Path, parent: str, told: str) -> None:
    workspace = _loaded(_family(tmp_path, child=parent))
    assert messages(workspace) == [f"child.yaml:6:24: {_FIELD}: {told}"]
    assert [one.name for one in workspace.manifests] == ["number-generator"]


def test_a_child_is_not_meant_by_its_own_parent(tmp_path: Path) -> None:
    (told,) = messages(_loaded(_family(tmp_path, children="child")))
    assert "did you mean" not in told


def test_a_parent_may_stand_in_what_was_not_read(tmp_path: Path) -> None:
    workspace = _loaded(_family(tmp_path, child="number-generator", other="nobody"), "child.yaml", "other.yaml")
    assert not workspace.problems
    assert [one.source.tuned_model for one in workspace.manifests] == ["number-generator", "nobody"]


def test_a_parent_with_errors_is_not_missing(tmp_path: Path) -> None:
    workspace = _loaded(write(_family(tmp_path, child="number-generator"), {"m.yaml": MANIFEST + "  colours: []\n"}))
    assert [problem.path for problem in workspace.problems] == ["spec.colours"]
    assert [one.name for one in workspace.manifests] == ["child"]


def test_circles_and_missing_parents_are_told_whatever_is_selected(tmp_path: Path) -> None:
    _family(tmp_path, a="b", b="a", child="nobody")
    workspace = load(
        ["."],
        target=None,
        cwd=tmp_path,
        stdin=None,
        environ={},
        capabilities=lambda _target: _ABLE,
        is_selected=lambda name, _labels: name == "number-generator",
    )
    assert [str(problem.place) for problem in workspace.errors] == ["a.yaml:6:24", "child.yaml:6:24"]


_NAMES = st.sampled_from("abcdefgh")


@given(st.dictionaries(_NAMES, _NAMES))
def test_a_name_is_in_a_circle_when_it_is_its_own_ancestor(parents: dict[str, str]) -> None:
    found = list(cycles(parents))
    in_circles = [name for circle in found for name in circle]
    assert sorted(in_circles) == sorted(name for name in parents if name in _ancestors(name, parents))
    assert all(circle[0] == min(circle) for circle in found)
    assert all(parents[child] == circle[at] for circle in found for at, child in enumerate(circle, 1 - len(circle)))


def _ancestors(name: str, parents: dict[str, str]) -> set[str]:
    found: set[str] = set()
    while (name := parents.get(name, "")) and name not in found:
        found.add(name)
    return found
