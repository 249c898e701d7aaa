"""Change, Refresh, Serving and Resolve reports: what commands changed in the lockfile or looked up there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from msgspec.structs import replace

from reconciler.domain.document import Key, LockfilePath, ManifestName, NonEmpty, Record, Remote
from reconciler.domain.errors import ExitStatus
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel, StageName
from reconciler.domain.model import Resources, Sampling, State
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.reports.documents.envelope import TargetReport
from reconciler.state.lockfile import dumps


class ChangedGeneration(Record, frozen=True, kw_only=True):
    """One generation."""

    key: Key
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
    key: Key = ""
    message: str = ""
    """A sentence for the reader."""


class ModelChange(Record, frozen=True, kw_only=True):
    """What changed for one of several models."""

    name: ManifestName
    manifest: str = ""
    """The manifest that was written for the adopted model."""
    generations: tuple[ChangedGeneration, ...]
    """The generations that changed."""
    notes: tuple[NonEmpty, ...]
    """Notices for the reader."""
    next: tuple[NextAction, ...]
    """What the next apply would do for the manifest, according to the lockfile."""


class ChangeReport(TargetReport, frozen=True, kw_only=True, tag="Change"):
    """The result of adopting or forgetting a model, canceling its training or requesting its promotion to a stage.

    It is the output of `reconcile adopt`, `reconcile forget`, `reconcile cancel` and `reconcile promote --stage` with
    `--format json`.
    """

    command: Literal["adopt", "forget", "cancel", "promote"]
    """The command."""
    name: ManifestName
    stage: StageName = ""
    """The removed stage whose record is dropped; omitted for other commands."""
    outcome: Literal["planned", "done", "unchanged"]
    """The outcome: `planned` before approval, `unchanged` when there was nothing to do."""
    lockfile: LockfilePath
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
    others: tuple[ModelChange, ...] = ()
    """The same for the other models, if several were named."""


def combine_changes(reports: Sequence[ChangeReport]) -> ChangeReport:
    """Return one report about the models of all reports, of one command."""
    first, *rest = reports
    others = (
        ModelChange(
            name=report.name,
            manifest=report.manifest,
            generations=report.generations,
            notes=report.notes,
            next=report.next,
        )
        for report in rest
    )
    return replace(first, others=tuple(others))


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

    key: Key
    remote: NonEmpty
    """The remote name that answers prompts."""
    checkpoint: str = ""
    """The ID of the checkpoint; omitted for the default one."""


class RejectedGeneration(Record, frozen=True, kw_only=True):
    """One rejected generation."""

    key: Key
    reason: str = ""
    """The reason for the rollback."""


class ServingReport(TargetReport, frozen=True, kw_only=True, tag="Serving"):
    """The serving generation after a manual change.

    It is the output of `reconcile rollback` and `reconcile promote` with `--format json`.
    """

    name: ManifestName
    stage: StageName = ""
    """The stage; omitted for the first one."""
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
    still_serving: tuple[str, ...] = ()
    """The later stages in which the previous serving generation is still serving."""
    warning: str = ""
    """Why the serving generation may not be good enough: its checks fail, or could not be run."""
    rejected: tuple[RejectedGeneration, ...]
    """The rejected generations."""
    lockfile: LockfilePath
    next: tuple[NextAction, ...]
    """What the next apply would do for the manifest and its children, according to the lockfile."""


def rejected_generations(model: LockedModel) -> tuple[RejectedGeneration, ...]:
    """Return the rejected generations of a model with the reasons, if they are still recorded."""
    recorded = ((key, model.generation(key)) for key in model.rejected)
    return tuple(
        RejectedGeneration(key=key, reason=generation.rejection if generation else "") for key, generation in recorded
    )


class ModelFiles(Record, frozen=True, kw_only=True):
    """The files of a model, and the lines with which tools use them."""

    folder: NonEmpty
    """The folder of the adapter, or of the whole model if the training changed all weights."""
    base_model: str
    """The base model: its name on the hub, or its path."""
    revision: str = ""
    """The commit of the base model on the hub."""
    commands: Mapping[str, tuple[str, ...]]
    """The lines for vLLM, transformers and llama.cpp, by tool."""


class ResolvedModel(Record, frozen=True, kw_only=True):
    """The serving generation of one manifest."""

    name: ManifestName
    key: Key
    checkpoint: str = ""
    """The ID of the checkpoint that is serving; omitted for the default one."""
    publish_time: str = ""
    """In a published object: when the server first had this key and checkpoint; omitted until another model changes."""
    remote: Remote
    """The remote name to send prompts to: the tuned model, or the endpoint of the checkpoint on Vertex AI. For an open
    model it is the folder of its weights."""
    provider: NonEmpty
    """The provider, as in the target file."""
    location: str = ""
    """The location of the remote name, or of the service if the name has none."""
    endpoint: str = ""
    """The address of the service."""
    url: str = ""
    """The URL for prompts to this model."""
    preamble: str = ""
    """The text before every prompt."""
    resources: Resources | None = None
    """The resources of the generation on Vertex AI."""
    experiment_url: str = ""
    """The page of the experiment that has the metrics of the training."""
    sampling: Sampling | None = None
    """The declared sampling defaults."""
    files: ModelFiles | None = None
    """The files of a model that was trained on this machine, and how to use them."""


class ResolveReport(TargetReport, frozen=True, kw_only=True, tag="Resolve"):
    """The serving generation of each manifest and how to send prompts to it.

    It is the output of `reconcile resolve --format json`, and the published pointer.
    """

    verified: bool
    """Whether the service was queried and its models prove the records. Otherwise the lockfile states this, and only
    the project, location and provider were checked."""
    stage: StageName = ""
    """The stage of the target; omitted without stages, and in the output of a command without `--stage`."""
    models: tuple[ResolvedModel, ...]
    """Every resolved manifest, by name."""


RecordChange = Literal["added", "changed", "removed"]
_Block = Mapping[str, Any]
"""A model or a generation as the lockfile has it."""


class RefreshedGeneration(Record, frozen=True, kw_only=True):
    """One generation."""

    key: Key
    change: RecordChange
    """The change of its record."""
    before: State | None = None
    """The previously recorded state; omitted if it is the same."""
    state: State | None = None
    """The newly recorded state; omitted if it is no longer recorded."""
    remote: str = ""
    """The remote name."""
    fields: tuple[NonEmpty, ...] = ()
    """The other fields of its record that differ."""


class RefreshedModel(Record, frozen=True, kw_only=True):
    """One model."""

    name: ManifestName
    change: RecordChange
    """The change of its block."""
    fields: tuple[NonEmpty, ...] = ()
    """The fields of its block that differ, without its generations."""
    generations: tuple[RefreshedGeneration, ...] = ()
    """The generations that differ."""


class RefreshReport(TargetReport, frozen=True, kw_only=True, tag="Refresh"):
    """What a refresh changed in the lockfile, or would change: the output of `reconcile refresh --format json`."""

    lockfile: LockfilePath
    exit_status: ExitStatus
    """The exit status of the command: 2 if `--check` found something to write."""
    changed: bool
    """Whether the lockfile differs from the manifests and the live state."""
    written: bool
    """Whether it was written."""
    merged: bool
    """Whether it contained both sides of a merge, which were merged."""
    models: tuple[RefreshedModel, ...]
    """The differences in the lockfile, by model; after a merge, from both sides merged."""
    notices: tuple[NonEmpty, ...]
    """Notices: decisions, records that could not be recovered, and models that were skipped."""


def refreshed_models(before: Lock, after: Lock) -> tuple[RefreshedModel, ...]:
    """Return the models whose blocks in the lockfile differ, by name."""
    old_blocks, new_blocks = _recorded(before), _recorded(after)
    names = sorted(old_blocks.keys() | new_blocks.keys())
    sides = ((name, old_blocks.get(name), new_blocks.get(name)) for name in names)
    return tuple(
        RefreshedModel(
            name=name,
            change=_change(old, new),
            fields=_fields(old, new, "generations"),
            generations=tuple(_generations(_by_key(old), _by_key(new))),
        )
        for name, old, new in sides
        if old != new
    )


def _recorded(lock: Lock) -> dict[str, _Block]:
    """Return the models as the lockfile has them."""
    models: dict[str, _Block] = json.loads(dumps(lock))["models"]
    return models


def _by_key(model: _Block | None) -> dict[str, _Block]:
    return {generation["key"]: generation for generation in (model or {}).get("generations", [])}


def _change(old: _Block | None, new: _Block | None) -> RecordChange:
    if old is None:
        return "added"
    return "changed" if new else "removed"


def _fields(old: _Block | None, new: _Block | None, omitted: str) -> tuple[str, ...]:
    """Return the names of fields that differ; none if a side is missing."""
    if old is None or new is None:
        return ()
    names = (old.keys() | new.keys()) - {omitted}
    return tuple(sorted(name for name in names if old.get(name) != new.get(name)))


def _generations(before: Mapping[str, _Block], after: Mapping[str, _Block]) -> Iterator[RefreshedGeneration]:
    for key in (*after, *(key for key in before if key not in after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        states = [State(block["state"]) if block else None for block in (old, new)]
        yield RefreshedGeneration(
            key=key,
            change=_change(old, new),
            before=states[0] if states[0] is not states[1] else None,
            state=states[1],
            remote=(new or old or {}).get("remote", ""),
            fields=_fields(old, new, "state"),
        )
