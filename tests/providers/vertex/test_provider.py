from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import process_time
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.responses import HTMLResponse, JSONResponse, Response

from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.model import (
    Capabilities,
    Dataset,
    Handle,
    RemoteModel,
    Resources,
    Snapshot,
    State,
    Target,
    Update,
)
from reconciler.domain.ports import Prompt, Provider
from reconciler.providers.google.auth import AccessToken, BearerAuth
from reconciler.providers.google.network import STORAGE
from reconciler.providers.vertex.metrics import MOST_POINTS, read_curve
from reconciler.providers.vertex.provider import Vertex, connect
from reconciler.providers.vertex.spec import SPEC, capabilities_of, endpoint_of
from reconciler.providers.vertex.wire import write_labels
from support.cases import each_row
from support.provider_contract import TARGET
from support.provider_samples import generation
from support.provider_service import Script, Time, error, script, settings_of
from support.provider_storage import resource
from support.provider_vertex import GONE, JOBS, NONE, WANTED, act, body_of, failure, job, jobs, name_of, vertex_of

REMOTE = Dataset(f"sha256:{'ab' * 32}", "gs://acme-data/train.jsonl", 0, generation="7", checksum="AAAAAA==")
ON_OBJECT = replace(WANTED, dataset=REMOTE)
STORED = resource(b"text")
LOOK = f"GET {JOBS}"
PLACE = JOBS.removesuffix("/tuningJobs").replace("/v1beta1/", "/v1/")
HERE = "projects/123/locations/us-central1"
NOT_THERE = error(404, "NOT_FOUND", "It does not exist.")
MADE = {
    "model": f"{HERE}/models/7@1",
    "endpoint": f"{HERE}/endpoints/8",
    "checkpoints": [
        {"checkpointId": "1", "epoch": "1", "step": "1", "endpoint": f"{HERE}/endpoints/9"},
        {"checkpointId": "2", "epoch": "2", "step": "2", "endpoint": f"{HERE}/endpoints/8"},
    ],
}


def listed_models(*models: dict[str, Any]) -> Response:
    return JSONResponse({"models": models})


def listed_endpoints(*endpoints: dict[str, Any]) -> Response:
    return JSONResponse({"endpoints": endpoints})


def model_of(number: str, version: str = "1") -> dict[str, Any]:
    return {"name": f"projects/acme-project/locations/us-central1/models/{number}", "versionId": version}


def endpoint_of_model(
    model: str, number: str, labels: dict[str, str] | None = None, created: str = "2026-01-02T00:00:00Z"
) -> dict[str, Any]:
    deployed = {"id": "1", "model": f"{HERE}/models/{model}", "modelVersionId": "1"}
    marked = write_labels(WANTED.mark) if labels is None else labels
    name = f"{HERE}/endpoints/{number}"
    return {"name": name, "labels": marked, "createTime": created, "deployedModels": [deployed]}


def test_it_is_a_provider() -> None:
    provider: Provider = vertex_of(script(NONE), Time())
    assert provider.capabilities == capabilities_of(TARGET)


def test_the_endpoints_are_those_of_the_location_unless_the_target_names_others() -> None:
    seen: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url.copy_with(query=None)))
        return httpx.Response(200, json={"generation": "7", "size": "4"} if "storage" in request.url.host else {})

    async def run() -> int:
        time, here = Time(), replace(TARGET, endpoint="", storage_endpoint="", location="europe-west4")
        transport = httpx.MockTransport(answer)
        async with connect(endpoint_of(here), here, settings_of(time, transport), capabilities_of(here)) as provider:
            await provider.list(progress=False)
            with pytest.raises(ServiceError):
                await provider.create(ON_OBJECT, ())
            return provider.requests

    assert asyncio.run(run()) == len(seen)
    there = "/v1beta1/projects/acme-project/locations/europe-west4/tuningJobs"
    assert seen[0] == f"https://europe-west4-aiplatform.googleapis.com{there}"
    assert seen[2] == f"{STORAGE}/storage/v1/b/acme-data/o/train.jsonl"


