"""How checks went, in a line."""

from __future__ import annotations

from typing import Final

from reconciler.core.checks import CheckReport, CheckResult, Miss
from reconciler.core.shorten import shortened

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
    return f"{miss.why}, got {shortened(miss.answer, _SHOWN_CHARACTERS)}" if miss.answer else miss.why
