"""Data sets in Cloud Storage: what a manifest names, as it was found or recorded."""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Dataset, Manifest
from reconciler.planning.datasets import missing_dataset_notices, remote_paths, with_dataset_versions
from support.cases import each_row
from support.core_cases import OBJECT, Made, intended, manifest, recorded

VALIDATION = "gs://acme/validation.jsonl"
GONE = f"there is no {OBJECT}"
OLD, NEW = Made(data=1), Made(data=2)
DECLARED = manifest(NEW, looked=False)
LOCAL = manifest(Made(name="local"))


def lock_of(*made: Made, serving: Made | None = None) -> Lock:
    block = LockedModel("numbers.yaml", serving.key if serving else None, generations=tuple(map(recorded, made)))
    return Lock(models={"numbers": block})


def only(manifests: tuple[Manifest, ...]) -> Manifest:
    (one,) = manifests
    return one


def test_addresses_are_those_of_training_and_validation() -> None:
    both = replace(DECLARED, validation=Dataset("", VALIDATION, 0))
    local = replace(LOCAL, validation=Dataset("sha256:" + "0" * 64, "validation.csv", 3))
    assert remote_paths([both, both, local]) == {OBJECT, VALIDATION}
    assert remote_paths([LOCAL]) == frozenset()


def test_what_was_found_takes_the_place_of_the_address() -> None:
    found = {OBJECT: NEW.dataset, VALIDATION: Dataset("sha256:" + "2" * 64, VALIDATION, 0, "7")}
    one = only(
        with_dataset_versions(
            [replace(DECLARED, validation=Dataset("", VALIDATION, 0))], found, lock_of(OLD, serving=OLD)
        )
    )
    assert one.dataset == NEW.dataset
    assert one.validation == found[VALIDATION]


def test_files_are_left_as_they_are() -> None:
    assert with_dataset_versions([LOCAL], {}, Lock()) == (LOCAL,)


def test_what_was_pinned_can_be_looked_at_anew() -> None:
    validated = replace(manifest(OLD), validation=Dataset("sha256:" + "2" * 64, VALIDATION, 0, "7"))
    found = {OBJECT: NEW.dataset, VALIDATION: Dataset("sha256:" + "3" * 64, VALIDATION, 0, "8")}
    one = only(with_dataset_versions([validated], found, lock_of(OLD)))
    assert (one.dataset, one.validation) == (NEW.dataset, found[VALIDATION])


def test_what_was_pinned_and_is_gone_counts_as_recorded() -> None:
    one = only(with_dataset_versions([manifest(NEW)], {OBJECT: GONE}, lock_of(OLD)))
    assert (one.dataset, one.dataset_error) == (OLD.dataset, GONE)


@each_row(
    ("lock", "dataset"),
    [
        (lock_of(OLD), OLD.dataset),
        (lock_of(NEW, OLD, serving=OLD), OLD.dataset),
        (lock_of(NEW, OLD), NEW.dataset),
        (Lock(models={"numbers": LockedModel("numbers.yaml", generations=(intended(OLD),))}), OLD.dataset),
    ],
    ids=["the only one", "what serves", "the newest where nothing serves", "what was only intended"],
)
def test_what_is_gone_counts_as_it_was_recorded(lock: Lock, dataset: Dataset) -> None:
    unseen = only(with_dataset_versions([DECLARED], {}, lock))
    assert unseen.dataset == dataset
    gone = only(with_dataset_versions([DECLARED], {OBJECT: GONE}, lock))
    assert (gone.dataset, gone.dataset_error) == (dataset, GONE)


@each_row(
    "lock", [Lock(), lock_of(), lock_of(Made(), serving=Made())], ids=["no lock", "no generation", "another data set"]
)
def test_without_a_record_there_is_no_digest(lock: Lock) -> None:
    assert only(with_dataset_versions([DECLARED], {}, lock)).dataset == Dataset("", OBJECT, 0)
    gone = only(with_dataset_versions([DECLARED], {OBJECT: GONE}, lock))
    assert (gone.dataset, gone.dataset_error) == (Dataset("", OBJECT), GONE)


def test_what_is_gone_while_a_training_on_it_counts_is_told() -> None:
    lock = lock_of(OLD, serving=OLD)
    notices = missing_dataset_notices([*with_dataset_versions([DECLARED], {OBJECT: GONE}, lock), LOCAL])
    assert notices == (f"numbers is compared with its recorded data set: there is no {OBJECT}",)
    assert missing_dataset_notices(with_dataset_versions([DECLARED], {OBJECT: GONE}, Lock())) == ()
    assert missing_dataset_notices(with_dataset_versions([DECLARED], {OBJECT: NEW.dataset}, lock)) == ()
