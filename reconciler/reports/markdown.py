"""Documents as Markdown for a comment on a pull request or a job's summary: GitHub's dialect, which GitLab reads too.

Text from manifests and services is untrusted. Whatever of it Markdown or GitHub could take for more than a word stands
in a code span, in which neither looks for anything: no link, image, HTML, mention or reference comes of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Final, Literal
from urllib.parse import quote

from reconciler.domain.text import shorten
from reconciler.reports.documents.envelope import Document
from reconciler.reports.summary import LEVELS, Level, ReportSummary, SummaryEntry, summarize
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Detail, counted


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a text may be where it is shown: ``size``, as ``measure`` counts, in ``holder``."""

    size: int
    measure: Callable[[str], int]
    holder: str


def utf16_units(text: str) -> int:
    """The length of a text in UTF-16: never less than its characters, which GitHub counts, nor a third of its bytes."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf8_bytes(text: str) -> int:
    """The length of a text in bytes of UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


COMMENT: Final = Limit(65_000, utf16_units, "a comment")
"""GitHub takes 65,536 characters; what is left is for a line of whoever posts it."""

_APART: Final = re.compile(r"(\||(?<=<)!(?=--))")
_PEELED: Final = re.compile(r"(?P<before>[(\"']*)(?P<word>.*?)(?P<after>[,;:.!?)\"']*)", re.DOTALL)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}-][^\W\d_]+)*")
_HASH: Final = re.compile(r"[0-9a-f]{7,}", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]{1,6}(?:[.,][0-9]{1,6})?")
_SIGNS: Final = frozenset({"=", "→", "\N{MULTIPLICATION SIGN}", "\N{EN DASH}", "…", "%"})
"""Signs that stand alone, and mean nothing in Markdown."""


def code(text: str) -> str:
    """The text as it is, in code spans, on one line; empty for an empty text.

    A pipe stands between two spans, as in a table it would end the cell even in code; and so does what makes a comment,
    lest somebody who searches for a marker finds that of others.
    """
    first, *rest = _APART.split(terminal_safe(text))
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
    """A text from anywhere as sentences: plain words as they are, everything else in code; its own lines stay lines."""
    return "<br>".join(filter(None, map(_line, text.split("\n"))))


def _line(text: str) -> str:
    words = [_peeled(word) for word in terminal_safe(text).split()]
    return " ".join(_joined(words))


def _peeled(word: str) -> tuple[str, str, str]:
    """A word and the punctuation around it; the word is empty where all of it may stand as it is."""
    found = _PEELED.fullmatch(word)
    before, inner, after = found.group("before", "word", "after") if found else ("", word, "")
    if not inner or _is_plain(inner, after):
        return word, "", ""
    return before, inner, after


def _is_plain(word: str, after: str) -> bool:
    """Whether nobody takes a word for more: no number of a list, hash of a commit, or name of a tracker's issue."""
    if word in _SIGNS:
        return True
    if _NUMBER.fullmatch(word):
        return not after.startswith((".", ")"))
    return bool(_WORD.fullmatch(word)) and not _HASH.fullmatch(word) and ("-" not in word or word.islower())


