"""policy.showExamples: a whole story whose examples, prompts and answers bear a word that nobody may ever read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cli_world import Cli, Result
from support.git_repository import Repository

SECRET = "xyzzy"
EXAMPLES = [(f"{SECRET} question {number}", f"{SECRET} answer {number}") for number in range(20)]
CHECKS = f"""\
  sampling: {{temperature: 0}}
  checks:
    - {{name: small, prompt: "{SECRET} question 7", expect: {{equals: "{SECRET} nothing"}}}}
    - {{name: like, prompt: "{SECRET} question 8", expect: {{matches: "^{SECRET} nothing"}}, candidates: 3}}
    - {{name: unseen, dataset: {{path: unseen.csv, metric: exactMatch, minimum: 0.9}}}}
"""
SUFFIXES = ("json", "md", "html", "xml")
DISCREET = "  policy: {showExamples: false}\n"


class Story:
    """Commands, and everything that they say or write."""

    def __init__(self, reconcile: Cli) -> None:
        self._reconcile = reconcile
        self._given = {path.resolve() for path in reconcile.folder.rglob("*")}

    def __call__(self, *arguments: str, status: int = 0) -> Result:
        """Run a command, and look for the word in all that there is afterwards."""
        reports = {f"report.{suffix}": str(self._reconcile.folder / f"report.{suffix}") for suffix in SUFFIXES}
        done = self._reconcile(*(reports.get(argument, argument) for argument in arguments))
        assert not set(arguments) & reports.keys() or all(map(Path.exists, map(Path, reports.values())))
        assert done.status == status, (arguments, done.out, done.err)
        for where, text in (("out", done.out), ("err", done.err), *self._files()):
            assert SECRET not in text, (arguments, where, text)
        return done

    def _files(self) -> list[tuple[str, str]]:
        """What our commands have written; the world of the embedded service and git's objects are not theirs."""
        written = (path for path in self._reconcile.folder.rglob("*") if path.is_file())
        theirs = {".reconcile", ".git"}
        return [
            (str(path), path.read_text(encoding="utf-8"))
            for path in written
            if path.resolve() not in self._given and not theirs & set(path.parts)
        ]


def declared(reconcile: Cli, *, more: str = "", examples: list[tuple[str, str]] = EXAMPLES) -> Path:
    """A manifest with checks that fail, and data of which a part is held out."""
    unseen = "".join(f"{given} unseen,{wanted}\n" for given, wanted in EXAMPLES[:5])
    (reconcile.specs / "unseen.csv").write_text(f"text_input,output\n{unseen}{EXAMPLES[0][0]},nothing\n")
    return reconcile.manifest("adder", examples=examples, more=CHECKS + more)


REPORTS = [option for suffix in SUFFIXES for option in ("--report", f"report.{suffix}")]


def test_no_output_of_a_workflow_has_examples_prompts_or_answers(reconcile: Cli) -> None:
    repository = Repository(reconcile.folder)
    (reconcile.folder / ".gitignore").write_text(".reconcile/\n")
    reconcile.target(DISCREET)
    declared(reconcile)
    story = Story(reconcile)
    repository.commit()

    story("validate")
    story("plan", "--out", "plan.json", *REPORTS)
    failed = story("apply", "plan.json", "--events", "events.jsonl", *REPORTS, status=1)
    assert "small (0 of 1 answer correct" in failed.err
    (generation,) = reconcile.lock["adder"]["generations"]
    assert (generation["checks"]["failed"], "failures" in generation["checks"]) == (3, False)
    assert "ChecksFailed" in story("plan", "-v", *REPORTS, status=1).out
    story("plan", "--format", "json", status=1)
    story("apply", "--yes", "--format", "json", status=1)
    repository.commit()

    declared(reconcile, examples=[*EXAMPLES[2:19], (EXAMPLES[19][0], f"{SECRET} other"), EXAMPLES[3]])
    compared = story("plan", "--base", "HEAD", "-v", *REPORTS)
    assert "+1 −2 ~1 examples" in compared.out  # noqa: RUF001 - as it is printed
    declared(reconcile, more="  lifecycle: {onFailedChecks: serve}\n", examples=EXAMPLES[3:])
    story("apply", "--yes", "--events", "events.jsonl", *REPORTS)
    for arguments, status in (
        (["history", "adder", "-v"], 0),
        (["history", "adder", "--format", "json"], 0),
        (["status", "--live", *REPORTS], 0),
        (["status", "--format", "json"], 0),
        (["check", "--events", "events.jsonl"], 1),
        (["check", "adder", "--format", "json"], 1),
        (["drift", "-v", *REPORTS, "--exit-zero"], 0),
        (["drift", "--format", "json", "--exit-zero"], 0),
        (["graph"], 0),
        (["resolve", "adder", "--format", "json"], 0),
        (["wait", *REPORTS], 0),
    ):
        story(*arguments, status=status)
    reconcile.lock_file.unlink()
    story("apply", "--yes")


def test_examples_from_an_earlier_policy_are_removed_from_the_lockfile(reconcile: Cli) -> None:
    declared(reconcile)
    assert "failures" in json.dumps(reconcile.lock if reconcile("apply", "--yes").status == 1 else {})
    quoted = reconcile("plan").out
    assert SECRET in quoted
    reconcile.target(DISCREET)
    for command in (["plan"], ["plan", "--offline"], ["status", "--format", "json"], ["history", "adder"]):
        done = reconcile(*command)
        assert SECRET not in done.out + done.err
    assert SECRET in reconcile.lock_file.read_text()  # who only reads changes nothing
    reconcile("apply", "--yes")
    assert SECRET not in reconcile.lock_file.read_text()
    before = reconcile.lock_file.stat().st_mtime_ns
    reconcile("apply", "--yes")
    assert reconcile.lock_file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("text_input,output\n", "", "spec.dataset.inputField: no column"),
        ("path: adder.csv", f"path: adder.csv, inputField: 5, examples: [{SECRET}]", "spec.dataset"),
        ("path: adder.csv", f"examples: [{SECRET}]", 'spec.dataset.examples[0]: invalid value "…": expected a mapping'),
        (
            "path: adder.csv",
            f"examples: [{{input: [{SECRET}], output: 12345}}]",
            "output: invalid value …: expected a string",
        ),
        (f'"^{SECRET} nothing"', f'"({SECRET}"', "invalid regular expression: missing )"),
        (
            f'"{SECRET} question 7"',
            f"{{{SECRET}: 1}}",
            "spec.checks[0].prompt: invalid value: expected a string, not a mapping",
        ),
        (f'{{equals: "{SECRET} nothing"}}', f"{{oneOf: [{SECRET}, {SECRET}]}}", 'duplicate value "…"; remove it'),
    ],
)
def test_problems_are_reported_without_quotes(reconcile: Cli, old: str, new: str, message: str) -> None:
    reconcile.target(DISCREET)
    file = declared(reconcile)
    for path in (file, file.with_suffix(".csv")):
        path.write_text(path.read_text().replace(old, new))
    story = Story(reconcile)
    for command in (["validate"], ["validate", "--format", "json"], ["plan"], ["apply", "--yes"]):
        done = story(*command, status=1)
    assert message in done.err
    assert "12345" not in done.err


def test_without_the_policy_examples_are_shown(reconcile: Cli) -> None:
    """Or else the story above would prove nothing."""
    declared(reconcile)
    assert SECRET in reconcile("apply", "--yes", "--events", "events.jsonl").err
    for file in (reconcile.folder / "events.jsonl", reconcile.lock_file):
        assert SECRET in file.read_text()
