from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from starlette.responses import JSONResponse, Response

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import CreateRequest, Dataset, Example, Handle, Source
from reconciler.domain.ports import Created, Exists
from reconciler.planning.generations import find_duplicates
from reconciler.providers.vertex.wire import read_job
from support.cases import each_row
from support.provider_contract import TARGET, EmbeddedVertex
from support.provider_samples import EXAMPLES, generation
from support.provider_service import Time, error, script
from support.provider_storage import NO_BUCKET, NO_OBJECT, resource
from support.provider_vertex import JOBS, NONE, WANTED, act, body_of, failure, job, jobs, name_of, vertex_of

if TYPE_CHECKING:
    import pytest
    from starlette.types import ASGIApp

BUSY = error(503, "UNAVAILABLE", "busy")
REMOTE = Dataset(f"sha256:{'ab' * 32}", "gs://acme-data/train.jsonl", 0, generation="7", checksum="AAAAAA==")
ON_OBJECT = replace(WANTED, dataset=REMOTE)
STORED = resource(b"text")
LOOK = f"GET {JOBS}"
STATES = ("QUEUED", "RUNNING", "PAUSED", "UPDATING", "NEW_ONE", "SUCCEEDED", "FAILED", "EXPIRED", "CANCELLED")
POST = f"POST {JOBS}"
STAT = "GET /storage/v1/b/acme-data/o/train.jsonl"


def create(app: ASGIApp, wanted: CreateRequest = ON_OBJECT, time: Time | None = None) -> Created | Exists:
    return act(app, lambda provider: provider.create(wanted, ()), time)


def refused(*answers: Response) -> ReconcileError:
    """How a create ends whose POST, after a look and a stat, is answered so."""
    return failure(script(NONE, STORED, *answers), lambda provider: provider.create(ON_OBJECT, ()))


def test_a_training_on_an_object_looks_posts_and_looks_again() -> None:
    app = script(NONE, STORED, job(1), jobs(body_of(1)))
    assert create(app) == Created(Handle(name_of(1)), None)
    assert app.lines == [LOOK, STAT, POST, LOOK]
    assert app.seen[0].query["filter"] == f"labels.reconcile-key={WANTED.key}"
    assert app.seen[2].json()["supervisedTuningSpec"]["trainingDatasetUri"] == REMOTE.path


def test_local_examples_are_uploaded_under_their_digest_first() -> None:
    service = EmbeddedVertex()
    validation = (Example("a", "b"),)
    measured = Dataset(f"sha256:{'cd' * 32}", "v.csv", 1)
    wanted = replace(WANTED, validation=measured)
    assert isinstance(service.run(lambda provider: provider.create(wanted, EXAMPLES, validation)), Created)
    spec = service.relay.seen[-2].json()["supervisedTuningSpec"]
    folder = "gs://acme-data/tuning/reconcile"
    assert spec["trainingDatasetUri"] == f"{folder}/{WANTED.dataset.digest.removeprefix('sha256:')}.jsonl"
    assert spec["validationDatasetUri"] == f"{folder}/{'cd' * 32}.jsonl"
    uploads = [seen.body for seen in service.relay.seen if seen.path.startswith("/upload/")]
    assert uploads[0].count(b"\n") == len(EXAMPLES)
    assert (
        uploads[1] == b'{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"b"}]}]}\n'
    )


def test_data_that_is_there_is_uploaded_once() -> None:
    service = EmbeddedVertex()
    for attempt in range(2):
        again = generation(base_model="gemini-3.5-flash", hyperparameters={"epochCount": 1}, attempt=attempt)
        service.train(again)
    assert len([seen for seen in service.relay.seen if seen.path.startswith("/upload/")]) == 1


def test_what_the_target_says_of_the_job_is_sent() -> None:
    app = script(NONE, STORED, job(1), jobs(body_of(1)))
    target = replace(
        TARGET, settings={"serviceAccount": "robot@p.iam.gserviceaccount.com", "kmsKeyName": "projects/p/k"}
    )

    async def run() -> None:
        async with vertex_of(app, Time(), target) as provider:
            await provider.create(ON_OBJECT, ())

    asyncio.run(run())
    sent = app.seen[2].json()
    assert sent["serviceAccount"] == "robot@p.iam.gserviceaccount.com"
    assert sent["encryptionSpec"] == {"kmsKeyName": "projects/p/k"}


