"""The files of a run folder: the interface between the trainer and the programs that start it.

A run folder is one training. Only ``run.json`` and the data have to be there::

    run.json                  RunConfig: what to train; nothing changes it
    examples.jsonl            one canonical conversation per line (for the method preference: with completions)
    validation.jsonl          optional, the same format: the loss on it is measured after each epoch
    cancel                    if it exists, the training is canceled: it stops after the current step
    trainer.lock              the kernel lock of the trainer that is running; never removed
    starts/N/                 everything that start N writes; only the newest start counts
        status.json           RunStatus, replaced atomically
        metrics.jsonl         one Metrics per line
        checkpoints/step-N/   with a completeness marker; removed when the adapter is complete
        adapter/              the result, with a completeness marker (for full tuning: the whole model)

A start claims its number by creating its folder, so two hosts never write to the same files; a start that is no longer
the newest stops before its next checkpoint. It resumes from the last complete checkpoint of any start.

How a training ends: ``request_cancel`` cancels it, also on another host, and no later start runs it again. SIGTERM and
SIGINT interrupt it: it writes a checkpoint after the current step, and the next start resumes. SIGKILL loses the steps
since the last checkpoint.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, field
from msgspec.structs import replace

from reconciler.domain.document import Count, Digest, Document, Moment, NonEmpty, Position, Record, Share, json_text
from reconciler.domain.errors import InvalidFile, Place, ReconcileError, StatusTable
from reconciler.domain.model import Method
from reconciler.domain.text import suggest_name
from reconciler.files import write_file

RUN_FILE: Final = "run.json"
EXAMPLES_FILE: Final = "examples.jsonl"
VALIDATION_FILE: Final = "validation.jsonl"
CANCEL_FILE: Final = "cancel"
LOCK_FILE: Final = "trainer.lock"
STARTS_FOLDER: Final = "starts"
STATUS_FILE: Final = "status.json"
METRICS_FILE: Final = "metrics.jsonl"
CHECKPOINTS_FOLDER: Final = "checkpoints"
ADAPTER_FOLDER: Final = "adapter"
MARKER_FILE: Final = "complete.json"
CARD_FILE: Final = "README.md"
"""The model card: no part of the digest, so that scores can be added."""

MODEL_SUFFIXES: Final = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""The ends of the names of the files of a base model that are read."""

Tuning = Literal["lora", "qlora", "full"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "bf16", "fp32", "fp16"]
State = Literal["preparing", "running", "succeeded", "failed", "canceled", "interrupted"]

Positive = Annotated[float, Meta(gt=0, extra={"expected": "a number above 0"})]
Commit = Annotated[str, Meta(pattern=r"^([0-9a-f]{40})?$", extra={"expected": "a commit of 40 hexadecimal digits"})]

_RecordT = TypeVar("_RecordT", bound=Record)
_OF_ADAPTERS: Final = ("rank", "alpha", "dropout", "target_modules")
_LARGE_DATA: Final = 1000
"""From this number of examples, one epoch suffices."""


class TrainerExit(StatusTable):
    """The number that the trainer ends with; docs/trainer.md is generated from this table."""

    SUCCEEDED = 0, "the result is complete, or `--check` found no error"
    FAILED = 1, "the training failed, or `--check` found errors; the status file or the document has the reason"
    CANCELED = 2, "the training was canceled"
    USAGE = 64, "run.json is invalid, or the extra `local` is not installed; nothing was started"
    BUSY = 75, "another trainer has the run folder"
    INTERRUPTED = 130, "a signal ended the training; run it again to resume"


class BaseModel(Record, frozen=True):
    """The base model: exactly one of `hub`, `folder` and `gguf`."""

    hub: str = ""
    """The id of a model on the Hugging Face hub; it needs a revision."""
    revision: Commit = ""
    """The commit of the model on the hub."""
    folder: str = ""
    """The path of a folder with a model in safetensors, relative to the run folder."""
    gguf: str = ""
    """The path of a GGUF file, relative to the run folder."""
    digest: Digest | None = None
    """The expected digest of the files of a local model; the training fails if they differ."""
    license: str = ""
    """The license of the base model, for the model card."""

    @property
    def shown(self) -> str:
        """The name of the base model for users, and in the adapter."""
        return self.hub or self.folder or self.gguf


