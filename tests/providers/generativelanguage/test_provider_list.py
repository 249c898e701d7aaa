from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from reconciler.domain.errors import ServiceError
from reconciler.emulator.app import create_app
from support.cases import each_row
from support.provider_service import Relay, Script, Time, provider_of, script

if TYPE_CHECKING:
    from starlette.requests import Request


def failure(app: Script) -> str:
    with pytest.raises(ServiceError) as caught:
        asyncio.run(provider_of(app, Time()).list(progress=False))
    return str(caught.value)


def pages(*shown: tuple[list[str], str]) -> list[Response]:
    return [
        JSONResponse({"tunedModels": [{"name": f"tunedModels/{name}"} for name in names], "nextPageToken": token})
        for names, token in shown
    ]


def listed(app: Script) -> list[str]:
    return [found.remote for found in asyncio.run(provider_of(app, Time()).list(progress=False))]


def test_all_pages_of_any_size_are_read() -> None:
    app = script(*pages((["a", "b"], "t1"), ([], "t2"), (["c"], "t3")), JSONResponse({}))
    assert listed(app) == ["tunedModels/a", "tunedModels/b", "tunedModels/c"]
    assert [seen.query.get("pageToken") for seen in app.seen] == [None, "t1", "t2", "t3"]
    assert {seen.query["pageSize"] for seen in app.seen} == {"1000"}


def test_a_model_that_moves_between_pages_counts_once() -> None:
    assert listed(script(*pages((["a", "b"], "t1"), (["b", "c"], "")))) == [
        "tunedModels/a",
        "tunedModels/b",
        "tunedModels/c",
    ]


def test_a_server_may_ignore_the_field_mask() -> None:
    full = {"name": "tunedModels/a", "state": "ACTIVE", "readerProjectNumbers": ["1"], "later": {"unknown": []}}
    assert listed(script(JSONResponse({"tunedModels": [full], "kind": "list"}))) == ["tunedModels/a"]


ENDLESS = (
    "GET /v1beta3/tunedModels returned a list without end: its page tokens repeat; check"
    " spec.endpoint of the target: another kind of service responded"
)


def test_a_repeated_page_token_ends_the_list_with_an_error() -> None:
    app = script(*pages((["a"], "t1"), (["b"], "t2"), (["c"], "t1")))
    assert failure(app) == ENDLESS
    assert len(app.seen) == 3


def test_pages_without_end_end_with_an_error() -> None:
    def answer(request: Request) -> Response:
        token = str(int(request.query_params.get("pageToken", "0")) + 1)
        return JSONResponse({"tunedModels": [{"name": "tunedModels/a"}], "nextPageToken": token})

    assert failure(script(answer)) == ENDLESS


@each_row("body", [{"tunedModels": [{}]}, {"tunedModels": [5]}, {"tunedModels": 5}])
def test_a_list_of_another_shape_is_reported(body: Any) -> None:
    told = failure(script(JSONResponse(body)))
    assert told.startswith("GET /v1beta3/tunedModels returned a body of another shape (")


def test_a_thousand_models_are_a_request(tmp_path: Path) -> None:
    world, time = tmp_path / "world.json", Time()
    models = [{"name": f"tunedModels/m{number}", "state": "ACTIVE"} for number in range(2001)]
    world.write_text(json.dumps({"tunedModels": models}), encoding="utf-8")
    seeded = random.Random(1)  # noqa: S311 - made-up ids, no secret
    app = Relay(create_app(store=None, clock=time.clock, random=seeded, world=world))
    assert len(asyncio.run(provider_of(app, time).list(progress=False))) == 2001
    assert len(app.seen) == 3
