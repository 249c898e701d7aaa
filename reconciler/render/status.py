"""The status document: what is recorded of every model, and what the service shows of it where it was asked."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.lock import Lock, LockedGeneration, LockedModel
from reconciler.core.lock_text import checks_json, resources_json
from reconciler.core.model import Capabilities, RemoteModel, Resources, State, Target
from reconciler.core.waiting import completed_steps, tells_progress
from reconciler.render.access import Reach, access_document
from reconciler.render.documents import Document, envelope, filled, number


def status_document(
    lock: Lock,
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    live: Mapping[str, RemoteModel] | None = None,
    reach: Reach | None = None,
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
        "inFlight": any(one["state"] == State.CREATING for one in generations),
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
            "progress": _progress(one, live) if live and state is State.CREATING and tells_progress(live) else None,
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
