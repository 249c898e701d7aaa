"""Check trainings before they start: the trainer reads their run folders, in a process of its own.

The check of a training that can start is kept in the store, beside the models: the next plan, and ``apply``, read it
there. It is made again when anything changes that it depends on, and while there is an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.document import Record, json_text
from reconciler.domain.errors import ReconcileError
from reconciler.domain.plan import BaseWeights, Requirement, TrainingCheck, TrainingFault, TrainingNeeds
from reconciler.domain.text import sanitize
from reconciler.files import write_errors, write_file
from reconciler.providers.local.base_models import Fault
from reconciler.providers.local.capabilities import shown_hyperparameters
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.processes import (
    LIBRARIES,
    TRAINER,
    package_path,
    trainer_environment,
)
from reconciler.providers.local.store import Store
from reconciler.trainer import run_files
from reconciler.trainer.run_files import CheckProblem, Estimate, RunCheck, RunConfig, Tuning

CHECKS_FOLDER: Final = ".checks"
_SECONDS: Final = 900.0
"""A check takes some seconds to import the libraries, and as many to load each base model."""
_SHOWN_LINES: Final = 3
_VERSION: Final = 1
"""The version of the entries in the store."""


class CheckError(ReconcileError):
    """Trainings cannot be checked."""


class CheckProgram(Protocol):
    """Checks run folders without training."""

    async def check(self, runs: Sequence[Path], *, uses_hub: bool) -> Sequence[RunCheck]:
        """Return the check of each run; raises CheckError if the program fails."""
        ...


class CheckProcess:
    """Runs the trainer with ``--check``.

    Args:
        environ: The environment of the command.
        hub: Where models of the hub come from.
        program: The arguments of Python that run the trainer.
        seconds: How long a check may take.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        hub: Hub,
        program: Sequence[str] = ("-m", TRAINER),
        seconds: float = _SECONDS,
    ) -> None:
        self._environ = environ
        self._seconds = seconds
        self._hub = hub
        self._program = program

    async def check(self, runs: Sequence[Path], *, uses_hub: bool) -> Sequence[RunCheck]:
        """Return what the trainer prints about each run."""
        environ = trainer_environment(self._environ, self._hub, uses_hub=uses_hub)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", *self._program, *map(str, runs), "--check", "--dry-run"),
            env={**environ, "PYTHONPATH": package_path(environ)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(self._seconds):
                output, errors = await process.communicate()
        except TimeoutError:
            message = f"the check took longer than {self._seconds / 60:.0f} minutes"
            raise CheckError(message, "run the command again when the machine is less busy") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        checks = list(_documents(output.decode(errors="replace")))
        if len(checks) != len(runs):
            lines = errors.decode(errors="replace").strip().splitlines()[-_SHOWN_LINES:]
            reason = sanitize(" ".join(lines)) or f"exit status {process.returncode}"
            raise CheckError(f"the check ended with: {reason}", "run `reconcile doctor`")
        return checks


def _documents(text: str) -> Iterator[RunCheck]:
    """Yield the documents that a trainer has printed one after the other, up to the first invalid one."""
    decoder, rest = json.JSONDecoder(), text.lstrip()
    with suppress(ValueError, msgspec.ValidationError):
        while rest:
            value, end = decoder.raw_decode(rest)
            yield msgspec.convert(value, RunCheck)
            rest = rest[end:].lstrip()


class PlannedRun(Struct, frozen=True):
    """A run to check: its key, what it trains, the digests of its data, and what writes its files into a folder."""

    key: str
    config: RunConfig
    data: tuple[str, ...]
    write: Callable[[Path], object]


async def check_runs(store: Store, program: CheckProgram, planned: Sequence[PlannedRun]) -> dict[str, TrainingCheck]:
    """Return the check of each run by its key; those that the store has are not made again.

    Raises the errors of the examples.
    """
    cache = CheckCache(store.path)
    inputs = {run.key: inputs_of(run.config, run.data) for run in planned}
    found = {run.key: check for run in planned if (check := cache.find(run.key, inputs[run.key]))}
    for uses_hub in (False, True):
        group = [run for run in planned if run.key not in found and bool(run.config.base.hub) is uses_hub]
        for run, check in zip(group, await _check_group(store, program, group, uses_hub=uses_hub), strict=True):
            found[run.key] = check
            cache.keep(run.key, inputs[run.key], check)
    return found


async def _check_group(
    store: Store, program: CheckProgram, group: Sequence[PlannedRun], *, uses_hub: bool
) -> list[TrainingCheck]:
    if not group:
        return []
    try:
        store.prepare()
    except ReconcileError as error:
        return [unchecked(error)] * len(group)
    with ExitStack() as folders:
        try:
            with write_errors(store.shown, CheckError):
                paths = [folders.enter_context(store.writing(run.key)) for run in group]
                for run, path in zip(group, paths, strict=True):
                    run.write(path)
            checks = await program.check(paths, uses_hub=uses_hub)
            return [training_check(check, run.config.tuning) for check, run in zip(checks, group, strict=True)]
        except CheckError as error:
            return [unchecked(error)] * len(group)


class CachedCheck(Record, frozen=True):
    """A check in the store: ``inputs`` is the digest of what it depends on."""

    inputs: str
    check: TrainingCheck


class CheckCache(Struct, frozen=True):
    """The checks of a store."""

    store: Path

    def find(self, key: str, inputs: str) -> TrainingCheck | None:
        """Return the check of a training, if its inputs are the same and it can still start."""
        try:
            entry = msgspec.json.decode(self._path(key).read_bytes(), type=CachedCheck)
        except (OSError, msgspec.DecodeError):
            return None
        needs = entry.check.needs
        weights, disk = needs.weights, needs.disk
        if entry.inputs != inputs or weights is None or disk is None or not Path(weights.source).exists():
            return None
        disk = replace(disk, available=shutil.disk_usage(self.store).free)
        if disk.needed > (disk.available or 0):
            return None
        return replace(entry.check, needs=replace(needs, disk=disk))

    def keep(self, key: str, inputs: str, check: TrainingCheck) -> None:
        """Keep a check in place of earlier ones of the manifest; a full disk keeps none.

        It is not kept if it has errors, or while the weights are still to be downloaded.
        """
        weights = check.needs.weights
        if check.errors or check.unchecked or weights is None or not weights.present:
            return
        with suppress(OSError):
            path = self._path(key)
            path.parent.mkdir(exist_ok=True)
            for earlier in path.parent.glob(f"{key.rpartition('-')[0]}-????????.json"):
                earlier.unlink()
            write_file(path, json_text(CachedCheck(inputs, check)).encode())

    def _path(self, key: str) -> Path:
        return self.store / CHECKS_FOLDER / f"{key}.json"


def inputs_of(config: RunConfig, data: Sequence[str]) -> str:
    """Return the digest of what a check depends on: the run, the digests of the data, base model, and libraries."""
    files = [(path.name, found.st_size, found.st_mtime_ns) for path in _base_files(config) for found in [path.stat()]]
    libraries = [_version(name) for name in LIBRARIES]
    text = json.dumps([_VERSION, msgspec.to_builtins(config), list(data), files, libraries])
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _base_files(config: RunConfig) -> list[Path]:
    base = config.base
    if base.gguf:
        return [Path(base.gguf)]
    return sorted(path for path in Path(base.folder).iterdir() if path.is_file()) if base.folder else []


def _version(name: str) -> str:
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def unchecked(error: ReconcileError | Fault, *, cannot_start: bool = False) -> TrainingCheck:
    """Return the check of a training about which nothing is known."""
    return TrainingCheck(unchecked=error.message, remedy=error.remedy, cannot_start=cannot_start)


def refused(error: ReconcileError) -> TrainingCheck:
    """Return the check of a training that is refused for an error."""
    return TrainingCheck(faults=(TrainingFault(message=error.message, remedy=error.remedy),))


def training_check(found: RunCheck, tuning: Tuning) -> TrainingCheck:
    """Return a check of the trainer in the terms of a plan."""
    faults = [_fault(problem, is_warning=False) for problem in found.errors]
    faults += [_fault(problem, is_warning=True) for problem in found.warnings]
    weights, estimate, rows = found.weights, found.estimate, found.rows
    needs = TrainingNeeds(
        tokens=sum(row.tokens for row in rows),
        trained_tokens=sum(row.trained for row in rows),
        longest_tokens=max((row.tokens for row in rows), default=0),
        weights=BaseWeights(present=weights.present, source=weights.source, size=weights.bytes) if weights else None,
        effective=shown_hyperparameters(found.hyperparameters, tuning) if estimate else {},
    )
    return TrainingCheck(needs=_with_estimate(needs, estimate) if estimate else needs, faults=tuple(faults))


def _with_estimate(needs: TrainingNeeds, estimate: Estimate) -> TrainingNeeds:
    memory, disk = estimate.memory_bytes, estimate.disk_bytes
    return replace(
        needs,
        device=estimate.device,
        seconds=estimate.seconds,
        memory=None if memory is None else Requirement(memory, estimate.memory_available),
        disk=None if disk is None else Requirement(disk, estimate.disk_available),
    )


_REMEDIES: Final = {"disk": "free disk space, or set spec.local.store to a folder on a larger disk"}
"""The remedies of faults that are fixed by the target, and not by the run folder."""


def _fault(problem: CheckProblem, *, is_warning: bool) -> TrainingFault:
    files = {run_files.EXAMPLES_FILE: False, run_files.VALIDATION_FILE: True}
    return TrainingFault(
        message=f"spec.{problem.path}: {problem.message}" if problem.path else problem.message,
        remedy=_REMEDIES.get(problem.resource, problem.remedy),
        example=problem.line if problem.file in files else 0,
        in_validation=files.get(problem.file, False),
        is_warning=is_warning,
    )
