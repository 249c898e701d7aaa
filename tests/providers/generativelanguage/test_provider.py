from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from starlette.responses import HTMLResponse, JSONResponse, Response

from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.domain.identity import with_mark
from reconciler.domain.model import Failure, Handle, RemoteModel, Resources, Sampling, Snapshot, Source, State, Update
from reconciler.domain.ports import Created, Exists, Prompt, Provider
from reconciler.providers.generativelanguage.provider import GenerativeLanguage, connect
from reconciler.providers.generativelanguage.spec import VERSIONS
from support.cases import each_row
from support.provider_samples import EXAMPLES, generation, judge
from support.provider_service import ENDPOINT, Script, Time, error, provider_of, script, settings_of

WANTED = generation()
REMOTE = f"tunedModels/{WANTED.key}"
OPERATION = f"{REMOTE}/operations/o1"
GET = f"GET /v1beta3/{REMOTE}"
GET_OPERATION = f"GET /v1beta3/{OPERATION}"
POST = "POST /v1beta3/tunedModels"

BUSY = error(503, "UNAVAILABLE", "busy")
GONE = error(404, "NOT_FOUND", "Tuned model not found.")
UNSEEN = error(403, "PERMISSION_DENIED", "You do not have permission to access it or it may not exist.")
TAKEN = error(409, "ALREADY_EXISTS", "It exists.")
STARTED = JSONResponse({"name": OPERATION, "metadata": {"totalSteps": 23, "tunedModel": REMOTE}})


def body_of(state: str = "CREATING", **more: Any) -> dict[str, Any]:
    description = with_mark("Says the next number.", WANTED.mark)
    return {"name": REMOTE, "state": state, "description": description, "createTime": "2026-01-01T00:00:00Z", **more}


def model(state: str = "CREATING", **more: Any) -> Response:
    return JSONResponse(body_of(state, **more))


LISTED, UNLISTED = JSONResponse({"tunedModels": [body_of("ACTIVE")]}), JSONResponse({})


def operation(*, done: bool = False, **more: Any) -> Response:
    metadata = {"totalSteps": 23, "completedSteps": 9, "snapshots": [{"step": 9, "epoch": 1, "meanLoss": 2.5}]}
    return JSONResponse({"name": OPERATION, "metadata": metadata, **({"done": True} if done else {}), **more})


def failure(app: Script, act: Callable[[GenerativeLanguage], Any]) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        asyncio.run(act(provider_of(app, Time())))
    return caught.value


def observe(app: Script, operation_name: str | None = OPERATION) -> RemoteModel | None:
    return asyncio.run(provider_of(app, Time()).observe(Handle(REMOTE, operation_name)))


def create(app: Script, time: Time | None = None) -> Created | Exists:
    return asyncio.run(provider_of(app, time or Time()).create(WANTED, EXAMPLES))


def test_it_is_a_provider() -> None:
    provider: Provider = provider_of(script(GONE), Time())
    assert provider.capabilities is VERSIONS["v1beta3"]


def test_the_versions_differ_where_their_protos_do() -> None:
    assert {version: row.label for version, row in VERSIONS.items()} == {
        "v1beta3": "Generative Language API v1beta3",
        "v1beta": "Generative Language API v1beta",
    }
    old, new = VERSIONS["v1beta3"], VERSIONS["v1beta"]
    assert new.hyperparameters - old.hyperparameters == {"learningRateMultiplier"}
    assert (old.features, new.features - old.features) == ({"access", "basePrompts", "lineage"}, {"projectAccess"})
    assert (dict(old.defaults), dict(new.defaults)) == (
        {"epochCount": 10, "batchSize": 16},
        {"epochCount": 5, "batchSize": 4},
    )


# observe


@pytest.mark.parametrize("answer", [GONE, UNSEEN])
def test_what_is_not_there_or_not_for_us_is_none(answer: Response) -> None:
    app = script(answer)
    assert observe(app) is None
    assert app.lines == [GET]


def test_a_403_about_the_project_is_no_absence() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"}
    app = script(error(403, "PERMISSION_DENIED", "Disabled.", info))
    caught = failure(app, lambda provider: provider.observe(Handle(REMOTE)))
    assert isinstance(caught, AccessError)
    assert str(caught).endswith("`gcloud services enable generativelanguage.googleapis.com`")


@pytest.mark.parametrize(
    ("act", "permission"),
    [
        (lambda provider: provider.update(REMOTE, Update(WANTED.mark, display_name="x")), "writer or owner permission"),
        (lambda provider: provider.delete(Handle(REMOTE), Resources()), "owner permission"),
    ],
)
def test_a_refused_change_names_the_permission(act: Callable[[GenerativeLanguage], Any], permission: str) -> None:
    caught = failure(script(UNSEEN, LISTED), act)
    assert caught.remedy == f"log in as its owner, or ask the owner for {permission} on the tuned model"