@each_row("answer", [NO_OBJECT, resource(b"text", 8)])
@each_row("field", ["dataset", "validation"])
def test_an_object_that_is_not_the_planned_one_is_refused(answer: Response, field: str) -> None:
    wanted = replace(ON_OBJECT, **{field: replace(REMOTE, path="gs://acme-data/other.jsonl")})
    answers = (answer,) if field == "dataset" else (STORED, answer)
    app = script(NONE, *answers)
    caught = failure(app, lambda provider: provider.create(wanted, ()))
    what = "has been deleted" if answer is NO_OBJECT else "has changed"
    assert str(caught) == f"gs://acme-data/other.jsonl {what} since the plan was made; run the command again"
    assert POST not in app.lines


def test_a_parent_that_cannot_be_tuned_further_is_explained() -> None:
    child = replace(ON_OBJECT, source=Source(remote="projects/123/locations/us-central1/models/7@1"))
    app = script(NONE, STORED, error(400, "INVALID_ARGUMENT", "It is not supported."))
    assert str(failure(app, lambda provider: provider.create(child, ()))) == (
        f"{POST} failed with 400 INVALID_ARGUMENT: It is not supported; fix what the service reports; for the"
        " tuned models that can be tuned further, see"
        " https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/tuning"
    )


def test_what_is_known_by_its_mark_is_not_trained_again() -> None:
    app = script(jobs(body_of(3), body_of(1, "FAILED"), body_of(2, "RUNNING"), body_of(0, "CANCELLED")))
    answer = create(app)
    assert isinstance(answer, Exists)
    assert answer.remote == name_of(2)
    assert app.lines == [LOOK]


def test_what_has_the_key_alone_is_something_else() -> None:
    other = replace(WANTED, mark=replace(WANTED.mark, data=f"sha256:{'ef' * 32}"))
    app = script(jobs(body_of(1, wanted=other)), STORED, job(2), jobs(body_of(1, wanted=other), body_of(2)))
    assert create(app) == Created(Handle(name_of(2)), None)


def test_what_was_intended_is_looked_for_with_patience() -> None:
    time, intended = Time(), replace(ON_OBJECT, intended=True)
    app = script(NONE, NONE, jobs(body_of(1)))
    answer = create(app, intended, time)
    assert isinstance(answer, Exists)
    assert (app.lines, time.naps) == ([LOOK] * 3, [2, 4])
    app, time = script(*[NONE] * 6, STORED, job(1), jobs(body_of(1))), Time()
    assert create(app, intended, time) == Created(Handle(name_of(1)), None)
    assert sum(time.naps) == 60


def test_a_post_in_doubt_is_looked_for_before_another() -> None:
    time = Time()
    app = script(NONE, STORED, BUSY, NONE, jobs(body_of(1)), jobs(body_of(1)))
    answer = create(app, time=time)
    assert isinstance(answer, Exists)
    assert answer.remote == name_of(1)
    assert app.lines == [LOOK, STAT, POST, LOOK, LOOK, LOOK]


def test_a_post_in_doubt_that_left_nothing_is_repeated() -> None:
    app = script(NONE, STORED, BUSY, *[NONE] * 6, job(1), jobs(body_of(1)))
    assert create(app) == Created(Handle(name_of(1)), None)
    assert app.lines.count(POST) == 2


def test_a_post_that_was_surely_not_carried_out_is_repeated_without_a_look() -> None:
    app = script(NONE, STORED, error(429, "RESOURCE_EXHAUSTED", "slow"), job(1), jobs(body_of(1)))
    assert create(app) == Created(Handle(name_of(1)), None)
    assert app.lines == [LOOK, STAT, POST, POST, LOOK]


def test_a_list_that_lags_behind_hides_no_job_of_this_project() -> None:
    assert create(script(NONE, STORED, job(1), NONE)) == Created(Handle(name_of(1)), None)


