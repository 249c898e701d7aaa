"""Build Change, Serving and Resolve documents: what commands changed in the lockfile or looked up there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, Resources, Sampling, Target
from reconciler.domain.plan import Action
from reconciler.reports.documents.envelope import Document, envelope, filled
from reconciler.state.lockfile import resources_json

Command = Literal["adopt", "forget", "cancel"]
ChangeOutcome = Literal["planned", "done", "unchanged"]


@dataclass(frozen=True, slots=True)
class ManagementChange:
    """What became of a model, or what would.

    ``generations`` are those that it is about. ``manifest`` is the file that was written, as shown, where one was.
    ``notes`` are sentences about what follows. ``published`` names the pointer that tells applications, where that was
    told, and ``next`` is what the next apply would do about the manifest.
    """

    command: Command
    name: str
    outcome: ChangeOutcome
    lockfile: str
    generations: Sequence[LockedGeneration] = ()
    manifest: str = ""
    notes: Sequence[str] = ()
    published: str = ""
    next: Sequence[Action] = ()


def change_document(
    change: ManagementChange, target: Target, capabilities: Capabilities, *, root: str = ""
) -> Document:
    """What became of a model (schema: change)."""
    return {
        **envelope("Change", target, capabilities, root),
        "command": change.command,
        "name": change.name,
        "outcome": change.outcome,
        "lockfile": change.lockfile,
        **filled({"manifest": change.manifest, "published": change.published}),
        "generations": [_generation(one) for one in change.generations],
        "notes": list(change.notes),
        "next": [next_action(action) for action in change.next],
    }


def _generation(one: LockedGeneration) -> Document:
    return {"key": one.key, "state": one.state.value, **filled({"remote": one.remote})}


@dataclass(frozen=True, slots=True)
class ServingChange:
    """What serves a manifest, and what did ``before``, empty for nothing.

    ``model`` is what is recorded now, and ``remote`` what answers prompts. Without ``changed`` it was so already.
    ``reason`` is why somebody rolled it back. ``published`` names the pointer that tells applications, if there is one,
    and ``next`` is what the next apply would do about the manifest and what is tuned from it.
    """

    name: str
    model: LockedModel
    remote: str
    lockfile: str
    before: str = ""
    changed: bool = True
    reason: str = ""
    published: str = ""
    next: Sequence[Action] = ()


def serving_document(moved: ServingChange, target: Target, capabilities: Capabilities, *, root: str = "") -> Document:
    """What serves a manifest now (schema: serving)."""
    return {
        **envelope("Serving", target, capabilities, root),
        "name": moved.name,
        "changed": moved.changed,
        **filled({"before": moved.before, "reason": moved.reason, "published": moved.published}),
        "serving": {"key": moved.model.serving, "remote": moved.remote},
        "rejected": list(_rejected(moved.model)),
        "lockfile": moved.lockfile,
        "next": [next_action(action, moved.name) for action in moved.next],
    }


def _rejected(model: LockedModel) -> Iterator[Document]:
    for key in model.rejected:
        generation = model.generation(key)
        yield {"key": key, **filled({"reason": generation.rejection if generation else ""})}


def next_action(action: Action, about: str = "") -> Document:
    """One thing that the next apply would do, in short; with a name where it is not about the manifest ``about``."""
    return {
        **({"name": action.name} if about and action.name != about else {}),
        "action": action.kind.value,
        "reason": action.reason.value,
        **filled({"key": action.key, "message": action.message}),
    }


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """Where the serving generation of one manifest is, and how it is to be asked.

    ``preamble`` goes before every prompt, as it went before every training input. ``url`` is the address that takes
    prompts; ``endpoint``, the service's, and ``url`` are empty where nothing can be addressed. ``resources`` are what
    the training made besides.
    """

    name: str
    key: str
    remote: str
    provider: str
    location: str = ""
    endpoint: str = ""
    url: str = ""
    preamble: str = ""
    resources: Resources = field(default_factory=Resources)
    sampling: Sampling = field(default_factory=Sampling)


def resolve_document(
    entries: Iterable[ResolvedModel], target: Target, capabilities: Capabilities, *, root: str = ""
) -> Document:
    """Which generation serves each manifest, and how it is asked, by name (schema: resolve)."""
    ordered = sorted(entries, key=lambda entry: entry.name)
    return {**envelope("Resolve", target, capabilities, root), "models": [_resolved(entry) for entry in ordered]}


def _resolved(entry: ResolvedModel) -> Document:
    return filled(
        {
            "name": entry.name,
            "key": entry.key,
            "remote": entry.remote,
            "provider": entry.provider,
            "location": entry.location,
            "endpoint": entry.endpoint,
            "url": entry.url,
            "preamble": entry.preamble,
            "resources": resources_json(entry.resources),
            "sampling": filled(
                {
                    "temperature": entry.sampling.temperature,
                    "topP": entry.sampling.top_p,
                    "topK": entry.sampling.top_k,
                }
            ),
        }
    )
