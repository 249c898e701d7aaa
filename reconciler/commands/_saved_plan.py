"""Saved plans: read one, and check that it is still what apply would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._stale_plan import action_changes, fact_changes
from reconciler.domain.errors import StalePlan, UsageError
from reconciler.domain.lock import format_time
from reconciler.domain.plan import Request
from reconciler.domain.version import __version__
from reconciler.planning.selection import Selection
from reconciler.reports.documents.saved_plan import Label, PlanInput, SavedPlan, plan_facts
from reconciler.state.document_files import is_plan, read_saved_plan

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
        selection = Selection(
            labels=tuple((label.name, label.value) for label in saved.labels),
            only=frozenset(saved.only),
            exclude=frozenset(saved.exclude),
        )
        return replace(given, paths=saved.paths, target=saved.target, selection=selection)

    @property
    def request(self) -> Request:
        """The trainings that were requested with the plan."""
        return Request(retry=frozenset(self.saved.input.retry), replace=frozenset(self.saved.input.replace))

    def check(self, project: Project, plan: PlanReport) -> None:
        """Compare the saved facts with the current ones, and the saved plan with the current ``plan``.

        Raises:
            StalePlan: with every change.
        """
        saved = self.saved
        changes = list(fact_changes(saved.facts, plan_facts(project.manifests, project.target, project.lock)))
        changes = changes or list(action_changes(saved.plan, plan))
        if saved.reconciler != __version__:
            changes.insert(0, f"it was made by reconcile {saved.reconciler}, and this is {__version__}")
        if changes:
            raise self.stale("; ".join(changes))

    def stale(self, changes: str) -> StalePlan:
        """Return the error for a plan that is not carried out."""
        return StalePlan(f"{self.file} is stale, and nothing was changed: {changes}", "plan again and review the plan")


def plan_file(environment: Environment, paths: tuple[str, ...]) -> PlanFile | None:
    """Return the saved plan that the paths of a command name; ``None`` if they name manifests.

    Raises:
        UsageError: when there are other paths beside it, or it is another document about a plan.
        ReconcileError: when it cannot be read.
    """
    plans = [path for path in paths if is_plan(environment.cwd / path)]
    if not plans:
        return None
    if len(paths) > 1:
        raise UsageError(f"{plans[0]} is a saved plan, which excludes other paths", "name the plan or the manifests")
    return PlanFile(plans[0], read_saved_plan(environment.cwd / plans[0], plans[0], SavedPlan))


def saved_plan(request: Request, project: Project, plan: PlanReport) -> SavedPlan:
    """Return a plan with everything that is needed to carry it out later."""
    selection = project.input.selection
    return SavedPlan(
        time=format_time(project.session.environment.clock()),
        reconciler=__version__,
        input=PlanInput(
            paths=project.input.paths,
            target=project.target.name,
            labels=tuple(Label(name, value) for name, value in selection.labels),
            only=tuple(sorted(selection.only)),
            exclude=tuple(sorted(selection.exclude)),
            retry=tuple(sorted(request.retry)),
            replace=tuple(sorted(request.replace)),
        ),
        facts=plan_facts(project.manifests, project.target, project.lock),
        plan=replace(plan, model_details=()),
    )
