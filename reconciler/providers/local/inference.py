"""Answer prompts with tuned models: by a worker that keeps the model loaded, or by a server with the OpenAI API."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.domain.document import builtins_of
from reconciler.domain.endpoints import is_loopback
from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.domain.ports import Answer, Prompt, Reply
from reconciler.domain.text import join_names, sanitize
from reconciler.providers.local.capabilities import inference_of
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.models import AnsweringModel
from reconciler.providers.local.processes import package_path, trainer_environment
from reconciler.providers.local.usage import name_of, vllm_command

if TYPE_CHECKING:
    import httpx

    from reconciler.providers.spec import ProviderContext

KEY_VARIABLE: Final = "RECONCILE_INFERENCE_KEY"
MAX_BATCH: Final = 16
"""How many prompts the worker gets at once."""
DEFAULT_TOKENS: Final = 512
"""The longest answer if the prompt has no limit: a model that never ends would not stop by itself."""
_SPARE_TOKENS: Final = 8
_WORKER: Final = "reconciler.trainer.worker"
_MAX_LINE: Final = 2**26
_SHOWN_NAMES: Final = 5
_SHOWN_LINES: Final = 20
_END_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 300.0
_PROBE_TOKENS: Final = 8
_PROBES: Final = ("Hello", "1", "Write a sentence.")


def server_of(context: ProviderContext) -> Server | None:
    """Return the server that answers the prompts of a target; ``None`` if a worker of this machine does."""
    url = inference_of(context.target)
    return Server(url, context.allow_endpoints, context.env.environ.get(KEY_VARIABLE, "")) if url else None


def options_of(prompt: Prompt) -> dict[str, Any]:
    """Return how to answer a prompt; without a temperature, the most likely answer."""
    sampling = prompt.sampling
    return {
        "temperature": sampling.temperature or 0,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "candidates": prompt.candidates,
        "maxTokens": prompt.max_tokens or _longest(prompt),
    }


def _longest(prompt: Prompt) -> int:
    """Return the tokens of the longest answer of interest: a token has at least one byte, and some end the answer."""
    return DEFAULT_TOKENS if prompt.enough is None else min(DEFAULT_TOKENS, prompt.enough + _SPARE_TOKENS)


class _Question(Struct):
    """A prompt that waits for the worker."""

    adapter: AnsweringModel
    prompt: Prompt
    reply: asyncio.Future[Reply]


class Worker:
    """A process that loads models, and answers the prompts that have arrived while it was busy at once.

    It reads a request in each line, and writes a response in a line; see :mod:`reconciler.trainer.worker`. It ends when
    its standard input is closed, also if this process is killed.

    Args:
        environ: The environment of the command.
        hub: Where models of the hub come from.
        program: The arguments of Python that run the worker.
        threads: The CPU threads of the worker; more than there are cores make it slower.
    """

    def __init__(
        self, environ: Mapping[str, str], hub: Hub, program: Sequence[str] = ("-m", _WORKER), *, threads: int = 1
    ) -> None:
        self._environ = environ
        self._threads = threads
        self._hub = hub
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: deque[_Question] = deque()
        self._serving: asyncio.Task[None] | None = None
        self._lines: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._reading: asyncio.Task[None] | None = None

    async def answer(self, adapter: AnsweringModel, prompt: Prompt) -> Reply:
        """Return the reply of a model."""
        question = _Question(adapter, prompt, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await question.reply

    async def aclose(self) -> None:
        """End the process."""
        for task in filter(None, (self._serving, self._reading)):
            task.cancel()
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _serve(self) -> None:
        """Answer everything that waits; an error is the answer to all prompts of its request."""
        while self._waiting:
            batch = self._next_batch()
            try:
                replies = await self._request(batch)
            except (ReconcileError, OSError, ValueError) as error:
                failure = error if isinstance(error, ReconcileError) else _broken(sanitize(str(error)))
                for question in batch:
                    if not question.reply.done():
                        question.reply.set_exception(failure)
                continue
            for question, reply in zip(batch, replies, strict=True):
                if not question.reply.done():
                    question.reply.set_result(reply)

    def _next_batch(self) -> list[_Question]:
        """Take the next prompts of one model, in their order."""
        adapter = self._waiting[0].adapter
        batch: list[_Question] = []
        others: list[_Question] = []
        while self._waiting:
            question = self._waiting.popleft()
            fits = question.adapter == adapter and len(batch) < MAX_BATCH
            (batch if fits else others).append(question)
        self._waiting.extend(others)
        return batch

    async def _request(self, batch: Sequence[_Question]) -> list[Reply]:
        process = await self._started(batch[0].adapter)
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the worker has pipes")
        adapter = batch[0].adapter
        request = {
            "base": builtins_of(adapter.base),
            "adapter": str(adapter.path or ""),
            "prompts": [{"text": question.prompt.text, **options_of(question.prompt)} for question in batch],
        }
        process.stdin.write(json.dumps(request).encode() + b"\n")
        with suppress(ConnectionError):
            await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            status, self._process = await process.wait(), None
            reason = next((text for text in reversed(self._lines) if text.strip()), f"exit status {status}")
            raise _broken(sanitize(reason))
        response = json.loads(line)
        if error := response.get("error"):
            raise ServiceError(sanitize(error["message"]), sanitize(error["remedy"]), code="FAILED_PRECONDITION")
        return [_read_reply(answers) for answers in response["replies"]]

    async def _started(self, adapter: AnsweringModel) -> asyncio.subprocess.Process:
        if self._process is None:
            if adapter.base.hub and self._hub.fault:
                raise ServiceError(self._hub.fault.message, self._hub.fault.remedy, code="FAILED_PRECONDITION")
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                *self._program,
                env=trainer_environment(self._environ, self._hub, uses_hub=bool(adapter.base.hub))
                | {"PYTHONPATH": package_path(self._environ), "OMP_NUM_THREADS": str(self._threads)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_MAX_LINE,
                start_new_session=True,  # an interrupt in the terminal ends the command, which then ends the worker
            )
            self._reading = asyncio.create_task(self._read_errors(self._process))
        return self._process

    async def _read_errors(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last lines that the worker prints, which have the reason if it ends."""
        while process.stderr and (line := await process.stderr.readline()):
            self._lines.append(line.decode(errors="replace"))


