"""A recorded generation counts only if the live model proves it: the table of what may differ, and what may not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel
from reconciler.domain.model import RemoteModel, Resources, Source
from reconciler.planning.live_proof import Owner, find_mismatch, is_elsewhere
from support.core_cases import SCOPE, Made, at, live, recorded

MADE = Made()
CHILD = Made("poems", parent=MADE)
OWNER = Owner(SCOPE, "numbers", ("numbers", "digits"))
ADOPTED = replace(recorded(MADE), origin="adopted", remote="tunedModels/theirs")
PARENTS = Lock(models={"numbers": LockedModel("numbers.yaml", generations=(recorded(MADE),))})
NINE = {"epochCount": 9, "batchSize": 2}
UNMARKED = live(MADE, under="theirs", marked=False)
NAMED = replace(OWNER, adopted="tunedModels/theirs")


def moved(model: RemoteModel, **fields: Any) -> RemoteModel:
    """The model with another value in its mark."""
    assert model.mark is not None
    return replace(model, mark=replace(model.mark, **fields))


@pytest.mark.parametrize(
    ("record", "owner", "model"),
    [
        (recorded(MADE), OWNER, live(MADE)),
        (recorded(MADE), OWNER, live(MADE, created=40)),  # another run trained it again
        (recorded(MADE), OWNER, live(MADE, marked=False)),
        (recorded(MADE), replace(OWNER, name="digits", names=("digits", "numbers")), live(MADE)),
        (recorded(MADE), replace(OWNER, name="sums", names=None), live(MADE)),
        (recorded(MADE, number=1), OWNER, live(MADE, number=1)),
        (ADOPTED, OWNER, live(MADE, under="theirs")),
        (ADOPTED, NAMED, UNMARKED),
        (recorded(CHILD), Owner(SCOPE, "poems", ("poems",)), live(CHILD)),
        (
            recorded(CHILD),
            Owner(SCOPE, "poems", ("poems",), lock=PARENTS),
            live(CHILD),
        ),
    ],
)
def test_what_the_live_model_proves(record: LockedGeneration, owner: Owner, model: RemoteModel) -> None:
    assert find_mismatch(record, owner, model) is None


@pytest.mark.parametrize(
    ("record", "owner", "model", "field"),
    [
        (recorded(MADE), OWNER, replace(live(MADE), remote="tunedModels/other"), "remote"),
        (recorded(MADE), OWNER, moved(live(MADE), scope="theirs"), "remote"),
        (recorded(MADE), OWNER, moved(live(MADE), name="words"), "remote"),
        (recorded(MADE), replace(OWNER, name="sums", names=("sums",)), live(MADE), "remote"),
        (replace(recorded(MADE), remote="tunedModels/x"), OWNER, live(MADE, under="x"), "remote"),
        (recorded(MADE), OWNER, moved(live(MADE), spec=Made(data="B").mark.spec), "key"),
        (replace(recorded(MADE), key="numbers-aaaaaaaa"), OWNER, live(MADE), "key"),
        (replace(recorded(MADE), spec=Made(data="B").mark.spec), OWNER, live(MADE), "spec"),
        (replace(recorded(MADE), attempt=1), OWNER, live(MADE), "attempt"),
        (replace(recorded(MADE), dataset=Made(data="B").dataset), OWNER, live(MADE), "dataset.digest"),
        (replace(recorded(MADE), source=Source("models/other")), OWNER, live(MADE), "spec"),
        (replace(recorded(MADE), hyperparameters=LockedHyperparameters()), OWNER, live(MADE), "spec"),
        (recorded(MADE), OWNER, replace(live(MADE), source=Source("models/other")), "source"),
        (recorded(MADE), OWNER, live(MADE, marked=False, created=40), "createTime"),
        (recorded(MADE, created=None), OWNER, live(MADE, marked=False), "createTime"),
        (recorded(MADE), OWNER, live(MADE, marked=False, effective=NINE), "hyperparameters.effective.epochCount"),
        (recorded(MADE, number=1), OWNER, live(MADE, marked=False, number=1), "remote"),
        (replace(recorded(MADE), remote="tunedModels/theirs"), NAMED, UNMARKED, "remote"),
        (ADOPTED, OWNER, UNMARKED, "remote"),
        (ADOPTED, NAMED, replace(UNMARKED, create_time=at(9)), "createTime"),
        (ADOPTED, NAMED, replace(UNMARKED, source=Source("models/other")), "source"),
    ],
)  # fmt: skip
def test_what_the_live_model_contradicts(
    record: LockedGeneration, owner: Owner, model: RemoteModel, field: str
) -> None:
    found = find_mismatch(record, owner, model)
    assert found is not None
    assert found.field == field


@pytest.mark.parametrize(
    ("remote", "elsewhere"),
    [("jobs/1", False), ("jobs/x", True), ("other/jobs/1", True), ("jobs/1\n", True), ("", False)],
)
def test_names_of_another_project_are_elsewhere(remote: str, *, elsewhere: bool) -> None:
    record = replace(recorded(MADE), remote=remote, resources=Resources())
    assert is_elsewhere(record, replace(OWNER, remote_pattern=r"jobs/[0-9]+")) == elsewhere
