"""Everything that is decided before a model is loaded: device, precision, data as tokens, hyperparameters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import counted, join_names, suggest_name
from reconciler.trainer.rows import TokenizedData, tokenize_file
from reconciler.trainer.run_files import (
    EXAMPLES_FILE,
    VALIDATION_FILE,
    CheckProblem,
    Hyperparameters,
    RunConfig,
    effective,
    process_count,
)
from reconciler.trainer.weights import load_config, load_model_shape, load_tokenizer

_CONFIG_FILE: Final = "adapter_config.json"
_WEIGHTS_FILE: Final = "adapter_model.safetensors"
_MOMENTS: Final = 2
"""The values that the optimizer keeps for each trained parameter."""
_FLOAT_BYTES: Final = 4
_WRITTEN_AT_ONCE: Final = 3
"""The checkpoints on the disk while one is written."""


class Device(NamedTuple):
    """Where a training runs, and in which precision."""

    name: str
    precision: str


class Preparation(Struct):
    """A training that is ready to start, unless it has errors."""

    config: RunConfig
    run: Path
    device: Device
    tokenizer: Any
    data: TokenizedData
    validation: TokenizedData | None
    hyperparameters: Hyperparameters
    """The effective ones, with the maximum length that was measured."""
    target_modules: list[str]
    """The layers that are adapted; empty stands for all linear layers."""
    parameters: int
    trained_parameters: int
    errors: list[CheckProblem]
    warnings: list[CheckProblem]

    @property
    def sequences(self) -> int:
        """The number of sequences or pairs in an epoch."""
        return len(self.data.rows) + len(self.data.pairs)

    @property
    def disk_bytes(self) -> int:
        """The bytes that checkpoints and the result need."""
        weights = self.trained_parameters * _FLOAT_BYTES
        return weights * (1 + _MOMENTS) * _WRITTEN_AT_ONCE + weights


def choose_device(config: RunConfig) -> Device:
    """Return the device and the precision of a training.

    bf16 has the range of fp32 and is used where the device computes in it; a CPU trains in fp32, which is the same on
    every run. fp16 is never chosen, because small gradients vanish in it.

    Raises:
        ReconcileError: the device does not have the declared precision.
    """
    import torch

    if torch.cuda.is_available():
        name, has_bf16 = "cuda", torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        name, has_bf16 = "mps", torch.backends.mps.is_macos_or_newer(14, 0)
    else:
        name, has_bf16 = "cpu", False
    wanted = config.hyperparameters.precision or "auto"
    if wanted == "auto":
        return Device(name, "bf16" if has_bf16 else "fp32")
    if wanted == "bf16" and not has_bf16 and name != "cpu":
        raise ReconcileError(f"hyperparameters.precision: {name} does not have bf16", "set it to fp32 or auto")
    if wanted == "fp16" and name != "cuda":
        raise ReconcileError(f"hyperparameters.precision: {name} does not train in fp16", "set it to fp32 or auto")
    return Device(name, wanted)


def prepare(config: RunConfig, run: Path) -> Preparation:
    """Return everything that a training needs but the weights, with the problems of its inputs.

    Raises:
        ReconcileError: the base model or the adapter to continue from cannot be used.
        OSError: a data file cannot be read.
    """
    device = choose_device(config)
    if config.tuning == "qlora":
        _require_quantization(device)
    tokenizer, model_config = load_tokenizer(config.base, run), load_config(config.base, run)
    context = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    ends = _ends_of_turn(tokenizer, model_config)
    method, limit = config.method, config.hyperparameters.max_length
    data, validation = (
        tokenize_file(path, tokenizer, ends, method=method, max_length=limit, context=context)
        if path.name == EXAMPLES_FILE or path.exists()
        else None
        for path in (run / EXAMPLES_FILE, run / VALIDATION_FILE)
    )
    assert data is not None  # noqa: S101 - for the type checker: the first file is always read
    chosen = effective(config.hyperparameters, method, config.tuning, len(data.lengths))
    longest = max(data.longest, validation.longest if validation else 0)
    chosen = replace(chosen, max_length=limit or longest or None, precision=device.precision)
    errors = data.errors + (validation.errors if validation else [])
    warnings = data.warnings + (validation.warnings if validation else [])
    if config.continue_from:
        chosen = _of_adapter(run / config.continue_from, chosen, config.hyperparameters)
    shape = load_model_shape(model_config)
    modules = list(chosen.target_modules or ())
    errors += _module_problems(modules, shape)
    parameters = sum(parameter.numel() for parameter in shape.parameters())
    return Preparation(
        config=config,
        run=run,
        device=device,
        tokenizer=tokenizer,
        data=data,
        validation=validation,
        hyperparameters=chosen,
        target_modules=modules,
        parameters=parameters,
        trained_parameters=parameters
        if config.tuning == "full"
        else _adapter_parameters(shape, modules, chosen.rank or 1),
        errors=errors,
        warnings=warnings,
    )


def total_steps(sequences: int, chosen: Hyperparameters) -> int:
    """Return the number of optimizer steps, of which the last of an epoch may be smaller."""
    batches = ceil(sequences / ((chosen.batch_size or 1) * process_count()))
    return ceil(batches / (chosen.gradient_accumulation or 1)) * (chosen.epoch_count or 1)


def disk_problem(prepared: Preparation) -> CheckProblem | None:
    """Return an error if the disk has no room for checkpoints and result."""
    free, needed = shutil.disk_usage(prepared.run).free, prepared.disk_bytes
    if free >= needed:
        return None
    message = f"checkpoints and result need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
    return CheckProblem(message=message, remedy="free disk space", resource="disk")


def _require_quantization(device: Device) -> None:
    from importlib.util import find_spec

    remedy = "install bitsandbytes on a machine with CUDA, or set tuning to lora"
    if find_spec("bitsandbytes") is None:
        raise ReconcileError("tuning: qlora requires the package bitsandbytes", remedy)
    if device.name != "cuda":
        raise ReconcileError(f"tuning: qlora requires CUDA, and the device is {device.name}", remedy)


def _ends_of_turn(tokenizer: Any, model_config: Any) -> set[int]:
    """Return the tokens at which generation stops."""
    ends: list[Any] = []
    for stated in (tokenizer.eos_token_id, getattr(model_config, "eos_token_id", None)):
        ends += stated if isinstance(stated, list) else [stated]
    return {end for end in ends if end is not None}


def _of_adapter(folder: Path, chosen: Hyperparameters, declared: Hyperparameters) -> Hyperparameters:
    """Return the hyperparameters with those that the adapter to continue from determines."""
    try:
        settings = json.loads((folder / _CONFIG_FILE).read_bytes())
        rank, alpha, modules = settings["r"], settings["lora_alpha"], settings["target_modules"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReconcileError(
            f"continueFrom: {folder} has no readable {_CONFIG_FILE}", "name the folder of a LoRA adapter of PEFT"
        ) from error
    if not (folder / _WEIGHTS_FILE).is_file():
        raise ReconcileError(f"continueFrom: {folder} has no {_WEIGHTS_FILE}", "convert the adapter to safetensors")
    for name, value, wanted in (("rank", rank, declared.rank), ("alpha", alpha, declared.alpha)):
        if wanted not in {None, value}:
            message = f"hyperparameters.{name}: the adapter that the training continues from has {value}, not {wanted}"
            raise ReconcileError(message, "remove it, or train from the base model")
    names = (modules,) if isinstance(modules, str) else tuple(sorted(modules))
    return replace(chosen, rank=rank, alpha=alpha, target_modules=() if names == ("all-linear",) else names)


def linear_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and the linear layers of a model that adapters are for: all but the output layer."""
    import torch

    output = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not output:
            yield name, module


