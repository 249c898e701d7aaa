"""Run commands and measure their time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHON = sys.executable
RECONCILE = str(Path(sys.executable).with_name("reconcile"))

MANIFEST = """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {{name: {name}, labels: {{team: demo}}}}
spec:
  baseModel: models/gemini-3.5-flash
  displayName: {name}
  description: Says the next number.
  dataset:
    examples:
{examples}
  hyperparameters: {{epochCount: 1, batchSize: 20}}
"""
EXAMPLES = "\n".join(f'      - {{input: "{number}", output: "{number + 1}"}}' for number in range(20))
TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: default}
spec:
  provider: embedded
  scope: benchmark
"""


@dataclass(frozen=True)
class Run:
    """What one process took: wall and CPU seconds, peak memory in MiB, and what it printed on standard output."""

    seconds: float
    cpu_seconds: float
    mebibytes: float
    output: str


def run(command: Sequence[str], folder: Path, variables: Mapping[str, str] = os.environ) -> Run:
    """Run a command to its end; one that fails ends the benchmark."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # getrusage(2): bytes there, KiB on Linux
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output)


def write_project(folder: Path, manifests: int, target: str = TARGET) -> None:
    """A root with that many manifests of some 1,200 bytes, 20 examples each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reconcile.yaml").write_text(target)
    for number in range(manifests):
        name = f"model-{number}"
        (folder / f"{name}.yaml").write_text(MANIFEST.format(name=name, examples=EXAMPLES))
