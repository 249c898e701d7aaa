"""Read and write the text of a lockfile: JSON, two-space indent, sorted keys, without empty values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from reconciler.domain.checks import RecordedChecks, RecordedMiss
from reconciler.domain.document import builtins_of
from reconciler.domain.errors import ReconcileError
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, LockedTarget
from reconciler.domain.model import REMOTE_SCHEME, Checkpoint, Dataset, Failure, Resources, Sampling, Source, State
from reconciler.state.conflict_markers import has_conflict_markers
from reconciler.state.json_reader import DecodeError, JsonReader, check_version

LOCK_VERSION: Final = 1


def dumps(lock: Lock) -> str:
    """Return the text of a lockfile; equal locks have equal texts."""
    document = {
        "version": LOCK_VERSION,
        "target": _without_empty(_target_json(lock.target)) if lock.target else {},
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
    return _without_empty(
        {
            "manifest": model.manifest,
            "serving": model.serving,
            "rejected": list(model.rejected),
            "protect": model.protect or None,
            "published": model.published,
            "labels": dict(model.labels),
            "sampling": builtins_of(model.sampling) if model.sampling else None,
            "generations": [_generation_json(generation) for generation in model.generations],
        }
    )


def _generation_json(generation: LockedGeneration) -> dict[str, Any]:
    hyperparameters = {"declared": dict(generation.declared), "effective": dict(generation.effective)}
    document = _without_empty(
        {
            "key": generation.key,
            "remote": generation.remote,
            "spec": generation.spec,
            "origin": generation.origin,
            "state": generation.state.value,
            "source": builtins_of(generation.source.recorded),
            "hyperparameters": _without_empty(hyperparameters),
            "dataset": _dataset_json(generation.dataset) | _without_empty({"claimed": generation.claimed or None}),
            "operation": generation.operation,
            "totalSteps": generation.total_steps,
            "finalLoss": generation.final_loss,
            "createTime": generation.create_time,
            "completeTime": generation.complete_time,
            "error": builtins_of(generation.failure) if generation.failure else None,
            "resources": builtins_of(generation.resources),
            "checks": builtins_of(generation.checks) if generation.checks else None,
            "promoteTime": generation.promote_time,
            "rejection": generation.rejection,
        }
    )
    return {**document, "attempt": generation.attempt, "preamble": generation.preamble}


def _dataset_json(dataset: Dataset) -> dict[str, Any]:
    return _without_empty(
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


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value not in (None, "", {}, [])}


def loads(text: str, file: str) -> Lock:
    """Parse the text of a lockfile; ``file`` is its name in messages.

    Raises:
        ReconcileError: for truncated or other JSON, conflict markers, a missing or invalid field, a newer version.
    """
    document = _parse(text, file)
    version = document.get("version")
    if type(version) is not int or version < 1 or not isinstance(document.get("models"), dict):
        raise _invalid(f"{file}: not a lockfile", file)
    check_version(version, LOCK_VERSION, file)
    try:
        return _lock_of(document)
    except DecodeError as error:
        raise _invalid(f"{file}: {error}", file) from error


def _invalid(message: str, file: str) -> ReconcileError:
    source = "an earlier version of the object" if file.startswith(REMOTE_SCHEME) else "git"
    return ReconcileError(message, f"restore it from {source}, or move it away and run reconcile refresh")


def _parse(text: str, file: str) -> dict[str, Any]:
    if has_conflict_markers(text):
        raise ReconcileError(f"{file}: contains git conflict markers", "run reconcile refresh to merge both sides")
    try:
        document = json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{file}: invalid JSON: {error}", file) from error
    if not isinstance(document, dict):
        raise _invalid(f"{file}: not a lockfile", file)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return fields


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _lock_of(document: dict[str, Any]) -> Lock:
    root = JsonReader("", document)
    target, models = root.child("target"), root.child("models")
    if models.fields and not target.fields:
        raise DecodeError("target: missing, although there are models")
    return Lock(
        target=_target_of(target) if target.fields else None,
        models={name: _model_of(models.child(name)) for name in models.fields},
    )


def _target_of(reader: JsonReader) -> LockedTarget:
    limits = reader.child("limits")
    return LockedTarget(
        name=reader.require("name", str),
        provider=reader.require("provider", str),
        scope=reader.require("scope", str),
        project=reader.get("project", str),
        location=reader.get("location", str),
        limits={name: limits.require(name, int) for name in limits.fields},
    )


def _model_of(reader: JsonReader) -> LockedModel:
    labels = reader.child("labels")
    return LockedModel(
        manifest=reader.require("manifest", str),
        serving=reader.get("serving", str),
        rejected=reader.strings("rejected"),
        protect=reader.get("protect", bool) or False,
        published=reader.get("published", str),
        labels={name: labels.require(name, str) for name in labels.fields},
        sampling=_sampling_of(reader.child("sampling")),
        generations=tuple(_generation_of(child) for child in reader.children("generations")),
    )


def _sampling_of(reader: JsonReader) -> Sampling | None:
    if not reader.fields:
        return None
    return Sampling(reader.get("temperature", float), reader.get("topP", float), reader.get("topK", int))


def _generation_of(reader: JsonReader) -> LockedGeneration:
    hyperparameters = reader.child("hyperparameters")
    return LockedGeneration(
        key=reader.require("key", str),
        remote=_remote_of(reader),
        spec=reader.digest("spec"),
        attempt=reader.get("attempt", int) or 0,
        origin=reader.require("origin", str),
        state=_state_of(reader),
        source=_source_of(reader.child("source")),
        dataset=_dataset_of(reader.child("dataset")),
        declared=hyperparameters.numbers("declared"),
        effective=hyperparameters.numbers("effective"),
        preamble=reader.get("preamble", str) or "",
        operation=reader.get("operation", str),
        total_steps=reader.get("totalSteps", int),
        final_loss=reader.get("finalLoss", float),
        create_time=_time_of(reader, "createTime"),
        complete_time=_time_of(reader, "completeTime"),
        failure=_failure_of(reader.child("error")),
        resources=_resources_of(reader.child("resources")),
        checks=_checks_of(reader.child("checks")),
        promote_time=_time_of(reader, "promoteTime"),
        rejection=reader.get("rejection", str) or "",
        claimed=reader.child("dataset").get("claimed", bool) or False,
    )


def _remote_of(reader: JsonReader) -> str:
    """Return the remote name, which only an intended generation does not have."""
    if reader.get("state", str) == State.INTENDED:
        return reader.get("remote", str) or ""
    return reader.require("remote", str)


def _source_of(reader: JsonReader) -> Source:
    names = ("baseModel", "tunedModel", "generation", "remote")
    source = Source(*(reader.get(name, str) or "" for name in names))
    if not source.identity:
        raise DecodeError(f"{reader.path}: expected baseModel, generation or remote")
    return source


def _checks_of(reader: JsonReader) -> RecordedChecks | None:
    if not reader.fields:
        return None
    scores = reader.numbers("scores")
    return RecordedChecks(
        digest=reader.digest("digest"),
        passed=reader.require("passed", int),
        failed=reader.require("failed", int),
        scores={name: float(value) for name, value in scores.items()},
        misses=tuple(
            RecordedMiss(child.require("check", str), child.require("prompt", str), child.require("answer", str))
            for child in reader.children("failures")
        ),
    )


def _dataset_of(reader: JsonReader) -> Dataset:
    return Dataset(
        path=reader.get("path", str) or "",
        digest=reader.digest("digest"),
        examples=reader.get("examples", int) or 0,
        generation=reader.get("generation", str) or "",
        checksum=reader.get("checksum", str) or "",
        size=reader.get("bytes", int) or 0,
    )


def _resources_of(reader: JsonReader) -> Resources:
    texts = {name: reader.get(name, str) or "" for name in ("job", "model", "endpoint", "location")}
    checkpoints = tuple(
        Checkpoint(
            id=child.require("checkpointId", str),
            epoch=child.get("epoch", int) or 0,
            step=child.get("step", int) or 0,
            endpoint=child.get("endpoint", str) or "",
        )
        for child in reader.children("checkpoints")
    )
    return Resources(checkpoints=checkpoints, **texts)


def _state_of(reader: JsonReader) -> State:
    text = reader.require("state", str)
    try:
        return State(text)
    except ValueError as error:
        raise DecodeError(f"{reader.path}.state: expected one of {', '.join(State)}") from error


def _time_of(reader: JsonReader, name: str) -> str:
    text = reader.get(name, str) or ""
    try:
        valid = not text or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        valid = False
    if not valid:
        raise DecodeError(f"{reader.path}.{name}: expected an RFC 3339 time")
    return text


def _failure_of(reader: JsonReader) -> Failure | None:
    return Failure(reader.require("code", int), reader.require("message", str)) if reader.fields else None