@each_row("operation", [{"name": 5}, {"name": "\ud800"}, {"name": None}, {"metadata": {"totalSteps": "x"}}])
def test_a_training_whose_operation_is_odd_has_begun(operation: dict[str, Any]) -> None:
    created = create(script(Response(json.dumps(operation), media_type="application/json")))
    assert isinstance(created, Created)
    assert created.handle.remote == REMOTE
    assert created.handle.operation in {None, "?"}
    assert created.total_steps is None


def test_a_read_that_is_refused_otherwise_is_an_error() -> None:
    told = str(
        failure(script(error(400, "INVALID_ARGUMENT", "Odd.")), lambda provider: provider.observe(Handle(REMOTE)))
    )
    assert (
        told == f"{GET} failed with 400 INVALID_ARGUMENT: Odd; fix what the service reports, then run the command again"
    )


@each_row("name", ["models/../tunedModels/x", "models/", "models/x?y", "models/x:y", "models/a/b"])
def test_a_base_model_cannot_reach_out_of_the_collection(name: str) -> None:
    app = script(model())
    assert str(failure(app, lambda provider: provider.infer(name, Prompt("x")))) == (
        f"invalid base model {name!r}: expected a name that begins with models/; fix the lockfile"
    )
    assert app.seen == []


def test_a_base_model_that_does_not_answer_has_a_remedy() -> None:
    app = script(error(404, "NOT_FOUND", "models/x is not found."))
    told = str(failure(app, lambda provider: provider.infer("models/x", Prompt("x"))))
    assert "models/x is not found; compare with the serving generation (serving: true), or remove base" in told


def test_a_model_that_serves_costs_one_request() -> None:
    app = script(model("ACTIVE"))
    found = observe(app)
    assert found is not None
    assert (found.state, found.mark, found.description) == (State.ACTIVE, WANTED.mark, "Says the next number.")
    assert app.lines == [GET]


def test_without_an_operation_the_model_is_all_there_is() -> None:
    app = script(model("CREATING"))
    found = observe(app, None)
    assert found is not None
    assert (found.state, found.total_steps) == (State.CREATING, None)
    assert app.lines == [GET]


def test_a_model_that_trains_shows_its_progress() -> None:
    app = script(model("CREATING"), operation())
    found = observe(app)
    assert found is not None
    assert (found.state, found.completed_steps, found.total_steps) == (State.CREATING, 9, 23)
    assert found.snapshots == (Snapshot(9, 1, 2.5),)
    assert found.mark == WANTED.mark
    assert app.lines == [GET, GET_OPERATION]


def test_a_training_that_failed_tells_why() -> None:
    status = {"code": 3, "message": "The loss is not a number."}
    found = observe(script(model("FAILED"), operation(done=True, error=status)))
    assert found is not None
    assert (found.state, found.failure) == (State.FAILED, Failure(3, "The loss is not a number"))
    assert (found.create_time, found.completed_steps) == ("2026-01-01T00:00:00Z", 9)


def test_an_operation_that_failed_overrules_a_model_that_lags_behind() -> None:
    found = observe(script(model("CREATING"), operation(done=True, error={"code": 8, "message": "no capacity"})))
    assert found is not None
    assert (found.state, found.failure) == (State.FAILED, Failure(8, "no capacity"))


def test_an_operation_that_ended_well_overrules_a_model_that_lags_behind() -> None:
    found = observe(script(model("CREATING"), operation(done=True, response=body_of("ACTIVE", displayName="n"))))
    assert found is not None
    assert (found.state, found.display_name, found.completed_steps) == (State.ACTIVE, "n", 23)
    assert found.snapshots == (Snapshot(9, 1, 2.5),)


@pytest.mark.parametrize("answer", [GONE, UNSEEN])
def test_a_forgotten_operation_leaves_the_model(answer: Response) -> None:
    app = script(model("FAILED"), answer)
    found = observe(app)
    assert found is not None
    assert (found.state, found.failure) == (State.FAILED, None)
    assert app.lines == [GET, GET_OPERATION]


def test_an_operation_that_is_refused_otherwise_is_an_error() -> None:
    app = script(model("CREATING"), error(400, "INVALID_ARGUMENT", "Odd."))
    told = str(failure(app, lambda provider: provider.observe(Handle(REMOTE, OPERATION))))
    assert told.startswith(f"{GET_OPERATION} failed with 400 INVALID_ARGUMENT: Odd")


