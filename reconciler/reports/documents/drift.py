"""Build Drift documents: how desired, live and recorded state differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.exit_status import ExitStatus
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.envelope import Document, display_path, envelope, filled


def drift_document(
    findings: Sequence[Finding],
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    unmanaged: int | None,
    notices: Sequence[str] = (),
    exit_zero: bool = False,
    root: str = "",
) -> Document:
    """Return a Drift document (schema: drift).

    ``unmanaged`` is the number of unmanaged models, ``None`` if they were not counted. ``exit_zero`` means that drift
    does not change the exit status.
    """
    drifted = any(finding.severity == "drift" for finding in findings)
    status = ExitStatus.CHANGES if drifted and not exit_zero else ExitStatus.OK
    counts = Counter(finding.kind for finding in findings)
    return {
        **envelope("Drift", target, capabilities, root),
        "lockfile": lockfile,
        "exitStatus": int(status),
        "drifted": drifted,
        "summary": {str(kind): counts[kind] for kind in DriftClass if counts[kind]},
        "findings": [_finding(finding, root) for finding in findings],
        "notices": list(notices),
        **({} if unmanaged is None else {"unmanaged": unmanaged}),
    }


def _finding(finding: Finding, root: str) -> Document:
    place = finding.place
    values = {
        name: value for name, value in (("declared", finding.declared), ("live", finding.live)) if value is not None
    }
    return {
        "class": str(finding.kind),
        "severity": finding.severity,
        **filled(
            {
                "name": finding.name,
                "file": place.file if place else display_path(finding.file, root) if finding.file else "",
                "line": place.line if place else None,
                "column": place.column if place else None,
                "key": finding.key,
                "remote": finding.remote,
                "field": finding.field,
            }
        ),
        **values,
        **filled({"since": finding.since}),
        "message": finding.message,
        **filled({"remedy": finding.remedy}),
    }
