"""How a tuning job goes: its state, times and error as a pure function of how it was started and of the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reconciler.core.model import State
from reconciler.emulator.errors import Code, JsonObject
from reconciler.emulator.training import Training, timestamp

PENDING, RUNNING = "JOB_STATE_PENDING", "JOB_STATE_RUNNING"
SUCCEEDED, FAILED, CANCELLED = "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job ends without a training: a google.rpc code and a message."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Course:
    """All that a job's state depends on; ``cancelled`` is the time at which that was asked for, or empty.

    With a ``fault`` the job fails when its training, which has no steps then, is over.
    """

    training: Training
    fault: Fault | None = None
    cancelled: str = ""

    @property
    def succeeds(self) -> bool:
        """Whether the job will succeed, unless it is cancelled."""
        return self.fault is None and self.training.failing_step is None

    def dump(self) -> JsonObject:
        """The course as JSON, for ``load``."""
        return asdict(self)

    @staticmethod
    def load(stored: Mapping[str, Any]) -> Course:
        """The course that was dumped."""
        fault = stored["fault"]
        return Course(
            Training(**stored["training"]),
            Fault(Code(fault["code"]), fault["message"]) if fault else None,
            stored["cancelled"],
        )

    def at(self, now: datetime) -> JsonObject:
        """The fields of the job that depend on the time."""
        asked = datetime.fromisoformat(self.cancelled) if self.cancelled else None
        progress = self.training.progress(min(now, asked) if asked else now)
        state, end = RUNNING if progress.start_time else PENDING, progress.end_time
        if end:
            failed = self.fault or progress.state is State.FAILED
            state = FAILED if failed else SUCCEEDED
        elif asked and asked <= now:
            state, end = CANCELLED, asked
        times = {"startTime": progress.start_time, "endTime": end}
        told = {name: timestamp(time) for name, time in times.items() if time}
        latest = told.get("endTime", told.get("startTime", self.training.created))
        return {"state": state, **told, "updateTime": latest, **self._error(state)}

    def _error(self, state: str) -> JsonObject:
        if state == CANCELLED:
            return {"error": {"code": Code.CANCELLED, "message": "The tuning job was cancelled."}}
        if state != FAILED:
            return {}
        fault = self.fault or Fault(Code.INVALID_ARGUMENT, self.training.failure)
        return {"error": {"code": fault.code, "message": fault.message}}
