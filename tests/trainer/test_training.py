"""Trainings of a tiny random model, from the first step to the adapter: skipped where the extra ``local`` is missing.

A stage of the gate installs the extra and sets REQUIRE_LOCAL, so that they are not skipped there.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from reconciler.trainer import merge, worker
from reconciler.trainer.run_files import (
    ADAPTER_FOLDER,
    CARD_FILE,
    LOCK_FILE,
    MARKER_FILE,
    BaseModel,
    RunStatus,
    TrainerExit,
    changed_files,
    claim_start,
    complete_adapter,
    is_running,
    newest_start,
    read_marker,
    read_metrics,
    read_status,
    request_cancel,
    start_folder,
)
from support.cli_world import EXAMPLES, Cli
from support.local_world import LOCAL_TARGET
from support.tiny_model import TEMPLATE, write_tiny_model
from support.training import (
    WORDS,
    at_event,
    conversation,
    preference_rows,
    run_check,
    supervised_rows,
    train_forked,
    write_run,
)

if os.environ.get("REQUIRE_LOCAL") != "1":
    pytest.importorskip("trl")
    pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # the training libraries warn about each other

FAST: dict[str, Any] = {"batchSize": 2, "learningRate": 0.01, "epochCount": 2}
"""Ten steps."""
STEPS = 10
LIBRARIES = ("peft", "transformers.models.llama.modeling_llama", "torch.distributed.algorithms.join", "torch._dynamo")
"""What is imported during a training."""


@pytest.fixture(scope="module", autouse=True)
def _libraries() -> None:
    """Import the libraries once, and not in each process."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
    for name in (*LIBRARIES, "reconciler.trainer.check", "reconciler.trainer.training"):
        import_module(name)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def complete(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return run folders of uninterrupted trainings by their method."""
    folder = tmp_path_factory.mktemp("complete")

    def train(method: str) -> Path:
        run = folder / method
        if not run.exists():
            assert train_forked(make_run(run, base, method)) == TrainerExit.SUCCEEDED, status_of(run).error
        return run

    return train


def make_run(run: Path, model: Path, method: str = "supervised", **members: Any) -> Path:
    rows = preference_rows() if method == "preference" else supervised_rows()
    settings = {"method": method, "checkpointSteps": 3, "hyperparameters": FAST, **members}
    return write_run(run, model, rows, **settings)


def status_of(run: Path) -> RunStatus:
    status = read_status(run)
    assert status is not None
    return status


def reason_of(run: Path) -> str:
    error = status_of(run).error
    assert error is not None
    return f"{error.message}; {error.remedy}"


def kill(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_a_training_reports_its_progress_and_writes_an_adapter(complete: Callable[[str], Path]) -> None:
    run = complete("supervised")
    status = status_of(run)
    assert (status.state, status.step, status.total_steps, status.device) == ("succeeded", STEPS, STEPS, "cpu")
    assert (status.precision, status.hyperparameters.max_length, status.resumed_from) == ("fp32", 14, 0)
    assert {"python", "torch", "transformers", "peft", "trl"} <= status.versions.keys()
    metrics = read_metrics(run)
    assert [line.step for line in metrics] == list(range(1, STEPS + 1))
    losses = [line.loss for line in metrics if line.loss]
    assert losses[-1] < losses[0]
    adapter = complete_adapter(run)
    assert adapter is not None
    files = {path.name for path in adapter.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pth", ".pt", ".pkl"))]
    assert (adapter / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATE
    marker = read_marker(adapter)
    assert marker is not None
    assert (marker.digest, changed_files(adapter, marker)) == (status.adapter_digest, [])
    card = (adapter / CARD_FILE).read_text(encoding="utf-8")
    assert status.data_digest in card
    assert status.base_digest in card
    assert "| learningRate | 0.01 |" in card
    assert sorted(path.name for path in start_folder(run, 1).iterdir()) == [
        "adapter", "checkpoints", "metrics.jsonl", "status.json",
    ]  # fmt: skip
    assert not any((start_folder(run, 1) / "checkpoints").iterdir())


def test_the_program_gives_the_same_adapter_in_a_process_of_its_own(
    complete: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", base)
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "reconciler.trainer", str(run)],
        env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (TrainerExit.SUCCEEDED, "")
    assert ran.stdout == f"{complete_adapter(run)} is complete\n"
    assert status_of(run).adapter_digest == status_of(complete("supervised")).adapter_digest


def test_a_complete_training_is_not_repeated(complete: Callable[[str], Path]) -> None:
    run = complete("supervised")
    assert train_forked(run) == TrainerExit.SUCCEEDED
    assert newest_start(run) == 1


@pytest.mark.parametrize("method", ["supervised", "preference"])
def test_a_training_can_be_repeated_bit_by_bit(
    complete: Callable[[str], Path], base: Path, tmp_path: Path, method: str
) -> None:
    run = make_run(tmp_path / "run", base, method)
    assert train_forked(run) == TrainerExit.SUCCEEDED
    assert status_of(run).adapter_digest == status_of(complete(method)).adapter_digest


@pytest.mark.parametrize(
    ("method", "number", "ended_by", "exit_status", "resumed_from"),
    [
        ("supervised", 2, signal.SIGKILL, -signal.SIGKILL, 0),
        ("supervised", 8, signal.SIGKILL, -signal.SIGKILL, 6),
        ("supervised", 4, signal.SIGTERM, TrainerExit.INTERRUPTED, 5),
        ("preference", 5, signal.SIGKILL, -signal.SIGKILL, 3),
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(
    complete: Callable[[str], Path],
    base: Path,
    tmp_path: Path,
    method: str,
    number: int,
    ended_by: signal.Signals,
    exit_status: int,
    resumed_from: int,
) -> None:
    run = make_run(tmp_path / "run", base, method)
    ended = train_forked(run, at_event(number, kill(ended_by), event="open", ending="metrics.jsonl"))
    assert ended == exit_status
    assert status_of(run).state == ("interrupted" if ended_by == signal.SIGTERM else "running")
    assert is_running(run) is False
    assert train_forked(run) == TrainerExit.SUCCEEDED
    status, whole = status_of(run), status_of(complete(method))
    assert (status.start, status.resumed_from) == (2, resumed_from)
    assert status.adapter_digest == whole.adapter_digest
    losses = [[(line.step, line.loss) for line in read_metrics(folder)] for folder in (run, complete(method))]
    assert losses[0] == losses[1]


KILLED: list[tuple[str, str, int]] = [
    ("os.rename", ".partial/checkpoint-3", 1),  # the checkpoint is written, and not renamed
    ("os.rename", "adapter.partial", 1),
    ("open", "optimizer.pt", 2),
]


@pytest.mark.parametrize(("event", "ending", "number"), KILLED)
def test_a_training_that_is_killed_while_it_writes_resumes(
    complete: Callable[[str], Path], base: Path, tmp_path: Path, event: str, ending: str, number: int
) -> None:
    run = make_run(tmp_path / "run", base)
    ended = train_forked(run, at_event(number, kill(signal.SIGKILL), event=event, ending=ending))
    assert ended == -signal.SIGKILL
    assert complete_adapter(run) is None
    assert train_forked(run) == TrainerExit.SUCCEEDED
    assert status_of(run).adapter_digest == status_of(complete("supervised")).adapter_digest
    assert not [path for path in run.rglob("*") if path.name.endswith(".partial")]


def test_a_result_whose_trainer_was_killed_before_it_reported_is_settled(
    complete: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", base)
    renamed = False

    def observe(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal renamed
        if event == "os.rename" and str(arguments[0]).endswith("adapter.partial"):
            renamed = True
        elif renamed and event == "open" and ".status.json" in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    assert train_forked(run, observe) == -signal.SIGKILL
    assert status_of(run).state == "running"
    assert train_forked(run) == TrainerExit.SUCCEEDED
    status = status_of(run)
    assert (status.state, status.start, status.step) == ("succeeded", 1, STEPS)
    assert status.adapter_digest == status_of(complete("supervised")).adapter_digest
    assert not any((start_folder(run, 1) / "checkpoints").iterdir())


CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}


@pytest.mark.slow
def test_a_training_that_is_killed_at_any_change_of_a_file_resumes(
    complete: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    stride = 5
    for number in count(1, stride):
        run = make_run(tmp_path / str(number), base)
        seen = 0

        def observe(event: str, arguments: tuple[Any, ...], run: Path = run, number: int = number) -> None:
            nonlocal seen
            if event in CHANGES and (event != "open" or arguments[1] not in {None, "r", "rb"}):
                seen += str(arguments[0]).startswith(str(run))
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        if train_forked(run, observe) == TrainerExit.SUCCEEDED:
            assert number > 10 * stride
            return
        assert train_forked(run) == TrainerExit.SUCCEEDED, (number, reason_of(run))
        assert status_of(run).adapter_digest == status_of(complete("supervised")).adapter_digest, number
        shutil.rmtree(run)


@pytest.mark.parametrize("damage", ["marker", "truncated", "inputs"])
def test_a_damaged_checkpoint_is_ignored(
    complete: Callable[[str], Path], base: Path, tmp_path: Path, damage: str
) -> None:
    run = make_run(tmp_path / "run", base)
    train_forked(run, at_event(8, kill(signal.SIGKILL), event="open", ending="metrics.jsonl"))
    newest = start_folder(run, 1) / "checkpoints" / "step-6"
    if damage == "marker":
        (newest / MARKER_FILE).unlink()
    elif damage == "truncated":
        with (newest / "optimizer.pt").open("r+b") as file:
            file.truncate(100)
    else:  # both are from a training with other inputs
        document = json.loads((run / "run.json").read_text(encoding="utf-8"))
        (run / "run.json").write_text(json.dumps({**document, "name": "other"}), encoding="utf-8")
    assert train_forked(run) == TrainerExit.SUCCEEDED
    assert status_of(run).resumed_from == (0 if damage == "inputs" else 3)
    assert weights_of(run) == weights_of(complete("supervised"))


def weights_of(run: Path) -> bytes:
    return (start_folder(run, newest_start(run)) / ADAPTER_FOLDER / "adapter_model.safetensors").read_bytes()


def test_a_full_disk_fails_with_its_reason_and_keeps_the_earlier_checkpoint(
    complete: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", base)

    def fill() -> None:  # a limit of the size of files has the same effect, and other tests keep their disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = at_event(6, fill, event="open", ending="metrics.jsonl")
    assert train_forked(run, full) == TrainerExit.FAILED
    assert reason_of(run).startswith("the checkpoint of step 6 cannot be written: ")
    assert reason_of(run).endswith(f"then run `python -m reconciler.trainer {run}`: it resumes after step 3")
    assert sorted(path.name for path in (start_folder(run, 1) / "checkpoints").iterdir()) == ["step-3"]
    assert train_forked(run) == TrainerExit.SUCCEEDED
    assert status_of(run).adapter_digest == status_of(complete("supervised")).adapter_digest


def test_a_training_is_canceled_and_stays_so(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base)
    cancel = at_event(4, lambda: request_cancel(run), event="open", ending="metrics.jsonl")
    assert train_forked(run, cancel) == TrainerExit.CANCELED
    assert (status_of(run).state, status_of(run).step) == ("canceled", 4)
    assert train_forked(run) == TrainerExit.CANCELED
    assert newest_start(run) == 1


def test_a_signal_while_the_model_is_loaded_ends_the_trainer(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base)
    ended = train_forked(run, at_event(1, kill(signal.SIGTERM), event="open", ending="tokenizer.json"))
    assert (ended, status_of(run).state, status_of(run).step) == (TrainerExit.INTERRUPTED, "interrupted", 0)


def test_a_second_trainer_is_refused_while_the_first_runs(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base)
    with (run / LOCK_FILE).open("w", encoding="utf-8") as lock:
        lock.write("process 7 on other")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert train_forked(run) == TrainerExit.BUSY
    assert newest_start(run) == 0


def test_the_child_of_a_trainer_does_not_keep_its_lock(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base)
    ready, done = os.pipe()

    def fork_and_die() -> None:
        if os.fork() == 0:  # lives on until the test closes its end of the pipe
            os.close(done)
            os.read(ready, 1)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert train_forked(run, at_event(1, fork_and_die, event="open", ending="metrics.jsonl")) == -signal.SIGKILL
    assert is_running(run) is False
    os.close(done)


def test_a_start_that_was_replaced_stops(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base)
    replaced = at_event(4, lambda: claim_start(run), event="open", ending="metrics.jsonl")
    assert train_forked(run, replaced) == TrainerExit.FAILED
    status = json.loads((start_folder(run, 1) / "status.json").read_text(encoding="utf-8"))
    assert status["error"]["message"] == "start 2 has taken over this training"


@pytest.mark.parametrize(
    ("method", "hyperparameters", "reason"),
    [
        ("supervised", {"learningRate": 1e30, "epochCount": 10}, "the loss is not a finite number; set learningRate"),
        ("preference", {"learningRate": 1e-30, "epochCount": 3}, "the margin between chosen and rejected answers has"),
    ],
)  # fmt: skip
def test_a_training_that_cannot_succeed_names_the_step(
    base: Path, tmp_path: Path, method: str, hyperparameters: dict[str, Any], reason: str
) -> None:
    run = make_run(tmp_path / "run", base, method, hyperparameters={**FAST, **hyperparameters})
    assert train_forked(run) == TrainerExit.FAILED
    error = status_of(run).error
    assert error is not None
    assert error.step > 0
    assert reason_of(run).startswith(f"step {error.step}: {reason}")
    assert complete_adapter(run) is None


def test_a_training_that_learns_nothing_names_the_step(base: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    certain = shutil.copytree(base, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(certain)
    with torch.no_grad():  # whatever it reads, its next token is the end of the turn
        model.model.embed_tokens.weight.fill_(1)
        model.lm_head.weight.fill_(0)
        model.lm_head.weight[model.config.eos_token_id] = 1000
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.fill_(0)
            layer.mlp.down_proj.weight.fill_(0)
    model.save_pretrained(certain)
    rows = [conversation(word, "") for word in WORDS]
    run = write_run(tmp_path / "run", certain, rows, hyperparameters={**FAST, "targetModules": ["q_proj"]})
    assert train_forked(run) == TrainerExit.FAILED
    assert reason_of(run).startswith("step 1: the loss is 0, so nothing is learned; check that the answers")
    assert status_of(run).step == 1
    assert complete_adapter(run) is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"hyperparameters": {"targetModules": ["q_proj", "v_projj"]}},
            "hyperparameters.targetModules: v_projj matches no linear layer of the base model; did you mean v_proj?",
        ),
        (
            {"hyperparameters": {"targetModules": ["lm_head"]}},
            "hyperparameters.targetModules: lm_head matches no linear layer of the base model; use one of ",
        ),
        ({"hyperparameters": {"maxLength": 13}}, "examples.jsonl:7: row 7: has 14 tokens: 5 of 13 tokens are trained"),
        ({"hyperparameters": {"precision": "fp16"}}, "hyperparameters.precision: cpu does not train in fp16; set it"),
        ({"tuning": "qlora"}, "tuning: qlora requires "),
        ({"base": {"folder": "nowhere"}}, "base.folder: nowhere has no config.json; name the folder of a model"),
        ({"base": {"gguf": "nowhere.gguf"}}, "base.gguf: no such file: "),
        ({"continueFrom": "nowhere"}, "continueFrom: nowhere has no readable adapter_config.json"),
    ],
)  # fmt: skip
def test_a_check_reports_what_prevents_a_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(make_run(tmp_path / "run", base, **members))
    found = run_check(Path())
    assert [str(error).startswith(message) for error in found.errors] == [True], found.errors
    assert train_forked(Path()) in {TrainerExit.FAILED, TrainerExit.USAGE}
    assert reason_of(Path()).startswith(message)


def test_a_check_measures_a_batch_of_the_longest_examples(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base)
    found = run_check(run, dry_run=True)
    assert found.errors == ()
    estimate = found.estimate
    assert estimate is not None
    assert (estimate.total_steps, estimate.parameters) == (STEPS, 8592)
    assert estimate.seconds
    assert estimate.memory_bytes
    assert [row.line for row in found.rows] == list(range(1, 10))
    assert sorted(path.name for path in run.iterdir()) == ["examples.jsonl", "run.json"]


def test_a_training_continues_from_an_adapter(complete: Callable[[str], Path], base: Path, tmp_path: Path) -> None:
    parent = complete_adapter(complete("supervised"))
    run = make_run(tmp_path / "run", base, "preference", continueFrom=str(parent))
    assert train_forked(run) == TrainerExit.SUCCEEDED
    child = complete_adapter(run)
    assert child is not None
    assert not (child / "ref").exists()
    losses = [line.loss for line in read_metrics(run)]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # the reference is the parent
    wrong = make_run(tmp_path / "wrong", base, continueFrom=str(parent), hyperparameters={"rank": 4})
    assert (
        run_check(wrong).errors[0].message.startswith("hyperparameters.rank: the adapter that the training continues")
    )


def test_all_weights_can_be_trained(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base, tuning="full")
    assert train_forked(run) == TrainerExit.SUCCEEDED
    result = complete_adapter(run)
    assert result is not None
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in result.iterdir()}


def test_packed_examples_have_the_loss_of_single_ones(base: Path, tmp_path: Path) -> None:
    first = []
    for packing in (False, True):
        settings = {**FAST, "batchSize": 9, "packing": packing, "maxLength": 120}
        run = make_run(tmp_path / str(packing), base, hyperparameters=settings)
        assert train_forked(run) == TrainerExit.SUCCEEDED
        first.append(read_metrics(run)[0].loss)
    assert first[0] == pytest.approx(first[1], abs=1e-5)


def test_the_loss_on_validation_data_is_measured(base: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", base)
    shutil.copy(run / "examples.jsonl", run / "validation.jsonl")
    assert train_forked(run) == TrainerExit.SUCCEEDED
    assert [line.step for line in read_metrics(run) if line.validation_loss] == [5, 10]


def test_the_template_of_the_model_decides_what_is_trained(tmp_path: Path) -> None:
    endless = write_tiny_model(tmp_path / "endless", TEMPLATE.replace("</s>", ""))
    found = run_check(make_run(tmp_path / "run", endless))
    assert found.errors[0].message.startswith("row 1: the chat template does not end the answer with the end-of-turn")
    twice = write_tiny_model(tmp_path / "twice", TEMPLATE.replace("{{ bos_token }}", "<s><s>"))
    found = run_check(make_run(tmp_path / "twice-run", twice))
    assert found.errors[0].message == "row 1: starts with two BOS tokens"


def test_code_of_a_model_is_not_run(base: Path, tmp_path: Path) -> None:
    hostile = shutil.copytree(base, tmp_path / "hostile")
    witness = tmp_path / "witness"
    config = json.loads((hostile / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (hostile / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (hostile / "own.py").write_text(f"open({str(witness)!r}, 'w')\nclass Own: pass\n", encoding="utf-8")
    found = run_check(make_run(tmp_path / "run", hostile))
    assert "needs code of its own repository, which is never run" in found.errors[0].message
    assert not witness.exists()


def test_the_adapter_answers_the_same_in_plain_peft(complete: Callable[[str], Path], base: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = complete_adapter(complete("supervised"))
    assert adapter is not None
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = AutoModelForCausalLM.from_pretrained(base)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "one"}], add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    untouched = model(ids).logits.detach()
    tuned = PeftModel.from_pretrained(model, adapter)
    assert not torch.equal(untouched, tuned(ids).logits)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": tokenizer.eos_token_id}
    answer = tokenizer.decode(tuned.generate(ids, **options)[0][ids.shape[1] :], skip_special_tokens=True)
    request = worker.Request(BaseModel(folder=str(base)), str(adapter), (worker.Question("one", max_tokens=4),))
    ((reply,),) = worker.answer(worker.Models(), request)
    assert reply["text"] == answer != ""
    settings = tuned.peft_config["default"]
    assert (settings.base_model_name_or_path, settings.revision, settings.r) == (str(base), None, 16)


def merge_request(base: Path, adapter: Path | None, folder: Path, **more: str) -> bytes:
    folder.mkdir(parents=True)
    request = {"base": {"folder": str(base)}, "adapter": str(adapter), "folder": str(folder), **more}
    return json.dumps(request).encode()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_answers_as_the_adapter_does(
    complete: Callable[[str], Path], base: Path, tmp_path: Path, dtype: str
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = complete_adapter(complete("supervised"))
    assert adapter
    published = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
    published.save_pretrained(tmp_path / "base")
    assert merge.main(merge_request(tmp_path / "base", adapter, tmp_path / "merged")) == {}
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert str(found.dtype) == f"torch.{dtype}"
    ids = torch.tensor([[1, 3, 20, 23, 14, 4]])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    untouched = plain(ids).logits.detach()
    tuned = PeftModel.from_pretrained(plain, adapter)(ids).logits
    answered = found.float()(ids).logits
    close = 1e-5 if dtype == "float32" else 0.05
    assert torch.allclose(answered, tuned, atol=close)
    assert not torch.allclose(answered, untouched, atol=close)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", CARD_FILE):
        assert (tmp_path / "merged" / name).read_bytes() == (adapter / name).read_bytes()
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert str(tmp_path) not in (tmp_path / "merged" / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, {}, " is quantized, and "),
        ({}, {"baseDigest": f"sha256:{'0' * 64}"}, " have changed since the training"),
    ],
)
def test_an_adapter_is_merged_into_its_unquantized_base_model_only(
    complete: Callable[[str], Path],
    base: Path,
    tmp_path: Path,
    config: dict[str, Any],
    more: dict[str, str],
    message: str,
) -> None:
    other = shutil.copytree(base, tmp_path / "base")
    whole = json.loads((other / "config.json").read_text(encoding="utf-8")) | config
    (other / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    adapter = complete_adapter(complete("supervised"))
    failure = merge.main(merge_request(other, adapter, tmp_path / "merged", **more))
    assert message in failure["message"]
    assert failure["remedy"]
    assert list((tmp_path / "merged").iterdir()) == []


def test_a_plan_shows_what_a_training_needs_and_the_line_of_an_example_that_does_not_fit(
    base: Path, tmp_path: Path
) -> None:
    reconcile = Cli(tmp_path, {**os.environ, "HF_HUB_OFFLINE": "1"})
    (reconcile.specs / "reconcile.yaml").write_text(LOCAL_TARGET, encoding="utf-8")
    shutil.copytree(base, reconcile.specs / "base")
    reconcile.manifest("adder", base="./base")
    reconcile.manifest("short", base="./base")
    text = (reconcile.specs / "short.yaml").read_text(encoding="utf-8")
    (reconcile.specs / "short.yaml").write_text(text.replace("batchSize", "maxLength: 5, batchSize"), encoding="utf-8")
    planned = reconcile("plan", "--format", "json")
    assert planned.status == 1, planned.err
    create, hold = planned.document["actions"]
    training = create["training"]
    lengths = [(len(given), len(wanted)) for given, wanted in EXAMPLES]  # and the tokens <s>, <u>, <a> and </s>
    assert training["tokens"] == sum(given + wanted + 4 for given, wanted in lengths)
    assert training["trainedTokens"] == sum(wanted + 1 for _, wanted in lengths)
    assert (training["device"], training["weights"]["present"]) == ("cpu", True)
    assert training["effective"]["maxLength"] == training["longestTokens"]
    assert min(training["seconds"], training["memory"]["needed"], training["disk"]["needed"]) > 0
    assert hold["reason"] == "InvalidTraining"
    first = next(line for line, (given, wanted) in enumerate(lengths, start=2) if given + wanted + 4 > 5)
    assert hold["message"].startswith(f"specs/short.csv:{first}: row {first - 1}: has ")
    kept = [path.name for path in (reconcile.specs / "store/.checks").iterdir()]
    assert kept == [f"{create['key']}.json"]


KILL = """\
import os, signal, sys

written = 0

def observe(event, arguments):
    global written
    if event == "open" and str(arguments[0]).endswith("starts/1/metrics.jsonl") and arguments[1] == "a":
        written += 1
        if written == 8:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(observe)
"""
"""Kills the first start of a trainer before it writes step 8; each Python process of the test imports it."""


def test_a_training_that_was_killed_is_resumed_by_wait_and_equals_an_uninterrupted_one(
    base: Path, tmp_path: Path
) -> None:
    (tmp_path / "kill").mkdir()
    (tmp_path / "kill/sitecustomize.py").write_text(KILL, encoding="utf-8")
    paths = os.pathsep.join((str(tmp_path / "kill"), str(Path(__file__).parents[2])))
    reconcile = Cli(tmp_path, {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "PYTHONPATH": paths})
    (reconcile.specs / "reconcile.yaml").write_text(LOCAL_TARGET, encoding="utf-8")
    shutil.copytree(base, reconcile.specs / "base")
    reconcile.manifest("adder", base="./base")
    for arguments in (("apply", "--yes", "--no-wait"), ("wait",), ("apply", "--yes")):
        command = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "reconciler", *arguments, "specs"],
            cwd=tmp_path,
            env=reconcile.environ,
            check=False,
            capture_output=True,
            text=True,
        )
        assert command.returncode == 0, command.stderr
    (run,) = (path.parent for path in (reconcile.specs / "store").glob("adder-*/run.json"))
    status = status_of(run)
    assert (status.state, status.start, status.step, status.resumed_from) == ("succeeded", 2, 10, 5)
    whole = run.with_name("whole")
    whole.mkdir()
    for name in ("run.json", "examples.jsonl"):
        shutil.copy(run / name, whole)
    assert train_forked(whole) == TrainerExit.SUCCEEDED
    assert weights_of(whole) == weights_of(run)
    assert [line.loss for line in read_metrics(whole)] == [line.loss for line in read_metrics(run)]
    assert reconcile("resolve", "adder").out == f"local/{run.name}\n"
