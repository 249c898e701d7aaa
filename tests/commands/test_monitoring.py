"""--metrics and --notify-env: what a command reports at its end, which changes no exit status and shows no secret."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from warnings import catch_warnings, simplefilter

import pytest
from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._monitoring import run_link
from reconciler.domain.base_models import BaseModel, ModelCatalog
from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.errors import ExitStatus, UsageError
from reconciler.domain.lock import Lock, LockedModel, LockedStage, LockedTarget
from reconciler.redaction import secrets_of
from reconciler.reports.documents.doctor import error_report
from reconciler.reports.metrics import METRICS, PREFIX, Recorded, Run, metrics
from reconciler.reports.notification import notification
from support.cases import each_row
from support.cli_world import Cli
from support.render_pages import LOCK, drift_page, plan_page, poisoned, result_page, status_page

TOKEN, PARAMETER = "T0K3Nabcdef12345", "s3cretparameter99"
CHECKS = '  sampling: {temperature: 0}\n  checks: [{name: small, prompt: "7", expect: {equals: "9"}}]\n'
RUN = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/models", "GITHUB_RUN_ID": "17"}
LINK = "https://github.com/acme/models/actions/runs/17"


class Hook(Struct, frozen=True):
    """A server that gets messages; it answers with ``status``."""

    address: str
    paths: list[str]
    messages: list[dict[str, Any]]


@contextmanager
def serve_hook(status: int = 200) -> Iterator[Hook]:
    """Serve a hook on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.paths.append(self.path)
            hook.messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook = Hook(f"://127.0.0.1:{server.server_port}/hook/{TOKEN}", [], [])
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of the extra notify, which uses no proxy."""
    apprise = pytest.importorskip("apprise", reason="needs the extra notify")
    with catch_warnings():
        simplefilter("ignore")  # of modules of its services, which it loads with the first address
        apprise.Apprise().add("json://127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def samples(text: str) -> dict[tuple[str, str], float]:
    """The values of a file by metric and model, as Prometheus' own parser reads it."""
    parser = pytest.importorskip("prometheus_client.parser", reason="needs the package prometheus-client")
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation == METRICS[family.name.removeprefix(PREFIX)]
        for sample in family.samples:
            assert sample.labels["command"]
            assert "target" in sample.labels
            name = sample.name.removeprefix(PREFIX)
            assert (name, sample.labels.get("model", "")) not in found
            found[name, sample.labels.get("model", "")] = sample.value
    return found


# Notifications


@pytest.mark.usefixtures("library")
def test_a_summary_is_sent_to_each_address_and_no_part_of_an_address_is_shown(reconcile: Cli) -> None:
    reconcile.manifest("adder", more=CHECKS)
    with serve_hook() as hook, serve_hook(500) as broken:
        reconcile.environ |= RUN | {
            "HOOK": f"http{hook.address}?token={PARAMETER}",
            "BROKEN": f"json{broken.address}",
            "UNSUPPORTED": "windows://",
            "UNREADABLE": f"slack://{TOKEN}",
            "BRACKET": f"https://[{TOKEN}",
            "BYTES": f"https://x/{TOKEN}\udcff",
            "EMPTY": "",
        }
        names = ("HOOK", "BROKEN", "UNSUPPORTED", "UNREADABLE", "BRACKET", "BYTES", "EMPTY", "ABSENT")
        options = [part for name in names for part in ("--notify-env", name)]
        done = reconcile(
            "apply", "--yes", "--report", str(reconcile.folder / "r.json"), "--events", "e.jsonl", *options
        )
        failed = reconcile("plan", "--only", f"x-{TOKEN.lower()}", *options[:2])
    assert done.status == ExitStatus.ERROR, "the checks failed; notifications change nothing"
    assert hook.paths == [f"/hook/{TOKEN}?token={PARAMETER}"] * 2
    assert [message["title"] for message in hook.messages] == [
        "reconcile apply for target default: failed",
        "reconcile plan for target default: failed",
    ]
    counts, adder, link = hook.messages[0]["message"].split("\n")
    assert counts.startswith("Models: 1 held")
    assert adder.startswith("- adder: held: ChecksFailed")
    assert link == LINK
    assert "exit status 64" in hook.messages[1]["message"]
    warnings = [line for line in done.err.splitlines() if "notification" in line]
    unreachable = "the service did not accept it, or cannot be reached"
    unsupported = "the variable holds no supported address; set it to one like https://…, slack://… or mailtos://…"
    invalid = "the address in the variable is invalid"
    assert warnings == [
        f"warning: --notify-env {name}: no notification was sent: {why}"
        for name, why in {
            "BROKEN": unreachable,
            "UNSUPPORTED": unsupported,
            "UNREADABLE": invalid,
            "BRACKET": invalid,
            "BYTES": invalid,
            "EMPTY": "the variable is not set, or empty",
            "ABSENT": "the variable is not set, or empty",
        }.items()
    ]
    written = [(reconcile.folder / name).read_text() for name in ("r.json", "e.jsonl")]
    for text in (done.out, done.err, failed.out, failed.err, *written):
        assert TOKEN.lower() not in text.lower()
        assert PARAMETER not in text


