"""The interfaces to the outside world, which providers and stores implement, and the prompts that providers answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Annotated, Protocol, runtime_checkable

from msgspec import Meta, Struct, field

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.checks import Check
from reconciler.domain.document import Record
from reconciler.domain.model import (
    Capabilities,
    CreateRequest,
    Dataset,
    Example,
    Handle,
    Manifest,
    RemoteModel,
    Resources,
    Sampling,
    TrainingExample,
    Update,
)
from reconciler.domain.plan import BaseModelChange, TrainingCheck


class Prompt(Struct, frozen=True):
    """A prompt: ``text`` is the whole input, including the preamble.

    Unset fields of ``sampling`` use the model's or the service's defaults. ``candidates`` is the number of answers, of
    at most ``max_tokens`` tokens each. A service may end an answer that is longer than ``enough`` bytes, because only
    shorter ones can be right.
    """

    text: str
    sampling: Sampling = field(default_factory=Sampling)
    candidates: int = 1
    max_tokens: int | None = None
    enough: int | None = None


class Answer(Record, frozen=True):
    """One answer."""

    text: str
    """The answer, exactly as the service returned it; empty if there is none."""
    finish: Annotated[str, Meta(examples=["MAX_TOKENS", "SAFETY"])] = ""
    """The service's reason why the answer ended, if it did not end normally."""


class Reply(Struct, frozen=True):
    """The answers to a prompt; ``blocked`` is the service's reason for not answering, or empty.

    ``model_version`` is the version of the model that answered, if the service returns it.
    """

    answers: tuple[Answer, ...]
    blocked: str = ""
    model_version: str = ""


class Clock(Protocol):
    """Return the current time, aware and in UTC."""

    def __call__(self) -> datetime: ...


class Sleeper(Protocol):
    """Suspend the caller for that many seconds."""

    async def __call__(self, seconds: float) -> None: ...


class Random(Protocol):
    """Return a number in [0, 1), for jitter."""

    def __call__(self) -> float: ...


class Created(Struct, frozen=True):
    """The service accepted the generation; ``handle.operation`` is set if it returned one."""

    handle: Handle
    total_steps: int | None


class Exists(Struct, frozen=True):
    """The id is taken by ``model``, which is ``None`` if the service does not return it (403 or 404)."""

    remote: str
    model: RemoteModel | None


class LockStore(Protocol):
    """A store for a lockfile's text, which writes it as a whole or not at all."""

    @property
    def path(self) -> object:
        """The name of the store in messages."""
        ...

    def read(self) -> str | None:
        """Return the text, or ``None`` if there is none."""
        ...

    def server_time(self) -> datetime | None:
        """Return when the text that :meth:`read` returned was written, by the server's clock; a file has no server.

        Raises :class:`~reconciler.domain.errors.LockConflict` if another run has written since.
        """
        ...

    def write(self, text: str) -> bool:
        """Replace the text, and return whether it differed.

        Raises :class:`~reconciler.domain.errors.LockConflict` if another run has written since the last ``read``.
        """
        ...

    def saving(self) -> AbstractContextManager[object]:
        """Keep other runs from saving between a ``read`` and the ``write`` that is computed from it, if possible."""
        ...

    def check_writable(self) -> None:
        """Raise the ReconcileError of :meth:`write` if it can be foreseen without writing."""
        ...

    def lease(self) -> AbstractContextManager[object]:
        """Exclude other runs from changes if the store is shared; after a crash the lease expires."""
        ...


class Provider(Protocol):
    """A tuning service.

    Every method raises :class:`~reconciler.domain.errors.ServiceError` or
    :class:`~reconciler.domain.errors.AccessError` after its own retries.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of this service; constant."""
        ...

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:
        """Return every listed model; ``progress`` includes loss curves, which cost more to transfer.

        Where the record of a training is permanent, one whose model the service does not list is ``DELETED``.
        """
        ...

    async def observe(self, handle: Handle) -> RemoteModel | None:
        """Return one model by name, or ``None`` if the service does not find it.

        With ``handle.operation`` the operation is read, which alone has the cause of a failure; if the operation no
        longer exists, the model is read.
        """
        ...

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),
    ) -> Created | Exists:
        """Start the training of a generation; a second call for the same key returns ``Exists``.

        The examples are read at most once, when they are sent; a data set in Cloud Storage has none here. Where callers
        choose no ids, the earliest of several racing trainings is kept, and the others are canceled. The
        ``outcome_unknown`` of an error states whether a training can have started; without it, the code decides.
        """
        ...

    async def update(self, remote: str, update: Update) -> RemoteModel:
        """Patch the fields that ``update`` sets, and return the updated model."""
        ...

    async def cancel(self, handle: Handle) -> None:
        """Stop a training; one that has ended or is gone is left unchanged."""
        ...

    async def delete(self, handle: Handle, resources: Resources) -> None:
        """Delete a ready or failed model with all ``resources`` of its training.

        It is not an error if they are already gone, so an interrupted call can be repeated. If the record of the
        training is permanent, :meth:`observe` no longer returns one whose model is gone.
        """
        ...

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        """Send a prompt to a model, or to its endpoint if the service has endpoints (see :class:`Resources`).

        More candidates than :attr:`Capabilities.max_candidates` take several requests. The reply states if the service
        blocked the prompt or returned an empty answer; neither raises an error.
        """
        ...

    async def access(self, remote: str) -> tuple[Permission, ...]:
        """Return every permission of a model, including its owner's."""
        ...

    async def set_access(self, remote: str, live: tuple[Permission, ...], changes: Iterable[AccessChange]) -> None:
        """Create, change and revoke permissions of a model that has the ``live`` ones; idempotent."""
        ...

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:
        """Return an error for each of these base models that is known not to be tunable, before anything is created.

        An error has a problem and a remedy, possibly on several lines.
        """
        ...