class Hyperparameters(Record, frozen=True):
    """The hyperparameters of a training; an omitted one has a default."""

    epoch_count: Position | None = None
    """How often each example is trained."""
    batch_size: Position | None = None
    """The examples that are processed at once, on each device."""
    gradient_accumulation: Position | None = None
    """The batches per step."""
    learning_rate: Positive | None = None
    """The learning rate after the warm-up."""
    schedule: Schedule | None = None
    """How the learning rate changes after the warm-up."""
    warmup: Share | None = None
    """The share of the steps in which the learning rate rises."""
    weight_decay: Share | None = None
    """The weight decay of the optimizer."""
    max_gradient_norm: Positive | None = None
    """Larger gradients are scaled down to this norm."""
    rank: Position | None = None
    """The rank of the adapter."""
    alpha: Position | None = None
    """The adapter is scaled by alpha divided by rank."""
    dropout: Share | None = None
    """The share of the adapter that is dropped at random in each step."""
    target_modules: tuple[NonEmpty, ...] | None = None
    """The names of the layers that are adapted; empty stands for all linear layers."""
    max_length: Position | None = None
    """The limit of tokens of an example; omitted, it is the length of the longest example."""
    packing: bool | None = None
    """Whether several short examples fill one row."""
    precision: Precision | None = None
    """`auto` is bf16 where the device computes in it, otherwise fp32."""
    beta: Positive | None = None
    """How strongly the model is held near the base model; for preferences."""
    seed: Count | None = None
    """The seed of the order of the examples and of the first values of the adapter."""


class RunConfig(Document, frozen=True, kw_only=True, tag="TrainingRun"):
    """What to train: ``run.json``."""

    base: BaseModel
    """The base model."""
    method: Method = "supervised"
    """`supervised` (SFT) learns the answers, `preference` (DPO) prefers some answers to others."""
    tuning: Tuning = "lora"
    """`lora` trains an adapter, `qlora` one for a base model in 4 bits, and `full` all weights."""
    hyperparameters: Hyperparameters = Hyperparameters()
    """The hyperparameters; omitted ones have defaults."""
    continue_from: str = ""
    """The path of an adapter folder that the training continues from, relative to the run folder."""
    threads: Position = 1
    """The CPU threads of the training; a fixed number makes it reproducible."""
    checkpoint_steps: Count = 0
    """The steps between two checkpoints; 0 stands for one after each epoch, and at least one in 500 steps."""
    name: str = ""
    """The name of the tuned model, for the model card."""
    scores: dict[str, float] = field(default_factory=dict)
    """Scores of the model by their names, for the model card."""


class RunError(Record, frozen=True):
    """Why a training failed."""

    message: NonEmpty
    remedy: str = ""
    step: Count = 0
    """The step after which it failed; 0 if it was before the first."""


class RunStatus(Document, frozen=True, kw_only=True, tag="TrainingStatus"):
    """How far a start of a training is: ``status.json``."""

    state: State
    start: Position
    """The number of the start."""
    updated: Moment
    started: Moment
    resumed_from: Count = 0
    """The step of the checkpoint that this start resumed from; 0 if it started from the beginning."""
    step: Count = 0
    total_steps: Count = 0
    epoch: float = 0
    loss: float | None = None
    """The last training loss."""
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    remaining_seconds: float | None = None
    """The estimated time until the training is complete."""
    trained_tokens: Count = 0
    """The tokens per epoch that the loss is computed on."""
    error: RunError | None = None
    warnings: tuple[str, ...] = ()
    device: str = ""
    precision: str = ""
    hyperparameters: Hyperparameters = Hyperparameters()
    """The effective hyperparameters."""
    data_digest: str = ""
    """The digest of the data files."""
    base_digest: str = ""
    """The digest of the files of the base model; empty for a pinned model of the hub."""
    adapter_digest: str = ""
    """The digest of the result, as in its completeness marker."""
    versions: dict[str, str] = field(default_factory=dict)
    """The versions of Python and the training libraries."""
    host: str = ""
    process: int = 0
    """The process number on the host; for people, because another process may have it later."""

    @property
    def ended(self) -> bool:
        """Whether this start ended; if it is false and no process has the lock, the trainer was killed."""
        return self.state in {"succeeded", "failed", "canceled", "interrupted"}


