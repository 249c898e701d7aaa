"""Where the serving generations are, as a versioned document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reconciler.core.lock_text import resources_json
from reconciler.core.model import Capabilities, Resources, Sampling, Target
from reconciler.render.documents import Document, envelope, filled


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
