"""What the engine asks of the outside world. Adapters implement these; nothing else crosses the boundary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from reconciler.domain.access import AccessChange, Permission
from reconciler.domain.checks import Check
from reconciler.domain.inference import Prompt, Reply
from reconciler.domain.model import (
    Capabilities,
    CreateRequest,
    Dataset,
    Example,
    Handle,
    Manifest,
    RemoteModel,
    Resources,
    TrainingExample,
    Update,
)


class Clock(Protocol):
    """The current time, aware and in UTC."""

    def __call__(self) -> datetime: ...


class Sleeper(Protocol):
    """Suspend the caller for that many seconds."""

    async def __call__(self, seconds: float) -> None: ...


class Random(Protocol):
    """A number in [0, 1), for jitter."""

    def __call__(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Created:
    """The service took the generation; ``handle.operation`` is set where the service names one."""

    handle: Handle
    total_steps: int | None


@dataclass(frozen=True, slots=True)
class Exists:
    """The id is taken; ``model`` holds it, or is ``None`` when the service does not show it to us (403 or 404)."""

    remote: str
    model: RemoteModel | None


class LockStore(Protocol):
    """Where a lockfile's text is kept, whole or not at all."""

    @property
    def path(self) -> object:
        """What names the store in messages."""
        ...

    def read(self) -> str | None:
        """The text, or ``None`` where there is none."""
        ...

    def write(self, text: str) -> bool:
        """Replace the text; whether it differed.

        Raises :class:`~reconciler.domain.errors.LockConflict` where another run has written since the last ``read``.
        """
        ...

    def check_writable(self) -> None:
        """Raise the ReconcileError that :meth:`write` would, as far as that can be told without writing."""
        ...

    def lease(self) -> AbstractContextManager[object]:
        """Keep other runs from changing things meanwhile, where the store is shared; a crash leaves nothing stuck."""
        ...


class Provider(Protocol):
    """A tuning service.

    Every method raises :class:`~reconciler.domain.errors.ServiceError` or
    :class:`~reconciler.domain.errors.AccessError` with a message for people, after retries of its own.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this service can do; constant."""
        ...

    async def list(self, *, progress: bool) -> tuple[RemoteModel, ...]:
        """Every model that the service lists; ``progress`` asks for loss curves too, which cost more to transfer."""
        ...

    async def observe(self, handle: Handle) -> RemoteModel | None:
        """One model asked for by name, or ``None`` when the service says that it is not there (or not for us).

        With ``handle.operation`` the operation is read, which alone tells why a training failed; where the operation is
        no longer known, the model is.
        """
        ...

    async def create(
        self,
        generation: CreateRequest,
        examples: Iterable[TrainingExample],
        validation: Iterable[TrainingExample] = (),
    ) -> Created | Exists:
        """Start the training of a generation; never repeated blindly: a second call for a key answers ``Exists``.

        The examples are read at most once, and only when they are sent; a data set in Cloud Storage has none here.
        Where callers choose no ids, of several trainings of one generation that race the earliest is kept, and the
        others are cancelled.
        """
        ...

    async def update(self, remote: str, update: Update) -> RemoteModel:
        """Patch exactly the fields that ``update`` carries and return the model as it is then."""
        ...

    async def cancel(self, handle: Handle) -> None:
        """Stop a training; one that has ended, or is gone, is left as it is."""
        ...

    async def delete(self, handle: Handle, resources: Resources) -> None:
        """Delete a model that is ready, or that failed, with all that its training made (``resources``).

        What is gone already is no error, and a call that was cut off anywhere can be repeated. Where a record of the
        training stays for ever, :meth:`observe` no longer shows one whose model is gone.
        """
        ...

    async def infer(self, remote: str, prompt: Prompt) -> Reply:
        """Ask a model, or the endpoint that serves it where a service has such (see :class:`Resources`).

        More candidates than :attr:`Capabilities.max_candidates` take several requests. A prompt that the service
        blocks, and an empty answer, are no errors: the reply says so.
        """
        ...

    async def access(self, remote: str) -> tuple[Permission, ...]:
        """Every permission of a model, its owner's included."""
        ...

    async def set_access(self, remote: str, live: tuple[Permission, ...], changes: Iterable[AccessChange]) -> None:
        """Create, change and revoke permissions of a model that has the ``live`` ones; done twice, it is no error."""
        ...

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:
        """Why some of these base models cannot be tuned, as far as the service tells before anything is created.

        Each is a message for people: what is wrong, and what to do, perhaps in several lines.
        """
        ...


@runtime_checkable
class Objects(Protocol):
    """Data sets in Cloud Storage."""

    async def pin(self, uri: str) -> Dataset:
        """The data set at a ``gs://`` address as it is now; its ``error`` says why there is none.

        Raises:
            AccessError: nobody is logged in.
            ServiceError: Cloud Storage cannot be reached.
        """
        ...


@runtime_checkable
class UnmanagedModels(Protocol):
    """A service whose list leaves out what does not bear our mark, because a project may hold very much of that."""

    async def list_unmanaged(self) -> tuple[RemoteModel, ...]:
        """Every model of the project that :meth:`Provider.list` leaves out; raises as that does."""
        ...


class Examples(Protocol):
    """Reads data sets afresh; every method raises ReconcileError when one is not what was checked any more.

    That may come as late as the end of the iteration. A data set in Cloud Storage has no examples here.
    """

    def training(self, manifest: Manifest) -> Iterable[TrainingExample]:
        """What the manifest trains on."""
        ...

    def validation(self, manifest: Manifest) -> Iterable[TrainingExample]:
        """What the training is measured on; nothing where the manifest declares nothing."""
        ...

    def held_out(self, manifest: Manifest, check: Check) -> Iterable[Example]:
        """What the evaluation of a check asks about, without preamble."""
        ...
