"""The program of the trainer: ``python -m reconciler.trainer RUN_FOLDER``."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from reconciler.domain.document import json_text
from reconciler.domain.errors import ReconcileError
from reconciler.files import acquire_lock
from reconciler.trainer.checkpoints import remove_old_checkpoints
from reconciler.trainer.progress import Progress, settle_status
from reconciler.trainer.run_files import (
    EXAMPLES_FILE,
    LOCK_FILE,
    RunConfig,
    RunError,
    TrainerExit,
    claim_start,
    complete_adapter,
    digest_data,
    digest_inputs,
    is_canceled,
    newest_start,
    process_count,
    read_run,
    start_folder,
)

if TYPE_CHECKING:
    from reconciler.trainer.training import StopRequest

_TRACEBACK_FILE: Final = "traceback.txt"
_LOCK_ATTEMPTS: Final = 10
_LOCK_PAUSE: Final = 0.05
"""The seconds between two attempts to take the lock."""
_INSTALL: Final = "install tuned-model-reconciler[local]"


class _RefusedError(ReconcileError):
    """The training is not started."""

    def __init__(self, message: str, remedy: str, status: TrainerExit) -> None:
        super().__init__(message, remedy)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trainer and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reconciler.trainer",
        description="Tune an open model on this machine, as the run.json of a folder describes.",
    )
    parser.add_argument(
        "folders", metavar="RUN_FOLDER", type=Path, nargs="+", help="a folder with run.json and examples.jsonl"
    )
    parser.add_argument(
        "--check", action="store_true", help="check runs without training; print a JSON document for each"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with --check, also load models that are present and train one batch"
    )
    parser.add_argument("--claimed", type=int, metavar="N", help="the number of the start that was claimed")
    options = parser.parse_args(arguments)
    if options.dry_run and not options.check:
        parser.error("--dry-run requires --check")
    if len(options.folders) > 1 and not options.check:
        parser.error("several folders require --check")
    try:
        runs = {folder: _read_folder(folder) for folder in options.folders}
    except ReconcileError as error:
        return _report(error, TrainerExit.USAGE)
    _set_up(*runs.values())
    if options.check:
        return _check(runs, dry_run=options.dry_run)
    ((folder, config),) = runs.items()
    return _train(config, folder, options.claimed)


def _read_folder(run: Path) -> RunConfig:
    config = read_run(run)
    if not (run / EXAMPLES_FILE).is_file():
        raise ReconcileError(f"{run / EXAMPLES_FILE}: no such file", "add the examples")
    return config


def _report(error: ReconcileError, status: TrainerExit) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


def _set_up(config: RunConfig, *more: RunConfig) -> None:
    """Set what the training libraries read when they are imported."""
    threads = str(config.threads)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["USE_HUB_KERNELS"] = "NO"  # they are programs that the hub provides
    if not any(run.base.hub for run in (config, *more)):
        os.environ["HF_HUB_OFFLINE"] = "1"  # a local model needs no host
    if "WORLD_SIZE" not in os.environ:  # torchrun starts one process for each device
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]


def _pin_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() > 1:
        torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    warnings.filterwarnings("ignore", category=FutureWarning)  # of one training library about another


def _check(runs: Mapping[Path, RunConfig], *, dry_run: bool) -> int:
    try:
        _pin_threads(max(config.threads for config in runs.values()))
        from reconciler.trainer.check import check_runs
    except ImportError as error:
        return _report(ReconcileError(f"{error.name} is not installed", _INSTALL), TrainerExit.USAGE)
    checked = check_runs(runs, dry_run=dry_run)
    for check in checked.values():
        print(json_text(check, ascii_only=True))
    return TrainerExit.FAILED if any(check.errors for check in checked.values()) else TrainerExit.SUCCEEDED


def _train(config: RunConfig, run: Path, start: int | None) -> int:
    try:
        with _locked(run):
            result = complete_adapter(run)
            if result and start in {None, newest_start(run)}:
                settle_status(run, result)
                remove_old_checkpoints(run, kept=0)
                print(f"{result} is complete")
                return TrainerExit.SUCCEEDED
            return _Start(config, run, _claimed(run, start)).run()
    except _RefusedError as error:
        return _report(error, error.status)
    except OSError as error:
        remedy = "check its permissions and the free disk space"
        return _report(ReconcileError(f"{run} cannot be written: {error.strerror}", remedy), TrainerExit.FAILED)


def _claimed(run: Path, start: int | None) -> int:
    if start is None and process_count() > 1:
        message = "several processes of torchrun cannot claim a start"
        raise _RefusedError(
            message,
            f"create the folder {start_folder(run, newest_start(run) + 1)}, and add --claimed with its number",
            TrainerExit.USAGE,
        )
    if is_canceled(run):
        raise _RefusedError(f"{run} was canceled", "make a new run folder", TrainerExit.CANCELED)
    if start is None:
        return claim_start(run)
    if start != newest_start(run):
        message = f"start {start} is not the newest start of {run}"
        raise _RefusedError(message, "claim a new one, or omit --claimed", TrainerExit.USAGE)
    return start


def _is_first() -> bool:
    """Return whether this is the only process of the training, or the first one of torchrun."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Hold the kernel lock of a run folder; one of several processes of torchrun holds it for all."""
    if not _is_first():
        yield
        return

    attempts = iter(range(_LOCK_ATTEMPTS))

    def wait(holder: str) -> None:
        if next(attempts, None) is None:
            message = f"{run}: another trainer is running: {holder}"
            raise _RefusedError(message, "wait until it ends, or cancel it", TrainerExit.BUSY)
        time.sleep(_LOCK_PAUSE)  # is_running holds the lock for an instant

    descriptor = acquire_lock(run / LOCK_FILE, f"process {os.getpid()} on {platform.node()}", wait)
    if descriptor is None:
        yield
        return
    _HELD.add(descriptor)
    try:
        yield
    finally:
        _HELD.discard(descriptor)
        os.close(descriptor)


