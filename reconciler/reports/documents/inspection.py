"""Inspection reports (measures of a data set and findings in it) and DataDiff reports (how two data sets differ)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import structs

from reconciler.domain.document import Count, NonEmpty, Report
from reconciler.domain.errors import ExitStatus
from reconciler.domain.inspection import DatasetFormat, DifferentExample, Inspection


class InspectionReport(Inspection, frozen=True, kw_only=True, tag="Inspection"):
    """Measures of a data set and findings in it: the output of `reconcile data inspect --format json`.

    Tokens are estimated, as in plans. Invalid examples are counted only as findings.
    """

    file: NonEmpty
    """The file, as given on the command line or declared in the manifest; `inline` for examples in a manifest."""
    manifest: str = ""
    """The name of the manifest; omitted if a file was named."""
    read_as: DatasetFormat | None = None
    """How the file is read; omitted for examples in a manifest."""

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of the command: an error if there are invalid examples."""
        failed = any(finding.severity == "error" for finding in self.findings)
        return ExitStatus.ERROR if failed else ExitStatus.OK


def inspection_report(
    inspection: Inspection, file: str, *, manifest: str = "", read_as: DatasetFormat | None = None
) -> InspectionReport:
    """Return the report of an inspection."""
    fields: dict[str, Any] = structs.asdict(inspection)
    return InspectionReport(**fields, file=file, manifest=manifest, read_as=read_as)


class DataDiffReport(Report, frozen=True, kw_only=True, tag="DataDiff"):
    """Added, removed and changed examples of two data files: the output of `reconcile data diff --format json`.

    The order of the examples, and how the files are written, makes no difference.
    """

    old: NonEmpty
    """The old file, as given on the command line."""
    new: NonEmpty
    """The new file."""
    added: Count
    """The number of examples that only the new file has."""
    removed: Count
    """The number of examples that only the old file has."""
    changed: Count
    """The number of examples with another output than in the old file."""
    unchanged: Count
    """The number of examples that both files have."""
    examples: tuple[DifferentExample, ...] = ()
    """The first added, removed and changed examples: at most 100 of each."""


def data_diff_report(
    old: str, new: str, counts: tuple[int, int, int, int], examples: Iterable[DifferentExample]
) -> DataDiffReport:
    """Return the report of a comparison; ``counts`` are those of added, removed, changed and unchanged examples."""
    added, removed, changed, unchanged = counts
    return DataDiffReport(
        old=old,
        new=new,
        added=added,
        removed=removed,
        changed=changed,
        unchanged=unchanged,
        examples=tuple(examples),
    )
