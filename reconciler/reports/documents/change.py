"""Build Change, Serving and Resolve documents: what commands changed in the lockfile or looked up there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct, field

from reconciler.domain.document import builtins_of
from reconciler.domain.lock import LockedGeneration, LockedModel
from reconciler.domain.model import Capabilities, Resources, Sampling, Target
from reconciler.domain.plan import Action
from reconciler.reports.documents.envelope import Document, envelope, filled

Command = Literal["adopt", "forget", "cancel"]
ChangeOutcome = Literal["planned", "done", "unchanged"]


class ManagementChange(Struct, frozen=True):
    """The result of adopt, forget or cancel for a model, or what the command would do.

    ``manifest`` is the file that was written, empty if none. ``published`` is the pointer that was written. ``next``
    are the actions of the next apply for the manifest.
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
    """Return a Change document (schema: change)."""
    return {
        **envelope("Change", target, capabilities, root),
        "command": change.command,
        "name": change.name,
        "outcome": change.outcome,
        "lockfile": change.lockfile,
        **filled({"manifest": change.manifest, "published": change.published}),
        "generations": [_generation(generation) for generation in change.generations],
        "notes": list(change.notes),
        "next": [next_action(action) for action in change.next],
    }


def _generation(generation: LockedGeneration) -> Document:
    return {"key": generation.key, "state": generation.state.value, **filled({"remote": generation.remote})}


class ServingChange(Struct, frozen=True):
    """A change of the serving generation by promote or rollback.

    ``before`` is the generation that was serving, empty if none. ``model`` is the new record, ``remote`` the model that
    answers prompts. ``changed`` is false if the generation was already serving. ``published`` is the pointer that was
    written, and ``next`` are the actions of the next apply for the manifest and its children.
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
    """Return a Serving document (schema: serving)."""
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
    """Return an action of the next apply in short; its name is omitted for the manifest ``about``."""
    return {
        **({"name": action.name} if about and action.name != about else {}),
        "action": action.kind.value,
        "reason": action.reason.value,
        **filled({"key": action.key, "message": action.message}),
    }


class ResolvedModel(Struct, frozen=True):
    """The serving generation of a manifest, and how to send prompts to it.

    ``preamble`` precedes every prompt, as it preceded every training input. ``url`` is the address that takes prompts;
    ``endpoint`` (the service's) and ``url`` are empty if there is none. ``resources`` are further objects that the
    training created.
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
    models: Iterable[ResolvedModel], target: Target, capabilities: Capabilities, *, root: str = ""
) -> Document:
    """Return a Resolve document: serving generations by name (schema: resolve)."""
    ordered = sorted(models, key=lambda model: model.name)
    return {**envelope("Resolve", target, capabilities, root), "models": [_resolved(model) for model in ordered]}


def _resolved(model: ResolvedModel) -> Document:
    return filled(
        {
            "name": model.name,
            "key": model.key,
            "remote": model.remote,
            "provider": model.provider,
            "location": model.location,
            "endpoint": model.endpoint,
            "url": model.url,
            "preamble": model.preamble,
            "resources": builtins_of(model.resources),
            "sampling": filled(
                {
                    "temperature": model.sampling.temperature,
                    "topP": model.sampling.top_p,
                    "topK": model.sampling.top_k,
                }
            ),
        }
    )
