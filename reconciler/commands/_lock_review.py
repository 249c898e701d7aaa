"""Compare the lockfile of a project with that of a base commit, and place each change in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._project import CommandInput, Project, read_workspace
from reconciler.domain.errors import Place, Problem, ReconcileError, Severity
from reconciler.domain.lock import Lock
from reconciler.domain.model import Manifest
from reconciler.domain.text import shorten
from reconciler.manifests.discovery import Selection
from reconciler.manifests.git import IncomparableError, file_at_base
from reconciler.planning.datasets import with_dataset_versions
from reconciler.planning.events import Withheld, record
from reconciler.planning.hidden_examples import redact_lock
from reconciler.planning.lock_review import LockChange, requested_serving, review_lock, withheld_promotions
from reconciler.reports.documents.plan import DataBase, LockfileChange, PlanReport
from reconciler.state.json_decoder import find_positions, show_path
from reconciler.state.lockfile import LockFile, loads

_SHOWN: Final = 120
"""Characters of a value that a message shows."""


class PlacedChange(Struct, frozen=True):
    """A change of the lockfile and its place."""

    change: LockChange
    place: Place


class LockReview(Struct, frozen=True):
    """The changes of a lockfile since the merge base of ``ref`` and HEAD that need an explanation or a review.

    ``serving`` are the generations by manifest that the changed lockfile has as serving, and ``withheld`` those of them
    that a run promotes itself, after their checks.
    """

    ref: str
    commit: str
    changes: tuple[PlacedChange, ...]
    serving: Mapping[str, str]
    withheld: tuple[Withheld, ...]

    def unexplained(self) -> tuple[Problem, ...]:
        """Return a problem for each changed fact that no manifest explains."""
        problems = self.problems(allow_decisions=True)
        return tuple(problem for problem in problems if problem.severity == "error")

    def described(self, report: PlanReport) -> PlanReport:
        """Return the report of a plan with the changes of the lockfile."""
        return replace(report, unexplained=self.rows("fact"), **self.compared)

    @property
    def compared(self) -> dict[str, Any]:
        """The base commit and the changed decisions, as fields of reports."""
        return {"base": DataBase(self.ref, self.commit), "decisions": self.rows("decision")}

    def withhold(self, project: Project) -> Project:
        """Return the project with the recorded state that a run starts from: what it promotes itself is withheld."""
        return replace(project, lock=reduce(record, self.withheld, project.lock))

    def problems(self, *, allow_decisions: bool) -> Iterator[Problem]:
        """Yield a problem for each change; changed decisions are warnings if they are allowed."""
        for placed in self.changes:
            change = placed.change
            is_fact = change.kind == "fact"
            severity: Severity = "warning" if allow_decisions and not is_fact else "error"
            yield Problem(placed.place, show_path(change.path), change_text(change), self._remedy(change), severity)

    def _remedy(self, change: LockChange) -> str:
        if change.kind == "fact":
            return f"restore the value of {self.ref}; reconcile apply --train-only and reconcile wait record trainings"
        return f"restore the value of {self.ref}, or pass --allow-decisions after a review"

    def rows(self, kind: str) -> tuple[LockfileChange, ...]:
        """Return the changed ``decision``s, or the unexplained ``fact``s, as rows of a plan."""
        return tuple(
            LockfileChange(
                name=change.name,
                field=change.field,
                before=change.before,
                after=change.after,
                key=change.key,
                remote=change.remote,
                reason=change.reason,
                line=placed.place.line,
                column=placed.place.column,
            )
            for placed in self.changes
            if (change := placed.change).kind == kind
        )


def change_text(change: LockChange) -> str:
    """Return a change in words: the old and new value, the remote model, and what is wrong."""
    generation = f" (generation {change.key}{f', {change.remote}' if change.remote else ''})" if change.key else ""
    reason = f": {change.reason}" if change.reason else ""
    values = f"{_shown(change.before)} → {_shown(change.after)}"
    return f"changed {change.kind} {change.field}: {values}{generation}{reason}"


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return json.dumps(shorten(value, _SHOWN) if isinstance(value, str) else value, ensure_ascii=False)


def review_project(project: Project, ref: str) -> LockReview:
    """Return how the lockfile of a project differs from that at the merge base of ``ref`` and HEAD.

    Raises:
        UsageError: when git has no commit ``ref``.
        IncomparableError: when the commit or its lockfile cannot be read, or the lockfile is in a bucket.
    """
    if project.target.lock:
        raise IncomparableError("it is in a bucket")
    session = project.session
    found = file_at_base(ref, session.lockfile, session.environment.environ)
    try:
        base = Lock() if found.content is None else loads(found.content, f"{project.lockfile} at {ref}")
    except ReconcileError as error:
        raise IncomparableError(error.message) from error
    head = project.lock
    if not project.target.show_examples:
        base, head = redact_lock(base), redact_lock(head)
    changes = review_lock(
        base, head, _all_manifests(project), project.target, chosen_ids=project.capabilities.caller_chosen_ids
    )
    text = LockFile(session.lockfile).read() or "{}"  # a store can return a text without examples, on other lines
    positions = find_positions(text, [change.path for change in changes])
    placed = (PlacedChange(change, Place(project.lockfile, *positions[change.path])) for change in changes)
    return LockReview(
        ref,
        found.commit,
        tuple(placed),
        requested_serving(base, head, project.manifests),
        withheld_promotions(base, head, project.manifests),
    )


def _all_manifests(project: Project) -> tuple[Manifest, ...]:
    """Return all manifests of the root, also those that are not selected; those of the command line come first."""
    workspace = project.workspace
    manifests = {manifest.name: manifest for manifest in workspace.manifests}
    if not workspace.complete:
        whole = CommandInput(paths=(str(workspace.root),), target=project.input.target, selection=Selection())
        others = read_workspace(project.session.environment, whole).manifests
        manifests = {manifest.name: manifest for manifest in others} | manifests
    return with_dataset_versions(tuple(manifests.values()), {}, project.lock)
