"""Build Status documents, with the access of an address where it was requested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.domain.access import EffectiveAccess, Permission
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, RemoteModel, Resources, State, Target
from reconciler.planning.training_time import completed_steps, reports_progress
from reconciler.reports.documents.envelope import Document, envelope, filled, number
from reconciler.state.lockfile import checks_json, resources_json


@dataclass(frozen=True, slots=True)
class SharedGeneration:
    """A generation whose permissions were asked for."""

    name: str
    key: str
    remote: str
    serving: bool


@dataclass(frozen=True, slots=True)
class AccessReport:
    """What an address may do with each generation; ``None`` stands for one that is gone."""

    address: str
    found: tuple[tuple[SharedGeneration, EffectiveAccess | None], ...]


def access_document(reach: AccessReport) -> Document:
    """The part ``access`` of a Status document."""
    there = [(shared, reached) for shared, reached in reach.found if reached]
    return {
        "address": reach.address,
        "asked": len(there),
        "models": [_entry(shared, reached.certain) for shared, reached in there if reached.certain],
        "perhaps": [_entry(shared, one) for shared, reached in there for one in reached.perhaps],
        "gone": [_shared(shared) for shared, reached in reach.found if reached is None],
    }


def _entry(shared: SharedGeneration, permission: Permission) -> Document:
    return {**_shared(shared), "role": permission.role, "through": str(permission.grantee)}


def _shared(shared: SharedGeneration) -> Document:
    return {"name": shared.name, "key": shared.key, "remote": shared.remote, "serving": shared.serving}


def status_document(
    lock: Lock,
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    live: Mapping[str, RemoteModel] | None = None,
    reach: AccessReport | None = None,
    root: str = "",
) -> Document:
    """Every recorded model (schema: status).

    ``live`` holds what the service shows, by remote name; it is believed before the record. Without it the document
    tells of the lockfile alone, and says so: ``observed`` is false. ``reach`` is what somebody can reach, where the
    service was asked for that.
    """
    return {
        **envelope("Status", target, capabilities, root),
        "lockfile": lockfile,
        "observed": live is not None,
        "models": [_model(name, model, live or {}) for name, model in sorted(lock.models.items())],
        **({"access": access_document(reach)} if reach else {}),
    }


def _model(name: str, model: LockedModel, live: Mapping[str, RemoteModel]) -> Document:
    generations = [_generation(one, live.get(one.remote), model) for one in model.generations]
    serving = model.generation(model.serving)
    return {
        "name": name,
        "manifest": model.manifest,
        **({"serving": {"key": serving.key, "remote": serving.remote}} if serving else {}),
        "protect": model.protect,
        "inProgress": any(one["state"] == State.CREATING for one in generations),
        "generations": generations,
    }


def _generation(one: LockedGeneration, live: RemoteModel | None, model: LockedModel) -> Document:
    state = live.state if live else one.state
    failure = (live.failure if live else None) or one.failure
    ended_well = state is State.ACTIVE
    loss = live.snapshots[-1].loss if live and live.snapshots and ended_well else one.final_loss
    return filled(
        {
            "key": one.key,
            "remote": one.remote,
            "state": state.value,
            "attempt": one.attempt,
            "origin": one.origin,
            "totalSteps": one.total_steps or (live.total_steps if live else None),
            "finalLoss": number(loss),
            "createTime": one.create_time or (live.create_time if live else ""),
            "completeTime": one.complete_time or (live.complete_time if live else ""),
            "error": {"code": failure.code, "message": failure.message} if failure else None,
            "promoteTime": one.promote_time,
            "checks": checks_json(one.checks) if one.checks else None,
            "rejected": one.key in model.rejected or None,
            "rejection": one.rejection,
            "phase": live.phase if live else "",
            "resources": resources_json(live.resources if live and live.resources != Resources() else one.resources),
            "progress": _progress(one, live) if live and state is State.CREATING and reports_progress(live) else None,
        }
    )


def _progress(one: LockedGeneration, live: RemoteModel) -> Document:
    done, total = completed_steps(live), live.total_steps or one.total_steps
    last = live.snapshots[-1] if live.snapshots else None
    return filled(
        {
            "completedSteps": done,
            "totalSteps": total,
            "percent": round(100 * done / total, 1) if total else None,
            "epoch": last.epoch if last else None,
            "loss": number(last.loss) if last else None,
        }
    )
