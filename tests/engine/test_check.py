"""Running checks: prompts, concurrency, progress and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import (
    CheckResult,
    CheckResults,
    ComparedAnswer,
    ComparisonRule,
    DifferentRow,
    Expectation,
    Judge,
    Miss,
)
from reconciler.domain.errors import ReconcileError, ServiceError
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Sampling, Source, State
from reconciler.domain.ports import Answer, Prompt, Provider, Reply
from reconciler.engine.check import CheckedGeneration, checked_generation
from reconciler.planning.check_evaluation import checks_digest, recorded_checks
from reconciler.planning.events import Checked, Checking
from support.checking_world import SUBJECT, Bench, HeldOut, Oracle, evaluation_check, prompt_check, successor
from support.core_cases import Made, recorded
from support.engine_world import World, manifest

SMALL = prompt_check()
SMALL_AGAIN = prompt_check("again")
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


TAUGHT, KEPT = ComparisonRule("base", "better"), ComparisonRule("serving", "noWorse")
SERVING = CheckedGeneration("numbers-bbbbbbbb", "endpoints/2", "")
TUNED = CheckedGeneration("numbers-aaaaaaaa", "endpoints/1", "", "x", SERVING)
COMPARED = evaluation_check(comparisons=(TAUGHT, KEPT))


def silent(_: Prompt) -> Reply:
    return Reply((), "SAFETY")


def half(prompt: Prompt) -> Reply:
    return successor(prompt) if int(prompt.text) % 2 else Reply((Answer("?"),))


def test_other_models_answer_the_same_rows() -> None:
    oracle = Oracle(others={"base/x": silent, "endpoints/2": half}, keeps_sampling=True)
    check = replace(COMPARED, temperature=0.5, evaluation=replace(COMPARED.evaluation, sample=5))
    greedy = manifest(checks=(check, SMALL), sampling=Sampling(0.7, 0.9, 40))
    (report,) = Bench(oracle).run(greedy, subject=TUNED)
    asked = {name: [prompt.text for remote, prompt in oracle.asked if remote == name] for name, _ in oracle.asked}
    rows = sorted(asked["base/x"])
    assert len(rows) == 5
    assert sorted(asked["endpoints/2"]) == rows
    assert sorted(asked["endpoints/1"]) == sorted([*rows, "8"])
    assert {prompt.sampling for remote, prompt in oracle.asked if remote != "endpoints/1"} == {Sampling(0.5, 0.9, 40)}
    base, serving = report.results[0].comparisons
    assert (base.other, base.model, base.score, base.difference, base.better, base.worse) == (
        *("base", "base/x", 0, 1.0),
        *(5, 0),
    )
    assert (serving.other, serving.model) == ("serving", "numbers-bbbbbbbb")
    assert (serving.better, serving.worse) == (sum(int(row) % 2 == 0 for row in rows), 0)
    assert report.results[0].passed


def test_what_the_base_model_answers_too_was_not_taught() -> None:
    (report,) = Bench(Oracle()).run(manifest(checks=(COMPARED,)), subject=TUNED)
    (result,) = report.results
    assert (result.score, result.passed) == (1.0, False)
    assert [comparison.passed for comparison in result.comparisons] == [False, True]


@pytest.mark.parametrize(
    ("serving", "reason"), [(None, "no generation is serving"), (TUNED, "it is the serving generation")]
)
def test_without_another_serving_generation_the_comparison_is_skipped(
    serving: CheckedGeneration | None, reason: str
) -> None:
    oracle = Oracle(others={"base/x": silent})
    bench = Bench(oracle)
    (report,) = bench.run(manifest(checks=(COMPARED,)), subject=replace(TUNED, serving=serving))
    (result,) = report.results
    assert (result.passed, result.skipped) == (True, {"serving": reason})
    assert [comparison.other for comparison in result.comparisons] == ["base"]
    assert {remote for remote, _ in oracle.asked} == {"endpoints/1", "base/x"}
    assert bench.events[0] == Checking("numbers", TUNED.key, 0, 24, 1)


def test_other_models_are_asked_once() -> None:
    """Two checks on the same rows, in two manifests and in two runs of them."""
    oracle = Oracle(others={"base/x": silent, "endpoints/2": half}, patience=lambda asked: asked % 7)
    bench = Bench(oracle)
    checks = (COMPARED, replace(COMPARED, name="again", evaluation=replace(COMPARED.evaluation, minimum=0.1)))

    async def run() -> list[CheckResults]:
        manifests = [manifest(name, checks=checks) for name in ("a", "b")]
        first = await asyncio.gather(*(bench.checker.check(one, TUNED) for one in manifests))
        return [*first, *await asyncio.gather(*(bench.checker.check(one, TUNED) for one in manifests))]

    reports = asyncio.run(run())
    assert all(report == reports[0] for report in reports)
    counts = [sum(remote == name for remote, _ in oracle.asked) for name in ("base/x", "endpoints/2", "endpoints/1")]
    assert counts == [12, 12, 4 * 24]
    progress = [
        (event.done, event.total) for event in bench.events if isinstance(event, Checking) and event.name == "a"
    ]
    assert progress[-1] == (72, 72)


def test_other_temperatures_and_preambles_are_asked_anew() -> None:
    oracle = Oracle(lambda _: Reply(()))
    checks = (COMPARED, replace(COMPARED, name="cool", temperature=0.1))
    Bench(oracle).run(manifest(checks=checks), subject=replace(TUNED, preamble="Continue: "))
    base = {(prompt.text, prompt.sampling.temperature) for remote, prompt in oracle.asked if remote == "base/x"}
    assert len(base) == 24
    assert all(text.startswith("Continue: ") for text, _ in base)
    assert not any(prompt.text.startswith("Continue: ") for remote, prompt in oracle.asked if remote == "endpoints/2")


def test_the_concurrency_limits_the_prompts_to_other_models() -> None:
    oracle = Oracle(together=3)
    Bench(oracle, concurrency=3).run(manifest(checks=(COMPARED,)), subject=TUNED)
    assert (oracle.most, len(oracle.asked)) == (3, 36)


def test_an_error_of_another_model_ends_the_checks() -> None:
    def gone(_: Prompt) -> Reply:
        raise ServiceError("the base model is gone", "remove base", code="NOT_FOUND")

    bench = Bench(Oracle(others={"base/x": gone}))
    with pytest.raises(ServiceError, match="the base model is gone; remove base"):
        bench.run(manifest(checks=(COMPARED,)), subject=TUNED)
    assert {type(event) for event in bench.events} == {Checking}


def test_an_unknown_base_model_is_an_error_before_any_prompt() -> None:
    oracle = Oracle()
    with pytest.raises(ReconcileError) as caught:
        Bench(oracle).run(manifest(checks=(COMPARED,)), subject=replace(TUNED, base_model=""))
    assert str(caught.value) == (
        "numbers-aaaaaaaa cannot be compared with its base model in the check unseen: the lockfile does not have the"
        " whole lineage of its parents; compare with the serving generation (serving: true), or remove the comparison"
    )
    assert oracle.asked == []


def test_a_recorded_generation_is_checked_with_the_base_model_of_its_lineage() -> None:
    top, middle, leaf = Made(), Made(name="middle", parent=Made()), Made(name="leaf", data="C")
    generations = {
        "numbers": recorded(top),
        "middle": recorded(middle),
        "leaf": replace(recorded(leaf), source=Source(tuned_model="middle", key=middle.key)),
    }
    lock = Lock(models={name: LockedModel(f"{name}.yaml", generations=(one,)) for name, one in generations.items()})
    failed = replace(generations["leaf"], state=State.FAILED)
    subject = checked_generation(generations["leaf"], failed, lock)
    assert (subject.base_model, subject.serving) == (generations["numbers"].source.base_model, None)
    alone = Lock(models={"leaf": lock.models["leaf"]})
    assert checked_generation(generations["leaf"], generations["leaf"], alone).base_model == ""
    circle = replace(generations["leaf"], source=Source(tuned_model="leaf", key=leaf.key))
    edited = Lock(models={"leaf": LockedModel("leaf.yaml", generations=(circle,))})
    assert checked_generation(circle, None, edited).base_model == ""


JUDGE = Judge("large")
POLITE = Expectation("llm-rubric", ("is polite",), 0.5)
JUDGED = prompt_check("judged", candidates=2, repeat=2, expect=(POLITE,), judge=JUDGE)


def verdict(text: str, *versions: str) -> Callable[[Prompt], Reply]:
    """A judge that always gives this verdict, each time in the next version."""
    following = cycle(versions or ("",))
    return lambda _: Reply((Answer(text),), model_version=next(following))


def test_a_judge_evaluates_answers_through_the_same_service() -> None:
    """Equal answers to one prompt are evaluated once; the judge gets its own temperature and no preamble."""
    oracle = Oracle(others={"base/large": verdict('{"pass": true, "score": 0.9}', "large-001")})
    bench = Bench(oracle)
    greedy = manifest(checks=(JUDGED, SMALL), sampling=Sampling(0.7))
    (report,) = bench.run(greedy, subject=replace(TUNED, preamble=""))
    judged = [prompt for remote, prompt in oracle.asked if remote == "base/large"]
    assert len(judged) == 2
    assert {(prompt.sampling, prompt.candidates) for prompt in judged} == {(Sampling(temperature=0.0), 1)}
    assert '"answer": "9"' in judged[0].text
    result = report.results[0]
    assert (result.passes, result.answers, result.mean_score, result.judge) == (4, 4, 0.9, "large (large-001)")
    assert recorded_checks(report).judges == {"judged": "large (large-001)"}
    assert bench.events[-2] == Checking("numbers", TUNED.key, 7, 7, 2)


def test_a_judge_without_a_verdict_ends_the_checks() -> None:
    bench = Bench(Oracle(others={"base/large": verdict("The answer passes.")}))
    with pytest.raises(ReconcileError, match="the judge large of the check judged returned no verdict: expected only"):
        bench.run(manifest(checks=(JUDGED,)), subject=TUNED)
    assert {type(event) for event in bench.events} == {Checking}


def test_two_versions_of_a_judge_are_not_compared() -> None:
    oracle = Oracle(others={"base/large": verdict('{"pass": true}', "1", "2")})
    with pytest.raises(ReconcileError, match=r"changed during the run from large \(1\) to large \(2\)"):
        Bench(oracle, concurrency=1).run(manifest(checks=(JUDGED,)), subject=TUNED)


def test_models_are_shown_side_by_side_where_they_differ() -> None:
    data = replace(COMPARED.evaluation, metric="similar", threshold=0.9)
    check = replace(COMPARED, evaluation=data, repeat=2, severity="warn")
    oracle = Oracle(others={"base/x": silent, "endpoints/2": half})
    (report,) = Bench(oracle).run(manifest(checks=(check,)), subject=TUNED)
    (result,) = report.results
    assert (result.passes, result.answers, result.different, len(result.rows)) == (12, 12, 12, 12)
    assert result.rows[0] == DifferentRow(
        "0",
        (
            ComparedAnswer("base", "(blocked: SAFETY)", passed=False),
            ComparedAnswer("serving", "?", passed=False),
            ComparedAnswer("generation", "1", passed=True),
        ),
    )
    assert [comparison.mean_score for comparison in result.comparisons] == [0.0, 0.5]
    assert (result.mean_score, len(oracle.asked)) == (1.0, 2 * 3 * 12)
    (hidden,) = Bench(oracle, show_examples=False).run(manifest(checks=(check,)), subject=TUNED)
    assert (hidden.results[0].different, hidden.results[0].rows) == (12, ())


def test_a_failed_check_that_warns_is_counted_apart() -> None:
    (report,) = Bench(Oracle()).run(manifest(checks=(prompt_check(wanted="8", severity="warn"), SMALL_AGAIN)))
    assert (report.passed, report.failed, report.warned, report.total) == (1, 0, 1, 2)
    assert (recorded_checks(report).misses, recorded_checks(report).total) == ((), 2)
