"""Deleting what tuning jobs made: in which order, how an interrupted run is gone on with, and what is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.model import Checkpoint, Handle, Resources
from reconciler.providers.vertex.provider import Vertex
from support.cases import each_row
from support.provider_contract import EmbeddedVertex
from support.provider_samples import generation
from support.provider_service import Time, error
from support.provider_vertex import act, body_of, failure, name_of, vertex_over

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

HERE = "projects/123/locations/us-central1"
MODEL, LAST, FIRST = f"{HERE}/models/7", f"{HERE}/endpoints/2", f"{HERE}/endpoints/1"
MADE = Resources(
    job=name_of(1),
    model=f"{MODEL}@1",
    endpoint=LAST,
    checkpoints=(Checkpoint("1", 1, 5, FIRST), Checkpoint("2", 2, 10, LAST)),
)
DONE = {"name": f"{HERE}/operations/9", "done": True}
GONE = error(404, "NOT_FOUND", "It is not there.")


def endpoint(*deployed: Mapping[str, str]) -> dict[str, Any]:
    return {"deployedModels": list(deployed)}


def deployed(number: str = "11", model: str = MODEL, version: str = "1") -> dict[str, str]:
    return {"id": number, "model": model, "modelVersionId": version}


def versions(*numbers: str) -> dict[str, Any]:
    return {"models": [{"name": MODEL, "versionId": number} for number in numbers]}


class Lines:
    """Answers each request by its line, and each further one of the same line with the next answer, or the last."""

    def __init__(self, **answers: Any) -> None:
        self.lines: list[str] = []
        self._answers = {
            f"GET {MODEL}@1": [{"deployedModels": [{"endpoint": FIRST, "deployedModelId": "11"}]}],
            f"GET {FIRST}": [endpoint(deployed())],
            f"GET {LAST}": [endpoint()],
            f"GET {MODEL}:listVersions": [versions("1")],
        }
        self._answers |= {line: list(told) for line, told in answers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].partition("/")[2].partition("/")[2]
        assert path.startswith("projects/acme-project/"), "every request has the target's own project in its path"
        line = f"{scope['method']} {path.replace('acme-project', '123', 1)}"
        self.lines.append(line)
        told = self._answers.get(line, [DONE])
        answer = told.pop(0) if len(told) > 1 else told[0]
        response = answer if isinstance(answer, Response) else JSONResponse(answer)
        await response(scope, receive, send)

    @property
    def writes(self) -> list[str]:
        return [line for line in self.lines if not line.startswith("GET")]


def answering(answers: Mapping[str, Any] | None = None) -> Lines:
    return Lines(**(answers or {}))


async def delete(provider: Vertex, made: Resources = MADE) -> None:
    await provider.delete(Handle(name_of(1)), made)


def test_endpoints_go_before_the_model_and_the_one_that_answers_after_the_others() -> None:
    service = answering()
    act(service, delete)
    assert service.writes == [
        f"POST {FIRST}:undeployModel",
        f"DELETE {FIRST}",
        f"DELETE {LAST}",
        f"DELETE {MODEL}",
    ]


def test_a_job_that_made_nothing_costs_no_request() -> None:
    service = answering()
    act(service, lambda provider: delete(provider, Resources(job=name_of(1))))
    assert service.lines == []


def test_what_is_gone_is_passed_over() -> None:
    service = answering(
        {key: [GONE] for key in [f"GET {MODEL}@1", f"GET {FIRST}", f"GET {LAST}", f"GET {MODEL}:listVersions"]}
    )
    act(service, delete)
    assert service.writes == []


def test_what_goes_while_we_look_is_passed_over() -> None:
    service = answering({key: [GONE] for key in [f"DELETE {FIRST}", f"DELETE {LAST}", f"DELETE {MODEL}"]})
    act(service, delete)
    assert len(service.writes) == 4


def test_only_the_recorded_version_of_a_model_is_deleted() -> None:
    service = answering({f"GET {MODEL}:listVersions": [versions("1", "2")]})
    act(service, delete)
    assert service.writes[-1] == f"DELETE {MODEL}@1:deleteVersion"


def test_a_version_that_is_gone_takes_no_other_along() -> None:
    service = answering({f"GET {MODEL}:listVersions": [versions("2")]})
    act(service, delete)
    assert not [line for line in service.writes if MODEL in line]


def test_an_unknown_version_of_several_is_left_to_people() -> None:
    service = answering({f"GET {MODEL}:listVersions": [versions("1", "2")], f"GET {MODEL}": [{}]})
    made = Resources(model=MODEL, endpoint=LAST)
    caught = failure(service, lambda provider: delete(provider, made))
    assert str(caught) == (
        f"{MODEL} has several versions, and the lockfile does not record which one was trained; delete the version at"
        " the service"
    )


def test_an_endpoint_to_which_another_user_deployed_something_else_stays() -> None:
    other = deployed("12", f"{HERE}/models/8")
    service = answering({f"GET {FIRST}": [endpoint(deployed(), other)]})
    act(service, delete)
    assert service.writes == [f"POST {FIRST}:undeployModel", f"DELETE {LAST}", f"DELETE {MODEL}"]


def test_another_version_at_the_same_endpoint_is_something_else() -> None:
    service = answering({f"GET {FIRST}": [endpoint(deployed(version="2"))]})
    act(service, delete)
    assert service.writes == [f"DELETE {LAST}", f"DELETE {MODEL}"]


@pytest.mark.parametrize("version", ["1", ""])
def test_a_model_that_answers_elsewhere_too_is_left_whole(version: str) -> None:
    elsewhere = f"{HERE}/endpoints/5"
    where = {"deployedModels": [{"endpoint": elsewhere, "deployedModelId": "55"}]}
    service = answering({f"GET {MODEL}@1": [where], f"GET {elsewhere}": [endpoint(deployed("55", version=version))]})
    caught = failure(service, delete)
    assert str(caught) == (
        f"{MODEL}@1 is also deployed to {elsewhere}, which its training did not create; "
        "undeploy it from there if it is no longer used, then run `reconcile prune` again"
    )
    assert service.writes == []


def test_that_another_version_answers_elsewhere_does_not_matter() -> None:
    elsewhere = f"{HERE}/endpoints/5"
    where = {"deployedModels": [{"endpoint": elsewhere, "deployedModelId": "55"}]}
    service = answering({f"GET {MODEL}@1": [where], f"GET {elsewhere}": [endpoint(deployed("55", version="2"))]})
    act(service, delete)
    assert f"DELETE {MODEL}" in service.writes


def test_an_endpoint_goes_by_the_id_or_the_number_of_its_project() -> None:
    by_id = FIRST.replace("projects/123", "projects/acme-project")
    service = answering({f"GET {MODEL}@1": [{"deployedModels": [{"endpoint": by_id, "deployedModelId": "11"}]}]})
    act(service, delete)
    assert f"DELETE {MODEL}" in service.writes


REFUSED = error(400, "INVALID_ARGUMENT", "It is not deployed there.")


def test_that_another_run_undeployed_it_first_is_no_error() -> None:
    service = answering({f"GET {FIRST}": [endpoint(deployed()), endpoint()], f"POST {FIRST}:undeployModel": [REFUSED]})
    act(service, delete)
    assert service.writes[-1] == f"DELETE {MODEL}"


def test_what_cannot_be_undeployed_is_reported() -> None:
    caught = failure(answering({f"POST {FIRST}:undeployModel": [REFUSED]}), delete)
    assert "failed with 400 INVALID_ARGUMENT: It is not deployed there" in str(caught)


def test_who_may_not_delete_is_reported_what_to_ask_for() -> None:
    denied = error(403, "PERMISSION_DENIED", "You may not.")
    caught = failure(answering({f"DELETE {FIRST}": [denied]}), delete)
    assert isinstance(caught, AccessError)
    assert "roles/aiplatform.user" in caught.remedy


# operations


PENDING = {"name": f"{FIRST}/operations/9"}


def test_operations_are_waited_for() -> None:
    time = Time()
    service = answering(
        {
            f"POST {FIRST}:undeployModel": [PENDING],
            f"GET {FIRST}/operations/9": [PENDING, PENDING, {**PENDING, "done": True}],
        }
    )
    act(service, delete, time)
    assert service.lines.count(f"GET {FIRST}/operations/9") == 3
    assert time.naps == [0.5, 1.0, 2.0]


def test_an_operation_that_is_known_no_longer_has_ended() -> None:
    service = answering({f"POST {FIRST}:undeployModel": [PENDING], f"GET {FIRST}/operations/9": [GONE]})
    act(service, delete)
    assert service.writes[-1] == f"DELETE {MODEL}"


def test_an_operation_that_failed_is_reported() -> None:
    failed = {**PENDING, "done": True, "error": {"code": 9, "message": "It is in use."}}
    caught = failure(answering({f"DELETE {FIRST}": [failed]}), delete)
    assert str(caught) == (
        f"{FIRST}/operations/9 failed: It is in use; fix what the service reports, then run `reconcile prune` again"
    )


def test_an_operation_that_takes_for_ever_is_left_to_the_next_run() -> None:
    time = Time()
    service = answering({f"DELETE {FIRST}": [PENDING], f"GET {FIRST}/operations/9": [PENDING]})
    with pytest.raises(ServiceError, match="is still in progress; run `reconcile prune` again later"):
        act(service, delete, time)
    assert 500 < sum(time.naps) < 1000


# names and shapes


@each_row(
    "made",
    [
        Resources(model=f"{MODEL}/../../secrets/1"),
        Resources(model="projects/123/locations/elsewhere/models/7@1"),
        Resources(model="projects/other/locations/us-central1/models/7@1"),
        Resources(model=f"{MODEL}@1", checkpoints=(Checkpoint("1", 1, 5, "endpoints/1"), *MADE.checkpoints)),
    ],
)
def test_a_name_that_reaches_elsewhere_is_never_sent(made: Resources) -> None:
    service = answering()
    assert "expected a name like" in str(failure(service, lambda provider: delete(provider, made)))
    assert {line.removeprefix("GET ") for line in service.lines} <= {f"{MODEL}@1", FIRST}


@each_row(
    ("line", "answer"),
    [
        (f"GET {FIRST}", {"deployedModels": ["x"]}),
        (f"GET {MODEL}@1", {"deployedModels": [3]}),
        (f"GET {MODEL}:listVersions", {"models": [{}]}),
        (f"DELETE {FIRST}", {"error": "no"}),
    ],
)
def test_answers_of_another_shape_are_reported_as_such(line: str, answer: dict[str, Any]) -> None:
    assert "returned a body of another shape" in str(failure(answering({line: [answer]}), delete))


# observing


def test_a_job_whose_model_was_deleted_is_there_no_longer() -> None:
    done = body_of(1, "SUCCEEDED", tunedModel={"model": f"{MODEL}@1", "endpoint": LAST})

    async def observed(provider: Vertex) -> object:
        return await provider.observe(Handle(name_of(1)))

    assert act(answering({f"GET {name_of(1)}": [done]}), observed)
    assert act(answering({f"GET {name_of(1)}": [done], f"GET {MODEL}@1": [GONE]}), observed) is None


# interruptions


class Interrupted(httpx.AsyncBaseTransport):
    """Carries requests until so many have been sent, and then no answer comes back."""

    def __init__(self, app: Any, most: int) -> None:
        self.sent = 0
        self._carrier = httpx.ASGITransport(app)
        self._most = most

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        response = await self._carrier.handle_async_request(request)
        if self.sent >= self._most:
            raise asyncio.CancelledError
        return response


def test_a_run_that_is_cut_off_after_any_request_is_gone_on_with() -> None:
    for most in range(1, 40):
        service = EmbeddedVertex()
        model = service.trained(generation(base_model=service.base_model, hyperparameters={"epochCount": 2}))
        carrier = Interrupted(service.relay, most)

        async def cut_off(
            carrier: Interrupted = carrier, service: EmbeddedVertex = service, model: Any = model
        ) -> bool:
            async with vertex_over(carrier, service) as provider:
                try:
                    await provider.delete(Handle(model.remote), model.resources)
                except asyncio.CancelledError:
                    return True
            return False

        interrupted = asyncio.run(cut_off())
        service.run(lambda provider, model=model: provider.delete(Handle(model.remote), model.resources))
        assert service.run(lambda provider, model=model: provider.observe(Handle(model.remote))) is None
        assert _left(service) == 0
        if not interrupted:
            return
    raise AssertionError("a run needs fewer requests than that")


def _left(service: EmbeddedVertex) -> int:
    """How many models and endpoints there are."""

    async def ask() -> int:
        transport = httpx.ASGITransport(service.relay)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            root = "/v1/projects/acme-project/locations/us-central1"
            answers = [(await client.get(f"{root}/{kind}")).json() for kind in ("models", "endpoints")]
            return sum(len(found) for answer in answers for found in answer.values())

    return asyncio.run(ask())
