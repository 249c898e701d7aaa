"""Build the lockfile's record of a generation from its manifest, its mark and the live model."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.identity import key_of
from reconciler.domain.lock import LockedGeneration
from reconciler.domain.model import Dataset, Manifest, Mark, RemoteModel, Source, State
from reconciler.planning.events import update_observed
from reconciler.planning.training_time import total_steps


def requested_generation(manifest: Manifest, mark: Mark, *, remote: str, state: State) -> LockedGeneration:
    """Return the record of a training that is about to be requested, or was."""
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


def adopted_generation(manifest: Manifest, mark: Mark, live: RemoteModel) -> LockedGeneration:
    """Return the record of a live model with this mark that matches its manifest."""
    requested = requested_generation(manifest, mark, remote=live.remote, state=live.state)
    dataset = Dataset("", mark.data, 0) if manifest.dataset.is_unknown else requested.dataset
    adopted = replace(
        requested,
        origin="adopted",
        dataset=dataset,
        claimed=mark.data != dataset.digest,
        total_steps=total_steps(manifest.dataset.examples, live.hyperparameters),
    )
    return update_observed(adopted, live)


def outdated_generation(mark: Mark, source: Source, live: RemoteModel) -> LockedGeneration:
    """Return the record of a live model with this mark that no manifest matches.

    The path of its data set, the declared hyperparameters and the preamble are unknown.
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
    return update_observed(found, live)