@runtime_checkable
class Objects(Protocol):
    """Data sets in Cloud Storage."""

    async def pin(self, uri: str) -> Dataset | str:
        """Return the data set at a ``gs://`` address; its ``error`` is set if there is none.

        Raises:
            AccessError: without credentials.
            ServiceError: if Cloud Storage cannot be reached.
        """
        ...


@runtime_checkable
class UnmanagedModels(Protocol):
    """A service whose list omits unmanaged models, because a project can have many of them."""

    async def list_unmanaged(self) -> tuple[RemoteModel, ...]:
        """Return every model of the project that :meth:`Provider.list` omits; raises the same errors."""
        ...


@runtime_checkable
class TrainingQueue(Protocol):
    """A service whose trainings wait for room, and start only while a run that may train or wait is alive."""

    async def start_queued(self) -> None:
        """Start the trainings that wait, also those that were interrupted, where there is room; raises no error."""
        ...


@runtime_checkable
class BaseModelSource(Protocol):
    """A service whose base models are pinned versions of models that change at their source."""

    async def find_base_model_changes(self, base_models: frozenset[str]) -> Mapping[str, BaseModelChange]:
        """Return the base models that changed at their source, by their names; a source out of reach has none."""
        ...


class PlannedTraining(Struct, frozen=True):
    """A training that a plan starts; the examples are read at most once."""

    generation: CreateRequest
    examples: Iterable[TrainingExample]
    validation: Iterable[TrainingExample] = ()


@runtime_checkable
class TrainingChecks(Protocol):
    """A service that finds out before a training starts whether it would fail, and what it needs."""

    async def check_trainings(self, trainings: Sequence[PlannedTraining]) -> Mapping[str, TrainingCheck]:
        """Return the check of each training by its key; nothing that users see is changed.

        Raises the errors of the examples.
        """
        ...


@runtime_checkable
class BaseModelList(Protocol):
    """A service that lists the base models that can be tuned; :meth:`Provider.preflight` has requested the list."""

    async def tunable(self) -> tuple[str, ...] | None:
        """Return the sorted names of the base models that can be tuned; ``None`` if the service does not list them."""
        ...


@runtime_checkable
class BasePrompts(Protocol):
    """A service whose base models answer prompts too; its capabilities have the feature ``basePrompts``."""

    def base_remote(self, base_model: str) -> str:
        """Return the remote name by which :meth:`Provider.infer` sends prompts to a base model.

        Raises :class:`~reconciler.domain.errors.ServiceError` if the name is invalid.
        """
        ...


@runtime_checkable
class ServiceClock(Protocol):
    """A service that reports its time, because the local clock can be wrong."""

    @property
    def service_time(self) -> datetime | None:
        """The time of the service at its last response; ``None`` if it reported none."""
        ...


class Examples(Protocol):
    """Reads data sets again; every method raises ReconcileError if one differs from what was validated.

    The error can be raised as late as the end of the iteration. A data set in Cloud Storage has no examples here.
    """

    def training(self, manifest: Manifest) -> Iterable[TrainingExample]:
        """Return the training examples."""
        ...

    def validation(self, manifest: Manifest) -> Iterable[TrainingExample]:
        """Return the validation examples; nothing if none are declared."""
        ...

    def places(self, manifest: Manifest, numbers: Collection[int], *, validation: bool = False) -> Mapping[int, str]:
        """Return where examples are, by their numbers in the data set, counted from 1: ``FILE:LINE``."""
        ...

    def held_out(self, manifest: Manifest, check: Check) -> Iterable[Example]:
        """Return the held-out examples of a check, without preamble."""
        ...