def test_an_address_on_the_command_line_is_refused_and_not_shown(reconcile: Cli) -> None:
    done = reconcile("plan", "--notify-env", f"slack://{TOKEN}/x", "--format", "json")
    assert done.status == ExitStatus.USAGE
    assert "pass the name of the variable" in done.err
    assert TOKEN not in done.out + done.err


def test_without_the_library_the_extra_is_named_before_anything_runs(
    reconcile: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as if it were not installed
    reconcile.environ["HOOK"] = "json://127.0.0.1:1/x"
    done = reconcile("apply", "--yes", "--notify-env", "HOOK")
    assert done.status == ExitStatus.USAGE
    assert (
        done.err == "Error: --notify-env needs the package apprise; run pip install 'tuned-model-reconciler[notify]'\n"
    )


def test_text_of_others_mentions_no_user_and_hides_no_address() -> None:
    document = poisoned(plan_page(), "@here <!channel> [good](https://evil.example) `*_x_*\n\u202e")
    message = notification(document, "plan", ExitStatus.ERROR, LINK)
    body = message.body.removesuffix(f"\n{LINK}")
    assert body != message.body
    assert message.title.startswith("reconcile plan for target ")
    assert not set("<>@`[]*_\u202e").intersection(message.title + body)
    assert "here" in body


def test_no_secret_is_sent_in_the_characters_that_replace_others() -> None:
    secret = "sk_live_[a@b]*9"
    with secrets_of({"SERVICE_TOKEN": secret}):
        document = error_report(UsageError(f"{'x' * 190}{secret}"), "plan", secret)
        message = notification(document, "plan", ExitStatus.ERROR)
    assert "[secret]".translate({91: "(", 93: ")"}) in message.body
    assert "live" not in message.title + message.body


@each_row(
    ("environ", "link"),
    [
        (RUN, LINK),
        ({**RUN, "GITHUB_RUN_ID": ""}, ""),
        ({"CI_JOB_URL": "https://gitlab.example/acme/-/jobs/9"}, "https://gitlab.example/acme/-/jobs/9"),
        ({"BUILD_URL": "javascript:alert(1)"}, ""),
        ({"BUILD_URL": "https://ci.example/\u202e1"}, ""),
        ({}, ""),
    ],
)
def test_the_run_is_linked(environ: dict[str, str], link: str) -> None:
    assert run_link(environ) == link


# Metrics


NOW = datetime(2026, 11, 22, 20, 16, tzinfo=UTC)


def counts(document: Any, recorded: Recorded | None = None, target: str = "") -> dict[tuple[str, str], float]:
    """The samples of a document, without those of the run."""
    run = Run("x", target, NOW, ExitStatus.OK)
    name = document.target.name if hasattr(document, "target") else target
    found = samples(metrics(document, run, {name: recorded} if recorded else {}))
    assert found.pop(("last_run_timestamp_seconds", "")) == NOW.timestamp()
    assert found.pop(("last_run_exit_status", "")) == 0
    return found


@each_row(
    ("document", "expected"),
    [
        (plan_page(), {"failed_models": 1, "held_models": 1, "pending_models": 2, "orphaned_models": 0}),
        (
            replace(
                drift_page(),
                findings=tuple(
                    replace(finding, cause="outOfBand" if finding.name == "words" else "")
                    for finding in drift_page().findings
                ),
            ),
            {
                "failed_models": 1,
                "drifted_models": 2,
                "out_of_band_models": 1,
                "pending_models": 0,
                "orphaned_models": 0,
            },
        ),
        (result_page(), {"failed_models": 1, "held_models": 0, "pending_models": 0, "orphaned_models": 0}),
        (status_page(), {"failed_models": 1}),
    ],
)
def test_models_are_counted(document: Any, expected: dict[str, int]) -> None:
    assert counts(document) == {(name, ""): value for name, value in expected.items()}


def test_ages_come_from_the_record_and_the_catalog() -> None:
    serving = LOCK.models["number-generator"].serving_generation
    assert serving is not None
    base = serving.source.base_model
    catalog = ModelCatalog(models={base: BaseModel(retirement=date(2026, 12, 2))})
    found = counts(status_page(), Recorded(LOCK, catalog))
    started = datetime.fromisoformat(LOCK.models["rhymes"].generations[0].create_time)
    assert found["oldest_training_age_seconds", ""] == (NOW - started) / timedelta(seconds=1) > 0
    assert found["training_models", ""] == 1
    assert found["base_model_retirement_days", "number-generator"] == 10
    staged = LOCK.models["number-generator"].with_stage("production", LockedStage(serving=serving.key))
    target = LockedTarget("default", "embedded", "demo", stages=("staging", "production"))
    lines = metrics(
        status_page(), Run("x", "", NOW, ExitStatus.OK), {"default": Recorded(Lock(target, {"n": staged}), catalog)}
    )
    assert re.findall(r'retirement_days.*stage="(\w+)"} 10', lines) == ["production", "staging"]
    idle = counts(status_page(), Recorded(Lock(models={"adder": LockedModel("adder.yaml")}), catalog))
    assert (idle["oldest_training_age_seconds", ""], idle["training_models", ""]) == (0, 0)


def test_a_suspension_that_has_run_out_is_a_sample_of_its_model() -> None:
    ended = Finding(kind=DriftClass.SUSPENSION_EXPIRED, severity="note", name="words", message="it ended")
    found = counts(replace(drift_page(), findings=(ended,)))
    assert found["suspension_expired", "words"] == 1


def test_names_are_escaped() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="needs the package prometheus-client")
    target = 'a"b\\c\nd} 1'
    document = error_report(UsageError("x"), "plan")
    text = metrics(document, Run("plan", target, NOW, ExitStatus.USAGE))
    found = [
        sample.labels["target"] for family in parser.text_string_to_metric_families(text) for sample in family.samples
    ]
    assert found == [target] * 2


