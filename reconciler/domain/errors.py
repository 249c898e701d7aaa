"""Everything that can be wrong, as values and as errors with an exit status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal, Self

Severity = Literal["error", "warning"]


class ExitStatus(IntEnum):
    """The number that a command ends with; scripts may rely on it.

    This is the table of exit statuses: each row has the number and what it means. ``reconcile --help``, README.md and
    the schemas are generated from it.
    """

    meaning: str

    def __new__(cls, number: int, meaning: str = "") -> Self:
        """Make a member that is the number, with its meaning."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "done, or nothing to do"
    ERROR = 1, "an error, or an action is held until you resolve it"
    CHANGES = 2, "`plan --detailed-exitcode` found changes, or `drift` found drift"
    ACCESS = 3, "not authenticated, or not allowed"
    STILL_TRAINING = 4, "still training when the timeout was reached; run again to resume"
    USAGE = 64, "usage error"
    INTERRUPTED = 130, "interrupted; the lockfile is valid, and the next run resumes"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file something stands; line and column count from 1, as editors do."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in the input: its place, its field, what is wrong and what to do.

    ``path`` is the dotted path of the field (``spec.dataset.path``), empty when the whole file is meant.
    A ``warning`` is reported and stops nothing.
    """

    place: Place
    path: str
    message: str
    remedy: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        field = f"{self.path}: " if self.path else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.place}: {field}{self.message}{remedy}"


class ReconcileError(Exception):
    """An error whose message a user reads as it is: what happened, and what to do.

    ``message`` is a sentence without the final stop; ``remedy`` says what to do, or is empty.
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.ERROR

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(ReconcileError):
    """The command was asked for in a way that cannot be carried out."""

    exit_status = ExitStatus.USAGE


class AccessError(ReconcileError):
    """Not authenticated (no or bad credentials), or not allowed (HTTP 401 and 403)."""

    exit_status = ExitStatus.ACCESS


class ServiceError(ReconcileError):
    """The service refused a request, or could not be reached.

    ``code`` is the google.rpc status name (``NOT_FOUND``), or ``UNREACHABLE`` when no answer came.
    """

    def __init__(self, message: str, remedy: str = "", *, code: str) -> None:
        super().__init__(message, remedy)
        self.code = code


class Declined(ReconcileError):  # noqa: N818 - declining is not a fault
    """The prompt for approval was declined; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("not approved; nothing was changed")


class LockConflict(ReconcileError):  # noqa: N818 - somebody else was faster, which is no mistake
    """Another run has saved the lockfile since it was read; read it again."""


class InvalidInput(ReconcileError):  # noqa: N818 - it carries problems rather than being one
    """The manifests, targets or data sets have problems; every one of them is in ``problems``."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InterruptedRun(ReconcileError):  # noqa: N818 - an interruption is no error of the program
    """Somebody ended the run with SIGINT or SIGTERM; what was recorded is saved."""

    exit_status = ExitStatus.INTERRUPTED

    def __init__(
        self,
        message: str = "interrupted; the lockfile is saved, and trainings go on",
        remedy: str = "run the same command again to resume, or reconcile wait",
    ) -> None:
        super().__init__(message, remedy)