def test_a_race_that_is_lost_cancels_of_this_project() -> None:
    app = script(NONE, STORED, job(2), jobs(body_of(2), body_of(1)), JSONResponse({}))
    answer = create(app)
    assert isinstance(answer, Exists)
    assert answer.remote == name_of(1)
    assert app.lines[-1] == f"POST {JOBS}/2:cancel"


def test_a_race_that_is_won_cancels_the_others_that_train() -> None:
    app = script(NONE, STORED, job(1), jobs(body_of(1), body_of(2), body_of(3, "FAILED")), JSONResponse({}))
    assert create(app) == Created(Handle(name_of(1)), None)
    assert app.lines[4:] == [f"POST {JOBS}/2:cancel"]


def test_what_is_ready_wins_over_what_trains_however_old() -> None:
    app = script(NONE, STORED, job(1), jobs(body_of(1), body_of(2, "SUCCEEDED")), JSONResponse({}))
    answer = create(app)
    assert isinstance(answer, Exists)
    assert answer.remote == name_of(2)
    assert app.lines[4:] == [f"POST {JOBS}/1:cancel"]


def test_a_started_job_is_returned_when_duplicates_cannot_be_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    denied = error(403, "PERMISSION_DENIED", "Permission 'aiplatform.tuningJobs.list' denied.")
    assert create(script(NONE, STORED, job(1), denied)) == Created(Handle(name_of(1)), None)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"the next run checks again for duplicates of {name_of(1)}: {LOOK} failed")


def test_a_double_that_may_not_be_canceled_does_not_hide_the_job_that_counts() -> None:
    denied = error(403, "PERMISSION_DENIED", "Permission 'aiplatform.tuningJobs.cancel' denied.")
    answer = create(script(NONE, STORED, job(2), jobs(body_of(1), body_of(2)), denied))
    assert isinstance(answer, Exists)
    assert answer.remote == name_of(1)


@given(st.lists(st.sampled_from(STATES), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=6))
def test_what_a_create_keeps_is_what_every_later_run_keeps(states: list[str], seconds: list[int]) -> None:
    there = [
        body_of(number, state, createTime=f"2026-01-01T00:00:0{second}.123456789Z")
        for number, (state, second) in enumerate(zip(states, seconds, strict=False), 1)
    ]
    app = script(NONE, STORED, job(1), jobs(*there), *[JSONResponse({}) for _ in there])
    answer = create(app)
    models = [read_job(body) for body in there]
    assert app.lines[4:] == [
        f"POST {JOBS}/{double.remote.rpartition('/')[2]}:cancel" for double, _ in find_duplicates(models)
    ]
    told = answer.handle.remote if isinstance(answer, Created) else answer.remote
    assert all(kept.remote == told for _, kept in find_duplicates(models))


def test_a_job_that_another_user_canceled_at_once_wins_no_race() -> None:
    app = script(NONE, STORED, job(1), jobs(body_of(1, "CANCELLED"), body_of(2)))
    answer = create(app)
    assert isinstance(answer, Exists)
    assert answer.remote == name_of(2)
    assert len(app.seen) == 4


def test_a_job_that_failed_at_once_was_created() -> None:
    assert create(script(NONE, STORED, job(1), jobs(body_of(1, "FAILED")))) == Created(Handle(name_of(1)), None)


def test_an_answer_that_is_no_job_is_reported() -> None:
    assert refused(JSONResponse({"done": True})).message == (f"{POST} returned a body of another shape (KeyError)")


# what is refused

AGENT = "Vertex AI Service Agent service-123@gcp-sa-aiplatform.iam.gserviceaccount.com"
NAMED = "the account that the service names (Vertex AI's service agent, or spec.vertex.serviceAccount)"


