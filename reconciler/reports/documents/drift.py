"""Drift reports: how desired, live and recorded state differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from reconciler.domain.document import Count, LockfilePath, Position
from reconciler.domain.drift import Cause, DriftClass, Finding
from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import Capabilities, Target
from reconciler.reports.documents.envelope import Places, TargetReport, display_path, target_summary
from reconciler.reports.documents.status import ModelDetails, RecordedDetails


class DriftReport(TargetReport, frozen=True, kw_only=True, tag="Drift"):
    """The differences between desired, live and recorded state: the output of `reconcile drift --format json`."""

    lockfile: LockfilePath
    exit_status: ExitStatus
    """The exit status of the command: 2 when there is drift, otherwise 0."""
    drifted: bool
    """Whether anything counts as drift."""
    pending: Count = 0
    """The number of models with drift because their manifest changed since the last apply."""
    out_of_band: Count = 0
    """The number of models with drift because they were changed at the service."""
    summary: Mapping[DriftClass, Position]
    """The number of models with findings of each class; classes without findings are omitted. Unmanaged models are
    counted in `unmanaged` only, unless `--unmanaged` lists them."""
    findings: tuple[Finding, ...]
    """Every finding, by manifest and then by class; every manifest has at least one."""
    notices: tuple[str, ...]
    """Notices about the whole run."""
    unmanaged: Count | None = None
    """The number of unmanaged models at the service; they are never changed. Omitted unless requested."""
    model_details: RecordedDetails = ()


def drift_report(
    findings: Sequence[Finding],
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    unmanaged: int | None,
    places: Places = MappingProxyType({}),
    notices: Sequence[str] = (),
    exit_zero: bool = False,
    root: str = "",
    model_details: tuple[ModelDetails, ...] = (),
) -> DriftReport:
    """Return the report of all findings, with the places of their manifests.

    ``unmanaged`` is the number of unmanaged models, ``None`` if they were not counted. ``exit_zero`` means that drift
    does not change the exit status.
    """
    drifted = any(finding.severity == "drift" for finding in findings)
    counts = count_models(findings)
    return DriftReport(
        simulated=capabilities.simulated,
        target=target_summary(target, capabilities, root),
        lockfile=lockfile,
        exit_status=ExitStatus.CHANGES if drifted and not exit_zero else ExitStatus.OK,
        drifted=drifted,
        pending=_caused(findings, "pending"),
        out_of_band=_caused(findings, "outOfBand"),
        summary={kind: counts[kind] for kind in DriftClass if counts[kind]},
        findings=tuple(_placed(finding, places, root) for finding in findings),
        notices=tuple(notices),
        unmanaged=unmanaged,
        model_details=model_details,
    )


def count_models(findings: Iterable[Finding]) -> Counter[DriftClass]:
    """Return the number of models with findings of each class; a model with several differing fields counts once."""
    return Counter(kind for kind, _ in {(finding.kind, finding.name or finding.remote) for finding in findings})


def _caused(findings: Iterable[Finding], cause: Cause) -> int:
    found = (finding for finding in findings if finding.severity == "drift" and finding.cause == cause)
    return len({finding.name or finding.remote for finding in found})


def _placed(finding: Finding, places: Places, root: str) -> Finding:
    """Return a finding with the path of its manifest as the user would write it, and the position of its name."""
    if not finding.file:
        return finding
    place = places.get(finding.name)
    if place is None:
        return replace(finding, file=display_path(finding.file, root))
    return replace(finding, file=place.file, line=place.line, column=place.column)
