"""Everything that the decision about one manifest depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.domain.access import Permission
from reconciler.domain.lock import LockedModel
from reconciler.domain.model import Capabilities, Manifest, RemoteModel, State
from reconciler.domain.plan import Action, FieldChange, Kind, Reason, Request
from reconciler.planning.diff import content_changes
from reconciler.planning.generations import ResolvedGeneration, satisfies
from reconciler.planning.lineage import ParentGeneration


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """One manifest, its generations, and what is around them.

    ``parent`` is what it is tuned from where that is another manifest's model; then the manifest's source names the
    chosen generation. ``taken`` are the foreign models by their id, ``untunable`` says of base models why they cannot
    be tuned, ``doubles`` are trainings that double another one, each with that one, ``permissions`` are those of the
    models whose access is declared, by remote name, and ``unreadable`` why some of them are not known.
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
    permissions: Mapping[str, tuple[Permission, ...]] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def satisfying(self) -> tuple[ResolvedGeneration, ...]:
        """The generations that are what the manifest asks for."""
        return tuple(one for one in self.generations if satisfies(one, self.manifest))

    @property
    def serving(self) -> ResolvedGeneration | None:
        """The generation that serves, if it is there."""
        return next((one for one in self.generations if self.serves(one)), None)

    def serves(self, known: ResolvedGeneration) -> bool:
        """Whether that generation serves."""
        return known.key == self.locked.serving and known.state is State.ACTIVE

    def action(self, kind: Kind, reason: Reason, known: ResolvedGeneration | None = None, message: str = "") -> Action:
        """An action about this manifest, and about that generation of it."""
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
        """What the manifest asks for other than the generation that serves, or else the newest recorded one, is."""
        recorded = [one for one in self.generations if one.locked and one.state is not State.INTENDED]
        reference = next((one for one in recorded if one.key == self.locked.serving), recorded[0] if recorded else None)
        return content_changes(self.manifest, reference) if reference else ()
