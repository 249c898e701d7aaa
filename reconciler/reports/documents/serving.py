"""What serves after somebody moved it by hand: as a versioned document, and for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.domain.lock import LockedModel
from reconciler.domain.model import Capabilities, Resources, Sampling, Target
from reconciler.domain.plan import Action, Kind, Reason
from reconciler.reports.documents.plan_and_result import Document, envelope, filled
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Style, plain, told
from reconciler.reports.text.plan import target_line
from reconciler.state.lockfile import resources_json


@dataclass(frozen=True, slots=True)
class Resolved:
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
    entries: Iterable[Resolved], target: Target, capabilities: Capabilities, *, root: str = ""
) -> Document:
    """Which generation serves each manifest, and how it is asked, by name (schema: resolve)."""
    ordered = sorted(entries, key=lambda entry: entry.name)
    return {**envelope("Resolve", target, capabilities, root), "models": [_resolved(entry) for entry in ordered]}


def _resolved(entry: Resolved) -> Document:
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


@dataclass(frozen=True, slots=True)
class Moved:
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


def serving_document(moved: Moved, target: Target, capabilities: Capabilities, *, root: str = "") -> Document:
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


_LABEL_WIDTH: Final = 12
_VERBS: Final[Mapping[str, str]] = {
    Kind.CREATE: "trains {key}",
    Kind.UPDATE: "patches {key}",
    Kind.WAIT: "waits for {key}, which is training",
    Kind.ADOPT: "takes up {key}",
    Kind.CHECK: "runs the checks of {key}",
    Kind.PROMOTE: "lets {key} serve",
    Kind.DELETE: "cancels {key}",
    Kind.HOLD: "holds it ({reason})",
}
_UNEVENTFUL: Final[Mapping[str, str]] = {Reason.IN_SYNC: "changes nothing"}


def serving_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Serving document: what serves now, and below what is rejected, where that stands, and what comes next."""
    lines = [target_line(document, style, width), style("good", terminal_safe(_headline(document)))]
    for label, text in _details(document):
        for margin, line in told(f"  {label:<{_LABEL_WIDTH}}", text, width):
            lines.append(style("muted", margin) + line)
    return "\n".join(lines)


def _headline(document: Document) -> str:
    now = f"{document['name']}: {document['serving']['key']} serves"
    if not document["changed"]:
        return f"{now} already; nothing was changed"
    return f"{now} in the place of {document['before']}" if "before" in document else now


def _details(document: Document) -> Iterator[tuple[str, str]]:
    yield "remote", document["serving"]["remote"]
    for one in document["rejected"]:
        yield "rejected", f"{one['key']}: {one['reason']}" if "reason" in one else one["key"]
    if document["changed"]:
        yield "recorded", document["lockfile"]
        if "published" in document:
            yield "published", document["published"]
    for action in document["next"]:
        yield "next apply", outlook(action)


def outlook(action: Document) -> str:
    """What the next apply would do, for people."""
    verb = _VERBS.get(action["action"]) or _UNEVENTFUL.get(action["reason"], "leaves it as it is")
    what = verb.format(key=action.get("key", "it"), reason=action["reason"])
    told = f"{what}: {action['message']}" if "message" in action else what
    return f"{action['name']}: {told}" if "name" in action else told
