"""Text for terminals: folding and colors, and how numbers, times and values are written."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from reconciler.domain.checks import CheckResult, CheckResults, Miss, describe_comparison
from reconciler.domain.document import Document
from reconciler.domain.model import DroppedExamples, ServiceEvaluation
from reconciler.domain.text import join_names, shorten, terminal_safe
from reconciler.planning.costs import Billing
from reconciler.reports.documents.envelope import TargetSummary, run_details, run_of

Role = Literal["heading", "create", "update", "promote", "delete", "hold", "wait", "muted", "warning", "error", "good"]
Style = Callable[[Role, str], str]
"""Colors a text by its role; the text can be understood without."""

_NARROWEST: Final = 20
"""Folding to fewer columns than this reads worse than a line that is too long."""
_HANGING: Final = 6
"""The indent of a body that is put below its head."""
LABEL_WIDTH: Final = 19
"""Columns of a name or a label; longer ones push their own line to the right."""
_ANSI: Final[Mapping[Role, str]] = {
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
Detail = tuple[str, str]
"""A label and its text; an empty label continues the one before."""


def plain(_role: Role, text: str) -> str:
    """Return the text without color."""
    return text


def ansi(role: Role, text: str) -> str:
    """Return the text in the color that a role has on an ANSI terminal."""
    return f"\x1b[{_ANSI[role]}m{text}\x1b[0m"


class Layout(Struct, frozen=True):
    """How to lay out a text: the columns to fold it to (``None``: do not fold), the colors, and how much to show."""

    width: int | None = None
    style: Style = plain
    verbose: bool = False

    def lines(self, head: str, text: str, role: Role | None = None, *, colored: str = "") -> Iterator[str]:
        """Yield the head and beside it the text, both escaped and folded; line breaks in the text are kept.

        The head has the color of the role; ``colored`` is the head of the first line where only a part has a color.
        """
        for position, (margin, line) in enumerate(self._fold_lines(terminal_safe(head), text)):
            shown = self.style(role, margin) if role and margin.strip() else margin
            yield f"{colored if colored and not position else shown}{line}".rstrip()

    def sentences(self, role: Role | None, *texts: str) -> Iterator[str]:
        """Yield each text, escaped and folded, in the color of the role."""
        for text in texts:
            for _, line in self._fold_lines("", text):
                yield self.style(role, line) if role else line

    def details(self, details: Iterable[Detail], *, indent: int = 6, columns: int = LABEL_WIDTH) -> Iterator[str]:
        """Yield a line for each label and its text."""
        for label, text in details:
            yield from self.lines(f"{'':{indent}}{label:<{columns}}", text, "muted")

    def _fold_lines(self, head: str, text: str) -> Iterator[tuple[str, str]]:
        for line in text.split("\n"):
            yield from folded(head, terminal_safe(line), self.width)
            head = " " * len(head)


def run_text(document: Document, layout: Layout) -> str:
    """Return the run that made a document on a few lines; empty if it is unknown."""
    run = run_of(document)
    return "\n".join([*layout.details(run_details(run), indent=0), ""]) if run else ""


def signed_head(sign: str, name: str) -> str:
    """Return the head of a line about a model or generation: its sign and its name."""
    return f"  {sign} {terminal_safe(name):<{LABEL_WIDTH}}  "


def folded(head: str, body: str, width: int | None) -> Iterator[tuple[str, str]]:
    """Yield the body beside its head, folded to ``width`` columns; further lines are indented to the head's length.

    Words are never broken, so that they can be copied. A body with a word that fits into the width but not beside the
    head is put below the head.
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


