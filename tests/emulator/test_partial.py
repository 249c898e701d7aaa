from __future__ import annotations

from typing import Any

import pytest

from reconciler.emulator import proto
from reconciler.emulator.errors import ApiError
from reconciler.emulator.proto import message
from reconciler.emulator.service import includes, parse_fields, select
from support.cases import each_row

LEAF = message("Leaf", x=proto.STRING, longName=proto.STRING)
TREE = message(
    "Tree", a=proto.STRING, b=proto.single(LEAF), many=proto.repeated(message("Sub", leaf=proto.single(LEAF)))
)
LEAVES = {"x": "1", "longName": "2"}
VALUE = {"a": "A", "b": LEAVES, "many": [{"leaf": LEAVES}, {}]}


@each_row(
    ("fields", "selected"),
    [
        ("", VALUE),
        ("*", VALUE),
        ("a", {"a": "A"}),
        ("a, b/x", {"a": "A", "b": {"x": "1"}}),
        ("b/long_name", {"b": {"longName": "2"}}),
        ("b(x,longName)", {"b": LEAVES}),
        ("b(*)", {"b": LEAVES}),
        ("b/*", {"b": LEAVES}),
        ("b/x,b/longName", {"b": LEAVES}),
        ("b/x,b", {"b": LEAVES}),
        ("b,b/x", {"b": LEAVES}),
        ("many/leaf/x", {"many": [{"leaf": {"x": "1"}}, {}]}),
        ("many(leaf(x)),a", {"a": "A", "many": [{"leaf": {"x": "1"}}, {}]}),
        ("many/leaf(x),many/leaf/longName", {"many": [{"leaf": LEAVES}, {}]}),
    ],
)
def test_only_the_selected_fields_are_left(fields: str, selected: Any) -> None:
    assert select(VALUE, parse_fields(fields, TREE)) == selected


@each_row(
    ("fields", "path"),
    [
        ("foo", "foo"),
        ("b/foo", "foo"),
        ("a/x", "a/x"),
        ("*/x", "*/x"),
        ("b(x", "b(x"),
        ("b(x))", "b(x))"),
        ("a,,b", ","),
        ("a,", "a,"),
        ("b/", "b/"),
        ("a;b", "a;b"),
        (")", ")"),
    ],
)
def test_what_cannot_be_selected_is_refused(fields: str, path: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_fields(fields, TREE)
    assert caught.value.message == (
        "Request contains an invalid argument. "
        f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'."
    )


def test_an_endless_parameter_is_refused() -> None:
    with pytest.raises(ApiError, match="Cannot find matching fields"):
        parse_fields("b(" * 100_000, TREE)


def test_what_is_selected_can_be_asked_for() -> None:
    selection = parse_fields("a,b/x", TREE)
    assert includes(selection, "a")
    assert includes(selection, "b", "x")
    assert not includes(selection, "b", "longName")
    assert not includes(selection, "many", "leaf")
    assert includes(None, "many", "leaf", "x")
    assert includes(parse_fields("many", TREE), "many", "leaf", "x")
