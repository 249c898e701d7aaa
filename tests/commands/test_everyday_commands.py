"""The commands that users of Terraform, kubectl and Argo CD expect, played from an empty folder with real git."""

from __future__ import annotations

import re
import shlex
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from support.cli_world import EXAMPLES, Cli, Result
from support.git_repository import Repository
from support.render_values import held_to


def done(reconcile: Cli, command: str) -> str:
    """The output of a command that succeeds."""
    result = reconcile(*shlex.split(command))
    assert result.status == 0, (command, result.out, result.err[-1500:])
    return result.out


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def answered(result: Result) -> str:
    """The command that the one message of a command of another tool names."""
    found = re.search(r"unknown command \"[\w ]+\"; run `reconcile ([^`]+)`", result.err)
    assert (result.status, found is not None) == (64, True), result.err
    return found[1] if found else ""


def test_the_everyday_commands_from_an_empty_folder(reconcile: Cli) -> None:
    shutil.rmtree(reconcile.specs)
    repository = Repository(reconcile.folder)
    rows = "".join(f"{given},{wanted}\n" for given, wanted in EXAMPLES)
    for name in ("adder", "words"):
        (reconcile.folder / f"{name}.csv").write_text(f"question,answer\n{rows}")
    done(reconcile, "init --from adder.csv --provider embedded")
    done(reconcile, "add words --from words.csv")
    adder, words = (reconcile.specs / f"{name}.yaml" for name in ("adder", "words"))
    change(words, "  name: words\n", "  name: words\n  labels: {team: texts}\n")
    repository.commit()

    planned = done(reconcile, "plan")
    assert planned == done(reconcile, "diff") == done(reconcile, "apply --dry-run")
    assert "2 to create" in planned
    assert "2 to create" in done(reconcile, "-C specs diff .")
    assert not reconcile.lock_file.exists()
    done(reconcile, "apply --yes")
    repository.commit()
    assert done(reconcile, "get -o=name").split() == ["adder", "words"]
    assert "tunedmodels not found" in (asked := reconcile("get", "tunedmodels", "words")).err
    assert "leave out the kind: every name is that of a model" in asked.err
    assert done(reconcile, "list -l 'team in (texts, other),!beta' -o name") == "words\n"
    assert done(reconcile, "-C specs list -l team!=texts -o name") == "adder\n"

    done(reconcile, f"{answered(reconcile('taint', 'adder'))} --yes")
    assert len(reconcile.lock["adder"]["generations"]) == 2
    assert repository("status", "--porcelain") == " M specs/reconcile.lock.json\n"
    repository.commit()
    both = done(reconcile, f"{answered(reconcile('state', 'show', 'adder'))} words")
    assert both.endswith("2 models: 2 succeeded.\n")

    suspend_until_later(reconcile, adder)
    watch(reconcile)
    repository.commit()

    change(words, "spec:\n", "spec:\n  lifecycle: {protect: true}\n")
    assert "words is kept: spec.lifecycle.protect is set" in done(reconcile, "destroy --dry-run")
    assert reconcile("destroy", "--confirm", "prod").status == 64
    done(reconcile, "destroy --confirm default")
    assert done(reconcile, "list -o name") == "words\n"
    assert reconcile("destoy").err.endswith('unknown command "destoy"; run reconcile --help\n')


def suspend_until_later(reconcile: Cli, manifest: Path) -> None:
    """A suspended change is held until its time; then it is applied, and the manifest has a line too many."""
    assert "When the suspension ends" in done(reconcile, "explain spec.lifecycle.suspend.until")
    change(manifest, "epochCount: 3\n", "epochCount: 4\n")
    free = manifest.read_text()
    manifest.write_text(f"{free}  lifecycle: {{suspend: {{until: 2026-01-05, reason: no budget}}}}\n")
    held = done(reconcile, "apply --yes")
    assert "adder  held (Suspended): spec.lifecycle.suspend is set until 2026-01-05 (no budget)" in held
    assert "nothing is changed until 2026-01-05 (no budget)" in done(reconcile, "status")
    assert "spec.lifecycle.suspend is set until 2026-01-05 (no budget)" in done(reconcile, "drift")

    reconcile.clock.now += timedelta(days=10)
    ended = done(reconcile, "plan")
    assert "the suspension of adder until 2026-01-05 (no budget) has ended" in ended
    assert "1 to create" in ended
    assert "suspended" not in done(reconcile, "status")
    document = held_to("drift", reconcile("drift", "--format", "json").document)
    found = [finding for finding in document["findings"] if finding["class"] == "SuspensionExpired"]
    assert [(finding["name"], finding["remedy"]) for finding in found] == [
        ("adder", "remove spec.lifecycle.suspend from specs/adder.yaml")
    ]
    manifest.write_text(free)


def watch(reconcile: Cli) -> None:
    def interrupt(_now: datetime) -> None:
        raise KeyboardInterrupt

    shown = done(reconcile, "status")
    reconcile.clock.on_move = interrupt
    assert done(reconcile, "status --watch") == shown
    reconcile.clock.on_move = lambda _now: None
