"""Kill, race and disturb runs on a simulated world, and count what that lost: nothing may be.

``python tests/sweeps.py`` prints what it injected and what came of it, and exits with 1 if a model was trained twice or
lost, a rollback forgotten, or a project left in which a command fails. ``--plant BUG`` proves that it would find a bug.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from msgspec import Struct, field

from reconciler.domain.errors import ExitStatus
from reconciler.emulator.faults import FaultKind, FaultRule, Faults
from reconciler.engine.prune import Pruner
from reconciler.engine.recorder import Recorder
from reconciler.planning.events import Rejected
from reconciler.providers.google.http import Client, HttpRequest
from reconciler.providers.vertex.provider import Vertex
from reconciler.reports.text.format import counted
from reconciler.state import checkout
from support.cli_world import Project
from support.simulation import Plant, Result, Run, World, ending_points, preload
from support.vertex_runs import BASE
from support.vertex_world import BUCKET, JOBS, LOCATION, PROJECT

URL = "http://127.0.0.1:1"
FILES, BUCKETS = (
    "  publish: serving.json\n",
    f"  lock: gs://{BUCKET}/lock.json\n  publish: gs://{BUCKET}/serving.json\n",
)
_GL = f"  provider: generativelanguage\n  apiVersion: v1beta\n  project: {PROJECT}\n  endpoint: {URL}\n"
_VERTEX = (
    f"  provider: vertex\n  project: {PROJECT}\n  location: {LOCATION}\n"
    f"  bucket: gs://{BUCKET}/data\n  endpoint: {URL}\n"
)
TARGETS = {
    "Generative Language": _GL + FILES,
    "Generative Language, lockfile in a bucket": f"{_GL}  storageEndpoint: {URL}\n{BUCKETS}",
    "Vertex AI": _VERTEX + FILES,
    "Vertex AI, lockfile in a bucket": _VERTEX + BUCKETS,
}
"""The target fields of each service, with the lockfile and the pointer in files and in a bucket."""
FIRST = next(iter(TARGETS))
Json = dict[str, Any]
Command = tuple[str, ...]
APPLY: Command = ("apply", "--yes")
READING = (
    ("status",),
    ("plan",),
    ("drift",),
    ("validate",),
    ("resolve",),
    ("history", "adder"),
    ("graph",),
    ("refresh", "--dry-run"),
    ("prune", "--dry-run"),
)
"""Commands that have to work after any accident."""


class Scene:
    """A project on one target in a world."""

    def __init__(self, folder: Path, target: str, plant: Plant | None = None) -> None:
        self.world = World(folder / "world")
        self.plant = plant
        self.target = target
        self._aside = folder / "aside"
        self._kept = 0
        self.project = self.checkout("project")

    @property
    def vertex(self) -> bool:
        return self.target.startswith("Vertex")

    @property
    def in_bucket(self) -> bool:
        return "bucket" in self.target

    def checkout(self, name: str) -> Project:
        """Return a project of its own for the same target."""
        project = Project(self.world.folder / name)
        (project.specs / "reconcile.yaml").write_text(
            "apiVersion: tuning.reconcile/v1alpha1\nkind: Target\nmetadata: {name: default}\n"
            f"spec:\n  scope: acme/nlp\n{TARGETS[self.target]}"
        )
        return project

    def declare(self, name: str, size: int, more: str = "", *, epochs: int = 2) -> None:
        """Write a manifest; another ``size`` is another training, and more ``epochs`` take longer."""
        block = f"epochCount: {epochs}, learningRateMultiplier: {size}"
        self.project.manifest(
            name,
            epochs=epochs,
            rate=size / 1000,
            base=BASE,
            more=f"  vertex: {{baseModel: gemini-2.5-flash, hyperparameters: {{{block}}}}}\n{more}",
        )

    def withdraw(self, name: str) -> None:
        for suffix in ("yaml", "csv"):
            (self.project.specs / f"{name}.{suffix}").unlink(missing_ok=True)

    def must(self, *arguments: str) -> Result:
        """Run a command that prepares the scene; nothing is planted in it."""
        result = self.world.run(*arguments)
        if result.status:
            raise AssertionError(f"cannot prepare the scene: {result}")
        return result

    def run(self, *arguments: str) -> Result:
        """Run a command from start to end in the current checkout."""
        return self.world.run(*arguments, folder=self.project.folder, plant=self.plant)

    def keep(self) -> Callable[[], None]:
        """Return what restores everything as it is now."""
        self._kept += 1
        aside = self._aside / str(self._kept)
        now = self.world.save(aside)
        return lambda: self.world.restore(aside, now)

    # what is observed

    def lock(self, project: Project | None = None) -> Json:
        """The models of the lockfile."""
        text = self._text("lock.json", (project or self.project).lock_file)
        return dict(json.loads(text)["models"]) if text else {}

    def pointer(self) -> dict[str, str]:
        """The published keys by name."""
        text = self._text("serving.json", self.project.specs / "serving.json")
        return {model["name"]: model["key"] for model in json.loads(text)["models"]} if text else {}

    def _text(self, name: str, file: Path) -> str:
        if not self.in_bucket:
            return file.read_text() if file.exists() else ""
        if name not in self.world.objects():
            return ""
        return json.dumps(self.world.ask("GET", f"/storage/v1/b/{BUCKET}/o/{name}", alt="media"))

    def live(self) -> Counter[str]:
        """How many trainings of each content exist that were not canceled, by key or by name."""
        if self.vertex:
            jobs = [job for job in self.world.jobs() if "CANCEL" not in job["state"]]
            models = {model["name"] for model in self._list("models")}
            alive = [job for job in jobs if _model_of(job) in models or not job.get("tunedModel")]
            return Counter(job.get("labels", {}).get("reconcile-key", "theirs") for job in alive)
        return Counter(model["name"].removeprefix("tunedModels/") for model in self.world.models())

    def trainings(self) -> Counter[str]:
        """How many trainings of each content were started, canceled ones aside; on Vertex AI jobs outlive models."""
        if not self.vertex:
            return self.live()
        jobs = [job for job in self.world.jobs() if "CANCEL" not in job["state"]]
        labels = [job.get("labels", {}) for job in jobs]
        return Counter(f"{one['reconcile-key']} attempt {one['reconcile-attempt']}" for one in labels if one)

    def _list(self, kind: str) -> list[Json]:
        path = f"/v1/projects/{PROJECT}/locations/{LOCATION}/{kind}"
        return list(self.world.ask("GET", path, pageSize="1000").get(kind, []))

    def summary(self) -> Json:
        """What a user cares about: what serves, is published, rejected, recorded and alive."""
        models = {
            name: {
                "serving": model.get("serving"),
                "published": model.get("published"),
                "rejected": sorted(rejected_keys(model)),
                "generations": sorted((one["key"], one["state"]) for one in model.get("generations", [])),
            }
            for name, model in self.lock().items()
        }
        endpoints = len(self._list("endpoints")) if self.vertex else 0
        return {"models": models, "pointer": self.pointer(), "live": dict(self.live()), "endpoints": endpoints}


def rejected_keys(model: Json) -> set[str]:
    """Return the keys that were rolled back, of a model of the lockfile or of a report."""
    return {one if isinstance(one, str) else str(one["key"]) for one in model.get("rejected", [])}


def _model_of(job: Json) -> str:
    return str(job.get("tunedModel", {}).get("model", "")).partition("@")[0]


class Tally(Struct, dict=True):
    """What was injected, and what came of it."""

    injected: Counter[str] = field(default_factory=Counter)
    outcome: Counter[str] = field(default_factory=lambda: Counter(duplicates=0, lost=0, wedged=0, forgotten=0))
    examples: list[str] = field(default_factory=list)

    def blame(self, kind: str, where: str, what: object) -> None:
        """Count a violation, and keep an example."""
        self.outcome[kind] += 1
        self.examples.append(f"{kind}: {where}: {what}")

    @property
    def failed(self) -> bool:
        return any(self.outcome.values())

    def check(self, where: str, result: Result, allowed: Sequence[int] = tuple(ExitStatus)) -> bool:
        """Return whether a run ended as documented: in time, without a traceback, and with a reason for its status."""
        said = result.err + result.out
        if result.killed:
            return True
        if "Traceback" in said or "internal error" in said or result.status not in allowed or not said.strip():
            self.blame("wedged", where, result)
            return False
        return True


def settle(scene: Scene, tally: Tally, where: str, *commands: Command) -> None:
    """Run commands and ``apply`` calmly: each must succeed, and afterwards nothing is left to do."""
    scene.world.calm()
    for command in (*commands, APPLY):
        tally.check(where, scene.run(*command), [0])
    tally.check(where, scene.run("plan", "--detailed-exitcode"), [0])
    examine(scene, tally, where)


def examine(scene: Scene, tally: Tally, where: str) -> None:  # noqa: C901 - one check after the other
    """Check what must hold in every settled project."""
    for key, count in scene.trainings().items():
        if count > 1:
            tally.blame("duplicates", where, f"{count} trainings of {key}")
    live, pointer = scene.live(), scene.pointer()
    for name, model in scene.lock().items():
        serving = model.get("serving")
        if serving in rejected_keys(model):
            tally.blame("forgotten", where, f"{name}: {serving} serves although it is rejected")
        if serving != pointer.get(name):
            tally.blame("lost", where, f"{name}: {serving} serves, and {pointer.get(name)} is published")
        for one in model.get("generations", []):
            if one["state"] == "ACTIVE" and one["key"] not in live and one.get("origin") != "adopted":
                tally.blame("lost", where, f"{name}: {one['key']} is recorded as ready, and does not exist")
    recorded = {one["key"] for model in scene.lock().values() for one in model.get("generations", [])}
    for key in live:
        if key not in recorded and not key.startswith("theirs"):
            tally.blame("lost", where, f"{key} exists, and is not recorded")
    for file in scene.project.folder.rglob("*.tmp"):
        tally.blame("wedged", where, f"{file.name} is left")
    if scene.in_bucket and "lock.json.lease" in scene.world.objects():
        tally.blame("wedged", where, "the lease is left")


# kill points


class Case(Struct, frozen=True):
    """A command, the scene before it, and the commands that a user runs after an accident."""

    name: str
    prepare: Callable[[Scene], None]
    command: Callable[[Scene], Command]
    again: Callable[[Scene], bool] = lambda _scene: True
    """Whether the user has to run the command again after an accident."""


def _served(scene: Scene, *sizes: int) -> None:
    """Train generations of adder one after the other."""
    for size in sizes:
        scene.declare("adder", size)
        scene.must(*APPLY)


def _changed(scene: Scene) -> None:
    scene.declare("words", 1)
    _served(scene, 1)
    scene.declare("adder", 2)
    scene.declare("nova", 1)
    scene.declare("words", 1, "  displayName: Words\n" if not scene.vertex else "  sampling: {temperature: 0.5}\n")


def _started(scene: Scene) -> None:
    _changed(scene)
    scene.must(*APPLY, "--no-wait")


def _prunable(scene: Scene) -> None:
    scene.declare("words", 1)
    _served(scene, 1, 2, 3)
    scene.withdraw("words")


def _rolled_back(scene: Scene) -> None:
    _served(scene, 1, 2)
    scene.must("rollback", "adder", "--reason", "worse")


def _foreign(scene: Scene) -> None:
    _served(scene, 1)
    train_as_another_user(scene)
    scene.world.now += timedelta(hours=1)


def train_as_another_user(scene: Scene) -> None:
    """Train a model that has no mark."""
    if scene.vertex:
        line = '{"contents":[{"role":"user","parts":[{"text":"1"}]},{"role":"model","parts":[{"text":"2"}]}]}\n'
        path = f"/upload/storage/v1/b/{BUCKET}/o"
        scene.world.ask("POST", path, (line * 20).encode(), uploadType="media", name="theirs.jsonl")
        job = {
            "baseModel": "gemini-2.5-flash",
            "tunedModelDisplayName": "Theirs",
            "supervisedTuningSpec": {"trainingDatasetUri": f"gs://{BUCKET}/theirs.jsonl"},
        }
        scene.world.ask("POST", JOBS, json.dumps(job).encode())
    else:
        rows = [{"textInput": str(number), "output": str(number + 1)} for number in range(20)]
        model = {"baseModel": BASE, "tuningTask": {"trainingData": {"examples": {"examples": rows}}}}
        scene.world.ask("POST", "/v1beta/tunedModels", json.dumps(model).encode(), tunedModelId="theirs")


def _adopt(scene: Scene) -> Command:
    theirs = [job["name"] for job in scene.world.jobs() if not job.get("labels")] if scene.vertex else []
    return "adopt", "theirs", *(theirs or ["tunedModels/theirs"])


def _rejects(scene: Scene) -> bool:
    return bool(rejected_keys(scene.lock()["adder"]))


def _unlocked(scene: Scene) -> None:
    """Lose the lockfile and the pointer while trainings are in progress."""
    _started(scene)
    scene.project.lock_file.unlink(missing_ok=True)
    (scene.project.specs / "serving.json").unlink(missing_ok=True)
    for name in ("lock.json", "serving.json") if scene.in_bucket else ():
        scene.world.ask("DELETE", f"/storage/v1/b/{BUCKET}/o/{name}")


_ROLLBACK: Command = ("rollback", "adder", "--reason", "worse")
CASES = (
    Case("apply", _changed, lambda _: APPLY),
    Case("apply --prune", _prunable, lambda _: (*APPLY, "--prune")),
    Case("wait", _started, lambda _: ("wait",)),
    Case("prune", _prunable, lambda _: ("prune", "--yes")),
    Case("rollback", lambda scene: _served(scene, 1, 2), lambda _: _ROLLBACK, lambda scene: not _rejects(scene)),
    Case("promote", _rolled_back, lambda _: ("promote", "adder"), _rejects),
    Case("adopt", _foreign, _adopt, lambda scene: "theirs" not in scene.lock()),
    Case("refresh", _unlocked, lambda _: ("refresh",)),
)
"""What is killed: the commands that write, with publishing and locks as their target has them."""


def kill(
    tally: Tally,
    folder: Path,
    case: Case,
    target: str,
    signals: Sequence[int],
    most: int,
    plant: Plant | None = None,
    *,
    stop: bool = False,
) -> None:
    """End a command at its points, at most at so many, and check that the project is as if it had not been ended.

    ``stop`` ends at the first violation.
    """
    with staged(folder, target) as scene:
        case.prepare(scene)
        command = case.command(scene)
        restore = scene.keep()
        run = scene.world.start(*command)
        (ended,) = scene.world.play([run])
        settle(scene, tally, f"{target}: {case.name}, not ended", *([command] if case.again(scene) else []))
        wanted, points = scene.summary(), ending_points(run.points)
        tally.check(f"{target}: {case.name}", ended, [0])
        scene.plant = plant
        for number in signals:
            for index in sorted(random.Random(case.name).sample(range(points), min(most, points))):  # noqa: S311 - no secret
                restore()
                result, point = scene.world.cut(index, number, *command, plant=plant)
                where = f"{target}: {case.name}, {signal.Signals(number).name} at {index} ({point})"
                tally.injected[f"{signal.Signals(number).name} at {point.kind if point else 'the end'}"] += 1
                tally.check(where, result)
                tally.check(where, scene.run(*READING[index % len(READING)]), [0, 2])
                settle(scene, tally, where, *([command] if case.again(scene) else []))
                found = scene.summary()
                if found != wanted:
                    tally.blame("lost", where, f"ends as {found} in place of {wanted}")
                if stop and tally.failed:
                    return


@contextmanager
def staged(folder: Path, target: str) -> Iterator[Scene]:
    """Give a scene in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        scene = Scene(Path(own), target)
        try:
            yield scene
        finally:
            scene.world.close()


