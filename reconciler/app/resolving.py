"""Where a generation is, and how it is to be asked."""

from __future__ import annotations

from reconciler.app.services import callable_name, endpoint_of, url_of
from reconciler.core.lock import LockedGeneration
from reconciler.core.model import Sampling, Target
from reconciler.render.resolve import Resolved


def resolved(target: Target, name: str, serving: LockedGeneration, sampling: Sampling) -> Resolved:
    """The generation that serves the manifest of that name, which declares this sampling."""
    remote = callable_name(serving.remote, serving.resources)
    return Resolved(
        name=name,
        key=serving.key,
        remote=remote,
        provider=target.provider,
        location=target.location or "",
        endpoint=endpoint_of(target),
        url=url_of(target, remote),
        preamble=serving.preamble,
        resources=serving.resources,
        sampling=sampling,
    )
