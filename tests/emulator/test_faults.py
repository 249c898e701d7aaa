"""Faults on demand: what each kind sends, when rules fire, and that runs against a faulty service end well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec import convert

from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import State
from reconciler.emulator.faults import FaultInjector, FaultKind, Faults
from support.cases import each_row, slow_except
from support.emulator_world import REQUEST
from support.engine_world import World, manifest
from support.provider_service import Time

if TYPE_CHECKING:
    from starlette.types import ASGIApp

MODELS = "/v1beta3/tunedModels"
Rule = dict[str, Any]


def faults(*rules: Rule, seed: int = 0) -> Faults:
    return convert({"kind": "Faults", "version": 1, "seed": seed, "rules": rules}, Faults)


def faulty(folder: Path, *rules: Rule, seed: int = 0) -> World:
    """A world whose service has these faults; time passes only by sleeping."""
    time = Time()

    def around(app: ASGIApp) -> ASGIApp:
        return FaultInjector(app, faults(*rules, seed=seed), clock=time.clock, sleep=time.sleep)

    return World(folder, around=around, time=time)


def ask(world: World, method: str = "GET", path: str = MODELS, **query: str) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(world.relay)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            body = json.dumps(REQUEST) if method == "POST" else None
            return await client.request(method, path, params=query, content=body)

    return asyncio.run(send())


@each_row(
    ("rule", "status", "headers", "text"),
    [
        ({"status": 429, "retryAfter": 7}, 429, {"retry-after": "7"}, '"status": "RESOURCE_EXHAUSTED"'),
        ({"status": 401}, 401, {}, '"status": "UNAUTHENTICATED"'),
        ({"status": 520}, 520, {}, '"code": 520'),
        ({}, 503, {}, '"status": "SERVICE_UNAVAILABLE"'),
        ({"status": 200, "html": True}, 200, {"content-type": "text/html"}, "<!doctype html>"),
    ],
)
def test_a_status_is_sent_as_json_or_as_a_page(
    tmp_path: Path, rule: Rule, status: int, headers: Mapping[str, str], text: str
) -> None:
    answer = ask(faulty(tmp_path, {"fault": "status", **rule}))
    assert answer.status_code == status
    assert headers.items() <= dict(answer.headers).items()
    assert ("retry-after" in answer.headers) == ("retryAfter" in rule)
    assert text in answer.text


@each_row("executed", [False, True])
@each_row("fault", ["status", "reset", "hang"])
def test_a_lost_reply_is_one_of_a_request_that_was_carried_out(tmp_path: Path, fault: str, *, executed: bool) -> None:
    world = faulty(tmp_path, {"fault": fault, "method": "POST", "executed": executed})

    async def send() -> None:
        transport = httpx.ASGITransport(world.relay)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            async with asyncio.timeout(0.1):
                await client.post(MODELS, content=json.dumps(REQUEST))

    if fault == "status":
        asyncio.run(send())
    else:
        with pytest.raises({"reset": ConnectionResetError, "hang": TimeoutError}[fault]):
            asyncio.run(send())
    assert len(world.everything()) == executed


def test_a_dribble_pauses_after_each_byte(tmp_path: Path) -> None:
    world = faulty(tmp_path, {"fault": "dribble", "seconds": 20})
    assert ask(world).text == "{}"
    assert world.time.naps == [20, 20]


def test_a_truncated_body_ends_in_the_middle(tmp_path: Path) -> None:
    world = faulty(tmp_path, {"fault": "truncate", "method": "GET"})
    ask(world, "POST")
    assert ask(world).text.startswith('{"tunedModels":[{"name"')
    with pytest.raises(json.JSONDecodeError):
        ask(world).json()


def pages(world: World, most: int = 6) -> list[tuple[int, str]]:
    """The sizes and next tokens of the first pages of one model each."""
    found, token = [], ""
    for _ in range(most):
        page = ask(world, pageSize="1", pageToken=token).json()
        token = page.get("nextPageToken", "")
        found.append((len(page.get("tunedModels", ())), token))
        if not token:
            break
    return found


def test_pages_repeat_or_are_empty(tmp_path: Path) -> None:
    world = faulty(
        tmp_path,
        {"fault": "repeatPage", "method": "GET", "count": 3},
        {"fault": "emptyPage", "method": "GET", "count": 3},
    )
    for _ in range(2):
        ask(world, "POST")
    assert pages(world, 3) == [(1, "repeated")] * 3
    sizes = pages(world)
    assert [size for size, _ in sizes] == [0, 0, 0, 1, 1], "the list continues after empty pages"
    assert len({token for _, token in sizes}) == len(sizes)


def test_entries_lag_and_are_duplicated(tmp_path: Path) -> None:
    world = faulty(
        tmp_path, {"fault": "lag", "method": "GET", "seconds": 12, "count": 2}, {"fault": "duplicate", "method": "GET"}
    )
    ask(world, "POST")
    assert ask(world).json() == {"tunedModels": []}
    world.time.now += timedelta(seconds=12)
    (model,) = ask(world).json()["tunedModels"]
    assert ask(world).json()["tunedModels"] == [model, model]


@each_row(
    ("rule", "expected"),
    [
        ({"fault": "replace", "field": "totalSteps", "value": -5}, {"totalSteps": -5}),
        ({"fault": "replace", "field": "totalSteps", "value": "NaN"}, {"totalSteps": "NaN"}),
        ({"fault": "replace", "field": "absent", "value": 1}, {"totalSteps": 23}),
        ({"fault": "remove", "field": "totalSteps"}, {}),
    ],
)
def test_fields_are_replaced_and_removed_at_any_depth(tmp_path: Path, rule: Rule, expected: Mapping[str, Any]) -> None:
    operation = ask(faulty(tmp_path, rule), "POST").json()
    assert {name: operation["metadata"][name] for name in ("totalSteps",) if name in operation["metadata"]} == expected


def test_rules_fire_by_method_path_number_and_count(tmp_path: Path) -> None:
    world = faulty(
        tmp_path,
        {"fault": "status", "status": 500, "method": "GET", "path": "*/models", "skip": 1, "count": 2},
        {"fault": "status", "status": 502, "path": "/v1beta3/models*"},
    )
    statuses = [ask(world, path="/v1beta3/models").status_code for _ in range(5)]
    assert statuses == [502, 500, 500, 502, 502], "the first rule that fires decides"
    assert ask(world).status_code == 200
    assert world.relay.app.fired == {FaultKind.STATUS: 5}  # type: ignore[attr-defined]  # a FaultInjector


def test_the_seed_decides_which_requests_are_hit(tmp_path: Path) -> None:
    rule = {"fault": "status", "probability": 0.5}
    runs = [
        [ask(faulty_world).status_code for _ in range(30)]
        for seed in (1, 1, 2)
        if (faulty_world := faulty(tmp_path, rule, seed=seed))
    ]
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) == {200, 503}


SURVIVED: Mapping[str, list[Rule]] = {
    "unavailable": [{"fault": "status", "count": 3}],
    "quota": [{"fault": "status", "status": 429, "retryAfter": 20, "count": 3}],
    "page": [{"fault": "status", "status": 200, "html": True, "count": 2}],
    "lost create": [{"fault": "status", "status": 502, "executed": True, "method": "POST", "count": 1}],
    "page for a create": [
        {"fault": "status", "status": 200, "html": True, "executed": True, "method": "POST", "count": 1}
    ],
    "truncated": [{"fault": "truncate", "count": 2}],
    "truncated while waiting": [{"fault": "truncate", "skip": 3, "count": 2}],
    "empty pages": [{"fault": "emptyPage", "path": MODELS, "method": "GET", "count": 5}],
    "repeated pages while waiting": [{"fault": "repeatPage", "path": MODELS, "method": "GET", "skip": 1, "count": 4}],
    "lag": [{"fault": "lag", "method": "GET", "seconds": 12}],
    "duplicates": [{"fault": "duplicate"}],
    "vanished operation": [{"fault": "status", "status": 404, "path": "*/operations/*"}],
    "unknown state": [{"fault": "replace", "field": "state", "value": "UNHEARD_OF", "method": "GET", "count": 5}],
    **{
        f"{field} {value}": [{"fault": "replace", "field": field, "value": value}]
        for field, values in {
            "totalSteps": (-5, 0, 2**60, 1e300, "NaN", "Infinity", "many", True, None),
            "completedSteps": (-5, 2**60, "NaN"),
            "completedPercent": (-1, 1e9, "NaN"),
            "meanLoss": ("NaN", "Infinity", "high", None),
            "step": (-1, "NaN"),
            "epoch": (-1, 1e300),
            "completeTime": ("yesterday", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z", 5),
            "updateTime": ("yesterday", None),
        }.items()
        for value in values
    },
    **{
        f"without {field}": [{"fault": "remove", "field": field}]
        for field in ("totalSteps", "completedSteps", "snapshots", "metadata", "updateTime", "done")
    },
}
ORDINARY = (
    "unavailable",
    "quota",
    "lost create",
    "truncated while waiting",
    "empty pages",
    "lag",
    "vanished operation",
    "unknown state",
    "totalSteps NaN",
    "meanLoss None",
    "completeTime yesterday",
    "without metadata",
)
"""One fault of each kind, and one value of each type of field."""


@pytest.mark.parametrize("name", slow_except(((name,) for name in SURVIVED), *((name,) for name in ORDINARY)))
def test_a_run_against_a_faulty_service_ends_converged(tmp_path: Path, name: str) -> None:
    world = faulty(tmp_path, *SURVIVED[name])
    ran = world.run(manifest())
    assert ran.outcome.exit_status is ExitStatus.OK
    (generation,) = world.checkout.lock.models["numbers"].generations  # reading it checks every value
    assert generation.state is State.ACTIVE
    assert generation.total_steps is None or generation.total_steps >= 0
    assert len(world.everything()) == 1


@pytest.mark.parametrize("rules", [[{"fault": "failTraining"}], [{"fault": "failTraining", "probability": 0.99}]])
def test_a_failing_training_is_recorded_and_held(tmp_path: Path, rules: list[Rule]) -> None:
    world = faulty(tmp_path, *rules)
    assert world.run(manifest()).outcome.exit_status is ExitStatus.ERROR
    (generation,) = world.checkout.lock.models["numbers"].generations
    assert generation.state is State.FAILED
    assert generation.failure is not None
    assert generation.failure.message == "The training failed (a fault on demand)"


def test_a_partial_response_without_names_can_be_about_failing_trainings(tmp_path: Path) -> None:
    world = faulty(tmp_path, {"fault": "failTraining"})
    ask(world, "POST")
    world.time.now += timedelta(hours=1)
    assert ask(world, fields="tunedModels(state)").json() == {"tunedModels": [{"state": "ACTIVE"}]}
    assert ask(world, fields="tunedModels(name,state)").json()["tunedModels"][0]["state"] == "FAILED"


def test_storms_end_converged_or_lead_to_a_calm_run_that_does(tmp_path: Path) -> None:
    kinds = [
        {"fault": "status"},
        {"fault": "status", "executed": True, "status": 500},
        {"fault": "status", "status": 200, "html": True},
        {"fault": "truncate"},
        {"fault": "emptyPage", "path": MODELS, "method": "GET"},
        {"fault": "duplicate"},
        {"fault": "lag", "seconds": 12, "method": "GET"},
    ]
    for seed in range(5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        world = faulty(folder, *({**kind, "probability": 0.1} for kind in kinds), seed=seed)
        try:
            world.run(manifest())
        finally:
            world.relay.app = world.app
        assert world.run(manifest()).outcome.exit_status is ExitStatus.OK
        assert len(world.everything()) == 1
