"""Amounts of money, as manifests and catalogs write them: ``50 USD``."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from msgspec import Meta

from reconciler.domain.document import Record

PATTERN: Final = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,4})? USD$"
_TEXT: Final = re.compile(PATTERN)
_DECIMALS: Final = 6
_CENT: Final = 0.01
_MOST: Final = 1e12
"""The largest amount; a larger one counts as this one, because totals of edited files must be numbers."""


class Money(Record, frozen=True):
    """An amount of money."""

    amount: Annotated[float, Meta(ge=0, le=_MOST)]
    """The amount."""
    currency: Literal["USD"]
    """The currency."""

    def __str__(self) -> str:
        """Return the amount as it is declared: ``50 USD``, ``0.125 USD``."""
        whole, _, decimals = f"{self.amount:.4f}".rstrip("0").partition(".")
        return f"{whole}{f'.{decimals:0<2}' if decimals else ''} {self.currency}"

    @property
    def rounded(self) -> str:
        """The amount in whole cents."""
        less = 0 < self.amount < _CENT
        return f"less than {_CENT} {self.currency}" if less else f"{self.amount:,.2f} {self.currency}"

    @property
    def approximate(self) -> str:
        """The amount as an estimate."""
        return self.rounded if 0 < self.amount < _CENT else f"about {self.rounded}"


def dollars(amount: float) -> Money:
    """Return an amount in US dollars, without the errors of floating-point numbers."""
    return Money(round(min(amount, _MOST), _DECIMALS), "USD")


def parse_money(text: str) -> Money:
    """Return an amount such as ``50 USD``; raises ValueError for any other text."""
    if not _TEXT.fullmatch(text):
        raise ValueError("expected an amount in US dollars")
    return dollars(float(text.removesuffix(" USD")))