@each_row("name", ["models/x", "tunedModels/../models", "tunedModels//x", "", "/etc", "tunedModels/."])
def test_a_name_cannot_reach_out_of_the_collection(name: str) -> None:
    app = script(model())
    caught = failure(app, lambda provider: provider.delete(Handle(name), Resources()))
    assert str(caught) == (
        f"invalid tuned model {name!r}: expected a name that begins with tunedModels/; fix the lockfile"
    )
    assert app.seen == []


def test_a_name_cannot_add_a_query() -> None:
    app = script(model())
    asyncio.run(provider_of(app, Time()).observe(Handle("tunedModels/a?b=c#d")))
    assert (app.seen[0].path, app.seen[0].query) == ("/v1beta3/tunedModels/a%3Fb%3Dc%23d", {})


# create


def test_a_create_sends_what_is_declared_under_its_key() -> None:
    app = script(STARTED)
    assert create(app) == Created(Handle(REMOTE, OPERATION), 23)
    assert app.lines == [POST]
    assert app.seen[0].query == {"tunedModelId": WANTED.key}
    sent = app.seen[0].json()
    assert sent["description"] == with_mark("Says the next number.", WANTED.mark)
    assert sent["tuningTask"]["hyperparameters"] == {"epochCount": 3, "batchSize": 2, "learningRate": 0.001}
    assert sent["tuningTask"]["trainingData"]["examples"]["examples"][3] == {"textInput": "3", "output": "4"}
    assert judge(app.seen, "v1beta3") == 1


def test_the_answer_to_a_create_may_be_bare() -> None:
    assert create(script(JSONResponse({}))) == Created(Handle(REMOTE, None), None)


def test_a_create_that_was_refused_for_the_rate_is_repeated_at_once_after_the_pause() -> None:
    app, time = script(error(429, "RESOURCE_EXHAUSTED", "slow down", retry_after="7"), STARTED), Time()
    assert isinstance(create(app, time), Created)
    assert app.lines == [POST, POST]
    assert time.naps == [7]


def test_a_create_whose_answer_was_lost_looks_before_it_repeats() -> None:
    app = script(BUSY, model("CREATING"))
    found = create(app)
    assert isinstance(found, Exists)
    assert found.model is not None
    assert found.model.mark == WANTED.mark
    assert app.lines == [POST, GET]


def test_a_create_that_came_to_nothing_is_repeated() -> None:
    app = script(HTMLResponse("<h1>busy</h1>", 502), GONE, STARTED)
    assert create(app) == Created(Handle(REMOTE, OPERATION), 23)
    assert app.lines == [POST, GET, POST]


def test_a_create_that_stays_in_doubt_ends_with_the_services_words() -> None:
    app = script(*[BUSY, GONE] * 5, BUSY)
    told = str(failure(app, lambda provider: provider.create(WANTED, EXAMPLES)))
    assert told.startswith(f"{POST} failed with 503 UNAVAILABLE: busy; run the command again later")
    assert app.lines == [POST, *[GET, POST] * 5]


def test_a_create_that_was_never_sent_is_no_doubt() -> None:
    class Refusing(httpx.ASGITransport):
        refused = False

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if not self.refused:
                self.refused = True
                raise httpx.ConnectError("refused")
            return await super().handle_async_request(request)

    app, time = script(STARTED), Time()
    provider = connect(ENDPOINT, "v1beta3", settings_of(time, Refusing(app)), VERSIONS["v1beta3"])
    assert isinstance(asyncio.run(provider.create(WANTED, EXAMPLES)), Created)
    assert app.lines == [POST]


def test_doubt_outlasts_a_later_refusal_for_the_rate() -> None:
    app = script(BUSY, GONE, error(429, "RESOURCE_EXHAUSTED", "slow down"), model("CREATING"))
    assert isinstance(create(app), Exists)
    assert app.lines == [POST, GET, POST, GET]


def test_an_existing_id_is_read() -> None:
    app = script(TAKEN, model("ACTIVE"))
    found = create(app)
    assert isinstance(found, Exists)
    assert found.remote == REMOTE
    assert found.model is not None
    assert found.model.state is State.ACTIVE


def test_a_taken_id_may_take_a_few_reads_to_show() -> None:
    app, time = script(TAKEN, UNSEEN, GONE, model("CREATING")), Time()
    found = create(app, time)
    assert isinstance(found, Exists)
    assert found.model is not None
    assert time.naps == [0.5, 1.0]


@pytest.mark.parametrize("answer", [UNSEEN, GONE])
def test_an_existing_id_that_stays_invisible_is_reported(answer: Response) -> None:
    app = script(TAKEN, answer)
    assert create(app) == Exists(REMOTE, None)
    assert app.lines == [POST, *[GET] * 4]


