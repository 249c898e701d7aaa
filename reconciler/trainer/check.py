"""Check a training before it starts."""

from __future__ import annotations

import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.trainer.preparation import Preparation, disk_problem, prepare, total_steps
from reconciler.trainer.progress import versions
from reconciler.trainer.run_files import CheckProblem, Estimate, RunCheck, RunConfig
from reconciler.trainer.weights import digest_base, find_weights, require_digest

_MIB: Final = 2**20
_WIDTHS: Final = {"bf16": 2, "fp16": 2, "fp32": 4}
_QUANTIZED_WIDTH: Final = 0.6
"""Bytes per parameter in 4 bits, with their scales."""


def check_runs(runs: Mapping[Path, RunConfig], *, dry_run: bool) -> dict[Path, RunCheck]:
    """Return the problems of runs and what they need.

    ``dry_run`` also loads each base model whose weights are present, and trains one batch: of runs that differ in their
    data alone, that with the longest example is measured for all.
    """
    checked = {run: _check_run(config, run) for run, config in runs.items()}
    alike: dict[tuple[Any, ...], list[Path]] = defaultdict(list)
    for run, check in checked.items():
        config, chosen = runs[run], check.hyperparameters
        if dry_run and not check.errors and check.weights and check.weights.present:
            alike[config.base, config.method, config.tuning, chosen.batch_size, chosen.rank, chosen.packing].append(run)
    for group in alike.values():
        checked.update(_measure_alike({run: runs[run] for run in group}, checked))
    return checked


def _measure_alike(runs: Mapping[Path, RunConfig], checked: Mapping[Path, RunCheck]) -> Iterator[tuple[Path, RunCheck]]:
    longest = max(runs, key=lambda run: checked[run].hyperparameters.max_length or 0)
    try:
        measured = _measure(prepare(runs[longest], longest))
    except ReconcileError as error:
        yield longest, replace(checked[longest], errors=(_problem(error),))
        return
    for run in runs:
        check = checked[run]
        tokens = sum(row.tokens for row in check.rows) * (check.hyperparameters.epoch_count or 1)
        if check.estimate:
            seconds = round(measured.pace * tokens, 1)
            yield run, replace(check, estimate=replace(check.estimate, seconds=seconds, memory_bytes=measured.memory))


def _check_run(config: RunConfig, run: Path) -> RunCheck:
    """Return the problems of a run and what it needs, without loading the model."""
    result = RunCheck(versions=versions())
    try:
        result = replace(result, weights=find_weights(config.base, run))
        require_digest(config.base, digest_base(config.base, run))
        prepared = prepare(config, run)
    except ReconcileError as error:
        return replace(result, errors=(_problem(error),))
    except OSError as error:
        problem = CheckProblem(
            message=f"{error.filename} cannot be read: {error.strerror}", remedy="check its permissions"
        )
        return replace(result, errors=(problem,))
    errors = list(prepared.errors)
    if full := disk_problem(prepared):
        errors.append(full)
    estimate = _estimate(prepared)
    if estimate.memory_bytes and estimate.memory_available and estimate.memory_bytes > estimate.memory_available:
        errors.append(_memory_problem(estimate, full=config.tuning == "full"))
    return replace(
        result,
        errors=tuple(errors),
        warnings=tuple(prepared.warnings),
        hyperparameters=prepared.hyperparameters,
        rows=tuple(prepared.data.lengths),
        estimate=estimate,
    )


def _problem(error: ReconcileError) -> CheckProblem:
    return CheckProblem(message=error.message, remedy=error.remedy)


def _memory_problem(estimate: Estimate, *, full: bool) -> CheckProblem:
    needed, available = (estimate.memory_bytes or 0) / _MIB, (estimate.memory_available or 0) / _MIB
    message = f"weights and optimizer need {needed:,.0f} MiB, and {estimate.device} has {available:,.0f} MiB free"
    remedy = "use a smaller base model, or " + ("set tuning to lora or qlora" if full else "free memory")
    return CheckProblem(message=message, remedy=remedy, resource="memory")


def _estimate(prepared: Preparation) -> Estimate:
    """Return what can be computed without the weights; the memory is that of weights, gradients and optimizer."""
    width = _WIDTHS[prepared.device.precision]
    tuning, trained = prepared.config.tuning, prepared.trained_parameters
    weights = prepared.parameters * (4 if tuning == "full" else _QUANTIZED_WIDTH if tuning == "qlora" else width)
    if tuning == "full" and prepared.config.method == "preference":
        weights *= 2  # the reference model
    return Estimate(
        device=prepared.device.name,
        total_steps=total_steps(prepared.sequences, prepared.hyperparameters),
        memory_bytes=int(weights + 4 * trained * 3),
        memory_available=_free_memory(prepared.device.name),
        disk_bytes=prepared.disk_bytes,
        disk_available=shutil.disk_usage(prepared.run).free,
        trained_parameters=trained,
        parameters=prepared.parameters,
    )


def _free_memory(device: str) -> int | None:
    import torch

    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free)
    import psutil

    return int(psutil.virtual_memory().available)


class _Measured(NamedTuple):
    """What a training takes: seconds for each token, and bytes of memory."""

    pace: float
    memory: int


def _measure(prepared: Preparation) -> _Measured:
    """Train a batch of the longest examples."""
    from reconciler.trainer.training import build_trainer, measure_longest

    trainer = build_trainer(prepared, prepared.run)
    measured = measure_longest(trainer, prepared)
    optimizer = 8 * prepared.trained_parameters  # its state is created in the first step
    return _Measured(measured.seconds / measured.tokens, _peak_memory(prepared.device.name) + optimizer)


def _peak_memory(device: str) -> int:
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    import resource

    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
