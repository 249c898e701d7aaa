"""Names that manifests had before: what is read of them, and what is wrong; and data that is not at hand."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from reconciler.domain.model import UNKNOWN_DATA, Dataset
from reconciler.manifests.workspace import Workspace
from support.cases import each_row
from support.files_samples import CAPABILITIES, MANIFEST, load_in, messages, sample, write

_ABLE = replace(CAPABILITIES, features=frozenset({"lineage"}))


def manifest(name: str, formerly: str = "", source: str = "") -> str:
    text = MANIFEST.replace("number-generator", name + (f"\n  formerly: {formerly}" if formerly else ""))
    return text.replace("baseModel: models/gemini-3.5-flash", source) if source else text


def family(folder: Path, **manifests: str) -> Workspace:
    files = {f"{name}.yaml": text for name, text in manifests.items()}
    root = write(sample(folder, manifest=files.pop("m.yaml", MANIFEST)), files)
    return load_in(root, capabilities=_ABLE)


def test_former_names_are_read(tmp_path: Path) -> None:
    workspace = family(tmp_path, m=manifest("adder", "[summer, one-up]"))
    assert not workspace.problems
    (one,) = workspace.manifests
    assert (one.formerly, one.names) == (("summer", "one-up"), ("adder", "summer", "one-up"))


@each_row(
    ("formerly", "told"),
    [
        (
            "adder",
            'm.yaml:5:13: metadata.formerly: invalid value "adder": expected a list; write its items',
        ),
        (
            "[Adder]",
            'm.yaml:5:14: metadata.formerly[0]: invalid value "Adder"; use the metadata.name that the mani',
        ),
        (
            "[sum, sum]",
            'm.yaml:5:19: metadata.formerly[1]: duplicate value "sum"; remove it',
        ),
        ("[adder]", 'm.yaml:5:14: metadata.formerly[0]: former name "adder" is the current name; remove it'),
        (
            "[words, other]",
            (
                'm.yaml:5:21: metadata.formerly[1]: former name "other" is used by another manifest, at other.yaml:4:9;'
                " delete that"
            ),
        ),
    ],
)
def test_former_names_that_are_none(tmp_path: Path, formerly: str, told: str) -> None:
    workspace = family(tmp_path, m=manifest("adder", formerly), other=manifest("other"))
    (problem,) = messages(workspace)
    assert problem.startswith(told)
    assert [one.name for one in workspace.manifests] == ["other"]


def test_two_manifests_cannot_have_had_one_name(tmp_path: Path) -> None:
    workspace = family(tmp_path, m=manifest("adder", "[sum]"), other=manifest("other", "[sum]"))
    (problem,) = messages(workspace)
    told = 'former name "sum" is also declared by "adder", at m.yaml:5:14; keep it in the manifest that was renamed'
    assert problem == f"other.yaml:5:14: metadata.formerly[0]: {told}"


def test_children_that_go_by_the_former_name_are_told_of_the_present_one(tmp_path: Path) -> None:
    child = manifest("child", source="source: {tunedModel: number-generator}")
    workspace = family(tmp_path, m=manifest("adder", "[number-generator]"), child=child)
    (problem,) = messages(workspace)
    told = (
        'no manifest is named "number-generator"; did you mean adder? Otherwise restore it, or set source:'
        " {remote: NAME}"
    )
    assert problem.startswith(f"child.yaml:6:24: spec.source.tunedModel: {told}")


def test_data_that_is_not_at_hand(tmp_path: Path) -> None:
    unknown = MANIFEST.replace("path: data.csv", 'unknown: true\n    preamble: "Say: "')
    (one,) = family(tmp_path, m=unknown).manifests
    assert (one.dataset, one.preamble) == (Dataset(UNKNOWN_DATA, "", 0), "Say: ")
    assert one.dataset.unknown


@each_row(
    ("dataset", "told"),
    [
        ("unknown: false", "m.yaml:8:14: spec.dataset.unknown: invalid value false: expected true; set true"),
        (
            "unknown: true\n    path: data.csv",
            "m.yaml:8:5: spec.dataset.unknown: path and unknown are mutually exclusive",
        ),
        (
            "unknown: true\n    inputField: q",
            "m.yaml:9:17: spec.dataset.inputField: does not apply to unknown data; remove it",
        ),
    ],
)
def test_what_cannot_be_said_of_data_that_is_not_at_hand(tmp_path: Path, dataset: str, told: str) -> None:
    (problem,) = messages(family(tmp_path, m=MANIFEST.replace("path: data.csv", dataset)))
    assert problem.startswith(told)
