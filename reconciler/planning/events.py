"""What happens during a run, as one stream, and how each event changes the lock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from reconciler.domain.checks import CheckReport
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedTarget
from reconciler.domain.model import Dataset, RemoteModel, Resources, State
from reconciler.domain.plan import Reason
from reconciler.planning.check_evaluation import recorded_checks
from reconciler.planning.generations import EXPECTED_STATES
from reconciler.planning.prune import is_over, mark_deleted


@dataclass(frozen=True, slots=True)
class Targeted:
    """The run works on this target."""

    target: LockedTarget


@dataclass(frozen=True, slots=True)
class Declared:
    """A manifest was read; what of it outlives the manifest is recorded beside its generations."""

    name: str
    manifest: str
    protect: bool


@dataclass(frozen=True, slots=True)
class Intended:
    """The service is about to be asked for a generation, under an id of its own choice."""

    name: str
    manifest: str
    generation: LockedGeneration


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was intended was refused, or nobody asks for it any more; ``before`` is what was recorded in its place."""

    name: str
    key: str
    before: LockedGeneration | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The service took a generation: its training runs."""

    name: str
    manifest: str
    generation: LockedGeneration


@dataclass(frozen=True, slots=True)
class Adopted:
    """A generation of ours that this lock did not hold was found."""

    name: str
    manifest: str
    generation: LockedGeneration


@dataclass(frozen=True, slots=True)
class Progressed:
    """A generation was looked at while it trains; ``total_steps`` is known from the service or by calculation."""

    name: str
    key: str
    model: RemoteModel
    total_steps: int | None


@dataclass(frozen=True, slots=True)
class Completed:
    """A training ended well."""

    name: str
    key: str
    model: RemoteModel


@dataclass(frozen=True, slots=True)
class Failed:
    """A training ended badly; ``model.failure`` says why where the service tells it."""

    name: str
    key: str
    model: RemoteModel


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A training was cancelled, by whomever."""

    name: str
    key: str
    model: RemoteModel


@dataclass(frozen=True, slots=True)
class Dropped:
    """A training that doubled another one, ``remote``, was cancelled; ``key`` is the generation of both."""

    name: str
    key: str
    remote: str


@dataclass(frozen=True, slots=True)
class Disappeared:
    """A recorded generation is proved to be gone."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Updated:
    """Mutable fields were patched; ``fields`` names them."""

    name: str
    key: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promoted:
    """This generation serves from now on; ``time`` is an RFC 3339 time."""

    name: str
    key: str
    remote: str
    time: str = ""


@dataclass(frozen=True, slots=True)
class Checking:
    """The checks of a generation go on: ``done`` of the ``total`` prompts of its ``checks`` are answered."""

    name: str
    key: str
    done: int
    total: int
    checks: int


@dataclass(frozen=True, slots=True)
class Checked:
    """The checks of a generation were run."""

    name: str
    key: str
    report: CheckReport


@dataclass(frozen=True, slots=True)
class Rejected:
    """Somebody decided that a generation must not serve, and said why."""

    name: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """A generation that was rejected may serve again."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Published:
    """Applications were told that this generation serves, or with ``None`` that none does."""

    name: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Renamed:
    """A manifest is called ``name`` now; what was recorded under its ``former`` name goes on under this one."""

    name: str
    former: str
    manifest: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A data set was declared for a generation of which nobody knows what it was trained on."""

    name: str
    key: str
    dataset: Dataset
    preamble: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Somebody decided that a model is managed no longer; it goes on at the service."""

    name: str


