"""The text of a lockfile. Version 1: JSON, two-space indent, sorted keys, empty keys left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from reconciler.domain.checks import RecordedChecks, RecordedMiss
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedTarget
from reconciler.domain.model import REMOTE_SCHEME, Checkpoint, Dataset, Failure, Resources, Source, State
from reconciler.state.conflict_markers import has_markers
from reconciler.state.json_reader import DecodeError, JsonReader

LOCK_VERSION: Final = 1
UPGRADE: Final = "upgrade reconcile"
"""The remedy of a lockfile that a newer version has written."""


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
            "published": model.published,
            "generations": [_generation_json(one) for one in model.generations],
        }
    )


def _generation_json(one: LockedGeneration) -> dict[str, Any]:
    """One generation as the lockfile spells it."""
    document = _filled(
        {
            "key": one.key,
            "remote": one.remote,
            "spec": one.spec,
            "origin": one.origin,
            "state": one.state.value,
            "source": source_json(one.source),
            "hyperparameters": _filled({"declared": dict(one.declared), "effective": dict(one.effective)}),
            "dataset": _dataset_json(one.dataset) | _filled({"claimed": one.claimed or None}),
            "operation": one.operation,
            "totalSteps": one.total_steps,
            "finalLoss": one.final_loss,
            "createTime": one.create_time,
            "completeTime": one.complete_time,
            "error": {"code": one.failure.code, "message": one.failure.message} if one.failure else None,
            "resources": resources_json(one.resources),
            "checks": checks_json(one.checks) if one.checks else None,
            "promoteTime": one.promote_time,
            "rejection": one.rejection,
        }
    )
    return {**document, "attempt": one.attempt, "preamble": one.preamble}


def _dataset_json(dataset: Dataset) -> dict[str, Any]:
    return _filled(
        {
            "path": dataset.path,
            "digest": dataset.digest,
            "unknown": dataset.is_unknown or None,
            "examples": dataset.examples or None,
            "generation": dataset.generation,
            "checksum": dataset.checksum,
            "bytes": dataset.size or None,
        }
    )


def source_json(source: Source) -> dict[str, Any]:
    """What a generation was tuned from, as lockfile and documents spell it; the remote name of a parent follows."""
    remote = "" if source.tuned_model else source.remote
    return _filled(
        {
            "baseModel": source.base_model,
            "tunedModel": source.tuned_model,
            "generation": source.key,
            "remote": remote,
        }
    )


def checks_json(checks: RecordedChecks) -> dict[str, Any]:
    """How a generation did in its checks, as lockfile and documents spell it."""
    failures = [{"check": one.check, "prompt": one.prompt, "answer": one.answer} for one in checks.misses]
    shown = _filled({"digest": checks.digest, "scores": dict(checks.scores), "failures": failures})
    return {**shown, "passed": checks.passed, "failed": checks.failed}


def resources_json(resources: Resources) -> dict[str, Any]:
    """What a training made, as lockfile and documents spell it; empty where nothing is known."""
    checkpoints = [
        _filled({"checkpointId": one.id, "epoch": one.epoch, "step": one.step, "endpoint": one.endpoint})
        for one in resources.checkpoints
    ]
    return _filled(
        {
            "job": resources.job,
            "model": resources.model,
            "endpoint": resources.endpoint,
            "location": resources.location,
            "checkpoints": checkpoints,
        }
    )


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
        raise ReconcileError(f"{file} has version {version}, and this reconcile reads up to {LOCK_VERSION}", UPGRADE)
    try:
        return _lock_of(document)
    except DecodeError as error:
        raise _unreadable(f"{file}: {error}", file) from error


def _unreadable(message: str, file: str) -> ReconcileError:
    source = "an earlier version of the object" if file.startswith(REMOTE_SCHEME) else "git"
    return ReconcileError(message, f"restore {file} from {source}, or move it away: reconcile refresh rebuilds it")


def _parse(text: str, file: str) -> dict[str, Any]:
    if has_markers(text):
        raise ReconcileError(
            f"{file} holds the conflict markers of a merge", "run reconcile refresh, which unites both sides"
        )
    try:
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"{file} is no complete JSON ({error})", file) from error
    if not isinstance(document, dict):
        raise _unreadable(f"{file} is JSON, but no lockfile of reconcile", file)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return fields


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _lock_of(document: dict[str, Any]) -> Lock:
    root = JsonReader("", document)
    target, models = root.block("target"), root.block("models")
    if models.fields and not target.fields:
        raise DecodeError("target is missing, so nobody knows whose models these are")
    return Lock(
        target=_target_of(target) if target.fields else None,
        models={name: _model_of(models.block(name)) for name in models.fields},
    )


def _target_of(block: JsonReader) -> LockedTarget:
    limits = block.block("limits")
    return LockedTarget(
        name=block.need("name", str),
        provider=block.need("provider", str),
        scope=block.need("scope", str),
        project=block.find("project", str),
        location=block.find("location", str),
        limits={name: limits.need(name, int) for name in limits.fields},
    )


def _model_of(block: JsonReader) -> LockedModel:
    return LockedModel(
        manifest=block.need("manifest", str),
        serving=block.find("serving", str),
        rejected=block.texts("rejected"),
        protect=block.find("protect", bool) or False,
        published=block.find("published", str),
        generations=tuple(_generation_of(one) for one in block.blocks("generations")),
    )


def _generation_of(block: JsonReader) -> LockedGeneration:
    numbers = block.block("hyperparameters")
    return LockedGeneration(
        key=block.need("key", str),
        remote=_remote_of(block),
        spec=block.digest("spec"),
        attempt=block.find("attempt", int) or 0,
        origin=block.need("origin", str),
        state=_state_of(block),
        source=_source_of(block.block("source")),
        dataset=_dataset_of(block.block("dataset")),
        declared=numbers.numbers("declared"),
        effective=numbers.numbers("effective"),
        preamble=block.find("preamble", str) or "",
        operation=block.find("operation", str),
        total_steps=block.find("totalSteps", int),
        final_loss=block.find("finalLoss", float),
        create_time=_time_of(block, "createTime"),
        complete_time=_time_of(block, "completeTime"),
        failure=_failure_of(block.block("error")),
        resources=_resources_of(block.block("resources")),
        checks=_checks_of(block.block("checks")),
        promote_time=_time_of(block, "promoteTime"),
        rejection=block.find("rejection", str) or "",
        claimed=block.block("dataset").find("claimed", bool) or False,
    )


def _remote_of(block: JsonReader) -> str:
    """Only what is intended has no remote name yet."""
    if block.find("state", str) == State.INTENDED:
        return block.find("remote", str) or ""
    return block.need("remote", str)


def _source_of(block: JsonReader) -> Source:
    names = ("baseModel", "tunedModel", "generation", "remote")
    source = Source(*(block.find(name, str) or "" for name in names))
    if not source.identity:
        raise DecodeError(f"{block.where} names neither baseModel nor generation nor remote")
    return source


def _checks_of(block: JsonReader) -> RecordedChecks | None:
    if not block.fields:
        return None
    scores = block.numbers("scores")
    return RecordedChecks(
        digest=block.digest("digest"),
        passed=block.need("passed", int),
        failed=block.need("failed", int),
        scores={name: float(value) for name, value in scores.items()},
        misses=tuple(
            RecordedMiss(one.need("check", str), one.need("prompt", str), one.need("answer", str))
            for one in block.blocks("failures")
        ),
    )


def _dataset_of(block: JsonReader) -> Dataset:
    return Dataset(
        path=block.find("path", str) or "",
        digest=block.digest("digest"),
        examples=block.find("examples", int) or 0,
        generation=block.find("generation", str) or "",
        checksum=block.find("checksum", str) or "",
        size=block.find("bytes", int) or 0,
    )


def _resources_of(block: JsonReader) -> Resources:
    texts = {name: block.find(name, str) or "" for name in ("job", "model", "endpoint", "location")}
    checkpoints = tuple(
        Checkpoint(
            id=one.need("checkpointId", str),
            epoch=one.find("epoch", int) or 0,
            step=one.find("step", int) or 0,
            endpoint=one.find("endpoint", str) or "",
        )
        for one in block.blocks("checkpoints")
    )
    return Resources(checkpoints=checkpoints, **texts)


def _state_of(block: JsonReader) -> State:
    text = block.need("state", str)
    try:
        return State(text)
    except ValueError as error:
        raise DecodeError(f"{block.where}.state is none of {', '.join(State)}") from error


def _time_of(block: JsonReader, name: str) -> str:
    text = block.find(name, str) or ""
    try:
        odd = bool(text) and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        odd = True
    if odd:
        raise DecodeError(f"{block.where}.{name} is no RFC 3339 time")
    return text


def _failure_of(block: JsonReader) -> Failure | None:
    return Failure(block.need("code", int), block.need("message", str)) if block.fields else None
