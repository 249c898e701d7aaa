from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.identity import NAME_PATTERN, key_of
from reconciler.domain.model import Mark
from reconciler.providers.vertex.wire import read_labels, scope_label, write_labels
from support.cases import each_row

SCOPES = st.from_regex(r"[a-z0-9][a-z0-9./_-]{0,62}", fullmatch=True)
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda data: f"sha256:{data.hex()}")
MARKS = st.builds(
    Mark,
    scope=SCOPES,
    name=st.from_regex(NAME_PATTERN, fullmatch=True),
    spec=DIGESTS,
    data=DIGESTS,
    attempt=st.integers(0, 999_999_999),
)
MARK = Mark("acme/nlp", "number-generator", f"sha256:{'ab' * 32}", f"sha256:{'00' * 32}", 3)
LABELS = {
    "managed-by": "reconcile",
    "reconcile-key": "number-generator-vov2xk5l",
    "reconcile-scope": "mfrw2zjpnzwha",
    "reconcile-name": "number-generator",
    "reconcile-spec": "vov2xk5l" * 6 + "vovq",
    "reconcile-data": "a" * 52,
    "reconcile-attempt": "3",
}


def test_the_labels_of_a_mark_never_change() -> None:
    assert write_labels(MARK) == LABELS
    assert read_labels(LABELS) == MARK


@given(MARKS)
def test_a_mark_comes_back_from_its_labels(mark: Mark) -> None:
    labels = write_labels(mark)
    assert read_labels(labels) == mark
    assert read_labels({**labels, "team": "nlp"}) == mark
    assert labels["reconcile-key"] == key_of(mark)
    assert labels["reconcile-scope"] == scope_label(mark.scope)


@given(MARKS)
def test_labels_hold_what_labels_may(mark: Mark) -> None:
    for name, value in write_labels(mark).items():
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name)
        assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)


def test_a_long_scope_takes_two_labels() -> None:
    labels = write_labels(Mark("x" * 63, "n", MARK.spec, MARK.data))
    assert [len(labels[name]) for name in ("reconcile-scope", "reconcile-scope-2")] == [60, 41]
    assert scope_label("x" * 62 + "y") == scope_label("x" * 63)


@each_row("name", LABELS)
@each_row(
    "value", [None, "", "A", "8", "x", "a" * 51, "a" * 53, "mfrw2zjpnzwhb", "mfrw2zjpnzwha===", "٣", "03", "é", 3, []]
)
def test_labels_that_are_not_exactly_of_this_project_have_no_mark(name: str, value: Any) -> None:
    changed = {**LABELS, name: value} if value is not None else {key: LABELS[key] for key in LABELS if key != name}
    mark = read_labels(changed)
    assert mark is None or write_labels(mark) == changed != LABELS


@given(st.none() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()))
def test_anything_else_has_no_mark(labels: Any) -> None:
    assert read_labels(labels) is None


@given(st.fixed_dictionaries({name: st.text("abcdefghijklmnopqrstuvwxyz234567-_", max_size=63) for name in LABELS}))
def test_reading_labels_never_fails(labels: dict[str, str]) -> None:
    assert read_labels(labels) is None
