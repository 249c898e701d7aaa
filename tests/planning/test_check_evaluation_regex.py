"""Regular expressions: what is refused, and that none takes long."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.planning.check_metrics import ExpressionError, compile_expression
from support.cases import each_row


@each_row(
    ("expression", "text", "is_found"),
    [
        ("^[0-9]+$", "12", True),
        ("^[0-9]+$", "a12", False),
        ("nine", "it is nine", True),
        ("(?i)NINE", "nine", True),
        ("é.$", "xé😀", True),
        (r"\pL{3}", "äöü", True),
        ("", "", True),
    ],
)
def test_expressions_are_searched_for(*, expression: str, text: str, is_found: bool) -> None:
    assert (compile_expression(expression).search(text) is not None) is is_found


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("(", "missing ): ("),
        ("é(", "missing ): é("),
        ("(?=x)", "invalid perl operator: (?="),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("x**", "bad repetition operator: **"),
        ("a{1001}", "invalid repetition size: {1001}"),
        (r"(\pL{500}){2}", "pattern too large - compile failed"),
        (r"\pL{100}", "pattern too large"),
        ("\ud800", "unpaired surrogate"),
    ],
)
def test_what_is_no_expression_is_told_with_the_reason(
    expression: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(expression)
    assert str(caught.value) == reason
    assert tuple(capfd.readouterr()) == ("", "")


def test_an_expression_that_would_run_for_ages_elsewhere_does_not_here() -> None:
    assert compile_expression("^(a+)+$").search("a" * 100_000 + "b") is None
    assert compile_expression("(a|aa)+$").search("a" * 100_000 + "b") is None


@given(st.text())
def test_a_text_is_an_expression_or_is_refused(expression: str) -> None:
    with suppress(ExpressionError):
        compile_expression(expression).search(expression)


def test_the_library_is_loaded_where_an_expression_is_alone() -> None:
    program = (
        "import sys, reconciler.planning.check_evaluation, reconciler.manifests.workspace;"
        "assert 're2' not in sys.modules;"
        "from reconciler.planning.check_metrics import compile_expression;"
        "compile_expression('a'); assert 're2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own program
