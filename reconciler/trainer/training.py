"""Train with TRL, and write checkpoints that are complete or not there."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from datasets import Dataset
from msgspec import Struct
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, set_seed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from reconciler.domain.errors import ReconcileError
from reconciler.trainer.checkpoints import (
    PARTIAL,
    checkpoint_folder,
    finish_folder,
    last_checkpoint,
    partial_folder,
    remove_old_checkpoints,
    remove_partial,
)
from reconciler.trainer.model_card import model_card
from reconciler.trainer.preparation import Preparation, total_steps
from reconciler.trainer.progress import Progress
from reconciler.trainer.rows import TokenizedData
from reconciler.trainer.run_files import (
    ADAPTER_FOLDER,
    CARD_FILE,
    CHECKPOINTS_FOLDER,
    command_of,
    is_canceled,
    newest_start,
    start_folder,
)
from reconciler.trainer.weights import license_of, load_model

_MOST_STEPS: Final = 500
"""The most steps between two checkpoints, unless others are declared."""
_MARGIN_STEPS: Final = 10
"""The steps after which the margin of a preference training must have changed."""
_NO_SPACE: Final = re.compile(r"No space left|File too large|Disk quota exceeded|PytorchStreamWriter|unexpected pos")
_SETTINGS_FILE: Final = "adapter_config.json"
_SCHEDULES: Final = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Interrupted(Exception):  # noqa: N818 - a signal, not an error
    """SIGTERM or SIGINT ended the training; the next start resumes."""


class Canceled(Exception):  # noqa: N818 - a decision, not an error
    """The training was canceled."""


class StopRequest(Struct):
    """Whether a signal requested the end of the training, and whether it can wait for the end of a step."""

    requested: bool = False
    in_steps: bool = False


class Inputs(Struct, frozen=True):
    """The digests of what a training depends on."""

    all: str
    data: str
    base: str


def train(prepared: Preparation, start: int, progress: Progress, stop: StopRequest, inputs: Inputs) -> None:
    """Train from the last complete checkpoint, or from the beginning, and write the result.

    Raises:
        ReconcileError: the training failed.
        Interrupted: a signal ended it.
        Canceled: it was canceled.
    """
    folder = start_folder(prepared.run, start)
    if progress.active:
        remove_partial(prepared.run)
    trainer = build_trainer(prepared, folder / CHECKPOINTS_FOLDER)
    saver = _Saver(prepared, start, inputs.all)
    trainer.saver = saver
    trainer.add_callback(_Watch(prepared, start, progress, stop))
    if prepared.device.name != "cpu":
        measure_longest(trainer, prepared)  # out of memory now, and not after hours
    checkpoint = last_checkpoint(prepared.run, inputs.all)
    if checkpoint:
        step, earlier, _ = checkpoint
        progress.resume(start_folder(prepared.run, earlier), step)
    stop.in_steps = True
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint[2]) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(prepared) from error
    finally:
        stop.in_steps = False
    if stop.requested:
        raise Interrupted
    if progress.active:
        digest = _write_result(prepared, trainer, folder, saver, inputs)
        progress.update(state="succeeded", adapter_digest=digest, remaining_seconds=0.0)
        remove_old_checkpoints(prepared.run, kept=0)


def build_trainer(prepared: Preparation, output: Path) -> Any:
    """Return a trainer of TRL with model, adapter and data.

    Raises:
        ReconcileError: the base model cannot be loaded.
    """
    config, chosen = prepared.config, prepared.hyperparameters
    set_seed(chosen.seed or 0)
    full = config.tuning == "full"
    dtype = torch.float32 if full else _DTYPES[prepared.device.precision]
    quantized = {"quantization_config": _quantization()} if config.tuning == "qlora" else {}
    model = load_model(config.base, prepared.run, dtype, **quantized)
    preference = config.method == "preference"
    options: dict[str, Any] = {}
    if config.continue_from:
        from peft import PeftModel

        adapter = str(prepared.run / config.continue_from)
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True, use_safetensors=True)
    elif not full:
        from peft import LoraConfig

        options["peft_config"] = LoraConfig(
            task_type="CAUSAL_LM",
            r=chosen.rank or 1,
            lora_alpha=chosen.alpha or 1,
            lora_dropout=chosen.dropout or 0.0,
            target_modules=prepared.target_modules or "all-linear",
        )
    if preference and full:
        options["ref_model"] = load_model(config.base, prepared.run, dtype)
    trainer_type = _PreferenceTrainer if preference else _SupervisedTrainer
    trainer = trainer_type(
        model=model,
        args=_arguments(prepared, output),
        train_dataset=_dataset(prepared.data),
        eval_dataset=_dataset(prepared.validation) if prepared.validation else None,
        processing_class=prepared.tokenizer,
        **options,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _quantization() -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _dataset(data: TokenizedData) -> Any:
    if data.pairs:
        pairs = data.pairs
        return Dataset.from_dict(
            {
                "prompt_ids": [pair.prompt for pair in pairs],
                "chosen_ids": [pair.chosen for pair in pairs],
                "rejected_ids": [pair.rejected for pair in pairs],
            }
        )
    return Dataset.from_dict({"input_ids": [row.ids for row in data.rows], "labels": [row.labels for row in data.rows]})


def _arguments(prepared: Preparation, output: Path) -> Any:
    chosen, device = prepared.hyperparameters, prepared.device
    steps = total_steps(prepared.sequences, chosen)
    common: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": chosen.batch_size,
        "per_device_eval_batch_size": chosen.batch_size,
        "gradient_accumulation_steps": chosen.gradient_accumulation,
        "learning_rate": chosen.learning_rate,
        "lr_scheduler_type": _SCHEDULES[chosen.schedule or "linear"],
        "warmup_steps": math.ceil(steps * (chosen.warmup or 0)),
        "num_train_epochs": chosen.epoch_count,
        "weight_decay": chosen.weight_decay,
        "max_grad_norm": chosen.max_gradient_norm,
        "optim": "adamw_torch",
        "seed": chosen.seed,
        "data_seed": chosen.seed,
        "bf16": device.precision == "bf16",
        "fp16": device.precision == "fp16",
        "use_cpu": device.name == "cpu",
        "activation_checkpointing": device.name != "cpu",  # memory is scarce on accelerators, and time on a CPU
        "dataloader_pin_memory": device.name == "cuda",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",  # the callback decides
        "eval_strategy": "epoch" if prepared.validation else "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if prepared.config.method == "preference":
        return DPOConfig(beta=chosen.beta, max_length=None, **common)
    if chosen.packing:
        return SFTConfig(packing=True, max_length=chosen.max_length, **common)
    return SFTConfig(packing=False, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}, **common)


class _Resumable(Trainer):
    """A trainer whose checkpoints are complete or not there."""

    saver: _Saver

    def _get_output_dir(self, trial: Any) -> str:  # noqa: ARG002 - the signature of transformers
        return str(self.saver.partial(self.state.global_step))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - the signature of transformers
        if self.args.should_save and output_dir:
            save_weights(self.accelerator.unwrap_model(self.model), Path(output_dir))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        def write() -> None:
            self.accelerator.wait_for_everyone()  # each process of torchrun adds its random state to the folder
            Trainer._save_checkpoint(self, model, trial)  # noqa: SLF001 - TRL's method also writes a card for the hub
            self.accelerator.wait_for_everyone()

        self.saver.save(self.state.global_step, write, main=self.args.should_save)

    def try_batch(self, batch: list[Any], unseen: list[Any]) -> float:
        """Compute the gradients of a batch and the loss of another, change nothing, and return the seconds."""
        model = self.model.to(self.args.device)
        model.train()
        self.current_gradient_accumulation_steps = self.args.gradient_accumulation_steps
        began = time.monotonic()
        self.training_step(model, self.data_collator(batch))
        seconds = time.monotonic() - began
        model.zero_grad(set_to_none=True)
        if unseen:
            model.eval()
            self.prediction_step(model, self.data_collator(unseen), prediction_loss_only=True)
            model.train()
        for metrics in self._metrics.values():
            metrics.clear()
        self._total_train_tokens = 0
        return seconds


class _SupervisedTrainer(_Resumable, SFTTrainer):
    pass


class _PreferenceTrainer(_Resumable, DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # it has tokens


class _Saver:
    """Write the checkpoints of a start."""

    def __init__(self, prepared: Preparation, start: int, inputs: str) -> None:
        self._run, self._start, self._inputs = prepared.run, start, inputs
        self._last = 0

    def partial(self, step: int) -> Path:
        """Return the folder in which transformers writes the checkpoint of a step."""
        final = checkpoint_folder(start_folder(self._run, self._start), step)
        return final.with_name(final.name + PARTIAL)

    def save(self, step: int, write: Callable[[], None], *, main: bool) -> None:
        """Write the checkpoint of a step, unless it exists; raises ReconcileError."""
        if step == self._last:
            return
        require_newest(self._run, self._start)
        final = checkpoint_folder(start_folder(self._run, self._start), step)
        try:
            if main:
                partial_folder(final)
            write()
            if main:
                finish_folder(self.partial(step) / f"checkpoint-{step}", final, self._inputs)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise self.failure(f"checkpoint of step {step}", error) from error
        finally:
            if main:
                shutil.rmtree(self.partial(step), ignore_errors=True)
        self._last = step
        if main:
            remove_old_checkpoints(self._run)

    def failure(self, written: str, error: Exception) -> Exception:
        """Return the error for users of a file that could not be written; other errors are returned as they are."""
        number = error.errno if isinstance(error, OSError) else None
        if number is None and not _NO_SPACE.search(str(error)):
            return error
        kept = last_checkpoint(self._run, self._inputs)
        resumes = f"it resumes after step {kept[0]}" if kept else "it starts from the beginning"
        free = shutil.disk_usage(self._run).free / 2**20
        remedy = f"free disk space ({free:,.0f} MiB are free)"
        if number not in {None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            remedy = f"check the permissions of {self._run}"
        reason = os.strerror(number) if number else "the disk is full"
        return ReconcileError(
            f"the {written} cannot be written: {reason}", f"{remedy}, then run `{command_of(self._run)}`: {resumes}"
        )


def require_newest(run: Path, start: int) -> None:
    """Raise ReconcileError if another start has taken over the run."""
    newest = newest_start(run)
    if newest > start:
        raise ReconcileError(
            f"start {newest} has taken over this training", "wait for it: only the newest start counts"
        )


class _Watch(TrainerCallback):
    """Report the progress, request checkpoints, and stop what cannot succeed."""

    def __init__(self, prepared: Preparation, start: int, progress: Progress, stop: StopRequest) -> None:
        self._prepared, self._start, self._progress, self._stop = prepared, start, progress, stop
        self._preference = prepared.config.method == "preference"
        self._every = prepared.config.checkpoint_steps
        self._tokens = 0.0
        self._time = 0.0
        self._began = 0.0
        self._first_step = 0
        self._zero_margins = 0

    def on_train_begin(self, _arguments: Any, state: Any, _control: Any, **_: Any) -> None:
        """Report the start of the first step."""
        self._began = self._time = time.monotonic()
        self._first_step = state.global_step
        self._progress.update(state="running", step=state.global_step, total_steps=state.max_steps)

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop or request a checkpoint."""
        if is_canceled(self._prepared.run):
            raise Canceled
        if self._stop.requested:
            if arguments.world_size > 1:
                raise Interrupted  # the others may be at another step, so no common checkpoint is possible
            control.should_training_stop = control.should_save = True
        if state.global_step % (self._every or _MOST_STEPS) == 0:
            control.should_save = True

    def on_epoch_end(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> None:
        """Request a checkpoint."""
        control.should_save = control.should_save or not self._every

    def on_log(
        self, _arguments: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Report the measurements of a step, or of the validation data."""
        logs = logs or {}
        step, epoch = state.global_step, float(logs.get("epoch", state.epoch or 0))
        if "eval_loss" in logs:
            self._progress.measure(step, epoch, validation_loss=_number(logs["eval_loss"]))
        if "loss" not in logs:
            return
        require_newest(self._prepared.run, self._start)
        now = time.monotonic()
        tokens = logs.get("num_tokens", 0.0)
        rate = (tokens - self._tokens) / max(now - self._time, 1e-9)
        self._tokens, self._time = tokens, now
        done = step - self._first_step
        remaining = (state.max_steps - step) * (now - self._began) / max(done, 1)
        loss = _number(logs["loss"])
        values = {
            "loss": loss,
            "learning_rate": _number(logs.get("learning_rate")),
            "gradient_norm": _number(logs.get("grad_norm")),
            "tokens_per_second": round(rate, 1),
        }
        if state.is_world_process_zero:
            margins = {"reward_margin": "rewards/margins", "reward_accuracy": "rewards/accuracies"}
            preferred = (
                {name: _number(logs.get(theirs)) for name, theirs in margins.items()} if self._preference else {}
            )
            self._progress.measure(step, epoch, **values, **preferred)
            del values["gradient_norm"]
            self._progress.update(
                always=False, step=step, epoch=round(epoch, 4), remaining_seconds=round(remaining, 1), **values
            )
        self._require_learning(step, logs)

    def _require_learning(self, step: int, logs: dict[str, float]) -> None:
        rate = self._prepared.hyperparameters.learning_rate or 0
        norm = logs.get("grad_norm", 1.0)
        if not math.isfinite(logs["loss"]) or (not math.isfinite(norm) and self._prepared.device.precision != "fp16"):
            what = "loss" if not math.isfinite(logs["loss"]) else "gradient"
            raise _StepError(
                step,
                f"the {what} is not a finite number",
                f"set learningRate below {rate:g}, for example {rate / 10:g}",
            )
        if logs["loss"] == 0 and norm == 0:
            raise _StepError(
                step, "the loss is 0, so nothing is learned", "check that the answers of the examples are not empty"
            )
        if self._preference:
            self._zero_margins = self._zero_margins + 1 if logs.get("rewards/margins") == 0 else 0
            if self._zero_margins >= _MARGIN_STEPS:
                message = f"the margin between chosen and rejected answers has been 0 for {_MARGIN_STEPS} steps"
                raise _StepError(step, message, f"set learningRate above {rate:g}, and check that the answers differ")


class _StepError(ReconcileError):
    """The training cannot succeed after a step."""

    def __init__(self, step: int, message: str, remedy: str) -> None:
        super().__init__(f"step {step}: {message}", remedy)


def _number(value: float | None) -> float | None:
    """Return a number of a measurement; one that JSON cannot contain is omitted."""
    return value if value is not None and math.isfinite(value) else None


class Measured(NamedTuple):
    """What a batch of the longest examples needed."""

    seconds: float
    tokens: int


def measure_longest(trainer: Any, prepared: Preparation) -> Measured:
    """Train and evaluate a batch of the longest examples without a change.

    Raises:
        ReconcileError: the device has too little memory.
    """
    size = prepared.hyperparameters.batch_size or 1
    batch, unseen = (
        (sorted(rows, key=_length, reverse=True) * size)[:size] if rows else []
        for rows in (trainer.train_dataset, trainer.eval_dataset)
    )
    devices = [torch.cuda.current_device()] if prepared.device.name == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            trainer.try_batch(batch, unseen)
            seconds = trainer.try_batch(batch, [])  # the first one is slower
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(prepared) from error
    return Measured(seconds, sum(map(_length, batch)))


def _length(row: dict[str, Any]) -> int:
    return sum(len(value) for name, value in row.items() if name.endswith("_ids"))


def _out_of_memory(prepared: Preparation) -> ReconcileError:
    chosen = prepared.hyperparameters
    size, accumulation = chosen.batch_size or 1, chosen.gradient_accumulation or 1
    message = f"{prepared.device.name} has too little memory for {size} examples of {chosen.max_length} tokens"
    if size > 1:
        half = size // 2
        remedy = f"set batchSize to {half} and gradientAccumulation to {math.ceil(size * accumulation / half)}"
    else:
        remedy = "shorten the longest examples, set tuning to qlora, or use a smaller base model"
    return ReconcileError(message, remedy)


def save_weights(model: Any, folder: Path) -> None:
    """Write the adapter of a model, or the whole model if it has none, in safetensors; raises OSError."""
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder, selected_adapters=["default"], save_embedding_layers=False)
        (folder / CARD_FILE).unlink(missing_ok=True)  # a form to fill in
        settings = json.loads((folder / _SETTINGS_FILE).read_bytes())
        settings["target_modules"] = sorted(settings["target_modules"])  # a set, of any order in each process
        (folder / _SETTINGS_FILE).write_text(f"{json.dumps(settings, indent=2)}\n", encoding="utf-8")
    else:
        model.save_pretrained(folder)


def _write_result(prepared: Preparation, trainer: Any, folder: Path, saver: _Saver, inputs: Inputs) -> str:
    """Write the adapter, or the model of a full tuning, and return its digest; raises ReconcileError."""
    require_newest(prepared.run, int(folder.name))
    final = folder / ADAPTER_FOLDER
    config = prepared.config
    model = trainer.accelerator.unwrap_model(trainer.model)
    try:
        partial = partial_folder(final)
        if config.tuning != "full":
            settings = model.peft_config["default"]
            settings.base_model_name_or_path = config.base.shown
            settings.revision = config.base.revision or None
        save_weights(model, partial)
        prepared.tokenizer.save_pretrained(partial)
        card = model_card(prepared, inputs.data, inputs.base, license_of(config.base, prepared.run))
        (partial / CARD_FILE).write_text(card, encoding="utf-8")
        return finish_folder(partial, final, inputs.all)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise saver.failure("result", error) from error
