"""The lockfile as a value, and its text. Version 1: two-space indent, sorted keys, empty keys left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from reconciler.core.blocks import Block, OddFieldError
from reconciler.core.model import Dataset, Failure, Hyperparameters, Mark, RemoteModel, Source, State, Target
from reconciler.core.problems import ReconcileError

LOCK_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class LockedTarget:
    """The target that a lockfile belongs to; ``limits`` holds those that differ from the defaults, by wire name."""

    name: str
    provider: str
    scope: str
    project: str | None = None
    location: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LockedGeneration:
    """What was recorded about one generation; ``spec`` and ``dataset.digest`` are ``sha256:`` digests.

    ``origin`` is ``created`` or ``adopted``. ``effective`` are the hyperparameters that the service reported.
    """

    key: str
    remote: str
    spec: str
    attempt: int
    origin: str
    state: State
    source: Source
    dataset: Dataset
    declared: Hyperparameters = field(default_factory=dict)
    effective: Hyperparameters = field(default_factory=dict)
    preamble: str = ""
    operation: str | None = None
    total_steps: int | None = None
    final_loss: float | None = None
    create_time: str = ""
    complete_time: str = ""
    failure: Failure | None = None

    def mark(self, scope: str, name: str) -> Mark:
        """The ownership mark of this generation, of that manifest in that scope."""
        return Mark(scope, name, self.spec, self.dataset.digest, self.attempt)

    def is_same(self, live: RemoteModel) -> bool:
        """Whether a live model of this remote name is the recorded one: created at the very same moment."""
        return bool(self.create_time) and instant(live.create_time) == instant(self.create_time)


def instant(text: str) -> datetime | None:
    """An RFC 3339 time of a service (0 to 9 fraction digits), cut to microseconds; ``None`` when there is none."""
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True, slots=True)
class LockedModel:
    """Everything recorded under one manifest's name; generations newest first."""

    manifest: str
    serving: str | None = None
    rejected: tuple[str, ...] = ()
    protect: bool = False
    generations: tuple[LockedGeneration, ...] = ()

    def generation(self, key: str | None) -> LockedGeneration | None:
        """The generation of that key, if it is recorded."""
        return next((one for one in self.generations if one.key == key), None)

    def with_generation(self, generation: LockedGeneration) -> LockedModel:
        """The model with this generation put in the place of the one with its key, or before all others."""
        if self.generation(generation.key) is None:
            return replace(self, generations=(generation, *self.generations))
        swapped = (generation if one.key == generation.key else one for one in self.generations)
        return replace(self, generations=tuple(swapped))


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lockfile; ``target`` is ``None`` until something was recorded."""

    target: LockedTarget | None = None
    models: Mapping[str, LockedModel] = field(default_factory=dict)


def locked_target(target: Target) -> LockedTarget:
    """What a lockfile says of a target."""
    limits, defaults = limits_of(target), limits_of(replace(target, limits=type(target.limits)()))
    return LockedTarget(
        name=target.name,
        provider=target.provider,
        scope=target.scope,
        project=target.project,
        location=target.location,
        limits={name: value for name, value in limits.items() if value != defaults[name]},
    )


def limits_of(target: Target) -> dict[str, int]:
    """The limits of a target by their wire names."""
    limits = target.limits
    return {
        "maxCreates": limits.max_creates,
        "maxSteps": limits.max_steps,
        "maxDeletePercent": limits.max_delete_percent,
        "concurrency": limits.concurrency,
        "requestsPerMinute": limits.requests_per_minute,
    }


def check_owner(lock: Lock, target: Target, file: str) -> None:
    """Refuse a lockfile that was written for another provider, project, location or scope.

    Raises:
        ReconcileError: naming the first field that differs.
    """
    if lock.target is None:
        return
    for name in ("provider", "project", "location", "scope"):
        recorded, wanted = getattr(lock.target, name), getattr(target, name)
        if recorded != wanted:
            raise ReconcileError(
                f"{file} belongs to another {name}: it records {_shown(recorded)}, {target.file} says {_shown(wanted)}",
                f"go back to the old {name}, or move {file} away to start anew under a target of another name",
            )


def _shown(value: str | None) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def dumps(lock: Lock) -> str:
    """The text of a lockfile; equal locks have equal texts."""
    document = {
        "version": LOCK_VERSION,
        "target": _filled(_target_json(lock.target)) if lock.target else {},
        "models": {name: _model_json(model) for name, model in lock.models.items()},
    }
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _target_json(target: LockedTarget) -> dict[str, Any]:
    return {
        "name": target.name,
        "provider": target.provider,
        "project": target.project,
        "location": target.location,
        "scope": target.scope,
        "limits": dict(target.limits),
    }


def _model_json(model: LockedModel) -> dict[str, Any]:
    return _filled(
        {
            "manifest": model.manifest,
            "serving": model.serving,
            "rejected": list(model.rejected),
            "protect": model.protect or None,
            "generations": [generation_json(one) for one in model.generations],
        }
    )


def generation_json(one: LockedGeneration) -> dict[str, Any]:
    """One generation as the lockfile spells it."""
    document = _filled(
        {
            "key": one.key,
            "remote": one.remote,
            "spec": one.spec,
            "origin": one.origin,
            "state": one.state.value,
            "source": {"baseModel": one.source.base_model},
            "hyperparameters": _filled({"declared": dict(one.declared), "effective": dict(one.effective)}),
            "dataset": _filled(
                {"path": one.dataset.path, "digest": one.dataset.digest, "examples": one.dataset.examples or None}
            ),
            "operation": one.operation,
            "totalSteps": one.total_steps,
            "finalLoss": one.final_loss,
            "createTime": one.create_time,
            "completeTime": one.complete_time,
            "error": {"code": one.failure.code, "message": one.failure.message} if one.failure else None,
        }
    )
    return {**document, "attempt": one.attempt, "preamble": one.preamble}


def _filled(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value not in (None, "", {}, [])}


def loads(text: str, file: str) -> Lock:
    """Read a lockfile's text; ``file`` names it in messages.

    Raises:
        ReconcileError: for a truncated file, foreign JSON, conflict markers, a missing or odd field, a newer version.
    """
    document = _parse(text, file)
    version = document.get("version")
    if type(version) is not int or version < 1 or not isinstance(document.get("models"), dict):
        raise _unreadable(f"{file} is JSON, but no lockfile of reconcile", file)
    if version > LOCK_VERSION:
        raise ReconcileError(
            f"{file} has version {version}, and this reconcile reads up to {LOCK_VERSION}", "upgrade reconcile"
        )
    try:
        return _lock_of(document)
    except OddFieldError as error:
        raise _unreadable(f"{file}: {error}", file) from error


def _unreadable(message: str, file: str) -> ReconcileError:
    return ReconcileError(message, f"restore {file} from git, or move it away: apply rebuilds it")


def _parse(text: str, file: str) -> dict[str, Any]:
    if any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines()):
        raise ReconcileError(
            f"{file} holds the conflict markers of a merge", f"take one side (git checkout --ours {file}) and run again"
        )
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"{file} is no complete JSON ({error})", file) from error
    if not isinstance(document, dict):
        raise _unreadable(f"{file} is JSON, but no lockfile of reconcile", file)
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _lock_of(document: dict[str, Any]) -> Lock:
    root = Block("", document)
    target, models = root.block("target"), root.block("models")
    return Lock(
        target=_target_of(target) if target.fields else None,
        models={name: _model_of(models.block(name)) for name in models.fields},
    )


def _target_of(block: Block) -> LockedTarget:
    limits = block.block("limits")
    return LockedTarget(
        name=block.need("name", str),
        provider=block.need("provider", str),
        scope=block.need("scope", str),
        project=block.find("project", str),
        location=block.find("location", str),
        limits={name: limits.need(name, int) for name in limits.fields},
    )


def _model_of(block: Block) -> LockedModel:
    return LockedModel(
        manifest=block.need("manifest", str),
        serving=block.find("serving", str),
        rejected=block.texts("rejected"),
        protect=block.find("protect", bool) or False,
        generations=tuple(_generation_of(one) for one in block.blocks("generations")),
    )


def _generation_of(block: Block) -> LockedGeneration:
    dataset, numbers = block.block("dataset"), block.block("hyperparameters")
    return LockedGeneration(
        key=block.need("key", str),
        remote=block.need("remote", str),
        spec=block.digest("spec"),
        attempt=block.find("attempt", int) or 0,
        origin=block.need("origin", str),
        state=_state_of(block),
        source=Source(block.block("source").need("baseModel", str)),
        dataset=Dataset(dataset.find("path", str) or "", dataset.digest("digest"), dataset.find("examples", int) or 0),
        declared=numbers.numbers("declared"),
        effective=numbers.numbers("effective"),
        preamble=block.find("preamble", str) or "",
        operation=block.find("operation", str),
        total_steps=block.find("totalSteps", int),
        final_loss=block.find("finalLoss", float),
        create_time=_time_of(block, "createTime"),
        complete_time=_time_of(block, "completeTime"),
        failure=_failure_of(block.block("error")),
    )


def _state_of(block: Block) -> State:
    text = block.need("state", str)
    try:
        return State(text)
    except ValueError as error:
        raise OddFieldError(f"{block.where}.state is none of {', '.join(State)}") from error


def _time_of(block: Block, name: str) -> str:
    text = block.find(name, str) or ""
    try:
        odd = bool(text) and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        odd = True
    if odd:
        raise OddFieldError(f"{block.where}.{name} is no RFC 3339 time")
    return text


def _failure_of(block: Block) -> Failure | None:
    return Failure(block.need("code", int), block.need("message", str)) if block.fields else None
