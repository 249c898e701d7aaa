"""Change, Serving and Resolve reports: what commands changed in the lockfile or looked up there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from reconciler.domain.document import NonEmpty, Record, Remote
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Resources, Sampling, State
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.reports.documents.envelope import TargetReport


class ChangedGeneration(Record, frozen=True, kw_only=True):
    """One generation."""

    key: NonEmpty
    """The key."""
    state: State
    """The last recorded state."""
    remote: str = ""
    """The remote name."""


class NextAction(Record, frozen=True, kw_only=True):
    """One action, as in a Plan."""

    name: str = ""
    """The manifest, if it is not the one that this document is about."""
    action: Kind
    """The action."""
    reason: Reason
    """The reason."""
    key: str = ""
    """The key of the generation."""
    message: str = ""
    """A sentence for the reader."""


class ChangeReport(TargetReport, frozen=True, kw_only=True, tag="Change"):
    """The result of adopting or forgetting a model or canceling its training.

    It is the output of `reconcile adopt`, `reconcile forget` and `reconcile cancel` with `--format json`.
    """

    command: Literal["adopt", "forget", "cancel"]
    """The command."""
    name: NonEmpty
    """The manifest's name."""
    outcome: Literal["planned", "done", "unchanged"]
    """The outcome: `planned` before approval, `unchanged` when there was nothing to do."""
    lockfile: NonEmpty
    """The path of the lockfile."""
    manifest: str = ""
    """The manifest that was written for the adopted model."""
    published: str = ""
    """The published pointer that was updated; omitted when nothing was published."""
    generations: tuple[ChangedGeneration, ...]
    """The generations that changed."""
    notes: tuple[NonEmpty, ...]
    """Notices for the reader."""
    next: tuple[NextAction, ...]
    """What the next apply would do for the manifest, according to the lockfile."""


def changed_generations(generations: Iterable[LockedGeneration]) -> tuple[ChangedGeneration, ...]:
    """Return the generations as a Change report lists them."""
    return tuple(
        ChangedGeneration(key=generation.key, state=generation.state, remote=generation.remote)
        for generation in generations
    )


def next_actions(actions: Iterable[Action], name: str) -> tuple[NextAction, ...]:
    """Return actions of the next apply in short, for a report about the manifest ``name``."""
    return tuple(
        NextAction(
            name="" if action.name == name else action.name,
            action=action.kind,
            reason=action.reason,
            key=action.key,
            message=action.message,
        )
        for action in actions
    )


class ServingGeneration(Record, frozen=True, kw_only=True):
    """The serving generation."""

    key: NonEmpty
    """The key."""
    remote: NonEmpty
    """The remote name that answers prompts."""


class RejectedGeneration(Record, frozen=True, kw_only=True):
    """One rejected generation."""

    key: NonEmpty
    """The key."""
    reason: str = ""
    """The reason for the rollback."""


class ServingReport(TargetReport, frozen=True, kw_only=True, tag="Serving"):
    """The serving generation after a manual change.

    It is the output of `reconcile rollback` and `reconcile promote` with `--format json`.
    """

    name: NonEmpty
    """The manifest's name."""
    changed: bool
    """Whether the serving generation changed."""
    before: str = ""
    """The previous serving generation; omitted if there was none or it is unchanged."""
    reason: str = ""
    """The reason for the rollback; omitted for a promotion."""
    published: str = ""
    """The published pointer; omitted if the target publishes nothing."""
    serving: ServingGeneration
    """The serving generation."""
    rejected: tuple[RejectedGeneration, ...]
    """The rejected generations."""
    lockfile: NonEmpty
    """The path of the lockfile."""
    next: tuple[NextAction, ...]
    """What the next apply would do for the manifest and its children, according to the lockfile."""


def rejected_generations(model: LockedModel) -> tuple[RejectedGeneration, ...]:
    """Return the rejected generations of a model with the reasons, if they are still recorded."""
    recorded = ((key, model.generation(key)) for key in model.rejected)
    return tuple(
        RejectedGeneration(key=key, reason=generation.rejection if generation else "") for key, generation in recorded
    )


class ResolvedModel(Record, frozen=True, kw_only=True):
    """The serving generation of one manifest."""

    name: NonEmpty
    """The manifest's metadata.name."""
    key: NonEmpty
    """The key of the generation."""
    remote: Remote
    """The remote name to send prompts to: the tuned model, or its endpoint on Vertex AI."""
    provider: NonEmpty
    """The provider, as in the target file."""
    location: str = ""
    """The location of the service."""
    endpoint: str = ""
    """The address of the service."""
    url: str = ""
    """The URL for prompts to this model."""
    preamble: str = ""
    """The text before every prompt."""
    resources: Resources | None = None
    """The resources of the generation on Vertex AI."""
    sampling: Sampling | None = None
    """The declared sampling defaults."""


class ResolveReport(TargetReport, frozen=True, kw_only=True, tag="Resolve"):
    """The serving generation of each manifest and how to send prompts to it.

    It is the output of `reconcile resolve --format json`, and the published pointer.
    """

    models: tuple[ResolvedModel, ...]
    """Every resolved manifest, by name."""
