"""Draw Inspection and DataDiff reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from reconciler.domain.inspection import DifferentExample, Finding, Lengths, Spot
from reconciler.domain.text import shorten
from reconciler.reports.documents.inspection import DataDiffReport, InspectionReport
from reconciler.reports.text.format import Detail, Layout, Role, counted, share

_BAR: Final = 40
_LABELS_SHOWN: Final = 10
_LABEL_COLUMNS: Final = 30
_DIFFERENCES_SHOWN: Final = 10
_SHAPES: Final[Mapping[str, str]] = {
    "messages": "OpenAI's chat format",
    "contents": "Vertex AI's format",
    "sharegpt": "ShareGPT's format",
    "alpaca": "Alpaca's format",
    "completions": "Vertex AI's preference pairs, of which the chosen answers are used",
    "preference": "preference pairs, of which the chosen answers are used",
    "input-output": "one input and one output",
}
_SIGNS: Final[Mapping[Literal["added", "removed", "changed"], tuple[str, Role]]] = {
    "added": ("+", "create"),
    "removed": ("-", "delete"),
    "changed": ("~", "update"),
}


def inspection_text(report: InspectionReport, layout: Layout) -> str:
    """Return an Inspection report: measures, histograms, labels, findings with the first lines, and the verdict."""
    heading = f"{report.file} ({report.manifest})" if report.manifest else report.file
    lines = [*layout.lines("Data set ", heading, "heading"), *layout.details(inspection_facts(report), indent=2)]
    for title, lengths in (("Inputs", report.inputs), ("Outputs", report.outputs)):
        lines += ["", *_histogram(title, lengths, layout)] if lengths else []
    if report.labels:
        lines += ["", *_labels(report, layout)]
    if report.findings:
        lines += ["", layout.style("heading", "Findings")]
    for finding in report.findings:
        lines += _finding(report.file, finding, layout)
    role: Role = "error" if report.exit_status else "good"
    return "\n".join([*lines, "", *layout.sentences(role, inspection_summary(report))])


def inspection_facts(report: InspectionReport) -> Iterator[Detail]:
    """Yield how the file is read, and its measures."""
    yield "shape", _SHAPES.get(report.shape, report.shape)
    read_as = report.read_as
    if read_as:
        details = [read_as.format, read_as.encoding]
        details += [read_as.compression] if read_as.compression != "none" else []
        details += [f"delimiter {read_as.delimiter!r}"] if read_as.delimiter else []
        details += [] if read_as.header else ["no header"]
        details += [f"examples in {read_as.items}"] if read_as.items else []
        yield "format", ", ".join(details)
        if read_as.input_field:
            yield "fields", f"input {read_as.input_field}, output {read_as.output_field}"
    yield "examples", f"{report.examples:,}"
    turns = f"{report.turns:,}"
    yield "turns", f"{turns}, at most {report.longest_conversation} in one example" if report.examples else turns
    tokens = f"about {report.tokens:,}"
    yield "tokens", f"{tokens}, at most {report.longest_example:,} in one example" if report.examples else "0"


def inspection_summary(report: InspectionReport) -> str:
    """Return how many errors and warnings there are, in one sentence."""
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    parts = [counted(errors, "error")] if errors else []
    parts += [counted(warnings, "warning")] if warnings else []
    sample = f" Near duplicates were searched for in a sample of {report.compared:,} inputs." if report.sampled else ""
    return f"{counted(report.examples, 'example')}: {', '.join(parts) or 'no findings'}.{sample}"


def place_text(file: str, spot: Spot) -> str:
    """Return where an example is, and the example that it repeats."""
    example = f" (example {spot.example})" if spot.example else ""
    earlier = f", like example {spot.earlier} on line {spot.earlier_line}" if spot.earlier else ""
    if spot.earlier_file not in {"", spot.file}:
        earlier += f" of {spot.earlier_file}"
    return f"{spot.file or file}:{spot.line}:{spot.column}{example}{earlier}"


def _finding(file: str, finding: Finding, layout: Layout) -> Iterator[str]:
    role: Role = "error" if finding.severity == "error" else "warning"
    sign = "x" if role == "error" else "!"
    text = f"{finding.message}; {finding.remedy}" if finding.remedy else finding.message
    yield from layout.lines(
        f"  {sign} ", text, colored=f"  {layout.style('error' if role == 'error' else 'warning', sign)} "
    )
    for spot in finding.first:
        yield from layout.lines("      ", place_text(file, spot), "muted")
    if finding.count > len(finding.first):
        yield from layout.lines("      ", f"and {finding.count - len(finding.first):,} more", "muted")


def _histogram(title: str, lengths: Lengths, layout: Layout) -> Iterator[str]:
    measures = f"{lengths.least:,} to {lengths.most:,} characters, {lengths.mean:,} on average"
    yield from layout.lines(f"{title}: ", measures, "heading")
    most = max(bucket.examples for bucket in lengths.histogram)
    width = max(len(f"{bucket.up_to:,}") for bucket in lengths.histogram)
    for bucket in lengths.histogram:
        bar = "█" * -(-bucket.examples * _BAR // most)
        yield f"  up to {bucket.up_to:>{width},}  {bar}{' ' if bar else ''}{bucket.examples:,}"


def _labels(report: InspectionReport, layout: Layout) -> Iterator[str]:
    yield layout.style("heading", f"Labels: {len(report.labels)} distinct outputs")
    for label in report.labels[:_LABELS_SHOWN]:
        amount = f"{label.examples:,} ({share(label.examples / report.examples)})"
        yield from layout.lines(f"  {shorten(label.output, _LABEL_COLUMNS):<{_LABEL_COLUMNS}}  ", amount)
    if len(report.labels) > _LABELS_SHOWN:
        yield layout.style("muted", f"  and {len(report.labels) - _LABELS_SHOWN} more")


def datadiff_text(report: DataDiffReport, layout: Layout) -> str:
    """Return a DataDiff report: the first differences, and the totals; a verbose layout has all that are recorded."""
    lines: list[str] = []
    for kind, (sign, role) in _SIGNS.items():
        total = getattr(report, kind)
        found = [example for example in report.examples if example.kind == kind]
        shown = found if layout.verbose else found[:_DIFFERENCES_SHOWN]
        for example in shown:
            lines += layout.lines(f"{sign} {_place(report, example)}  ", _texts(example), role)
        if total > len(shown):
            lines += layout.sentences("muted", f"{sign} {total - len(shown):,} more {kind}")
    return "\n".join([*lines, *layout.sentences(None, data_diff_summary(report))])


def data_diff_summary(report: DataDiffReport) -> str:
    """Return the totals in one sentence."""
    if not (report.added or report.removed or report.changed):
        return f"No differences: {counted(report.unchanged, 'example')}."
    counts: Sequence[str] = [f"{getattr(report, kind):,} {kind}" for kind in _SIGNS]
    return f"Examples: {', '.join(counts)}, {report.unchanged:,} unchanged."


def _place(report: DataDiffReport, example: DifferentExample) -> str:
    return f"{report.old if example.kind == 'removed' else report.new}:{example.line}"


def _texts(example: DifferentExample) -> str:
    if example.kind == "changed":
        return f"{example.input}: {example.old_output} → {example.output}"
    return f"{example.input} → {example.output}"
