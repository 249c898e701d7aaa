"""Scalars of manifests replaced in their text: every style, nothing else changed, and what is refused."""

from __future__ import annotations

from time import process_time

from reconciler.manifests.yaml_edit import Edit, ImpossibleEdit, edited
from reconciler.manifests.yaml_parser import parse
from support.cases import each_row

HEAD = "apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\nmetadata: {name: a}\n"
BASE = ("spec", "baseModel")
RANK = ("spec", "hyperparameters", "adapterSize")
FLOW = "apiVersion: tuning.reconcile/v1alpha1, kind: TunedModel"
PAIR = (
    "kind: List\nitems:\n"
    f"- {{{FLOW}, metadata: {{name: a}}, spec: {{baseModel: &b old, "
    "hyperparameters: &h {adapterSize: 8, x: {}}}}\n"
    f"- {{{FLOW}, metadata: {{name: c}}, spec: {{baseModel: *b, hyperparameters: *h}}}}\n"
)


def result(text: str, *edits: Edit) -> str:
    """The text with the edits, or why there is none."""
    try:
        return edited(text.encode(), "f.yaml", edits).decode()
    except ImpossibleEdit as error:
        return str(error)


@each_row(
    ("before", "after"),
    [
        ("spec:\n  baseModel: old # why\n", "spec:\n  baseModel: models/new # why\n"),
        ("spec:\n  baseModel:   'old'\n", "spec:\n  baseModel:   'models/new'\n"),
        ('spec: {"baseModel":"old"}\n', 'spec: {"baseModel":"models/new"}\n'),
        ("spec: {baseModel: old, labels: {}}", "spec: {baseModel: models/new, labels: {}}"),
        ("spec:\n  baseModel: !!str old\n", "spec:\n  baseModel: !!str models/new\n"),
        ("spec:\n  baseModel: &b # old\n    old\n  x:\n", "spec:\n  baseModel: &b # old\n    models/new\n  x:\n"),
        ("spec:\n  ? baseModel\n  : old\n", "spec:\n  ? baseModel\n  : models/new\n"),
        ("spec:\r\n  baseModel: old\r\n", "spec:\r\n  baseModel: models/new\r\n"),
        ("# 😀 é\x85# old\nspec:\n  baseModel: old", "# 😀 é\x85# old\nspec:\n  baseModel: models/new"),
        ("note: &b old\nspec:\n  baseModel: *b # old\n", "note: &b old\nspec:\n  baseModel: models/new # old\n"),
        ("note: &b old\nspec: {baseModel: *b }\n", "note: &b old\nspec: {baseModel: models/new }\n"),
        (
            "other: old\nspec:\n  baseModel: old\n---\nold: old\n",
            "other: old\nspec:\n  baseModel: models/new\n---\nold: old\n",
        ),
    ],
)
def test_a_value_is_replaced_in_its_style_and_nothing_else(before: str, after: str) -> None:
    edit = Edit("a", BASE, "models/new")
    assert result(HEAD + before, edit) == HEAD + after
    assert result("\ufeff" + HEAD + before, edit) == "\ufeff" + HEAD + after


@each_row(
    ("text", "edits", "expected"),
    [
        (f"{HEAD}spec:\n  baseModel: >-\n    old\n", [Edit("a", BASE, "new")], "its value spans several lines"),
        (f"{HEAD}spec:\n  baseModel: 'old\n    er'\n", [Edit("a", BASE, "new")], "its value spans several lines"),
        (
            f"{HEAD}spec:\n  baseModel: &b old\n  description: *b\n",
            [Edit("a", BASE, "new")],
            "its value is shared with spec.description of a through the alias at f.yaml:6:16; write the value out",
        ),
        (PAIR, [Edit("a", BASE, "new")], "migrate c too, or write the value out in place of the alias"),
        (PAIR, [Edit("c", RANK, 4)], "spec.hyperparameters.adapterSize of a through the alias at f.yaml:4:"),
        (PAIR, [Edit("a", RANK, 4), Edit("c", RANK, 1)], "is shared with spec.hyperparameters.adapterSize of c"),
        (PAIR, [Edit("a", RANK, 8, "rank")], "is shared with spec.hyperparameters.adapterSize of c"),
    ],
)
def test_what_needs_another_change_is_refused_with_its_place(text: str, edits: list[Edit], expected: str) -> None:
    refused = result(text, *edits)
    assert refused.startswith("f.yaml:")
    assert expected in refused


def test_manifests_that_share_a_value_are_changed_where_its_anchor_is() -> None:
    edits = [Edit(name, path, *value) for name in "ac" for path, value in ((BASE, ["new"]), (RANK, [4, "rank"]))]
    assert result(PAIR, *edits) == PAIR.replace("&b old", "&b new").replace("adapterSize: 8", "rank: 4")
    assert result(PAIR, Edit("c", BASE, "new")) == PAIR.replace("*b", "new")


@each_row("before", ["old", "'old'", '"old"'])
def test_every_text_is_written_so_that_it_is_read_again(before: str) -> None:
    for value in (
        "it's",
        '"',
        "#",
        "- x",
        "a: b",
        "a, b",
        "}",
        "null",
        "1",
        " a ",
        "é",
        "😀",
        "a\x85b",
        "\u202e",
        "\\",
    ):
        changed = edited(f"{HEAD}spec: {{baseModel: {before}}}\n".encode(), "f.yaml", [Edit("a", BASE, value)])
        (document,) = parse(changed, "f.yaml").documents
        assert document.value["spec"] == {"baseModel": value}


def test_the_time_is_linear_in_the_number_of_edits() -> None:
    names = [f"x{number}" for number in range(6000)]
    values = ", ".join(f"{name}: old" for name in names)
    edits = [Edit("a", ("spec", name), "new") for name in names]
    began = process_time()
    assert result(f"{HEAD}spec: {{{values}}}\n", *edits) == f"{HEAD}spec: {{{values.replace('old', 'new')}}}\n"
    assert process_time() - began < 4
