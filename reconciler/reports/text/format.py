"""Numbers, times and values as people read them."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Final, Literal

from reconciler.domain.checks import CheckReport, CheckResult, Miss
from reconciler.domain.text import shorten
from reconciler.reports.text.escape import terminal_safe

Role = Literal["heading", "create", "update", "promote", "delete", "hold", "wait", "muted", "warning", "error", "good"]
Style = Callable[[Role, str], str]
"""Colours a piece of text by its role; it adds nothing that is needed to understand the text."""

_NARROWEST: Final = 20
"""Folding to fewer columns than this is worse than a line that is too long."""

_HANGING: Final = 6
"""The indent of a body that is put below its head."""

_ANSI: Final[dict[Role, str]] = {
    "heading": "1",
    "create": "32",
    "update": "33",
    "promote": "36",
    "delete": "31",
    "hold": "31",
    "wait": "34",
    "muted": "2",
    "warning": "33",
    "error": "31",
    "good": "32",
}


def plain(_role: Role, text: str) -> str:
    """No colour."""
    return text


def ansi(role: Role, text: str) -> str:
    """The colours of an ANSI terminal."""
    return f"\x1b[{_ANSI[role]}m{text}\x1b[0m"


def folded(head: str, body: str, width: int | None) -> Iterator[tuple[str, str]]:
    """The body beside its head, folded to ``width`` columns; each further line is indented to the head's length.

    Words are never broken, so that what is copied stays whole. A body with a word that fits into the width and not
    beside the head stands below the head.
    """
    if width is None:
        yield head, body
        return
    room = max(width - len(head), _NARROWEST)
    if room < max(map(len, body.split()), default=0) <= width - _HANGING:
        yield head.rstrip(), ""
        head, room = " " * _HANGING, width - _HANGING
    lines = textwrap.wrap(body, room, break_long_words=False, break_on_hyphens=False) or [""]
    yield head, lines[0]
    yield from ((" " * len(head), line) for line in lines[1:])


def told(head: str, text: str, width: int | None) -> Iterator[tuple[str, str]]:
    """A text from anywhere beside its head, made safe and folded; its own lines stay lines, all of them indented."""
    for line in text.split("\n"):
        yield from folded(head, terminal_safe(line), width)
        head = " " * len(head)


_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_SHOWN: Final = len("sha256:") + 8
_VALUE_SHOWN: Final = 120
_BYTES: Final = ("B", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1000
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def counted(amount: int, noun: str, plural: str = "") -> str:
    """``1 model``, ``2 models``; ``plural`` is given where it does not end in s."""
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A rough duration: ``40 s``, ``5 min``, ``3 h``; each unit from two of it on."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.0f} h"


def age(seconds: float) -> str:
    """How old something is, roughly: ``5 min``, ``3 h``, and in days from two on: ``40 d``."""
    return duration(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} d"


def elapsed(seconds: float) -> str:
    """A measured duration: ``0.2 s``, ``5 min 3 s``."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s"


def clock_time(seconds: float) -> str:
    """A time left as a clock shows it: ``0:11``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def minute(time: str) -> str:
    """An RFC 3339 time cut to minutes: ``2026-01-31 12:34``."""
    return time[: len("2026-01-31T12:34")].replace("T", " ")


def share(value: float) -> str:
    """A share as a percentage of three digits: ``92.3 %``."""
    return f"{100 * value:.3g} %"


def size(amount: int) -> str:
    """A number of bytes in the largest decimal unit of which there is one: ``12 MB``."""
    unit = max(unit for unit in range(len(_BYTES)) if not unit or amount >= _THOUSAND**unit)
    return f"{amount / _THOUSAND**unit:.3g} {_BYTES[unit]}"


def loss(value: float | str) -> str:
    """A loss with two decimals, or in powers of ten where two decimals say nothing; ``nan`` and ``inf`` as they are."""
    number = float(value)
    plain = number == 0 or 0.01 <= abs(number) < 1e6  # noqa: PLR2004 - the range in which two decimals are readable
    return f"{number:.2f}" if plain else f"{number:.1e}"


def steps_and_loss(steps: int | None, final_loss: float | str | None) -> str:
    """``23 steps, final loss 3.80``, as far as they are known."""
    parts = [counted(steps, "step")] if steps is not None else []
    parts += [f"final loss {loss(final_loss)}"] if final_loss is not None else []
    return ", ".join(parts)


def value(one: object) -> str:
    """A value of a field, on one line: digests cut short, text that is more than a word in quotes."""
    if one is None:
        return "unset"
    if not isinstance(one, str):
        return json.dumps(one)
    if _DIGEST.fullmatch(one):
        return f"{one[:_DIGEST_SHOWN]}…"
    bare = one if re.fullmatch(r"\S+", one) else json.dumps(one, ensure_ascii=False)
    return terminal_safe(bare if len(bare) <= _VALUE_SHOWN else f"{bare[:_VALUE_SHOWN]}…")


_SHOWN_CHECKS: Final = 3
_SHOWN_CHARACTERS: Final = 60


def checks_line(report: CheckReport) -> str:
    """``checks passed: 3 of 3``, with how evaluations did; or the first checks that failed, and why."""
    failed = [one for one in report.results if not one.passed]
    shown = failed or [one for one in report.results if one.interval]
    told = [f"{one.name} ({_words(one)})" for one in shown[:_SHOWN_CHECKS]]
    told += [f"and {len(shown) - _SHOWN_CHECKS} more"] if len(shown) > _SHOWN_CHECKS else []
    verdict, count = ("failed", report.failed) if failed else ("passed", report.passed)
    return ": ".join([f"checks {verdict}", f"{count} of {len(report.results)}", *filter(None, [", ".join(told)])])


def _words(one: CheckResult) -> str:
    """How many answers were right where there were several, and what is wrong with the first of those that were not."""
    if one.answers == 1 and one.misses and not one.interval:
        return _miss(one.misses[0])
    needed = "" if one.passed else f", at least {100 * one.minimum:.4g} % needed"
    right = f"{one.passes} of {one.answers} right{needed}"
    if one.interval:
        return f"{right}{_reliance(one.interval, one.leaked)}"
    return f"{right}: {_miss(one.misses[0])}" if one.misses else right


def _reliance(interval: tuple[float, float], leaked: int) -> str:
    low, high = interval
    known = f", {leaked} examples known from the training" if leaked else ""
    return f", {100 * low:.0f} to {100 * high:.0f} % with 95 % confidence{known}"


def _miss(miss: Miss) -> str:
    return f"{miss.reason}, got {shorten(miss.answer, _SHOWN_CHARACTERS)}" if miss.answer else miss.reason
