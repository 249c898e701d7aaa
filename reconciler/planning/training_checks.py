"""What the checks of planned trainings mean for a plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.plan import Action, Kind, TrainingCheck, TrainingEstimate, TrainingFault, TrainingNeeds
from reconciler.domain.text import counted, join_names

_SHOWN_FAULTS: Final = 5
_SHOWN_NAMES: Final = 5


def with_needs(estimate: TrainingEstimate, needs: TrainingNeeds) -> TrainingEstimate:
    """Return an estimate with what a check found out."""
    found = {name: value for name in needs.__struct_fields__ if (value := getattr(needs, name))}
    return replace(estimate, **found, tokens_estimated=estimate.tokens_estimated and needs.tokens is None)


def describe_faults(faults: Sequence[TrainingFault]) -> str:
    """Return the first faults of a training, each on a line."""
    lines = [str(fault) for fault in faults[:_SHOWN_FAULTS]]
    more = len(faults) - len(lines)
    return "\n".join([*lines, f"and {more} more"] if more else lines)


def check_notices(checks: Mapping[str, TrainingCheck], actions: Iterable[Action]) -> Iterator[str]:
    """Yield the warnings about the trainings that a plan starts, and which of them were not checked and why."""
    unchecked: dict[str, list[str]] = defaultdict(list)
    for action in actions:
        check = checks.get(action.key)
        if check is None or action.kind is not Kind.CREATE:
            continue
        if check.unchecked:
            unchecked[f"{check.unchecked}; {check.remedy}"].append(action.name)
        for fault in check.warnings[:_SHOWN_FAULTS]:
            yield f"{action.name}: {fault}"
        more = len(check.warnings) - _SHOWN_FAULTS
        if more > 0:
            yield f"{action.name}: {counted(more, 'more warning')} about its examples"
    for reason, names in unchecked.items():
        yield f"the training of {join_names(sorted(names), _SHOWN_NAMES)} was not checked: {reason}"


def require_startable(checks: Mapping[str, TrainingCheck], actions: Iterable[Action]) -> None:
    """Raise ReconcileError if the trainings of a plan cannot start here."""
    for action in actions:
        check = checks.get(action.key)
        if check and check.cannot_start and action.kind is Kind.CREATE:
            raise ReconcileError(f"{check.unchecked}, so {action.name} cannot be trained", check.remedy)
