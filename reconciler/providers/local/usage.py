"""How applications use a tuned model of this machine: its files, and the lines for vLLM, transformers and llama.cpp."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from shlex import join
from typing import Any, Final

from msgspec import ValidationError, convert

from reconciler.domain.model import Target
from reconciler.providers.local.capabilities import PREFIX, store_of
from reconciler.providers.local.models import AnsweringModel, LocalRecord
from reconciler.providers.spec import Usage
from reconciler.trainer.run_files import BaseModel

RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM allows for --max-lora-rank."""
_ADAPTER: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*(/starts/[1-9][0-9]*/adapter)?"


def usage_of(target: Target, root: Path, remote: str, recorded: Mapping[str, Any]) -> Usage | None:
    """Return how a recorded model is used; ``None`` if the record has no adapter in the store."""
    try:
        record = convert(dict(recorded), LocalRecord)
    except ValidationError:
        return None
    if not re.fullmatch(_ADAPTER, record.adapter):
        return None
    model = AnsweringModel(
        store_of(target, root) / record.adapter, remote.removeprefix(PREFIX), _base_of(record, root), record.rank
    )
    return Usage(
        folder=str(model.path),
        base_model=name_of(model.base),
        revision=record.revision,
        commands={
            "vllm": (vllm_command(model),),
            "transformers": transformers_lines(model),
            "llamaCpp": llama_commands(model),
        },
    )


def _base_of(record: LocalRecord, root: Path) -> BaseModel:
    if record.revision:
        return BaseModel(hub=record.base_model, revision=record.revision)
    path = str(root / record.base_model)
    return BaseModel(gguf=path) if path.endswith(".gguf") else BaseModel(folder=path)


def name_of(base: BaseModel) -> str:
    """Return the name of a base model on the hub, or its path."""
    return base.hub or base.folder or base.gguf


def _is_whole(model: AnsweringModel) -> bool:
    return model.path is not None and not model.rank


def vllm_command(model: AnsweringModel) -> str:
    """Return the command that serves an adapter with vLLM under its key, or a base model under its name."""
    base = model.base
    command = ["vllm", "serve", str(model.path) if _is_whole(model) else name_of(base)]
    command += ["--revision", base.revision] if base.revision and not _is_whole(model) else []
    if _is_whole(model):
        command += ["--served-model-name", model.name]
    elif model.path:
        rank = next((allowed for allowed in RANKS if allowed >= model.rank), RANKS[-1])
        command += ["--enable-lora", "--lora-modules", f"{model.name}={model.path}", "--max-lora-rank", str(rank)]
    return join(command)


def transformers_lines(model: AnsweringModel) -> tuple[str, ...]:
    """Return the lines of Python that load a model and its tokenizer."""
    base, folder = model.base, str(model.path)
    if _is_whole(model):
        arguments = repr(folder)
    elif base.gguf:
        path = Path(base.gguf)
        arguments = f"{str(path.parent)!r}, gguf_file={path.name!r}"
    else:
        arguments = repr(name_of(base)) + (f", revision={base.revision!r}" if base.revision else "")
    adapter = () if _is_whole(model) else (f"model = PeftModel.from_pretrained(model, {folder!r})",)
    return (
        *(() if _is_whole(model) else ("from peft import PeftModel",)),
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        f"model = AutoModelForCausalLM.from_pretrained({arguments})",
        *adapter,
        f"tokenizer = AutoTokenizer.from_pretrained({folder!r})",
    )


def llama_commands(model: AnsweringModel) -> tuple[str, ...]:
    """Return the commands that convert a model with the scripts of the llama.cpp repository, and serve it."""
    base, file = model.base, f"{model.name}.gguf"
    if _is_whole(model):
        return (
            join(["python", "convert_hf_to_gguf.py", str(model.path), "--outfile", file]),
            join(["llama-server", "--model", file]),
        )
    source = ["--base-model-id", base.hub] if base.hub else ["--base", base.folder or str(Path(base.gguf).parent)]
    converted = base.gguf or "BASE_MODEL.gguf"
    return (
        join(["python", "convert_lora_to_gguf.py", *source, "--outfile", file, str(model.path)]),
        join(["llama-server", "--model", converted, "--lora", file]),
    )
