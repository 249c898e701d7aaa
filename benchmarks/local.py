"""Train on this machine: what ``reconcile`` adds to the CPU time of TRL, its memory, and the answers of adapters.

python benchmarks/local.py unpack GGUF FOLDER      # a base model in safetensors that all tools can read
python benchmarks/local.py compare FOLDER [ROUNDS]
python benchmarks/local.py answers FOLDER [ADAPTER]
python benchmarks/local.py cpu COMMAND…            # CPU seconds of a command with its child processes

The environment needs the extra ``local``. Linux only: the trainer outlives the command, and a subreaper, see prctl(2),
waits for it. Data and held-out numbers are those of example 12.
"""

from __future__ import annotations

import csv
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from measure import PYTHON, TARGET

EXAMPLE: Final = Path(__file__).parents[1] / "examples" / "12-train-here"
RATIO_GOAL: Final = 1.1
MEMORY_GOAL: Final = 80
_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER
_MANIFEST: Final = """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {{name: numbers}}
spec:
  baseModel: {base}
  dataset: {{path: next-number.csv}}
  hyperparameters: {{batchSize: 2, rank: 8}}
"""
_SCRIPT: Final = Path(__file__).with_name("trl_alone.py")
"""The same training with TRL alone."""


class Cost(NamedTuple):
    """CPU seconds of a command and all its descendants, and its own memory in MiB while a trainer runs."""

    cpu_seconds: float
    waiting: float


def compare(base: Path, rounds: int) -> None:
    """Print the CPU seconds of both ways, which run alternately, their medians, and the memory of the command."""
    taken: dict[str, list[Cost]] = {"reconcile plan": [], "reconcile apply": [], "TRL alone": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "reconcile.yaml").write_text(TARGET.replace("embedded", "local") + "  local: {threads: 1}\n")
            (folder / "numbers.yaml").write_text(_MANIFEST.format(base=base))
            (folder / "next-number.csv").write_bytes((EXAMPLE / "next-number.csv").read_bytes())
            command = [PYTHON, "-m", "reconciler"]
            allowed = ["--allow-folder", str(base.parent)]
            script = [PYTHON, str(_SCRIPT), str(base), "next-number.csv", "adapter"]
            taken["reconcile plan"].append(measure([*command, "plan", *allowed], folder))
            taken["reconcile apply"].append(measure([*command, "apply", "--yes", *allowed], folder))
            taken["TRL alone"].append(measure(script, folder))
        print("  ".join(f"{name} {costs[-1].cpu_seconds:.1f} s" for name, costs in taken.items()), flush=True)
    medians = {name: statistics.median(cost.cpu_seconds for cost in costs) for name, costs in taken.items()}
    for name, seconds in medians.items():
        print(f"{name:<16} {seconds:>6.1f} CPU s {seconds / medians['TRL alone']:>6.2f}")
    print(f"goal of reconcile apply: at most {RATIO_GOAL}")
    memory = max(cost.waiting for cost in taken["reconcile apply"])
    print(f"reconcile apply while it waits: {memory:.0f} MiB; goal: at most {MEMORY_GOAL}")


def measure(command: Sequence[str], folder: Path) -> Cost:
    """Run a command and the processes that it leaves behind to their ends; one that fails ends the benchmark."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=_environment()
        )
    seconds, waiting, ended = 0.0, 0.0, False
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0 if ended else os.WNOHANG)
        except ChildProcessError:
            return Cost(seconds, waiting)
        if not pid:
            waiting = max(waiting, _resident(process.pid) if any(folder.glob(".reconcile/local/*/starts/*")) else 0.0)
            time.sleep(0.2)
            continue
        seconds += usage.ru_utime + usage.ru_stime
        if pid == process.pid:
            ended = True
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"{' '.join(command[:4])} exited with {process.returncode}: {log.read_text()}")


def _environment() -> dict[str, str]:
    """Return the environment with one thread, with which no time is lost to threads that wait for each other."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def _resident(process: int) -> float:
    """Return the resident memory of a process in MiB, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def unpack(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a folder with weights in safetensors."""
    import torch
    from transformers import AutoTokenizer

    from reconciler.trainer.run_files import BaseModel
    from reconciler.trainer.weights import load_model

    load_model(BaseModel(gguf=str(file.resolve())), folder, torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def answers(base: Path, adapter: Path | None = None) -> None:
    """Print the answer to each held-out number without randomness, and how many are right."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    rows = list(_rows(EXAMPLE / "unseen-numbers.csv"))
    right = 0
    for given, wanted in rows:
        messages = [{"role": "user", "content": given}]
        options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        inputs = tokenizer.apply_chat_template(messages, **options)
        output = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        answer = tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        right += answer == wanted
        print(f"{given} -> {answer!r}, expected {wanted!r}")
    print(f"{right} of {len(rows)} are right")


def _rows(file: Path) -> Iterator[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        yield from ((row["text_input"], row["output"]) for row in csv.DictReader(lines))


def main(command: str = "", *arguments: str) -> None:
    """Run one of the commands."""
    paths = [Path(argument).resolve() for argument in arguments]
    match command, len(arguments):
        case "unpack", 2:
            unpack(*paths)
        case "compare", 1 | 2:
            compare(paths[0], int((*arguments, 3)[1]))
        case "answers", 1 | 2:
            answers(*paths)
        case "cpu", _:
            print(f"{measure(arguments, Path.cwd()).cpu_seconds:.1f} CPU s")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