def _joined(words: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """The words, with those together in one code span that stand together without punctuation between."""
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
        held.append(word)
        if after:
            yield opening + code(" ".join(held)) + after
            held, opening = [], ""
    if held:
        yield opening + code(" ".join(held))


def marker(kind: str, target: str) -> str:
    """A line that readers do not see, by which the comment on a pull request is found again to be brought up to date.

    It is the same for every document of a kind about a target, whatever stands in it.
    """
    name = quote(target, safe="", errors="surrogatepass").replace("--", "-%2D")
    return f"<!-- {':'.join(filter(None, ['reconcile', kind.lower(), name]))} -->"


def markdown(document: Document, limit: Limit = COMMENT) -> str:
    """The document as Markdown that keeps to the limit, and says what it leaves out for that.

    Raises:
        UsageError: for a kind of document that is not drawn as Markdown.
    """
    summary = summarize(document)
    return _fitted(_head(summary), list(_parts(summary)), limit)


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


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece that is shown whole or not at all; the lower its rank, the later it is left out."""

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
        " · ".join(f"{label} {code(shorten(text, _WORDS_SHOWN))}" for label, text in summary.about),
        "",
        *(f"- {label}: {code(shorten(text, _WHY_SHOWN))}" for label, text in summary.facts),
    ]
    return "\n".join(lines).rstrip("\n")


def _parts(summary: ReportSummary) -> Iterator[_Part]:
    for warning in summary.warnings:
        yield _Part("warning", f"- ⚠️ {prose(_cut(warning, _DETAIL_SHOWN))}", 1, "warning")
    for remark in summary.remarks:
        yield _Part("remark", f"- {prose(_cut(remark, _DETAIL_SHOWN))}", 5, "remark")
    shown = [entry for entry in summary.entries if entry.level != "quiet"]
    for entry in shown:
        rank = 0 if entry.level == "failed" else LEVELS.index(entry.level) + 1
        yield _Part("row", _row(entry), rank, entry.word, entry.name)
        details = ((("why", entry.why),) if len(entry.why) > _WHY_SHOWN else ()) + entry.details
        if details:
            yield _Part("detail", _folded(entry, details), rank + 10, entry.word, entry.name)
    quiet = [entry for entry in summary.entries if entry.level == "quiet"]
    for word, entries in groupby(quiet, key=lambda entry: entry.word):
        yield _Part("remark", _counted(word, list(entries)), 6, word)


def _row(entry: SummaryEntry) -> str:
    sign = f"{_LEVEL_SIGNS[entry.level]} {entry.word}"
    place = ":".join([entry.file, *(str(one) for one in (entry.line,) if one)]) if entry.file else ""
    what = [code(shorten(text, _WORDS_SHOWN)) for text in (entry.name, entry.part) if text]
    cells = [sign, " ".join(what), prose(_cut(entry.why, _WHY_SHOWN)), code(shorten(place, _WORDS_SHOWN))]
    return f"| {' | '.join(cells)} |"


_TABLE: Final = "| | what | why | manifest |\n|---|---|---|---|"


def _folded(entry: SummaryEntry, details: Sequence[Detail]) -> str:
    names = " ".join(f"<code>{_html(shorten(text, _WORDS_SHOWN))}</code>" for text in (entry.name, entry.part) if text)
    summary = f"<summary>{_LEVEL_SIGNS[entry.level]} {names} {entry.word}</summary>"
    return "\n".join(["<details>", summary, "", *_listed(details), "", "</details>"])


def _html(text: str) -> str:
    """The text inside an HTML element, where GitHub looks for nothing in ``<code>``."""
    return escape(terminal_safe(text))


def _listed(details: Sequence[Detail]) -> Iterator[str]:
    """Labels and texts as a list; a text without a label goes on with the one before."""
    for label, text in details[:_DETAILS_SHOWN]:
        told = prose(_cut(text, _DETAIL_SHOWN))
        yield f"- {prose(label)}: {told}" if label else f"  <br>{told}"
    if len(details) > _DETAILS_SHOWN:
        yield f"- and {len(details) - _DETAILS_SHOWN} more"


def _counted(word: str, entries: Sequence[SummaryEntry]) -> str:
    names = ", ".join(code(shorten(entry.name, _WORDS_SHOWN)) for entry in entries[:_NAMES_SHOWN])
    more = f" and {len(entries) - _NAMES_SHOWN} more" if len(entries) > _NAMES_SHOWN else ""
    return f"- ✅ {counted(len(entries), 'model')} {word}: {names}{more}"


def _cut(text: str, room: int) -> str:
    """A text of several lines, cut where it is longer than the room."""
    return text if len(text) <= room else f"{text[:room]}… ({len(text) - room} more characters)"


_NOTE_ROOM: Final = 4_000
"""What the words about things left out may take at most."""


def _fitted(head: str, parts: Sequence[_Part], limit: Limit) -> str:
    """The head and the parts in order, without those of the highest ranks that do not fit."""
    whole = _laid_out(head, parts)
    if limit.measure(whole) <= limit.size:
        return whole
    reserve = min(_NOTE_ROOM, limit.size // 4)
    room = limit.size - limit.measure(f"{head}\n\n{_TABLE}\n\n") - reserve
    taken: set[int] = set()
    for position, part in sorted(enumerate(parts), key=lambda one: (one[1].rank, one[0])):
        needed = limit.measure(part.text) + 4
        if needed <= room:
            room -= needed
            taken.add(position)
    kept = [part for position, part in enumerate(parts) if position in taken]
    left = [part for position, part in enumerate(parts) if position not in taken]
    note = _left_out(parts, left, limit, named=True)
    if limit.measure(note) > reserve:
        note = _left_out(parts, left, limit, named=False)
    return _laid_out(head, [*kept, _Part("detail", note, 99)])


def _laid_out(head: str, parts: Sequence[_Part]) -> str:
    blocks = [head]
    for section, members in groupby(sorted(parts, key=lambda part: _ORDER[part.section]), lambda part: part.section):
        texts = [part.text for part in members]
        blocks.append("\n\n".join(texts) if section == "detail" else "\n".join([*_HEADINGS.get(section, ()), *texts]))
    return "\n\n".join(blocks) + "\n"


_HEADINGS: Final[Mapping[Section, tuple[str, ...]]] = {"row": (_TABLE,)}
_SECTION_WORDS: Final[Mapping[Section, str]] = {
    "row": "rows",
    "detail": "details",
    "warning": "warnings",
    "remark": "remarks",
}


def _left_out(parts: Sequence[_Part], left: Sequence[_Part], limit: Limit, *, named: bool) -> str:
    """Exactly what is left out: how many of which parts, and where there is room the first names."""
    whole, gone = (Counter(part.section for part in some) for some in (parts, left))
    which = {word: _which([part for part in left if part.section == word], named=named) for word in gone}
    told = [
        f"{gone[section]} of {whole[section]} {word}{which[section]}"
        for section, word in _SECTION_WORDS.items()
        if gone[section]
    ]
    return f"**Left out, as {limit.holder} holds no more:** {'; '.join(told)}. A report in JSON has all of it."


def _which(left: Sequence[_Part], *, named: bool) -> str:
    """Of what kinds parts are, and the names of the first."""
    bearing = [part for part in left if part.name]
    if not bearing:
        return ""
    kinds = ", ".join(f"{count} {word}" for word, count in Counter(part.word for part in bearing).items())
    if not named:
        return f" ({kinds})"
    names = ", ".join(code(shorten(part.name, _NAME_SHOWN)) for part in bearing[:_NAMES_SHOWN])
    more = f" and {len(bearing) - _NAMES_SHOWN} more" if len(bearing) > _NAMES_SHOWN else ""
    return f" ({kinds}: {names}{more})"
