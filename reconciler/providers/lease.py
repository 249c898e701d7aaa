"""A lease in Cloud Storage: an object that says who is at work, until when, and that is renewed as long as they are."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reconciler.core.ports import Clock, Sleeper
from reconciler.core.problems import ReconcileError
from reconciler.providers.errors import PreconditionError, clean
from reconciler.providers.storage import Storage

DURATION = timedelta(minutes=5)
"""How long a lease lasts after it was taken or renewed: a run that died keeps others waiting so long at most."""

SUFFIX = ".lease"
"""What is put behind the address of a lockfile to make that of its lease."""

ABSENT = 0
"""The generation of an object that is not there."""

_RENEWAL = DURATION / 3  # so that one renewal may fail before the lease ends
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a lease says; ``holder`` and ``acquired`` together tell whose it is."""

    holder: str
    acquired: datetime
    expires: datetime

    @classmethod
    def read(cls, data: bytes) -> _Claim:
        """Raises LookupError, OverflowError, RecursionError, TypeError or ValueError when it is none."""
        document = json.loads(data)
        return cls(str(document["holder"]), _time(document["acquired"]), _time(document["expires"]))

    def data(self) -> bytes:
        document = {
            "holder": self.holder,
            "acquired": self.acquired.isoformat(),
            "expires": self.expires.isoformat(),
        }
        return f"{json.dumps(document, indent=2)}\n".encode()

    def is_of(self, other: _Claim) -> bool:
        return (self.holder, self.acquired) == (other.holder, other.acquired)

    def __str__(self) -> str:
        return f"{clean(self.holder)} holds it until {self.expires:%Y-%m-%d %H:%M:%S} UTC"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class Lease:
    """One run's lease. Whose a lease is shows in its content: an answer that was lost leaves nobody in doubt.

    Args:
        address: The ``gs://`` address of the object.
        clock: The current time. The machines of all runs should agree on it within a fraction of :data:`DURATION`.
        sleep: What waits between two renewals.
        holder: Who this run is, for people.
    """

    def __init__(self, address: str, *, clock: Clock, sleep: Sleeper, holder: str) -> None:
        self.address = address
        self._clock = clock
        self._sleep = sleep
        self._holder = holder
        self._acquired = clock()
        self._renewals: asyncio.Task[None] | None = None

    async def take(self, storage: Storage) -> None:
        """Make the object, or take over one that has ended, and renew it from now on, in the running loop.

        Raises:
            ReconcileError: Another run holds the lease, or the object is no lease.
        """
        generation = ABSENT
        while not await self._claimed(storage, generation):
            claim, generation = await self.ended(storage) or (None, ABSENT)
            if claim:
                _LOG.warning("taking over the lease %s, which was left behind: %s", self.address, claim)
        self._renewals = asyncio.create_task(self._keep(storage))

    async def give_back(self, storage: Storage) -> None:
        """Delete the object, if it is still ours; one that cannot be deleted ends by itself."""
        if self._renewals:
            self._renewals.cancel()
            await asyncio.wait([self._renewals])
        try:
            generation = await self._own(storage)
            if generation is not None:
                await storage.delete(self.address, generation=generation)
        except ReconcileError as error:
            _LOG.warning("the lease %s is left behind, and ends by itself: %s", self.address, error)

    def _claim(self) -> _Claim:
        return _Claim(self._holder, self._acquired, self._clock() + DURATION)

    async def _claimed(self, storage: Storage, generation: int) -> bool:
        """Whether the object had that generation, and is ours now."""
        try:
            await storage.write(self.address, self._claim().data(), generation=generation)
        except PreconditionError:
            return False
        return True

    async def ended(self, storage: Storage) -> tuple[_Claim, int] | None:
        """What a lease says that was left behind, and its generation, if there is one.

        Raises:
            ReconcileError: Another run holds the lease, or the object is no lease.
        """
        found = await self._look(storage)
        if found and found[0].expires > self._clock():
            raise ReconcileError(
                f"another run is at work, and has the lease {self.address}: {found[0]}",
                "run again when it has ended; if it is certainly dead, wait until that time, or delete the lease:"
                f" `gcloud storage rm {self.address}`",
            )
        return found

    async def _look(self, storage: Storage) -> tuple[_Claim, int] | None:
        found = await storage.read(self.address)
        if found is None:
            return None
        data, generation = found
        try:
            return _Claim.read(data), generation
        except (LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise ReconcileError(
                f"{self.address} is in the place of a lease, and is none",
                f"see what it is; then delete it (`gcloud storage rm {self.address}`), or keep the lockfile elsewhere",
            ) from error

    async def _own(self, storage: Storage) -> int | None:
        """The generation of the lease as long as it is ours."""
        found = await self._look(storage)
        return found[1] if found and found[0].is_of(self._claim()) else None

    async def _keep(self, storage: Storage) -> None:
        """Renew until the lease is lost; what was lost is not taken again from whoever has it now."""
        kept = True
        while kept:
            await self._sleep(_RENEWAL.total_seconds())
            try:
                generation = await self._own(storage)
                kept = generation is not None and await self._claimed(storage, generation)
            except ReconcileError as error:
                _LOG.warning("the lease %s could not be renewed: %s", self.address, error)
        _LOG.warning("the lease %s was lost; this run goes on, and keeps what others save meanwhile", self.address)