@dataclass(frozen=True, slots=True)
class Unprotected:
    """Somebody decided that what a manifest protected, which is there no longer, may be deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class Unserved:
    """This generation is about to be deleted with its whole model, and serves no longer."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A generation was deleted, ``remote``, with everything that its training had made."""

    name: str
    key: str
    remote: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Of a model that no manifest declares, the last generation was deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An action could not be carried out; the others go on. ``reason`` is set where that is a hold of its own."""

    name: str
    error: ReconcileError
    reason: Reason | None = None


Event = (
    Targeted
    | Declared
    | Intended
    | Withdrawn
    | Started
    | Adopted
    | Progressed
    | Completed
    | Failed
    | Cancelled
    | Dropped
    | Disappeared
    | Updated
    | Promoted
    | Checking
    | Checked
    | Rejected
    | Restored
    | Published
    | Renamed
    | Claimed
    | Forgotten
    | Unprotected
    | Unserved
    | Deleted
    | Ended
    | Refused
)
EventSink = Callable[[Event], None]
"""Takes each event of a run as it happens."""


def record(lock: Lock, event: Event) -> Lock:
    """The lock after an event, the same object where nothing changed; the only thing that changes a lock."""
    if isinstance(event, Targeted):
        return lock if lock.target == event.target else replace(lock, target=event.target)
    if isinstance(event, Renamed):
        return _renamed(lock, event)
    if isinstance(event, Intended | Started | Adopted):
        model = lock.models.get(event.name) or LockedModel(event.manifest)
        changed = _opened(replace(model, manifest=event.manifest), event)
    elif event.name in lock.models:
        model = lock.models[event.name]
        changed = _told(model) if isinstance(event, Forgotten) else _changed(model, event)
    else:
        return lock
    if lock.models.get(event.name) == changed:
        return lock
    if isinstance(event, Withdrawn | Published | Forgotten | Ended) and _is_empty(changed):
        return replace(lock, models={name: one for name, one in lock.models.items() if name != event.name})
    return replace(lock, models={**lock.models, event.name: changed})


def _is_empty(model: LockedModel) -> bool:
    return not (model.generations or model.rejected or model.published)


def _renamed(lock: Lock, event: Renamed) -> Lock:
    """Applications know the former name until they are told of the new one: that much of its block stays till then."""
    former = lock.models.get(event.former)
    if former is None or not (former.generations or former.rejected):
        return lock
    present = lock.models.get(event.name) or LockedModel(event.manifest)
    merged = replace(
        present,
        manifest=event.manifest,
        serving=present.serving or former.serving,
        rejected=tuple(dict.fromkeys((*present.rejected, *former.rejected))),
        protect=present.protect or former.protect,
    )
    merged = reduce(LockedModel.with_generation, former.generations, merged)
    others = {name: one for name, one in lock.models.items() if name != event.former}
    left = {event.former: _told(former)} if former.published else {}
    return replace(lock, models={**others, **left, event.name: merged})


def _told(model: LockedModel) -> LockedModel:
    """What is left of a model that is recorded no longer: what applications were told of it last."""
    return LockedModel(model.manifest, published=model.published)


def _opened(model: LockedModel, event: Intended | Started | Adopted) -> LockedModel:
    generation = event.generation
    known = model.generation(generation.key)
    if known and known.state is State.CANCELLED and known.remote == generation.remote and isinstance(event, Started):
        return model  # somebody else stopped it after it was started
    if isinstance(event, Intended):
        before = model.generation(generation.key)
        begun = before is not None and before.state in EXPECTED_STATES  # by a run that was faster
        return model if begun else model.with_generation(generation)
    anew = model.serving == generation.key and generation.state is not State.ACTIVE
    serving = None if anew else model.serving  # what is trained anew has to earn its place again
    return replace(model, serving=serving).with_generation(generation)


def _changed(model: LockedModel, event: Event) -> LockedModel:
    match event:
        case Declared(_, manifest, protect):
            return replace(model, manifest=manifest, protect=protect)
        case Unprotected() | Unserved() | Deleted() | Ended():
            return _let_go(model, event)
        case Promoted() | Checked() | Rejected() | Restored() | Published() | Claimed():
            return _serving_changed(model, event)
        case Withdrawn() | Disappeared():
            return _lost(model, event)
        case Progressed() | Completed() | Failed() | Cancelled():
            return _looked_at(model, event)
        case _:
            return model


def _serving_changed(
    model: LockedModel, event: Promoted | Checked | Rejected | Restored | Published | Claimed
) -> LockedModel:
    match event:
        case Claimed(_, key, dataset, preamble):
            told = replace(dataset, error="")
            return _amended(model, key, dataset=told, preamble=preamble, claimed=not dataset.is_unknown)
        case Published(_, published):
            return replace(model, published=published)
        case Promoted(_, key, _, time):
            return replace(_amended(model, key, promote_time=time), serving=key)
        case Checked(_, key, report):
            return _amended(model, key, checks=recorded_checks(report))
        case Rejected(_, key, reason):
            rejected = tuple(dict.fromkeys((*model.rejected, key)))
            serving = None if model.serving == key else model.serving
            return replace(_amended(model, key, rejection=reason), rejected=rejected, serving=serving)
        case Restored(_, key):
            rejected = tuple(one for one in model.rejected if one != key)
            return replace(_amended(model, key, rejection=""), rejected=rejected)


def _let_go(model: LockedModel, event: Unprotected | Unserved | Deleted | Ended) -> LockedModel:
    match event:
        case Unprotected():
            return replace(model, protect=False)
        case Unserved(_, key):
            return replace(model, serving=None) if model.serving == key else model
        case Deleted(_, key, remote):
            return mark_deleted(model, key, remote)
        case Ended():
            return _told(model) if is_over(model) else model


def _amended(model: LockedModel, key: str, **fields: Any) -> LockedModel:
    generation = model.generation(key)
    return model.with_generation(replace(generation, **fields)) if generation else model


def _lost(model: LockedModel, event: Withdrawn | Disappeared) -> LockedModel:
    """What another run has recorded meanwhile, such as that somebody cancelled a training, is no loss."""
    generation = model.generation(event.key)
    if isinstance(event, Disappeared):
        expected = generation is not None and generation.state in EXPECTED_STATES
        return _amended(model, event.key, state=State.MISSING) if expected else model
    if generation is None or generation.state is not State.INTENDED:
        return model
    return model.with_generation(event.before) if event.before else model.without_generation(event.key)


def _looked_at(model: LockedModel, event: Progressed | Completed | Failed | Cancelled) -> LockedModel:
    """Another run may have recorded another training of that key meanwhile, of which this says nothing."""
    generation = model.generation(event.key)
    if generation is None or generation.remote != event.model.remote:
        return model
    if generation.state is State.CANCELLED and event.model.state is State.CREATING:
        return model  # the service may show it as training for a while
    return model.with_generation(update_observed(generation, event.model))


def update_observed(generation: LockedGeneration, model: RemoteModel) -> LockedGeneration:
    """The recorded generation with what the service now says of it; what it no longer says is kept.

    A loss is final only when the training is over, so that a lock written halfway does not change with every poll; one
    that is no finite number has no place in JSON.
    """
    ended = model.state is not State.CREATING
    loss = model.snapshots[-1].loss if ended and model.snapshots else math.nan
    return replace(
        generation,
        state=model.state,
        effective=dict(model.hyperparameters) or generation.effective,
        create_time=model.create_time or generation.create_time,
        complete_time=model.complete_time or generation.complete_time,
        total_steps=generation.total_steps or model.total_steps,
        final_loss=loss if math.isfinite(loss) else generation.final_loss,
        failure=model.failure or generation.failure,
        resources=generation.resources if model.resources == Resources() else model.resources,
    )
