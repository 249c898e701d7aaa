"""Checks one after another: what each found, and what becomes of those that build on one that failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.core.problems import AccessError, ExitStatus, ReconcileError
from reconciler.render.doctor import Check, Finding, Status


@dataclass(frozen=True, slots=True)
class Said:
    """What a check has to say when it ran to its end; what it raises instead is a failure."""

    message: str
    remedy: str = ""
    status: Status = "ok"


class Report:
    """The findings so far; ``exit_status`` is that of the first failure."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.exit_status = ExitStatus.OK
        self._pointless: dict[Check, Check] = {}

    def check(self, name: Check, examine: Callable[[], Said], after: tuple[Check, ...] = ()) -> None:
        """Examine something, unless a check failed that it builds on."""
        cause = next((self._pointless[one] for one in after if one in self._pointless), None)
        if cause:
            self._pointless[name] = cause
            self._add(name, Said(f"not looked at, because of what failed above: {cause}", status="skipped"))
            return
        try:
            said = examine()
        except ReconcileError as error:
            access = isinstance(error, AccessError)
            self._fail(name, ExitStatus.ACCESS if access else ExitStatus.ERROR)
            said = Said(error.message if error.remedy else str(error), error.remedy, "failed")
        else:
            if said.status == "failed":
                self._fail(name, ExitStatus.ERROR)
        self._add(name, said)

    def _fail(self, name: Check, status: ExitStatus) -> None:
        self.exit_status = self.exit_status or status
        self._pointless[name] = name

    def _add(self, name: Check, said: Said) -> None:
        self.findings.append(Finding(name, said.status, said.message, said.remedy))
