"""Whether base models can be tuned, asked before anything is created."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from starlette.responses import JSONResponse, PlainTextResponse, Response

from reconciler.domain.errors import ServiceError
from support.base_models import GEMINI_API
from support.cases import each_row
from support.provider_service import Answer, Script, Time, error, provider_of, script

if TYPE_CHECKING:
    from starlette.requests import Request

BASE = GEMINI_API
CHAT = "models/chat-bison-001"
# legacy base models: gemini-1.5-flash-001


def model(name: str, *methods: str) -> dict[str, Any]:
    return {"name": name, "supportedGenerationMethods": ["generateText", *methods]}


def tunable(name: str) -> dict[str, Any]:
    return model(name, "createTunedModel")


def page(*models: dict[str, Any], token: str = "") -> Response:
    return JSONResponse({"models": models, "nextPageToken": token})


def catalogue(*models: dict[str, Any], hidden: tuple[dict[str, Any], ...] = ()) -> Script:
    """A service with these models; those that are ``hidden`` it shows by name alone."""

    def answer(request: Request) -> Response:
        if request.url.path.endswith("/models"):
            return page(*models)
        named = [model for model in (*models, *hidden) if request.url.path.endswith(model["name"])]
        return JSONResponse(named[0]) if named else error(404, "NOT_FOUND", "No such model.")

    return script(answer)


def verdicts(app: Script, *wanted: str) -> dict[str, str]:
    return dict(asyncio.run(provider_of(app, Time()).preflight(frozenset(wanted or {BASE}))))


def test_a_base_model_that_can_be_tuned_is_no_obstacle() -> None:
    app = catalogue(model(CHAT), tunable(BASE))
    assert verdicts(app) == {}
    assert app.lines == ["GET /v1beta3/models"]
    assert app.seen[0].query == {
        "pageSize": "1000",
        "fields": "nextPageToken,models(name,supportedGenerationMethods)",
    }


def test_every_page_is_read_and_the_list_is_asked_for_once() -> None:
    app = script(page(model(CHAT), token="2"), page(tunable(BASE)), error(500, "INTERNAL", "Not again."))

    async def run() -> None:
        provider = provider_of(app, Time())
        assert await provider.preflight(frozenset({BASE})) == {}
        assert await provider.preflight(frozenset({BASE, CHAT})) != {}
        assert await provider.tunable() == (BASE,)

    asyncio.run(run())
    assert [seen.query.get("pageToken") for seen in app.seen] == [None, "2"]


def test_where_no_base_model_can_be_tuned_it_says_what_happened_and_the_way_to_vertex_ai() -> None:
    said = verdicts(catalogue(model(BASE), model(CHAT)))[BASE]
    first, second, *target = said.splitlines()
    assert first == (
        "this service has no base model that can be tuned: Google retired the last one of this API,"
        " gemini-1.5-flash-001, in May 2025"
    )
    assert "To train the same manifests on Vertex AI" in second
    assert "spec.vertex.baseModel: gemini-3.5-flash" in second
    document = yaml.safe_load("\n".join(target))
    assert (document["kind"], document["metadata"]["name"]) == ("Target", "vertex")
    assert set(document["spec"]) == {"provider", "scope", "project", "location", "bucket"}


def test_an_unknown_base_model_of_a_service_without_tuning_has_the_same_error() -> None:
    assert verdicts(catalogue(model(CHAT)))[BASE].startswith("this service has no base model that can be tuned: ")


def test_a_base_model_without_tuning_is_reported_with_tunable_ones() -> None:
    assert verdicts(catalogue(model(CHAT), tunable(BASE), tunable("models/gemini")), CHAT) == {
        CHAT: f"{CHAT} cannot be tuned: it does not support createTunedModel; set "
        f"spec.baseModel to one of models/gemini, {BASE}"
    }


def test_a_missing_base_model_is_reported_with_a_suggestion() -> None:
    assert verdicts(catalogue(tunable("models/gemini"), tunable(BASE)), "models/gemini-3.5-flsh") == {
        "models/gemini-3.5-flsh": "no such base model: models/gemini-3.5-flsh; did you mean models/gemini-3.5-flash? "
        "set spec.baseModel to one of models/gemini, models/gemini-3.5-flash"
    }


def test_of_many_a_few_are_named() -> None:
    said = verdicts(catalogue(*(tunable(f"models/x-{number}") for number in range(8))), "models/other")
    listed = ", ".join(f"models/x-{number}" for number in range(5))
    assert said["models/other"].endswith(f"; set spec.baseModel to one of {listed} and 3 more")


def test_what_the_list_lacks_is_asked_for_by_name() -> None:
    app = catalogue(tunable(BASE), hidden=(tunable("models/hidden"), model("models/shy")))
    assert verdicts(app, "models/hidden", "models/shy", BASE).keys() == {"models/shy"}
    assert app.lines[1:] == ["GET /v1beta3/models/hidden", "GET /v1beta3/models/shy"]


@each_row(
    "answer",
    [
        error(403, "PERMISSION_DENIED", "Not for you."),
        error(404, "NOT_FOUND", "Method not found."),
        PlainTextResponse("What?", 404),
        error(501, "UNIMPLEMENTED", "Later."),
        JSONResponse({}),
        JSONResponse({"models": [{"name": BASE}]}),
    ],
)
def test_a_service_that_does_not_tell_leaves_it_to_the_create_call(answer: Answer) -> None:
    app = script(answer)
    assert verdicts(app) == {}
    assert app.lines == ["GET /v1beta3/models"]


@pytest.mark.parametrize(
    "answer", [error(403, "PERMISSION_DENIED", "Not for you."), error(501, "UNIMPLEMENTED", "Later.")]
)
def test_a_service_that_tells_of_no_single_model_is_believed_in_its_list(answer: Answer) -> None:
    said = verdicts(script(page(tunable(BASE)), answer), "models/other")
    assert said["models/other"].startswith("no such base model: models/other; ")


def test_an_outage_is_no_answer() -> None:
    for answers in ([error(503, "UNAVAILABLE", "Busy.")], [page(tunable(BASE)), error(503, "UNAVAILABLE", "Busy.")]):
        with pytest.raises(ServiceError, match=r"failed with 503 UNAVAILABLE: Busy"):
            verdicts(script(*answers), "models/other")


def test_names_from_the_service_stay_on_one_line() -> None:
    said = verdicts(catalogue(tunable("models/\x1b[2J\nfine")), "models/other")
    assert said["models/other"].endswith("set spec.baseModel to one of models/ [2J fine")