_HELD: Final[set[int]] = set()


def _release_in_child() -> None:
    for descriptor in _HELD:
        os.close(descriptor)  # a forked child would keep the lock after the trainer was killed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


class _Start:
    """One start of a training."""

    def __init__(self, config: RunConfig, run: Path, number: int) -> None:
        self._config, self._run, self._number = config, run, number
        self._progress = Progress(run, number, time.time, active=_is_first())

    def run(self) -> int:
        """Train and return the exit status; the status file has the reason of every other end."""
        try:
            _pin_threads(self._config.threads)
            from reconciler.trainer.training import Canceled, Interrupted, StopRequest
        except ImportError as error:
            return self._fail(ReconcileError(f"{error.name} is not installed", _INSTALL))
        stop = StopRequest()
        _handle_signals(stop)
        try:
            self._train(stop)
        except Interrupted:
            return self._end("interrupted", TrainerExit.INTERRUPTED)
        except Canceled:
            return self._end("canceled", TrainerExit.CANCELED)
        except ReconcileError as error:
            return self._fail(error)
        except Exception as error:  # noqa: BLE001 - every end has its reason in the status
            return self._unexpected(error)
        if self._progress.active:
            print(f"{complete_adapter(self._run)} is complete")
        return TrainerExit.SUCCEEDED

    def _train(self, stop: StopRequest) -> None:
        from reconciler.trainer.preparation import disk_problem, prepare, require_valid
        from reconciler.trainer.training import Inputs, train
        from reconciler.trainer.weights import digest_base, require_digest

        base_digest = digest_base(self._config.base, self._run)
        require_digest(self._config.base, base_digest)
        inputs = Inputs(all=digest_inputs(self._run, base_digest), data=digest_data(self._run), base=base_digest)
        prepared = prepare(self._config, self._run)
        if full := disk_problem(prepared):
            prepared.errors.append(full)
        require_valid(prepared)
        self._progress.update(
            device=prepared.device.name,
            precision=prepared.device.precision,
            hyperparameters=prepared.hyperparameters,
            trained_tokens=sum(row.trained for row in prepared.data.lengths),
            warnings=tuple(map(str, prepared.warnings)),
            data_digest=inputs.data,
            base_digest=base_digest,
        )
        train(prepared, self._number, self._progress, stop, inputs)

    def _end(self, state: str, status: TrainerExit) -> int:
        with suppress(OSError):
            self._progress.update(state=state)
        print(f"{state} after step {self._progress.status.step}")
        return status

    def _fail(self, error: ReconcileError) -> int:
        reason = RunError(message=error.message, remedy=error.remedy, step=self._progress.status.step)
        with suppress(OSError):  # a full disk must not hide the reason
            self._progress.update(state="failed", error=reason)
        return _report(error, TrainerExit.FAILED)

    def _unexpected(self, error: Exception) -> int:
        from reconciler.domain.text import sanitize

        path = start_folder(self._run, self._number) / _TRACEBACK_FILE
        with suppress(OSError):
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        message = sanitize(str(error).strip().split("\n")[0])
        return self._fail(ReconcileError(f"{type(error).__name__}: {message}", f"see {path}, and report this as a bug"))


def _handle_signals(stop: StopRequest) -> None:
    from reconciler.trainer.training import Interrupted

    def request(_number: int, _frame: FrameType | None) -> Any:
        stop.requested = True
        if not stop.in_steps:
            raise Interrupted

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request)


if __name__ == "__main__":
    sys.exit(main())
