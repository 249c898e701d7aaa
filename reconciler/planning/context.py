"""The inputs of the decision about one manifest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from reconciler.domain.access import Permission
from reconciler.domain.lock import LockedModel
from reconciler.domain.model import Capabilities, Manifest, RemoteModel, State
from reconciler.domain.plan import Action, FieldChange, Kind, Reason, Request
from reconciler.planning.diff import content_changes
from reconciler.planning.generations import ResolvedGeneration, satisfies
from reconciler.planning.lineage import ParentGeneration


class ReconcileContext(Struct, frozen=True):
    """One manifest, its generations, and their environment.

    ``parent`` is set if the source is another manifest's model; then the manifest's source names the chosen generation.
    ``taken`` are unmanaged models by id, ``untunable`` the errors of base models, ``duplicates`` are trainings to stop,
    each with the one to keep, ``permissions`` are those of models with declared access, by remote name, and
    ``unreadable`` the errors of those that cannot be read.
    """

    manifest: Manifest
    scope: str
    locked: LockedModel
    generations: tuple[ResolvedGeneration, ...]
    duplicates: tuple[tuple[ResolvedGeneration, ResolvedGeneration], ...]
    taken: Mapping[str, RemoteModel]
    untunable: Mapping[str, str]
    request: Request
    capabilities: Capabilities
    now: datetime
    parent: ParentGeneration | None = None
    permissions: Mapping[str, tuple[Permission, ...]] = {}
    unreadable: Mapping[str, str] = {}

    @property
    def satisfying(self) -> tuple[ResolvedGeneration, ...]:
        """The generations that match the manifest."""
        return tuple(generation for generation in self.generations if satisfies(generation, self.manifest))

    @property
    def serving(self) -> ResolvedGeneration | None:
        """The serving generation, if it exists."""
        return next((generation for generation in self.generations if self.serves(generation)), None)

    def serves(self, known: ResolvedGeneration) -> bool:
        """Whether it is the serving generation and is ready."""
        return self.locked.serves(known.key) and known.state is State.ACTIVE

    def action(self, kind: Kind, reason: Reason, known: ResolvedGeneration | None = None, message: str = "") -> Action:
        """Return an action of this manifest, for one of its generations if given."""
        return Action(
            name=self.manifest.name,
            file=self.manifest.file,
            kind=kind,
            reason=reason,
            key=known.key if known else "",
            remote=known.remote if known else "",
            attempt=known.mark.attempt if known else 0,
            message=message,
        )

    def changes(self) -> tuple[FieldChange, ...]:
        """Return the changes since the serving generation, or else since the newest recorded one."""
        recorded = [
            generation
            for generation in self.generations
            if generation.locked and generation.state is not State.INTENDED
        ]
        reference = next(
            (generation for generation in recorded if self.locked.serves(generation.key)),
            recorded[0] if recorded else None,
        )
        return content_changes(self.manifest, reference) if reference else ()
