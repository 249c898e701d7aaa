"""The lines of an event log: a header, then a line for each event of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import Meta

from reconciler.domain.checks import CheckResults
from reconciler.domain.document import Count, Document, Key, ManifestName, Moment, NonEmpty, Record, Remote, TotalSteps
from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import StageName, format_time
from reconciler.domain.model import State
from reconciler.domain.plan import Kind, Reason
from reconciler.domain.version import __version__
from reconciler.planning import events
from reconciler.planning.events import Event
from reconciler.planning.training_time import counted_progress, last_epoch
from reconciler.reports.documents.envelope import Loss, number
from reconciler.reports.documents.plan import PlanReport, PlanSummary, PlanTarget
from reconciler.reports.documents.result import Outcome, ResultReport


class EventsHeader(Document, frozen=True, kw_only=True, tag="Events"):
    """The first line."""

    time: Moment
    """The time in UTC, in whole seconds."""
    command: Annotated[NonEmpty, Meta(examples=["apply"])]
    """The command that writes the events."""
    reconciler: NonEmpty
    """The version of reconcile."""


class EventLine(Record, frozen=True, kw_only=True, tag_field="event"):
    """One event; the tag of a subclass is its word."""

    time: Moment
    """The time in UTC, in whole seconds."""


class ActionSummary(Record, frozen=True, kw_only=True):
    """One action of the plan."""

    name: ManifestName
    action: Kind
    """The action."""
    reason: Reason
    """The reason; a stable name."""
    key: Key = ""
    remote: Remote = ""


class PlannedLine(EventLine, frozen=True, kw_only=True, tag="planned"):
    """The plan, which is not yet approved."""

    simulated: bool
    """Whether the service simulates training; no real model is created."""
    target: PlanTarget
    """The target of this document."""
    changes: bool
    """Whether applying the plan would change the service or the lockfile."""
    summary: PlanSummary
    """The number of actions of each kind, and the amount of training that they start."""
    actions: tuple[ActionSummary, ...]
    """Every action, in the order of the plan; `plan --format json` has the details."""


class ModelLine(EventLine, frozen=True, kw_only=True):
    """An event about one manifest."""

    name: ManifestName


class GenerationLine(ModelLine, frozen=True, kw_only=True):
    """An event about one generation."""

    key: Key


class RemoteLine(GenerationLine, frozen=True, kw_only=True):
    """An event about one remote model."""

    remote: str = ""
    """The remote name of the model."""


class StartedLine(RemoteLine, frozen=True, kw_only=True, tag="started"):
    """A training started."""

    state: State
    """The state of the generation."""
    total_steps: TotalSteps | None = None


class AdoptedLine(StartedLine, frozen=True, kw_only=True, tag="adopted"):
    """An existing managed generation was found."""


class ProgressLine(RemoteLine, frozen=True, kw_only=True, tag="progress"):
    """The progress of a training."""

    phase: str = ""
    """The state in the service's spelling."""
    completed_steps: Count | None = None
    """The completed steps, if the service reports them."""
    total_steps: TotalSteps | None = None
    percent: Annotated[float, Meta(ge=0)] | None = None
    """The completed share of the steps, or of the epochs if the service counts only them."""
    epoch: Count | None = None
    """The completed epochs, or else the epoch of the last loss."""
    loss: Loss | None = None
    """The last mean loss; a value that is not finite has its proto3 JSON name."""


class CompletedLine(RemoteLine, frozen=True, kw_only=True, tag="completed"):
    """A training completed."""

    total_steps: TotalSteps | None = None
    final_loss: Loss | None = None
    """The last mean loss; a value that is not finite has its proto3 JSON name."""
    code: int | None = None
    """The google.rpc code of the failure."""
    message: str = ""
    """The service's message about the failure."""


class FailedLine(CompletedLine, frozen=True, kw_only=True, tag="failed"):
    """A training failed."""


class CanceledLine(CompletedLine, frozen=True, kw_only=True, tag="cancelled"):
    """A training was canceled."""


class DroppedLine(RemoteLine, frozen=True, kw_only=True, tag="dropped"):
    """A training was canceled as a duplicate of another one."""


class PromotedLine(RemoteLine, frozen=True, kw_only=True, tag="promoted"):
    """A generation became the serving one."""

    checkpoint: str = ""
    """The ID of the checkpoint; omitted for the default one."""
    stage: StageName = ""
    """The stage; omitted for the first one."""


class DeletedLine(RemoteLine, frozen=True, kw_only=True, tag="deleted"):
    """A generation was deleted."""


class UpdatedLine(GenerationLine, frozen=True, kw_only=True, tag="updated"):
    """Fields or permissions of a model changed."""

    fields: tuple[str, ...]
    """The names of what changed."""


