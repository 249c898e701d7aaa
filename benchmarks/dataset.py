"""Read data sets: CPU time per MB, as a multiple of bare ``json.loads`` or ``csv``, and peak memory.

python benchmarks/dataset.py [MEGABYTES]
"""

from __future__ import annotations

import csv
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from measure import PYTHON, RECONCILE, Run, run

MEGABYTE = 10**6
_DEFAULT = 100
_PHRASES = 2000
_TEXT = (
    'the a model answers that "no" customer wrote yesterday morning about his order, which café said; naïve prices'
    " rose by 4 % in Zürich until they, well, did not: see C:\\orders and try again\nKind regards"
)


def write_dataset(file: Path, megabytes: int) -> None:
    """Examples of some 1,000 bytes as lines of JSON or, by the suffix, CSV; the same ones at every call."""
    with file.open("w", encoding="utf-8", newline="") as text:
        write = _csv if file.suffix == ".csv" else _json
        write(text, megabytes * MEGABYTE)


def _json(text: TextIO, size: int) -> None:
    for given, wanted in _examples():
        text.write(json.dumps({"text_input": given, "output": wanted}, ensure_ascii=False) + "\n")
        if text.buffer.tell() >= size:
            return


def _csv(text: TextIO, size: int) -> None:
    writer = csv.writer(text)
    writer.writerow(("text_input", "output"))
    for example in _examples():
        writer.writerow(example)
        if text.buffer.tell() >= size:
            return


def _examples() -> Iterator[tuple[str, str]]:
    """Yield distinct examples: inputs of about 700 characters and outputs of about 250."""
    chance = random.Random(1)  # noqa: S311 - the same text at every run, not secrets
    words = _TEXT.split(" ")
    phrases = [" ".join(chance.choices(words, k=12)) for _ in range(_PHRASES)]
    number = 0
    while True:
        number += 1
        yield f"{number} {' '.join(chance.choices(phrases, k=11))}", " ".join(chance.choices(phrases, k=4))


_BARE = {
    ".jsonl": "import json, sys\nfor line in open(sys.argv[1], encoding='utf-8'): json.loads(line)",
    ".csv": "import csv, sys\nfor row in csv.reader(open(sys.argv[1], encoding='utf-8', newline='')): pass",
}
"""Programs that only parse a file, by its suffix."""
_GOALS = {"validate": 2.0, "data inspect": 15.0}
"""The highest ratio of each command."""
_TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: default}
spec:
  provider: vertex
  scope: benchmark
  project: benchmark
  location: europe-west4
  bucket: gs://benchmark
"""
_MANIFEST = """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {{name: m}}
spec:
  baseModel: gemini-3.5-flash
  dataset: {{path: {data}}}
"""


def main(megabytes: int) -> None:
    """Print a line for each command and format: seconds for each 100 MB, the ratio, and the peak memory.

    The CPU time with a file of one example is subtracted from each: it is the time to start.
    """
    print(f"{'command':<14}{'format':<8}{'CPU s/100 MB':>14}{'ratio':>8}{'goal':>6}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as name:
        for suffix in _BARE:
            _measure(Path(name), suffix, megabytes)


def _measure(folder: Path, suffix: str, megabytes: int) -> None:
    large, small = (_project(folder / f"{size}{suffix}", size) for size in (megabytes, 0))
    commands = {
        "bare": [PYTHON, "-c", _BARE[suffix], f"data{suffix}"],
        "validate": [RECONCILE, "validate"],
        "data inspect": [RECONCILE, "data", "inspect", f"data{suffix}"],
    }
    bare = 0.0
    for name, command in commands.items():
        found: Run = run(command, large)
        seconds = found.cpu_seconds - run(command, small).cpu_seconds
        bare = bare or seconds
        goal = f"{_GOALS[name]:.0f}" if name in _GOALS else ""
        per_100 = seconds * 100 / megabytes
        print(f"{name:<14}{suffix:<8}{per_100:>14.2f}{seconds / bare:>8.1f}{goal:>6}{found.mebibytes:>10.0f}")


def _project(folder: Path, megabytes: int) -> Path:
    """Write a project with a data set; 0 megabytes are one example."""
    folder.mkdir()
    data = f"data{folder.suffix}"
    write_dataset(folder / data, megabytes)
    (folder / "reconcile.yaml").write_text(_TARGET)
    (folder / "m.yaml").write_text(_MANIFEST.format(data=data))
    return folder


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _DEFAULT)
