"""graph on the command line: real lineages, real lockfiles, no service."""

from __future__ import annotations

from textwrap import dedent

import pytest

from support.cli_world import Cli
from support.render_values import held_to

HEAD = "Target default: embedded service (simulated training), scope demo\n"


def child(reconcile: Cli, name: str, source: str, *, epochs: int = 2) -> None:
    file = reconcile.manifest(name, epochs=epochs)
    file.write_text(file.read_text().replace("baseModel: models/gemini-3.5-flash", f"source: {source}"))


@pytest.fixture
def family(reconcile: Cli) -> Cli:
    """A model, and two that are tuned from it; nothing was applied yet."""
    reconcile.manifest("adder")
    child(reconcile, "adder-fine", "{tunedModel: adder}")
    child(reconcile, "adder-other", "{tunedModel: adder}")
    return reconcile


def test_a_family_before_and_after_it_is_trained(family: Cli) -> None:
    assert family("graph").out == HEAD + dedent(
        """\
        models/gemini-3.5-flash
        └── adder  no generation is recorded
            ├── adder-fine  no generation is recorded
            └── adder-other  no generation is recorded
        """
    )
    assert family("apply", "--yes").status == 0
    serving = {name: model["serving"] for name, model in family.lock.items()}

    answer = family("graph")

    assert (answer.status, answer.err) == (0, "")
    assert answer.out == HEAD + dedent(
        f"""\
        models/gemini-3.5-flash
        └── adder  {serving["adder"]} is serving
            ├── adder-fine  {serving["adder-fine"]} is serving
            └── adder-other  {serving["adder-other"]} is serving
        """
    )
    document = held_to("graph", family("graph", "--format", "json").document)
    assert [(node["id"], node.get("parent")) for node in document["nodes"]] == [
        ("n1", None),
        ("n2", "n1"),
        ("n3", "n2"),
        ("n4", "n2"),
    ]
    assert document["nodes"][2]["serving"] == {
        "key": serving["adder-fine"],
        "state": "ACTIVE",
        "from": serving["adder"],
    }
    assert family("graph", "--format", "mermaid").out == dedent(
        f"""\
        flowchart TD
            n1(["models/gemini-3.5-flash"])
            n2["adder<br/>{serving["adder"]} is serving"]
            n1 --> n2
            n3["adder-fine<br/>{serving["adder-fine"]} is serving"]
            n2 --> n3
            n4["adder-other<br/>{serving["adder-other"]} is serving"]
            n2 --> n4
        """
    )


def test_graph_sends_no_request_and_changes_nothing(family: Cli) -> None:
    family("apply", "--yes")
    before = family.lock_file.read_bytes()
    (family.specs / ".reconcile" / "default.sqlite3").unlink()
    assert family("graph").status == 0
    assert not (family.specs / ".reconcile" / "default.sqlite3").exists()
    assert family.lock_file.read_bytes() == before


def test_held_manifests_and_orphans_are_shown(family: Cli) -> None:
    family("apply", "--yes")
    (family.specs / "adder-other.yaml").unlink()
    file = family.specs / "adder.yaml"
    file.write_text(file.read_text().replace("epochCount: 2", "epochCount: 3") + "  lifecycle: {suspend: true}\n")

    lines = family("graph").out.splitlines()

    assert lines[2].endswith(" is serving, held: Suspended")
    assert lines[4].endswith(" is serving, orphaned")
    nodes = family("graph", "--format", "json").document["nodes"]
    assert nodes[1]["held"]["reason"] == "Suspended"
    assert nodes[1]["held"]["message"]
    assert [node["declared"] for node in nodes[1:]] == [True, True, False]


def test_a_model_from_outside_is_a_root(reconcile: Cli) -> None:
    child(reconcile, "further", "{remote: tunedModels/theirs-1}")
    assert reconcile("graph").out == HEAD + dedent(
        """\
        tunedModels/theirs-1  no manifest
        └── further  no generation is recorded
        """
    )


def test_problems_of_the_input_are_told(reconcile: Cli) -> None:
    child(reconcile, "one", "{tunedModel: two}")
    child(reconcile, "two", "{tunedModel: one}")
    answer = reconcile("graph")
    assert (answer.status, answer.out) == (1, "")
    assert "specs/one.yaml:" in answer.err


def test_an_invalid_format_is_a_usage_error(reconcile: Cli) -> None:
    answer = reconcile("graph", "--format", "dot")
    assert answer.status == 64
    assert "'dot' is not one of 'text', 'mermaid', 'json'" in answer.err
