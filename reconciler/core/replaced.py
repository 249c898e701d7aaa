"""Whether what stands under a recorded generation's remote name is still that generation."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.core.diff import MARK_FIELD
from reconciler.core.identity import same_number
from reconciler.core.lock import Lock, LockedGeneration
from reconciler.core.model import RemoteModel, Source
from reconciler.core.plan import FieldChange


def replacements(one: LockedGeneration, live: RemoteModel, lock: Lock, *, strict: bool) -> tuple[FieldChange, ...]:
    """In what a live model differs from the generation that was recorded under its remote name.

    What was recorded counts as declared. Nothing of it can change in the life of a model. With ``strict`` the content
    is compared even where the model was created at the recorded moment; services that choose names themselves never
    give one away again, and may spell content their own way.
    """
    moved = bool(one.create_time and live.create_time) and not one.is_same(live)
    times = [FieldChange("createTime", live.create_time, one.create_time)] if moved else []
    return (*times, *(_content(one, live, lock) if moved or strict else ()))


def _content(one: LockedGeneration, live: RemoteModel, lock: Lock) -> Iterator[FieldChange]:
    recorded = _shown(one.source, lock)
    if live.source and recorded.identity and not recorded.is_same(live.source):
        based = recorded.base_model and live.source.base_model
        yield FieldChange("baseModel" if based else "source", live.source.identity, recorded.identity)
    for name in sorted(one.effective.keys() & live.hyperparameters.keys()):
        if not same_number(one.effective[name], live.hyperparameters[name]):
            yield FieldChange(f"hyperparameters.{name}", live.hyperparameters[name], one.effective[name])
    if live.mark and live.mark.spec != one.spec:
        yield FieldChange(MARK_FIELD, live.mark.spec, one.spec)


def _shown(source: Source, lock: Lock) -> Source:
    """What a service shows of what a generation was tuned from; empty where the lockfile no longer tells."""
    if not source.tuned_model:
        return source
    parent = lock.models.get(source.tuned_model)
    found = parent.generation(source.key) if parent else None
    return Source(remote=found.resources.model or found.remote) if found else Source()
