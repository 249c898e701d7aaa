"""Running checks: prompts, concurrency, progress and reports."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, CheckResults, Miss
from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.model import Sampling
from reconciler.domain.ports import Answer, Prompt, Provider, Reply
from reconciler.engine.check import CheckedGeneration
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.events import Checked, Checking
from support.checking_world import SUBJECT, Bench, HeldOut, Oracle, evaluation_check, prompt_check, successor
from support.engine_world import World, manifest

SMALL = prompt_check()
UNSEEN = evaluation_check()


def test_every_check_is_run_and_reported_in_its_order() -> None:
    checks = (UNSEEN, SMALL, prompt_check("wrong", wanted="8", candidates=2))
    bench = Bench(Oracle())
    (report,) = bench.run(manifest(checks=checks))
    assert report.digest == checks_digest(checks)
    assert [(one.name, one.passes, one.answers, one.passed) for one in report.results] == [
        ("unseen", 12, 12, True),
        ("small", 1, 1, True),
        ("wrong", 0, 2, False),
    ]
    assert (report.passed, report.failed) == (2, 1)
    assert bench.events[-1] == Checked("numbers", SUBJECT.key, report)


def test_the_report_does_not_depend_on_which_answer_comes_first() -> None:
    checks = (evaluation_check(examples=6),)

    def told(at: int, oracle: Oracle) -> CheckResults:
        (report,) = Bench(oracle, concurrency=at).run(manifest(checks=checks))
        return report

    def wrong(prompt: Prompt) -> Reply:
        return Reply((Answer(f"not {prompt.text}"),))

    one_by_one = told(1, Oracle(wrong))
    assert told(6, Oracle(wrong, together=6, patience=lambda asked: 20 - 3 * asked)) == one_by_one
    assert [miss.prompt for miss in one_by_one.results[0].misses] == ["0", "1", "2", "3", "4", "5"]


def test_the_concurrency_limits_the_prompts() -> None:
    """No prompt is answered before three were sent."""
    oracle = Oracle(together=3)
    Bench(oracle, concurrency=3).run(manifest(checks=(UNSEEN,)))
    assert (oracle.most, len(oracle.asked)) == (3, 12)


def test_manifests_share_the_concurrency() -> None:
    oracle = Oracle(together=4)
    Bench(oracle, concurrency=4).run(manifest("a", checks=(UNSEEN,)), manifest("b", checks=(UNSEEN,)))
    assert (oracle.most, len(oracle.asked)) == (4, 24)


def test_a_held_out_data_set_is_read_while_prompts_are_sent() -> None:
    examples = HeldOut()
    ahead = []

    def answer(prompt: Prompt) -> Reply:
        ahead.append(examples.read - len(ahead))
        return successor(prompt)

    (report,) = Bench(Oracle(answer), examples, concurrency=3).run(manifest(checks=(evaluation_check(examples=2000),)))
    assert report.results[0].answers == 2000
    assert max(ahead) <= 6


def test_each_answer_emits_progress() -> None:
    checks = (SMALL, evaluation_check(sample=2), prompt_check("many", candidates=5))
    bench = Bench(Oracle())
    bench.run(manifest(checks=checks))
    assert bench.events[:-1] == [Checking("numbers", SUBJECT.key, done, 4, 3) for done in range(5)]
    assert isinstance(bench.events[-1], Checked)


def test_prompts_have_the_preamble_of_the_generation() -> None:
    oracle = Oracle(lambda _: Reply(()))
    subject = CheckedGeneration("numbers-aaaaaaaa", "endpoints/7", "Count on: ")
    checks = (SMALL, evaluation_check(examples=1))
    (report,) = Bench(oracle).run(manifest(checks=checks, preamble="Continue: "), subject=subject)
    assert [(remote, prompt.text) for remote, prompt in oracle.asked] == [
        ("endpoints/7", "Count on: 8"),
        ("endpoints/7", "Count on: 0"),
    ]
    assert [miss.prompt for one in report.results for miss in one.misses] == ["8", "0"]


@pytest.mark.parametrize(
    ("oracle", "sampling"),
    [
        (Oracle(keeps_sampling=True), [Sampling(), Sampling(0.1)]),
        (Oracle(keeps_sampling=False), [Sampling(0.7, 0.9, 40), Sampling(0.1, 0.9, 40)]),
    ],
    ids=["kept by the service", "the caller's"],
)
def test_the_sampling_of_a_check_overrides_that_of_the_model(oracle: Oracle, sampling: list[Sampling]) -> None:
    checks = (SMALL, prompt_check("cool", temperature=0.1))
    Bench(oracle).run(manifest(checks=checks, sampling=Sampling(0.7, 0.9, 40)))
    assert [prompt.sampling for _, prompt in oracle.asked] == sampling


def test_candidates_are_requested_in_one_prompt() -> None:
    oracle = Oracle()
    Bench(oracle).run(manifest(checks=(prompt_check(candidates=20),)))
    assert [prompt.candidates for _, prompt in oracle.asked] == [20]


def test_a_blocked_prompt_is_a_failed_check() -> None:
    (report,) = Bench(Oracle(lambda _: Reply((), "SAFETY"))).run(manifest(checks=(SMALL,)))
    assert report.results == (
        CheckResult(
            name="small",
            passed=False,
            passes=0,
            answers=1,
            score=0,
            minimum=1,
            misses=(Miss("8", "", "blocked: SAFETY"),),
        ),
    )


def test_an_error_of_the_service_ends_the_checks_with_its_message() -> None:
    def answer(prompt: Prompt) -> Reply:
        if prompt.text == "5":
            raise ServiceError("the endpoint is gone", "deploy the model again", code="NOT_FOUND")
        return successor(prompt)

    oracle = Oracle(answer, patience=lambda asked: asked)
    bench = Bench(oracle)
    with pytest.raises(ServiceError) as caught:
        bench.run(manifest(checks=(UNSEEN,)))
    assert str(caught.value) == "the endpoint is gone; deploy the model again"
    assert caught.value.code == "NOT_FOUND"
    assert oracle.under_way == 0
    assert len(oracle.asked) < 12
    assert {type(event) for event in bench.events} == {Checking}


def test_an_error_of_one_manifest_does_not_stop_the_others() -> None:
    def answer(prompt: Prompt) -> Reply:
        if prompt.text == "broken":
            raise ServiceError("no", code="INTERNAL")
        return successor(prompt)

    bench = Bench(Oracle(answer))

    async def run() -> list[CheckResults | BaseException]:
        one, other = manifest("a", checks=(prompt_check(prompt="broken"),)), manifest("b", checks=(UNSEEN,))
        return await asyncio.gather(
            *(bench.checker.check(each, SUBJECT) for each in (one, other)), return_exceptions=True
        )

    error, report = asyncio.run(run())
    assert isinstance(error, ServiceError)
    assert isinstance(report, CheckResults)
    assert [event.name for event in bench.events if isinstance(event, Checked)] == ["b"]


def test_a_changed_held_out_data_set_is_an_error() -> None:
    """The reader finds the change only at the end of the file, after the last prompt."""
    changed = ReconcileError("held-out.csv has changed since it was checked", "run the command again")
    oracle = Oracle()
    bench = Bench(oracle, HeldOut(changed))
    with pytest.raises(ReconcileError, match=r"held-out\.csv has changed since it was checked; run the command again"):
        bench.run(manifest(checks=(UNSEEN,)))
    assert oracle.under_way == 0
    assert {type(event) for event in bench.events} == {Checking}


def test_canceling_the_checks_cancels_the_prompts() -> None:
    oracle = Oracle(together=4, patience=lambda _: 1000)
    bench = Bench(oracle, concurrency=3)

    async def run() -> None:
        task = asyncio.create_task(bench.check(manifest(checks=(UNSEEN,))))
        await oracle.barrier.wait()  # the fourth to come
        assert oracle.under_way == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert oracle.under_way == 0
    assert len(bench.events) == 1


def test_a_manifest_without_checks_has_an_empty_report() -> None:
    bench = Bench(Oracle())
    (report,) = bench.run(manifest())
    assert report.results == ()
    assert bench.events == [Checking("numbers", SUBJECT.key, 0, 0, 0), Checked("numbers", SUBJECT.key, report)]


def test_without_show_examples_reports_have_only_counts() -> None:
    bench = Bench(Oracle(), show_examples=False)
    (shown,) = Bench(Oracle()).run(manifest(checks=(prompt_check(wanted="nothing"), UNSEEN)))
    (report,) = bench.run(manifest(checks=(prompt_check(wanted="nothing"), UNSEEN)))
    assert any(one.misses for one in shown.results)
    assert not any(one.misses for one in report.results)
    assert [(one.passes, one.answers) for one in report.results] == [(one.passes, one.answers) for one in shown.results]
    assert bench.events[-1] == Checked("numbers", SUBJECT.key, report)


def test_the_embedded_service_answers_only_with_its_training_examples(tmp_path: Path) -> None:
    """It was trained on the first 15 of 20 held-out examples."""
    world = World(tmp_path)
    world.run(manifest())
    (made,) = world.checkout.lock.models["numbers"].generations
    checks = (
        prompt_check(temperature=0),
        prompt_check("letters", prompt="x", wanted="y", temperature=0),
        replace(evaluation_check(examples=20, minimum=0.8), temperature=0),
    )

    async def check(provider: Provider) -> CheckResults:
        (report,) = await Bench(provider).check(
            manifest(checks=checks), subject=CheckedGeneration(made.key, made.remote, "")
        )
        return report

    small, letters, unseen = world.with_provider(check).results
    assert small.passed
    assert not letters.passed
    assert (unseen.passes, unseen.answers, unseen.passed) == (15, 20, False)
    assert [miss.reason for miss in unseen.misses] == [f"expected {number}" for number in range(16, 21)]
