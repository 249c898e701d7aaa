"""The files of a run folder, which need none of the training libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.domain.errors import ReconcileError
from reconciler.files import acquire_lock
from reconciler.trainer.run_files import (
    ADAPTER_FOLDER,
    CARD_FILE,
    LOCK_FILE,
    MARKER_FILE,
    METRICS_FILE,
    RUN_FILE,
    STATUS_FILE,
    Hyperparameters,
    Method,
    Metrics,
    RunStatus,
    Tuning,
    changed_files,
    claim_start,
    complete_adapter,
    effective,
    is_canceled,
    is_running,
    make_marker,
    newest_start,
    read_metrics,
    read_run,
    read_status,
    request_cancel,
    start_folder,
    write_record,
)
from support.cases import each_row

HUB = {"hub": "org/model", "revision": "0123456789abcdef0123456789abcdef01234567"}


def write_run(folder: Path, **members: Any) -> Path:
    document = {"kind": "TrainingRun", "version": 1, "base": {"folder": "base"}, **members}
    (folder / RUN_FILE).write_text(json.dumps(document), encoding="utf-8")
    return folder


@each_row(
    ("method", "tuning", "examples", "given", "expected"),
    [
        (
            "supervised",
            "lora",
            15,
            {},
            {"epoch_count": 3, "learning_rate": 2e-4, "rank": 16, "alpha": 32, "dropout": 0.0},
        ),
        (
            "supervised",
            "lora",
            999,
            {},
            {"epoch_count": 3, "batch_size": 8, "gradient_accumulation": 1, "warmup": 0.05},
        ),
        ("supervised", "lora", 1000, {}, {"epoch_count": 1, "schedule": "constant", "beta": None}),
        ("supervised", "qlora", 15, {"rank": 8}, {"rank": 8, "alpha": 16}),
        ("supervised", "lora", 15, {"batch_size": 2}, {"batch_size": 2, "gradient_accumulation": 1}),
        ("supervised", "lora", 15, {"gradient_accumulation": 4}, {"batch_size": 2, "gradient_accumulation": 4}),
        ("supervised", "lora", 15, {"gradient_accumulation": 16}, {"batch_size": 1, "gradient_accumulation": 16}),
        ("supervised", "full", 15, {}, {"learning_rate": 2e-5, "rank": None, "schedule": "linear"}),
        ("preference", "lora", 15, {}, {"epoch_count": 1, "learning_rate": 5e-6, "beta": 0.1}),
        ("preference", "lora", 15, {"alpha": 7, "seed": 1}, {"alpha": 7, "rank": 16, "seed": 1}),
    ],
)
def test_omitted_hyperparameters_have_defaults(
    method: Method, tuning: Tuning, examples: int, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    chosen = effective(Hyperparameters(**given), method, tuning, examples)
    assert {name: getattr(chosen, name) for name in expected} == expected


@each_row(
    ("members", "message"),
    [
        (
            {"hyperparameters": {"learningrate": 1}},
            "hyperparameters: unknown hyperparameter learningrate; did you mean",
        ),
        ({"hyperparameters": {"rank": "8"}}, "hyperparameters.rank: expected `int | null`, got `str`; correct"),
        ({"hyperparameters": {"rank": 0}}, "hyperparameters.rank: expected `int` >= 1; correct the value"),
        ({"hyperparameters": {"beta": 0.1}}, "hyperparameters.beta: only the method preference has it; remove it"),
        (
            {"method": "preference", "hyperparameters": {"packing": True}},
            "hyperparameters.packing: the method preference",
        ),
        (
            {"tuning": "full", "hyperparameters": {"rank": 8}},
            "hyperparameters.rank: full tuning has no adapter; remove",
        ),
        ({"tuning": "full", "continueFrom": "x"}, "continueFrom: full tuning has no adapter; remove it, or set tuning"),
        ({"epochs": 3}, "unknown field epochs; "),
        ({"base": {}}, "base: expected exactly one of hub, folder and gguf; set one of them"),
        (
            {"base": {"hub": "a/b", "folder": "c"}},
            "base: expected exactly one of hub, folder and gguf; set one of them",
        ),
        (
            {"base": {"hub": "a/b"}},
            "base.revision: missing: a model on the hub can change; set the commit of the model",
        ),
        ({"base": {"hub": "a/b", "revision": "main"}}, "base.revision: expected `str` matching regex"),
        (
            {"base": {"folder": "c", "revision": HUB["revision"]}},
            "base.revision: only a model on the hub has a revision",
        ),
        ({"version": 2}, "version: invalid enum value 2; correct the value"),
    ],
)
def test_an_invalid_configuration_is_reported_with_its_field(
    tmp_path: Path, members: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReconcileError) as caught:
        read_run(write_run(tmp_path, **members))
    assert str(caught.value).startswith(f"{tmp_path / RUN_FILE}:1:1: {message}")


def test_a_missing_configuration_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ReconcileError, match=r"run\.json cannot be read: No such file or directory; name a run folder"):
        read_run(tmp_path)


def test_only_the_newest_start_counts(tmp_path: Path) -> None:
    assert (newest_start(tmp_path), read_status(tmp_path), read_metrics(tmp_path)) == (0, None, [])
    numbers = [claim_start(tmp_path) for _ in range(11)]
    assert numbers == list(range(1, 12))
    time = "2026-11-30T12:00:00Z"
    for start in (9, 11):
        status = RunStatus(state="running", start=start, updated=time, started=time)
        write_record(start_folder(tmp_path, start) / STATUS_FILE, status)
    (tmp_path / "starts" / "012").mkdir()
    assert newest_start(tmp_path) == 11
    found = read_status(tmp_path)
    assert found is not None
    assert (found.start, found.ended) == (11, False)


def test_a_line_of_metrics_that_is_being_written_is_skipped(tmp_path: Path) -> None:
    folder = start_folder(tmp_path, claim_start(tmp_path))
    line = {"step": 1, "epoch": 0.5, "time": "2026-11-30T12:00:00Z", "loss": 2.5}
    (folder / METRICS_FILE).write_text(json.dumps(line) + '\n{"step": 2, "epo', encoding="utf-8")
    assert read_metrics(tmp_path) == [Metrics(step=1, epoch=0.5, time="2026-11-30T12:00:00Z", loss=2.5)]


def test_an_adapter_is_complete_with_its_marker_and_edits_are_noticed(tmp_path: Path) -> None:
    folder = start_folder(tmp_path, claim_start(tmp_path)) / ADAPTER_FOLDER
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", CARD_FILE):
        (folder / name).write_text(name, encoding="utf-8")
    assert complete_adapter(tmp_path) is None
    marker = make_marker(folder, f"sha256:{0:064}")
    write_record(folder / MARKER_FILE, marker)
    assert complete_adapter(tmp_path) == folder
    (folder / CARD_FILE).write_text("scores", encoding="utf-8")
    assert changed_files(folder, marker) == []
    (folder / "adapter_config.json").write_text("edited", encoding="utf-8")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "more.json").write_text("added", encoding="utf-8")
    assert changed_files(folder, marker) == ["adapter_config.json", "adapter_model.safetensors", "more.json"]
    (folder / MARKER_FILE).write_text("{", encoding="utf-8")
    assert complete_adapter(tmp_path) is None


def test_a_trainer_that_has_the_lock_is_running(tmp_path: Path) -> None:
    assert is_running(tmp_path) is False

    def fail(holder: str) -> None:
        raise AssertionError(holder)

    acquire_lock(tmp_path / LOCK_FILE, "a test", fail)  # until the test's process ends
    for _ in range(2):  # looking at a lock does not take it
        assert is_running(tmp_path) in {True, None}


def test_a_canceled_run_stays_canceled(tmp_path: Path) -> None:
    assert not is_canceled(tmp_path)
    request_cancel(tmp_path)
    request_cancel(tmp_path)
    assert is_canceled(tmp_path)


def test_the_files_are_read_without_the_training_libraries() -> None:
    heavy = {"httpx", "numpy", "torch", "yaml"}
    script = f"import sys, reconciler.trainer.run_files; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # noqa: S603 - our own script
    assert ran.stdout == "set()\n"
