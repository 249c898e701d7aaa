"""What a plan says of models that are trained already, on another target: no service takes over another one's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.domain.lock import Lock
from reconciler.domain.plan import Kind, Plan

_NAMED = 5
"""How many models a sentence names."""


def moving_notices(plan: Plan, provider: str, others: Iterable[Lock]) -> tuple[str, ...]:
    """Sentences about the models that this plan trains anew for ``provider`` although another target has them."""
    created = {action.name for action in plan.of_kind(Kind.CREATE)}
    return tuple(_sentences(created, provider, others))


def _sentences(created: set[str], provider: str, others: Iterable[Lock]) -> Iterator[str]:
    for other in others:
        if other.target is None or other.target.provider == provider:
            continue
        trained = sorted(name for name in created if (model := other.models.get(name)) and model.serving)
        if trained:
            more = f" and {len(trained) - _NAMED} more" if len(trained) > _NAMED else ""
            yield (
                f"target {other.target.name} ({other.target.provider}) serves {', '.join(trained[:_NAMED])}{more}"
                " already; a tuned model cannot be moved to another service, so here the training begins anew"
            )
