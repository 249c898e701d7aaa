"""Prompts go to a worker, or to a server that has to show that it serves the adapter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.model import Sampling
from reconciler.domain.ports import Answer, Prompt, Reply
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.inference import Server, Worker
from reconciler.providers.local.models import AnsweringModel
from reconciler.trainer.run_files import BaseModel
from support import fake_worker

if TYPE_CHECKING:
    from starlette.requests import Request

URL = "http://127.0.0.1:8000/v1"
BASE = BaseModel(hub="acme/tiny", revision="a" * 40)
KEY = "numbers-3kq7w2ma"
ADAPTER = AnsweringModel(Path("/store/numbers-3kq7w2ma/starts/1/adapter"), KEY, BASE, 8)
COMMAND = (
    f"vllm serve acme/tiny --revision {'a' * 40} --enable-lora --lora-modules {KEY}={ADAPTER.path} --max-lora-rank 8"
)


class Vllm:
    """A server with the OpenAI API: its models, and the name with which it answers each; ``base`` has none."""

    def __init__(self, models: dict[str, dict[str, Any]], *, answered: str = "", same: bool = False) -> None:
        self.models, self.answered, self.same = models, answered, same
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.app = Starlette(
            routes=[Route("/v1/models", self.list), Route("/v1/chat/completions", self.chat, methods=["POST"])]
        )

    async def list(self, request: Request) -> JSONResponse:
        self.keys.append(request.headers.get("authorization"))
        return JSONResponse({"data": [{"id": name, **more} for name, more in self.models.items()]})

    async def chat(self, request: Request) -> JSONResponse:
        body = await request.json()
        self.asked.append(body)
        if body["model"] not in self.models:
            return JSONResponse({"error": {"message": "no such model"}}, 404)
        text = "base" if self.same or body["model"] != KEY else "4"
        choice = {"message": {"content": text}, "finish_reason": "length" if body.get("max_tokens") == 1 else "stop"}
        return JSONResponse({"model": self.answered or body["model"], "choices": [choice] * body.get("n", 1)})

    def ask(self, prompt: Prompt, model: AnsweringModel = ADAPTER, url: str = URL, key: str = "") -> Reply:
        async def run() -> Reply:
            server = Server(url, frozenset(), key, httpx.ASGITransport(self.app))
            try:
                return await server.answer(model, prompt)
            finally:
                await server.aclose()

        return asyncio.run(run())


SERVED: dict[str, dict[str, Any]] = {
    "acme/tiny": {"root": "acme/tiny", "parent": None},
    KEY: {"root": str(ADAPTER.path), "parent": "acme/tiny"},
}


def test_a_prompt_is_sent_to_the_model_with_the_key_as_its_name() -> None:
    server = Vllm(SERVED)
    prompt = Prompt("3", Sampling(0.5, 0.9, 4), candidates=2, max_tokens=1)
    assert server.ask(prompt, key="secret") == Reply((Answer("4", "MAX_TOKENS"),) * 2)
    assert server.keys == ["Bearer secret"]
    assert server.asked[-1] == {
        "model": KEY,
        "messages": [{"role": "user", "content": "3"}],
        "temperature": 0.5,
        "max_tokens": 1,
        "n": 2,
        "top_p": 0.9,
        "top_k": 4,
    }


@pytest.mark.parametrize(("enough", "tokens"), [(None, 512), (1, 9), (10_000, 512)])
def test_an_answer_ends_where_it_can_no_longer_be_right(enough: int | None, tokens: int) -> None:
    server = Vllm(SERVED)
    server.ask(Prompt("3", enough=enough))
    assert server.asked[-1]["max_tokens"] == tokens


def test_the_base_model_answers_by_its_own_name() -> None:
    assert Vllm(SERVED).ask(Prompt("3"), AnsweringModel(None, "base:x", BASE)) == Reply((Answer("base"),))


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (Vllm({"acme/tiny": {}}), f"{URL} does not serve {KEY}: it serves acme/tiny; start the server with it, as in:"),
        (
            Vllm({**SERVED, KEY: {"root": "/other/adapter", "parent": "acme/tiny"}}),
            f"{URL} serves /other/adapter as {KEY}, not {ADAPTER.path}; start",
        ),
        (
            Vllm(SERVED, same=True),
            f"{URL} answers as {KEY} exactly as it does as acme/tiny: the adapter has no effect there; read the log",
        ),
        (
            Vllm({KEY: SERVED[KEY]}, answered="acme/tiny"),
            f"{URL} answered with acme/tiny, not with {KEY}; start the server with it, as in: {COMMAND}",
        ),
    ],
    ids=["not loaded", "another adapter", "no effect", "base model"],
)
def test_a_server_without_the_adapter_is_noticed(server: Vllm, message: str) -> None:
    with pytest.raises(ServiceError) as raised:
        server.ask(Prompt("3"))
    assert str(raised.value).startswith(message)


def test_a_prompt_is_not_sent_to_a_host_that_is_not_allowed() -> None:
    server = Vllm(SERVED)
    with pytest.raises(AccessError) as raised:
        server.ask(Prompt("3"), url="https://gpu.example/v1")
    assert str(raised.value) == (
        "no prompt is sent to https://gpu.example/v1: it is not this machine; pass --allow-endpoint gpu.example if you"
        " trust this host with your prompts"
    )
    assert server.keys == []


def answers(prompts: Sequence[str], model: AnsweringModel = ADAPTER) -> list[Reply | BaseException]:
    """Ask a worker all prompts at once."""

    async def run() -> list[Reply | BaseException]:
        worker = Worker({}, Hub(), (fake_worker.__file__,))
        try:
            asked = (worker.answer(model, Prompt(text)) for text in prompts)
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await worker.aclose()

    return asyncio.run(run())


def test_a_worker_answers_waiting_prompts_at_once_and_reports_its_errors() -> None:
    texts = ["1", "refuse", *map(str, range(2, 20))]
    found = answers(texts)
    refused = [reply for reply in found if isinstance(reply, ServiceError)]
    assert len(refused) == 16  # a batch has one result
    assert {str(error) for error in refused} == {"base: no such file; name a GGUF file"}
    (reply,) = {json.dumps([answer.text for answer in reply.answers]) for reply in found if isinstance(reply, Reply)}
    assert reply == json.dumps([f"4 prompts for {ADAPTER.path}"])


def test_a_worker_that_ends_is_an_error_with_its_last_words() -> None:
    (found,) = answers(["die"])
    assert isinstance(found, ServiceError)
    assert str(found) == (
        "the worker that answers prompts has ended: out of memory; run `reconcile doctor`, which checks the libraries"
        " and the memory"
    )
