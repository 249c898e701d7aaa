"""The real command as a process: exit statuses, signals, usage."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest

from reconciler import __version__
from reconciler.commands.main import cli, main
from reconciler.environment import Environment
from support.cases import in_turn
from support.cli_world import Cli, Clock, Result
from support.fork_server import forked
from support.render_values import held_to


def test_version(reconcile: Cli) -> None:
    assert reconcile("--version").out == f"reconcile, version {__version__}\n"


def test_help_lists_every_command_and_its_examples_are_valid(reconcile: Cli) -> None:
    listed = reconcile("--help").out
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert re.search(rf"\n  {name} +{re.escape(command.get_short_help_str(100))}\n", listed)
        assert reconcile(name, "--help").status == 0
        for example in (command.epilog or "").splitlines()[2:]:
            program, *arguments = shlex.split(example.partition(" < ")[0])
            assert (program, arguments[0]) == ("reconcile", name)
            command.make_context(name, arguments[1:])


def test_other_names_of_a_command_and_its_help(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    assert reconcile("version").out.startswith(f"reconcile {__version__}, Python 3.")
    assert reconcile("version", "--format", "json").document["reconcile"] == __version__
    assert reconcile("help", "data", "split").out == reconcile("data", "split", "--help").out
    assert reconcile("help").out == reconcile("--help").out
    planned = reconcile("plan", "--detailed-exitcode")
    assert planned.status == 2
    for arguments in (["diff"], ["apply", "--dry-run"], ["apply", "--yes", "--no-wait", "--dry-run"]):
        assert reconcile(*arguments, "--detailed-exitcode") == planned
    assert not reconcile.lock_file.exists()


def test_c_changes_the_directory_of_everything_relative(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    before = Path.cwd()
    arguments = ("plan", "adder.yaml", "--report", "plan.json", "--out", "saved.json")
    assert reconcile("-C", "specs", *arguments).status == 0
    assert {"plan.json", "saved.json"} <= {file.name for file in reconcile.specs.iterdir()}
    (reconcile.folder / "elsewhere").mkdir()
    refused = reconcile("-C", "elsewhere", "-C", "../specs", "apply", "nowhere", "--report", "failed.json")
    assert refused.status == 64
    assert json.loads((reconcile.specs / "failed.json").read_text())["command"] == "apply"
    assert Path.cwd() == before


def test_explain_prints_what_the_schema_has(reconcile: Cli) -> None:
    shown = reconcile("explain", "spec.hyperparameters.epochCount").out
    assert shown.startswith(
        "KIND:     TunedModel\nFIELD:    spec.hyperparameters.epochCount <integer>\n\nDESCRIPTION:\n"
    )
    assert "\nVALUES:\n    at least 1\n" in shown
    assert "\n  onFailedChecks <string>\n    What happens" in reconcile("explain", "spec.lifecycle").out
    assert (
        '    default: "hold"\n    one of: "hold", "serve"' in reconcile("explain", "spec.lifecycle.onFailedChecks").out
    )
    assert "\nEXAMPLES:\n" in reconcile("explain", "TunedModel.spec.lifecycle.timeout").out
    assert "\n  prompt <string>\n" in reconcile("explain", "spec.checks[0]").out
    limits = reconcile("explain", "target.spec.limits").out
    assert limits.startswith("KIND:     Target\n")
    assert "\n  maxDeletes <integer>\n" in limits


def test_a_shell_completes_commands_and_their_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_RECONCILE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_CWORD", "1")
    for begun, completed in {"di": ["diff"], "pl": ["plan"], "ge": ["get"], "des": ["destroy"]}.items():
        monkeypatch.setenv("COMP_WORDS", f"reconcile {begun}")
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
        with redirect_stdout(out), pytest.raises(SystemExit) as ended:
            main([])
        out.flush()
        assert (ended.value.code, out.buffer.getvalue().decode()) == (  # type: ignore[attr-defined] # a BytesIO
            0,
            "".join(f"plain,{name}\n" for name in completed),
        )


USAGE_ERRORS = {
    "bogus": 'unknown command "bogus"; run reconcile --help',
    "aply": 'unknown command "aply"; did you mean apply?',
    **dict.fromkeys(("prun", "rolback", "forgt", "cancle"), "; run reconcile --help"),
    "taint adder": 'unknown command "taint"; run `reconcile apply --replace adder`, which shows the plan and asks',
    "state mv adder sums": "set metadata.name to sums and metadata.formerly to [adder] in the manifest, and run",
    "state rm adder": "read `reconcile help forget` first",
    "rollout undo adder": "read `reconcile help rollback` first",
    "workspace list prod": "run `reconcile targets`, and pass `--target NAME` to a command",
    "-chdir=specs plan": "no such option -chdir; pass -C specs before the command",
    "apply -f specs": "no such option -f; pass the path without -f",
    "plan -C specs": "no such option -C; pass -C DIR before the command",
    "apply -auto-approve": "no such option -auto-approve; see --yes in `reconcile help apply`",
    "apply --auto-approve": "no such option --auto-approve; see --yes in `reconcile help apply`",
    "destroy -auto-approve": "no such option -auto-approve; see --confirm in `reconcile help destroy`",
    "destroy --yes": "no such option --yes; see --confirm in `reconcile help destroy`",
    "plan -out=tf.plan": "no such option -out; pass --out tf.plan",
    "plan -json": "no such option -json; pass --format json",
    "plan -no-color": "no such option -no-color; pass --color never",
    "plan -refresh-only": "no such option -refresh-only; run `reconcile drift`",
    "apply -replace=adder": "no such option -replace; pass --replace adder",
    "status -o json": "no such option -o; pass --format json, or run `reconcile list -o json`",
    "apply -k overlays": "as in `kubectl kustomize overlays | reconcile apply - --root overlays`",
    "get -A": "no such option -A; run `reconcile targets`",
    "get --watch": "no such option --watch; run `reconcile status --watch`",
    "diff --exit-code": "no such option --exit-code; pass --detailed-exitcode",
    "sync": 'unknown command "sync"; run `reconcile apply`',
    "pause adder": 'unknown command "pause"; set spec.lifecycle.suspend in the manifest',
    "lint": 'unknown command "lint"; run `reconcile validate`',
    "plan -var epochs=3": "no such option -var; set spec.variables of the target",
    "plan -var-file=prod.tfvars": "no such option -var-file; set spec.variables of each target, and pass --target NAME",
    "-C specs -C nowhere plan": "-C specs/nowhere: no such file or directory; pass an existing directory",
    "-Cnowhere plan": "-C nowhere: no such file or directory; pass an existing directory",
    "apply --dry-run --prune": "--dry-run excludes --prune; remove one of them",
    "apply --offline": "--offline needs --dry-run; add --dry-run, or run reconcile plan --offline",
    "explain spec.datasett": "unknown field spec.datasett of TunedModel; did you mean spec.dataset?",
    "explain epochCount": "did you mean spec.hyperparameters.epochCount?",
    "explain spec.stages": "unknown field spec.stages of TunedModel; did you mean target.spec.stages?",
    "explain stages": "did you mean target.spec.stages?",
    "explain target.spec.dataset": "unknown field spec.dataset of Target; did you mean spec.dataset?",
    "explain target.spec.limits.maxCreate": "did you mean target.spec.limits.maxCreates?",
    "explain spec.method.x": "unknown field spec.method.x of TunedModel; did you mean spec.method?",
    "help bogus": 'unknown command "bogus"; run reconcile --help',
    "help plan bogus": "reconcile plan has no commands; run reconcile help plan",
    "resolve one two.yaml": "two.yaml: no such file or directory; name models, and after them only paths; without",
    "resolve specs": "specs is a path, not the name of a model; pass the name of a model, and after it the",
    "plan --bogus": "No such option",
    "apply --timeout soon": "invalid duration 'soon': expected a value like 90s, 30m or 1h30m.",
    "plan -l team=a=b": "invalid label selector 'team=a=b': expected a selector like team=demo, tier!=gold, ",
    "plan -lock=false": "-lock=false is an option of Terraform; remove it: plan needs no lock",
    "plan -lock-timeout=30s": "-lock-timeout=30s is an option of Terraform; remove it",
    "plan -l=team=demo": "invalid label selector '=team=demo': write -l team=demo, without =.",
    "list --target all": "default; reconcile status --target all shows every target",
    "plan nowhere": "nowhere",
    "schema Tuned": 'unknown kind "Tuned"',
}


def test_wrong_usage_is_64_with_a_message(reconcile: Cli) -> None:
    answers = {command: reconcile(*command.split()) for command in USAGE_ERRORS}

    assert {command: answer.status for command, answer in answers.items()} == dict.fromkeys(USAGE_ERRORS, 64)
    unclear = {command: answer.err for command, answer in answers.items() if USAGE_ERRORS[command] not in answer.err}
    assert unclear == {}
    assert not any("Traceback" in answer.err for answer in answers.values())


@pytest.mark.parametrize("in_process", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_exit_status(reconcile: Cli, *, in_process: bool) -> None:
    def status(*arguments: str) -> int:
        if in_process:
            return reconcile(*arguments).status
        process = reconcile.process(*arguments)
        process.communicate(timeout=60)
        return process.returncode

    manifest = reconcile.manifest("adder", epochs=100)
    assert status("validate") == 0
    assert status("plan", "--detailed-exitcode") == 2
    assert status("apply") == 64
    assert status("apply", "--yes", "--no-wait") == 0
    assert status("wait", "--timeout", "0") == 4
    manifest.write_text("kind: TunedModel\n")
    assert status("plan") == 1
    reconcile.manifest("adder")
    target = reconcile.specs / "reconcile.yaml"
    target.write_text(target.read_text().replace("provider: embedded", "provider: generativelanguage"))
    reconcile.lock_file.unlink()
    reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(reconcile.folder / "nowhere.json")
    assert status("plan") == 3


def test_the_exit_status_is_that_of_the_process(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    process = reconcile.process("plan", "--detailed-exitcode")
    process.communicate(timeout=60)
    assert process.returncode == 2


def test_options_have_variables(reconcile: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    reconcile.manifest("adder")
    monkeypatch.setenv("RECONCILE_PLAN_FORMAT", "json")

    assert reconcile("plan").document["kind"] == "Plan"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_promptly_with_a_valid_lockfile(reconcile: Cli, number: signal.Signals) -> None:
    reconcile.manifest("adder")
    process = reconcile.process("apply", "--yes")
    assert process.stderr is not None
    for line in process.stderr:
        if "training started" in line:
            break

    process.send_signal(number)
    _out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "interrupted; the lockfile is saved, and trainings continue" in err
    assert "Traceback" not in err
    assert json.loads(reconcile.lock_file.read_text())["models"]["adder"]["generations"][0]["state"] == "CREATING"


def test_a_kill_loses_nothing(reconcile: Cli) -> None:
    reconcile.target("  embedded: {stepSeconds: 0.02}\n")
    reconcile.manifest("adder")
    process = reconcile.process("apply", "--yes")
    assert process.stderr is not None
    for line in process.stderr:
        if "training started" in line:
            break
    process.kill()
    process.communicate(timeout=60)

    resumed = reconcile.process("apply", "--yes")
    out, err = resumed.communicate(timeout=60)

    assert resumed.returncode == 0, err
    assert len(reconcile.lock["adder"]["generations"]) == 1
    assert "adder  ready" in out


def test_two_racing_runs_end_with_one_model(reconcile: Cli) -> None:
    reconcile.target("  embedded: {stepSeconds: 0.02}\n")
    reconcile.manifest("adder")

    racers = [reconcile.process("apply", "--yes") for _ in range(2)]
    for racer in racers:
        _out, err = racer.communicate(timeout=60)
        assert racer.returncode == 0, err

    assert len(reconcile.lock["adder"]["generations"]) == 1
    out, _err = reconcile.process("status", "--live", "--format", "json").communicate(timeout=60)
    assert json.loads(out)["models"][0]["generations"][0]["state"] == "ACTIVE"


CLOSED = "Error: standard output was closed early; read all of it, or write it to a file"


def with_closed(stream: str, reconcile: Cli, *arguments: str) -> tuple[int, str]:
    """Return the exit status and the end of the other output of a command, the reader of whose stream has ended."""
    environment = Environment(
        cwd=reconcile.folder, environ=reconcile.environ, clock=reconcile.clock, sleeper=reconcile.clock.sleep
    )
    reader, writer = os.pipe()
    os.close(reader)
    other = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with os.fdopen(writer, "w", buffering=1, encoding="utf-8") as closed:
        out, err = (closed, other) if stream == "stdout" else (other, closed)
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments, environment)
    other.seek(0)
    return status, other.read().rstrip().rpartition("\n")[2]


@in_turn("form", ["json", "text"])
def test_a_closed_pipe_ends_no_run(reconcile: Cli, form: str) -> None:
    reconcile.manifest("adder")
    report = reconcile.folder / "report.md"
    for command in (["plan"], ["apply", "--yes"], ["status"], ["prune", "--dry-run"], ["resolve"]):
        assert with_closed("stderr", reconcile, *command, "--format", form)[0] == 0, command
        reports = [] if command == ["resolve"] else ["--report", str(report)]
        assert with_closed("stdout", reconcile, *command, "--format", form, *reports) == (1, CLOSED), command
        assert report.exists() is bool(reports), command
        report.unlink(missing_ok=True)
    assert reconcile.lock["adder"]["serving"]


def test_a_closed_pipe_is_no_traceback(reconcile: Cli) -> None:
    for number in range(30):
        reconcile.manifest(f"model-{number}")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(  # noqa: S603 - our own command
        forked("-m", "reconciler", "plan", "--format", "json"),
        cwd=reconcile.folder,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert (process.returncode, process.stderr) == (1, f"{CLOSED}\n")


def test_completion(reconcile: Cli) -> None:
    for shell in ("bash", "zsh", "fish"):
        answer = reconcile("completion", shell)
        assert (answer.status, "_RECONCILE_COMPLETE" in answer.out) == (0, True), shell


def test_schema_lists_and_prints(reconcile: Cli) -> None:
    kinds = reconcile("schema").out.split()

    assert {"TunedModel", "Target", "Plan", "Lock"} <= set(kinds)
    for kind in kinds:
        assert json.loads(reconcile("schema", kind).out)["$schema"].startswith("https://json-schema.org/draft/2020-12")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_is_a_message_and_reports_are_written(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    arguments = ["plan", "--format", "json", "--report", "plan.json"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "reconciler", *arguments],  # how the interpreter ends counts
            cwd=reconcile.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},  # then such a device also refuses empty texts, as click writes
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert process.returncode == 1
    assert "Error: standard output cannot be written: No space left on device; free disk space" in process.stderr
    assert "Traceback" not in process.stderr
    assert json.loads((reconcile.folder / "plan.json").read_text())["kind"] == "Plan"


def test_the_environment_stays_out_of_what_is_shown() -> None:
    assert "hush" not in repr(Environment(environ={"RECONCILE_ACCESS_TOKEN": "hush"}))


def test_no_option_that_deletes_or_trains_is_suggested(reconcile: Cli) -> None:
    for option in ("--dry", "--prun", "--replac", "--retr", "--ye"):
        refused = reconcile("apply", option)
        suggested = refused.err.partition("No such option")[2]
        assert refused.status == 64
        assert not re.search(r"'--(prune|unprotect|replace|retry|yes)'", suggested), suggested
        assert "'" not in suggested.partition("'.")[2], "nothing that is only remotely similar is suggested"
    assert "'--no-wait'" in reconcile("apply", "--nowait").err


REQUIRED = {
    "adopt": ["adder", "tunedModels/one"],
    "cancel": ["adder"],
    "export": ["adder", "--to", "out"],
    "forget": ["adder"],
    "history": ["adder"],
    "promote": ["adder"],
    "prompt": ["adder", "7"],
    "push": ["adder", "hf://acme/adder", "--yes"],
    "render": ["x.json"],
    "rollback": ["adder", "--reason", "wrong"],
}
"""The arguments that commands require."""
PRINTING = sorted(
    name
    for name in cli.list_commands(click.Context(cli))
    if any(option.name == "format" for option in (cli.get_command(click.Context(cli), name) or cli).params)
)
REPORTS = ("report.json", "report.md", "report.html", "report.xml")
OWN = {"doctor": "Doctor", "targets": "Targets", "validate": "Validation"}
"""Commands whose own document has the problems of a target file."""


def failed(reconcile: Cli, name: str, *arguments: str) -> tuple[Result, dict[str, Any], list[str]]:
    """The result of a failing command, its document, and its reports, which are those of another run before."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    reports = REPORTS if any(option.name == "report" for option in command.params) else ()
    files = [reconcile.folder / report for report in reports]
    for file in files:
        file.write_text('{"kind": "Plan"}' if file.suffix == ".json" else "earlier run")
    options = [word for file in files for word in ("--report", str(file))]
    answer = reconcile(name, *REQUIRED.get(name, []), *arguments, "--format", "json", *options)
    assert "Traceback" not in answer.err
    texts = [file.read_text(encoding="utf-8") for file in files]
    if texts:
        assert json.loads(texts[0]) == answer.document
        assert texts[1].startswith("<!-- reconcile:")
        assert "<failure" in texts[3]
    return answer, answer.document, texts


