"""Vertex AI lets nobody in, or not so often: what is said, how it exits, and that the next run goes on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from support.cli_world import Cli
from support.vertex_fronts import refusal, refusing
from support.vertex_runs import apply, goes_on, manifest, on, states
from support.vertex_world import CREATE, JOBS, World

if TYPE_CHECKING:
    from starlette.responses import Response

LIST = f"GET {JOBS}"


DISABLED = refusal(
    403,
    "PERMISSION_DENIED",
    "Vertex AI API has not been used in project my-project before or it is disabled.",
    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED", "domain": "googleapis.com"},
)
FORBIDDEN = refusal(403, "PERMISSION_DENIED", "Permission 'aiplatform.tuningJobs.create' denied on resource.")
EXPIRED = refusal(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
NOT_ENABLED = (
    "failed with 403 PERMISSION_DENIED: Vertex AI API has not been used in project my-project before or it is"
    " disabled; enable the API in the target's spec.project: `gcloud services enable aiplatform.googleapis.com`\n"
)
NO_ROLE = (
    "failed with 403 PERMISSION_DENIED: Permission 'aiplatform.tuningJobs.create' denied on resource; ask for"
    " roles/aiplatform.user on the target's spec.project\n"
)
LOG_IN = (
    "failed with 401 UNAUTHENTICATED: Request had invalid authentication credentials; log in with `gcloud auth"
    " application-default login --scopes=https://www.googleapis.com/auth/cloud-platform`, or set"
    " RECONCILE_ACCESS_TOKEN\n"
)
ACCESS = pytest.mark.parametrize(
    ("refused", "said"),
    [(DISABLED, NOT_ENABLED), (FORBIDDEN, NO_ROLE), (EXPIRED, LOG_IN)],
    ids=["API not enabled", "without the role", "expired token"],
)


@ACCESS
def test_denied_access_is_an_error(reconcile: Cli, world: World, refused: Response, said: str) -> None:
    manifest(reconcile)
    world.front = refusing(refused, LIST)

    for command in (["plan"], ["apply", "--yes"]):
        answer = on(reconcile, *command)
        assert answer.status == 3
        assert answer.err.endswith(f"Error: {LIST} {said}")
    goes_on(reconcile, world)


@ACCESS
def test_read_only_access_plans_and_does_not_train(reconcile: Cli, world: World, refused: Response, said: str) -> None:
    manifest(reconcile)
    world.front = refusing(refused, CREATE)

    answer = apply(reconcile)

    assert answer.status == 3
    assert f"adder  refused: {CREATE} {said}" in answer.out
    assert states(reconcile) == []
    goes_on(reconcile, world)


def test_a_token_that_expires_while_we_wait(reconcile: Cli, slow: World) -> None:
    manifest(reconcile)

    def expire(_now: datetime) -> None:
        slow.front = refusing(EXPIRED, LIST)

    reconcile.clock.on_move = expire
    answer = apply(reconcile)
    reconcile.clock.on_move = lambda _now: None

    assert answer.status == 3
    assert "adder  training started: adder-" in answer.err
    assert "log in with `gcloud auth application-default login" in answer.err
    assert answer.err.endswith("; the trainings continue: run reconcile wait to wait for them\n")
    assert states(reconcile) == ["CREATING"]
    goes_on(reconcile, slow)


QUOTA = refusal(429, "RESOURCE_EXHAUSTED", "Quota exceeded for aiplatform.googleapis.com/tuning.", retry_after="7")


def test_a_quota_that_is_soon_free_again_is_waited_for(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    world.front = refusing(QUOTA, CREATE, times=2)

    answer = apply(reconcile)

    assert answer.status == 0, answer.err
    assert [nap for nap in reconcile.clock.slept if 7 <= nap < 8] == reconcile.clock.slept[:2]
    assert world.count(CREATE) == 3
    goes_on(reconcile, world)


def test_a_quota_that_stays_used_up(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    world.front = refusing(QUOTA, CREATE)

    answer = apply(reconcile)

    assert answer.status == 1
    assert (
        f"adder  refused: {CREATE} failed with 429 RESOURCE_EXHAUSTED: Quota exceeded for"
        " aiplatform.googleapis.com/tuning; wait until another tuning job of the project has ended, or request more"
        " quota of concurrent tuning jobs in the target's spec.location\n"
    ) in answer.out
    assert len(world.jobs()) == 0
    goes_on(reconcile, world)


def test_an_exhausted_read_quota_is_an_error(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    world.front = refusing(QUOTA, LIST)

    answer = on(reconcile, "plan")

    assert answer.status == 1
    assert answer.err.endswith(
        "wait for the quota, request more, or lower spec.limits.requestsPerMinute of the target\n"
    )
    goes_on(reconcile, world)
