"""Plans that are saved, looked at, and carried out as they are or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reconciler import __version__
from reconciler.domain.errors import StalePlan, UsageError
from reconciler.domain.lock import format_time
from reconciler.domain.plan import Request
from reconciler.planning.selection import Selection
from reconciler.state.document_files import SAVED_PLAN, VERSION, is_plan, read_saved_plan
from reconciler.state.stale_plan import action_changes, fact_changes, plan_facts

if TYPE_CHECKING:
    from reconciler.commands._project import CommandInput, Project
    from reconciler.environment import Environment
    from reconciler.reports.documents.plan_and_result import Document


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan that was read from ``file``."""

    file: str
    document: Document = field(repr=False)

    def input(self, given: CommandInput) -> CommandInput:
        """What the plan is about; the rest is as ``given``.

        Raises:
            UsageError: when something else is asked for as well.
        """
        made = self.document["input"]
        if given.selection != Selection() or (given.target or made["target"]) != made["target"]:
            raise UsageError(
                f"{self.file} says already which target and manifests it is about",
                f"leave out -l, --only and --exclude, and any target but {made['target']}",
            )
        selection = Selection(
            labels=tuple((label["name"], label["value"]) for label in made["labels"]),
            only=frozenset(made["only"]),
            exclude=frozenset(made["exclude"]),
        )
        return replace(given, paths=tuple(made["paths"]), target=made["target"], selection=selection)

    @property
    def request(self) -> Request:
        """The trainings that were asked for when it was made."""
        made = self.document["input"]
        return Request(retry=frozenset(made["retry"]), replace=frozenset(made["replace"]))

    def check(self, project: Project, plan: Document) -> None:
        """Hold it to the facts as they are, and to the plan that follows from them.

        Raises:
            StalePlan: naming everything that has changed.
        """
        facts = plan_facts(project.manifests, project.target, project.lock)
        told = list(fact_changes(self.document["facts"], facts))
        told = told or list(action_changes(self.document["plan"], plan))
        if self.document["reconciler"] != __version__:
            told.insert(0, f"it was made by reconcile {self.document['reconciler']}, and this is {__version__}")
        if told:
            raise self.stale("; ".join(told))

    def stale(self, why: str) -> StalePlan:
        """The error of a plan that is not carried out."""
        return StalePlan(f"{self.file} is stale, and nothing was changed: {why}", "plan again, and look at that")


def saved_plan(env: Environment, paths: tuple[str, ...]) -> SavedPlan | None:
    """The saved plan that the paths of a command name; ``None`` where they name manifests.

    Raises:
        UsageError: when there are other paths beside it, or it is another document about a plan.
        ReconcileError: when it cannot be read.
    """
    plans = [path for path in paths if is_plan(env.cwd / path)]
    if not plans:
        return None
    if len(paths) > 1:
        raise UsageError(f"{plans[0]} is a plan, which stands alone", "name either it or manifests")
    return SavedPlan(plans[0], read_saved_plan(env.cwd / plans[0], plans[0]))


def saved_document(
    env: Environment, what: CommandInput, request: Request, project: Project, plan: Document
) -> dict[str, Any]:
    """A plan with all that is needed to carry it out later (schema: saved-plan)."""
    selection = what.selection
    return {
        "version": VERSION,
        "kind": SAVED_PLAN,
        "time": format_time(env.clock()),
        "reconciler": __version__,
        "input": {
            "paths": list(what.paths),
            "target": project.target.name,
            "labels": [{"name": name, "value": value} for name, value in selection.labels],
            "only": sorted(selection.only),
            "exclude": sorted(selection.exclude),
            "retry": sorted(request.retry),
            "replace": sorted(request.replace),
        },
        "facts": plan_facts(project.manifests, project.target, project.lock),
        "plan": {name: part for name, part in plan.items() if name != "portraits"},
    }
