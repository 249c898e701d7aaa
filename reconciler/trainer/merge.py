"""Merge an adapter into its base model at full precision: ``python -m reconciler.trainer.merge``.

Standard input is a request as JSON, with absolute paths; ``base`` is the base model as in run.json, and ``folder`` is
empty::

    {"base": {...}, "baseDigest": "sha256:...", "adapter": FOLDER, "folder": FOLDER}

After an error, the exit status is 1, and standard output is ``{"message": ..., "remedy": ...}``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import sanitize
from reconciler.trainer.run_files import BaseModel

_INSTALL: Final = "install tuned-model-reconciler[local]"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"


class Request(Struct, frozen=True, rename="camel"):
    """What is merged; ``base_digest`` is that of the files of a local base model when the adapter was trained."""

    base: BaseModel
    adapter: str
    folder: str
    base_digest: str = ""


def merge(request: Request) -> None:
    """Write the merged model in the precision that its base model is published in, with the tokenizer.

    The sum is computed in 32 bits: weights in 4 bits would change the answers.

    Raises:
        ReconcileError: the base model cannot be loaded, is quantized, or has changed.
        OSError: a file cannot be written.
    """
    import torch
    from peft import PeftModel

    from reconciler.trainer.weights import digest_base, load_config, load_model, load_tokenizer

    base, adapter, folder = request.base, Path(request.adapter), Path(request.folder)
    if request.base_digest and digest_base(base, Path("/")) != request.base_digest:
        raise ReconcileError(f"base: the files of {base.shown} have changed since the training", "restore them")
    config = load_config(base, Path("/"))
    if getattr(config, "quantization_config", None) and not base.gguf:
        raise ReconcileError(
            f"base: {base.shown} is quantized, and merging would change the answers",
            "export the adapter alone, without --merged",
        )
    published = torch.float32 if base.gguf else getattr(config, "dtype", None)
    model = load_model(base, Path("/"), torch.float32)
    tuned: Any = PeftModel.from_pretrained(model, request.adapter)
    merged = tuned.merge_and_unload(safe_merge=True)  # fails for weights that are not numbers
    merged.to(published or torch.float32).save_pretrained(folder)
    if (adapter / _TOKENIZER_CONFIG).is_file():
        _copy_tokenizer(adapter, folder)
    else:
        load_tokenizer(base, Path("/")).save_pretrained(folder)


def _copy_tokenizer(adapter: Path, folder: Path) -> None:
    """Copy what is not the adapter itself: the tokenizer and the chat template that it was trained with."""
    for path in adapter.iterdir():
        if path.is_file() and not path.name.startswith("adapter_") and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def main(request: bytes) -> dict[str, str]:
    """Merge, and return the message and the remedy of an error; empty without one."""
    try:
        merge(msgspec.json.decode(request, type=Request))
    except ReconcileError as error:
        return {"message": error.message, "remedy": error.remedy}
    except ImportError as error:
        return {"message": f"{error.name} is not installed", "remedy": _INSTALL}
    except OSError as error:
        shown = error.strerror or str(error)
        return {"message": f"the merged model cannot be written: {shown}", "remedy": "free disk space"}
    except Exception as error:  # noqa: BLE001 - the libraries raise anything
        reason = sanitize(str(error)) or type(error).__name__
        return {"message": f"the adapter cannot be merged: {reason}", "remedy": "export it without --merged"}
    return {}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the libraries print what they like
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ[variable] = "1"
    failure = main(sys.stdin.buffer.read())
    if failure:
        answers.write(json.dumps(failure))
        answers.flush()
        sys.exit(1)