@each_row(
    ("location", "host"),
    [
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("northamerica-northeast1", "northamerica-northeast1-aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
    ],
)
def test_each_location_has_its_host(location: str, host: str) -> None:
    here = replace(TARGET, endpoint="", location=location)
    assert endpoint_of(here) == f"https://{host}"
    remote = f"projects/acme-project/locations/{location}/endpoints/1"
    elsewhere = replace(TARGET, endpoint="", location="asia-east1")
    assert SPEC.url(elsewhere, remote) == f"https://{host}/v1/{remote}"


class Hosts:
    """Services on several hosts, which answer by path, and to which hosts they were asked with a token."""

    def __init__(self, answers: dict[str, dict[str, Any]]) -> None:
        self.seen: list[str] = []
        self._answers = answers

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer ya29.secret"
        self.seen.append(f"{request.method} {request.url.copy_with(query=None)}")
        return httpx.Response(200, json=self._answers.get(request.url.path, {}))

    def run(self, target: Target, action: Callable[[Vertex], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            auth = BearerAuth(AccessToken("ya29.secret", None))
            settings = replace(settings_of(Time(), httpx.MockTransport(self)), auth=auth)
            async with connect(endpoint_of(target), target, settings, capabilities_of(target)) as provider:
                return await action(provider)

        return asyncio.run(run())


REAL = replace(TARGET, endpoint="", storage_endpoint="")
CURVE = b'{"step": 4, "epoch": 1, "/train_total_loss": 2.5}\n{"step": 8, "/train_total_loss": 1.5}\n'


class Metrics(Hosts):
    """Cloud Storage beside a list of one job, whose metrics have this address and this content."""

    def __init__(self, uri: Any, content: bytes = CURVE, size: int | None = None, status: int = 200) -> None:
        super().__init__({JOBS: {"tuningJobs": [body_of(state="RUNNING", gcsMetricsUri=uri)]}})
        self._object, self._generation = (content, size or len(content), status), 7

    def complete(self, content: bytes) -> None:
        """Complete the job, and replace its metrics."""
        (job,) = self._answers[JOBS]["tuningJobs"]
        model, endpoint = (f"projects/123/locations/us-central1/{kind}/1" for kind in ("models", "endpoints"))
        job |= {"state": "JOB_STATE_SUCCEEDED", "tunedModel": {"model": f"{model}@1", "endpoint": endpoint}}
        deployed = {"name": endpoint, "deployedModels": [{"id": "1", "model": f"{model}@1"}]}
        self._answers |= {f"{PLACE}/models": {"models": [{"name": model}]}}
        self._answers |= {f"{PLACE}/endpoints": {"endpoints": [deployed]}}
        self._object, self._generation = (content, len(content), 200), 8

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = await super().__call__(request)
        if "/storage/v1/" not in request.url.path:
            return answer
        content, size, status = self._object
        if "alt" in request.url.params:
            return httpx.Response(status, content=content, headers={"x-goog-generation": str(self._generation)})
        return httpx.Response(status, json={"generation": str(self._generation), "size": str(size)})

    def curve(self, looks: int = 1, target: Target = REAL) -> tuple[Snapshot, ...]:
        async def list_all(provider: Vertex) -> RemoteModel:
            return [(await provider.list(progress=True))[0] for _ in range(looks)][-1]

        found: RemoteModel = self.run(target, list_all)
        assert found.state is State.CREATING
        return found.snapshots

    @property
    def objects(self) -> list[str]:
        return [line for line in self.seen if "/storage/v1/" in line]


def test_a_loss_curve_is_read_from_the_bucket_of_the_target_until_it_changes() -> None:
    metrics = Metrics("gs://acme-data/jobs/1.jsonl")
    assert metrics.curve(looks=3) == (Snapshot(4, 1, 2.5), Snapshot(8, 0, 1.5))
    assert metrics.objects == [f"GET {STORAGE}/storage/v1/b/acme-data/o/jobs%2F1.jsonl"] * 4, "three looks, one read"


def test_the_last_points_are_read_when_the_job_has_completed() -> None:
    metrics = Metrics("gs://acme-data/jobs/1.jsonl")

    async def complete(provider: Vertex) -> list[RemoteModel]:
        (running,) = await provider.list(progress=True)
        metrics.complete(CURVE + b'{"step": 12, "/train_total_loss": 1.25}\n')
        return [running, *[(await provider.list(progress=True))[0] for _ in range(2)]]

    looks = metrics.run(REAL, complete)
    assert [(job.state, job.snapshots[-1].step) for job in looks] == [
        (State.CREATING, 8),
        (State.ACTIVE, 12),
        (State.ACTIVE, 12),
    ]
    assert len(metrics.objects) == 4, "a completed job is read once"


@each_row(
    "uri",
    [
        "gs://theirs/jobs/1.jsonl",
        "gs://acme-data.evil.example/1",
        "gs://acme-data@evil.example/1",
        "gs://acme-data",
        "https://evil.example/acme-data/1",
        "gs://ACME-DATA/1",
        "//evil.example/1",
        ["gs://acme-data/1"],
        7,
    ],
)
def test_metrics_elsewhere_are_not_requested_and_noticed_once(uri: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    caplog.set_level("INFO", "reconciler")
    metrics = Metrics(uri)
    assert metrics.curve(looks=2) == ()
    assert metrics.objects == []
    notices = [record.getMessage() for record in caplog.records]
    assert len(notices) == (1 if isinstance(uri, str) else 0)
    assert all(notice.endswith("it is not in the bucket of the target") for notice in notices)


def test_metrics_of_a_target_without_a_bucket_are_not_requested() -> None:
    metrics = Metrics("gs://acme-data/1")
    assert (metrics.curve(target=replace(REAL, bucket="")), metrics.objects) == ((), [])


@each_row(
    ("metrics", "requests"),
    [
        (Metrics("gs://acme-data/1", size=2**30), 2),
        (Metrics("gs://acme-data/1", status=403), 1),
        (Metrics("gs://acme-data/1", status=404), 2),
        (Metrics("gs://acme-data/1", content=b"\x1f\x8b\xff\x00"), 3),
        (Metrics("gs://acme-data/1", content=b"[" * 100_000), 3),
    ],
)
def test_metrics_that_cannot_be_used_are_no_curve_and_no_error(metrics: Metrics, requests: int) -> None:
    assert metrics.curve(looks=2) == ()
    assert len(metrics.objects) == requests


@each_row(
    ("content", "points"),
    [
        (CURVE, [(4, 1, 2.5), (8, 0, 1.5)]),
        (b'\xef\xbb\xbf[{"global_step": "2", "train_loss": "0.5", "epoch": 0.7}]', [(2, 0, 0.5)]),
        (b'{"version": [1], "metrics": [{"step": 1, "loss": 3}, {"step": 1, "loss": 2}, 7]}', [(1, 0, 2.0)]),
        (b'{"step": 1, "loss": 3}', [(1, 0, 3.0)]),
        (b'not json\n{"step": 3, "meanLoss": 1}\n{"step": 2, "meanLoss": 2}\n{"step"', [(2, 0, 2.0), (3, 0, 1.0)]),
        (b'{"step": -1, "loss": 3}\n{"step": 1, "loss": NaN}\n{"step": 1.5, "loss": 1}\n{"step": null}', []),
        (b'{"step": 1, "loss": 1e999}\n{"step": {}, "loss": []}\n' + b'{"step": ' + b"9" * 5000 + b"}", []),
        (b'{"step": 1, "loss": 3, "epoch": "many"}', [(1, 0, 3.0)]),
        (b'{"loss": [1, 2, 3], "steps": [1, 2, 3]}', []),
        (b"", []),
        (b"null", []),
        (b"7", []),
        (b'"text"', []),
        ("é\ud800".encode("utf-16", "surrogatepass"), []),
    ],
)
def test_a_curve_has_the_rows_with_a_step_and_a_loss(content: bytes, points: list[tuple[int, int, float]]) -> None:
    assert list(read_curve(content)) == [Snapshot(*point) for point in points]


def test_a_long_curve_is_cut() -> None:
    assert (
        len(
            read_curve(
                b'{"step": 1, "loss": 1}\n' * 5
                + b"".join(b'{"step": %d, "loss": 1}\n' % step for step in range(20_000))
            )
        )
        <= MOST_POINTS
    )


HOST = "https://us-central1-aiplatform.googleapis.com"
US = "https://aiplatform.us.rep.googleapis.com"
PLACE_US = PLACE.replace("us-central1", "us")


@pytest.mark.parametrize("model", ["us-central1", "us"])
def test_results_in_another_location_are_listed_once_at_its_host(model: str) -> None:
    """One list of models and one of endpoints, for many jobs."""

    def made(number: int) -> dict[str, str]:
        place = "projects/123/locations"
        return {"model": f"{place}/{model}/models/{number}@1", "endpoint": f"{place}/us/endpoints/{number}"}

    def deployed(number: int) -> dict[str, Any]:
        return {"name": made(number)["endpoint"], "deployedModels": [{"id": "1", "model": made(number)["model"]}]}

    numbers = range(1, 9)
    place = PLACE.replace("us-central1", model)
    hosts = Hosts(
        {
            JOBS: {"tuningJobs": [body_of(number, "SUCCEEDED", tunedModel=made(number)) for number in numbers]},
            f"{place}/models": {"models": [{"name": made(n)["model"].partition("@")[0]} for n in numbers]},
            f"{PLACE_US}/endpoints": {"endpoints": list(map(deployed, numbers))},
        }
    )
    found = hosts.run(REAL, lambda provider: provider.list(progress=False))
    assert {(job.state, job.deployed) for job in found} == {(State.ACTIVE, True)}
    there = HOST if model == "us-central1" else US
    assert hosts.seen == [f"GET {HOST}{JOBS}", f"GET {there}{place}/models", f"GET {US}{PLACE_US}/endpoints"]


def test_a_prompt_is_sent_to_the_host_of_its_endpoint() -> None:
    hosts = Hosts({})
    for location, host in (("us", US), ("us-central1", HOST)):
        name = f"projects/123/locations/{location}/endpoints/1"
        hosts.run(REAL, lambda provider, name=name: provider.infer(name, Prompt("x")))
        path = f"/v1/projects/acme-project/locations/{location}/endpoints/1:generateContent"
        assert set(hosts.seen) == {f"POST {host}{path}"}
        hosts.seen.clear()


@each_row(
    ("location", "serving", "place", "host"),
    [
        ("us-central1", "", "us", US),
        ("europe-west4", "", "eu", "https://aiplatform.eu.rep.googleapis.com"),
        ("us-central1", "global", "global", "https://aiplatform.googleapis.com"),
        ("us-central1", "us-central1", "us-central1", HOST),
        ("asia-east1", "", "asia-east1", "https://asia-east1-aiplatform.googleapis.com"),
    ],
)
def test_a_base_model_is_asked_where_the_models_are_served(location: str, serving: str, place: str, host: str) -> None:
    hosts = Hosts({})
    target = replace(REAL, location=location, serving_location=serving)
    path = f"projects/acme-project/locations/{place}/publishers/google/models/gemini-3.5-flash"
    hosts.run(target, lambda provider: provider.infer(provider.base_remote("gemini-3.5-flash"), Prompt("x")))
    assert hosts.seen == [f"POST {host}/v1/{path}:generateContent"]


@each_row(
    "name", ["", "..", ".", "x/../../y", "x?y", "x:y", "qwen/qwen3@qwen3-8b", "x\n", "x%2f", "models/gemini-3.5-flash"]
)
def test_a_base_model_that_no_prompt_reaches(name: str) -> None:
    hosts = Hosts({})
    with pytest.raises(ServiceError, match=r"does not answer prompts: only models of Google do; remove base from"):
        hosts.run(REAL, lambda provider: provider.infer(provider.base_remote(name), Prompt("x")))
    assert hosts.seen == []


@each_row("place", ["us-central1", "eu", "evil.com", "us/../x"])
@each_row("project", ["acme-project", "other-project"])
def test_a_base_model_elsewhere_gets_no_prompt(project: str, place: str) -> None:
    hosts = Hosts({})
    name = f"projects/{project}/locations/{place}/publishers/google/models/gemini-3.5-flash"
    with pytest.raises(ServiceError, match="invalid "):
        hosts.run(REAL, lambda provider: provider.infer(name, Prompt("x")))
    assert hosts.seen == []


HOSTILE = [
    *("evil.example.com/x?", "us.evil.example.com", "evil.com%2f", "us-central1.evil.com", "a@evil.com", "us#", "US"),
    *(
        "us-central1-a",
        "evil",
        "us-central1\n",
        "us-\u0446entral1",
        "..",
        "",
        "us/../../x",
        "eu:443",
        "xn--us-central1",
    ),
    *("europe-west4", "eu", "asia-east1", "global"),  # locations, but not of the models of this target
]


@each_row("location", HOSTILE)
@each_row("kind", ["endpoints", "models", "tuningJobs"])
def test_a_location_in_a_name_never_chooses_another_host(location: str, kind: str) -> None:
    """Names come from lockfiles, which a pull request can change, and from the service."""
    name, hosts = f"projects/acme-project/locations/{location}/{kind}/1", Hosts({})
    actions: dict[str, list[Callable[[Vertex], Awaitable[Any]]]] = {
        "endpoints": [
            lambda provider: provider.infer(name, Prompt("x")),
            lambda provider: provider.delete(Handle(name_of(1)), Resources(model=MADE["model"], endpoint=name)),
        ],
        "models": [lambda provider: provider.delete(Handle(name_of(1)), Resources(model=name))],
        "tuningJobs": [lambda provider: provider.observe(Handle(name)), lambda provider: provider.cancel(Handle(name))],
    }
    for action in actions[kind]:
        with pytest.raises(ServiceError, match=r"invalid .*expected a name like .*; fix the lockfile"):
            hosts.run(REAL, action)
    assert {httpx.URL(line.split()[1]).host for line in hosts.seen} <= {httpx.URL(HOST).host}
    pattern = capabilities_of(REAL).endpoint_pattern
    assert not re.fullmatch(pattern, f"projects/acme-project/locations/{location}/endpoints/1")


@pytest.mark.parametrize("location", ["us", "us-central1"])
def test_an_endpoint_of_another_project_is_refused_in_each_location(location: str) -> None:
    name = f"projects/other-project/locations/{location}/endpoints/1"
    hosts = Hosts({})
    with pytest.raises(ServiceError, match="invalid endpoint"):
        hosts.run(REAL, lambda provider: provider.infer(name, Prompt("x")))
    assert hosts.seen == []
    pattern = capabilities_of(REAL).endpoint_pattern
    assert not re.fullmatch(pattern, name)
    assert re.fullmatch(pattern, name.replace("other-project", "acme-project"))


@each_row(
    ("location", "serving", "accepted", "refused"),
    [
        ("us-central1", "", ["us-central1", "us"], ["us-east1", "eu", "global"]),
        ("us-central1", "us-east1", ["us-central1", "us", "us-east1"], ["us-east4", "global"]),
        ("europe-west4", "", ["europe-west4", "eu"], ["europe-west1", "us"]),
        ("asia-east1", "global", ["asia-east1", "global"], ["asia-east2", "us"]),
        ("eu", "", ["eu", "europe-west4", "europe-west1"], ["us", "us-central1", "europe-"]),
        ("us", "", ["us", "us-central1"], ["europe-west4", "us-"]),
        ("global", "", ["global", "us", "asia-east1"], ["x", "evil.com", "us-central1.x"]),
    ],
)
def test_results_are_accepted_around_the_location_of_the_job(
    location: str, serving: str, accepted: list[str], refused: list[str]
) -> None:
    target = replace(REAL, location=location, serving_location=serving)
    pattern = capabilities_of(target).endpoint_pattern
    names = [f"projects/123/locations/{place}/endpoints/1" for place in (*accepted, *refused)]
    assert [bool(re.fullmatch(pattern, name)) for name in names] == [True] * len(accepted) + [False] * len(refused)


def test_a_name_elsewhere_says_how_it_can_be_accepted() -> None:
    name = "projects/acme-project/locations/us-east1/endpoints/1"
    with pytest.raises(ServiceError) as caught:
        Hosts({}).run(REAL, lambda provider: provider.infer(name, Prompt("x")))
    assert caught.value.remedy == (
        "fix the lockfile, or set spec.servingLocation of the target to us-east1 if its models are served there"
    )


def test_a_host_of_another_location_that_does_not_respond_is_named() -> None:
    async def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def run() -> None:
        settings = settings_of(Time(), httpx.MockTransport(refuse))
        async with connect(endpoint_of(REAL), REAL, settings, capabilities_of(REAL)) as provider:
            await provider.infer("projects/acme-project/locations/us/endpoints/1", Prompt("x"))

    with pytest.raises(ServiceError, match=r"no response from aiplatform\.us\.rep\.googleapis\.com: refused"):
        asyncio.run(run())


def test_other_capabilities_can_be_given() -> None:
    time, simulated = Time(), replace(capabilities_of(TARGET), simulated=True)
    provider = connect(endpoint_of(TARGET), TARGET, settings_of(time), simulated)
    assert isinstance(provider.capabilities, Capabilities)
    assert provider.capabilities.simulated
    asyncio.run(provider.aclose())


# list and observe


def test_jobs_are_listed_by_scope_and_their_marks_are_checked() -> None:
    other = generation(name="other", base_model="gemini-3.5-flash", hyperparameters={})
    stranger = replace(other, mark=replace(other.mark, scope="acme/other"))
    unmarked = {**body_of(4), "labels": {"reconcile-scope": "mfrw2zjpnzwha"}}
    app = script(
        JSONResponse({"tuningJobs": [body_of(1), body_of(2, wanted=stranger)], "nextPageToken": "t"}),
        jobs(body_of(3, "SUCCEEDED", other, tunedModel=MADE), unmarked),
        listed_models(model_of("7")),
        listed_endpoints(endpoint_of_model("7", "8")),
    )
    found = act(app, lambda provider: provider.list(progress=True))
    assert [(model.remote, model.state) for model in found] == [
        (name_of(1), State.CREATING),
        (name_of(3), State.ACTIVE),
    ]
    assert [seen.query for seen in app.seen] == [
        {"filter": "labels.reconcile-scope=mfrw2zjpnzwha", "pageSize": "100"},
        {"filter": "labels.reconcile-scope=mfrw2zjpnzwha", "pageSize": "100", "pageToken": "t"},
        {"pageSize": "100"},
        {"pageSize": "100"},
    ]
    assert app.lines[2:] == [f"GET {PLACE}/models", f"GET {PLACE}/endpoints"]


DENIED = error(403, "PERMISSION_DENIED", "No.")


@each_row(
    ("models", "endpoints", "shown"),
    [
        (listed_models(model_of("7")), listed_endpoints(endpoint_of_model("7", "8")), (State.ACTIVE, True, "8")),
        (listed_models(model_of("6")), listed_endpoints(), (State.DELETED, True, "8")),
        (listed_models(model_of("7", version="2")), listed_endpoints(), (State.DELETED, True, "8")),
        (listed_models(model_of("7")), listed_endpoints(), (State.ACTIVE, False, "8")),
        (listed_models(model_of("7")), listed_endpoints(endpoint_of_model("6", "8")), (State.ACTIVE, False, "8")),
        (
            listed_models(model_of("7")),
            listed_endpoints(endpoint_of_model("7", "9"), endpoint_of_model("7", "5", labels={})),
            (State.ACTIVE, False, "8"),
        ),
        (
            listed_models(model_of("7")),
            listed_endpoints(endpoint_of_model("7", "4"), endpoint_of_model("7", "3", created="2026-01-03T00:00:00Z")),
            (State.ACTIVE, True, "4"),
        ),
        (DENIED, DENIED, (State.ACTIVE, True, "8")),
        (listed_models(), DENIED, (State.ACTIVE, True, "8")),
    ],
    ids=[
        "there",
        "deleted",
        "other version",
        "no endpoint",
        "undeployed",
        "checkpoint or foreign",
        "again",
        "403",
        "403 later",
    ],
)
def test_a_completed_job_is_compared_with_the_lists(
    models: Response, endpoints: Response, shown: tuple[State, bool, str]
) -> None:
    app = script(jobs(body_of(1, "SUCCEEDED", tunedModel=MADE)), models, endpoints)
    (found,) = act(app, lambda provider: provider.list(progress=False))
    assert (found.state, found.deployed, found.resources.endpoint.rpartition("/")[2]) == shown


def test_thousands_of_checkpoints_are_compared_in_linear_time() -> None:
    numbers = [str(number) for number in range(3000)]
    shown = [{"checkpointId": number, "step": number, "endpoint": f"{HERE}/endpoints/{number}"} for number in numbers]
    made = {"model": f"{HERE}/models/7@1", "endpoint": f"{HERE}/endpoints/2999", "checkpoints": shown}
    endpoints = listed_endpoints(*(endpoint_of_model("7", number, labels={}) for number in numbers))
    app = script(jobs(body_of(1, "SUCCEEDED", tunedModel=made)), listed_models(model_of("7")), endpoints)
    began = process_time()
    (found,) = act(app, lambda provider: provider.list(progress=False))
    assert found.deployed_checkpoints == tuple(numbers)
    assert process_time() - began < 3


def test_jobs_without_results_cost_no_lists() -> None:
    app = script(jobs(body_of(1), body_of(2, "FAILED")))
    act(app, lambda provider: provider.list(progress=False))
    assert app.lines == [LOOK]


@each_row(
    ("made", "age", "state", "deployed"),
    [
        ({}, 59, State.CREATING, True),
        ({}, 61, State.FAILED, True),
        ({"model": MADE["model"]}, 59, State.CREATING, True),
        ({"model": MADE["model"]}, 61, State.ACTIVE, False),
    ],
)
def test_a_job_that_succeeded_without_results_is_not_ready(
    made: dict[str, str], age: int, state: State, *, deployed: bool
) -> None:
    time = Time()
    ended = (time.clock() - timedelta(seconds=age)).isoformat()
    app = script(job(1, "SUCCEEDED", endTime=ended, tunedModel=made), JSONResponse(model_of("7")))
    found = act(app, lambda provider: provider.observe(Handle(name_of(1))), time)
    assert found is not None
    assert (found.state, found.deployed) == (state, deployed)


@pytest.mark.parametrize("lost", [False, True])
def test_a_model_is_deployed_to_a_new_endpoint(*, lost: bool) -> None:
    """A lost reply leads to a look by label, and not to a second endpoint."""
    created = JSONResponse({"name": f"{HERE}/endpoints/4/operations/1", "done": True})
    empty = {**endpoint_of_model("7", "4"), "deployedModels": []}
    replies = [error(502, "", "lost"), NOT_THERE, listed_endpoints(empty)] if lost else [created]
    app = script(
        job(1, "SUCCEEDED", tunedModel=MADE),
        JSONResponse(model_of("7")),
        *[NOT_THERE] * 2,
        listed_endpoints(),
        *replies,
        JSONResponse({"name": f"{HERE}/endpoints/4/operations/2", "done": True}),
    )
    found = act(app, lambda provider: provider.update(name_of(1), Update(WANTED.mark, deploy=True)))
    assert (found.deployed, found.resources.endpoint) == (True, f"{HERE}/endpoints/4")
    (post,) = (seen for seen in app.seen if seen.line == f"POST {PLACE}/endpoints")
    assert post.json()["labels"] == write_labels(WANTED.mark)
    assert app.lines[-1] == f"POST {PLACE}/endpoints/4:deployModel"
    assert app.seen[-1].json() == {
        "deployedModel": {"model": MADE["model"], "displayName": WANTED.display_name, "checkpointId": "2"},
        "trafficSplit": {"0": 100},
    }


def test_the_models_of_others_are_every_job_that_is_not_of_this_project() -> None:
    other = generation(name="other", base_model="gemini-3.5-flash", hyperparameters={})
    stranger = replace(other, mark=replace(other.mark, scope="acme/other"))
    app = script(
        JSONResponse({"tuningJobs": [body_of(1), body_of(2, wanted=stranger)], "nextPageToken": "t"}),
        jobs({**body_of(3), "labels": {}}),
    )
    found = act(app, lambda provider: provider.list_unmanaged())
    assert [model.remote for model in found] == [name_of(2), name_of(3)]
    assert [seen.query for seen in app.seen] == [{"pageSize": "100"}, {"pageSize": "100", "pageToken": "t"}]


def test_a_list_without_end_ends_with_an_error() -> None:
    page = JSONResponse({"tuningJobs": [body_of(1)], "nextPageToken": "t"})
    assert str(failure(script(page), lambda provider: provider.list(progress=False))) == (
        f"{LOOK} returned a list without end: its page tokens repeat;"
        " check spec.location and spec.endpoint of the target: another kind of service responded"
    )


def test_a_job_is_observed_by_name_under_project_id_or_number() -> None:
    for name in (name_of(1), JOBS.removeprefix("/v1beta1/") + "/1"):
        app = script(job(1, "QUEUED"))
        found = act(app, lambda provider, name=name: provider.observe(Handle(name)))
        assert found is not None
        assert (found.remote, found.phase) == (name_of(1), "QUEUED")
        assert app.lines == [f"GET {JOBS}/1"]  # never a project number that a lockfile names


def test_what_is_gone_is_none() -> None:
    assert act(script(GONE), lambda provider: provider.observe(Handle(name_of(1)))) is None


def test_a_read_that_is_refused_otherwise_is_an_error() -> None:
    caught = failure(
        script(error(403, "PERMISSION_DENIED", "No.")), lambda provider: provider.observe(Handle(name_of(1)))
    )
    assert isinstance(caught, AccessError)
    assert caught.remedy == "ask for roles/aiplatform.user on the target's spec.project"
    told = str(failure(script(JSONResponse({})), lambda provider: provider.observe(Handle(name_of(1)))))
    assert told.startswith(f"GET {JOBS}/1 returned a body of another shape (KeyError); check spec.location")


@each_row(
    "name",
    [
        "",
        "tunedModels/m",
        "projects/123/locations/europe-west4/tuningJobs/1",
        "projects/other-project/locations/us-central1/tuningJobs/1",
        "projects/123/locations/us-central1/tuningJobs/../../../x",
        "projects/123/locations/us-central1/tuningJobs/1:cancel",
        "projects/123/locations/us-central1/tuningJobs/1?x",
    ],
)
def test_a_name_that_reaches_elsewhere_is_refused(name: str) -> None:
    app = script(GONE)
    for action in (lambda provider: provider.observe(Handle(name)), lambda provider: provider.cancel(Handle(name))):
        assert str(failure(app, action)) == (
            f"invalid tuning job {name!r}: expected a name like"
            " projects/acme-project/locations/us-central1/tuningJobs/1; fix the lockfile"
        )
    assert app.seen == []


def test_a_host_that_knows_no_jobs_is_reported() -> None:
    page = HTMLResponse("<title>Error 404 (Not Found)!!1</title>", 404)
    assert str(failure(script(page), lambda provider: provider.list(progress=False))) == (
        f"{LOOK} failed with 404 NOT_FOUND: Not Found (no error message, text/html);"
        " check spec.location, spec.project and spec.endpoint of the target"
    )


def test_a_location_whose_host_cannot_be_found_is_reported() -> None:
    async def resolve(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(str(socket.gaierror(-2, "Name or service not known")))

    async def run() -> None:
        time, wrong = Time(), replace(TARGET, endpoint="", location="us-centrall")
        async with connect(
            endpoint_of(wrong), wrong, settings_of(time, httpx.MockTransport(resolve)), capabilities_of(wrong)
        ) as provider:
            await provider.list(progress=False)

    with pytest.raises(ServiceError) as caught:
        asyncio.run(run())
    assert str(caught.value) == (
        "GET /v1beta1/projects/acme-project/locations/us-centrall/tuningJobs got no response from"
        " us-centrall-aiplatform.googleapis.com: [Errno -2] Name or service not known;"
        " check spec.location and spec.endpoint of the target, the network and the proxy settings"
    )


# cancel, update, preflight


def cancelled(*answers: Response) -> Script:
    app = script(*answers)
    act(app, lambda provider: provider.cancel(Handle(name_of(1))))
    return app


def test_a_job_is_canceled_by_name() -> None:
    app = cancelled(JSONResponse({}))
    assert (app.lines, app.seen[0].json()) == ([f"POST {JOBS}/1:cancel"], {})


@each_row("now", [GONE, job(1, "SUCCEEDED"), job(1, "CANCELLING"), job(1, "FAILED")])
def test_cancelling_what_has_ended_or_is_gone_is_no_error(now: Response) -> None:
    app = cancelled(error(400, "FAILED_PRECONDITION", "It has ended."), now)
    assert app.lines == [f"POST {JOBS}/1:cancel", f"GET {JOBS}/1"]


def test_a_training_that_cannot_be_canceled_is_reported() -> None:
    app = script(error(400, "FAILED_PRECONDITION", "Not now."), job(1, "RUNNING"))
    caught = failure(app, lambda provider: provider.cancel(Handle(name_of(1))))
    assert str(caught) == f"POST {JOBS}/1:cancel failed with 400 FAILED_PRECONDITION: Not now"


def test_nothing_can_be_updated() -> None:
    caught = failure(script(NONE), lambda provider: provider.update(name_of(1), Update(WANTED.mark)))
    assert isinstance(caught, ServiceError)
    assert caught.code == "UNIMPLEMENTED"
    assert str(caught) == (
        f"cannot change {name_of(1)}: Vertex AI does not support changes to a tuning job;"
        " undo the change in the manifest, or change its training inputs, which trains a new generation"
    )


@pytest.mark.parametrize(
    "action",
    [
        lambda provider: provider.access(name_of(1)),
        lambda provider: provider.set_access(name_of(1), (), ()),
    ],
)
def test_who_may_use_a_model_is_for_iam_to_say(action: Callable[[Vertex], Awaitable[Any]]) -> None:
    app = script(NONE)
    caught = failure(app, action)
    assert isinstance(caught, ServiceError)
    assert caught.code == "UNIMPLEMENTED"
    assert str(caught) == (
        f"{name_of(1)} has no permissions: on Vertex AI, IAM decides who can use the models of a project; remove"
        " spec.access from the manifest, and grant roles/aiplatform.user: `gcloud projects add-iam-policy-binding"
        " 123 --role=roles/aiplatform.user --member=user:ADDRESS`"
    )
    assert app.seen == []


def test_nothing_is_known_before() -> None:
    app = script(NONE)
    assert act(app, lambda provider: provider.preflight(frozenset({"x"}))) == {}
    assert app.seen == []
