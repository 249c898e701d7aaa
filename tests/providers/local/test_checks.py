"""Checks of trainings before they start: what they tell, when they are made again, and the process that makes them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.identity import dataset_digest
from reconciler.domain.model import Dataset, Example, Number, Source
from reconciler.domain.plan import Requirement, TrainingCheck
from reconciler.domain.ports import PlannedTraining
from reconciler.providers.local.base_models import Fault
from reconciler.providers.local.checks import CheckError, CheckProcess, training_check
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.provider import Local
from reconciler.testing.service import EXAMPLES
from reconciler.trainer.run_files import CheckProblem, RunCheck
from support.local_world import HOST, ODD, CharacterChecks, LocalService, machine

LONG = (*EXAMPLES, Example("x" * ODD, ""), Example("y" * 600, "z"))


class World(LocalService):
    """A machine whose check program is a function of the run folders."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root, self.checker = root, CharacterChecks()

    def planned(
        self, name: str = "numbers", examples: Sequence[Example] = EXAMPLES, **hyperparameters: Number
    ) -> PlannedTraining:
        request = self.request({**self.hyperparameters, **hyperparameters}, name=name)
        return PlannedTraining(
            replace(request, dataset=Dataset(dataset_digest(examples), "", len(examples))), iter(examples)
        )

    def check(self, *trainings: PlannedTraining) -> list[TrainingCheck]:
        """Return the checks of trainings, by a connection of its own."""

        async def run() -> Mapping[str, TrainingCheck]:
            found = machine(self.root, self.clock, self.sleep, self.launcher, HOST, self.checker)
            async with Local(found) as provider:
                return await provider.check_trainings(trainings)

        found = asyncio.run(run())
        return [found[planned.generation.key] for planned in trainings]

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.root / "store/.checks").glob("*"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_check_tells_what_a_training_needs_and_leaves_no_folder(world: World) -> None:
    (check,) = world.check(world.planned(maxLength=999))
    needs = check.needs
    assert (needs.tokens, needs.trained_tokens, needs.longest_tokens) == (41, 21, 4)
    assert (needs.device, needs.seconds, needs.memory) == ("cpu", 40.0, Requirement(10**9, 2 * 10**9))
    assert needs.weights
    assert needs.weights.source == "./base"
    assert needs.effective["maxLength"] == 4
    assert sorted(path.name for path in (world.root / "store").iterdir()) == [".checks", ".gitignore", ".probe.lock"]


def test_faults_have_the_number_of_their_example(world: World) -> None:
    (check,) = world.check(world.planned(examples=LONG, maxLength=550))
    assert [(fault.example, str(fault)) for fault in check.errors] == [
        (17, "row 17: has 601 tokens; raise maxLength to 601")
    ]
    assert [fault.example for fault in check.warnings] == [16]


def test_trainings_are_checked_by_one_process_and_not_again(world: World) -> None:
    first, again = (world.check(world.planned("a"), world.planned("b")) for _ in range(2))
    assert [replace(check.needs, disk=None) for check in again] == [replace(check.needs, disk=None) for check in first]
    assert world.checker.checked == [["a", "b"]]
    world.check(world.planned("a", epochCount=7))
    assert world.checker.checked[1:] == [["a"]]
    assert len(world.kept) == 2, "a check takes the place of an earlier one of its manifest"


def _touch_base(world: World) -> None:
    (world.root / "base/model.safetensors").write_text("other weights")


def _break_entry(world: World) -> None:
    (world.root / "store/.checks" / world.kept[0]).write_text("{")


@pytest.mark.parametrize("change", [_touch_base, _break_entry])
def test_a_check_is_made_again_if_what_it_depends_on_changed(world: World, change: Callable[[World], None]) -> None:
    world.check(world.planned())
    change(world)
    world.check(world.planned())
    assert len(world.checker.checked) == 2


def test_faults_and_weights_to_download_are_looked_up_again(world: World) -> None:
    for _ in range(2):
        world.check(world.planned(examples=LONG, maxLength=550))
    world.checker.present = False
    for _ in range(2):
        world.check(world.planned())
    assert len(world.checker.checked) == 4
    assert world.kept == []


def test_what_cannot_be_checked_has_its_reason(world: World) -> None:
    world.checker.fault = CheckError("the check ended with: no memory", "run `reconcile doctor`")
    (failed,) = world.check(world.planned())
    assert failed == TrainingCheck(unchecked="the check ended with: no memory", remedy="run `reconcile doctor`")
    gone = world.planned("b")
    gone = PlannedTraining(replace(gone.generation, source=Source("./nowhere")), gone.examples)
    (refused,) = world.check(gone)
    assert [str(fault) for fault in refused.errors] == [
        f'base model "./nowhere": no such folder; fix the path, which is relative to {world.root}'
    ]
    world.launcher.fault = Fault("training needs torch", "install it")
    checks = world.check(world.planned(), gone)
    assert checks == [TrainingCheck(unchecked="training needs torch", remedy="install it", cannot_start=True)] * 2
    assert len(world.checker.checked) == 1


def test_a_check_that_takes_too_long_is_ended() -> None:
    process = CheckProcess({}, Hub(), ("-c", "import signal; signal.pause()"), seconds=0)
    with pytest.raises(CheckError, match="the check took longer than 0 minutes; run the command again"):
        asyncio.run(process.check([Path("a")], uses_hub=False))


def test_too_little_disk_space_is_fixed_in_the_target() -> None:
    problem = CheckProblem(message="the result needs 2 GiB", remedy="free disk space", resource="disk")
    (fault,) = training_check(RunCheck(errors=(problem,)), "lora").faults
    assert fault.remedy == "free disk space, or set spec.local.store to a folder on a larger disk"


PROGRAM = """\
import os, sys
*runs, check, dry = sys.argv[1:]
assert (check, dry) == ("--check", "--dry-run")
assert "HF_TOKEN" not in os.environ
for run in runs:
    print('{"kind": "TrainingCheck", "version": 1,\\n "versions": {"run": "%s"}}' % run)
"""


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        (PROGRAM, ["a", "b"]),
        ("print('{')", "the check ended with: exit status 0; run `reconcile doctor`"),
        ("import sys; sys.exit('no\\nmemory')", "the check ended with: no memory; run `reconcile doctor`"),
        (PROGRAM.replace("for run in runs", "for run in runs[1:]"), "the check ended with: exit status 0; run `recon"),
    ],
)
def test_a_process_checks_all_runs_or_fails_with_its_last_lines(
    tmp_path: Path, program: str, outcome: list[str] | str
) -> None:
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    process = CheckProcess({**os.environ, "HF_TOKEN": "hf_secret"}, Hub(), [str(file)])
    checks = process.check([Path("a"), Path("b")], uses_hub=False)
    if isinstance(outcome, list):
        assert [check.versions["run"] for check in asyncio.run(checks)] == outcome
        return
    with pytest.raises(CheckError) as caught:
        asyncio.run(checks)
    assert str(caught.value).startswith(outcome)
