"""Build the lines of an event stream: a document for each event (schema: events)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from reconciler.domain.document import builtins_of
from reconciler.domain.exit_status import ExitStatus
from reconciler.domain.lock import format_time
from reconciler.domain.model import RemoteModel
from reconciler.domain.version import __version__
from reconciler.planning.events import (
    Adopted,
    Cancelled,
    Checked,
    Checking,
    Claimed,
    Completed,
    Deleted,
    Disappeared,
    Dropped,
    Event,
    Failed,
    Forgotten,
    Progressed,
    Promoted,
    Published,
    Refused,
    Rejected,
    Renamed,
    Restored,
    Started,
    Unserved,
    Updated,
)
from reconciler.planning.training_time import completed_steps, reports_progress
from reconciler.reports.documents.envelope import DOCUMENT_VERSION, AnyDocument, Document, as_dictionary, filled, number
from reconciler.reports.documents.plan import PlanReport


def events_header(command: str, now: datetime) -> Document:
    """Return the first line: the version of the stream, and the command."""
    return {
        "version": DOCUMENT_VERSION,
        "kind": "Events",
        "time": format_time(now),
        "command": command,
        "reconciler": __version__,
    }


def planned_line(report: PlanReport, now: datetime) -> Document:
    """Return the line with the actions of a plan that is about to be applied."""
    plan = builtins_of(report)
    actions = [
        {field: action[field] for field in ("name", "action", "reason", "key", "remote") if field in action}
        for action in plan["actions"]
    ]
    shared = {field: plan[field] for field in ("simulated", "target", "changes", "summary")}
    return {**_line("planned", now), **shared, "actions": actions}


def event_line(event: Event, now: datetime) -> Document | None:
    """Return the line about an event; ``None`` for events that only the lockfile records."""
    row = EVENT_LINES.get(type(event))
    if row is None:
        return None
    word, further = row
    subject = {field: getattr(event, field) for field in ("name", "key") if getattr(event, field, None) is not None}
    return {**_line(word, now), **subject, **filled(further(event))}


def summary_line(document: AnyDocument, now: datetime) -> Document:
    """Return the last line, from the document that the command ends with."""
    result = as_dictionary(document)
    fields = {field: result[field] for field in _SUMMARY_FIELDS if field in result}
    return {**_line("summary", now), **fields}


_SUMMARY_FIELDS: Final[tuple[str, ...]] = ("exitStatus", "requests", "seconds", "summary")


def broken_off_line(message: str, status: ExitStatus, now: datetime) -> Document:
    """Return the last line of a command that ended with an error."""
    return {**_line("summary", now), "exitStatus": int(status), "message": message}


def _line(word: str, now: datetime) -> Document:
    return {"time": format_time(now), "event": word}


def _nothing(_event: Event) -> Document:
    return {}


def _generation(event: Started | Adopted) -> Document:
    generation = event.generation
    return {
        "key": generation.key,
        "remote": generation.remote,
        "state": generation.state.value,
        "totalSteps": generation.total_steps,
    }


def _progress(event: Progressed) -> Document:
    model, total = event.model, event.total_steps
    done = completed_steps(model) if reports_progress(model) else None
    last = model.snapshots[-1] if model.snapshots else None
    return {
        "remote": model.remote,
        "phase": model.phase,
        "completedSteps": done,
        "totalSteps": total,
        "percent": round(100 * done / total, 1) if done is not None and total else None,
        "epoch": last.epoch if last else None,
        "loss": number(last.loss) if last else None,
    }


def _ended(event: Completed | Failed | Cancelled) -> Document:
    model: RemoteModel = event.model
    return {
        "remote": model.remote,
        "totalSteps": model.total_steps,
        "finalLoss": number(model.snapshots[-1].loss) if model.snapshots else None,
        "code": model.failure.code if model.failure else None,
        "message": model.failure.message if model.failure else None,
    }


def _remote(event: Dropped | Promoted | Deleted) -> Document:
    return {"remote": event.remote}


def _updated(event: Updated) -> Document:
    return {"fields": list(event.fields)}


def _checking(event: Checking) -> Document:
    return {"checks": {"declared": event.checks, "prompts": event.total, "answered": event.done}}


def _checked(event: Checked) -> Document:
    return {"report": builtins_of(event.report)}


def _rejected(event: Rejected) -> Document:
    return {"message": event.reason}


def _renamed(event: Renamed) -> Document:
    return {"former": event.former}


def _refused(event: Refused) -> Document:
    return {"message": str(event.error), "reason": event.reason.value if event.reason else None}


EVENT_LINES: Final[Mapping[type[Event], tuple[str, Callable[[Any], Document]]]] = {
    Started: ("started", _generation),
    Adopted: ("adopted", _generation),
    Progressed: ("progress", _progress),
    Completed: ("completed", _ended),
    Failed: ("failed", _ended),
    Cancelled: ("cancelled", _ended),
    Dropped: ("dropped", _remote),
    Disappeared: ("gone", _nothing),
    Updated: ("updated", _updated),
    Checking: ("checking", _checking),
    Checked: ("check", _checked),
    Promoted: ("promoted", _remote),
    Rejected: ("rejected", _rejected),
    Restored: ("restored", _nothing),
    Published: ("published", _nothing),
    Renamed: ("renamed", _renamed),
    Claimed: ("claimed", _nothing),
    Forgotten: ("forgotten", _nothing),
    Unserved: ("unserved", _nothing),
    Deleted: ("deleted", _remote),
    Refused: ("refused", _refused),
}
"""The word of each event in the stream, and the fields besides name and key."""
