"""Differences between a manifest and its generations, of declared fields only, and the context of a decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import rfc8785
from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.access import Permission
from reconciler.domain.identity import same_data, same_value, short_hash
from reconciler.domain.lock import LockedModel
from reconciler.domain.model import (
    MUTABLE_FIELDS,
    UNKNOWN_DATA,
    Capabilities,
    Dataset,
    Manifest,
    Mark,
    RemoteModel,
    State,
    Update,
    with_value,
)
from reconciler.domain.plan import MARK_FIELD, Action, FieldChange, Kind, Reason, Request, TrainingCheck
from reconciler.planning.generations import ResolvedGeneration, satisfies
from reconciler.planning.lineage import ParentGeneration

SOURCE_FIELD = "source"
CHECKPOINT_FIELD = "source.checkpoint"
ACCESS_FIELD = "access"


def mutable_changes(
    manifest: Manifest, live: RemoteModel, mutable: frozenset[str], mark: Mark | None = None
) -> tuple[FieldChange, ...]:
    """Return the declared mutable fields that differ from the live model, and a change of the ownership mark.

    ``mutable`` are the groups of fields that the service can patch. The mark is written if it is missing, or if
    ``mark`` has a claimed data set that the live one lacks.
    """
    changes = (
        FieldChange(mutable_field.name, mutable_field.value(live), mutable_field.value(manifest))
        for mutable_field in MUTABLE_FIELDS
        if mutable_field.group in mutable
        and not manifest.ignore_drift & {mutable_field.name, mutable_field.group}
        and not _is_same(mutable_field.value(manifest), mutable_field.value(live))
    )
    return (*changes, *(_mark(live, mark) if "description" in mutable else ()))


def declared_fields(manifest: Manifest) -> dict[str, str]:
    """Return a digest of each declared field that can be changed at the service, by its name."""
    values = {mutable_field.name: mutable_field.value(manifest) for mutable_field in MUTABLE_FIELDS}
    grants = manifest.access
    values[ACCESS_FIELD] = None if grants is None else sorted(f"{grant.grantee} {grant.role}" for grant in grants)
    return {name: short_hash(rfc8785.dumps(value)) for name, value in values.items() if value is not None}


def _is_same(declared: object, actual: object) -> bool:
    if isinstance(declared, int | float) and isinstance(actual, int | float):
        return same_value(declared, actual)
    return declared is None or declared == actual


def _mark(live: RemoteModel, mark: Mark | None) -> Iterator[FieldChange]:
    if live.mark is None:
        yield FieldChange(MARK_FIELD, "absent", "present")
    elif mark and live.mark.data == UNKNOWN_DATA != mark.data:
        yield FieldChange(MARK_FIELD, "of unknown data", "of the declared data set")


def update_of(manifest: Manifest, mark: Mark, live: RemoteModel, changes: tuple[FieldChange, ...]) -> Update:
    """Return the patch that reverts these changes, and nothing else."""
    names = {change.field for change in changes}
    update = Update(mark=mark, description=live.description if MARK_FIELD in names else None)
    for mutable_field in MUTABLE_FIELDS:
        if mutable_field.name in names:
            update = with_value(update, mutable_field.attribute, mutable_field.value(manifest))
    return update


def content_changes(manifest: Manifest, known: ResolvedGeneration) -> tuple[FieldChange, ...]:
    """Return the identity fields in which a manifest differs from a generation."""
    return tuple(_content(manifest, known))


def _content(manifest: Manifest, known: ResolvedGeneration) -> Iterator[FieldChange]:
    source = manifest.source
    if known.source and replace(source, checkpoint="").is_same(known.source):
        if not source.is_same(known.source):
            yield FieldChange(CHECKPOINT_FIELD, known.source.checkpoint or None, source.checkpoint)
    elif known.source:
        yield FieldChange(_source_field(known, manifest), known.source.identity, source.identity)
    if known.locked and known.locked.dataset.method != manifest.method:
        yield FieldChange("method", known.locked.dataset.method, manifest.method)
    if not same_data(known.mark.data, manifest.dataset.digest):
        yield from _data(manifest.dataset, known)
    for name, declared in manifest.hyperparameters.items():
        effective = known.effective.get(name)
        if effective is None or not same_value(declared, effective):
            yield FieldChange(f"hyperparameters.{name}", effective, declared)


def _source_field(known: ResolvedGeneration, manifest: Manifest) -> str:
    both = known.source and known.source.base_model and manifest.source.base_model
    return "baseModel" if both else SOURCE_FIELD


def _data(declared: Dataset, known: ResolvedGeneration) -> Iterator[FieldChange]:
    recorded = known.locked.dataset if known.locked else None
    if recorded and recorded.path != declared.path:
        yield FieldChange("dataset.path", recorded.path or None, declared.path or None)
    if recorded and recorded.generation != declared.generation:
        yield FieldChange("dataset.generation", recorded.generation or None, declared.generation or None)
    if recorded and recorded.examples != declared.examples:
        yield FieldChange("dataset.examples", recorded.examples, declared.examples)
    yield FieldChange("dataset", known.mark.data, declared.digest)


class ReconcileContext(Struct, frozen=True):
    """One manifest, its generations, and their environment.

    ``parent`` is set if the source is another manifest's model; then the manifest's source names the chosen generation.
    ``taken`` are unmanaged models by id, ``untunable`` the errors of base models, ``duplicates`` are trainings to stop,
    each with the one to keep, ``permissions`` are those of models with declared access, by remote name, and
    ``unreadable`` the errors of those that cannot be read; ``deleted`` and ``training_checks`` as in
    :class:`~reconciler.domain.plan.Observation`, ``checked`` as in :class:`~reconciler.domain.plan.World`.
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
    checked: frozenset[str] = frozenset()
    deleted: Mapping[str, RemoteModel] = {}
    training_checks: Mapping[str, TrainingCheck] = {}

    @property
    def satisfying(self) -> tuple[ResolvedGeneration, ...]:
        """The generations that match the manifest."""
        return tuple(generation for generation in self.generations if satisfies(generation, self.manifest))

    @property
    def mismatches(self) -> tuple[ResolvedGeneration, ...]:
        """The generations that serve, must serve or match the manifest, but whose live model does not prove them."""
        return tuple(
            generation
            for generation in self.generations
            if generation.mismatch
            and (
                generation.key in {self.locked.serving_key, self.request.serving.get(self.manifest.name)}
                or satisfies(generation, self.manifest)
            )
        )

    @property
    def serving(self) -> ResolvedGeneration | None:
        """The serving generation, if it exists."""
        return next((generation for generation in self.generations if self.serves(generation)), None)

    @property
    def requested(self) -> ResolvedGeneration | None:
        """The generation that a changed lockfile requests to serve, if it is ready and not rejected."""
        key = self.request.serving.get(self.manifest.name)
        usable = key if key not in self.locked.rejected else None
        ready = (generation for generation in self.generations if generation.state is State.ACTIVE)
        return next((generation for generation in ready if generation.key == usable), None)

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
            serving=self.locked.serving_key or "",
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
