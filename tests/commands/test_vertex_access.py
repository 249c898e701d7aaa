"""Vertex AI lets nobody in, or not so often: what is said, how it exits, and that the next run goes on."""

from __future__ import annotations

from datetime import datetime

from starlette.responses import JSONResponse

from support.cli_world import Cli
from support.vertex_fronts import refusal, refusing
from support.vertex_runs import apply, goes_on, manifest, on, states
from support.vertex_world import CREATE, JOBS, PROJECT, World

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
    " disabled; enable the API, and run the command again after a few minutes: `gcloud services enable"
    " aiplatform.googleapis.com --project=my-project`\n"
)
NO_ROLE = (
    "failed with 403 PERMISSION_DENIED: Permission 'aiplatform.tuningJobs.create' denied on resource; ask for"
    " roles/aiplatform.user on the target's spec.project\n"
)
NEW_TOKEN = (
    "failed with 401 UNAUTHENTICATED: Request had invalid authentication credentials; RECONCILE_ACCESS_TOKEN holds the"
    " rejected token, which is valid for about an hour: set RECONCILE_ACCESS_TOKEN to a new"
    " access token, as `gcloud auth application-default print-access-token` prints it, or unset it to use Application"
    " Default Credentials\n"
)
DENIED = ((DISABLED, NOT_ENABLED), (FORBIDDEN, NO_ROLE), (EXPIRED, NEW_TOKEN))


def test_denied_access_is_an_error_and_read_only_access_plans(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    for refused, said in DENIED:
        world.front = refusing(refused, LIST)
        for command in (["plan"], ["apply", "--yes"]):
            answer = on(reconcile, *command)
            assert answer.status == 3
            assert answer.err.endswith(f"Error: {LIST} {said}")
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
    assert "set RECONCILE_ACCESS_TOKEN to a new access token" in answer.err
    assert answer.err.endswith("; the trainings continue: run reconcile wait --target vertex to wait for them\n")
    assert states(reconcile) == ["CREATING"]
    goes_on(reconcile, slow)


def test_who_pays_and_who_may_is_known_before_any_training(reconcile: Cli, world: World) -> None:
    """Other reasons: ``tests/providers/vertex/test_provider_create.py``."""
    manifest(reconcile)
    refused = refusal(
        403,
        "PERMISSION_DENIED",
        "This API method requires billing to be enabled. Please enable billing on project #my-project by visiting"
        " https://console.developers.google.com/billing/enable?project=my-project then retry.",
    )
    remedy = "`gcloud billing projects link my-project --billing-account=ACCOUNT`"
    world.front = refusing(refused, LIST)
    checked = on(reconcile, "doctor", "--format", "json").document["findings"]
    assert [remedy in finding["remedy"] for finding in checked if finding["check"] == "list"] == [True]

    world.front = refusing(refused, CREATE)
    answer = apply(reconcile)
    assert answer.status != 0
    assert remedy in answer.out + answer.err
    assert world.count(CREATE) == 1, "what stays refused is not repeated"


def test_an_older_api_has_its_reason_in_another_place(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    message = "The billing account for the owning project is disabled in state absent"
    old = {"error": {"code": 403, "message": message, "errors": [{"domain": "global", "reason": "accountDisabled"}]}}
    world.front = refusing(JSONResponse(old, 403), "GET /storage/v1/b/", "POST /upload/")
    findings = on(reconcile, "doctor", "--format", "json").document["findings"]
    (bucket,) = (finding for finding in findings if finding["check"] == "bucket")
    assert f"`gcloud billing projects link {PROJECT} --billing-account=ACCOUNT`" in bucket["remedy"]
    answer = apply(reconcile)
    assert f"`gcloud billing projects link {PROJECT} --billing-account=ACCOUNT`" in answer.out + answer.err
    assert world.count(CREATE) == 0


QUOTA = refusal(429, "RESOURCE_EXHAUSTED", "Quota exceeded for aiplatform.googleapis.com/tuning.", retry_after="7")


def test_a_quota_that_is_soon_free_again_is_waited_for(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    world.front = refusing(QUOTA, CREATE, times=2)

    answer = apply(reconcile)

    assert answer.status == 0, answer.err
    assert [nap for nap in reconcile.clock.slept if 7 <= nap < 8] == reconcile.clock.slept[:2]
    assert world.count(CREATE) == 3


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

    world.front = refusing(QUOTA, LIST)
    answer = on(reconcile, "plan")
    assert answer.status == 1
    assert answer.err.endswith(
        "wait for the quota, request more at https://console.cloud.google.com/iam-admin/quotas?project=my-project, or"
        " lower spec.limits.requestsPerMinute of the target\n"
    )
