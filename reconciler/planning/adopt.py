"""Taking over a model that somebody else trained: whether that may be, and how it is recorded."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.domain.errors import ReconcileError
from reconciler.domain.identity import Content, key_of
from reconciler.domain.lock import Lock, LockedGeneration
from reconciler.domain.model import UNKNOWN_DATA, Dataset, Manifest, RemoteModel, Source, State
from reconciler.planning.events import observed
from reconciler.planning.generations import Observation, resolve_recorded, satisfies

_UNREADY = {
    State.CREATING: "wait until its training has ended",
    State.FAILED: "only a model that is ready can be taken over",
    State.CANCELLED: "only a model that is ready can be taken over",
}


def adopted(name: str, scope: str, live: RemoteModel) -> LockedGeneration:
    """A foreign model as the first generation of a manifest.

    Its content is what the manifest says that is written for it: what it was tuned from, no hyperparameter, and data
    that nobody has at hand. So its key is well-formed, and it satisfies that manifest.
    """
    source = live.source or Source()
    mark = Content(scope, name, source, {}, UNKNOWN_DATA).mark()
    taken = LockedGeneration(
        key=key_of(mark),
        remote=live.remote,
        spec=mark.spec,
        attempt=mark.attempt,
        origin="adopted",
        state=live.state,
        source=source,
        dataset=Dataset("", UNKNOWN_DATA, 0),
    )
    return observed(taken, live)


def require_adoptable(live: RemoteModel, scope: str, lock: Lock, others: Iterable[Lock] = ()) -> None:
    """Refuse what is managed already, by whomever, and what is not ready; ``others`` are those of other targets.

    Raises:
        ReconcileError: saying whose it is, or what is missing.
    """
    _require_unrecorded(live, lock, "the lockfile")
    for other in others:
        _require_unrecorded(
            live, other, f"the lockfile of target {other.target.name}" if other.target else "another one"
        )
    if live.mark and live.mark.scope == scope:
        raise ReconcileError(
            f"{live.remote} is ours already: it bears the mark of {live.mark.name}, of this scope",
            f"reconcile apply takes it up where a manifest is called {live.mark.name}, on whatever branch that is",
        )
    if live.mark:
        raise ReconcileError(
            f"{live.remote} belongs to the scope {live.mark.scope}, as its mark says: {live.mark.name}",
            "ask those who own that scope; they let it go with reconcile forget",
        )
    if live.state is not State.ACTIVE:
        raise ReconcileError(
            f"{live.remote} cannot be taken over: the service shows it as {live.state}",
            _UNREADY.get(live.state, "wait until it is ready"),
        )
    if live.source is None:
        raise ReconcileError(
            f"{live.remote} cannot be taken over: the service does not tell what it was tuned from",
            "a manifest has to say that; train a model of your own",
        )


def _require_unrecorded(live: RemoteModel, lock: Lock, called: str) -> None:
    for name, model in lock.models.items():
        if any(one.remote == live.remote and one.is_same(live) for one in model.generations):
            raise ReconcileError(
                f"{live.remote} is ours already: {called} records it as a generation of {name}",
                f"to call it otherwise, rename that manifest, with metadata.formerly: [{name}]",
            )


def require_satisfying(one: LockedGeneration, manifest: Manifest, scope: str) -> None:
    """Refuse a model that is not what its manifest, which is there already, asks for.

    Raises:
        ReconcileError: when it is tuned from something else, or otherwise.
    """
    if not satisfies(resolve_recorded(one, scope, manifest.name, Observation()), manifest):
        raise ReconcileError(
            f"{one.remote} is not what {manifest.name} asks for at {manifest.place}",
            "let spec.baseModel, spec.source and spec.hyperparameters say what it was trained with",
        )
