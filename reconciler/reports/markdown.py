"""Draw documents as Markdown for pull request comments and job summaries: the dialect of GitHub, which GitLab accepts.

Text from manifests and services is untrusted. Everything that Markdown or GitHub could interpret is written in a code
span: it cannot become a link, image, HTML, mention or reference.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Final, Literal
from urllib.parse import quote

from msgspec import Struct

from reconciler.domain.document import Document
from reconciler.domain.text import shorten, terminal_safe
from reconciler.redaction import redact
from reconciler.reports.summary import LEVELS, Level, ReportSummary, SummaryRow, summarize
from reconciler.reports.text.format import Detail, counted


class Limit(Struct, frozen=True):
    """The maximum length of a text: ``size``, as ``measure`` counts, in ``holder``."""

    size: int
    measure: Callable[[str], int]
    holder: str


def utf16_units(text: str) -> int:
    """Return the length of a text in UTF-16: at least its characters, which GitHub counts, and a third of its bytes."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf8_bytes(text: str) -> int:
    """Return the length of a text in bytes of UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


COMMENT: Final = Limit(65_000, utf16_units, "a comment")
"""GitHub allows 65,536 characters; the rest is for a line of the tool that posts the comment."""

_APART: Final = re.compile(r"(\||(?<=<)!(?=--))")
_PEELED: Final = re.compile(r"(?P<before>[(\"']*)(?P<word>.*?)(?P<after>[,;:.!?)\"']*)", re.DOTALL)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}-][^\W\d_]+)*")
_HASH: Final = re.compile(r"[0-9a-f]{7,}", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]{1,6}(?:[.,][0-9]{1,6})?")
_SIGNS: Final = frozenset({"=", "→", "\N{MULTIPLICATION SIGN}", "\N{EN DASH}", "…", "%"})
"""Signs between spaces that have no meaning in Markdown."""


def code(text: str) -> str:
    """Return the text in code spans on one line; empty for an empty text.

    A pipe is written between two spans, because it ends a table cell even inside code. The start of a comment is split
    too, so that a search for a marker finds no untrusted text.
    """
    first, *rest = _APART.split(terminal_safe(redact(text)))  # what is split is not found afterwards
    return _span(first) + "".join(
        f"&#{ord(apart)};{_span(piece)}" for apart, piece in zip(*[iter(rest)] * 2, strict=True)
    )


def _span(text: str) -> str:
    if not text:
        return ""
    runs = {len(run) for run in re.findall("`+", text)}
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    pad = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text.strip(" ") else f"{fence}{text}{fence}"


def prose(text: str) -> str:
    """Return untrusted text as sentences: plain words unchanged, everything else as code; line breaks are kept."""
    return "<br>".join(filter(None, map(_line, redact(text).split("\n"))))


def _line(text: str) -> str:
    words = [_peeled(word, first=not index) for index, word in enumerate(terminal_safe(text).split())]
    return " ".join(_joined(words))


def _peeled(word: str, *, first: bool) -> tuple[str, str, str]:
    """Return a word and the punctuation around it; the word is empty if all of it is safe."""
    found = _PEELED.fullmatch(word)
    before, inner, after = found.group("before", "word", "after") if found else ("", word, "")
    if not inner or _is_plain(inner, after if first else ""):
        return word, "", ""
    return before, inner, after


def _is_plain(word: str, after: str) -> bool:
    """Return whether a word is only a word: not a commit hash, the name of an issue, or the number of a list item.

    ``after`` is the punctuation after the first word of a line.
    """
    if word in _SIGNS:
        return True
    if _NUMBER.fullmatch(word):
        return not after.startswith((".", ")"))
    return bool(_WORD.fullmatch(word)) and not _HASH.fullmatch(word) and ("-" not in word or word.islower())


def _joined(words: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield the words; adjacent unsafe words without punctuation between them share a code span."""
    held: list[str] = []
    opening = ""
    for before, word, after in words:
        if held and (before or not word):
            yield opening + code(" ".join(held))
            held, opening = [], ""
        if not word:
            yield before
            continue
        opening = opening or before
        if after == "," and word.startswith("["):  # an interval is one piece of code
            held.append(word + after)
            continue
        held.append(word)
        if after:
            yield opening + code(" ".join(held)) + after
            held, opening = [], ""
    if held:
        yield opening + code(" ".join(held))