class Metrics(Record, frozen=True):
    """A measurement during the training: a line of ``metrics.jsonl``."""

    step: Count
    epoch: float
    time: Moment
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float | None = None
    validation_loss: float | None = None
    reward_margin: float | None = None
    """How much more likely the chosen answers became than the rejected ones; for preferences."""
    reward_accuracy: float | None = None


class Marker(Document, frozen=True, kw_only=True, tag="CompletenessMarker"):
    """The completeness marker of a folder, which is written last."""

    digest: Digest
    """The digest of all files."""
    files: dict[str, Digest]
    """The digest of each file by its path in the folder."""
    inputs: Digest
    """The digest of run.json, the data and the base model that the folder was made from."""


class RowTokens(Record, frozen=True):
    """The tokens of one example."""

    line: Position
    tokens: Count
    trained: Count


class CheckProblem(Record, frozen=True):
    """What prevents a training, or a warning."""

    message: NonEmpty
    remedy: str = ""
    file: str = ""
    line: Count = 0
    path: str = ""
    """The dotted path of the field in run.json."""
    resource: Literal["", "disk", "memory"] = ""
    """What the machine has too little of."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(filter(None, (place, self.path, self.message))) + (f"; {self.remedy}" if self.remedy else "")


class Weights(Record, frozen=True):
    """Where the weights of the base model are."""

    present: bool
    source: str
    """The path of the files, or the address that they are downloaded from."""
    bytes: Count | None = None


class Estimate(Record, frozen=True):
    """What a training needs, and what is available; an unknown value is omitted."""

    device: str
    total_steps: Count
    seconds: float | None = None
    memory_bytes: Count | None = None
    memory_available: Count | None = None
    disk_bytes: Count | None = None
    disk_available: Count | None = None
    trained_parameters: Count | None = None
    parameters: Count | None = None


class RunCheck(Document, frozen=True, kw_only=True, tag="TrainingCheck"):
    """What is known before a training starts: the output of ``python -m reconciler.trainer --check``."""

    errors: tuple[CheckProblem, ...] = ()
    warnings: tuple[CheckProblem, ...] = ()
    hyperparameters: Hyperparameters = Hyperparameters()
    """The effective hyperparameters."""
    rows: tuple[RowTokens, ...] = ()
    weights: Weights | None = None
    estimate: Estimate | None = None
    versions: dict[str, str] = field(default_factory=dict)


def effective(given: Hyperparameters, method: Method, tuning: Tuning, examples: int) -> Hyperparameters:
    """Return the hyperparameters with the default of each omitted one, as recommended for small data.

    The sources are the guides of PEFT and TRL: 2e-4 for LoRA, alpha twice the rank, all linear layers, a constant rate;
    full tuning needs about a tenth of the rate. ``max_length`` stays omitted: only the tokenizer can measure examples.
    """
    preference = method == "preference"
    rate = 5e-6 if preference else 2e-4
    rank = None if tuning == "full" else given.rank or 16
    adapter: dict[str, Any] = (
        {"rank": rank, "alpha": 2 * rank, "dropout": 0.0, "target_modules": ()} if rank is not None else {}
    )
    defaults = Hyperparameters(
        epoch_count=1 if preference or examples >= _LARGE_DATA else 3,
        batch_size=max(1, 8 // (given.gradient_accumulation or 1)),
        gradient_accumulation=1,
        learning_rate=rate / 10 if tuning == "full" else rate,
        schedule="linear" if tuning == "full" else "constant",
        warmup=0.05,
        weight_decay=0.0,
        max_gradient_norm=1.0,
        packing=False,
        precision="auto",
        beta=0.1 if preference else None,
        seed=42,
        **adapter,
    )
    declared = {name: value for name in given.__struct_fields__ if (value := getattr(given, name)) is not None}
    return replace(defaults, **declared)


def read_run(run: Path) -> RunConfig:
    """Return the configuration of a run folder.

    Raises:
        ReconcileError: it cannot be read or is invalid, with the field and the remedy.
    """
    path = run / RUN_FILE
    try:
        config = msgspec.json.decode(path.read_bytes(), type=RunConfig)
    except OSError as error:
        raise ReconcileError(f"{path} cannot be read: {error.strerror}", "name a run folder with a run.json") from error
    except msgspec.DecodeError as error:
        raise _invalid_run(path, str(error)) from error
    return _validated(path, config)


def _invalid_run(path: Path, message: str) -> InvalidFile:
    problem, _, where = message.partition(" - at `$")
    member = where.rstrip("`").lstrip(".")
    if unknown := re.search(r"unknown field `(.*)`", problem):
        owners: dict[str, type[Record]] = {"": RunConfig, "base": BaseModel, "hyperparameters": Hyperparameters}
        known = owners[member].__struct_encode_fields__ if member in owners else ()
        kind = "hyperparameter" if member == "hyperparameters" else "field"
        return InvalidFile(Place(str(path)), member, f"unknown {kind} {unknown[1]}", suggest_name(unknown[1], known))
    problem = problem[:1].lower() + problem[1:]
    return InvalidFile(Place(str(path)), member, problem, "correct the value, docs/trainer.md describes the fields")


def _validated(path: Path, config: RunConfig) -> RunConfig:
    for where, problem, remedy in (*_base_faults(config.base), *_method_faults(config)):
        raise InvalidFile(Place(str(path)), where, problem, remedy)
    return config


def _base_faults(base: BaseModel) -> Iterator[tuple[str, str, str]]:
    if sum(map(bool, (base.hub, base.folder, base.gguf))) != 1:
        yield "base", "expected exactly one of hub, folder and gguf", "set one of them"
    if base.hub and not base.revision:
        yield "base.revision", "missing: a model on the hub can change", "set the commit of the model"
    if base.revision and not base.hub:
        yield "base.revision", "only a model on the hub has a revision", "remove it"


def _method_faults(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    given = config.hyperparameters
    if config.tuning == "full":
        names = dict(zip(Hyperparameters.__struct_fields__, Hyperparameters.__struct_encode_fields__, strict=True))
        declared = [names[name] for name in _OF_ADAPTERS if getattr(given, name) is not None]
        fields = [f"hyperparameters.{name}" for name in declared] + ["continueFrom"] * bool(config.continue_from)
        for where in fields:
            yield where, "full tuning has no adapter", "remove it, or set tuning to lora"
    if config.method != "preference" and given.beta is not None:
        yield "hyperparameters.beta", "only the method preference has it", "remove it"
    if config.method == "preference" and given.packing:
        yield "hyperparameters.packing", "the method preference does not pack examples", "remove it"


def write_record(path: Path, record: Record) -> None:
    """Replace a file with the JSON of a record atomically; raises OSError."""
    write_file(path, (json_text(record) + "\n").encode())


def _read(path: Path, kind: type[_RecordT]) -> _RecordT | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def claim_start(run: Path) -> int:
    """Create the folder of the next start and return its number; raises OSError."""
    starts = run / STARTS_FOLDER
    starts.mkdir(exist_ok=True)
    while True:
        number = newest_start(run) + 1
        try:
            (starts / str(number)).mkdir()
        except FileExistsError:
            continue  # another host was first
        return number


def newest_start(run: Path) -> int:
    """Return the number of the newest start, or 0 if there is none."""
    return max(_starts(run), default=0)


def _starts(run: Path) -> list[int]:
    try:
        names = [path.name for path in (run / STARTS_FOLDER).iterdir()]
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name and int(name) > 0)


def start_folder(run: Path, start: int) -> Path:
    """Return the folder of a start."""
    return run / STARTS_FOLDER / str(start)


def read_status(run: Path) -> RunStatus | None:
    """Return the status of the newest start, or ``None`` if it has not begun."""
    return _read(start_folder(run, newest_start(run)) / STATUS_FILE, RunStatus)


def read_metrics(run: Path) -> list[Metrics]:
    """Return all measurements up to now of the newest start; a line that is being written is skipped."""
    return list(iter_metrics(start_folder(run, newest_start(run)) / METRICS_FILE))


def iter_metrics(path: Path) -> Iterator[Metrics]:
    """Yield the measurements in a file; a line that is being written is skipped."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Metrics)
        except msgspec.DecodeError:
            continue


