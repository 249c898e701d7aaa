"""Measure an apply without changes, with an increasing number of models at the service.

Run ``python benchmarks/noop.py [MODELS…]``.

Ten manifests are in sync; all other models are unmanaged, and come from a world file.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from pathlib import Path

from measure import RECONCILE, TARGET, Run, run, write_project

MANIFESTS = 10
PAGE = 1000
SIZES = (MANIFESTS, 1_000, 5_000)
QUICK = TARGET + "  embedded: {stepSeconds: 0.001, world: world.json}\n"


def main(sizes: list[int]) -> None:
    """Print one line for each size; fail if the number of requests differs from the number of list pages."""
    print(f"{'models':>7} {'requests':>9} {'floor':>6} {'seconds':>8} {'ratio':>6} {'peak MiB':>9}")
    first = 0.0
    for size in sizes:
        floor = math.ceil(size / PAGE)
        measured = noop(size)
        requests = int(re.findall(r"(\d+) requests?", measured.output)[0])
        first = first or measured.seconds
        ratio, peak = measured.seconds / first, measured.mebibytes
        print(f"{size:>7,} {requests:>9} {floor:>6} {measured.seconds:>8.2f} {ratio:>6.2f} {peak:>9.0f}")
        if requests != floor:
            raise SystemExit(f"{requests} requests are not the {floor} pages")


def noop(size: int) -> Run:
    """Return the fastest of three applies without changes, with this number of models at the service."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, MANIFESTS, QUICK)
        models = [unmanaged_model(number) for number in range(size - MANIFESTS)]
        (folder / "world.json").write_text(json.dumps({"tunedModels": models}))
        apply = [RECONCILE, "apply", ".", "--yes"]
        run(apply, folder)
        return min((run(apply, folder) for _ in range(3)), key=lambda run: run.seconds)


def unmanaged_model(number: int) -> dict[str, object]:
    """Return an unmanaged model with a loss curve, as the service lists it: about 2 KB."""
    moment = "2026-01-01T00:00:00Z"
    snapshots = [{"step": n, "epoch": n // 8, "meanLoss": 5 / n, "computeTime": moment} for n in range(1, 21)]
    return {
        "name": f"tunedModels/unmanaged-{number}",
        "displayName": f"unmanaged {number}",
        "description": "Not managed by reconcile.",
        "baseModel": "models/gemini-3.5-flash",
        "state": "ACTIVE",
        "createTime": moment,
        "updateTime": moment,
        "temperature": 0.7,
        "topP": 0.95,
        "topK": 40,
        "tuningTask": {
            "startTime": moment,
            "completeTime": moment,
            "snapshots": snapshots,
            "hyperparameters": {"epochCount": 3, "batchSize": 2, "learningRate": 0.001},
        },
    }


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or list(SIZES))
