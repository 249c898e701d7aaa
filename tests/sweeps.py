"""Kill, race and disturb runs on a simulated world, and count what that lost: nothing may be.

``python tests/sweeps.py`` prints what it injected and what came of it, and exits with 1 if a model was trained twice or
lost, a rollback forgotten, or a project left in which a command fails. ``--self-test`` proves that it finds such bugs.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from msgspec import Struct, field
from msgspec.json import decode as json_decode
from msgspec.json import encode as json_encode

from reconciler.domain.errors import ExitStatus
from reconciler.emulator.faults import FaultKind, FaultRule, Faults
from reconciler.engine.prune import Pruner
from reconciler.engine.recorder import Recorder
from reconciler.planning.events import Rejected
from reconciler.providers.google.http import Client, HttpRequest
from reconciler.providers.local.models import MOST_LAUNCHES
from reconciler.providers.local.store import ADAPTER_CONFIG, ADAPTER_WEIGHTS, TRAINING_FILE
from reconciler.providers.vertex.provider import Vertex
from reconciler.reports.text.format import counted
from reconciler.state import checkout
from reconciler.trainer.run_files import TrainerExit, is_canceled
from support.base_models import GEMINI_API, VERTEX
from support.cli_world import Project
from support.local_world import make_base
from support.simulation import Kept, Plant, Point, Result, Run, World, ending_points, preload
from support.vertex_world import BUCKET, JOBS, LOCATION, PROJECT

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

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
LOCAL = "This machine"
TARGETS[LOCAL] = f"  provider: local\n  local: {{store: ../../store}}\n{FILES}"
_BROKEN = "broken"
"""The violation that a part of the sweep raised an exception: it proves nothing."""
Json = dict[str, Any]
Command = tuple[str, ...]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
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
        self.folder = folder
        self.world = World(folder / "world")
        self.plant = plant
        self.target = target
        self._kept = 0
        make_base(self.world.folder)
        self.project = self.checkout("project")

    @property
    def vertex(self) -> bool:
        return self.target.startswith("Vertex")

    @property
    def local(self) -> bool:
        return self.target == LOCAL

    @property
    def store(self) -> Path:
        """The store of the trainings on this machine, which all checkouts have in common."""
        return self.world.folder / "store"

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
            base="../../base" if self.local else GEMINI_API,
            more=f"  vertex: {{baseModel: {VERTEX}, hyperparameters: {{{block}}}}}\n{more}",
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

    def start(self, *arguments: str, place: Project) -> Run:
        """Start a command in a checkout."""
        return self.world.start(*arguments, folder=place.folder, plant=self.plant)

    def copy(self, name: str) -> Project:
        """Return a copy of the current checkout."""
        shutil.copytree(self.project.folder, self.world.folder / name)
        return self.checkout(name)

    def save(self) -> Kept:
        """Copy everything aside."""
        self._kept += 1
        return self.world.save(self.folder / f"aside-{self._kept}")

    def keep(self) -> Callable[[], None]:
        """Return what restores everything as it is now."""
        return partial(self.world.restore, self.save())

    # what is observed

    def lock(self, project: Project | None = None) -> Json:
        """The models of the lockfile."""
        text = self._text("lock.json", (project or self.project).lock_file)
        return dict(json.loads(text)["models"]) if text else {}

    def pointer(self, file: str = "serving.json") -> dict[str, str]:
        """The published keys by name."""
        text = self._text(file, self.project.specs / file)
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
        if self.local:
            files = [path for name in (TRAINING_FILE, ADAPTER_CONFIG) for path in self.store.glob(f"[!.]*/{name}")]
            return Counter(path.parent.name for path in files if not is_canceled(path.parent))
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
                "stages": {
                    stage: (record.get("serving"), record.get("published"), record.get("requested"))
                    for stage, record in model.get("stages", {}).items()
                },
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


class Tally(Struct):
    """What was injected, and what came of it."""

    injected: Counter[str] = field(default_factory=Counter)
    outcome: Counter[str] = field(
        default_factory=lambda: Counter(duplicates=0, lost=0, forgotten=0, wedged=0, **{_BROKEN: 0})
    )
    examples: list[str] = field(default_factory=list)

    def blame(self, kind: str, where: str, what: object) -> None:
        """Count a violation, and keep an example."""
        self.outcome[kind] += 1
        self.examples.append(f"{kind}: {where}: {what}")

    @property
    def failed(self) -> bool:
        return any(self.outcome.values())

    def add(self, other: Tally) -> None:
        """Add what another process found."""
        self.injected.update(other.injected)
        self.outcome.update(other.outcome)
        self.examples += other.examples

    @contextmanager
    def counting_errors(self, where: str) -> Iterator[None]:
        """Count an exception as a violation, so that the rest of the sweep is carried out."""
        try:
            yield
        except Exception:  # noqa: BLE001 - whatever it is, it is shown
            self.blame(_BROKEN, where, traceback.format_exc())

    def check(self, where: str, result: Result, allowed: Sequence[int] = tuple(ExitStatus)) -> bool:
        """Return whether a run ended as documented: in time, without a traceback, and with a reason for its status."""
        said = result.err + result.out
        if result.killed:
            return True
        silent = result.status != ExitStatus.OK and not said.strip()
        broken = result.stuck or "Traceback" in said or "internal error" in said or silent
        if broken or result.status not in allowed:
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
    _examine_trainers(scene, tally, where)
    live, pointer = scene.live(), scene.pointer()
    for name, model in scene.lock().items():
        serving = model.get("serving")
        if serving in rejected_keys(model):
            tally.blame("forgotten", where, f"{name}: {serving} serves although it is rejected")
        if serving != pointer.get(name):
            tally.blame("lost", where, f"{name}: {serving} serves, and {pointer.get(name)} is published")
        _examine_stages(scene, tally, where, name, model)
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


def _examine_stages(scene: Scene, tally: Tally, where: str, name: str, model: Json) -> None:
    for stage, record in model.get("stages", {}).items():
        serving, published = record.get("serving"), scene.pointer(f"{stage}.json").get(name)
        if serving in rejected_keys(record):
            tally.blame("forgotten", where, f"{name}: {serving} serves in {stage} although it is rejected")
        if serving != published or record.get("requested"):
            tally.blame("lost", where, f"{name}: {record} is recorded of {stage}, and {published} is published")


def _examine_trainers(scene: Scene, tally: Tally, where: str) -> None:
    for fault in scene.world.faults:
        tally.blame("duplicates", where, fault)
    for trainer in scene.world.trainers:
        if trainer.result:
            tally.check(where, trainer.result, tuple(TrainerExit))
    for path in (*scene.store.glob(".*.new"), *scene.store.glob(".*.deleted"), *scene.store.rglob("*.partial")):
        tally.blame("wedged", where, f"{path.name} is left")


def examine_decisions(scene: Scene, tally: Tally, where: str, rejected: Iterable[tuple[Project, str, str]]) -> None:
    """Check that each rollback that was reported as done is kept, and that what serves exists."""
    for project, name, key in rejected:
        model = scene.lock(project).get(name, {})
        if key not in rejected_keys(model):
            tally.blame("forgotten", where, f"{name}: {key} was rolled back")
    live = scene.live()
    for name, model in scene.lock().items():
        serving = model.get("serving")
        if serving in rejected_keys(model):
            tally.blame("forgotten", where, f"{name}: {serving} serves although it is rejected")
        origins = {one.get("origin") for one in model.get("generations", []) if one["key"] == serving}
        if serving and serving not in live and origins != {"adopted"}:
            tally.blame("lost", where, f"{name}: {serving} serves, and does not exist")


def rejected_by(results: Sequence[Result], places: Sequence[Project]) -> list[tuple[Project, str, str]]:
    """Return what successful rollbacks reported as rejected, with the checkout and the model."""
    return [
        (place, result.arguments[1], key)
        for result, place in zip(results, places, strict=True)
        if result.arguments[0] == "rollback" and result.status == 0
        for key in rejected_keys(json.loads(result.out))
    ]


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


STAGE = "production"


def _requested(scene: Scene) -> None:
    """Request the promotion of the second generation of adder to a stage that begins with the first one."""
    _served(scene, 1)
    target = scene.project.specs / "reconcile.yaml"
    address, later = ("serving.json", f"{STAGE}.json")
    text = target.read_text()
    prefix = text.partition("  publish: ")[2].partition(address)[0]
    stages = (
        f"[{{name: staging, publish: {prefix}{address}}}, {{name: {STAGE}, after: staging, publish: {prefix}{later}}}]"
    )
    target.write_text(text.replace(f"  publish: {prefix}{address}", f"  stages: {stages}"))
    _served(scene, 1, 2)
    scene.must("promote", "adder", "--stage", STAGE)


def _promoted(scene: Scene) -> None:
    _requested(scene)
    scene.must(*APPLY)


def _stage(scene: Scene) -> Json:
    stage: Json = scene.lock()["adder"]["stages"][STAGE]
    return stage


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
            "baseModel": VERTEX,
            "tunedModelDisplayName": "Theirs",
            "supervisedTuningSpec": {"trainingDatasetUri": f"gs://{BUCKET}/theirs.jsonl"},
        }
        scene.world.ask("POST", JOBS, json.dumps(job).encode())
    elif scene.local:
        theirs = scene.store / "theirs"
        theirs.mkdir(parents=True)
        config = {"base_model_name_or_path": str(scene.world.folder / "base"), "r": 16}
        (theirs / ADAPTER_CONFIG).write_text(json.dumps(config))
        (theirs / ADAPTER_WEIGHTS).write_text("theirs")
    else:
        rows = [{"textInput": str(number), "output": str(number + 1)} for number in range(20)]
        model = {"baseModel": GEMINI_API, "tuningTask": {"trainingData": {"examples": {"examples": rows}}}}
        scene.world.ask("POST", "/v1beta/tunedModels", json.dumps(model).encode(), tunedModelId="theirs")


def _adopt(scene: Scene) -> Command:
    theirs = [job["name"] for job in scene.world.jobs() if not job.get("labels")] if scene.vertex else []
    return "adopt", "theirs", *(theirs or ["local/theirs" if scene.local else "tunedModels/theirs"])


def _rejects(scene: Scene) -> bool:
    return bool(rejected_keys(scene.lock()["adder"]))


def _unlocked(scene: Scene) -> None:
    """Lose the lockfile and the pointer while trainings are in progress."""
    _started(scene)
    scene.project.lock_file.unlink(missing_ok=True)
    (scene.project.specs / "serving.json").unlink(missing_ok=True)
    for name in ("lock.json", "serving.json") if scene.in_bucket else ():
        scene.world.ask("DELETE", f"/storage/v1/b/{BUCKET}/o/{name}")


_ROLLBACK: Command = ("rollback", "adder", "--reason", "worse", "--format", "json")
CASES = (
    Case("apply", _changed, lambda _: APPLY),
    Case("apply --prune", _prunable, lambda _: (*APPLY, "--prune")),
    Case("wait", _started, lambda _: ("wait",)),
    Case("prune", _prunable, lambda _: ("prune", "--yes")),
    Case("rollback", lambda scene: _served(scene, 1, 2), lambda _: _ROLLBACK, lambda scene: not _rejects(scene)),
    Case("promote", _rolled_back, lambda _: ("promote", "adder"), _rejects),
    Case("adopt", _foreign, _adopt, lambda scene: "theirs" not in scene.lock()),
    Case("refresh", _unlocked, lambda _: ("refresh",)),
    Case("first apply", lambda scene: scene.declare("adder", 1), lambda _: APPLY),
    Case("apply to a stage", _requested, lambda _: APPLY),
    Case(
        "rollback in a stage",
        _promoted,
        lambda _: (*_ROLLBACK, "--stage", STAGE),
        lambda scene: not _stage(scene).get("rejected"),
    ),
)
"""What is killed: the commands that write, with publishing and locks as their target has them."""
_CASES = {case.name: case for case in CASES}


_KINDS = {
    "request": "before a request",
    "response": "before its response",
    "file": "before a file operation",
    "launch": "before the start of a trainer",
}


class _Ending(Struct, frozen=True):
    """What a signal left."""

    where: str
    result: Result
    left: str
    kept: Kept | None
    """What was left; ``None`` if as much was left before, or if it is there now."""


def kill(
    tally: Tally,
    folder: Path,
    target: str,
    name: str,
    signals: Sequence[int],
    most: int,
    interrupts: int,
    plant: Plant | None = None,
    *,
    stop: bool = False,
) -> None:
    """End a command at its points, at most at so many, and check that the project is as if it had not been ended.

    What two ends leave alike is settled once. At most at so many points it is interrupted, which takes a run for each.
    ``stop`` ends at the first violation.
    """
    case = _CASES[name]
    with staged(folder, target) as scene:
        case.prepare(scene)
        command = case.command(scene)
        restore = scene.keep()
        restore()
        run = scene.world.start(*command)
        (undisturbed,) = scene.world.play([run])
        points = ending_points(point for one in (run, *scene.world.trainers) for point in one.points)
        tally.check(f"{target}: {name}", undisturbed, [0])
        settle(scene, tally, f"{target}: {name}, not ended", *([command] if case.again(scene) else []))
        wanted = scene.summary()
        scene.plant = plant
        settled: set[str] = set()
        indexes = sorted(random.Random(name).sample(range(points), min(most, points)))  # noqa: S311 - no secret
        ways = [(number, _killings if number == signal.SIGKILL else _interruptions) for number in signals]
        ways += [(signal.SIGKILL, _interruptions)] if scene.local and interrupts else []
        for number, endings in ways:
            restore()
            some = indexes if endings is _killings else indexes[:: -(-len(indexes) // interrupts)]
            of_one = " of one process" if (number, endings) == (signal.SIGKILL, _interruptions) else ""
            for ending in endings(scene, restore, command, number, some):
                sent = f"{signal.Signals(number).name}{of_one} {ending.where}"
                where = f"{target}: {name}, {sent}"
                tally.injected[sent.partition(" at ")[0]] += 1
                with tally.counting_errors(where):
                    tally.check(where, ending.result)
                    if ending.left in settled:
                        continue
                    settled.add(ending.left)
                    if ending.kept:
                        scene.world.restore(ending.kept)
                    _settle_ended(scene, tally, where, [command] if case.again(scene) else [], wanted)
                if stop and tally.failed:
                    return
        tally.injected["different states that signals left"] += len(settled)


def _killings(
    scene: Scene, _restore: Callable[[], None], command: Command, number: int, indexes: Sequence[int]
) -> Iterator[_Ending]:
    """Run the command once, and yield what is there at its points: SIGKILL leaves exactly that."""
    found: dict[str, Kept | None] = {}
    endings = []
    reached = 0

    def save(run: Run) -> int:
        nonlocal reached
        if run.point.can_end:
            if reached in indexes:
                left = scene.world.digest()
                kept = None if left in found else found.setdefault(left, scene.save())
                endings.append(_Ending(_shown(reached, run.point), Result(command, -number), left, kept))
            reached += 1
        return 0

    scene.world.play([scene.start(*command, place=scene.project)], interrupt=save)
    yield from endings


def _interruptions(
    scene: Scene, restore: Callable[[], None], command: Command, number: int, indexes: Sequence[int]
) -> Iterator[_Ending]:
    """Run the command anew for each point, and yield what it left after the signal."""
    for index in indexes:
        restore()
        result, point = scene.world.cut(index, number, *command, plant=scene.plant)
        yield _Ending(_shown(index, point), result, scene.world.digest(), None)


def _shown(index: int, point: Point | None) -> str:
    return f"{_KINDS[point.kind]} at {index} ({point})" if point else f"after the end at {index}"


def _settle_ended(scene: Scene, tally: Tally, where: str, again: Sequence[Command], wanted: Json) -> None:
    """Check that a command that reads works at once, and that the project ends as wanted."""
    reading = scene.run(*READING[len(where) % len(READING)])
    tally.check(where, reading, [0, 1 if "held" in reading.out else 0, 2])
    settle(scene, tally, where, *again)
    found = scene.summary()
    if found != wanted:
        tally.blame("lost", where, f"ends as {found} in place of {wanted}")


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
    _ROLLBACK,
)


def _contested(scene: Scene) -> None:
    """Two generations of two models, and trainings to start: of nova a long one."""
    for size in (1, 2):
        scene.declare("words", size)
        _served(scene, size)
    scene.declare("adder", 3)
    scene.declare("nova", 1, epochs=60)


def races(tally: Tally, folder: Path, target: str, seeds: Sequence[int], plant: Plant | None = None) -> None:
    """Let 2 to 8 runs meet in one checkout or in several, in an order that the seed decides."""
    with staged(folder, target) as scene:
        _contested(scene)
        restore, project = scene.keep(), scene.project
        scene.plant = plant
        for seed in seeds:
            restore()
            scene.project = project
            with tally.counting_errors(f"{target}: race {seed}"):
                _race(tally, scene, seed)


def _race(tally: Tally, scene: Scene, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - reproducible, and no secret
    count, checkouts = rng.randint(2, 8), rng.choice([1, 1, 1, 2, 3])
    projects = [scene.project, *(scene.copy(f"project-{number}") for number in range(1, checkouts))]
    places = [rng.choice(projects) for _ in range(count)]
    commands = [APPLY, *(rng.choice(_RACING) for _ in range(count - 1))]
    runs = [scene.start(*command, place=place) for command, place in zip(commands, places, strict=True)]
    for run in runs[1:]:
        run.wakes += timedelta(seconds=rng.choice([0, 0, 5, 10, 20]))  # also while another run waits
    results = scene.world.play(runs, choose=_schedule(rng))
    listed = ", ".join(" ".join(command) for command in commands)
    where = f"{scene.target}: race {seed} of {count} runs in {counted(checkouts, 'checkout')} ({listed})"
    tally.injected[f"races in {'one checkout' if checkouts == 1 else 'several checkouts'}"] += 1
    tally.injected["runs that raced"] += count
    _settle_race(scene, tally, where, results, places)


def _settle_race(scene: Scene, tally: Tally, where: str, results: Sequence[Result], places: Sequence[Project]) -> None:
    """Check what runs left that met: at once, and after a calm run in each checkout."""
    for result in results:
        tally.check(where, result, [0, 1])
    rejected = rejected_by(results, places)
    for project in dict.fromkeys(places):
        scene.project = project
        examine_decisions(scene, tally, where, [one for one in rejected if one[0] is project])
        settle(scene, tally, where)
    examine_decisions(scene, tally, where, rejected)


class Meeting(Struct, frozen=True):
    """Two commands: the second one runs while the first one stops at one of its points."""

    first: Callable[[Scene], Command]
    second: Callable[[Scene], Command]
    prepare: Callable[[Scene], None] = _contested
    alone: bool = True
    """Whether a checkout of its own can run the second one, if the lockfile is in a bucket."""


def _always(*command: str) -> Callable[[Scene], Command]:
    return lambda _scene: command


def _to_the_first(scene: Scene) -> Command:
    """Roll back to the oldest generation, which prune deletes."""
    return *_ROLLBACK, "--to", str(scene.lock()["adder"]["generations"][0]["key"])


def _contested_orphan(scene: Scene) -> None:
    scene.declare("words", 1)
    _served(scene, 1, 2, 3)
    scene.withdraw("words")


def _contested_training(scene: Scene) -> None:
    _contested(scene)
    scene.must(*APPLY, "--no-wait")


def _contested_adoption(scene: Scene) -> None:
    _contested(scene)
    train_as_another_user(scene)
    scene.world.now += timedelta(hours=1)


_APPLIES, _ROLLS_BACK = _always(*APPLY), _always(*_ROLLBACK)
_OTHER_ROLLBACK = _always("rollback", "words", *_ROLLBACK[2:])
_PRUNES = _always("prune", "--yes")
MEETINGS = {
    "apply and rollback": Meeting(_APPLIES, _ROLLS_BACK),
    "rollback and apply": Meeting(_ROLLS_BACK, _APPLIES),
    "apply and apply": Meeting(_APPLIES, _always(*APPLY, "--only", "nova")),
    "wait and rollback": Meeting(_always("wait"), _ROLLS_BACK, _contested_training),
    "rollback and rollback of another model": Meeting(_ROLLS_BACK, _OTHER_ROLLBACK),
    "rollback and rollback of the same model": Meeting(_ROLLS_BACK, _ROLLS_BACK),
    "prune and rollback": Meeting(_PRUNES, _to_the_first, _contested_orphan),
    "rollback and prune": Meeting(_to_the_first, _PRUNES, _contested_orphan),
    "prune and forget": Meeting(_PRUNES, _always("forget", "words", "--yes"), _contested_orphan),
    "refresh and rollback": Meeting(_always("refresh"), _ROLLS_BACK, _contested_training),
    "adopt and rollback": Meeting(_adopt, _ROLLS_BACK, _contested_adoption, alone=False),
}
"""Pairs that lost something once, or could: a decision and what acts or saves beside it."""


def meet(
    tally: Tally,
    folder: Path,
    target: str,
    name: str,
    most: int,
    plant: Plant | None = None,
    *,
    stop: bool = False,
) -> None:
    """Stop a command at its points, at most at so many, and run another one meanwhile as far as the locks let it.

    With a lockfile in a bucket the second one runs in a checkout of its own. ``stop`` ends at the first violation.
    """
    meeting = MEETINGS[name]
    with staged(folder, target) as scene:
        meeting.prepare(scene)
        first, second = meeting.first(scene), meeting.second(scene)
        places = [scene.project, scene.copy("project-1") if scene.in_bucket and meeting.alone else scene.project]
        restore = scene.keep()
        alone = scene.start(*first, place=places[0])
        scene.world.play([alone])
        scene.plant = plant
        points = len(alone.points)
        for index in sorted(random.Random(name).sample(range(points), min(most, points))):  # noqa: S311 - no secret
            restore()
            scene.project = places[0]
            where = f"{target}: {name}, stopped at {index} ({alone.points[index]})"
            with tally.counting_errors(where):
                results = _run_meanwhile(scene, index, (first, second), places)
                tally.injected["meetings at a point of a run"] += 1
                _settle_race(scene, tally, where, results, places)
            if stop and tally.failed:
                return


def _run_meanwhile(
    scene: Scene, index: int, commands: tuple[Command, Command], places: Sequence[Project]
) -> list[Result]:
    """Run the first command to its point of this index, then the second one whenever it can run, then the first one."""
    runs = [scene.start(*commands[0], place=places[0])]

    def choose(ready: Sequence[Run]) -> Run:
        if len(runs) == 1 and len(runs[0].points) > index:
            runs.append(scene.start(*commands[1], place=places[1]))
            ready = [*ready, *(run for run in runs[1:] if run.result is None)]
        return ready[-1]

    results = scene.world.play(runs, choose=choose)
    if len(runs) == 1:
        results += scene.world.play([scene.start(*commands[1], place=places[1])])
    return results


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


def disturbance_of(seed: int, tally: Tally) -> Callable[[Run], int]:
    """Return what ends trainers and fills the disk of this machine, as the seed decides."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, and no secret
    left, likely = rng.randint(1, MOST_LAUNCHES - 1), rng.choice([0.01, 0.03, 0.1])

    def disturb(run: Run) -> int:
        nonlocal left
        if not left or not run.point.can_end or rng.random() > likely:
            return 0
        left -= 1
        kinds = {"trainers killed": signal.SIGKILL, "trainers interrupted": signal.SIGTERM} if run.is_trainer else {}
        if run.point.detail.startswith(("open ", "mkdir ", "rename ")):
            kinds["full disks"] = -errno.ENOSPC
        if not kinds:
            return 0
        kind = rng.choice(list(kinds))
        tally.injected[f"{kind} in storms"] += 1
        return kinds[kind]

    return disturb


