"""Vertex AI lets nobody in, or not so often: what is said, how it exits, and that the next run goes on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse

from support.cli_world import Cli
from support.vertex_fronts import refusal, refusing
from support.vertex_runs import apply, goes_on, manifest, on, states
from support.vertex_world import CREATE, JOBS, PROJECT, World

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
ACCESS = pytest.mark.parametrize(
    ("refused", "said"),
    [(DISABLED, NOT_ENABLED), (FORBIDDEN, NO_ROLE), (EXPIRED, NEW_TOKEN)],
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
    assert "set RECONCILE_ACCESS_TOKEN to a new access token" in answer.err
    assert answer.err.endswith("; the trainings continue: run reconcile wait to wait for them\n")
    assert states(reconcile) == ["CREATING"]
    goes_on(reconcile, slow)


def info(reason: str, **metadata: str) -> dict[str, object]:
    """The google.rpc.ErrorInfo of a refusal."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": metadata}


AIPLATFORM = {"service": "aiplatform.googleapis.com", "consumer": "projects/415104041262"}
LOCATIONS = "gcloud org-policies describe constraints/gcp.resourceLocations --effective --project="
WHO_PAYS = {
    "API not enabled": (
        refusal(
            403,
            "PERMISSION_DENIED",
            "Vertex AI API has not been used in project 415104041262 before or it is disabled. Enable it by visiting"
            " https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project=415104041262"
            " then retry.",
            info(
                "SERVICE_DISABLED",
                activationUrl="https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview",
                serviceTitle="Vertex AI API",
                containerInfo="415104041262",
                **AIPLATFORM,
            ),
        ),
        "`gcloud services enable aiplatform.googleapis.com --project=415104041262`",
    ),
    "billing disabled": (
        refusal(
            403,
            "PERMISSION_DENIED",
            "This API method requires billing to be enabled. Please enable billing on project #my-project by visiting"
            " https://console.developers.google.com/billing/enable?project=my-project then retry.",
            info("BILLING_DISABLED", **{**AIPLATFORM, "consumer": "projects/my-project"}),
        ),
        "`gcloud billing projects link my-project --billing-account=ACCOUNT`",
    ),
    "no location": (
        refusal(
            400,
            "FAILED_PRECONDITION",
            "'us-central1' violates constraint 'constraints/gcp.resourceLocations' on the resource"
            " 'projects/my-project/locations/us-central1'.",
        ),
        f"`{LOCATIONS}my-project` lists them",
    ),
    "location, in the details": (
        refusal(
            400,
            "FAILED_PRECONDITION",
            "Precondition check failed.",
            {
                "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
                "violations": [{"type": "constraints/gcp.resourceLocations", "subject": "orgpolicy:projects/1234567"}],
            },
        ),
        f"`{LOCATIONS}1234567` lists them",
    ),
    "another policy": (
        refusal(
            403,
            "PERMISSION_DENIED",
            "Organization Policy constraint constraints/vertexai.allowedModels violated for projects/415104041262.",
            info("ORG_RESTRICTION_VIOLATION", **AIPLATFORM),
        ),
        "`gcloud org-policies describe constraints/vertexai.allowedModels --effective --project=415104041262` shows it",
    ),
    "no quota at all": (
        refusal(
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for quota metric 'Concurrent tuning jobs' of service 'aiplatform.googleapis.com'.",
            info(
                "RATE_LIMIT_EXCEEDED",
                quota_metric="aiplatform.googleapis.com/global_concurrent_tuning_jobs",
                quota_limit_value="0",
                quota_location="us-central1",
                **AIPLATFORM,
            ),
        ),
        "request quota at https://console.cloud.google.com/iam-admin/quotas?project=415104041262: the project has none",
    ),
    "no quota project": (
        refusal(
            403,
            "PERMISSION_DENIED",
            "Your application is authenticating by using local Application Default Credentials. The"
            " aiplatform.googleapis.com API requires a quota project, which is not set by default.",
            info("SERVICE_DISABLED", **{**AIPLATFORM, "consumer": "projects/764086051850"}),
        ),
        "or run `gcloud auth application-default set-quota-project PROJECT`",
    ),
    "quota project of others": (
        refusal(
            403,
            "PERMISSION_DENIED",
            "Caller does not have required permission to use project my-project. Grant the caller the"
            " roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use"
            " permission.",
            info("USER_PROJECT_DENIED", **{**AIPLATFORM, "consumer": "projects/my-project"}),
        ),
        "`gcloud projects add-iam-policy-binding my-project --role=roles/serviceusage.serviceUsageConsumer",
    ),
}


@pytest.mark.parametrize(("refused", "remedy"), WHO_PAYS.values(), ids=WHO_PAYS)
def test_who_pays_and_who_may_is_known_before_any_training(
    reconcile: Cli, world: World, refused: Response, remedy: str
) -> None:
    manifest(reconcile)
    world.front = refusing(refused, LIST)
    checked = on(reconcile, "doctor", "--format", "json").document["findings"]
    assert [remedy in finding["remedy"] for finding in checked if finding["check"] == "list"] == [True]

    world.front = refusing(refused, CREATE)
    answer = apply(reconcile)
    assert answer.status != 0
    assert remedy in answer.out + answer.err
    assert world.count(CREATE) == 1, "what stays refused is not repeated"
    goes_on(reconcile, world)


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
        "wait for the quota, request more at https://console.cloud.google.com/iam-admin/quotas?project=my-project, or"
        " lower spec.limits.requestsPerMinute of the target\n"
    )
    goes_on(reconcile, world)