@pytest.mark.parametrize("name", PRINTING)
def test_a_command_that_fails_gives_its_reason_in_every_format(reconcile: Cli, name: str) -> None:
    (reconcile.specs / "reconcile.yaml").write_text("kind: Nonsense\n")
    for arguments, status, message in ((["--bogus"], 64, "--bogus"), ([], 1, "")):
        answer, document, reports = failed(reconcile, name, *arguments)
        kind = "Error" if arguments else OWN.get(name, "Error")
        assert (answer.status, document["kind"]) == (status, kind)
        if kind != "Error":
            continue
        held_to("error", document)
        assert (document["command"], document["exitStatus"]) == (name, status)
        first = document["problems"][0]
        assert message in first["message"]
        for text in (answer.err, *reports):
            assert ("--bogus" if arguments else first["message"].split()[0]) in text


UNREACHABLE = "apiVersion: v1beta3\n  project: my-project\n  endpoint: http://127.0.0.1:9"
FAILURES: dict[str, tuple[str, list[str], int, dict[str, Any]]] = {
    "the service cannot be reached": (UNREACHABLE, [], 1, {"message": "got no response from 127.0.0.1:9"}),
    "no credentials": (
        "apiVersion: v1beta3\n  project: my-project",
        [],
        3,
        {"message": "GOOGLE_APPLICATION_CREDENTIALS"},
    ),
    "no repository": ("", ["--base", "nowhere", "--yes"], 1, {"message": "compared with nowhere"}),
    "an invalid manifest": (
        "",
        ["specs/broken.yaml"],
        1,
        {"file": "specs/broken.yaml", "line": 2, "column": 7, "path": "kind"},
    ),
    "an invalid lockfile": (
        "",
        [],
        1,
        {
            "file": "specs/reconcile.lock.json",
            "line": 1,
            "column": 36,
            "path": "models.adder",
            "message": "expected an",
        },
    ),
}
"""The lines of the target, the arguments, the exit status and the first problem of each."""


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_before_the_plan_has_a_place_or_a_remedy(reconcile: Cli, failure: str) -> None:
    lines, arguments, status, expected = FAILURES[failure]
    reconcile.manifest("adder")
    if arguments == ["specs/broken.yaml"]:
        (reconcile.specs / "broken.yaml").write_text("apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModels\n")
    if lines:
        target = reconcile.specs / "reconcile.yaml"
        target.write_text(target.read_text().replace("provider: embedded", f"provider: generativelanguage\n  {lines}"))
        reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(reconcile.folder / "nowhere.json")
    if "127.0.0.1" in lines:
        reconcile.environ["RECONCILE_ACCESS_TOKEN"] = "any"
    if failure == "an invalid lockfile":
        reconcile.lock_file.write_text('{"version": 1, "models": {"adder": 3}}')

    command = "apply" if "--base" in arguments else "plan"
    answer, document, reports = failed(reconcile, command, *arguments)

    held_to("error", document)
    assert (answer.status, document["exitStatus"]) == (status, status)
    first = document["problems"][0]
    assert {key: first.get(key) for key in expected if key != "message"} == {
        key: value for key, value in expected.items() if key != "message"
    }
    assert expected.get("message", "") in first["message"]
    assert first["remedy"]
    kind = {"apply": "Result", "plan": "Plan"}[command]
    heading = f"<!-- reconcile:{kind.lower()}:default -->\n### ❌ {kind} for target `default`\n"
    assert reports[1].startswith(heading)