@each_row(
    ("answer", "remedy"),
    [
        (
            error(400, "INVALID_ARGUMENT", "Unsupported region for Vertex AI, select from […]"),
            "set spec.location of the target to a location",
        ),
        (
            error(400, "INVALID_ARGUMENT", "Base model x is not supported."),
            "fix what the service reports; `reconcile models`",
        ),
        (
            error(404, "NOT_FOUND", "Publisher Model x is not found."),
            "fix what the service reports; `reconcile models`",
        ),
        (
            error(400, "FAILED_PRECONDITION", f"{AGENT} does not have permission storage.objects.get"),
            f"grant {NAMED} roles/storage.objectViewer on the bucket of the data set: `gcloud storage buckets add-iam",
        ),
        (
            error(403, "PERMISSION_DENIED", f"{AGENT} does not have storage.buckets.get access."),
            "grant the account that the service names",
        ),
        (
            error(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied."),
            "grant Vertex AI's service agent roles/iam.serviceAccountTokenCreator",
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for concurrent tuning jobs."),
            "wait until another tuning job of the project has ended, or request more quota",
        ),
        (
            error(403, "PERMISSION_DENIED", "Vertex AI API has not been used in project 1 before or it is disabled."),
            "enable the API, and run the command again after a few minutes: `gcloud services enable aiplatform",
        ),
        (error(403, "PERMISSION_DENIED", "Permission denied."), "ask for roles/aiplatform.user on the target's"),
    ],
)
def test_a_create_that_is_refused_has_its_remedy(answer: Response, remedy: str) -> None:
    caught = refused(answer)
    assert caught.message.startswith(f"{POST} failed with {answer.status_code} ")
    assert caught.remedy.startswith(remedy)


def info(reason: str, **metadata: str) -> dict[str, Any]:
    """The google.rpc.ErrorInfo of a refusal."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": metadata}


AIPLATFORM = {"service": "aiplatform.googleapis.com", "consumer": "projects/415104041262"}
LOCATIONS = "gcloud org-policies describe constraints/gcp.resourceLocations --effective --project="
WHO_PAYS = {
    "API not enabled": (
        error(
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
        error(
            403,
            "PERMISSION_DENIED",
            "This API method requires billing to be enabled. Please enable billing on project #my-project by visiting"
            " https://console.developers.google.com/billing/enable?project=my-project then retry.",
            info("BILLING_DISABLED", **{**AIPLATFORM, "consumer": "projects/my-project"}),
        ),
        "`gcloud billing projects link my-project --billing-account=ACCOUNT`",
    ),
    "no location": (
        error(
            400,
            "FAILED_PRECONDITION",
            "'us-central1' violates constraint 'constraints/gcp.resourceLocations' on the resource"
            " 'projects/my-project/locations/us-central1'.",
        ),
        f"`{LOCATIONS}my-project` lists them",
    ),
    "location, in the details": (
        error(
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
        error(
            403,
            "PERMISSION_DENIED",
            "Organization Policy constraint constraints/vertexai.allowedModels violated for projects/415104041262.",
            info("ORG_RESTRICTION_VIOLATION", **AIPLATFORM),
        ),
        "`gcloud org-policies describe constraints/vertexai.allowedModels --effective --project=415104041262` shows it",
    ),
    "no quota at all": (
        error(
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
        error(
            403,
            "PERMISSION_DENIED",
            "Your application is authenticating by using local Application Default Credentials. The"
            " aiplatform.googleapis.com API requires a quota project, which is not set by default.",
            info("SERVICE_DISABLED", **{**AIPLATFORM, "consumer": "projects/764086051850"}),
        ),
        "or run `gcloud auth application-default set-quota-project PROJECT`",
    ),
    "quota project of others": (
        error(
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


def test_who_pays_and_who_may_is_a_remedy_of_reads_and_creates() -> None:
    for name, (answer, remedy) in WHO_PAYS.items():
        read = failure(script(answer), lambda provider: provider.list(progress=False))
        assert remedy in read.remedy, name
        assert remedy in refused(answer).remedy, name


def test_a_missing_bucket_is_reported() -> None:
    caught = failure(script(NONE, NO_BUCKET), lambda provider: provider.create(WANTED, EXAMPLES))
    assert caught.remedy.startswith(
        "fix the name of the bucket, or create it: `gcloud storage buckets create gs://acme"
    )
