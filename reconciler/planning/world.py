"""The inputs of a plan, as one value: desired, live and recorded state, and what the caller requests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct, field

from reconciler.domain.access import Permission
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Manifest, RemoteModel, Target
from reconciler.domain.plan import Request


class Observation(Struct, frozen=True):
    """The live state: every listed model by remote name, and the remote names that are confirmed to be gone.

    ``untunable`` has, by base model, the reason why it cannot be tuned; only base models that a plan needs are looked
    up. ``permissions`` are those of the models that :func:`~reconciler.planning.generations.shared_remotes` returns, by
    remote name; ``unreadable`` has the reason where they cannot be read.
    """

    models: Mapping[str, RemoteModel] = {}
    gone: frozenset[str] = frozenset()
    untunable: Mapping[str, str] = {}
    permissions: Mapping[str, tuple[Permission, ...]] = {}
    unreadable: Mapping[str, str] = {}


class World(Struct, frozen=True):
    """Everything that a plan depends on; ``now`` is aware and in UTC."""

    manifests: tuple[Manifest, ...]
    lock: Lock
    target: Target
    capabilities: Capabilities
    now: datetime
    observation: Observation = field(default_factory=Observation)
    request: Request = field(default_factory=Request)

    @property
    def scope(self) -> str:
        """The scope of the target."""
        return self.target.scope
