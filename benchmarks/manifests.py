"""Measure how many manifests ``reconcile validate`` checks in a second, relative to PyYAML only loading the same files.

Run ``python benchmarks/manifests.py [MANIFESTS]``. Startup is included in both.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measure import PYTHON, RECONCILE, run, write_project

LOADERS = {"yaml.CSafeLoader": "CSafeLoader", "yaml.SafeLoader": "SafeLoader"}
LOAD = "import pathlib, yaml\nfor file in pathlib.Path().glob('*.yaml'):\n    yaml.load(file.read_bytes(), yaml.{})"


def main(manifests: int) -> None:
    """Print a line for each way: the best of three runs."""
    commands = {name: [PYTHON, "-c", LOAD.format(loader)] for name, loader in LOADERS.items()}
    commands["reconcile validate"] = [RECONCILE, "validate", "."]
    print(f"{'':<20} {'seconds':>8} {'a second':>9} {'ratio':>6} {'peak MiB':>9}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, manifests)
        base = 0.0
        for what, command in commands.items():
            best = min((run(command, folder) for _ in range(3)), key=lambda one: one.seconds)
            base = base or best.seconds
            pace, ratio = manifests / best.seconds, best.seconds / base
            print(f"{what:<20} {best.seconds:>8.2f} {pace:>9,.0f} {ratio:>6.2f} {best.mebibytes:>9.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
