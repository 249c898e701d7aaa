"""The embedded service on a port."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request

import pytest

from support.cli_world import Cli


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_emulator_serves_until_a_signal(reconcile: Cli, number: signal.Signals) -> None:
    process = reconcile.process("emulator", "--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Embedded service (simulated training) on http://127.0.0.1:")
    with urllib.request.urlopen(f"{line.split()[-1]}/v1beta3/tunedModels", timeout=60) as answer:  # noqa: S310 - our own loopback service
        assert answer.read() == b"{}"

    process.send_signal(number)
    _out, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert err == ""


def test_a_port_in_use_is_an_error(reconcile: Cli) -> None:
    first = reconcile.process("emulator", "--port", "0")
    assert first.stdout is not None
    port = first.stdout.readline().rsplit(":", 1)[1].strip()

    answer = reconcile("emulator", "--port", port)
    first.kill()
    first.communicate()

    assert answer.status == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in answer.err


def test_the_emulator_answers_wrongly_on_demand(reconcile: Cli) -> None:
    rules = [
        {"fault": "reset", "path": "*/models", "count": 1},
        {"fault": "dribble", "path": "*/models", "seconds": 0.0001, "count": 1},
        {"fault": "status", "path": "*/models", "status": 429, "retryAfter": 3},
    ]
    file = reconcile.folder / "faults.json"
    file.write_text(json.dumps({"kind": "Faults", "version": 1, "rules": rules}))
    process = reconcile.process("emulator", "--port", "0", "--faults", str(file))
    assert process.stdout is not None
    url = f"{process.stdout.readline().split()[-1]}/v1beta3/models"

    with pytest.raises(ConnectionError):
        urllib.request.urlopen(url, timeout=10)  # noqa: S310 - our own loopback service
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own loopback service
        assert json.load(answer)["models"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=10)  # noqa: S310 - our own loopback service
    assert (caught.value.code, caught.value.headers["retry-after"]) == (429, "3")
    caught.value.close()
    process.terminate()
    _out, err = process.communicate(timeout=10)
    assert err == ""


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "not a document of reconcile; pass a file with fault rules, see docs/emulator.md"),
        ('{"fault": "storm"}', "rules[0].fault: expected one of status, reset, hang, "),
        ('{"fault": "lag"}', "rules[0]: lag needs seconds"),
        ('{"fault": "reset", "count": 0}', "rules[0].count: "),
        ('{"fault": "reset", "often": 1}', "rules[0].often: unknown field"),
    ],
)
def test_a_malformed_fault_is_an_error_with_its_place(reconcile: Cli, content: str, problem: str) -> None:
    file = reconcile.folder / "faults.json"
    rules = f'{{"kind": "Faults", "version": 1, "rules": [{content}]}}'
    file.write_text(rules if content != "[]" else content)
    answer = reconcile("emulator", "--port", "0", "--faults", str(file))
    assert answer.status == 1
    assert f"{file}:1:" in answer.err
    assert problem in answer.err


def test_a_malformed_world_is_an_error_with_its_place(reconcile: Cli) -> None:
    world = reconcile.folder / "world.json"
    world.write_text('{"tunedModels": [{]}')

    answer = reconcile("emulator", "--world", str(world))

    assert answer.status == 1
    assert str(world) in answer.err
