"""Build Drift documents: how desired, live and recorded state differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ExitStatus
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
    """What is found (schema: drift); ``unmanaged`` counts foreign models, ``None`` where nobody wants to know.

    ``exit_zero`` says that the command does not tell drift by its exit status.
    """
    drifted = any(one.severity == "drift" for one in findings)
    status = ExitStatus.CHANGES if drifted and not exit_zero else ExitStatus.OK
    counts = Counter(one.kind for one in findings)
    return {
        **envelope("Drift", target, capabilities, root),
        "lockfile": lockfile,
        "exitStatus": int(status),
        "drifted": drifted,
        "summary": {str(kind): counts[kind] for kind in DriftClass if counts[kind]},
        "findings": [_finding(one, root) for one in findings],
        "notices": list(notices),
        **({} if unmanaged is None else {"unmanaged": unmanaged}),
    }


def _finding(one: Finding, root: str) -> Document:
    place = one.place
    told_values = {name: found for name, found in (("declared", one.declared), ("live", one.live)) if found is not None}
    return {
        "class": str(one.kind),
        "severity": one.severity,
        **filled(
            {
                "name": one.name,
                "file": place.file if place else display_path(one.file, root) if one.file else "",
                "line": place.line if place else None,
                "column": place.column if place else None,
                "key": one.key,
                "remote": one.remote,
                "field": one.field,
            }
        ),
        **told_values,
        **filled({"since": one.since}),
        "message": one.message,
        **filled({"remedy": one.remedy}),
    }