def marker(kind: str, target: str) -> str:
    """Return an invisible line that identifies the comment on a pull request when it is updated.

    It is the same for every document of a kind about a target.
    """
    name = quote(target, safe="", errors="surrogatepass").replace("--", "-%2D")
    return f"<!-- {':'.join(filter(None, ['reconcile', kind.lower(), name]))} -->"


def markdown(document: Document, limit: Limit = COMMENT) -> str:
    """Return the document as Markdown within the limit, with a note about omitted parts.

    Raises:     UsageError: for a kind of document without a summary.
    """
    summary = summarize(document)
    return _fitted(_head(summary), _table(summary.subject), list(_parts(summary)), limit)


_WORDS_SHOWN: Final = 200
_WHY_SHOWN: Final = 400
_DETAIL_SHOWN: Final = 2_000
_DETAILS_SHOWN: Final = 40
_NAMES_SHOWN: Final = 20
_NAME_SHOWN: Final = 60
_LEVEL_SIGNS: Final[Mapping[Level, str]] = {
    "failed": "❌",
    "warning": "⚠️",
    "change": "🔷",
    "note": "💬",
    "good": "✅",
    "quiet": "✅",
}

Section = Literal["warning", "row", "remark", "detail"]
_ORDER: Final[Mapping[Section, int]] = {"warning": 0, "row": 1, "remark": 2, "detail": 3}


class _Part(Struct, frozen=True):
    """A piece that is shown completely or not at all; parts with the highest ranks are omitted first."""

    section: Section
    text: str
    rank: int
    word: str = ""
    name: str = ""


def _head(summary: ReportSummary) -> str:
    about = f" for target {code(shorten(summary.target, _WORDS_SHOWN))}" if summary.target else ""
    lines = [
        marker(summary.kind, summary.target),
        f"### {'❌' if summary.failed else '✅'} {summary.kind}{about}",
        "",
        f"**{prose(shorten(summary.summary, _WHY_SHOWN))}**" if summary.summary else "",
        "",
        _labeled(summary.about),
        "",
        _labeled(summary.run),
        "",
        *(f"- {label}: {code(shorten(text, _WHY_SHOWN))}" for label, text in summary.facts),
    ]
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n")


def _labeled(details: Sequence[Detail]) -> str:
    return " · ".join(f"{label} {code(shorten(text, _WORDS_SHOWN))}" for label, text in details)


def _parts(summary: ReportSummary) -> Iterator[_Part]:
    for warning in summary.warnings:
        yield _Part("warning", f"- ⚠️ {prose(_cut(warning, _DETAIL_SHOWN))}", 1, "warning")
    for remark in summary.remarks:
        yield _Part("remark", f"- {prose(_cut(remark, _DETAIL_SHOWN))}", 5, "remark")
    shown = [row for row in summary.rows if row.level != "quiet"]
    for row in shown:
        rank = 0 if row.level == "failed" else LEVELS.index(row.level) + 1
        yield _Part("row", _table_row(row), rank, row.word, row.name)
        details = ((("why", row.why),) if len(row.why) > _WHY_SHOWN else ()) + row.details
        if details:
            yield _Part("detail", _folded(row, details), rank + 10, row.word, row.name)
    quiet = [row for row in summary.rows if row.level == "quiet"]
    for word, rows in groupby(quiet, key=lambda row: row.word):
        yield _Part("remark", _counted(summary.subject, word, list(rows)), 6, word)


def _table_row(row: SummaryRow) -> str:
    sign = f"{_LEVEL_SIGNS[row.level]} {row.word}"
    place = ":".join([row.file, *(str(line) for line in (row.line,) if line)]) if row.file else ""
    subject = [code(shorten(text, _WORDS_SHOWN)) for text in (row.name, row.part) if text]
    cells = [sign, " ".join(subject), prose(_cut(row.why, _WHY_SHOWN)), code(shorten(place, _WORDS_SHOWN))]
    return f"| {' | '.join(cells)} |"


def _table(subject: str) -> str:
    file = "manifest" if subject == "model" else "file"
    return f"| | {subject} | details | {file} |\n|---|---|---|---|"


def _folded(row: SummaryRow, details: Sequence[Detail]) -> str:
    names = " ".join(f"<code>{_html(shorten(text, _WORDS_SHOWN))}</code>" for text in (row.name, row.part) if text)
    summary = f"<summary>{_LEVEL_SIGNS[row.level]} {names} {row.word}</summary>"
    return "\n".join(["<details>", summary, "", *_listed(details), "", "</details>"])


