"""Draw documents as JUnit XML, which CI systems show as test results: a case for each model, or for each check.

The format is what the schemas of Ant, Jenkins and GitLab have in common: ``testsuites``, ``testsuite``, ``testcase``,
``properties``, and in a case ``skipped`` or ``failure``, then ``system-out``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from xml.etree import ElementTree as ET

from reconciler.domain.document import Document
from reconciler.domain.text import terminal_safe
from reconciler.reports.summary import LEVELS, ReportSummary, SummaryRow, summaries_of, summarize

_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Everything but the characters of XML 1.0 (https://www.w3.org/TR/xml/#charsets)."""


def xml_safe(text: str) -> str:
    """Return the text with invisible characters escaped and with characters replaced that XML does not allow."""
    lines = "\n".join(terminal_safe(line) for line in text.split("\n"))
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", lines)


def junit(document: Document) -> str:
    """Return the document as JUnit XML.

    Entries that require attention are failures; actions that are suspended or not applied are skipped. A report on
    several targets has a suite for each.

    Raises:     UsageError: for a kind of document without a summary.
    """
    suites = [_suite(summary) for summary in summaries_of(document)]
    counts = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures")}
    title = f"reconcile {summarize(document).kind.lower()}"
    whole = _element("testsuites", name=title, **counts, errors=0, time=0)
    whole.extend(suites)
    ET.indent(whole)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(whole, encoding="unicode")}\n'


def _suite(summary: ReportSummary) -> ET.Element:
    subjects: dict[tuple[str, str, str], list[SummaryRow]] = {}
    for row in summary.rows:
        subjects.setdefault((row.file, row.name, row.part), []).append(row)
    cases = [_case(summary, rows) for rows in subjects.values()]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": 0,
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    title = f"reconcile {summary.kind.lower()}"
    suite = _element("testsuite", name=f"{title} {summary.target}".rstrip(), **counts, time=0)
    if summary.run:
        properties = ET.SubElement(suite, "properties")
        properties.extend(_element("property", name=label, value=text) for label, text in summary.run)
    suite.extend(cases)
    suite.append(_text("system-out", "\n".join([summary.summary, *summary.warnings, *summary.remarks])))
    return suite


def _case(summary: ReportSummary, rows: list[SummaryRow]) -> ET.Element:
    """Return one case; the most severe row decides its result."""
    worst = min(rows, key=lambda row: LEVELS.index(row.level))
    group = rows[0].name if rows[0].part else rows[0].file
    case = _element(
        "testcase",
        classname=".".join(filter(None, [summary.target, group])) or summary.kind,
        name=rows[0].part or rows[0].name,
        time=0,
    )
    failed = [row for row in rows if row.level == "failed"]
    if failed:
        message = "; ".join(f"{row.word}: {_line(row.why)}" for row in failed)
        case.append(_text("failure", _entry_text(failed), message=message, type=worst.word))
    elif worst.level == "warning":
        case.append(_element("skipped", message=f"{worst.word}: {_line(worst.why)}"))
    if len(failed) < len(rows):
        case.append(_text("system-out", _entry_text(row for row in rows if row not in failed)))
    return case


def _line(text: str) -> str:
    return " ".join(text.split())


def _entry_text(rows: Iterable[SummaryRow]) -> str:
    lines = []
    for row in rows:
        place = ":".join(str(part) for part in (row.file, row.line, row.column) if part)
        lines += [f"{row.word}: {row.why}" if row.why else row.word, *([f"at: {place}"] if place else [])]
        lines += [f"{label}: {text}" if label else f"  {text}" for label, text in row.details]
    return "\n".join(lines)


def _element(tag: str, **attributes: object) -> ET.Element:
    return ET.Element(tag, {name: xml_safe(str(attribute)) for name, attribute in attributes.items()})


def _text(tag: str, text: str, **attributes: object) -> ET.Element:
    element = _element(tag, **attributes)
    element.text = xml_safe(text)
    return element