# races


_RACING: tuple[Command, ...] = (
    APPLY,
    (*APPLY, "--only", "adder"),
    (*APPLY, "--only", "words", "--only", "nova"),
    (*APPLY, "--prune"),
    ("wait",),
    ("refresh",),
    ("prune", "--yes"),
    (*_ROLLBACK, "--format", "json"),
)


def race(tally: Tally, folder: Path, target: str, seed: int, plant: Plant | None = None) -> None:
    """Let 2 to 8 runs meet in one checkout or in several, in an order that the seed decides."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, and no secret
    count, checkouts = rng.randint(2, 8), rng.choice([1, 1, 1, 2, 3])
    with staged(folder, target) as scene:
        scene.declare("words", 1)
        _served(scene, 1, 2)
        scene.declare("adder", 3)
        scene.declare("nova", 1, epochs=60)
        scene.plant = plant
        projects = [scene.project]
        for number in range(1, checkouts):
            shutil.copytree(scene.project.folder, scene.world.folder / f"project-{number}")
            projects.append(scene.checkout(f"project-{number}"))
        places = [rng.choice(projects) for _ in range(count)]
        commands = [APPLY, *(rng.choice(_RACING) for _ in range(count - 1))]
        runs = [
            scene.world.start(*command, folder=place.folder, plant=plant)
            for command, place in zip(commands, places, strict=True)
        ]
        for run in runs[1:]:
            run.wakes += timedelta(seconds=rng.choice([0, 0, 5, 10, 20]))  # also while another run waits
        results = scene.world.play(runs, choose=_schedule(rng))
        listed = ", ".join(" ".join(command) for command in commands)
        where = f"{target}: race {seed} of {count} runs in {counted(checkouts, 'checkout')} ({listed})"
        tally.injected[f"races in {'one checkout' if checkouts == 1 else 'several checkouts'}"] += 1
        rejected = []
        for result, place in zip(results, places, strict=True):
            tally.check(where, result, [0, 1])
            if result.arguments[0] == "rollback" and result.status == 0:
                rejected += [(place, key) for key in rejected_keys(json.loads(result.out))]
        for project in projects:
            scene.project = project
            settle(scene, tally, where)
        for project, key in rejected:
            scene.project = project
            if key not in rejected_keys(scene.lock()["adder"]):
                tally.blame("forgotten", where, f"{key} was rolled back")


def _schedule(rng: random.Random) -> Callable[[Sequence[Run]], Run]:
    """Return a choice of the next run that often stays with the same one, by a degree of its own."""
    staying = rng.choice([0.0, 0.5, 0.9, 0.98])
    last: list[Run] = []

    def choose(ready: Sequence[Run]) -> Run:
        if not (last and last[0] in ready and rng.random() < staying):
            last[:] = [rng.choice(ready)]
        return last[0]

    return choose


# storms


_STATUSES = (400, 401, 403, 408, 429, 500, 502, 503, 504)
_VALUES = (
    ("totalSteps", -5),
    ("totalSteps", "NaN"),
    ("completedSteps", 10**12),
    ("completedPercent", 1e9),
    ("state", "SOMETHING_NEW"),
    ("createTime", "yesterday"),
    ("endTime", 7),
)
_PATHS = ("*", "*", "*/tunedModels*", "*/tuningJobs*", "*/o", "*/o/*", "*/operations/*", "*/models*")


def storm_of(seed: int) -> Faults:
    """Return the faults of a seed."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, and no secret
    return Faults(seed=seed, rules=tuple(_rule(rng) for _ in range(rng.randint(2, 6))))


