"""What becomes of a block of the lockfile when its generations are deleted."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from reconciler.core.lock import LockedModel
from reconciler.core.model import CANCELLED_CODE, Failure, State

ABSENT: Final = frozenset({State.MISSING, State.RETIRED})
"""States of generations that are at the service no longer."""
_FAILED: Final = frozenset({State.FAILED, State.CANCELLED})
_LEFT: Final = 10
"""How many generations of a model stay recorded although they are gone."""
_UNTOLD: Final = {
    State.FAILED: Failure(2, "the training failed; the service did not tell why"),
    State.CANCELLED: Failure(CANCELLED_CODE, "the training was cancelled"),
}
"""What is recorded of a training that ended badly and is deleted, where nothing else is: it holds its manifest on."""


def is_over(model: LockedModel) -> bool:
    """Whether nothing that a block of the lockfile records is at the service any more, nor decides anything."""
    return not (model.protect or model.rejected) and all(one.state in ABSENT for one in model.generations)


def retired(model: LockedModel, key: str, remote: str) -> LockedModel:
    """The block of the lockfile after a generation was deleted: it stays as provenance, until ten later ones are gone.

    What serves, is rejected, or is not known to be gone is never left out.
    """
    one = model.generation(key)
    if one is None or one.remote != remote:
        return model
    failure = one.failure or _UNTOLD.get(one.state)
    model = model.with_generation(replace(one, state=State.RETIRED, failure=failure))
    standing = {model.serving, *model.rejected}
    gone = [each for each in model.generations if each.state in ABSENT and each.key not in standing]
    failed = sum(each.state in _FAILED for each in model.generations)
    spare = {each.key for each in gone[max(0, _LEFT - failed) :]}
    return replace(model, generations=tuple(each for each in model.generations if each.key not in spare))