def _module_problems(wanted: Iterable[str], shape: Any) -> Iterator[CheckProblem]:
    names = [name for name, _ in linear_layers(shape)]
    short = sorted({name.rpartition(".")[2] for name in names})
    for pattern in wanted:
        if not any(_matches(name, pattern) for name in names):
            known = short if len(short) <= len(names) else names
            message = f"{pattern} matches no linear layer of the base model"
            remedy = suggest_name(pattern, known)
            if remedy == "remove it":
                remedy = f"use one of {join_names(known, 10)}"
            yield CheckProblem(message=message, remedy=remedy, path="hyperparameters.targetModules")


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or name.endswith(f".{pattern}")


def _adapter_parameters(shape: Any, modules: list[str], rank: int) -> int:
    return sum(
        rank * (layer.in_features + layer.out_features)
        for name, layer in linear_layers(shape)
        if not modules or any(_matches(name, pattern) for pattern in modules)
    )


def require_valid(prepared: Preparation) -> None:
    """Raise ReconcileError with the first errors of a preparation, if it has any."""
    errors = prepared.errors
    if not errors:
        return
    first = errors[0]
    more = f" (and {counted(len(errors) - 1, 'more error')})" if len(errors) > 1 else ""
    raise ReconcileError(f"{replace(first, remedy='')}{more}", first.remedy)