def _rule(rng: random.Random) -> FaultRule:
    kind = rng.choice(list(FaultKind))
    fields: Json = {
        "method": rng.choice(["*", "*", "GET", "POST"]),
        "path": rng.choice(_PATHS),
        "skip": rng.choice([0, 0, 1, 3, 8]),
        "count": rng.randint(1, 8),
        "probability": rng.choice([0.1, 0.3, 1.0]),
    }
    if kind is FaultKind.STATUS:
        fields |= {"status": rng.choice(_STATUSES), "html": rng.random() < 0.2, "executed": rng.random() < 0.5}
        fields["retry_after"] = rng.choice([None, None, 1, 20, 4000])
        if rng.random() < 0.2:
            fields |= {"status": 200, "html": True}
        if rng.random() < 0.1:
            fields |= {"status": 404, "path": "*/operations/*"}
    elif kind in {FaultKind.RESET, FaultKind.HANG}:
        fields["executed"] = rng.random() < 0.5
    elif kind in {FaultKind.DRIBBLE, FaultKind.LAG}:
        fields["seconds"] = rng.choice([0.01, 1, 12, 30])
    elif kind is FaultKind.REPLACE:
        fields["field"], fields["value"] = rng.choice(_VALUES)
    elif kind is FaultKind.REMOVE:
        fields["field"] = rng.choice(_VALUES)[0]
    return FaultRule(fault=kind, **fields)


