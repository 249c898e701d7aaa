"""What it takes to bring a large data set to Vertex AI, against a plain copy of the same bytes by the same HTTP client.

Run ``python benchmarks/upload.py [--megabytes 1000] [--rounds 3] [--csv]``.

The embedded service runs in a process of its own and keeps what arrives on disk. It needs three times the data set's
size of disk in the temporary folder (TMPDIR).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataset import MEGABYTE, write_dataset
from measure import PYTHON, RECONCILE, Run, run
from relay import Relay

TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {{name: default}}
spec:
  provider: vertex
  scope: benchmark
  project: benchmark
  location: europe-west4
  bucket: gs://benchmark
  endpoint: {endpoint}
"""
MANIFEST = """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {{name: {name}}}
spec:
  baseModel: gemini-3.5-flash
  dataset: {{path: {data}}}
"""
APPLY = [RECONCILE, "apply", "--no-wait", "--yes"]
SENDING = str(Path(__file__).with_name("sending.py"))


def main(megabytes: int, rounds: int, data: str) -> None:
    """Print the stages, then whole applies; fail when one sends again what is there."""
    os.environ["RECONCILE_ACCESS_TOKEN"] = "none"  # noqa: S105 - commands want one, the service does not
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "root")
        folder.mkdir()
        write_dataset(folder / data, megabytes)
        with service(Path(name, "store.sqlite3"), folder) as endpoint, Relay(endpoint) as relay:
            write_project(folder, endpoint, "first", data)
            stages(run([PYTHON, SENDING, str(rounds)], folder).output, (folder / data).stat().st_size)
            print(f"\n{'reconcile':<34} {'seconds':>8} {'peak MiB':>9} {'bytes sent':>14}")
            show("validate", run([RECONCILE, "validate"], folder))
            show("apply", run(APPLY, folder))
            write_project(folder, relay.address, "first", data)
            show("apply, nothing to do", run(APPLY, folder), relay.taken())
            write_project(folder, relay.address, "second", data)
            show("apply, another model on the data", run(APPLY, folder), relay.taken())


def stages(output: str, size: int) -> None:
    """A line for each way through the data: its median, and its speed as a ratio to the plain copy's."""
    measured = json.loads(output)
    sent = measured["bytes"]
    medians = {stage: statistics.median(seconds) for stage, seconds in measured["seconds"].items()}
    print(f"{'stage':<34} {'seconds':>8} {'MB/s':>9} {'speed, ratio':>14}")
    for stage, seconds in medians.items():
        read = size if stage == "check" else sent
        print(f"{stage:<34} {seconds:>8.2f} {read / MEGABYTE / seconds:>9.0f} {medians['copy'] / seconds:>14.2f}")


def show(what: str, taken: Run, sent: int | None = None) -> None:
    """A line for a whole command; more than a megabyte on the way to the service ends the benchmark."""
    print(f"{what:<34} {taken.seconds:>8.2f} {taken.mebibytes:>9.0f} {'' if sent is None else f'{sent:,}':>14}")
    if sent is not None and sent > MEGABYTE:
        raise SystemExit("sent what is there")


def write_project(folder: Path, endpoint: str, name: str, data: str) -> None:
    """A root with one manifest."""
    (folder / "reconcile.yaml").write_text(TARGET.format(endpoint=endpoint))
    (folder / "model.yaml").write_text(MANIFEST.format(name=name, data=data))


@contextmanager
def service(store: Path, folder: Path) -> Iterator[str]:
    """The embedded service; gives its URL."""
    command = [RECONCILE, "emulator", "--port", "0", "--store", str(store)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[-1] if process.stdout else ""
        finally:
            process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", action="store_true")
    given = parser.parse_args()
    main(given.megabytes, given.rounds, "data.csv" if given.csv else "data.jsonl")
