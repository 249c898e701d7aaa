"""Documents as JUnit XML, which CI systems show as test results: a case a model, or a check where there are checks.

The shape is what the schemas of Ant, Jenkins and GitLab have in common: ``testsuites``, ``testsuite``, ``testcase``,
and in a case ``skipped`` or ``failure``, then ``system-out``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Final
from xml.etree import ElementTree as ET

from reconciler.reports.documents.envelope import Document
from reconciler.reports.summary import LEVELS, ReportSummary, SummaryEntry, summarize
from reconciler.reports.text.escape import terminal_safe

_NO_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Everything but the characters of XML 1.0 (https://www.w3.org/TR/xml/#charsets)."""


def xml_safe(text: str) -> str:
    """The text with what hides or reorders written out, its lines kept, and a replacement for what XML cannot hold."""
    lines = "\n".join(terminal_safe(line) for line in text.split("\n"))
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", lines)


def junit(document: Document) -> str:
    """The document as JUnit XML.

    What is for somebody to resolve is a failure; what was left alone on purpose or is not done yet is skipped.

    Raises:
        UsageError: for a kind of document that is not drawn as JUnit XML.
    """
    summary = summarize(document)
    cases = [_case(summary, list(entries)) for _, entries in groupby(sorted(summary.entries, key=_whose), key=_whose)]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": 0,
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    title = f"reconcile {summary.kind.lower()}"
    suite = _element("testsuite", name=f"{title} {summary.target}".rstrip(), **counts, time=0)
    suite.extend(cases)
    text = "\n".join([summary.summary, *summary.warnings, *summary.remarks])
    suite.append(_text("system-out", text))
    whole = _element("testsuites", name=title, tests=counts["tests"], failures=counts["failures"], errors=0, time=0)
    whole.append(suite)
    ET.indent(whole)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(whole, encoding="unicode")}\n'


def _whose(entry: SummaryEntry) -> tuple[str, str, str]:
    """What a case is about: several entries may be."""
    return entry.file, entry.name, entry.part


def _case(summary: ReportSummary, entries: list[SummaryEntry]) -> ET.Element:
    """One case; the gravest entry decides how it ended."""
    worst = min(entries, key=lambda entry: LEVELS.index(entry.level))
    above = entries[0].name if entries[0].part else entries[0].file
    case = _element(
        "testcase",
        classname=".".join(filter(None, [summary.target, above])) or summary.kind,
        name=entries[0].part or entries[0].name,
        time=0,
    )
    failed = [entry for entry in entries if entry.level == "failed"]
    if failed:
        message = "; ".join(f"{entry.word}: {_line(entry.why)}" for entry in failed)
        case.append(_text("failure", _told(failed), message=message, type=worst.word))
    elif worst.level == "warning":
        case.append(_element("skipped", message=f"{worst.word}: {_line(worst.why)}"))
    if len(failed) < len(entries):
        case.append(_text("system-out", _told(entry for entry in entries if entry not in failed)))
    return case


def _line(text: str) -> str:
    return " ".join(text.split())


def _told(entries: Iterable[SummaryEntry]) -> str:
    lines = []
    for entry in entries:
        place = ":".join(str(one) for one in (entry.file, entry.line, entry.column) if one)
        lines += [f"{entry.word}: {entry.why}" if entry.why else entry.word, *([f"at: {place}"] if place else [])]
        lines += [f"{label}: {text}" if label else f"  {text}" for label, text in entry.details]
    return "\n".join(lines)


def _element(tag: str, **attributes: object) -> ET.Element:
    return ET.Element(tag, {name: xml_safe(str(one)) for name, one in attributes.items()})


def _text(tag: str, text: str, **attributes: object) -> ET.Element:
    element = _element(tag, **attributes)
    element.text = xml_safe(text)
    return element