def request_cancel(run: Path) -> None:
    """Cancel a training, wherever it runs; send SIGTERM as well to a trainer that should notice it at once."""
    write_file(run / CANCEL_FILE, b"")


def is_canceled(run: Path) -> bool:
    """Return whether the training was canceled; the trainer may not have stopped yet."""
    return (run / CANCEL_FILE).exists()


def is_running(run: Path) -> bool | None:
    """Return whether a trainer on this host has the lock of a run folder; ``None`` where there are no such locks."""
    return is_locked(run / LOCK_FILE)


def is_locked(path: Path) -> bool | None:
    """Return whether a process of this host has the kernel's lock of a file; ``None`` where there are no such locks.

    It does not take the lock.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def command_of(run: Path) -> str:
    """Return the command that starts or resumes a training."""
    return f"python -m reconciler.trainer {quote(str(run.absolute()))}"


def process_count() -> int:
    """Return the number of processes that torchrun started for this training, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def complete_adapter(run: Path) -> Path | None:
    """Return the folder of the finished adapter, or ``None``; see :func:`changed_files` for edits by hand."""
    folder = start_folder(run, newest_start(run)) / ADAPTER_FOLDER
    return folder if read_marker(folder) else None


def read_marker(folder: Path) -> Marker | None:
    """Return the completeness marker of a folder, or ``None`` if the folder is incomplete."""
    return _read(folder / MARKER_FILE, Marker)