def test_the_file_has_the_last_run_and_is_refused_where_it_would_replace_another(reconcile: Cli) -> None:
    reconcile.manifest("adder", more=CHECKS)
    file = reconcile.folder / "reconcile.prom"
    assert reconcile("apply", "--yes", "--metrics", file.name).status == ExitStatus.ERROR
    applied = samples(file.read_text())
    assert applied["held_models", ""] == applied["last_run_exit_status", ""] == 1
    assert applied["last_run_timestamp_seconds", ""] == reconcile.clock.now.timestamp()
    assert reconcile("status", "--metrics", file.name).status == 0
    assert samples(file.read_text())["last_run_exit_status", ""] == 0
    assert reconcile("drift", "--only", "absent", "--metrics", file.name).status == ExitStatus.USAGE
    failed = samples(file.read_text())
    assert failed.keys() == {("last_run_timestamp_seconds", ""), ("last_run_exit_status", "")}
    assert failed["last_run_exit_status", ""] == 64
    (reconcile.folder / "other.prom").write_text("# HELP node_up x\n")
    for name, problem in {
        "reconcile.txt": "unsupported format; name a file that ends in .prom",
        "other.prom": "would overwrite a file that has other content; name another file",
        "absent/x.prom": "cannot be written: No such file or directory",
    }.items():
        refused = reconcile("plan", "--metrics", name)
        assert refused.status == ExitStatus.USAGE
        assert problem in refused.err
    assert (reconcile.folder / "other.prom").read_text() == "# HELP node_up x\n"
    same = reconcile("plan", "--metrics", file.name, "--events", file.name)
    assert same.status == ExitStatus.USAGE
