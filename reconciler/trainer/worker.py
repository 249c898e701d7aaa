"""Answer prompts with tuned models: ``python -m reconciler.trainer.worker`` keeps the last base model loaded.

Each line of standard input is a request, and each line of standard output its response, both as JSON::

    {"base": {...}, "adapter": FOLDER, "prompts": [{"text": ..., "temperature": 0, "topP": null, "topK": null,
        "candidates": 1, "maxTokens": 512}]}
    {"replies": [[{"text": ..., "finish": ""}]]} or {"error": {"message": ..., "remedy": ...}}

``base`` is the base model as in run.json, with absolute paths; without ``adapter``, it answers itself. The worker ends
with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
from msgspec import Struct

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import sanitize
from reconciler.trainer.run_files import BaseModel

_ADAPTER_CONFIG: Final = "adapter_config.json"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_INSTALL: Final = "install tuned-model-reconciler[local]"
_CHECK: Final = "run `reconcile doctor`, which checks the libraries and the memory"


class Question(Struct, frozen=True, rename="camel"):
    """A prompt, and how to answer it; temperature 0 gives the most likely answer."""

    text: str
    temperature: float = 0
    top_p: float | None = None
    top_k: int | None = None
    candidates: int = 1
    max_tokens: int = 512

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``generate``; prompts with the same ones are answered together."""
        drawn = self.temperature > 0
        sampling = {"temperature": self.temperature, "top_p": self.top_p or 1.0, "top_k": self.top_k or 0}
        return {
            "do_sample": drawn,
            "max_new_tokens": self.max_tokens,
            "num_return_sequences": self.candidates if drawn else 1,
            **(sampling if drawn else {"temperature": None, "top_p": None, "top_k": None}),
        }


class Request(Struct, frozen=True):
    """The prompts for one model."""

    base: BaseModel
    adapter: str
    prompts: tuple[Question, ...]


class Models:
    """The loaded base model, and the adapters that were loaded into it."""

    def __init__(self) -> None:
        self._loaded: object = None
        self._model: Any = None
        self._adapters: dict[Path, str] = {}
        self._tokenizers: dict[Path | None, Any] = {}

    @contextmanager
    def use(self, base: BaseModel, adapter: Path | None) -> Iterator[tuple[Any, Any]]:
        """Yield the model with this adapter, and the tokenizer that it was trained with; raises ReconcileError.

        A folder without adapter has a whole model, which takes the place of the base model.
        """
        whole = adapter is not None and not (adapter / _ADAPTER_CONFIG).is_file()
        source = BaseModel(folder=str(adapter)) if whole else base
        if source != self._loaded:
            self._loaded, self._model, self._adapters, self._tokenizers = None, None, {}, {}
            self._model = _load(source)
            self._loaded = source
        if adapter not in self._tokenizers:
            own = adapter is not None and (adapter / _TOKENIZER_CONFIG).is_file()
            self._tokenizers[adapter] = _load_tokenizer(BaseModel(folder=str(adapter)) if own else base)
        if adapter and not whole:
            self._activate(adapter)
        disabled = self._model.disable_adapter() if adapter is None and self._adapters else nullcontext()
        with disabled:
            yield self._model, self._tokenizers[adapter]

    def _activate(self, adapter: Path) -> None:
        """Load an adapter if it is not loaded, and make it the active one."""
        from peft import PeftModel

        name = self._adapters.get(adapter)
        if name is None:
            name = f"adapter{len(self._adapters)}"
            if self._adapters:
                self._model.load_adapter(str(adapter), adapter_name=name, is_trainable=False)
            else:
                self._model = PeftModel.from_pretrained(self._model, str(adapter), adapter_name=name)
                self._model.eval()
            self._adapters[adapter] = name
        self._model.set_adapter(name)


def _load(base: BaseModel) -> Any:
    from reconciler.trainer.weights import load_model

    device, dtype = _device()
    model = load_model(base, Path("/"), dtype).to(device)
    model.eval()
    return model


def _device() -> tuple[str, Any]:
    import torch

    if torch.cuda.is_available():
        return "cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return ("mps" if torch.backends.mps.is_available() else "cpu"), torch.float32


def _load_tokenizer(base: BaseModel) -> Any:
    from transformers import AutoTokenizer

    from reconciler.trainer.weights import load_tokenizer, loading

    if base.folder and (Path(base.folder) / _ADAPTER_CONFIG).is_file():  # which has no model to look for
        with loading(base):
            tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    else:
        tokenizer = load_tokenizer(base, Path("/"))
    tokenizer.padding_side = "left"  # the answers begin where the prompts end
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def answer(models: Models, request: Request) -> list[list[dict[str, str]]]:
    """Return the answers to the prompts of a request; those with the same options are answered together."""
    groups: dict[str, list[int]] = {}
    for position, question in enumerate(request.prompts):
        groups.setdefault(json.dumps(question.options), []).append(position)
    replies: list[list[dict[str, str]]] = [[] for _ in request.prompts]
    with models.use(request.base, Path(request.adapter) if request.adapter else None) as (model, tokenizer):
        for positions in groups.values():
            questions = [request.prompts[position] for position in positions]
            for position, found in zip(positions, _generate(model, tokenizer, questions), strict=True):
                replies[position] = found
    return replies


def _generate(model: Any, tokenizer: Any, questions: Sequence[Question]) -> list[list[dict[str, str]]]:
    options = questions[0].options
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question.text}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
    ends = _ends(model, tokenizer)
    generated = model.generate(**inputs, **options, eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id)
    rows = generated[:, inputs["input_ids"].shape[1] :].tolist()
    each = options["num_return_sequences"]
    found = [_read(row, tokenizer, ends) for row in rows]
    return [
        found[number * each : (number + 1) * each] * (question.candidates // each)
        for number, question in enumerate(questions)
    ]


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer."""
    declared = model.generation_config.eos_token_id
    many = declared if isinstance(declared, list) else [declared]
    return {token for token in (*many, tokenizer.eos_token_id) if token is not None}


def _read(row: list[int], tokenizer: Any, ends: set[int]) -> dict[str, str]:
    """Return the text up to the end of the answer; without one, the limit was reached."""
    length = next((position for position, token in enumerate(row) if token in ends), None)
    text = tokenizer.decode(row[:length], skip_special_tokens=True)
    return {"text": text, "finish": "" if length is not None else "MAX_TOKENS"}


def main(requests: TextIO, responses: TextIO) -> None:
    """Answer requests until the end of the input."""
    models = Models()
    for line in requests:
        try:
            replies = answer(models, msgspec.json.decode(line, type=Request))
            response: dict[str, Any] = {"replies": replies}
        except ReconcileError as error:
            response = {"error": {"message": error.message, "remedy": error.remedy}}
        except ImportError as error:
            response = {"error": {"message": f"{error.name} is not installed", "remedy": _INSTALL}}
        except Exception as error:  # noqa: BLE001 - the libraries raise anything, and the next request may succeed
            reason = sanitize(str(error)) or type(error).__name__
            response = {"error": {"message": f"the model cannot answer: {reason}", "remedy": _CHECK}}
        responses.write(json.dumps(response) + "\n")
        responses.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the libraries print what they like
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ[variable] = "1"
    main(sys.stdin, answers)