_STORMED: tuple[Command, ...] = (
    APPLY,
    APPLY,
    (*APPLY, "--prune"),
    ("wait",),
    ("prune", "--yes"),
    ("refresh",),
    _ROLLBACK,
)


def storm(tally: Tally, folder: Path, target: str, seed: int, plant: Plant | None = None) -> None:
    """Run commands while the services fail as the seed decides, then calmly."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, and no secret
    with staged(folder, target) as scene:
        scene.declare("words", 1)
        _served(scene, 1, 2, 3)
        scene.declare("adder", 4)
        scene.declare("nova", 1)
        if rng.random() < 0.3:
            scene.withdraw("words")
        scene.plant = plant
        front = scene.world.storm(storm_of(seed))
        commands = [APPLY, rng.choice(_STORMED)]
        rng.shuffle(commands)
        where = f"{target}: storm {seed} ({', '.join(' '.join(command) for command in commands)})"
        rejected: list[str] = []
        for command in commands:
            result = scene.run(*command)
            tally.check(where, result)
            if command == _ROLLBACK and result.status == 0:
                rejected += rejected_keys(scene.lock()["adder"])
        tally.injected["storms"] += 1
        tally.injected.update({f"fault {kind}": number for kind, number in front.fired.items() if number})
        settle(scene, tally, where)
        for key in rejected:
            if key not in rejected_keys(scene.lock()["adder"]):
                tally.blame("forgotten", where, f"{key} was rolled back")


# sequences


_SIZES = st.integers(1, 3)
_COMMANDS = (
    *_RACING,
    ("promote", "adder"),
    (*APPLY, "--no-wait"),
    (*APPLY, "--train-only"),
    ("forget", "words", "--yes"),
)


def sequences(tally: Tally, folder: Path, target: str, count: int, plant: Plant | None = None) -> None:  # noqa: C901 - the rules of one class
    """Run random sequences of commands, edits and changes by others; Hypothesis chooses them."""

    class Steps(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._folder = tempfile.TemporaryDirectory(dir=folder)
            self.scene = Scene(Path(self._folder.name), target, plant)
            self.scene.declare("adder", 1)
            self.steps: list[str] = []

        def note(self, *words: object) -> None:
            self.steps.append(" ".join(map(str, words)))
            tally.injected["steps of sequences"] += 1

        @property
        def where(self) -> str:
            return f"{target}: {'; '.join(self.steps)}"

        @rule(name=st.sampled_from(["adder", "words"]), size=_SIZES)
        def edit(self, name: str, size: int) -> None:
            self.note("edit", name, size)
            self.scene.declare(name, size)

        @rule()
        def withdraw(self) -> None:
            self.note("withdraw words")
            self.scene.withdraw("words")

        @rule(command=st.sampled_from(_COMMANDS))
        def run(self, command: Command) -> None:
            self.note(*command)
            tally.check(self.where, self.scene.run(*command))

        @rule(command=st.sampled_from(_COMMANDS), index=st.integers(0, 60))
        def killed(self, command: Command, index: int) -> None:
            self.note("killed at", index, *command)
            self.scene.world.cut(index, signal.SIGKILL, *command, plant=plant)

        @rule()
        def foreign(self) -> None:
            self.note("another user trains a model")
            if not self.scene.vertex and "theirs" not in self.scene.live():
                train_as_another_user(self.scene)

        @rule(minutes=st.sampled_from([1, 60]))
        def later(self, minutes: int) -> None:
            self.note(minutes, "minutes pass")
            self.scene.world.now += timedelta(minutes=minutes)

        def teardown(self) -> None:
            tally.injected["sequences"] += 1
            settle(self.scene, tally, self.where)
            self.scene.world.close()
            self._folder.cleanup()

    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # Hypothesis has no type for it
        Steps,
        settings=settings(
            max_examples=count,
            stateful_step_count=8,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # a violation is counted, and not shrunk
            suppress_health_check=list(HealthCheck),
        ),
    )


# bugs that are planted, in the process of a run only


def _lose_an_event() -> None:
    emit = Recorder.emit
    Recorder.emit = lambda self, *events: emit(self, *(one for one in events if not isinstance(one, Rejected)))  # type: ignore[method-assign]


def _replay_events() -> None:
    save = Recorder._save

    def planted(self: Recorder) -> None:
        events = list(self._events)
        save(self)
        self._events[:] = events

    Recorder._save = planted  # type: ignore[method-assign]


def _create_twice() -> None:
    fetch = Client.fetch_once

    async def planted(self: Client, request: HttpRequest, read: Any) -> Any:
        if request.method == "POST" and request.path.endswith("/tuningJobs"):
            await fetch(self, request, read)
        return await fetch(self, request, read)

    async def keep(_self: Vertex, _mark: object, job: Any) -> Any:
        return job

    Client.fetch_once = planted  # type: ignore[method-assign]
    Vertex._cancel_duplicates = keep  # type: ignore[method-assign]


def _take_no_lock() -> None:
    checkout.acquire_lock = lambda *_: None


def _delete_before_saving() -> None:
    delete = Pruner._delete_batch

    async def planted(self: Pruner, *arguments: Any) -> None:
        recorder: Any = self._recorder
        recorder._save = lambda: None
        try:
            await delete(self, *arguments)
        finally:
            del recorder._save

    Pruner._delete_batch = planted  # type: ignore[method-assign]


BUGS: dict[str, tuple[Plant, str]] = {
    "lost-event": (_lose_an_event, "rollback"),
    "replayed-event": (_replay_events, "races"),
    "double-create": (_create_twice, "apply"),
    "no-lock": (_take_no_lock, "races"),
    "delete-before-save": (_delete_before_saving, "prune"),
}
"""What each bug is called, what plants it, and the part of the sweep that looks for it first."""
MOST_SEEDS = 60
"""After so many races a planted bug counts as not found."""


def finds(bug: str, folder: Path) -> Tally:
    """Return the tally of a sweep with a planted bug, as far as its first violation."""
    plant, part = BUGS[bug]
    tally = Tally()
    if part == "races":
        for seed in range(MOST_SEEDS):
            race(tally, folder, FIRST, seed, plant)
            if tally.failed:
                break
        return tally
    (case,) = (case for case in CASES if case.name == part)
    kill(tally, folder, case, "Vertex AI", [signal.SIGKILL], 10**6, plant, stop=True)
    return tally


# the command


def main() -> int:
    """Run the sweep, print the tally, and return the exit status."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--points", type=int, default=10**6, help="kill points of each command and signal; default: all"
    )
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--storms", type=int, default=300)
    parser.add_argument("--signals", nargs="+", default=["SIGKILL", "SIGTERM", "SIGINT"], metavar="SIGNAL")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; default: one for each processor")
    parser.add_argument("--plant", choices=BUGS, help="plant this bug: the sweep must find it, and exits with 1")
    parser.add_argument("--self-test", action="store_true", help="plant each bug in turn, until it is found")
    options = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as name:
        if options.self_test:
            return self_test(Path(name))
        tally = sweep(Path(name), options)
    return int(tally.failed)


