"""The exit statuses of the commands, as one table."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


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
    CHANGES = 2, "`plan --detailed-exitcode` or `refresh --check` found changes, or `drift` found drift"
    ACCESS = 3, "not authenticated, or not allowed"
    STILL_TRAINING = 4, "still training when the timeout was reached; run again to resume"
    USAGE = 64, "usage error"
    INTERRUPTED = 130, "interrupted; the lockfile is valid, and the next run resumes"
