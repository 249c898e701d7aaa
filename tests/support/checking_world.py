"""A model with answers from a function, and data sets in memory, for running checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.checks import Check, CheckResults, Evaluation, Expectation
from reconciler.domain.model import Example, Limits, Manifest, Target
from reconciler.domain.ports import Answer, Prompt, Provider, Reply
from reconciler.engine.check import CheckedGeneration, Checker
from reconciler.planning.events import Event
from support.core_strategies import DIGEST
from support.provider_fake import CAPABILITIES, FakeJobs, FakeProvider
from support.provider_service import Time

SUBJECT = CheckedGeneration("numbers-aaaaaaaa", "endpoints/1", "")
PATIENCE = 10
"""Seconds after which a test that waits for what never happens fails."""


def prompt_check(name: str = "small", prompt: str = "8", wanted: str = "9", **fields: object) -> Check:
    return replace(Check(name, prompt=prompt, expect=(Expectation("equals", (wanted,)),)), **fields)


def evaluation_check(name: str = "unseen", examples: int = 12, **fields: object) -> Check:
    """An evaluation over ``held_out`` examples."""
    return Check(name, evaluation=replace(Evaluation("held-out.csv", DIGEST, examples, minimum=0.5), **fields))


def held_out(count: int) -> Iterator[Example]:
    """Examples of which a model that adds one is always right."""
    return (Example(str(number), str(number + 1)) for number in range(count))


def successor(prompt: Prompt) -> Reply:
    """What a perfect model of numbers says."""
    return Reply((Answer(str(int(prompt.text) + 1)),) * prompt.candidates)


class Oracle(FakeProvider):
    """Answers with a function; records the prompts and the largest number of concurrent ones.

    With ``together`` no prompt is answered before so many were sent. ``patience`` are turns of the others that the
    answer to the n-th prompt takes. ``others`` are the answers of other models by remote name, the base model's
    ``base/NAME`` among them.
    """

    def __init__(
        self,
        answer: Callable[[Prompt], Reply] = successor,
        *,
        together: int = 1,
        patience: Callable[[int], int] = lambda _: 1,
        keeps_sampling: bool = False,
        others: Mapping[str, Callable[[Prompt], Reply]] = MappingProxyType({}),
    ) -> None:
        super().__init__(FakeJobs(Time().clock))
        self.capabilities = replace(CAPABILITIES, mutable=frozenset({"sampling"} if keeps_sampling else ()))
        self.asked: list[tuple[str, Prompt]] = []
        self.under_way = 0
        self.most = 0
        self.barrier = asyncio.Barrier(together)
        self._answer = answer
        self._others = others
        self._patience = patience

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        self.asked.append((remote, prompt))
        with self._counted():
            await self.barrier.wait()
            for _ in range(self._patience(len(self.asked))):
                await asyncio.sleep(0)
            return self._others.get(remote, self._answer)(prompt)

    def base_remote(self, base_model: str) -> str:
        return f"base/{base_model}"

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            yield
        finally:
            self.under_way -= 1


class HeldOut(Struct, dict=True):
    """Counts how many examples were read; ``fault`` is raised at the end of the data set."""

    fault: Exception | None = None
    read: int = 0

    def training(self, _: Manifest) -> Iterable[Example]:
        return ()

    def validation(self, _: Manifest) -> Iterable[Example]:
        return ()

    def places(self, _: Manifest, numbers: Collection[int], *, validation: bool = False) -> dict[int, str]:
        return dict.fromkeys(numbers, f"validation: {validation}")

    def held_out(self, _: Manifest, check: Check) -> Iterator[Example]:
        assert check.evaluation
        for example in held_out(check.evaluation.examples):
            self.read += 1
            yield example
        if self.fault:
            raise self.fault


class Bench(Struct, dict=True):
    """A checker, and the events that it emitted."""

    provider: Provider
    examples: HeldOut = field(default_factory=HeldOut)
    concurrency: int = 3
    show_examples: bool = True
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = Limits(concurrency=self.concurrency)
        self.target = Target(
            "default", "reconcile.yaml", "embedded", "demo", limits=limits, show_examples=self.show_examples
        )
        self.checker = Checker(self.provider, self.examples, self.events.append, self.target)

    def run(self, *manifests: Manifest, subject: CheckedGeneration = SUBJECT) -> list[CheckResults]:
        """Check all manifests at once."""
        return asyncio.run(self.check(*manifests, subject=subject))

    async def check(self, *manifests: Manifest, subject: CheckedGeneration = SUBJECT) -> list[CheckResults]:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*(self.checker.check(manifest, subject) for manifest in manifests))
