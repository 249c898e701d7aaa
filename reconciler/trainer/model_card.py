"""The model card of a tuned model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reconciler.domain.document import builtins_of
from reconciler.trainer.progress import versions

if TYPE_CHECKING:
    from reconciler.trainer.preparation import Preparation

_METHODS = {"supervised": "supervised fine-tuning (SFT)", "preference": "direct preference optimization (DPO)"}


def model_card(prepared: Preparation, data_digest: str, base_digest: str, license_name: str) -> str:
    """Return the model card in Markdown, with the metadata that the hub reads."""
    config = prepared.config
    base = config.base
    full = config.tuning == "full"
    title = config.name or f"Tuned {base.shown}"
    front = {
        "base_model": base.hub or None,
        "library_name": "transformers" if full else "peft",
        "license": license_name or None,
        "tags": ["sft" if config.method == "supervised" else "dpo", config.tuning],
    }
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in front.items() if value), "---", ""]
    lines += [f"# {title}", ""]
    rows = {
        "base model": base.shown,
        "base revision": base.revision or base_digest,
        "license of the base model": license_name or "unknown",
        "method": f"{_METHODS[config.method]}, {config.tuning}",
        "data digest": data_digest,
        "examples": len(prepared.data.lengths),
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())]
    hyperparameters = builtins_of(prepared.hyperparameters)
    lines += ["", "## Hyperparameters", "", "| name | value |", "|---|---|"]
    lines += [f"| {name} | {_cell(json.dumps(value))} |" for name, value in hyperparameters.items()]
    if config.scores:
        lines += ["", "## Scores", "", "| check | score |", "|---|---|"]
        lines += [f"| {_cell(name)} | {score:g} |" for name, score in sorted(config.scores.items())]
    lines += ["", "## Versions", "", "| library | version |", "|---|---|"]
    lines += [f"| {name} | {version} |" for name, version in versions().items()]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
