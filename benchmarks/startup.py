"""How long commands take to start, against ``python -c "import click"``, which every command must pay.

python benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measure import PYTHON, RECONCILE, medians, run, write_project

BASE = "import click"


def main(rounds: int) -> None:
    """Print a line a command: median milliseconds, and the ratio to the base."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, 1)
        run([RECONCILE, "apply", ".", "--yes", "--no-wait"], folder)
        commands = {
            BASE: [PYTHON, "-c", BASE],
            "--version": [RECONCILE, "--version"],
            "--help": [RECONCILE, "--help"],
            "validate, 1 manifest": [RECONCILE, "validate"],
            "resolve": [RECONCILE, "resolve"],
            "plan --offline": [RECONCILE, "plan", "--offline"],
            "plan, embedded service": [RECONCILE, "plan"],
        }
        taken = medians(commands, folder, rounds)
    print(f"{'command':<24} {'ms':>6} {'ratio':>6}")
    for command, seconds in taken.items():
        print(f"{command:<24} {seconds * 1000:>6.0f} {seconds / taken[BASE]:>6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
