"""Saved plans: read one, and check that it is still what apply would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from reconciler.domain.errors import StalePlan, UsageError
from reconciler.domain.lock import format_time
from reconciler.domain.plan import Request
from reconciler.domain.version import __version__
from reconciler.planning.selection import Selection
from reconciler.state.document_files import SAVED_PLAN, VERSION, is_plan, read_saved_plan
from reconciler.state.stale_plan import action_changes, fact_changes, plan_facts

if TYPE_CHECKING:
    from reconciler.commands._project import CommandInput, Project
    from reconciler.environment import Environment
    from reconciler.reports.documents.envelope import Document


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan that was read from ``file``."""

    file: str
    document: Document = field(repr=False)

    def input(self, given: CommandInput) -> CommandInput:
        """Return the paths, target and selection of the plan; the rest is as ``given``.

        Raises:
            UsageError: when ``given`` selects manifests or another target.
        """
        saved = self.document["input"]
        if given.selection != Selection() or (given.target or saved["target"]) != saved["target"]:
            raise UsageError(
                f"{self.file} already selects a target and manifests",
                f"remove -l, --only and --exclude, and any target except {saved['target']}",
            )
        selection = Selection(
            labels=tuple((label["name"], label["value"]) for label in saved["labels"]),
            only=frozenset(saved["only"]),
            exclude=frozenset(saved["exclude"]),
        )
        return replace(given, paths=tuple(saved["paths"]), target=saved["target"], selection=selection)

    @property
    def request(self) -> Request:
        """The trainings that were requested with the plan."""
        saved = self.document["input"]
        return Request(retry=frozenset(saved["retry"]), replace=frozenset(saved["replace"]))

    def check(self, project: Project, plan: Document) -> None:
        """Compare the saved facts with the current ones, and the saved plan with the current ``plan``.

        Raises:
            StalePlan: with every change.
        """
        facts = plan_facts(project.manifests, project.target, project.lock)
        changes = list(fact_changes(self.document["facts"], facts))
        changes = changes or list(action_changes(self.document["plan"], plan))
        if self.document["reconciler"] != __version__:
            changes.insert(0, f"it was made by reconcile {self.document['reconciler']}, and this is {__version__}")
        if changes:
            raise self.stale("; ".join(changes))

    def stale(self, changes: str) -> StalePlan:
        """Return the error for a plan that is not carried out."""
        return StalePlan(f"{self.file} is stale, and nothing was changed: {changes}", "plan again and review the plan")


def saved_plan(environment: Environment, paths: tuple[str, ...]) -> SavedPlan | None:
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
    return SavedPlan(plans[0], read_saved_plan(environment.cwd / plans[0], plans[0]))


def saved_document(request: Request, project: Project, plan: Document) -> dict[str, Any]:
    """Return a plan with everything that is needed to carry it out later (schema: saved-plan)."""
    selection = project.input.selection
    return {
        "version": VERSION,
        "kind": SAVED_PLAN,
        "time": format_time(project.session.environment.clock()),
        "reconciler": __version__,
        "input": {
            "paths": list(project.input.paths),
            "target": project.target.name,
            "labels": [{"name": name, "value": value} for name, value in selection.labels],
            "only": sorted(selection.only),
            "exclude": sorted(selection.exclude),
            "retry": sorted(request.retry),
            "replace": sorted(request.replace),
        },
        "facts": plan_facts(project.manifests, project.target, project.lock),
        "plan": {name: part for name, part in plan.items() if name != "modelDetails"},
    }
