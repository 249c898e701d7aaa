"""The page about environments, played from an empty folder: dev, stage and prod of one repository with real git."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from support.cli_world import Cli
from support.vertex_world import TOKEN, World

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"
LEFT_OUT = "…"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
}
GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", **IDENTITY}


def run(reconcile: Cli, command: str) -> str:
    """The output of a command of the page: ``reconcile`` in this process, anything else by the shell."""
    name, *arguments = command.split()
    if name == "reconcile":
        result = reconcile(*arguments)
        assert result.status == 0, result.err
        return result.out
    done = subprocess.run(  # noqa: S602 - the commands of our own page
        command,
        shell=True,
        cwd=reconcile.folder,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **GIT},
    )
    return done.stdout


def agrees(shown: str, real: str) -> bool:
    """Whether the output is as the page shows it; a line of three dots stands for any lines."""
    parts = ("(?:.*\n)*" if line == LEFT_OUT else f"{re.escape(line)}\n" for line in shown.splitlines())
    return re.fullmatch("".join(parts), real) is not None


def test_the_page_from_an_empty_folder(reconcile: Cli, world: World) -> None:
    shutil.rmtree(reconcile.specs)
    reconcile.environ.update(GIT)
    blocks = re.findall(r"^```(yaml|console)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for language, block in blocks:
        if language == "yaml":
            if block.startswith("# specs/"):
                emulated = f"  endpoint: {world.url}\n" if "provider: vertex" in block else ""
                (reconcile.folder / block[2:].partition("\n")[0]).write_text(block + emulated)
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            real = run(reconcile, command)
            assert agrees(shown, real), f"{command}:\n{real}"
            reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN

    names = ("dev", "stage", "prod")
    locks = {name: json.loads((reconcile.specs / f"reconcile.{name}.lock.json").read_text()) for name in names}
    newest = {name: lock["models"]["number-generator"]["generations"][0] for name, lock in locks.items()}
    assert {name: lock["target"].get("project", "") for name, lock in locks.items()} == {
        "dev": "",
        "stage": "acme-numbers-stage",
        "prod": "acme-numbers-prod",
    }
    assert {name: found["hyperparameters"]["declared"] for name, found in newest.items()} == {
        "dev": {"epochCount": 1, "batchSize": 4},
        "stage": {"epochCount": 3},
        "prod": {"epochCount": 3},
    }
    assert [name for name in names if "checks" in newest[name]] == ["prod"]
    assert [target["state"] for target in reconcile("targets", "--format", "json").document["targets"]] == [
        "inSync"
    ] * 3
    workflows = {file.name for file in (reconcile.folder / ".github" / "workflows").iterdir()}
    assert {name for name in names if f"reconcile-merged-{name}.yml" in workflows} == {"stage", "prod"}

    # A pull request that changes an override changes the manifest of this target, and of no other.
    run(reconcile, "git checkout --quiet -b less-data")
    data = (reconcile.specs / "datasets" / "number-generator.csv").read_text().splitlines(keepends=True)
    (reconcile.specs / "datasets" / "small.csv").write_text("".join(data[:-3]))
    dev = reconcile.specs / "reconcile.dev.yaml"
    dev.write_text(
        dev.read_text().replace("epochCount: 1}", "epochCount: 1}\n        dataset: {path: datasets/small.csv}")
    )
    planned = reconcile("plan", "--target", "all", "--base", "main", "--format", "json").document
    reports = {result["target"]: result["report"] for result in planned["reports"]}
    assert {name: report["summary"]["create"] for name, report in reports.items()} == {"dev": 1, "prod": 0, "stage": 0}
    (change,) = reports["dev"]["dataChanges"]
    assert (change["path"], change["removed"]) == ("datasets/small.csv", 3)
    locked = reconcile("validate", "--target", "all", "--locked", "--base", "main", "--format", "json").document
    assert [result["target"] for result in locked["reports"] if result["exitStatus"]] == ["dev"]
