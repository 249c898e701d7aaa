"""What plain scalars mean, by the examples of the core schema and by what YAML 1.1 got wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.manifests.yaml_parser import parse_scalar
from support.cases import each_row


@each_row(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-19", -19),
        ("+12", 12),
        ("010", 10),
        ("0o17", 15),
        ("0x3A", 58),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("0.", 0.0),
        (".5", 0.5),
        ("-2E+05", -200000.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("+.inf", math.inf),
    ],
)
def test_core_schema_values(text: str, value: object) -> None:
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


@each_row(
    "text",
    [
        "no",
        "yes",
        "on",
        "off",
        "y",
        "12:30",
        "190:20:30",
        "2026-11-22",
        "1_000",
        "0b11",
        "-0o7",
        "-",
        ".",
        "1.2.3",
        "+",
        "nULL",
    ],
)
def test_what_yaml_1_1_made_other_things_of_is_text(text: str) -> None:
    assert parse_scalar(text) == text


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_scalar(".nan"))  # type: ignore[arg-type] # that it is a number is what is asserted


def test_an_integer_beyond_conversion_is_refused() -> None:
    with pytest.raises(ValueError, match="4300 digits"):
        parse_scalar("1" * 5000)


@given(st.integers() | st.floats(allow_nan=False))
def test_python_numbers_read_back(number: float) -> None:
    text = {"inf": ".inf", "-inf": "-.inf"}.get(repr(number), repr(number))
    assert parse_scalar(text) == number
