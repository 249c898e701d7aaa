"""Build Status documents, with the access of an address where it was requested."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from reconciler.domain.access import EffectiveAccess, Permission
from reconciler.domain.document import builtins_of
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, RemoteModel, Resources, State, Target
from reconciler.planning.training_time import completed_steps, reports_progress
from reconciler.reports.documents.envelope import Document, envelope, filled, number


class SharedGeneration(Struct, frozen=True):
    """A generation whose permissions were read."""

    name: str
    key: str
    remote: str
    serving: bool


class AccessReport(Struct, frozen=True):
    """The access of an address to each generation; ``None`` for a generation that is missing."""

    address: str
    found: tuple[tuple[SharedGeneration, EffectiveAccess | None], ...]


def access_document(reach: AccessReport) -> Document:
    """Return the part ``access`` of a Status document."""
    there = [(shared, reached) for shared, reached in reach.found if reached]
    return {
        "address": reach.address,
        "asked": len(there),
        "models": [_entry(shared, reached.certain) for shared, reached in there if reached.certain],
        "perhaps": [_entry(shared, permission) for shared, reached in there for permission in reached.perhaps],
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
    """Return a Status document with every recorded model (schema: status).

    ``live`` has the live state by remote name and overrides the record; without it ``observed`` is false. ``reach`` is
    the access of an address, if it was requested.
    """
    return {
        **envelope("Status", target, capabilities, root),
        "lockfile": lockfile,
        "observed": live is not None,
        "models": [_model(name, model, live or {}) for name, model in sorted(lock.models.items())],
        **({"access": access_document(reach)} if reach else {}),
    }


def _model(name: str, model: LockedModel, live: Mapping[str, RemoteModel]) -> Document:
    generations = [_generation(generation, live.get(generation.remote), model) for generation in model.generations]
    serving = model.generation(model.serving)
    return {
        "name": name,
        "manifest": model.manifest,
        **({"serving": {"key": serving.key, "remote": serving.remote}} if serving else {}),
        "protect": model.protect,
        "inProgress": any(generation["state"] == State.CREATING for generation in generations),
        "generations": generations,
    }


def _generation(generation: LockedGeneration, live: RemoteModel | None, model: LockedModel) -> Document:
    state = live.state if live else generation.state
    failure = (live.failure if live else None) or generation.failure
    ended_well = state is State.ACTIVE
    loss = live.snapshots[-1].loss if live and live.snapshots and ended_well else generation.final_loss
    return filled(
        {
            "key": generation.key,
            "remote": generation.remote,
            "state": state.value,
            "attempt": generation.attempt,
            "origin": generation.origin,
            "totalSteps": generation.total_steps or (live.total_steps if live else None),
            "finalLoss": number(loss),
            "createTime": generation.create_time or (live.create_time if live else ""),
            "completeTime": generation.complete_time or (live.complete_time if live else ""),
            "error": {"code": failure.code, "message": failure.message} if failure else None,
            "promoteTime": generation.promote_time,
            "checks": builtins_of(generation.checks) if generation.checks else None,
            "rejected": generation.key in model.rejected or None,
            "rejection": generation.rejection,
            "phase": live.phase if live else "",
            "resources": builtins_of(
                live.resources if live and live.resources != Resources() else generation.resources
            ),
            "progress": _progress(generation, live)
            if live and state is State.CREATING and reports_progress(live)
            else None,
        }
    )


def _progress(generation: LockedGeneration, live: RemoteModel) -> Document:
    done, total = completed_steps(live), live.total_steps or generation.total_steps
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