def test_an_aborted_create_is_no_taken_id() -> None:
    caught = failure(script(error(409, "ABORTED", "Race.")), lambda provider: provider.create(WANTED, EXAMPLES))
    assert isinstance(caught, ServiceError)
    assert caught.code == "ABORTED"


@each_row("code", ["NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION"])
def test_a_base_model_that_cannot_be_tuned_is_explained(code: str) -> None:
    app = script(error(400, code, "models/gemini-3.5-flash is not supported for createTunedModel."))
    assert str(failure(app, lambda provider: provider.create(WANTED, EXAMPLES))) == (
        f"{POST} failed with 400 {code}: models/gemini-3.5-flash is not supported for createTunedModel; fix what"
        " the service reports; a base model can be tuned only while it supports createTunedModel, and Google retired"
        " its last such model of this API in May 2025"
    )


PARENT = "tunedModels/parent-22222222"
CHILD = replace(WANTED, source=Source(tuned_model="parent", key="parent-22222222", remote=PARENT))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_child_is_tuned_from_its_parents_model(version: str) -> None:
    app = script(STARTED)
    assert isinstance(asyncio.run(provider_of(app, Time(), version).create(CHILD, EXAMPLES)), Created)
    sent = app.seen[0].json()
    assert (sent["tunedModelSource"], "baseModel" in sent) == ({"tunedModel": PARENT}, False)
    assert judge(app.seen, version) == 1


def test_a_parent_that_cannot_be_tuned_further_is_explained() -> None:
    app = script(error(400, "FAILED_PRECONDITION", f"{PARENT} is not ACTIVE."))
    assert str(failure(app, lambda provider: provider.create(CHILD, EXAMPLES))) == (
        f"{POST} failed with 400 FAILED_PRECONDITION: {PARENT} is not ACTIVE; fix what the service reports;"
        " a tuned model can be tuned further only while it is ready and its base model can be tuned"
    )


# update and delete


def test_an_update_patches_exactly_its_fields() -> None:
    app = script(model("ACTIVE", displayName="new"))
    update = Update(WANTED.mark, display_name="new", description="Other.", sampling=Sampling(temperature=0.0, top_k=3))
    found = asyncio.run(provider_of(app, Time()).update(REMOTE, update))
    assert found.display_name == "new"
    assert app.lines == [f"PATCH /v1beta3/{REMOTE}"]
    assert app.seen[0].query == {"updateMask": "displayName,description,temperature,topK"}
    assert app.seen[0].json() == {
        "displayName": "new",
        "description": with_mark("Other.", WANTED.mark),
        "temperature": 0.0,
        "topK": 3,
    }
    assert judge(app.seen, "v1beta3") == 1


def test_an_update_of_what_is_gone_is_an_error() -> None:
    caught = failure(script(GONE), lambda provider: provider.update(REMOTE, Update(WANTED.mark, display_name="new")))
    assert isinstance(caught, ServiceError)
    assert caught.code == "NOT_FOUND"


def delete(app: Script) -> None:
    asyncio.run(provider_of(app, Time()).delete(Handle(REMOTE), Resources()))


def test_a_model_is_deleted_by_name() -> None:
    app = script(JSONResponse({}))
    delete(app)
    assert app.lines == [f"DELETE /v1beta3/{REMOTE}"]


@each_row("answers", [[GONE], [BUSY, GONE], [BUSY, UNSEEN, UNLISTED]])
def test_deleting_what_is_gone_is_no_error(answers: list[Response]) -> None:
    app = script(*answers)
    delete(app)
    assert len(app.seen) == len(answers)


def test_a_deletion_that_is_not_allowed_is_an_access_error() -> None:
    app = script(UNSEEN, LISTED)
    assert isinstance(failure(app, lambda provider: provider.delete(Handle(REMOTE), Resources())), AccessError)


def test_a_deletion_that_is_refused_otherwise_is_an_error() -> None:
    app = script(error(400, "FAILED_PRECONDITION", "In use."))
    assert str(failure(app, lambda provider: provider.delete(Handle(REMOTE), Resources()))) == (
        f"DELETE /v1beta3/{REMOTE} failed with 400 FAILED_PRECONDITION: In use"
    )


# the whole


def test_requests_are_counted_and_the_provider_closes() -> None:
    async def run() -> int:
        async with provider_of(script(BUSY, JSONResponse({})), Time()) as provider:
            await provider.list(progress=True)
            return provider.requests

    assert asyncio.run(run()) == 2


def test_other_capabilities_can_be_given() -> None:
    simulated = replace(VERSIONS["v1beta"], label="embedded service (simulated training)", simulated=True)
    provider = provider_of(script(GONE), Time(), "v1beta", simulated)
    assert provider.capabilities is simulated
