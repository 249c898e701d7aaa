"""Regular expressions in RE2's syntax (https://github.com/google/re2/wiki/Syntax): searched for in linear time."""

from __future__ import annotations

from functools import cache
from typing import Protocol

_MOST_INSTRUCTIONS = 50_000
"""The largest program of an expression. The time of a search is at worst this, times the length of the text."""


class Expression(Protocol):
    """A compiled expression."""

    def search(self, text: str) -> object | None:
        """Something where the expression is found in the text, else ``None``; the text must have a form in UTF-8."""
        ...


class ExpressionError(ValueError):
    """The text is no regular expression of RE2, or one that takes too long; the message is the reason."""


@cache
def compiled(expression: str) -> Expression:
    """The expression, ready to be searched for; raises ExpressionError, with the library's own reason."""
    # Here, because most runs compare nothing with expressions.
    import re2  # type: ignore[import-untyped]  # the library has no types

    options = re2.Options()
    options.log_errors = False  # it would write to standard error itself
    try:
        found = re2.compile(expression, options)
    except re2.error as error:
        raise ExpressionError(_reason(error.args[0])) from None
    except UnicodeEncodeError:
        raise ExpressionError("half of a surrogate pair") from None
    if found.programsize > _MOST_INSTRUCTIONS:
        raise ExpressionError("pattern too large")
    searchable: Expression = found
    return searchable


def _reason(told: str | bytes) -> str:
    """What the library says; most of it as bytes."""
    return told.decode(errors="replace") if isinstance(told, bytes) else told
