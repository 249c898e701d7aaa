"""The patch that undoes drift carries what drifted and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from msgspec.structs import replace

from reconciler.domain.model import Sampling, Update
from reconciler.domain.plan import MARK_FIELD
from reconciler.planning.diff import content_changes, mutable_changes, update_of
from reconciler.planning.generations import resolve_generations, satisfies
from reconciler.planning.live_proof import Owner
from support.cases import each_row
from support.core_cases import CAPABILITIES, SCOPE, Made, live, manifest
from support.core_worlds import World, worlds

MADE = Made()
MUTABLE = CAPABILITIES.mutable
DECLARED = manifest(MADE, display_name="counter", description="counts", sampling={"temperature": 0.7, "top_k": 40})
IN_SYNC = live(MADE, display_name="counter", description="counts", sampling={"temperature": 0.7, "top_k": 40})


@each_row(
    ("drifted", "update"),
    [
        ({"display_name": "other"}, {"display_name": "counter"}),
        ({"description": "guesses"}, {"description": "counts"}),
        ({"sampling": Sampling(0.1, None, 40)}, {"sampling": Sampling(temperature=0.7)}),
        ({"sampling": Sampling(0.7, 0.5, 4)}, {"sampling": Sampling(top_k=40)}),
        ({"mark": None}, {"description": "counts"}),
        ({"mark": None, "description": "mine"}, {"description": "counts"}),
    ],
    ids=["displayName", "description", "temperature", "topK", "mark", "mark and description"],
)
def test_a_patch_carries_exactly_what_drifted(drifted: dict[str, Any], update: dict[str, Any]) -> None:
    model = replace(IN_SYNC, **drifted)
    changes = mutable_changes(DECLARED, model, MUTABLE)
    assert update_of(DECLARED, MADE.mark, model, changes) == replace(Update(MADE.mark), **update)


def test_restoring_the_mark_leaves_a_description_that_nobody_declared() -> None:
    model = live(MADE, marked=False, description="theirs")
    changes = mutable_changes(manifest(MADE), model, MUTABLE)
    assert [change.field for change in changes] == [MARK_FIELD]
    assert update_of(manifest(MADE), MADE.mark, model, changes) == Update(MADE.mark, description="theirs")


def test_restoring_the_mark_leaves_a_description_whose_drift_is_ignored() -> None:
    ignoring = manifest(MADE, description="counts", ignore_drift=("description",))
    model = live(MADE, marked=False, description="theirs")
    changes = mutable_changes(ignoring, model, MUTABLE)
    assert update_of(ignoring, MADE.mark, model, changes) == Update(MADE.mark, description="theirs")


@given(worlds())
def test_there_is_a_reason_for_every_generation_that_does_not_satisfy(world: World) -> None:
    for one in world.manifests:
        marked = [model for model in world.observation.models.values() if model.mark and model.mark.name == one.name]
        ours = [model for model in marked if model.mark and model.mark.scope == SCOPE]
        for known in resolve_generations(
            Owner(SCOPE, one.name), world.lock.models.get(one.name), world.observation, ours
        ):
            assert satisfies(known, one) == (content_changes(one, known) == ())
