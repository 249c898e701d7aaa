"""The lineage as a document, as a tree, and for Mermaid."""

from __future__ import annotations

import html
import re
from textwrap import dedent

from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from reconciler.domain.errors import Place
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Dataset, Manifest, Source, State
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.domain.text import encodable, terminal_safe
from reconciler.manifests.schema_validation import SCHEMA_KINDS
from reconciler.reports.documents.graph import GraphInput, GraphReport, NodeHold, graph_report
from reconciler.reports.text.format import ansi
from reconciler.reports.text.graph import graph_mermaid, mermaid_safe
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import ACTIVE, LOCKFILE, SIMULATED, TARGET, held_to, locks, names, uncoloured

BASE = Source("models/gemini-3.5-flash")
NOTHING = Lock()


def manifest(name: str, source: Source = BASE) -> Manifest:
    return Manifest(name, f"{name}.yaml", Place(f"specs/{name}.yaml"), source, Dataset("sha256:0", "", 20))


def below(parent: str, key: str = "") -> Source:
    return Source(tuned_model=parent, key=key)


def generation(key: str, source: Source = BASE, state: State = State.ACTIVE) -> LockedGeneration:
    return replace(ACTIVE, key=key, remote=f"tunedModels/{key}", source=source, state=state)


def model(*generations: LockedGeneration, serving: str | None = None, rejected: tuple[str, ...] = ()) -> LockedModel:
    return LockedModel("gone.yaml", serving, rejected, generations=generations)


def drawn(lock: Lock, *manifests: Manifest, **holds: Reason) -> GraphReport:
    held = {name: Action(name, "", Kind.HOLD, reason, message="because") for name, reason in holds.items()}
    lineage = GraphInput(manifests, lock, LOCKFILE, held)
    report = graph_report(lineage, TARGET, SIMULATED, root="specs")
    assert convert(held_to("graph", report), GraphReport) == report
    return report


def tree(report: GraphReport) -> str:
    """The text without its first line, which is every document's."""
    return render_text(report).partition("\n")[2] + "\n"


FAMILY = (
    manifest("adder"),
    manifest("adder-fine", below("adder")),
    manifest("adder-finest", below("adder-fine")),
    manifest("adder-other", below("adder")),
    manifest("borrowed", Source(remote="tunedModels/theirs-1")),
    manifest("words", Source("models/aqa")),
)


def test_what_is_tuned_from_it_hangs_below_a_model() -> None:
    assert tree(drawn(NOTHING, *FAMILY)) == dedent(
        """\
        models/aqa
        └── words  no generation is recorded
        models/gemini-3.5-flash
        └── adder  no generation is recorded
            ├── adder-fine  no generation is recorded
            │   └── adder-finest  no generation is recorded
            └── adder-other  no generation is recorded
        tunedModels/theirs-1  no manifest
        └── borrowed  no generation is recorded
        """
    )


def test_the_first_line_names_the_target() -> None:
    first = render_text(drawn(NOTHING)).splitlines()
    assert first == [
        "Target default: embedded service (simulated training), scope demo",
        "No model is declared or recorded.",
    ]


def test_what_is_recorded_is_told() -> None:
    lock = Lock(
        models={
            "adder": model(generation("adder-new", state=State.CREATING), generation("adder-old"), serving="adder-old"),
            "adder-fine": model(
                generation("fine-2", below("adder", "adder-old")),
                generation("fine-1", below("adder", "adder-older")),
                serving="fine-1",
                rejected=("fine-0", "fine-00"),
            ),
            "adder-finest": model(generation("finest-1", state=State.MISSING), serving="finest-1"),
            "adder-other": model(generation("other-1", state=State.FAILED)),
        }
    )
    assert tree(drawn(lock, *FAMILY[:4], **{"adder-fine": Reason.CHECKS_FAILED})) == dedent(
        """\
        models/gemini-3.5-flash
        └── adder  adder-old is serving, adder-new is training
            ├── adder-fine  fine-1 is serving (tuned from adder-older, which is not serving), fine-2 is ready, \
held: ChecksFailed, rejected: fine-0 fine-00
            │   └── adder-finest  finest-1 is serving, but is missing
            └── adder-other  other-1 failed
        """
    )


def test_an_orphan_hangs_below_what_its_last_generation_was_tuned_from() -> None:
    lock = Lock(
        models={
            "adder": model(generation("adder-1"), serving="adder-1"),
            "old": model(generation("old-1", below("adder", "adder-1")), serving="old-1"),
            "empty": model(),
        }
    )
    document = drawn(lock, manifest("adder"))
    assert tree(document) == dedent(
        """\
        models/gemini-3.5-flash
        └── adder  adder-1 is serving
            └── old  old-1 is serving, orphaned
        empty  no generation is recorded, orphaned
        """
    )
    assert [node.declared for node in document.nodes[1:]] == [True, False, False]
    assert "    n2 -.-> n3" in graph_mermaid(document).splitlines()


def test_a_parent_that_nobody_knows_is_a_root() -> None:
    assert tree(drawn(NOTHING, manifest("child", below("parent")))) == dedent(
        """\
        parent  no generation is recorded, not declared here
        └── child  no generation is recorded
        """
    )