def storms(tally: Tally, folder: Path, target: str, seeds: Sequence[int], plant: Plant | None = None) -> None:
    """Run commands while the services fail as the seed decides, then calmly."""
    with staged(folder, target) as scene:
        scene.declare("words", 1)
        _served(scene, 1, 2, 3)
        scene.declare("adder", 4)
        scene.declare("nova", 1)
        restore = scene.keep()
        scene.plant = plant
        for seed in seeds:
            restore()
            with tally.counting_errors(f"{target}: storm {seed}"):
                _storm(tally, scene, seed)


def _storm(tally: Tally, scene: Scene, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - reproducible, and no secret
    if rng.random() < 0.3:
        scene.withdraw("words")
    front = scene.world.storm(storm_of(seed))
    if scene.local:
        scene.world.disturb = disturbance_of(seed, tally)
    commands = [APPLY, rng.choice(_STORMED)]
    rng.shuffle(commands)
    where = f"{scene.target}: storm {seed} ({', '.join(' '.join(command) for command in commands)})"
    results = [scene.run(*command) for command in commands]
    for result in results:
        tally.check(where, result)
    tally.injected["storms"] += 1
    tally.injected.update({f"fault {kind} in storms": number for kind, number in front.fired.items() if number})
    settle(scene, tally, where)
    examine_decisions(scene, tally, where, rejected_by(results, [scene.project] * len(results)))


# sequences


_SIZES = st.integers(1, 3)
_COMMANDS = (
    *_RACING,
    ("promote", "adder"),
    (*APPLY, "--no-wait"),
    (*APPLY, "--train-only"),
    ("forget", "words", "--yes"),
)


def sequences(tally: Tally, folder: Path, target: str, seeds: Sequence[int], plant: Plant | None = None) -> None:  # noqa: C901 - the rules of one class
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

        @rule(command=st.sampled_from(_COMMANDS), index=st.integers(0, 60), number=st.sampled_from(SIGNALS))
        def ended(self, command: Command, index: int, number: signal.Signals) -> None:
            self.note(number.name, "at", index, *command)
            tally.check(self.where, self.scene.world.cut(index, number, *command, plant=plant)[0])

        @rule()
        def foreign(self) -> None:
            self.note("another user trains a model")
            if "theirs" not in self.scene.live():
                train_as_another_user(self.scene)

        @rule(minutes=st.sampled_from([1, 60]))
        def later(self, minutes: int) -> None:
            self.note(minutes, "minutes pass")
            self.scene.world.now += timedelta(minutes=minutes)

        def teardown(self) -> None:
            tally.injected["sequences"] += 1
            with tally.counting_errors(self.where):
                settle(self.scene, tally, self.where)
            self.scene.world.close()
            self._folder.cleanup()

    with tally.counting_errors(f"{target}: sequences from {seeds[0]}"):
        run_state_machine_as_test(  # type: ignore[no-untyped-call]  # Hypothesis has no type for it
            seed(seeds[0])(Steps),
            settings=settings(
                max_examples=len(seeds),
                stateful_step_count=8,
                deadline=None,
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


class Bug(Struct, frozen=True):
    """What plants a bug, and the part of the sweep that finds it for certain."""

    plant: Plant
    find: Callable[[Tally, Path, Plant], None]


def _by_kills(case: str, most: int) -> Callable[[Tally, Path, Plant], None]:
    return lambda tally, folder, plant: kill(tally, folder, "Vertex AI", case, SIGNALS[:1], most, 0, plant, stop=True)


def _by_meetings(name: str) -> Callable[[Tally, Path, Plant], None]:
    return lambda tally, folder, plant: meet(tally, folder, FIRST, name, _ENOUGH, plant, stop=True)


_ALL = 10**6
_ENOUGH = 20
"""So many interleavings of a pair find a bug of its kind."""
BUGS = {
    "lost-event": Bug(_lose_an_event, _by_kills("rollback", 1)),
    "replayed-event": Bug(_replay_events, _by_meetings("apply and rollback")),
    "double-create": Bug(_create_twice, _by_kills("apply", 4)),
    "no-lock": Bug(_take_no_lock, _by_meetings("rollback and rollback of another model")),
    "delete-before-save": Bug(_delete_before_saving, _by_kills("prune", _ALL)),
}
"""Bugs by name; each of them loses something, and each was or could be a bug of the product."""


def finds(name: str, folder: Path) -> Tally:
    """Return the tally of a part of the sweep with a planted bug, as far as its first violation."""
    tally = Tally()
    BUGS[name].find(tally, folder, BUGS[name].plant)
    return tally


# the command


class Part(Struct, frozen=True):
    """What one process does at a time: a function, with its arguments after tally, folder and target."""

    work: Callable[..., None]
    target: str
    arguments: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.target}: {self.work.__name__} {' '.join(map(_short, self.arguments))}"


def _short(argument: object) -> str:
    if isinstance(argument, range):
        return f"{argument[0]}-{argument[-1]}"
    return ",".join(one.name for one in argument) if isinstance(argument, tuple) else str(argument)


_BATCH = 10
"""How many seeds a part has: it prepares its scene once."""


def main() -> int:
    """Run the sweep, print what came of it, and return the exit status."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--points", type=int, default=_ALL, help="points at which each command is ended; default: all")
    parser.add_argument(
        "--interrupts", type=int, default=_ALL, help="points at which each command is interrupted; default: all"
    )
    parser.add_argument(
        "--every-signal",
        action="store_true",
        help="SIGKILL, SIGTERM and SIGINT at each point; default: SIGKILL, and SIGTERM or SIGINT by the target",
    )
    parser.add_argument(
        "--meetings", type=int, default=25, help="points of each command at which another one runs; default: 25"
    )
    parser.add_argument("--races", type=int, default=200, help="seeds of 2 to 8 racing runs; default: 200")
    parser.add_argument("--storms", type=int, default=300, help="seeds of faults; default: 300")
    parser.add_argument("--sequences", type=int, default=100, help="random sequences of commands; default: 100")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="keep the progress in this file, and continue from it"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; default: one for each processor")
    parser.add_argument("--plant", choices=BUGS, help="plant a bug in every run: the sweep must find it")
    parser.add_argument("--self-test", action="store_true", help="plant each bug in turn, and stop when it is found")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace the table in this page")
    options = parser.parse_args()
    preload()
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there; the runs write and sync often
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        if options.self_test:
            return self_test(Path(name))
        parts, bug = parts_of(options), options.plant
        sweep = Sweep(Path(name), BUGS[bug].plant if bug else None, options.keep)
        sweep.run(parts, options.jobs)
    progress = sweep.progress
    missing = [part for part in map(str, parts) if part not in progress.done]
    shown = report(progress, len(missing))
    print(shown)
    print(*progress.tally.examples[:_SHOWN], sep="\n")
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(_TABLE.sub(lambda block: f"{block[1]}\n{shown}\n{block[2]}", page), encoding="utf-8")
    return int(progress.tally.failed or bool(missing))


_SHOWN = 20
"""How many examples are repeated at the end; all are printed when they are found."""
_TABLE = re.compile(r"(<!-- last full run -->\n).*?(<!-- end -->)", re.DOTALL)


def self_test(folder: Path) -> int:
    """Plant each bug, print how it was found, and return 1 if one was not found."""
    missed = 0
    for bug in BUGS:
        tally = finds(bug, folder)
        missed += not tally.failed
        print(f"{bug}: {tally.examples[0] if tally.failed else 'NOT FOUND'}")
    return int(bool(missed))


def parts_of(options: Namespace) -> list[Part]:
    """Return the parts of a sweep of this size."""
    targets = list(TARGETS)
    interrupts = (signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGTERM)
    signals = {
        target: SIGNALS if options.every_signal else (signal.SIGKILL, number)
        for target, number in zip(targets, interrupts, strict=True)
    }

    def seeded(work: Callable[..., None], count: int) -> Iterator[Part]:
        for number in range(0, count, _BATCH):
            yield Part(work, targets[number // _BATCH % len(targets)], (range(number, min(number + _BATCH, count)),))

    return [
        *seeded(storms, options.storms),
        *(Part(meet, target, (name, options.meetings)) for name in MEETINGS for target in targets),
        *seeded(races, options.races),
        *seeded(sequences, options.sequences),
        *(
            Part(kill, target, (name, signals[target], options.points, options.interrupts))
            for name in reversed(_CASES)
            for target in targets
        ),
    ]


class Progress(Struct):
    """The parts that were completed, and what came of all, in so many seconds."""

    done: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0

    @classmethod
    def read(cls, file: Path) -> Progress:
        return json_decode(file.read_bytes(), type=cls, dec_hook=lambda _kind, counts: Counter(counts))

    def add(self, part: Part, found: Tally, *, completed: bool, seconds: float) -> None:
        """Add what a part found, also if it was interrupted."""
        self.done += [str(part)] if completed else []
        self.tally.add(found)
        self.seconds = seconds


_PATIENCE = 10
"""How many seconds a part has to report what it has, when the sweep is ended."""


class Sweep:
    """Runs parts in a few processes. SIGINT and SIGTERM end it early, and what it has then is its result."""

    def __init__(self, folder: Path, plant: Plant | None = None, kept: Path | None = None) -> None:
        """``kept`` is a file with the progress of the sweep, which continues from it."""
        self.progress = Progress.read(kept) if kept and kept.exists() else Progress()
        self._kept = kept
        self._began = time.monotonic() - self.progress.seconds
        self._folder = folder
        self._plant = plant
        self._working: dict[Connection, tuple[Part, BaseProcess]] = {}

    def run(self, parts: Sequence[Part], jobs: int) -> None:
        waiting = [part for part in reversed(parts) if str(part) not in self.progress.done]
        ended: list[int] = []
        before = {number: signal.signal(number, lambda *_: ended.append(1)) for number in SIGNALS[1:]}
        try:
            while (waiting or self._working) and not ended:
                while waiting and len(self._working) < jobs:
                    self._start(waiting.pop())
                for pipe in wait(list(self._working), timeout=1):
                    self._collect(pipe)
        finally:
            for _, process in self._working.values():
                process.terminate()
            for pipe in list(self._working):
                self._collect(pipe, ended=True)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, part: Part) -> None:
        context = get_context("fork")
        pipe, other = context.Pipe(duplex=False)
        process = context.Process(target=_carry_out, args=(other, self._folder, self._plant, part), daemon=True)
        process.start()
        other.close()
        self._working[pipe] = part, process

    def _collect(self, pipe: Connection, *, ended: bool = False) -> None:
        """Add what a part found; ``ended`` is whether its process was told to end before."""
        part, process = self._working.pop(pipe)
        found, completed = Tally(), False
        with suppress(EOFError):
            if pipe.poll(_PATIENCE if ended else None):
                found, completed = pipe.recv()
        process.kill()
        process.join()
        pipe.close()
        if not (completed or ended):
            found.blame(_BROKEN, str(part), f"its process ended early, with status {process.exitcode}")
        self.progress.add(part, found, completed=completed, seconds=time.monotonic() - self._began)
        if self._kept:
            self._kept.write_bytes(json_encode(self.progress))
        print(f"{len(self.progress.done)} {part}", *found.examples, sep="\n  ", file=sys.stderr)


def _carry_out(pipe: Connection, folder: Path, plant: Plant | None, part: Part) -> None:
    """Run one part in this process, and send what came of it, also if it is terminated."""
    os.setsid()  # a Ctrl-C in the terminal is for the sweep, which terminates this process
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tally = Tally()
    completed = False
    with suppress(KeyboardInterrupt):
        with tally.counting_errors(str(part)):
            part.work(tally, folder, part.target, *part.arguments, plant)
        completed = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.send((tally, completed))


def report(progress: Progress, missing: int) -> str:
    """Return what was injected and what came of it, as tables."""
    tally, minutes = progress.tally, progress.seconds / 60
    ended = f"{len(progress.done)} parts, {missing} not completed" if missing else f"all {len(progress.done)} parts"
    return "\n".join(
        [
            f"{datetime.now(tz=UTC):%Y-%m-%d}, Python {platform.python_version()}: {ended}, {minutes:.0f} minutes.",
            "",
            "| injected | number |",
            "|---|---:|",
            *(f"| {what} | {number:,} |" for what, number in sorted(tally.injected.items())),
            "",
            "| result | number |",
            "|---|---:|",
            *(f"| {what} | {number:,} |" for what, number in tally.outcome.items()),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