def _broken(reason: str) -> ServiceError:
    return ServiceError(
        f"the worker that answers prompts has ended: {reason}",
        "run `reconcile doctor`, which checks the libraries and the memory",
        code="FAILED_PRECONDITION",
    )


class Server:
    """A server with the OpenAI API, which must serve each adapter under its key.

    Args:
        url: Its address, up to the version.
        allowed: Hosts that the user has allowed, besides this machine.
        key: A key of the server, or an empty string.
        transport: A transport without the network, for tests.
    """

    def __init__(
        self, url: str, allowed: frozenset[str], key: str = "", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = url
        self._allowed = allowed
        self._key = key
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._proved: dict[str, asyncio.Task[str]] = {}

    async def answer(self, adapter: AnsweringModel, prompt: Prompt) -> Reply:
        """Return the reply of the server, after it has shown that it serves the adapter."""
        if adapter.name not in self._proved:
            self._proved[adapter.name] = asyncio.create_task(self._prove(adapter))
        name = await self._proved[adapter.name]
        options = options_of(prompt)
        body = {
            "model": name,
            "messages": [{"role": "user", "content": prompt.text}],
            "temperature": options["temperature"],
            "max_tokens": options["maxTokens"],
            "n": prompt.candidates,
        }
        body |= {} if options["topP"] is None else {"top_p": options["topP"]}
        body |= {} if options["topK"] is None else {"top_k": options["topK"]}
        found = await self._post("chat/completions", body)
        answered = str(found.get("model") or "")
        if answered and answered != name:
            raise ServiceError(
                f"{self._url} answered with {sanitize(answered)}, not with {name}",
                _start(adapter),
                code="FAILED_PRECONDITION",
            )
        answers = (_read_answer(choice) for choice in found.get("choices") or ())
        return Reply(tuple(answers))

    async def models(self) -> dict[str, Mapping[str, Any]]:
        """Return the models that the server lists, by their names."""
        found = (await self._get("models")).get("data") or ()
        return {str(model.get("id")): model for model in found if isinstance(model, dict)}

    async def aclose(self) -> None:
        """Close the connections."""
        for task in self._proved.values():
            task.cancel()
        if self._client:
            await self._client.aclose()

    async def _prove(self, adapter: AnsweringModel) -> str:
        """Return the name by which the server has a model, after it was compared with its base model.

        Raises:
            ServiceError: naming what it serves in place of the model.
        """
        listed = await self.models()
        shown = adapter.name if adapter.path else name_of(adapter.base)
        model = listed.get(shown)
        if model is None:
            raise ServiceError(
                f"{self._url} does not serve {shown}: it serves {join_names(sorted(listed), _SHOWN_NAMES)}",
                _start(adapter),
                code="NOT_FOUND",
            )
        if adapter.path is None:
            return shown
        root = str(model.get("root") or "")
        if _is_other_folder(root, adapter):
            raise ServiceError(
                f"{self._url} serves {sanitize(root)} as {adapter.name}, not {adapter.path}",
                _start(adapter),
                code="FAILED_PRECONDITION",
            )
        parent = str(model.get("parent") or "")
        if not parent or parent not in listed:
            return shown
        probes = [(await self._probe(adapter.name, text), await self._probe(parent, text)) for text in _PROBES]
        if all(tuned == base for tuned, base in probes):
            raise ServiceError(
                f"{self._url} answers as {adapter.name} exactly as it does as {sanitize(parent)}: the adapter has no"
                " effect there",
                "read the log of the server: an adapter for layers that the model does not have is loaded, and ignored",
                code="FAILED_PRECONDITION",
            )
        return shown

    async def _probe(self, model: str, text: str) -> Any:
        """Return the likeliest answer to a text, with the probabilities of its tokens if the server has them."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": _PROBE_TOKENS,
            "logprobs": True,
        }
        choice: Mapping[str, Any] = next(iter((await self._post("chat/completions", body)).get("choices") or ()), {})
        tokens = (choice.get("logprobs") or {}).get("content") or ()
        return (choice.get("message") or {}).get("content"), [
            (token.get("token"), token.get("logprob")) for token in tokens
        ]

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._send("POST", path, body)

    async def _get(self, path: str) -> dict[str, Any]:
        return await self._send("GET", path)

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        import httpx

        client = self._connected()
        request = f"{method} {self._url}/{path}"
        try:
            response = await client.request(method, f"{self._url}/{path}", json=body)
        except httpx.HTTPError as error:
            raise ServiceError(
                f"{request} failed: {sanitize(str(error)) or type(error).__name__}",
                "start the server, or remove spec.local.inference from the target",
                code="UNAVAILABLE",
            ) from None
        if not response.is_success:
            raise ServiceError(
                f"{request} failed with {response.status_code}: {sanitize(response.text)}",
                "fix what the server reports",
                code=_CODES.get(response.status_code, "INTERNAL"),
            )
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServiceError(
                f"{request} did not return a JSON object",
                "set spec.local.inference.url to the address of a server with the OpenAI API, up to /v1",
                code="INTERNAL",
            )
        return found

    def _connected(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            parts = urlsplit(self._url)
            host = parts.hostname or ""
            if not (is_loopback(host) or host in self._allowed or f"{host}:{parts.port}" in self._allowed):
                raise AccessError(
                    f"no prompt is sent to {self._url}: it is not this machine",
                    f"pass --allow-endpoint {host} if you trust this host with your prompts",
                )
            headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
            self._client = httpx.AsyncClient(
                headers=headers,
                timeout=_TIMEOUT_SECONDS,
                transport=self._transport,
                trust_env=not is_loopback(host),
            )
        return self._client


def _start(model: AnsweringModel) -> str:
    return f"start the server with it, as in: {vllm_command(model)}"


def _is_other_folder(root: str, model: AnsweringModel) -> bool:
    return (
        bool(model.path) and Path(root).is_absolute() and os.path.realpath(root) != os.path.realpath(model.path or "")
    )


_CODES: Final = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_FINISH: Final = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}


def _read_reply(answers: Sequence[Mapping[str, str]]) -> Reply:
    return Reply(tuple(Answer(answer["text"], answer["finish"]) for answer in answers))


def _read_answer(choice: Mapping[str, Any]) -> Answer:
    text = (choice.get("message") or {}).get("content")
    return Answer(text if isinstance(text, str) else "", _FINISH.get(str(choice.get("finish_reason")), ""))