def test_a_circle_in_an_edited_lockfile_is_cut_open() -> None:
    lock = Lock(
        models={
            "a": model(generation("a-1", below("b"))),
            "b": model(generation("b-1", below("a"))),
            "c": model(generation("c-1", below("b"))),
        }
    )
    assert [line.rpartition("  ")[0] for line in tree(drawn(lock)).splitlines()] == ["a", "└── b", "    └── c"]


def test_a_long_line_of_descent_is_drawn() -> None:
    line = [manifest("m0"), *(manifest(f"m{depth}", below(f"m{depth - 1}")) for depth in range(1, 1200))]
    assert render_text(drawn(NOTHING, *line)).splitlines()[-1].endswith("└── m1199  no generation is recorded")


def test_the_document_says_why_a_model_is_held() -> None:
    (_, node) = drawn(NOTHING, manifest("adder"), adder=Reason.FAILED).nodes
    assert node.held == NodeHold(Reason.FAILED, "because")
    assert "Graph" in SCHEMA_KINDS


def test_a_flowchart_for_mermaid() -> None:
    lock = Lock(models={"adder": model(generation("adder-1"), serving="adder-1")})
    assert graph_mermaid(drawn(lock, manifest("adder"))) + "\n" == dedent(
        """\
        flowchart TD
            n1(["models/gemini-3.5-flash"])
            n2["adder<br/>adder-1 is serving"]
            n1 --> n2
        """
    )


# Each of these was drawn with Mermaid 11, and showed as it is written here.
@each_row(
    ("hostile", "shown"),
    [
        ("models/gemini-3.5-flash_001", "models/gemini-3.5-flash_001"),
        ('"]; click n1 call alert(1)', "#34;#93;#59; click n1 call alert#40;1#41;"),
        ("`*bold*`", "#96;#42;bold#42;#96;"),
        ("%%{init: {}}%%", "#37;#37;#123;init#58; #123;#125;#125;#37;#37;"),
        ("style a:#f00;", "style a#58;#35;f00#59;"),
        ("1. one", "1#46; one"),
        ("- item", "#45; item"),
        ("<img src=x>", "#60;img src#61;x#62;"),
        ("#quot;", "#35;quot#59;"),
        ("__x__", "#95;#95;x#95;#95;"),
        ("fa:fa-car", "fa#58;#8203;fa-car"),
        ("$$x$$", "#36;#8203;#36;x#36;#8203;#36;"),
        ("\ufb02\xb034\xb6\xdf", "\ufb02#8203;#176;34#182;#8203;\xdf"),
        ("a\nb", "a#92;#8203;nb"),
        ("\u202e", "#92;u202e"),
        ("  two  words", "#32;#32;two #32;words"),
    ],
)
def test_hostile_text_stays_text_in_mermaid(hostile: str, shown: str) -> None:
    assert mermaid_safe(hostile) == shown


@given(st.text())
def test_any_text_is_a_label_and_can_be_read_back(text: str) -> None:
    safe = mermaid_safe(text)
    assert not re.search(r'["`%<>&:(){}\[\]|\\*\n]', safe)
    assert html.unescape(re.sub(r"#(\d+);", r"&#\1;", safe)).replace("\u200b", "") == terminal_safe(text)


def test_hostile_names_do_nothing_in_a_tree() -> None:
    document = drawn(NOTHING, manifest("adder", Source(remote="\x1b[2J\ntunedModels/x")))
    assert tree(document).splitlines()[0] == r"\x1b[2J\ntunedModels/x  no manifest"


def test_a_poor_encoding_gets_a_tree_of_plain_signs() -> None:
    assert encodable(tree(drawn(NOTHING, *FAMILY[:3])), "ascii") == dedent(
        """\
        models/gemini-3.5-flash
        `-- adder  no generation is recorded
            `-- adder-fine  no generation is recorded
                `-- adder-finest  no generation is recorded
        """
    )
    assert encodable("├── a\n│   └── b", "ascii") == "|-- a\n|   `-- b"


sources = (
    st.builds(Source, st.text(min_size=1)) | st.builds(below, names) | st.builds(Source, remote=st.text(min_size=1))
)
recorded = st.builds(
    lambda lock, source: replace(
        lock,
        models={
            name: replace(one, generations=tuple(replace(each, source=source) for each in one.generations))
            for name, one in lock.models.items()
        },
    ),
    locks,
    sources,
)


@given(recorded, st.dictionaries(names, sources, max_size=4).map(dict))
def test_everything_can_be_drawn(lock: Lock, declared: dict[str, Source]) -> None:
    manifests = (manifest(name, source) for name, source in declared.items())
    document = drawn(lock, *(one for one in manifests if one.source.tuned_model not in declared))
    shown = {node.name for node in document.nodes if node.kind == "model"}
    assert shown >= lock.models.keys()
    text = render_text(document)
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []
    assert uncoloured(render_text(document, style=ansi)) == text
    assert len(text.split("\n")) == 1 + max(1, len(document.nodes))
    assert len(graph_mermaid(document).split("\n")) == 1 + len(document.nodes) + sum(
        one.parent is not None for one in document.nodes
    )
