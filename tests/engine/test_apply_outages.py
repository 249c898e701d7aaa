"""A wait of hours outlives what passes: an outage, a list that lags behind a create."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from reconciler.domain.errors import ExitStatus, ServiceError
from reconciler.domain.model import State
from support.engine_world import World, answering, manifest
from support.provider_service import Time, error

if TYPE_CHECKING:
    from starlette.requests import Request


def _out_of_service(folder: Path, minutes: float) -> World:
    """From ten seconds on, for that long, the service answers 503."""
    time = Time(10)
    began = time.now + timedelta(seconds=10)

    def answer(_request: Request) -> Response | None:
        down = began <= time.now < began + timedelta(minutes=minutes)
        return error(503, "UNAVAILABLE", "The service is currently unavailable.") if down else None

    return World(folder, around=answering(answer), time=time)


def test_waiting_survives_an_outage(tmp_path: Path) -> None:
    world = _out_of_service(tmp_path, minutes=5)
    ran = world.run(manifest())
    assert ran.outcome.exit_status is ExitStatus.OK
    assert ran.happened[-2:] == ["Completed", "Promoted"]


def test_an_outage_that_lasts_too_long_ends_the_wait_and_loses_nothing(tmp_path: Path) -> None:
    world = _out_of_service(tmp_path, minutes=60)
    began = world.time.now
    with pytest.raises(ServiceError, match="currently unavailable"):
        world.run(manifest())
    assert timedelta(minutes=15) < world.time.now - began < timedelta(minutes=20)
    assert world.checkout.lock.models["numbers"].generations[0].state is State.CREATING


def test_a_created_model_can_be_missing_from_the_first_lists(tmp_path: Path) -> None:
    hidden = 3

    def answer(request: Request) -> Response | None:
        nonlocal hidden
        if request.method != "GET" or not created or not hidden:
            created.extend([request] if request.method == "POST" else [])
            return None
        if request.url.path.endswith("/tunedModels"):
            return JSONResponse({})
        hidden -= 1
        return error(404, "NOT_FOUND", "Requested entity was not found.")

    created: list[Request] = []
    ran = World(tmp_path, around=answering(answer)).run(manifest())
    assert ran.outcome.exit_status is ExitStatus.OK
    assert "Disappeared" not in ran.happened
    assert hidden == 0


def test_a_created_model_that_is_never_listed_is_missing(tmp_path: Path) -> None:
    def answer(request: Request) -> Response | None:
        if request.method != "GET":
            return None
        if request.url.path.endswith("/tunedModels"):
            return JSONResponse({})
        return error(404, "NOT_FOUND", "Requested entity was not found.")

    ran = World(tmp_path, around=answering(answer)).run(manifest())
    assert ran.happened[-1] == "Disappeared"
    assert ran.outcome.exit_status is ExitStatus.ERROR
