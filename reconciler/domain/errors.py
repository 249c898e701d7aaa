"""Exit statuses, problems of the input, and every error that a user can see, with its exit status."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Literal, Self

from msgspec import Struct
from msgspec.structs import force_setattr

from reconciler.domain.target_option import for_target

Severity = Literal["error", "warning", "note"]


class StatusTable(IntEnum):
    """A table of exit statuses: each row has the number and what it means."""

    meaning: str

    def __new__(cls, number: int, meaning: str = "") -> Self:
        """Make a member that is the number, with its meaning."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member


class ExitStatus(StatusTable):
    """The number that a command ends with; scripts may rely on it.

    ``reconcile --help``, README.md and the schemas are generated from this table.
    """

    OK = 0, "done, or nothing to do"
    ERROR = 1, "an error, or an action is held that you did not request with `rollback` or `suspend`"
    CHANGES = (
        2,
        "`--detailed-exitcode` of `plan` or `data diff`, or `refresh --check` found changes, or `drift` found drift",
    )
    ACCESS = 3, "not authenticated, or not allowed"
    STILL_TRAINING = 4, "the timeout was reached; trainings that were started continue; run again to resume"
    USAGE = 64, "usage error"
    INTERRUPTED = 130, "interrupted; the lockfile is valid, and the next run resumes"


class Place(Struct, frozen=True, order=True):
    """A position in a file; line and column count from 1, as in editors."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(Struct, frozen=True, order=True):
    """One problem of the input, printed as ``PLACE: FIELD: PROBLEM; REMEDY``.

    ``path`` is the dotted path of the field (``spec.dataset.path``), empty for the whole file. A ``warning`` is
    printed and stops nothing.
    """

    place: Place
    path: str
    message: str
    remedy: str = ""
    severity: Severity = "error"

    def __post_init__(self) -> None:
        force_setattr(self, "remedy", for_target(self.remedy))

    def __str__(self) -> str:
        field = f"{self.path}: " if self.path else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.place}: {field}{self.message}{remedy}"


class ReconcileError(Exception):
    """The base of all errors that a user reads.

    ``message`` is a sentence without a final stop; ``remedy`` is an imperative, or empty, whose commands get the option
    of the current target. ``outcome_unknown`` is true where a request that acts only once may have been carried out
    although it failed, such as one whose reply was lost; ``None`` where this was not determined. ``after_result`` is
    true if the command had a result, which has this error or could not be written.
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.ERROR

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.outcome_unknown: bool | None = None
        self.after_result = False

    @property
    def remedy(self) -> str:
        """What the user can do, with commands for the current target."""
        return self._remedy

    @remedy.setter
    def remedy(self, remedy: str) -> None:
        self._remedy = for_target(remedy)

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(ReconcileError):
    """The arguments or options are invalid or contradict each other."""

    exit_status = ExitStatus.USAGE


class InvalidInput(ReconcileError):  # noqa: N818 - the name of its content
    """Manifests, targets or data sets are invalid; ``problems`` has every problem."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InvalidFile(ReconcileError):  # noqa: N818 - the name of its content
    """A file is invalid: ``problem`` is the message without the place and the dotted path of the field."""

    def __init__(self, place: Place, path: str, message: str, remedy: str) -> None:
        super().__init__(str(Problem(place, path, message)), remedy)
        self.place, self.path, self.problem = place, path, message


class AccessError(ReconcileError):
    """The credentials are missing or invalid (HTTP 401), or lack a permission (HTTP 403)."""

    exit_status = ExitStatus.ACCESS


class ForbiddenError(AccessError):
    """HTTP 403; ``resource`` is true if the resource may be inaccessible or missing, rather than the whole project."""

    def __init__(self, message: str, remedy: str, *, resource: bool) -> None:
        super().__init__(message, remedy)
        self.resource = resource


class ServiceError(ReconcileError):
    """The service rejected a request or could not be reached.

    ``code`` is the google.rpc status name (``NOT_FOUND``), or ``UNREACHABLE`` without a response.
    """

    def __init__(self, message: str, remedy: str = "", *, code: str) -> None:
        super().__init__(message, remedy)
        self.code = code


class PreconditionError(ServiceError):
    """HTTP 412: the object is not in the state that the request requires."""


class TimeoutReached(ReconcileError):  # noqa: N818 - the timeout is what the user set
    """The ``--timeout`` of the run has passed."""

    exit_status = ExitStatus.STILL_TRAINING


class LockConflict(ReconcileError):  # noqa: N818 - the run that was first made no error
    """Another run has saved the lockfile since it was read; read it again."""


class LeaseHeld(ReconcileError):  # noqa: N818 - the run that was first made no error
    """Another run has the lease of a lockfile in a bucket; nothing was changed."""


class StalePlan(ReconcileError):  # noqa: N818 - the plan was correct when it was made
    """A saved plan differs from what would be planned now; nothing was changed."""


class Declined(ReconcileError):  # noqa: N818 - declining is not an error of the program
    """The prompt for approval was declined; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("not approved; nothing was changed")


class InterruptedRun(ReconcileError):  # noqa: N818 - interrupting is not an error of the program
    """SIGINT or SIGTERM ended the run; the lockfile has everything that was recorded."""

    exit_status = ExitStatus.INTERRUPTED

    def __init__(
        self,
        message: str = "interrupted; the lockfile is saved, and trainings continue",
        remedy: str = "run the same command again to resume, or run reconcile wait",
    ) -> None:
        super().__init__(message, remedy)
