"""What is recorded of a generation that is asked for or found: what its manifest says, and what the service shows."""

from __future__ import annotations

from dataclasses import replace

from reconciler.domain.identity import key_of
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Dataset, Manifest, Mark, RemoteModel, Source, State
from reconciler.planning.events import observed
from reconciler.planning.training_time import total_steps


def asked_for(manifest: Manifest, mark: Mark, *, remote: str, state: State) -> LockedGeneration:
    """The generation of that mark, of which the service is asked, or about to be."""
    return LockedGeneration(
        key=key_of(mark),
        remote=remote,
        spec=mark.spec,
        attempt=mark.attempt,
        origin="created",
        state=state,
        source=replace(manifest.source, remote="") if manifest.source.tuned_model else manifest.source,
        dataset=replace(manifest.dataset, error=""),
        declared=manifest.hyperparameters,
        preamble=manifest.preamble,
    )


def taken_up(manifest: Manifest, mark: Mark, live: RemoteModel) -> LockedGeneration:
    """A generation that bears this mark and was found to be what the manifest asks for."""
    asked = asked_for(manifest, mark, remote=live.remote, state=live.state)
    dataset = Dataset("", mark.data, 0) if manifest.dataset.is_unknown else asked.dataset
    return observed(
        replace(
            asked,
            origin="adopted",
            dataset=dataset,
            claimed=mark.data != dataset.digest,
            total_steps=total_steps(manifest.dataset.examples, live.hyperparameters),
        ),
        live,
    )


def pieced_together(mark: Mark, source: Source, live: RemoteModel) -> LockedGeneration:
    """A generation that bears this mark and is nothing that anybody asks for any more: what can be told of it.

    Where its data stood, what was declared, and the preamble are recorded nowhere else.
    """
    found = LockedGeneration(
        key=key_of(mark),
        remote=live.remote,
        spec=mark.spec,
        attempt=mark.attempt,
        origin="adopted",
        state=live.state,
        source=source,
        dataset=Dataset("", mark.data, 0),
        total_steps=live.total_steps,
    )
    return observed(found, live)