_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_SHOWN: Final = len("sha256:") + 8
_VALUE_SHOWN: Final = 120
_BYTES: Final = ("B", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1000
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def counted(amount: float, noun: str, plural: str = "") -> str:
    """Return ``1 model`` or ``2 models``; pass ``plural`` where it is not the noun with an s."""
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a rough duration: ``40 s``, ``5 min``, ``3 h``; each unit is used from two of it."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.0f} h"


def age(seconds: float) -> str:
    """Return a rough age: ``5 min``, ``3 h``, and from two days ``40 d``."""
    return duration(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} d"


def elapsed(seconds: float) -> str:
    """Return a measured duration: ``0.2 s``, ``5 min 3 s``."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s"


def clock_time(seconds: float) -> str:
    """Return a remaining time like a clock: ``0:11``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def minute(time: str) -> str:
    """Return an RFC 3339 time to the minute: ``2026-01-31 12:34``."""
    return time[: len("2026-01-31T12:34")].replace("T", " ")


def share(value: float) -> str:
    """Return a share from 0 to 1 as a percentage with three digits: ``92.3 %``."""
    return f"{100 * value:.3g} %"


def size(amount: int) -> str:
    """Return a number of bytes in the largest decimal unit that fits: ``12 MB``."""
    unit = max(unit for unit in range(len(_BYTES)) if not unit or amount >= _THOUSAND**unit)
    return f"{amount / _THOUSAND**unit:.3g} {_BYTES[unit]}"


def loss(value: float | str) -> str:
    """Return a loss with two decimals, or in powers of ten where two decimals are too few or too many."""
    number = float(value)
    plain = number == 0 or 0.01 <= abs(number) < 1e6  # noqa: PLR2004 - the range in which two decimals are readable
    return f"{number:.2f}" if plain else f"{number:.1e}"


def steps_and_loss(steps: int | None, final_loss: float | str | None) -> str:
    """Return ``23 steps, final loss 3.80``, without what is unknown."""
    parts = [counted(steps, "step")] if steps is not None else []
    parts += [f"final loss {loss(final_loss)}"] if final_loss is not None else []
    return ", ".join(parts)


def billing_text(billing: Billing | None) -> str:
    """Return the estimated tokens and cost of a training beside the actual ones; empty until these are known."""
    if billing is None or billing.billed_tokens is None:
        return ""
    paid = f", {billing.cost.rounded}" if billing.cost else ""
    expected = f", {billing.estimated_cost.approximate}" if billing.estimated_cost else ""
    estimate = "" if billing.estimated_tokens is None else f" (estimated: about {billing.estimated_tokens:,}{expected})"
    return f"{billing.billed_tokens:,} billed tokens{paid}{estimate}"


_MOST_DROPPED: Final = 5
"""How many dropped examples a text names."""


def dropped_text(dropped: DroppedExamples) -> str:
    """Return how many examples the service dropped or truncated, and the first of them with their reasons."""
    shown = dropped.sample[:_MOST_DROPPED]
    named = (
        ": ".join(filter(None, [example.place or f"example {example.example}", example.reason])) for example in shown
    )
    more = [f"and {dropped.count - len(shown)} more"] if shown and dropped.count > len(shown) else []
    counts = f"the service dropped or truncated {counted(dropped.count, 'example')}"
    return ": ".join(filter(None, [counts, "; ".join([*named, *more])]))


def value(field: object) -> str:
    """Return the value of a field on one line: digests are shortened, text of several words is quoted."""
    if field is None:
        return "unset"
    if not isinstance(field, str):
        return json.dumps(field)
    if _DIGEST.fullmatch(field):
        return f"{field[:_DIGEST_SHOWN]}…"
    text = field if re.fullmatch(r"\S+", field) else json.dumps(field, ensure_ascii=False)
    return terminal_safe(text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}…")


_SHOWN_CHECKS: Final = 3
_SHOWN_CHARACTERS: Final = 60


def checks_line(report: CheckResults) -> str:
    """Return ``checks passed: 3 of 3`` with the results of evaluations, or the first failed checks and the reasons."""
    failed = [result for result in report.results if result.holds]
    shown = failed or [result for result in report.results if result.interval or not result.passed]
    verdict, count = ("failed", report.failed) if failed else ("passed", report.passed)
    results = [f"{result.name} ({_result(result)})" for result in shown]
    names = [join_names(results, _SHOWN_CHECKS)] if results else []
    return ": ".join([f"checks {verdict}", f"{count} of {len(report.results)}", *names])


def _result(result: CheckResult) -> str:
    """Return how many answers were correct where there were several, and the first miss."""
    if result.answers == 1 and result.misses and not result.interval:
        return _miss(result.misses[0])
    required = "" if result.passed else f", {percent(result.minimum)} required"
    correct = f"{result.passes} of {counted(result.answers, 'answer')} correct{required}"
    if result.interval:
        return "; ".join((f"{correct}, {confidence(result.interval, result.leaked)}", *comparison_details(result)))
    return f"{correct}: {_miss(result.misses[0])}" if result.misses else correct


def percent(number: float) -> str:
    """Return a share from 0 to 1 as a percentage with at most four digits: ``90 %``."""
    return f"{100 * number:.4g} %"


def confidence(interval: Sequence[float], leaked: int = 0) -> str:
    """Return the bounds of a 95 % confidence interval, and how many examples are also in the training data."""
    low, high = interval
    known = f", {counted(leaked, 'example')} also in the training data" if leaked else ""
    return f"{100 * low:.0f} to {100 * high:.0f} % with 95 % confidence{known}"


def comparison_details(result: CheckResult) -> Iterator[str]:
    """Yield how a check compares a generation with other models, and which comparisons were skipped."""
    for comparison in result.comparisons:
        yield describe_comparison(result.score, comparison)
    for other, reason in result.skipped.items():
        yield f"not compared with {other}: {reason}"


def _miss(miss: Miss) -> str:
    return f"{miss.reason}, got {shorten(miss.answer, _SHOWN_CHARACTERS)}" if miss.answer else miss.reason


def report_heading(target: TargetSummary, layout: Layout, *, simulated: bool) -> str:
    """Return the line about the target of a report, in the color of a heading."""
    where = {"project": target.project, "location": target.location, "scope": target.scope}
    places = ", ".join(f"{field} {value}" for field, value in where.items() if value)
    text = f"{target.name}: {target.label}{' (simulated training)' if simulated else ''}, {places}"
    return "\n".join(layout.style("heading", line) for line in layout.lines("Target ", text))


def table(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return the lines of a table; the cells of the columns in ``right`` are aligned to the right."""
    cells = [[terminal_safe(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if position in right else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def notices_text(notices: Iterable[str], layout: Layout) -> str:
    """Return notices as text; empty without notices."""
    return "\n".join(line for notice in notices for line in layout.lines("Note: ", notice, "warning"))


def unchanged_models(unmanaged: int, candidates: int = 0) -> Iterator[str]:
    """Yield a sentence each about unmanaged models and candidates, which a plan never changes."""
    if unmanaged:
        yield f"{counted(unmanaged, 'unmanaged model is', 'unmanaged models are')} not changed."
    if candidates:
        yield f"{counted(candidates, 'candidate is', 'candidates are')} not declared here and not changed."


def checkpoint_text(checkpoint: str) -> str:
    """Return `` checkpoint 2``; empty for the default one."""
    return f" checkpoint {checkpoint}" if checkpoint else ""


def evaluations_text(evaluations: Sequence[ServiceEvaluation]) -> str:
    """Return the scores of the service's evaluations; empty if there are none."""
    return "; ".join(map(_evaluation, evaluations))


def _evaluation(evaluation: ServiceEvaluation) -> str:
    scores = (
        f"{found.metric} {found.score:.2f}{f' ({found.aggregation.lower()})' if found.aggregation else ''}"
        for found in evaluation.metrics
    )
    what = f"checkpoint {evaluation.checkpoint}: " if evaluation.checkpoint else ""
    return what + (", ".join(scores) or evaluation.error or "no scores")
