"""A tuning service in memory where nobody chooses ids, and the port over it; for the contract, and for the engine.

Several providers over one :class:`FakeJobs` are several runs that race.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.errors import ServiceError
from reconciler.domain.model import (
    Capabilities,
    CreateRequest,
    Example,
    Failure,
    Handle,
    Mark,
    RemoteModel,
    Resources,
    Source,
    State,
    TrainingExample,
    Update,
)
from reconciler.domain.ports import Answer, Clock, Created, Exists, Prompt, Reply

CAPABILITIES = Capabilities(
    label="fake service",
    hyperparameters=frozenset({"epochCount", "learningRateMultiplier"}),
    caller_chosen_ids=False,
    defaults={"epochCount": 5},
    features=frozenset({"cloudStorage", "conversations", "lineage"}),
    endpoint_pattern=r"\S+",
)
TRAINING = timedelta(seconds=30)
DIVERGES = 10
BASE_MODEL = "fake-base"
BLOCKED = "blocked"
"""A prompt that the service answers with nothing but a reason."""


class FakeJobs(Struct, dict=True):
    """What the service keeps. A list shows a new job only after ``lag`` lists have not."""

    clock: Clock
    lag: int = 0
    jobs: dict[str, RemoteModel] = field(default_factory=dict)
    known: dict[str, dict[str, str]] = field(default_factory=dict)
    """What the model of a job answers, by prompt."""
    deleted: set[str] = field(default_factory=set)
    """The jobs whose models were deleted."""
    _hidden: dict[str, int] = field(default_factory=dict)

    def start(self, generation: CreateRequest, examples: Iterable[TrainingExample] = ()) -> RemoteModel:
        """A new job, however many there are already; refuses a base or tuned model that it does not know."""
        source = self._source(generation.source)
        name = f"jobs/{len(self.jobs) + 1}"
        self.known[name] = {each.input: each.output for each in examples if isinstance(each, Example)}
        self.jobs[name] = RemoteModel(
            remote=name,
            state=State.CREATING,
            source=source,
            mark=generation.mark,
            display_name=generation.display_name,
            description=generation.description,
            hyperparameters={**CAPABILITIES.defaults, **generation.hyperparameters},
            create_time=self.clock().isoformat(),
            phase="QUEUED",
            resources=Resources(job=name, location="here"),
        )
        self._hidden[name] = self.lag
        return self.jobs[name]

    def _source(self, wanted: Source) -> Source:
        """What is tuned, as a service shows it."""
        named = wanted.base_model or wanted.remote
        tuned = {job.resources.model for name in self.jobs.keys() - self.deleted if (job := self.get(name))}
        if named not in {BASE_MODEL, *tuned} - {""}:
            raise ServiceError(f"POST /jobs failed with 404 NOT_FOUND: {named} does not exist", code="NOT_FOUND")
        return Source(base_model=wanted.base_model, remote="" if wanted.base_model else named)

    def answer(self, endpoint: str, prompt: Prompt) -> Reply:
        """What the model behind an endpoint says: the output of the very example, else nothing."""
        there = self.jobs.keys() - self.deleted
        job = next((name for name in there if (one := self.get(name)) and one.resources.endpoint == endpoint), None)
        if job is None or not endpoint:
            message = f"POST /{endpoint} failed with 404 NOT_FOUND: it does not exist"
            raise ServiceError(message, code="NOT_FOUND")
        if prompt.text == BLOCKED:
            return Reply((), "SAFETY")
        return Reply((Answer(self.known[job].get(prompt.text, "")),) * prompt.candidates)

    def get(self, name: str) -> RemoteModel | None:
        """A job as it is by now."""
        job = self.jobs.get(name)
        if job is None or job.state is not State.CREATING:
            return job
        end = datetime.fromisoformat(job.create_time) + TRAINING
        return job if self.clock() < end else _ended(job, end)

    def cancel(self, name: str) -> None:
        """Stop a job; one that has ended, or is not there, stays as it is."""
        job = self.get(name)
        if job and job.state is State.CREATING:
            self.jobs[name] = replace(job, state=State.CANCELLED, phase="CANCELLED")

    def delete(self, name: str) -> None:
        """Delete what a job made; the job stays."""
        if (job := self.get(name)) and job.state is State.ACTIVE:
            self.deleted.add(name)

    def list(self) -> tuple[RemoteModel, ...]:
        """The jobs that a list shows."""
        shown = [name for name in self.jobs if self._hidden[name] <= 0]
        self._hidden = {name: left - 1 for name, left in self._hidden.items()}
        return tuple(job for name in shown if (job := self.get(name)))


def _ended(job: RemoteModel, end: datetime) -> RemoteModel:
    if job.hyperparameters.get("learningRateMultiplier", 1) >= DIVERGES:
        failure = Failure(3, "The loss is not a number")
        return replace(job, state=State.FAILED, phase="FAILED", failure=failure, complete_time=end.isoformat())
    made = replace(job.resources, model=f"{job.remote}/model@1", endpoint=f"{job.remote}/endpoint")
    return replace(job, state=State.ACTIVE, phase="", complete_time=end.isoformat(), resources=made)


class FakeProvider:
    """Implements :class:`reconciler.domain.ports.Provider` over jobs that others may share."""

    capabilities = CAPABILITIES

    def __init__(self, jobs: FakeJobs) -> None:
        self.jobs = jobs
        self.examples: list[TrainingExample] = []
        """What was read of the last training's data sets."""

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:  # noqa: ARG002 - it tells no loss curves
        return self.jobs.list()

    async def observe(self, handle: Handle) -> RemoteModel | None:
        return None if handle.remote in self.jobs.deleted else self.jobs.get(handle.remote)

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),
    ) -> Created | Exists:
        looks = range(1 + (self.jobs.lag if generation.intended else 0))
        for known in (self._known(generation.mark) for _ in looks):
            if known:
                return Exists(known.remote, known)
        training = tuple(examples)
        self.examples = [*training, *validation]
        job = self.jobs.start(generation, training)
        await asyncio.sleep(0)  # here others have their turn
        kept = self._known(generation.mark) or job
        if kept.remote != job.remote:
            self.jobs.cancel(job.remote)
            return Exists(kept.remote, kept)
        return Created(Handle(job.remote), None)

    def _known(self, mark: Mark) -> RemoteModel | None:
        """The earliest job that trains this, as far as a list shows it."""
        same = [job for job in self.jobs.list() if job.mark == mark and job.state is not State.CANCELLED]
        return min(same, key=lambda job: (job.create_time, job.remote), default=None)

    async def update(self, remote: str, update: Update) -> RemoteModel:  # noqa: ARG002 - nothing can be changed
        raise ServiceError(f"{remote} cannot be changed", code="UNIMPLEMENTED")

    async def cancel(self, handle: Handle) -> None:
        self.jobs.cancel(handle.remote)

    async def delete(self, handle: Handle, resources: Resources) -> None:  # noqa: ARG002 - the job knows them
        self.jobs.delete(handle.remote)

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        return self.jobs.answer(remote, prompt)

    async def access(self, remote: str) -> tuple[Permission, ...]:
        raise ServiceError(f"{remote} has no permissions", code="UNIMPLEMENTED")

    async def set_access(
        self,
        remote: str,
        live: tuple[Permission, ...],  # noqa: ARG002 - there is nothing to change
        changes: Iterable[AccessChange],  # noqa: ARG002 - the same
    ) -> None:
        await self.access(remote)

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:
        return {name: f"{name} does not exist" for name in base_models - {BASE_MODEL}}
