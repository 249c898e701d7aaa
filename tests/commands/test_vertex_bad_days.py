"""What goes wrong at Vertex AI, through the command line: what is said, how it exits, and that the next run goes on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec import convert

from reconciler.emulator.faults import FaultInjector, Faults
from support.cli_world import Cli
from support.vertex_fronts import Json, altering, emptied, line_of, losing_reply, refusal, refusing
from support.vertex_runs import apply, goes_on, manifest, on, states
from support.vertex_world import BUCKET, CREATE, ENDPOINTS, JOBS, OBJECTS, PROJECT, UPLOAD, World, aim, lock_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LIST = f"GET {JOBS}"
AGENT = "service-123@gcp-sa-aiplatform.iam.gserviceaccount.com"
NO_READING = f"{AGENT} does not have storage.objects.get access to the Google Cloud Storage object."
GRANT = (
    "grant the account that the service names (Vertex AI's service agent, or spec.vertex.serviceAccount)"
    " roles/storage.objectViewer on the bucket of the data set: `gcloud storage buckets add-iam-policy-binding"
)


FOREIGN = (
    "failed with 403 PERMISSION_DENIED: me@example.com does not have storage.objects.get access (or it may not"
    f" exist); ask for roles/storage.objectUser on gs://{BUCKET} for your account, or use another bucket if"
    " it belongs to another project: bucket names are global\n"
)
MISSING = (
    "failed with 404 NOT_FOUND: The specified bucket does not exist; fix the name of the bucket, or create it:"
    f" `gcloud storage buckets create gs://{BUCKET} --location=LOCATION --project={PROJECT}`\n"
)


def test_a_create_without_access_to_the_data_leaves_nothing(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    foreign = refusal(403, "", "me@example.com does not have storage.objects.get access (or it may not exist).")
    missing = refusal(404, "", "The specified bucket does not exist.")
    agent = refusal(400, "FAILED_PRECONDITION", f"Service account {NO_READING}")
    look = f"GET {OBJECTS}/data%2Freconcile%2F"
    refused_create = f"{CREATE} failed with 400 FAILED_PRECONDITION: Service account {NO_READING[:-1]}; {GRANT}"
    assert on(reconcile, "plan").status == 0, "data sets are uploaded by apply alone"
    for response, lines, status, at, said in (
        (foreign, (f"GET {OBJECTS}", f"POST {UPLOAD}"), 3, look, FOREIGN),
        (missing, (f"GET {OBJECTS}", f"POST {UPLOAD}"), 1, look, MISSING),
        (agent, (CREATE,), 1, "", refused_create),
    ):
        world.front = refusing(response, *lines)
        answer = apply(reconcile)
        assert answer.status == status, answer.out
        assert f"adder  refused: {at}" in answer.out
        assert said in answer.out
        assert states(reconcile) == [], "nothing can have been created, and the lockfile says so"
    assert world.jobs() == []


def test_a_service_agent_without_its_role_lets_the_job_fail(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    manifest(reconcile, "other", multiplier=2)

    def unreadable(job: Json) -> Json:
        if job["labels"]["reconcile-name"] != "adder" or job["labels"]["reconcile-attempt"] != "0":
            return job
        error = {"code": 7, "message": NO_READING}
        kept = {name: value for name, value in job.items() if name != "tunedModel"}
        return {**kept, "state": "JOB_STATE_FAILED", "endTime": job["createTime"], "error": error}

    world.front = altering(unreadable)
    answer = apply(reconcile)

    assert answer.status == 1
    assert f"adder  failed: {NO_READING[:-1]}; {GRANT}" in answer.out
    assert "change the inputs, or train it again with --retry adder" in answer.out
    assert "other  ready: " in answer.out
    assert GRANT in on(reconcile, "status").out
    held = apply(reconcile)
    assert held.status == 1
    assert f"adder  held (Failed): {NO_READING[:-1]}; {GRANT}" in held.out
    assert world.count(CREATE) == 2, "nothing is trained again by itself"


def queued(job: Json) -> Json:
    kept = {name: value for name, value in job.items() if name in {"name", "labels", "createTime", "baseModel"}}
    return {**kept, "state": "JOB_STATE_QUEUED"}


def test_a_job_that_is_queued_for_hours(reconcile: Cli, world: World) -> None:
    manifest(reconcile, more="  lifecycle: {timeout: 3h}\n")
    world.front = altering(queued)
    started = apply(reconcile, "--no-wait")
    assert started.status == 0, started.err

    reconcile.clock.now += timedelta(hours=2)
    waited = on(reconcile, "wait", "--timeout", "1m")
    said = (
        "the service has shown it as QUEUED for 2.0 hours: its location may be short of capacity, or the project's"
        " quota of tuning jobs used up; wait, ask for quota, or cancel the job and choose another location"
    )
    assert waited.status == 4
    assert f"adder  still training: {said}" in waited.out
    assert "run `reconcile wait --target vertex` to wait for the result" in waited.out
    assert said in on(reconcile, "plan").out
    assert ", QUEUED" in on(reconcile, "status", "--live").out

    reconcile.clock.now += timedelta(minutes=58)
    ended = on(reconcile, "wait")
    assert ended.status == 1
    assert f"adder  held (DeadlineExceeded): {said.replace('2.0', '3.0')}; " in ended.out
    assert "reconcile does not wait for adder-" in ended.out
    assert apply(reconcile).status == 1
    assert [job["state"] for job in world.jobs()] == ["JOB_STATE_SUCCEEDED"], "nothing was cancelled"
    goes_on(reconcile, world)


def test_a_job_canceled_during_the_wait(reconcile: Cli, slow: World) -> None:
    reconcile.clock.least = 5
    manifest(reconcile)

    def cancel(now: datetime) -> None:
        if now.second >= 6 and slow.jobs("PENDING", "RUNNING"):
            slow.cancel(slow.jobs()[0])

    reconcile.clock.on_move = cancel
    answer = apply(reconcile)
    reconcile.clock.on_move = lambda _now: None

    said = "the training was canceled at the service; change the inputs, or train it again with --retry adder"
    assert answer.status == 1
    assert "adder  canceled: adder-" in answer.err
    assert f"adder  failed: {said}" in answer.out
    assert states(reconcile) == ["CANCELLED"]
    again = apply(reconcile)
    assert again.status == 1
    assert f"adder  held (Cancelled): {said}" in again.out
    goes_on(reconcile, slow, "--retry", "adder", jobs=2)
    assert states(reconcile) == ["ACTIVE", "CANCELLED"]


def test_a_job_canceled_between_runs(reconcile: Cli, slow: World) -> None:
    manifest(reconcile)
    apply(reconcile, "--no-wait")
    slow.cancel(slow.jobs()[0])

    planned = on(reconcile, "plan")
    assert planned.status == 1
    assert "! adder                held: Cancelled" in planned.out
    assert "the training was canceled at the service" in planned.out
    assert states(reconcile) == ["CREATING"], "a plan records nothing"
    waited = on(reconcile, "wait")
    assert waited.status == 1
    assert "adder  failed: the training was canceled at the service" in waited.out


def test_a_training_that_diverges(reconcile: Cli, world: World) -> None:
    manifest(reconcile, multiplier=5000)

    answer = apply(reconcile)

    assert answer.status == 1
    assert "adder  failed: Tuning failed: the mean loss is not a number at step " in answer.out
    assert "adder  held (Failed): Tuning failed" in apply(reconcile).out
    manifest(reconcile, multiplier=1)
    goes_on(reconcile, world, jobs=2)
    assert states(reconcile) == ["ACTIVE", "FAILED"]


def test_only_an_unknown_outcome_leaves_an_intent(reconcile: Cli, world: World) -> None:
    """Each answer by itself: ``tests/providers/google/test_http.py``."""
    manifest(reconcile)
    for first, last, recorded in ((429, 403, []), (500, 429, ["INTENDED"])):
        refused = refusing(refusal(last, "", "No."), CREATE)
        before = refusing(refusal(first, "", "No."), CREATE, times=1)
        world.front = lambda app, before=before, refused=refused: before(refused(app))
        assert apply(reconcile).status in {1, 3}
        assert states(reconcile) == recorded
    goes_on(reconcile, world)


def test_a_lost_reply_and_an_expired_token_lead_to_one_training(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    lost = losing_reply(CREATE)
    expired = refusing(refusal(401, "UNAUTHENTICATED", "Expired."), LIST, CREATE)
    created = False

    def front(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal created
            before, created = created, created or line_of(scope) == CREATE
            await (expired if before else lost)(app)(scope, receive, send)

        return answer

    world.front = front
    assert apply(reconcile).status == 3
    assert states(reconcile) == ["INTENDED"]
    assert len(world.jobs()) == 1
    goes_on(reconcile, world)


LOST = {"fault": "status", "status": 502, "executed": True, "method": "POST", "count": 1}
PAGE = {"fault": "status", "html": True, "status": 200, "count": 2}


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ([LOST, {"fault": "lag", "seconds": 12}], 0),
        (
            [
                PAGE,
                {"fault": "truncate", "skip": 4, "count": 2},
                {"fault": "replace", "field": "tuningStepCount", "value": -5},
                {"fault": "replace", "field": "epoch", "value": "NaN"},
                {"fault": "remove", "field": "checkpointId"},
            ],
            0,
        ),
        ([{"fault": "failTraining"}], 1),
    ],
)
def test_faults_end_in_one_job_and_a_valid_lockfile(
    reconcile: Cli, world: World, rules: list[Json], status: int
) -> None:
    manifest(reconcile)
    app, injectors = world.app, []
    for rule in rules:
        faults = convert({"kind": "Faults", "version": 1, "rules": [{"path": "*/tuningJobs*", **rule}]}, Faults)
        app = FaultInjector(app, faults, clock=reconcile.clock, sleep=reconcile.clock.sleep)
        injectors.append(app)
    world.front = lambda _app: app

    answer = apply(reconcile)

    assert (answer.status, len(world.jobs())) == (status, 1), answer.out + answer.err
    assert states(reconcile) == ["FAILED" if status else "ACTIVE"]
    assert on(reconcile, "status").status == 0, "the lockfile can be read"
    assert all(any(injector.fired.values()) for injector in injectors)


def test_a_list_without_end_is_one_message_and_is_not_repeated(reconcile: Cli, world: World) -> None:
    manifest(reconcile)
    rules = [{"path": "*/tuningJobs", "fault": "repeatPage"}]
    faults = convert({"kind": "Faults", "version": 1, "rules": rules}, Faults)
    for arguments in (("apply", "--yes"), ("plan", "--format", "json")):
        injector = FaultInjector(world.app, faults, clock=reconcile.clock, sleep=reconcile.clock.sleep)
        world.front = lambda _app, injector=injector: injector

        answer = on(reconcile, *arguments)

        assert answer.status == 1
        assert answer.document["kind"] == "Error" if "json" in arguments else not answer.out
        assert answer.err.splitlines()[-1] == (
            f"Error: {LIST} returned a list without end: its page tokens repeat; "
            "check spec.location and spec.endpoint of the target: another kind of service responded"
        )
        assert sum(injector.fired.values()) == 2


PLACE = JOBS.removesuffix("/tuningJobs").replace("/v1beta1/", "/v1/")
LISTS = [LIST, f"GET {PLACE}/models", f"GET {ENDPOINTS}"]


def undeploy(world: World, *, endpoint: bool = True, model: bool = False) -> None:
    """Somebody undeploys the newest model, and deletes its endpoints and itself."""
    made = world.jobs("SUCCEEDED")[-1]["tunedModel"]
    for name in [checkpoint["endpoint"] for checkpoint in made["checkpoints"]]:
        for deployed in world.ask("GET", f"/v1/{name}")["deployedModels"]:
            body = f'{{"deployedModelId": "{deployed["id"]}"}}'.encode()
            world.ask("POST", f"/v1/{name}:undeployModel", body)
        if endpoint:
            world.ask("DELETE", f"/v1/{name}")
    if model:
        world.ask("DELETE", f"/v1/{made['model'].partition('@')[0]}")


def served(reconcile: Cli) -> Json:
    generation: Json = lock_of(reconcile, "vertex")["adder"]["generations"][0]
    return generation


def reasons(reconcile: Cli) -> list[str]:
    return [action["reason"] for action in on(reconcile, "plan", "--format", "json").document["actions"]]


def test_a_run_without_changes_lists_jobs_models_and_endpoints_once(reconcile: Cli, trained_world: World) -> None:
    world = trained_world
    manifest(reconcile, "other")
    assert apply(reconcile).status == 0
    for command, more in ((("plan",), []), (("apply", "--yes"), []), (("drift",), [LIST])):  # and unmanaged jobs
        world.lines.clear()
        assert on(reconcile, *command).status == 0
        assert world.lines == [*LISTS, *more]


def test_a_deleted_model_is_missing_and_trained_again(reconcile: Cli, trained_world: World) -> None:
    world = trained_world
    first = served(reconcile)["key"]
    undeploy(world, model=True)

    assert reasons(reconcile) == ["Missing"]
    drift = on(reconcile, "drift", "--format", "json")
    assert (drift.status, [finding["class"] for finding in drift.document["findings"]]) == (2, ["Missing"])
    assert "MISSING" in on(reconcile, "status", "--live").out
    gone = on(reconcile, "resolve", "adder", "--live")
    assert (gone.status, "the service has no model of this name" in gone.err) == (1, True)
    refreshed = on(reconcile, "refresh")
    assert "was not found at the service; run reconcile apply" in refreshed.out
    assert states(reconcile) == ["MISSING"]

    assert apply(reconcile).status == 0
    now = served(reconcile)
    assert (now["attempt"], now["state"], len(world.jobs("SUCCEEDED"))) == (1, "ACTIVE", 2)
    assert (lock_of(reconcile, "vertex")["adder"]["serving"], now["key"] != first) == (now["key"], True)
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0
    assert on(reconcile, "prompt", "adder", "3").status == 0


def test_a_model_without_an_endpoint_is_degraded_and_deployed_again(reconcile: Cli, trained_world: World) -> None:
    world = trained_world
    aim(reconcile, world.url, more="  publish: serving.json\n")
    assert apply(reconcile).status == 0
    before = served(reconcile)["resources"]["endpoint"]
    undeploy(world)

    assert reasons(reconcile) == ["Undeployed"]
    drift = on(reconcile, "drift", "--format", "json")
    assert (drift.status, [finding["class"] for finding in drift.document["findings"]]) == (2, ["Degraded"])
    assert "no endpoint has its model" in on(reconcile, "status", "--live").out
    assert "is not deployed: no endpoint has its model" in on(reconcile, "refresh").out
    unresolved = on(reconcile, "resolve", "adder", "--live")
    assert (unresolved.status, "run reconcile apply" in unresolved.err) == (1, True)
    assert on(reconcile, "apply").status != 0, "a deployment is approved like any write"
    assert reasons(reconcile) == ["Undeployed"]

    applied = apply(reconcile)
    assert applied.status == 0, applied.out
    now = served(reconcile)["resources"]["endpoint"]
    assert (now != before, len(world.jobs())) == (True, 1)
    assert f'"remote": "{now}"' in (reconcile.specs / "serving.json").read_text()
    world.lines.clear()
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0
    assert world.lines == LISTS
    assert on(reconcile, "drift").status == 0
    assert on(reconcile, "prompt", "adder", "3").status == 0


def test_a_model_that_is_undeployed_from_its_endpoint_is_deployed_there_again(
    reconcile: Cli, trained_world: World
) -> None:
    before = served(reconcile)["resources"]["endpoint"]
    undeploy(trained_world, endpoint=False)
    assert reasons(reconcile) == ["Undeployed"]
    assert apply(reconcile).status == 0
    assert (served(reconcile)["resources"]["endpoint"], len(trained_world.jobs())) == (before, 1)
    assert on(reconcile, "plan", "--detailed-exitcode").status == 0


def test_an_interrupted_deployment_goes_on_with_its_endpoint(reconcile: Cli, trained_world: World) -> None:
    world = trained_world
    undeploy(world)
    world.front = refusing(refusal(400, "FAILED_PRECONDITION", "Not now."), f"POST {ENDPOINTS}/")
    refused = apply(reconcile)
    assert (refused.status, "run `reconcile apply --target vertex` again" in refused.out) == (1, True)
    goes_on(reconcile, world)
    assert [endpoint["name"] for endpoint in world.ask("GET", ENDPOINTS)["endpoints"]] == [
        served(reconcile)["resources"]["endpoint"]
    ]


def test_lists_that_lag_or_are_denied_prove_nothing(reconcile: Cli, trained_world: World) -> None:
    for kind, line in zip(("models", "endpoints"), LISTS[1:], strict=True):
        trained_world.front = emptied(kind)
        assert reasons(reconcile) == ["InSync"], kind
        trained_world.front = refusing(refusal(403, "PERMISSION_DENIED", "No."), line)
        denied = on(reconcile, "plan", "--detailed-exitcode")
        assert (denied.status, "whether models and endpoints still exist was not checked" in denied.err) == (0, True)


def test_a_job_that_succeeds_without_an_endpoint_is_deployed_before_it_serves(reconcile: Cli, world: World) -> None:
    def hide(job: Json) -> Json:
        made = job.get("tunedModel")
        return {**job, "tunedModel": {"model": made["model"]}} if made else job

    manifest(reconcile)
    world.front = altering(hide)
    assert apply(reconcile).status == 0
    assert served(reconcile)["resources"]["endpoint"]
    assert on(reconcile, "prompt", "adder", "3").status == 0
