"""A service in memory for the contract tests, and the requests that they send."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, TypeVar

from msgspec.structs import replace

from reconciler.domain.identity import Content, dataset_digest, key_of
from reconciler.domain.model import (
    Capabilities,
    CreateRequest,
    Dataset,
    Example,
    Handle,
    Hyperparameters,
    RemoteModel,
    Sampling,
    Source,
    State,
)
from reconciler.domain.ports import Created, Prompt, Provider, Reply

T = TypeVar("T")
EXAMPLES = tuple(Example(str(number), str(number + 1)) for number in range(15))
"""The training examples of the contract: the output is the next number."""
ENOUGH_TIME = timedelta(days=1)
"""Every training of a service under test has ended after this time."""


def create_request(
    base_model: str,
    hyperparameters: Hyperparameters,
    *,
    name: str = "number-generator",
    sampling: Sampling | None = None,
    attempt: int = 0,
) -> CreateRequest:
    """Return a request to train a generation on :data:`EXAMPLES`."""
    source = Source(base_model)
    content = Content("acme/nlp", name, source, hyperparameters, dataset_digest(EXAMPLES), attempt)
    return CreateRequest(
        key=key_of(content.mark()),
        mark=content.mark(),
        source=source,
        hyperparameters=hyperparameters,
        display_name="number generator",
        description="Says the next number.",
        sampling=sampling or Sampling(),
        dataset=Dataset(content.data, "", len(EXAMPLES)),
    )


@dataclass
class Caught:
    """The error that a :func:`raises` block raised; ``None`` inside the block."""

    error: BaseException | None = None

    @property
    def code(self) -> str:
        """The code of a ServiceError; empty for other errors."""
        return str(getattr(self.error, "code", ""))


@contextmanager
def raises(kind: type[BaseException], pattern: str = "") -> Iterator[Caught]:
    """Require an error of this kind whose message contains the pattern."""
    caught = Caught()
    try:
        yield caught
    except kind as error:
        caught.error = error
    if caught.error is None:
        raise AssertionError(f"expected {kind.__name__}")
    if not re.search(pattern, str(caught.error)):
        raise AssertionError(f"expected a message that matches {pattern!r}: {caught.error}")


class ServiceUnderTest(ABC):
    """A service whose training takes no real time; a new one has no models.

    Several connections share the service: ``provider`` returns a new one each time. A tuned model answers an input of
    :data:`EXAMPLES` with its output.

    Attributes:
        base_model: A base model that can be tuned.
        hyperparameters: Valid hyperparameters.
        values: Valid values of the hyperparameters that are not numbers.
        conditional: Hyperparameters that only other base models or methods take.
        diverging: Hyperparameters with which a training fails, with a message that contains ``failure``.
        steps: The steps of a training with ``hyperparameters``; ``None`` if the service does not report them.
        curves: Whether the service reports loss curves.
        blocked: A prompt that the service blocks for the reason SAFETY; empty if it blocks none.
        refusal: A pattern of the message of a request that the service refuses with "not found" or "invalid".
    """

    base_model: str
    hyperparameters: ClassVar[Hyperparameters]
    values: ClassVar[Hyperparameters] = {}
    conditional: ClassVar[frozenset[str]] = frozenset()
    diverging: ClassVar[Hyperparameters]
    failure: ClassVar[str] = ""
    steps: ClassVar[int | None] = None
    curves: ClassVar[bool] = False
    blocked: ClassVar[str] = ""
    refusal: ClassVar[str] = ""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def clock(self) -> datetime:
        """Return the time of the service. It advances with each call, as a real clock does."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, duration: timedelta = ENOUGH_TIME) -> None:
        """Let time pass; by default enough for every training to end."""
        self.now += duration

    @abstractmethod
    def provider(self) -> AsyncIterator[Provider]:
        """Yield a connected provider, as an asynchronous generator, and close it."""

    def count_bodies(self) -> int | None:
        """Check the requests that had a body and return their number; ``None`` if the service does not check them."""
        return None

    def run(self, work: Callable[[Provider], Awaitable[T]]) -> T:
        """Return the result of work with a connection of its own."""

        async def run() -> T:
            async with asynccontextmanager(self.provider)() as provider:
                return await work(provider)

        return asyncio.run(run())

    def race(self, work: Callable[[Provider], Awaitable[T]]) -> tuple[T, T]:
        """Return the results of two runs at the same time."""

        async def run() -> tuple[T, T]:
            connect = asynccontextmanager(self.provider)
            async with connect() as first, connect() as second:
                return await asyncio.gather(work(first), work(second))

        return asyncio.run(run())

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the provider."""

        async def read(provider: Provider) -> Capabilities:
            return provider.capabilities

        return self.run(read)

    def request(
        self,
        hyperparameters: Hyperparameters | None = None,
        *,
        name: str = "number-generator",
        sampling: Sampling | None = None,
        parent: RemoteModel | None = None,
    ) -> CreateRequest:
        """Return a request for a generation, tuned from the base model or from ``parent``."""
        declared = self.hyperparameters if hyperparameters is None else hyperparameters
        request = create_request(self.base_model, declared, name=name, sampling=sampling)
        return replace(request, source=Source(remote=parent.resources.model or parent.remote)) if parent else request

    def train(self, request: CreateRequest | None = None) -> Handle:
        """Start a training."""
        created = self.run(lambda provider: provider.create(request or self.request(), EXAMPLES))
        assert isinstance(created, Created), f"{created} exists already"
        return created.handle

    def trained(self, request: CreateRequest | None = None) -> RemoteModel:
        """Train a model to its end and return it."""
        handle = self.train(request)
        self.advance()
        model = self.observe(handle)
        if model.state is not State.ACTIVE:
            raise AssertionError(f"{model.remote} is {model.state}")
        return model

    def find(self, handle: Handle) -> RemoteModel | None:
        """Return what the provider observes; ``None`` if the model does not exist."""
        return self.run(lambda provider: provider.observe(handle))

    def observe(self, handle: Handle) -> RemoteModel:
        """Return a model that must exist."""
        model = self.find(handle)
        if model is None:
            raise AssertionError(f"{handle.remote} does not exist")
        return model

    def list(self, *, progress: bool = False) -> tuple[RemoteModel, ...]:
        """Return the models that the provider lists."""
        return self.run(lambda provider: provider.list(progress=progress))

    def prompt(self, model: RemoteModel, prompt: Prompt) -> Reply:
        """Return the reply of a model, at its endpoint if it has one, without the version, which is optional."""
        reply = self.run(lambda provider: provider.infer(model.resources.endpoint or model.remote, prompt))
        return replace(reply, model_version="")
