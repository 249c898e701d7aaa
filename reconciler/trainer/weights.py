"""Load the base model and its tokenizer: from the hub at one commit, a local folder, or a GGUF file.

Only safetensors and GGUF files are read, which contain no code, and no code of a model's repository runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import sanitize
from reconciler.trainer.run_files import MODEL_SUFFIXES, BaseModel, Weights, digest_file, digest_names

_HUB: Final = "https://huggingface.co"


def source_of(base: BaseModel, run: Path) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` for a base model.

    Raises:
        ReconcileError: a local model does not exist, or has no safetensors.
    """
    safe: dict[str, Any] = {"trust_remote_code": False}
    if base.hub:
        return {"pretrained_model_name_or_path": base.hub, "revision": base.revision, **safe}
    path = local_path(base, run)
    if base.gguf:
        if not path.is_file():
            raise ReconcileError(f"base.gguf: no such file: {path}", "name a GGUF file")
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name, **safe}
    if not (path / "config.json").is_file():
        raise ReconcileError(f"base.folder: {path} has no config.json", "name the folder of a model in safetensors")
    if not any(path.glob("*.safetensors")):
        remedy = "convert it to safetensors; other formats can contain code and are not read"
        raise ReconcileError(f"base.folder: {path} has no safetensors files", remedy)
    return {"pretrained_model_name_or_path": str(path), **safe}


def local_path(base: BaseModel, run: Path) -> Path:
    """Return the folder or the GGUF file of a local base model."""
    return Path(os.path.normpath(run / (base.folder or base.gguf)))


def digest_base(base: BaseModel, run: Path) -> str:
    """Return the digest of the files of a local base model, empty for one of the hub.

    Raises:
        ReconcileError: a local model does not exist, or has no safetensors.
        OSError: a file cannot be read.
    """
    source_of(base, run)
    if base.hub:
        return ""
    path = local_path(base, run)
    if base.gguf:
        return digest_names({path.name: digest_file(path)})
    files = (file for file in sorted(path.iterdir()) if file.is_file() and file.suffix in MODEL_SUFFIXES)
    return digest_names({file.name: digest_file(file) for file in files})


def require_digest(base: BaseModel, digest: str) -> None:
    """Raise ReconcileError if the files of a local base model are not the expected ones."""
    if base.digest and base.digest != digest:
        raise ReconcileError(
            f"base.digest: the files of {base.shown} have the digest {digest}: expected {base.digest}",
            "restore the files, or set the digest of the new ones",
        )


def load_tokenizer(base: BaseModel, run: Path) -> Any:
    """Return the tokenizer of a base model.

    Raises:
        ReconcileError: it cannot be loaded, or has no chat template.
    """
    from transformers import AutoTokenizer

    with loading(base):
        tokenizer = AutoTokenizer.from_pretrained(**source_of(base, run))
    if not tokenizer.chat_template:
        raise ReconcileError(
            f"base: {base.shown} has no chat template", "name a model with one, usually the instruct version"
        )
    return tokenizer


def load_config(base: BaseModel, run: Path) -> Any:
    """Return the configuration of a base model; raises ReconcileError."""
    from transformers import AutoConfig

    with loading(base):
        return AutoConfig.from_pretrained(**source_of(base, run))


