"""Tune a model on a CSV file with TRL alone, as ``reconcile`` does it in benchmarks/local.py, but without checkpoints.

python benchmarks/trl_alone.py FOLDER DATA OUTPUT
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main(base: str, data: str, output: str) -> None:
    """Train 3 epochs with batches of 2 on one thread."""
    torch.set_num_threads(1)
    with Path(data).open(encoding="utf-8", newline="") as lines:
        rows = [
            {
                "prompt": [{"role": "user", "content": row["text_input"]}],
                "completion": [{"role": "assistant", "content": row["output"]}],
            }
            for row in csv.DictReader(lines)
        ]
    settings = SFTConfig(
        output_dir=output,
        num_train_epochs=3,
        per_device_train_batch_size=2,
        learning_rate=2e-4,
        warmup_steps=2,
        seed=42,
        lr_scheduler_type="constant_with_warmup",
        optim="adamw_torch",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        max_length=None,
    )
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"),
    )
    trainer.train()
    trainer.save_model(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
