"""Saved plans: read one, and check that it is still what apply would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._run_info import begin_run
from reconciler.domain.errors import StalePlan, UsageError
from reconciler.domain.lock import format_time
from reconciler.domain.plan import EFFECTS, FOLLOW_UPS, Kind, Reason, Request
from reconciler.domain.version import __version__
from reconciler.manifests.discovery import Selection
from reconciler.planning.lineage import descendants
from reconciler.reports.documents.plan import PlannedAction, PlanReport
from reconciler.reports.documents.saved_plan import (
    ManifestFacts,
    PlanFacts,
    PlanInput,
    RecordedFacts,
    SavedPlan,
    plan_facts,
)
from reconciler.state.document_files import is_plan, read_saved_plan, require_manifest

if TYPE_CHECKING:
    from reconciler.commands._project import CommandInput, Project
    from reconciler.environment import Environment
    from reconciler.reports.documents.plan import PlanReport


class PlanFile(Struct, frozen=True):
    """A saved plan, and the file that it was read from."""

    file: str
    saved: SavedPlan

    def input(self, given: CommandInput) -> CommandInput:
        """Return the paths, target and selection of the plan; the rest is as ``given``.

        Raises:
            UsageError: when ``given`` selects manifests or another target.
        """
        saved = self.saved.input
        if given.selection != Selection() or (given.target or saved.target) != saved.target:
            raise UsageError(
                f"{self.file} already selects a target and manifests",
                f"remove -l, --only and --exclude, and any target except {saved.target}",
            )
        only = frozenset(saved.only)
        selection = Selection(
            labels=saved.labels,
            only=self._acting & only or only,
            exclude=frozenset(saved.exclude),
        )
        return replace(given, paths=saved.paths, target=saved.target, selection=selection)

    @property
    def request(self) -> Request:
        """The trainings that were requested with the plan."""
        return Request(retry=frozenset(self.saved.input.retry), replace=frozenset(self.saved.input.replace))

    @property
    def _acting(self) -> frozenset[str]:
        """The models that the plan does something for, now or when a training ends."""
        acting = EFFECTS | {Kind.WAIT}
        return frozenset(action.name for action in self.saved.plan.actions if action.action in acting)

    def without_unrelated(self, project: Project) -> Project:
        """Return the project without the manifests that were added or changed, and that no action depends on.

        An action depends on its own model and on those that it is tuned from. Children of an omitted manifest are
        omitted too.
        """
        parents = {manifest.name: manifest.source.tuned_model for manifest in project.manifests}
        needed = {parent for name in self._acting for parent in _lineage(name, parents)}
        saved, current = self.saved.facts, plan_facts(project.manifests, project.target, project.lock)
        changed = {name for name in parents if saved.of(name) != current.of(name)} - needed
        unrelated = changed.union(*(descendants(project.manifests, name) for name in changed)) - needed
        manifests = tuple(manifest for manifest in project.manifests if manifest.name not in unrelated)
        return replace(project, manifests=manifests, complete=project.complete and not unrelated)

    def check(self, project: Project, plan: PlanReport) -> None:
        """Compare the saved facts with the current ones, and the saved plan with the current ``plan``.

        ``project`` has no unrelated manifests.

        Raises:
            StalePlan: with every change.
        """
        names = {manifest.name for manifest in project.manifests} | self._acting
        saved = replace(self.saved, facts=self.saved.facts.about(names), plan=_about(self.saved.plan, names))
        current = plan_facts(project.manifests, project.target, project.lock).about(names)
        changes = list(fact_changes(saved.facts, current)) or list(action_changes(saved.plan, plan))
        if saved.reconciler != __version__:
            changes.insert(0, f"it was made by reconcile {saved.reconciler}, and this is {__version__}")
        if changes:
            raise self.stale("; ".join(changes))

    def stale(self, changes: str) -> StalePlan:
        """Return the error for a plan that is not carried out."""
        return StalePlan(f"{self.file} is stale, and nothing was changed: {changes}", "plan again and review the plan")


def _lineage(name: str, parents: Mapping[str, str]) -> Iterator[str]:
    """Yield a name and the names of the manifests that its model is tuned from."""
    while name:
        yield name
        name = parents.get(name, "")


def _about(plan: PlanReport, names: AbstractSet[str]) -> PlanReport:
    return replace(plan, actions=tuple(action for action in plan.actions if action.name in names))


def plan_file(environment: Environment, paths: tuple[str, ...]) -> PlanFile | None:
    """Return the saved plan that the paths of a command name; ``None`` if they name manifests.

    Raises:
        UsageError: when there are other paths beside it, it is another document about a plan, or a path is a file
            that is neither a plan nor a manifest.
        ReconcileError: when it cannot be read.
    """
    plans = [path for path in paths if is_plan(environment.cwd / path)]
    if not plans:
        for path in paths:
            require_manifest(environment.cwd / path, path)
        return None
    if len(paths) > 1:
        raise UsageError(f"{plans[0]} is a saved plan, which excludes other paths", "name the plan or the manifests")
    return PlanFile(plans[0], read_saved_plan(environment.cwd / plans[0], plans[0], SavedPlan))


def saved_plan(request: Request, project: Project, plan: PlanReport, *, base: str = "") -> SavedPlan:
    """Return a plan with everything that is needed to carry it out later.

    ``base`` is the commit that the lockfile was compared with.
    """
    selection = project.input.selection
    return SavedPlan(
        time=format_time(project.session.environment.clock()),
        reconciler=__version__,
        input=PlanInput(
            paths=project.input.paths,
            target=project.target.name,
            labels=selection.labels,
            only=tuple(sorted(selection.only)),
            exclude=tuple(sorted(selection.exclude)),
            retry=tuple(sorted(request.retry)),
            replace=tuple(sorted(request.replace)),
            base=base,
        ),
        facts=plan_facts(project.manifests, project.target, project.lock),
        plan=replace(plan, model_details=(), run=begin_run(project.session.environment).info),
    )


def fact_changes(saved: PlanFacts, current: PlanFacts) -> Iterator[str]:
    """Yield a phrase for each fact that changed since the plan was saved."""
    for name in sorted(saved.target.keys() | current.target.keys()):
        before, after = saved.target.get(name), current.target.get(name)
        if before != after:
            yield f"{name} of the target changed from {_shown(before)} to {_shown(after)}"
    yield from _manifest_changes(saved.manifests, current.manifests)
    yield from _recorded_changes(saved.recorded, current.recorded)


def _shown(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _manifest_changes(saved: Mapping[str, ManifestFacts], current: Mapping[str, ManifestFacts]) -> Iterator[str]:
    for name in sorted(saved.keys() | current.keys()):
        if name not in current:
            yield f"manifest {name} was removed"
        elif name not in saved:
            yield f"manifest {name} was added"
        elif saved[name].data != current[name].data:
            yield f"the data set of {name} changed"
        elif saved[name].checks != current[name].checks:
            yield f"the checks of {name} changed"
        elif saved[name] != current[name]:
            yield f"manifest {name} changed"


def _recorded_changes(saved: Mapping[str, RecordedFacts], current: Mapping[str, RecordedFacts]) -> Iterator[str]:
    unrecorded = RecordedFacts(rejected=(), generations={})
    for name in sorted(saved.keys() | current.keys()):
        before, after = saved.get(name, unrecorded), current.get(name, unrecorded)
        if before.serving != after.serving:
            serving = f"from {before.serving or 'none'} to {after.serving or 'none'}"
            yield f"the serving generation of {name} changed {serving}"
        for stage in sorted(before.stages.keys() | after.stages.keys()):
            old, new = before.stages.get(stage, "none"), after.stages.get(stage, "none")
            if old != new:
                yield f"the serving generation of {name} in {stage} changed from {old} to {new}"
        if before.rejected != after.rejected:
            yield f"the rejected generations of {name} changed"
        for key, digest in before.generations.items():
            if after.generations.get(key) != digest:
                yield f"the record of {key}, a generation of {name}, " + (
                    "changed in the lockfile" if key in after.generations else "was removed from the lockfile"
                )


_compared: Final = attrgetter("attempt", "base_model", "source", "after", "hyperparameters", "changes", "checks")
_identity: Final = attrgetter("name", "key", "action", "remote", "stage")
_KIND_ORDER: Final = {kind: position for position, kind in enumerate(Kind)}


def action_changes(saved: PlanReport, current: PlanReport) -> Iterator[str]:
    """Yield a phrase for the first difference between two plans of each generation.

    A training that the saved plan waited for can have completed: actions that follow from that are expected.
    """
    before, after = (
        {_identity(action): action for action in report.actions if action.action in EFFECTS}
        for report in (saved, current)
    )
    waits = (action.key for action in saved.actions if action.action is Kind.WAIT)
    expected = {(key, kind) for key in waits for kind in FOLLOW_UPS[Kind.WAIT]}
    reported: set[str] = set()
    actions = {**after, **before}
    for identity in sorted(actions, key=lambda identity: _action_order(actions[identity])):
        old, new = before.get(identity), after.get(identity)
        _, key, kind, *_ = identity
        same = old and new and _compared(old) == _compared(new)
        if not same and key not in reported and (key, kind) not in expected:
            reported.add(key)  # further differences follow from this one
            yield _changed(old, new, current) if old else _added(actions[identity])


def _action_order(action: PlannedAction) -> tuple[str, str, int, str]:
    return action.name, action.key, _KIND_ORDER[action.action], action.remote


def _changed(old: PlannedAction, new: PlannedAction | None, current: PlanReport) -> str:
    """Return why a saved action is no longer planned as it was."""
    if new:
        return f"{old.generation} changed: {_fields(new)}"
    actions = [action for action in current.actions if action.name == old.name]
    held = next((action for action in actions if action.action is Kind.HOLD), None)
    created = any(action.key == old.generation and action is not held for action in actions)
    if old.action is Kind.CREATE and created:
        return f"model {old.generation} was already created"
    if held:
        return f"{old.name} is now held: {held.reason}" + (f", {held.message}" if held.message else "")
    return _NO_LONGER_PLANNED[old.action].format(old.generation)


def _added(new: PlannedAction) -> str:
    if new.action is Kind.CREATE and new.reason is Reason.MISSING:
        return f"a model of {new.name} is missing: {new.generation} would be trained"
    return _NEWLY_PLANNED[new.action].format(new.generation, _fields(new))


def _fields(action: PlannedAction) -> str:
    return ", ".join(change.field for change in action.changes) or "its training inputs"


_NO_LONGER_PLANNED: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "{} would no longer be trained",
    Kind.UPDATE: "{} was already updated",
    Kind.ADOPT: "{} was already adopted",
    Kind.CHECK: "the checks of {} would no longer run",
    Kind.PROMOTE: "{} would no longer be promoted",
    Kind.DELETE: "{} was already deleted",
}
_NEWLY_PLANNED: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "{} would be trained",
    Kind.UPDATE: "{} changed: {}",
    Kind.ADOPT: "model {} was created",
    Kind.CHECK: "the checks of {} would run",
    Kind.PROMOTE: "{} would be promoted",
    Kind.DELETE: "{} would be deleted",
}
