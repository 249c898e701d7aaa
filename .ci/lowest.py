"""Prints the run-time requirements of pyproject.toml, each pinned to its lower bound."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in project["dependencies"]:
    name, bound, version = requirement.partition(">=")
    if not bound:
        raise SystemExit(f"{requirement} has no lower bound")
    print(f"{name}=={version}")
