"""CPU time that commands take to start, as multiples of ``python -c "import click"``, which every command needs.

python benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from measure import PYTHON, RECONCILE, run, write_project

BASE = "import click"
GOALS = {
    "--help": 3.0,
    "validate, 1 manifest": 3.5,
    "resolve": 3.5,
    "plan, embedded service": 6.0,
}
"""The highest ratio of the commands that have one."""


def main(rounds: int) -> None:
    """Print a line for each command: median milliseconds of CPU time, the ratio to the base, and its goal.

    CPU time is user and system time of the process, which depends less on other processes than wall time. The commands
    run alternately, so that a slow period affects all of them. Bytecode is kept between them, as it is for an installed
    package.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name, "project"), Path(name, "cache")
        variables = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache)}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        write_project(folder, 1)
        run([RECONCILE, "apply", ".", "--yes"], folder, variables)
        commands = {
            BASE: [PYTHON, "-c", BASE],
            "--version": [RECONCILE, "--version"],
            "--help": [RECONCILE, "--help"],
            "validate, 1 manifest": [RECONCILE, "validate"],
            "resolve": [RECONCILE, "resolve"],
            "resolve NAME": [RECONCILE, "resolve", "model-0"],
            "status": [RECONCILE, "status"],
            "plan --offline": [RECONCILE, "plan", "--offline"],
            "plan, embedded service": [RECONCILE, "plan"],
        }
        taken: dict[str, list[float]] = {command: [] for command in commands}
        for _ in range(rounds + 1):
            for command, arguments in commands.items():
                taken[command].append(run(arguments, folder, variables).cpu_seconds)
    taken = {command: seconds[1:] for command, seconds in taken.items()}  # the first round writes the bytecode
    base = statistics.median(taken[BASE])
    print(f"{'command':<24} {'ms':>6} {'ratio':>6} {'goal':>6}")
    for command, seconds in taken.items():
        median, goal = statistics.median(seconds), GOALS.get(command)
        print(f"{command:<24} {median * 1000:>6.0f} {median / base:>6.2f} {f'{goal:.1f}' if goal else '':>6}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
