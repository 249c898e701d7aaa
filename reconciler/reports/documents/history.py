"""History reports: the generations of a manifest and what changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import field

from reconciler.domain.document import Attempt, Count, ManifestName, NonEmpty, Record
from reconciler.domain.lock import Decision, Lock, LockedGeneration, Origin
from reconciler.domain.model import (
    Capabilities,
    Hyperparameters,
    Source,
    Target,
)
from reconciler.planning.costs import billing_of
from reconciler.planning.datasets import ExampleChanges
from reconciler.planning.history import Changes, GenerationRole, HistoryEntry, HyperparameterChange
from reconciler.reports.documents.envelope import TargetReport, number, target_summary
from reconciler.reports.documents.plan import DataSample, changed_sample, example_sample
from reconciler.reports.documents.status import GenerationSummary, StageUse, TrainingData, stage_uses, training_data

Side = Literal["before", "after"]


class SourceChange(Record, frozen=True):
    """Two parents or base models."""

    before: Source
    """The parent or base model of the previous generation."""
    after: Source
    """The parent or base model of this generation."""


class ExampleDifferences(Record, frozen=True):
    """The differences between the examples of two data sets; if all numbers are 0, only the order differs."""

    added: Count
    """The number of added examples."""
    removed: Count
    """The number of removed examples."""
    changed: Count
    """The number of examples with the same input and a different output."""
    samples: tuple[DataSample, ...]
    """The first examples of each kind, shortened; none if the target's `policy` hides examples."""


class TrainingDataChange(Record, frozen=True):
    """Two data sets."""

    before: TrainingData
    """The data set of the previous generation."""
    after: TrainingData
    """The data set of this generation."""
    examples: ExampleDifferences | None = None
    """The differences between the examples; omitted if a data set is unavailable."""
    missing: tuple[Side, ...] = ()
    """Which data set is neither in the files nor in the git history."""


class PreambleChange(Record, frozen=True):
    """Two preambles."""

    before: str
    """The preamble of the previous generation."""
    after: str
    """The preamble of this generation."""


class GenerationChanges(Record, frozen=True, kw_only=True):
    """The changes since the previous generation."""

    since: NonEmpty
    """The key of the previous generation."""
    source: SourceChange | None = None
    """The parents or base models, if they differ."""
    hyperparameters: tuple[HyperparameterChange, ...] = ()
    """The hyperparameters that differ: the effective values, or the declared ones if the service reports none."""
    dataset: TrainingDataChange | None = None
    """The data sets, if their content or preamble differs."""
    preamble: PreambleChange | None = None
    """The preambles, if they differ."""


class HistoryGeneration(GenerationSummary, frozen=True, kw_only=True):
    """One recorded generation of the manifest."""

    role: GenerationRole = ""
    """The role of the generation: `held` means that its checks failed and no later generation is serving; omitted for
    other generations that are not serving."""
    origin: Origin
    attempt: Attempt
    source: Source
    """The base model or parent that it was tuned from."""
    hyperparameters: Hyperparameters = field(default_factory=dict)
    """The effective hyperparameters by API field name, or the declared ones if the service reports none."""
    dataset: TrainingData
    """The training data."""
    preamble: str = ""
    """The text before every training input and every prompt."""
    changes: GenerationChanges | None = None
    """The changes since the previous generation; omitted for the oldest."""

    @property
    def rejected(self) -> bool:
        """Whether it is rejected: it was rolled back and is not promoted again."""
        return self.role == "rejected"


class HistoryReport(TargetReport, frozen=True, kw_only=True, tag="History"):
    """The recorded generations of one manifest and what changed: the output of `reconcile history --format json`."""

    verified: Literal[False] = field(default_factory=lambda: False)  # a plain default would be omitted
    """The service is not queried: the document contains what the lockfile records."""
    lockfile: str
    """The path of the lockfile."""
    name: ManifestName = ""
    """The manifest's metadata.name; omitted for the decisions about all models."""
    manifest: str = ""
    """The manifest's file relative to the root; omitted for a model that is no longer managed."""
    generations: tuple[HistoryGeneration, ...]
    """The recorded generations, newest first."""
    decisions: tuple[Decision, ...] = ()
    """What people decided, the last decision first; it is what the lockfile records, and proves nothing."""


def history_report(
    name: str,
    manifest: str,
    entries: Sequence[HistoryEntry],
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    root: str = "",
    decisions: tuple[Decision, ...] = (),
    lock: Lock | None = None,
) -> HistoryReport:
    """Return the report of the generations of a manifest, newest first; without a name of decisions alone.

    ``manifest`` is its file relative to the root, ``lockfile`` the path of the lockfile as the user would write it.
    ``lock`` has the stages that its generations are in.
    """
    model = lock.models.get(name) if lock else None
    stages = {
        recorded.generation.key: stage_uses(lock, model, recorded.generation.key) if lock and model else ()
        for recorded in entries
    }
    return HistoryReport(
        simulated=capabilities.simulated,
        target=target_summary(target, capabilities, root),
        lockfile=lockfile,
        name=name,
        manifest=manifest,
        generations=tuple(_generation(recorded, capabilities, stages[recorded.generation.key]) for recorded in entries),
        decisions=decisions,
    )


def _generation(recorded: HistoryEntry, capabilities: Capabilities, stages: tuple[StageUse, ...]) -> HistoryGeneration:
    generation = recorded.generation
    return HistoryGeneration(
        key=generation.key,
        remote=generation.remote,
        state=generation.state,
        create_time=generation.create_time,
        complete_time=generation.complete_time,
        promote_time=generation.promote_time,
        checkpoint=generation.checkpoint,
        rejection=generation.rejection,
        stages=stages,
        total_steps=generation.total_steps,
        final_loss=number(generation.final_loss),
        billing=billing_of(generation),
        error=generation.failure,
        dropped_examples=generation.dropped_examples,
        experiment_url=capabilities.experiment_url(generation.experiment),
        checks=generation.checks,
        evaluations=generation.evaluations,
        role=recorded.role,
        origin=generation.origin,
        attempt=generation.attempt,
        source=generation.source.recorded,
        hyperparameters={**generation.hyperparameters.declared, **generation.hyperparameters.effective},
        dataset=training_data(generation.dataset),
        preamble=generation.preamble,
        changes=_changes(generation, recorded.changes) if recorded.changes else None,
    )


def _changes(generation: LockedGeneration, changes: Changes) -> GenerationChanges:
    since = changes.since
    return GenerationChanges(
        since=since.key,
        source=SourceChange(since.source.recorded, generation.source.recorded) if changes.source else None,
        hyperparameters=changes.hyperparameters,
        dataset=_data_change(since, generation, changes) if changes.dataset else None,
        preamble=PreambleChange(since.preamble, generation.preamble) if changes.preamble else None,
    )


def _data_change(since: LockedGeneration, generation: LockedGeneration, changes: Changes) -> TrainingDataChange:
    sides: tuple[Side, Side] = ("before", "after")
    return TrainingDataChange(
        training_data(since.dataset),
        training_data(generation.dataset),
        examples=_differences(changes.examples) if changes.examples else None,
        missing=tuple(side for side, available in zip(sides, changes.available, strict=True) if not available),
    )


def _differences(changes: ExampleChanges) -> ExampleDifferences:
    samples = (
        *(example_sample("added", example) for example in changes.some_added),
        *(example_sample("removed", example) for example in changes.some_removed),
        *map(changed_sample, changes.some_changed),
    )
    return ExampleDifferences(changes.added, changes.removed, changes.changed, samples)