class CheckProgress(Record, frozen=True, kw_only=True):
    """The progress of checks."""

    declared: Count
    """The number of checks."""
    prompts: Count
    """The number of prompts."""
    answered: Count
    """The number of answered prompts."""


class CheckingLine(GenerationLine, frozen=True, kw_only=True, tag="checking"):
    """The progress of checks: written at the start and after each further percent of answers."""

    checks: CheckProgress
    """The progress."""


class CheckedLine(GenerationLine, frozen=True, kw_only=True, tag="check"):
    """The checks of a generation ran."""

    report: CheckResults
    """The results of the checks that ran."""
    stage: StageName = ""
    """The stage that they were run for; omitted for the first one."""


class RejectedLine(GenerationLine, frozen=True, kw_only=True, tag="rejected"):
    """A generation was rejected."""

    message: str = ""
    """The reason for the rejection."""
    stage: StageName = ""
    """The stage; omitted for the first one."""


class RestoredLine(GenerationLine, frozen=True, kw_only=True, tag="restored"):
    """A generation is no longer rejected."""

    stage: StageName = ""
    """The stage; omitted for the first one."""


class RequestedLine(GenerationLine, frozen=True, kw_only=True, tag="requested"):
    """The promotion of a generation to a stage was requested."""

    stage: StageName
    """The stage."""


class RequestRemovedLine(GenerationLine, frozen=True, kw_only=True, tag="requestRemoved"):
    """The requested promotion of a generation to a stage was removed, because the generation was rejected."""

    stage: StageName
    """The stage."""


class UnservedLine(GenerationLine, frozen=True, kw_only=True, tag="unserved"):
    """A generation is no longer serving."""

    stage: StageName = ""
    """The stage; omitted for the first one."""


class GoneLine(GenerationLine, frozen=True, kw_only=True, tag="gone"):
    """A generation disappeared from the service."""


class ClaimedLine(GenerationLine, frozen=True, kw_only=True, tag="claimed"):
    """A data set was recorded as the training data of an adopted model."""


class PublishedLine(ModelLine, frozen=True, kw_only=True, tag="published"):
    """The published pointer was written."""

    key: str | None = None
    """The generation that it names for the manifest; omitted if there is none."""


class RenamedLine(ModelLine, frozen=True, kw_only=True, tag="renamed"):
    """A manifest was renamed."""

    former: NonEmpty
    """The previous name."""


class ForgottenLine(ModelLine, frozen=True, kw_only=True, tag="forgotten"):
    """A model is no longer managed."""


class RefusedLine(ModelLine, frozen=True, kw_only=True, tag="refused"):
    """An action failed; the others continue."""

    message: str
    """The message and its remedy."""
    reason: Reason | None = None
    """The reason, if the action is held."""


class SummaryLine(EventLine, frozen=True, kw_only=True, tag="summary"):
    """The last line; missing if the process was killed."""

    exit_status: ExitStatus
    """The exit status of the process."""
    requests: Count | None = None
    """The number of requests that were sent to the service."""
    seconds: Annotated[float, Meta(ge=0)] | None = None
    """The duration in seconds."""
    summary: Mapping[Outcome, Count] = {}
    """The number of models with each outcome."""
    message: str = ""
    """The reason why the command stopped."""


AnyLine = (
    PlannedLine
    | StartedLine
    | AdoptedLine
    | ProgressLine
    | CompletedLine
    | FailedLine
    | CanceledLine
    | DroppedLine
    | PromotedLine
    | DeletedLine
    | UpdatedLine
    | CheckingLine
    | CheckedLine
    | RejectedLine
    | RestoredLine
    | RequestedLine
    | RequestRemovedLine
    | UnservedLine
    | GoneLine
    | ClaimedLine
    | PublishedLine
    | RenamedLine
    | ForgottenLine
    | RefusedLine
    | SummaryLine
)
"""A line after the header: ``msgspec.json.decode(line, type=AnyLine)`` reads it."""


def events_header(command: str, now: datetime) -> EventsHeader:
    """Return the first line: the version of the stream, and the command."""
    return EventsHeader(time=format_time(now), command=command, reconciler=__version__)


def planned_line(report: PlanReport, now: datetime) -> PlannedLine:
    """Return the line with the actions of a plan that is about to be applied."""
    return PlannedLine(
        time=format_time(now),
        simulated=report.simulated,
        target=report.target,
        changes=report.changes,
        summary=report.summary,
        actions=tuple(
            ActionSummary(
                name=action.name, action=action.action, reason=action.reason, key=action.key, remote=action.remote
            )
            for action in report.actions
        ),
    )