def load_model(base: BaseModel, run: Path, dtype: Any, **options: Any) -> Any:
    """Return a base model with parameters of a type; ``options`` are those of ``from_pretrained``.

    Raises:
        ReconcileError: it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    source = source_of(base, run)
    if base.gguf:
        from transformers import GgufConfig

        options["quantization_config"] = GgufConfig(dequantize=True)
    else:
        source["use_safetensors"] = True
    with loading(base):
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, **options)
    if base.gguf:  # transformers does not train it otherwise, although its weights are unpacked
        model.hf_quantizer, model.is_quantized = None, False
        vars(model.config).pop("quantization_config", None)
    return model


@contextmanager
def loading(base: BaseModel) -> Iterator[None]:
    """Turn the errors of the hub and of files into ReconcileErrors for users."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.errors import RevisionNotFoundError as MissingCommit

    page = f"{_HUB}/{base.hub}"
    try:
        yield
    except Exception as error:  # the libraries have no common base of their errors
        causes = [error, error.__cause__, error.__context__]
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            message, remedy = "is gated", f"accept its license at {page}, then set HF_TOKEN to a token of your account"
        elif any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            message = "was not found on the hub, or you have no access"
            remedy = f"check {page}, and set HF_TOKEN if the model is private"
        elif any(isinstance(cause, MissingCommit) for cause in causes):
            message, remedy = f"has no commit {base.revision}", f"choose one of {page}/commits"
        elif any(map(_is_unreachable, causes)) or (base.hub and is_offline()):
            message = "is not in the cache, and the hub cannot be reached"
            remedy = "connect to the network and unset HF_HUB_OFFLINE, or use a local copy as the base model"
        elif "trust_remote_code" in str(error):
            message = "needs code of its own repository, which is never run"
            remedy = "use a model that transformers supports itself"
        else:
            reason = sanitize(str(error).split("\n")[0]) or type(error).__name__
            message, remedy = f"cannot be loaded: {reason}", "check the files of the model"
        raise ReconcileError(f"base: {base.shown} {message}", remedy) from error


def _is_unreachable(error: BaseException | None) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError

    # Versions of the hub's library have different HTTP clients, which are not our dependencies.
    return isinstance(error, LocalEntryNotFoundError | ConnectionError) or type(error).__module__.startswith("httpx")


def is_offline() -> bool:
    """Return whether the variables of the hub's libraries forbid the network."""
    return any(
        os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def find_weights(base: BaseModel, run: Path) -> Weights:
    """Return where the weights of a base model are, and how large they are.

    Raises:
        ReconcileError: a local model does not exist, or the hub refuses the request.
    """
    if not base.hub:
        source_of(base, run)
        path = local_path(base, run)
        files = [path] if base.gguf else list(path.glob("*.safetensors"))
        return Weights(present=True, source=str(path), bytes=sum(file.stat().st_size for file in files))
    from huggingface_hub import HfApi, try_to_load_from_cache

    for name in ("model.safetensors", "model.safetensors.index.json"):
        found = try_to_load_from_cache(base.hub, name, revision=base.revision)
        if isinstance(found, str) and (files := _cached_weights(Path(found))):
            return Weights(present=True, source=found, bytes=sum(file.stat().st_size for file in files))
    address = f"{os.environ.get('HF_ENDPOINT', _HUB)}/{base.hub}/tree/{base.revision}"
    if is_offline():
        return Weights(present=False, source=address)
    with loading(base):
        info = HfApi().model_info(base.hub, revision=base.revision, files_metadata=True)
    sizes = [file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors")]
    if not sizes:
        remedy = "use a model in safetensors; other formats can contain code and are not read"
        raise ReconcileError(f"base: {base.hub} has no safetensors files", remedy)
    return Weights(present=False, source=address, bytes=sum(sizes))


def _cached_weights(found: Path) -> list[Path]:
    """Return the weights of a cached model, empty if some of its files are missing."""
    if found.suffix == ".safetensors":
        return [found]
    names = set(json.loads(found.read_bytes())["weight_map"].values())
    files = [found.with_name(name) for name in names]
    return files if all(file.exists() for file in files) else []


def license_of(base: BaseModel, run: Path) -> str:
    """Return the license that is declared, or that the files of a local base model state; empty if unknown."""
    if base.license or base.hub:
        return base.license
    path = local_path(base, run)
    if base.gguf:
        from gguf import GGUFReader

        stated = GGUFReader(str(path)).fields.get("general.license")
        return str(stated.contents()) if stated else ""
    card = path / "README.md"
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("license:")), "")


def load_model_shape(config: Any) -> Any:
    """Return a model without weights, which has the names and sizes of its layers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