def test_an_interrupted_command_says_so_in_every_format(reconcile: Cli) -> None:
    class Interrupting(Clock):
        looks = 0

        def __call__(self) -> datetime:
            self.looks += 1
            if self.looks == 2:  # the first look is the start of the command
                raise KeyboardInterrupt
            return self.now

    reconcile.manifest("adder")
    reconcile.clock = Interrupting()
    answer, document, reports = failed(reconcile, "plan")
    assert (answer.status, answer.err) == (130, "\nError: interrupted; run the same command again\n")
    assert document["problems"][0]["message"] == "interrupted"
    assert "exit status 130" in reports[1]


def test_an_error_is_rendered_as_the_command_printed_it(reconcile: Cli) -> None:
    (reconcile.specs / "reconcile.yaml").write_text("kind: Nonsense\n")
    report = str(reconcile.folder / "report.json")
    failed = reconcile("plan", "--report", report)
    run, rendered = reconcile("render", report).out.split("\n\n")
    assert rendered == failed.err
    assert run.splitlines()[-1] == f"command            reconcile plan --report {report}"
    assert (failed.status, failed.out) == (1, "")


def test_a_file_that_is_not_a_report_is_not_overwritten_by_an_error(reconcile: Cli) -> None:
    other = reconcile.folder / "package.json"
    other.write_text("{}")
    for arguments in ([], ["--bogus"]):
        answer = reconcile("plan", *arguments, "--report", str(other), "--format", "json")
        assert (answer.status, answer.document["kind"], other.read_text()) == (64, "Error", "{}")