def self_test(folder: Path) -> int:
    """Plant each bug, print how it was found, and return 1 if one was not found."""
    missed = 0
    for bug in BUGS:
        tally = finds(bug, folder)
        missed += not tally.failed
    return int(bool(missed))


class Part(Struct, frozen=True):
    """What one process does at a time: a function of this module, with its arguments after the tally and the folder."""

    work: str
    target: str
    arguments: tuple[Any, ...]


def parts_of(options: Namespace) -> list[Part]:
    """Return the parts of a sweep of this size, the longest first."""
    targets = list(TARGETS)
    each = [targets[seed % len(targets)] for seed in range(max(options.races, options.storms))]
    signals = [signal.Signals[one] for one in options.signals]
    share = -(-options.sequences // len(targets))
    kills = [(case.name, target, number) for case in CASES for target in targets for number in signals]
    return [
        *(Part("kill", target, (name, number, options.points)) for name, target, number in kills if options.points),
        *(Part("sequences", target, (share,)) for target in targets if share),
        *(Part("race", each[seed], (seed,)) for seed in range(options.races)),
        *(Part("storm", each[seed], (seed,)) for seed in range(options.storms)),
    ]


def sweep(folder: Path, options: Namespace) -> Tally:
    """Run every part in a few processes, and return what came of them."""
    tally = Tally()
    work = partial(carry_out, folder, options.plant)
    parts = parts_of(options)
    with get_context("fork").Pool(options.jobs) as pool:
        for _done, found in enumerate(pool.imap_unordered(work, parts), 1):
            tally.injected += found.injected
            tally.outcome.update(found.outcome)
            tally.examples += found.examples
    return tally


def carry_out(folder: Path, bug: str | None, part: Part) -> Tally:
    """Run one part, and return what came of it."""
    tally = Tally()
    plant = BUGS[bug][0] if bug else None
    if part.work == "kill":
        name, number, most = part.arguments
        (case,) = (case for case in CASES if case.name == name)
        kill(tally, folder, case, part.target, [number], most, plant)
    else:
        work = {"race": race, "storm": storm, "sequences": sequences}[part.work]
        work(tally, folder, part.target, *part.arguments, plant)
    return tally


def report(tally: Tally) -> str:
    """Return what was injected and what came of it."""
    injected = [f"  {number:6}  {what}" for what, number in sorted(tally.injected.items())]
    outcome = ", ".join(f"{what} {number}" for what, number in tally.outcome.items())
    return "\n".join(["Injected:", *injected, f"Result: {outcome}", *tally.examples[:20]])


if __name__ == "__main__":
    sys.exit(main())
