"""Notices about models that another target has already trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from reconciler.domain.lock import Lock
from reconciler.domain.plan import Kind, Plan
from reconciler.domain.text import join_names

_MOST_NAMES: Final = 5


def cross_target_notices(plan: Plan, provider: str, other_locks: Iterable[Lock]) -> Iterator[str]:
    """Return a notice for each target of another provider that serves models that this plan trains."""
    created = {action.name for action in plan.of_kind(Kind.CREATE)}
    for lock in other_locks:
        served = sorted(name for name in created if (model := lock.models.get(name)) and model.serving)
        if served and lock.target and lock.target.provider != provider:
            yield (
                f"target {lock.target.name} ({lock.target.provider}) already serves {join_names(served, _MOST_NAMES)};"
                " a tuned model cannot be moved to another service, so it is trained again"
            )