def make_marker(folder: Path, inputs: str) -> Marker:
    """Return the completeness marker of a folder; ``inputs`` is the digest of what it was made from."""
    files = {name: digest_file(folder / name) for name in _files(folder)}
    return Marker(digest=digest_names(files), files=files, inputs=inputs)


def digest_inputs(run: Path, base_digest: str) -> str:
    """Return the digest of everything that a training depends on; raises OSError."""
    names = [name for name in (RUN_FILE, EXAMPLES_FILE, VALIDATION_FILE) if (run / name).exists()]
    return digest_names({**{name: digest_file(run / name) for name in names}, "base": base_digest})


def digest_data(run: Path) -> str:
    """Return the digest of the data files of a run folder; raises OSError."""
    names = [name for name in (EXAMPLES_FILE, VALIDATION_FILE) if (run / name).exists()]
    return digest_names({name: digest_file(run / name) for name in names})


def changed_files(folder: Path, marker: Marker) -> Sequence[str]:
    """Return the files of a folder that were changed, added or removed since its marker was written."""
    now = {name: digest_file(folder / name) for name in _files(folder)}
    names = sorted(now.keys() | marker.files.keys())
    return [name for name in names if now.get(name) != marker.files.get(name)]


def _files(folder: Path) -> list[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name not in {MARKER_FILE, CARD_FILE})


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file; raises OSError."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def digest_names(files: dict[str, str]) -> str:
    """Return one digest for files by their names and digests."""
    lines = "".join(f"{digest} {name}\n" for name, digest in sorted(files.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
