"""Jobs that are canceled or never start, and missing data sets and base models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.errors import ExitStatus, ReconcileError, ServiceError
from reconciler.domain.model import Dataset, Failure, Lifecycle, Source, State, Target
from reconciler.domain.plan import Kind, Reason, Request, Requirement, TrainingCheck, TrainingFault, TrainingNeeds
from reconciler.domain.ports import PlannedTraining
from reconciler.engine.apply import ApplyOptions
from reconciler.engine.observe import fetch_dataset_versions
from reconciler.planning.datasets import with_dataset_versions
from reconciler.planning.events import Cancelled, Progressed
from reconciler.planning.training_checks import require_startable
from support.core_cases import OBJECT, digest_of
from support.engine_fake import Meanwhile, Queue, World, manifest
from support.provider_fake import FakeJobs, FakeProvider

RETRY = Request(retry=frozenset({"numbers"}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def busy(tmp_path: Path) -> World:
    return World(tmp_path, service=Queue, time=Meanwhile(60))


def test_a_training_canceled_at_the_service_is_held_until_a_retry(world: World) -> None:
    world.time.acts = [lambda: world.change("jobs/1", state=State.CANCELLED)]
    ran = world.run(manifest())
    assert ran.happened == ["Intended", "Started", "Cancelled"]
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert ran.outcome.failed == {"numbers"}
    again = world.run(manifest())
    assert again.happened == []
    assert [(one.kind, one.reason, one.message) for one in again.outcome.plan.actions] == [
        (
            Kind.HOLD,
            Reason.CANCELLED,
            "the training was canceled at the service; change the inputs, or train it again with --retry numbers",
        )
    ]
    assert again.outcome.exit_status is ExitStatus.ERROR
    retried = world.run(manifest(), request=RETRY)
    assert retried.outcome.exit_status is ExitStatus.OK
    model = world.checkout.lock.models["numbers"]
    assert [(one.attempt, one.state) for one in model.generations] == [(1, State.ACTIVE), (0, State.CANCELLED)]
    assert model.serving == model.generations[0].key


def test_the_reason_of_a_canceled_job_is_recorded(world: World) -> None:
    failure = Failure(8, "The quota was used up")
    world.time.acts = [lambda: world.change("jobs/1", state=State.CANCELLED, failure=failure)]
    ran = world.run(manifest())
    assert [event.model.failure for event in ran.events if isinstance(event, Cancelled)] == [failure]
    (one,) = world.checkout.lock.models["numbers"].generations
    assert (one.state, one.failure) == (State.CANCELLED, failure)


def test_a_canceled_replacement_keeps_the_serving_generation(world: World) -> None:
    world.run(manifest())
    serving = world.checkout.lock.models["numbers"].serving
    world.time.acts = [lambda: world.change("jobs/2", state=State.CANCELLED)]
    ran = world.run(manifest(), request=Request(replace=frozenset({"numbers"})))
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert world.checkout.lock.models["numbers"].serving == serving
    assert world.run(manifest()).outcome.exit_status is ExitStatus.OK


def test_the_phase_of_a_queued_training_is_reported_until_the_timeout(busy: World) -> None:
    ran = busy.run(manifest(), timeout=timedelta(minutes=90))
    assert {event.model.phase for event in ran.events if isinstance(event, Progressed)} == {"QUEUED"}
    assert ran.outcome.exit_status is ExitStatus.STILL_TRAINING
    (wait,) = ran.outcome.plan.actions
    assert (wait.kind, wait.reason) == (Kind.WAIT, Reason.TRAINING)
    assert wait.message.startswith("the service has shown it as QUEUED for 1.5 hours: its location may be short of")
    assert busy.states() == [State.CREATING]


def test_the_timeout_of_a_queued_training_ends_the_wait_and_cancels_nothing(busy: World) -> None:
    hurried = manifest(lifecycle=Lifecycle(timeout=timedelta(hours=2)))
    ran = busy.run(hurried)
    (hold,) = ran.outcome.plan.actions
    assert (hold.kind, hold.reason) == (Kind.HOLD, Reason.DEADLINE_EXCEEDED)
    assert "shown it as QUEUED for 2.0 hours" in hold.message
    assert hold.message.endswith(f"spec.lifecycle.timeout is over, and reconcile does not wait for {hold.key}")
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert busy.states() == [State.CREATING]
    assert busy.run(hurried).outcome.exit_status is ExitStatus.ERROR


def test_a_base_model_that_cannot_be_tuned_is_held_before_a_request(world: World) -> None:
    ran = world.run(manifest(source=Source("old-base")), manifest("letters"))
    held = {one.name: (one.kind, one.reason, one.message) for one in ran.approved.actions}
    assert held["numbers"] == (Kind.HOLD, Reason.BASE_MODEL_UNAVAILABLE, "old-base does not exist")
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert set(world.checkout.lock.models) == {"letters"}
    assert [one.reason for one in ran.outcome.plan.failing] == [Reason.BASE_MODEL_UNAVAILABLE]


class Counting(FakeProvider):
    """Records which base models were checked."""

    def __init__(self, jobs: FakeJobs) -> None:
        super().__init__(jobs)
        self.asked: list[frozenset[str]] = []

    async def preflight(self, base_models: frozenset[str]) -> Mapping[str, str]:
        self.asked.append(base_models)
        return await super().preflight(base_models)


def test_base_models_are_checked_once_and_only_for_trainings(world: World) -> None:
    counting = Counting(world.jobs)
    wanted = (manifest(), manifest("letters"), manifest("words", source=Source("old-base")))
    world.run(*wanted, provider=counting)
    assert counting.asked == [frozenset({"fake-base", "old-base"})]
    world.run(*wanted[:2], provider=counting)
    assert len(counting.asked) == 1


class Bucket:
    """Data sets in Cloud Storage that are missing or unreadable."""

    def __init__(self, **found: Dataset) -> None:
        self.found = found
        self.asked: list[str] = []

    async def pin(self, uri: str) -> Dataset | str:
        self.asked.append(uri)
        if uri.startswith("gs://down/"):
            raise ServiceError("GET gs://down got no response", code="UNREACHABLE")
        return self.found.get(uri[-1], f"there is no {uri}")


ADDRESS = Dataset("", OBJECT, 0)
PINNED = Dataset(digest_of(1), OBJECT, 0, "1", "AAAAAA==", 1000)
OVERWRITTEN = Dataset(digest_of(2), OBJECT, 0, "2", "AAAAAA==", 1000)
GONE = f"there is no {OBJECT}"


def test_each_data_set_is_read_once() -> None:
    declared = [manifest(name, dataset=ADDRESS) for name in ("a", "b")]
    declared.append(manifest("c", dataset=Dataset("", "gs://acme/c", 0), validation=ADDRESS))
    bucket = Bucket(l=PINNED)
    found = asyncio.run(fetch_dataset_versions(bucket, declared, 2))
    assert sorted(bucket.asked) == ["gs://acme/c", OBJECT]
    assert found[OBJECT] == PINNED
    assert found["gs://acme/c"] == "there is no gs://acme/c"


def test_unreachable_storage_is_an_error() -> None:
    with pytest.raises(ServiceError, match="gs://down got no response"):
        asyncio.run(fetch_dataset_versions(Bucket(), [manifest(dataset=Dataset("", "gs://down/x", 0))], 2))


def test_the_version_of_the_training_data_is_recorded(world: World) -> None:
    assert world.run(manifest(dataset=PINNED)).outcome.exit_status is ExitStatus.OK
    (one,) = world.checkout.lock.models["numbers"].generations
    assert one.dataset == PINNED


def test_a_model_stays_without_its_data_set_and_no_other_is_trained(world: World) -> None:
    world.run(manifest(dataset=PINNED))
    gone = with_dataset_versions([manifest(dataset=ADDRESS)], {OBJECT: GONE}, world.checkout.lock)
    assert world.run(*gone).happened == []
    changed = [replace(one, hyperparameters={"epochCount": 9}) for one in gone]
    ran = world.run(*changed)
    assert [(one.reason, one.message) for one in ran.outcome.plan.actions] == [
        (Reason.DATA_UNAVAILABLE, f"there is no {OBJECT}")
    ]
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert len(world.states()) == 1


def test_an_overwritten_object_is_trained_again(world: World) -> None:
    world.run(manifest(dataset=PINNED))
    ran = world.run(manifest(dataset=OVERWRITTEN))
    (action,) = ran.approved.actions
    assert (action.kind, action.reason) == (Kind.CREATE, Reason.CONTENT_CHANGED)
    assert next((one.field, one.live, one.declared) for one in action.changes) == ("dataset.generation", "1", "2")
    assert [one.dataset.generation for one in world.checkout.lock.models["numbers"].generations] == ["2", "1"]
    assert world.states() == [State.ACTIVE, State.ACTIVE]


def test_an_interrupted_training_without_its_data_set_is_held(world: World) -> None:
    class Outage(FakeProvider):
        async def create(self, *_: object) -> object:
            raise ServiceError("POST /jobs got no response", code="UNREACHABLE")

    world.run(manifest(dataset=PINNED), provider=Outage(world.jobs))
    gone = with_dataset_versions([manifest(dataset=ADDRESS)], {OBJECT: GONE}, world.checkout.lock)
    ran = world.run(*gone)
    assert [one.reason for one in ran.outcome.plan.actions] == [Reason.DATA_UNAVAILABLE]
    assert [one.state for one in world.checkout.lock.models["numbers"].generations] == [State.INTENDED]


class Checking(FakeProvider):
    """Checks the trainings before they start: ``answers`` by name of the manifest."""

    def __init__(self, jobs: FakeJobs, answers: Mapping[str, TrainingCheck]) -> None:
        super().__init__(jobs)
        self.answers = answers
        self.asked: list[tuple[str, str, int]] = []

    async def check_trainings(self, trainings: Sequence[PlannedTraining]) -> dict[str, TrainingCheck]:
        found = {}
        for planned in trainings:
            generation = planned.generation
            self.asked.append((generation.mark.name, generation.source.base_model, len(list(planned.examples))))
            found[generation.key] = self.answers[generation.mark.name]
        return found


def test_a_training_with_faults_is_held_and_the_others_show_what_they_need(world: World) -> None:
    fault = TrainingFault(message="row 3: 0 of 8 tokens are trained", remedy="raise maxLength to 9", example=3)
    long = TrainingFault(message="row 1: trained as 2 sequences", example=1, in_validation=True, is_warning=True)
    needs = TrainingNeeds(tokens=60, trained_tokens=20, seconds=30.0, memory=Requirement(10**9, 2 * 10**9))
    provider = Checking(
        world.jobs, {"letters": TrainingCheck(faults=(fault,)), "numbers": TrainingCheck(needs=needs, faults=(long,))}
    )
    ran = world.run(manifest(), manifest("letters"), provider=provider)
    held, create = ran.approved.actions
    assert (held.name, held.kind, held.reason) == ("letters", Kind.HOLD, Reason.INVALID_TRAINING)
    assert held.message == "data.csv:4: row 3: 0 of 8 tokens are trained; raise maxLength to 9"
    assert create.training
    assert (create.training.trained_tokens, create.training.seconds) == (20, 30.0)
    assert create.training.memory == Requirement(10**9, 2 * 10**9)
    assert "numbers: validation.csv:2: row 1: trained as 2 sequences" in ran.approved.notices
    assert ran.outcome.exit_status is ExitStatus.ERROR
    assert set(world.checkout.lock.models) == {"numbers"}
    assert len(provider.asked) == 2, "the follow-up plans of a run do not repeat the checks"


def test_a_child_of_a_planned_training_is_checked_with_its_base_model(world: World) -> None:
    child = manifest("letters", source=Source(tuned_model="numbers"))
    provider = Checking(world.jobs, dict.fromkeys(("numbers", "letters"), TrainingCheck()))
    world.run(manifest(), child, provider=provider)
    base = manifest().source.base_model
    assert [asked[:2] for asked in provider.asked] == [("letters", base), ("numbers", base)]


class Hidden(World):
    """A world whose target hides examples."""

    @property
    def target(self) -> Target:
        return replace(super().target, show_examples=False)


def test_a_fault_quotes_no_example_if_the_target_hides_them(tmp_path: Path) -> None:
    world = Hidden(tmp_path)
    fault = TrainingFault(message="row 1: the chat template fails: Ada is no role", remedy="change it", example=1)
    ran = world.run(manifest(), provider=Checking(world.jobs, {"numbers": TrainingCheck(faults=(fault,))}))
    assert [action.message for action in ran.approved.actions] == [
        "data.csv:2: row 1: the chat template fails; change it"
    ]


def test_a_run_that_trains_nothing_checks_no_training(world: World) -> None:
    provider = Checking(world.jobs, {})
    world.run(manifest(), provider=provider, creates=False)
    assert provider.asked == []


def test_unchecked_trainings_are_named_with_the_reason_and_refused_if_they_cannot_start(world: World) -> None:
    check = TrainingCheck(unchecked="torch is not installed", remedy="install it", cannot_start=True)
    provider = Checking(world.jobs, dict.fromkeys(("numbers", "letters"), check))
    applier = world.applier((manifest(), manifest("letters")), ApplyOptions(), provider=provider)
    planned = asyncio.run(applier.plan())
    notice = "the training of letters, numbers was not checked: torch is not installed; install it"
    assert planned.notices == (notice,)
    with pytest.raises(ReconcileError, match="torch is not installed, so letters cannot be trained; install it"):
        require_startable(applier.observation.training_checks, planned.actions)
    require_startable({}, planned.actions)