def summary_line(document: Document, status: ExitStatus, now: datetime) -> SummaryLine:
    """Return the last line, from the document that the command ends with."""
    if not isinstance(document, ResultReport):
        return SummaryLine(time=format_time(now), exit_status=status)
    return SummaryLine(
        time=format_time(now),
        exit_status=status,
        requests=document.requests,
        seconds=document.seconds,
        summary=document.summary,
    )


def broken_off_line(message: str, status: ExitStatus, now: datetime) -> SummaryLine:
    """Return the last line of a command that ended with an error."""
    return SummaryLine(time=format_time(now), exit_status=status, message=message)


def event_line(event: Event, now: datetime) -> ModelLine | None:
    """Return the line about an event; ``None`` for events that only the lockfile records."""
    time = format_time(now)
    line = _SAME_FIELDS.get(type(event))
    if line:
        fields = {field: getattr(event, field) for field in line.__struct_fields__ if field != "time"}
        return line(time=time, **fields)
    build = _BUILDERS.get(type(event))
    return build(event, time) if build else None


def _started(event: events.Started | events.Adopted, time: str) -> StartedLine:
    line, generation = AdoptedLine if isinstance(event, events.Adopted) else StartedLine, event.generation
    return line(
        time=time,
        name=event.name,
        key=generation.key,
        remote=generation.remote,
        state=generation.state,
        total_steps=generation.total_steps,
    )


def _progress(event: events.Progressed, time: str) -> ProgressLine:
    model, total = event.model, event.total_steps
    progress = counted_progress(model, total)
    last = model.snapshots[-1] if model.snapshots else None
    return ProgressLine(
        time=time,
        name=event.name,
        key=event.key,
        remote=model.remote,
        phase=model.phase,
        completed_steps=progress.done if progress and progress.unit == "step" else None,
        total_steps=total,
        percent=progress.percent if progress else None,
        epoch=last_epoch(model),
        loss=number(last.loss) if last else None,
    )


_ENDS: Final[Mapping[type[Event], type[CompletedLine]]] = {
    events.Completed: CompletedLine,
    events.Failed: FailedLine,
    events.Cancelled: CanceledLine,
}


def _ended(event: events.Completed | events.Failed | events.Cancelled, time: str) -> CompletedLine:
    model, failure = event.model, event.model.failure
    return _ENDS[type(event)](
        time=time,
        name=event.name,
        key=event.key,
        remote=model.remote,
        total_steps=model.total_steps,
        final_loss=number(model.snapshots[-1].loss) if model.snapshots else None,
        code=failure.code if failure else None,
        message=failure.message if failure else "",
    )


def _checking(event: events.Checking, time: str) -> CheckingLine:
    progress = CheckProgress(declared=event.checks, prompts=event.total, answered=event.done)
    return CheckingLine(time=time, name=event.name, key=event.key, checks=progress)


def _rejected(event: events.Rejected, time: str) -> RejectedLine:
    return RejectedLine(time=time, name=event.name, key=event.key, message=event.reason, stage=event.stage)


def _refused(event: events.Refused, time: str) -> RefusedLine:
    return RefusedLine(time=time, name=event.name, message=str(event.error), reason=event.reason)


def _withheld(event: events.Withheld, time: str) -> UnservedLine | None:
    if event.key == event.before:
        return None
    return UnservedLine(time=time, name=event.name, key=event.key, stage=event.stage)


def _unserved(event: events.Unserved, time: str) -> UnservedLine:
    return UnservedLine(time=time, name=event.name, key=event.key)  # in all stages


_SAME_FIELDS: Final[Mapping[type[Event], type[ModelLine]]] = {
    events.Dropped: DroppedLine,
    events.Disappeared: GoneLine,
    events.Updated: UpdatedLine,
    events.Checked: CheckedLine,
    events.Promoted: PromotedLine,
    events.Restored: RestoredLine,
    events.Requested: RequestedLine,
    events.RequestRemoved: RequestRemovedLine,
    events.Published: PublishedLine,
    events.Renamed: RenamedLine,
    events.Claimed: ClaimedLine,
    events.Forgotten: ForgottenLine,
    events.Deleted: DeletedLine,
}
"""Events that have every field of their line under the same name."""
_BUILDERS: Final[Mapping[type[Event], Callable[[Any, str], ModelLine | None]]] = {
    events.Started: _started,
    events.Adopted: _started,
    events.Progressed: _progress,
    **dict.fromkeys(_ENDS, _ended),
    events.Checking: _checking,
    events.Rejected: _rejected,
    events.Refused: _refused,
    events.Unserved: _unserved,
    events.Withheld: _withheld,
}
