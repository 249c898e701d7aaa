"""The collaborators of a run, passed to its parts as one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from reconciler.domain.lock import Lock
from reconciler.domain.model import Manifest, Target
from reconciler.domain.plan import Request
from reconciler.domain.ports import Clock, Examples, Provider, Sleeper
from reconciler.engine.recorder import Recorder
from reconciler.planning.events import Published
from reconciler.planning.world import Observation, World

Publish = Callable[[Lock], Iterable[Published]]
"""Writes the serving generations of a lock to the published pointer, and returns what changed there."""


def publish_nothing(_lock: Lock) -> Iterable[Published]:
    """Return no events: the publisher of a target without a pointer."""
    return ()


class RunContext(Struct, frozen=True):
    """What a run that changes models works with.

    ``manifests`` are the selected ones. ``examples`` reads a data set again when it is sent.
    """

    provider: Provider
    manifests: tuple[Manifest, ...]
    target: Target
    recorder: Recorder
    examples: Examples
    clock: Clock
    sleeper: Sleeper
    publish: Publish = publish_nothing

    @property
    def concurrency(self) -> int:
        """How many requests run at once."""
        return self.target.limits.concurrency

    def world(self, observation: Observation, request: Request) -> World:
        """Return the inputs of a plan now."""
        return World(
            manifests=self.manifests,
            lock=self.recorder.lock,
            target=self.target,
            capabilities=self.provider.capabilities,
            now=self.clock(),
            observation=observation,
            request=request,
        )