def _html(text: str) -> str:
    """Return the text for an HTML element, where GitHub does not interpret ``<code>``."""
    return escape(terminal_safe(redact(text)))


def _listed(details: Sequence[Detail]) -> Iterator[str]:
    """Yield labels and texts as a list; a text without a label continues the one before."""
    for label, text in details[:_DETAILS_SHOWN]:
        shown = prose(_cut(text, _DETAIL_SHOWN))
        yield f"- {prose(label)}: {shown}" if label else f"  <br>{shown}"
    if len(details) > _DETAILS_SHOWN:
        yield f"- and {len(details) - _DETAILS_SHOWN} more"


def _counted(subject: str, word: str, rows: Sequence[SummaryRow]) -> str:
    names = ", ".join(code(shorten(row.name, _WORDS_SHOWN)) for row in rows[:_NAMES_SHOWN])
    more = f" and {len(rows) - _NAMES_SHOWN} more" if len(rows) > _NAMES_SHOWN else ""
    return f"- ✅ {counted(len(rows), subject)} {word}: {names}{more}"


def _cut(text: str, room: int) -> str:
    """Return a text of several lines, cut if it is longer than the room."""
    return text if len(text) <= room else f"{text[:room]}… ({len(text) - room} more characters)"


_NOTE_ROOM: Final = 4_000
"""The maximum length of the note about omitted parts."""


def _fitted(head: str, table: str, parts: Sequence[_Part], limit: Limit) -> str:
    """Return the head and the parts in order, without those of the highest ranks that do not fit.

    ``table`` is the beginning of the table with the rows.
    """
    whole = _laid_out(head, table, parts)
    if limit.measure(whole) <= limit.size:
        return whole
    reserve = min(_NOTE_ROOM, limit.size // 4)
    room = limit.size - limit.measure(f"{head}\n\n{table}\n\n") - reserve
    kept_positions: set[int] = set()
    for position, part in sorted(enumerate(parts), key=lambda numbered: (numbered[1].rank, numbered[0])):
        needed = limit.measure(part.text) + 4
        if needed <= room:
            room -= needed
            kept_positions.add(position)
    kept = [part for position, part in enumerate(parts) if position in kept_positions]
    omitted = [part for position, part in enumerate(parts) if position not in kept_positions]
    note = _left_out(parts, omitted, limit, named=True)
    if limit.measure(note) > reserve:
        note = _left_out(parts, omitted, limit, named=False)
    return _laid_out(head, table, [*kept, _Part("detail", note, 99)])


def _laid_out(head: str, table: str, parts: Sequence[_Part]) -> str:
    blocks = [head]
    for section, members in groupby(sorted(parts, key=lambda part: _ORDER[part.section]), lambda part: part.section):
        texts = [part.text for part in members]
        begin = [table] if section == "row" else []
        blocks.append("\n\n".join(texts) if section == "detail" else "\n".join([*begin, *texts]))
    return "\n\n".join(blocks) + "\n"


_SECTION_WORDS: Final[Mapping[Section, str]] = {
    "row": "rows",
    "detail": "details",
    "warning": "warnings",
    "remark": "remarks",
}


def _left_out(parts: Sequence[_Part], omitted: Sequence[_Part], limit: Limit, *, named: bool) -> str:
    """Return how many parts of each kind are omitted, with the first names if there is room."""
    whole, omitted_counts = (Counter(part.section for part in counted_parts) for counted_parts in (parts, omitted))
    which = {word: _which([part for part in omitted if part.section == word], named=named) for word in omitted_counts}
    counts = [
        f"{omitted_counts[section]} of {whole[section]} {word}{which[section]}"
        for section, word in _SECTION_WORDS.items()
        if omitted_counts[section]
    ]
    return f"**Omitted, because {limit.holder} is full:** {'; '.join(counts)}. A report in JSON is complete."


def _which(omitted: Sequence[_Part], *, named: bool) -> str:
    """Return the kinds of omitted parts, and the first names."""
    named_parts = [part for part in omitted if part.name]
    if not named_parts:
        return ""
    kinds = ", ".join(f"{count} {word}" for word, count in Counter(part.word for part in named_parts).items())
    if not named:
        return f" ({kinds})"
    names = ", ".join(code(shorten(part.name, _NAME_SHOWN)) for part in named_parts[:_NAMES_SHOWN])
    more = f" and {len(named_parts) - _NAMES_SHOWN} more" if len(named_parts) > _NAMES_SHOWN else ""
    return f" ({kinds}: {names}{more})"
