"""The Generative Language provider through the command line, over a real port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import emulator_process
from support.cli_world import Cli
from support.emulator_process import Process

TOKEN = "ya29.hush-hush"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Process]:
    folder = tmp_path / "service"
    folder.mkdir()
    with emulator_process.running(folder) as process:
        yield process


def _aim(reconcile: Cli, endpoint: str) -> None:
    target = reconcile.specs / "reconcile.yaml"
    target.write_text(
        target.read_text().replace(
            "provider: embedded", f"provider: generativelanguage\n  project: my-project\n  endpoint: {endpoint}"
        )
    )


def test_the_whole_run_over_a_port(reconcile: Cli, service: Process) -> None:
    _aim(reconcile, service.url)
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN
    reconcile.clock.now = emulator_process.START
    reconcile.clock.on_move = lambda now: service.advance_to((now - emulator_process.START).total_seconds())
    reconcile.manifest("adder")

    first = reconcile("apply", "--yes", "-vv")

    assert first.status == 0, first.err
    assert "Target default: Generative Language API v1beta3, project my-project, scope demo" in first.err
    assert "simulated" not in first.out
    assert max(reconcile.clock.slept) >= 2, "a remote service is not asked as often as the embedded one"
    second = reconcile("apply", "--yes")
    assert second.out.startswith("No changes. 1 model matches its manifest; 1 request, ")
    resolved = reconcile("resolve", "adder", "--format", "json").document["models"][0]
    assert resolved["url"] == f"{service.url}/v1beta3/{resolved['remote']}"
    for text in (first.out, first.err, second.out, second.err, reconcile.lock_file.read_text()):
        assert TOKEN not in text


def test_without_credentials_the_exit_status_is_3_with_a_remedy(reconcile: Cli, service: Process) -> None:
    _aim(reconcile, service.url)
    reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(reconcile.folder / "nowhere.json")
    reconcile.manifest("adder")

    answer = reconcile("plan")

    assert answer.status == 3
    assert "nowhere.json, and there is no such file; fix the path, or unset GOOGLE_APPLICATION_CREDENT" in answer.err


def test_a_user_without_a_home_and_a_name_is_told_to_log_in(
    reconcile: Cli, service: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with an arbitrary user ID."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    _aim(reconcile, service.url)
    reconcile.environ["GCE_METADATA_HOST"] = "127.0.0.1:9"
    reconcile.manifest("adder")

    answer = reconcile("plan")

    assert (answer.status, "Traceback" in answer.err) == (3, False), answer.err
    assert "no credentials found; log in with `gcloud auth application-default login" in answer.err


def test_a_token_goes_to_no_strange_host(reconcile: Cli) -> None:
    _aim(reconcile, "https://tuning.example.com")
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN
    reconcile.manifest("adder")

    answer = reconcile("plan")

    assert answer.status == 3
    assert "--allow-endpoint tuning.example.com" in answer.err
    assert TOKEN not in answer.err


def test_an_unreachable_service_is_an_error_after_retries(reconcile: Cli, service: Process) -> None:
    _aim(reconcile, service.url)
    service.process.kill()
    service.process.wait()
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN
    reconcile.manifest("adder")

    answer = reconcile("plan")

    assert answer.status == 1
    assert f"got no response from {service.url.removeprefix('http://')}" in answer.err
    assert len(reconcile.clock.slept) == 5
