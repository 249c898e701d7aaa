"""The published pointer: what is written, when, and over what never."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import reduce
from pathlib import Path
from threading import Lock as Turn
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from reconciler.commands._rollout import Publisher
from reconciler.domain.errors import LockConflict, ReconcileError, ServiceError
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.model import Capabilities, Resources, Sampling, State, Target
from reconciler.emulator.app import create_app
from reconciler.planning.events import Published, record
from reconciler.providers.google.bucket_lockfile import BucketLockfile
from reconciler.state.lockfile import LockFile
from support.core_strategies import generation
from support.provider_service import START, Time, error, script
from support.provider_storage import storage_of
from support.render_values import held_to

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from reconciler.domain.ports import LockStore

TARGET = Target("default", "reconcile.yaml", "generativelanguage", "demo", project="my-project")
SERVICE = Capabilities("Generative Language API v1beta3", frozenset())
ADDRESS = "gs://acme-models/serving.json"
K1, K2, K3 = "words-11111111", "words-22222222", "words-33333333"
NUMBERS = "numbers-11111111"


def served(
    key: str | None, published: str | None = None, sampling: Sampling | None = None, **fields: Any
) -> LockedModel:
    generations = (generation(key, **fields),) if key else ()
    return LockedModel("words.yaml", serving=key, published=published, sampling=sampling, generations=generations)


def lock(**models: LockedModel) -> Lock:
    return Lock(models=models)


def publisher(store: LockStore | None, *, target: Target = TARGET, shown: str = "serving.json") -> Publisher:
    return Publisher(target, SERVICE, store, shown)


def with_published(lock: Lock, events: tuple[Published, ...]) -> Lock:
    return reduce(record, events, lock)


def failure(act: Callable[[], object]) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        act()
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "serving.json"


def document(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def keys(file: Path) -> dict[str, str]:
    return {model["name"]: model["key"] for model in document(file)["models"]}


# what is written


def test_the_pointer_is_the_document_that_resolve_prints(file: Path) -> None:
    locked = lock(words=served(K1, sampling=Sampling(0.5), preamble="Be brief. "), numbers=served(NUMBERS))
    events = publisher(LockFile(file)).publish(locked)
    assert events == (Published("numbers", NUMBERS), Published("words", K1))
    whole = held_to("resolve", document(file))
    assert whole["target"] == {
        "name": "default",
        "provider": "generativelanguage",
        "label": "Generative Language API v1beta3",
        "scope": "demo",
        "project": "my-project",
    }
    assert whole["models"][1] == {
        "name": "words",
        "key": K1,
        "remote": f"tunedModels/{K1}",
        "provider": "generativelanguage",
        "endpoint": "https://generativelanguage.googleapis.com",
        "url": f"https://generativelanguage.googleapis.com/v1beta3/tunedModels/{K1}",
        "preamble": "Be brief. ",
        "sampling": {"temperature": 0.5},
    }
    assert file.read_text(encoding="utf-8").endswith("}\n")


def test_on_vertex_ai_the_endpoint_answers(file: Path) -> None:
    job, endpoint = (f"projects/p/locations/l/{kind}/7" for kind in ("tuningJobs", "endpoints"))
    target = replace(TARGET, provider="vertex", location="l", endpoint="http://127.0.0.1:1")
    locked = lock(words=served(K1, remote=job, resources=Resources(job=job, endpoint=endpoint)))
    publisher(LockFile(file), target=target).publish(locked)
    (entry,) = document(file)["models"]
    assert (entry["remote"], entry["url"]) == (endpoint, f"http://127.0.0.1:1/v1/{endpoint}")


def test_without_a_pointer_nothing_happens() -> None:
    nowhere = publisher(None)
    nowhere.check(lock(words=served(K1)))
    assert nowhere.publish(lock(words=served(K1))) == ()


def test_there_is_no_pointer_before_the_first_promotion(file: Path) -> None:
    assert publisher(LockFile(file)).publish(lock(words=served(None))) == ()
    assert not file.exists()


def test_only_changes_are_written_and_emitted(file: Path) -> None:
    pointer = publisher(LockFile(file))
    first = lock(words=served(K1), numbers=served(NUMBERS))
    after = with_published(first, pointer.publish(first))
    before = file.stat()
    assert pointer.publish(after) == ()
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file.stat().st_ino == before.st_ino

    moved = replace(after, models={**after.models, "words": served(K2, K1)})
    assert pointer.publish(moved) == (Published("words", K2),)
    assert keys(file) == {"words": K2, "numbers": NUMBERS}


def test_a_model_that_is_no_longer_serving_is_omitted(file: Path) -> None:
    pointer = publisher(LockFile(file))
    pointer.publish(lock(words=served(K1), numbers=served(NUMBERS)))
    lost = lock(words=served(K1, K1, state=State.MISSING), numbers=served(None, NUMBERS))
    assert pointer.publish(lost) == (Published("numbers", None), Published("words", None))
    assert document(file)["models"] == []


def test_how_a_model_is_sampled_is_written_without_its_being_news(file: Path) -> None:
    pointer = publisher(LockFile(file))
    pointer.publish(lock(words=served(K1, K1, Sampling(0.5))))
    assert pointer.publish(lock(words=served(K1, K1, Sampling(0.7)))) == ()
    assert document(file)["models"][0]["sampling"] == {"temperature": 0.7}


def test_a_run_that_died_before_it_recorded_what_it_published_is_caught_up_with(file: Path) -> None:
    pointer = publisher(LockFile(file))
    pointer.publish(lock(words=served(K2, K1)))
    assert pointer.publish(lock(words=served(K2, K1))) == (Published("words", K2),)


# over what nothing is written


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"rows": 3}', '{"version": 1, "kind": "Status"}', '{"version": 9, "kind": "Resolve"}'],
    ids=["empty", "truncated", "foreign", "another document", "newer"],
)
def test_another_file_is_not_overwritten(file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    pointer = publisher(LockFile(file))
    for act in (pointer.publish, pointer.check):
        assert failure(lambda act=act: act(lock(words=served(K1)))).message.startswith("serving.json")
    assert file.read_text(encoding="utf-8") == content


def test_bytes_that_are_no_text_are_left_as_they_are(file: Path) -> None:
    file.write_bytes(b"\xff")
    caught = failure(lambda: publisher(LockFile(file)).publish(lock(words=served(K1))))
    assert str(caught) == (f"{file}:1:1: not UTF-8 text: invalid byte 0xff; restore it from git, or save it as UTF-8")


def test_the_pointer_of_another_target_is_left_as_it_is(file: Path) -> None:
    publisher(LockFile(file), target=replace(TARGET, scope="theirs")).publish(lock(words=served(K1)))
    before = file.read_bytes()
    caught = failure(lambda: publisher(LockFile(file)).publish(lock(words=served(K1))))
    assert "scope is theirs, but demo in reconcile.yaml" in caught.message
    assert file.read_bytes() == before


def test_a_changed_pointer_is_not_overwritten(file: Path) -> None:
    pointer = publisher(LockFile(file))
    after = with_published(lock(words=served(K1)), pointer.publish(lock(words=served(K1))))
    theirs = file.read_text(encoding="utf-8").replace(K1, K3)
    file.write_text(theirs, encoding="utf-8")
    moved = lock(words=replace(served(K2), published=after.models["words"].published))
    for act in (pointer.publish, pointer.check):
        assert str(failure(lambda act=act: act(moved))) == (
            f"serving.json: changed out-of-band, not overwritten: words has {K3} (last written was {K1}, {K2} is "
            "serving); find out what changed it, then move it away: the next apply writes a new one"
        )
    assert file.read_text(encoding="utf-8") == theirs
    file.rename(file.with_name("theirs.json"))
    assert pointer.publish(moved) == (Published("words", K2),)
    assert keys(file) == {"words": K2}


# where it cannot be written


def test_a_folder_that_is_read_only(file: Path) -> None:
    publisher(LockFile(file)).publish(lock(words=served(K1)))
    before = file.read_bytes()
    file.parent.chmod(0o500)
    if os.access(file.parent, os.W_OK):
        pytest.skip("this user may write everywhere")
    pointer = publisher(LockFile(file))
    for act in (pointer.publish, pointer.check):
        caught = failure(lambda act=act: act(lock(words=served(K2, K1))))
        assert caught.message == f"{file} cannot be written: Permission denied"
        assert caught.remedy.startswith("check the permissions of the file and its folder")
    assert file.read_bytes() == before


@pytest.mark.parametrize("there", [False, True])
def test_an_unwritable_path_is_an_error(tmp_path: Path, *, there: bool) -> None:
    path = tmp_path / "folder" / "serving.json"
    if there:
        path.mkdir(parents=True)
    pointer = publisher(LockFile(path))
    for act in (pointer.publish, pointer.check):
        caught = failure(lambda act=act: act(lock(words=served(K1))))
        assert caught.message.startswith(f"{path} cannot be ")


# with others


class Contested:
    """A store of several writers: before each write of ours another one writes the next of ``rivals``."""

    path = "serving.json"

    def __init__(self, *rivals: str, text: str | None = None) -> None:
        self.text = text
        self.rivals = list(rivals)

    def read(self) -> str | None:
        return self.text

    def write(self, text: str) -> bool:
        if self.rivals:
            self.text = self.rivals.pop(0)
            raise LockConflict("another run has saved it meanwhile")
        self.text = text
        return True

    def server_time(self) -> None:
        """No server wrote it."""

    def check_writable(self) -> None:
        """It always can."""

    def lease(self) -> AbstractContextManager[None]:
        return nullcontext()

    saving = lease


def text_of(locked: Lock) -> str:
    store = Contested()
    publisher(store).publish(locked)
    assert store.text is not None
    return store.text


def test_who_loses_a_race_reads_again_and_decides_again() -> None:
    locked = lock(words=served(K2, K1), numbers=served(NUMBERS))
    store = Contested(text_of(lock(words=served(K2))), text=text_of(lock(words=served(K1))))
    assert publisher(store).publish(locked) == (Published("numbers", NUMBERS), Published("words", K2))
    assert store.text == text_of(locked)
    other_text = text_of(lock(words=served(K3)))
    store = Contested(other_text)
    assert "changed out-of-band" in failure(lambda: publisher(store).publish(locked)).message
    assert store.text == other_text


def test_repeated_conflicts_are_an_error() -> None:
    locked = lock(words=served(K1))
    store = Contested(*[text_of(locked)] * 9)
    assert str(failure(lambda: publisher(store).publish(locked))) == (
        "serving.json cannot be written: other runs wrote it 5 times in a row; run the command again"
    )


def test_a_file_that_many_write_is_always_whole(file: Path) -> None:
    def work(number: int) -> list[tuple[Published, ...]]:
        words = served(K1, K1, Sampling(number / 10))
        return [publisher(LockFile(file)).publish(lock(words=words, numbers=numbers)) for _ in range(20)]

    numbers = served(NUMBERS, NUMBERS)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert results == [[()] * 20] * 8
    assert keys(file) == {"words": K1, "numbers": NUMBERS}
    assert {entry.name for entry in file.parent.iterdir()} == {"serving.json", ".serving.json.lock"}


class Cloud:
    """One service of Cloud Storage, and the runs that publish there."""

    def __init__(self) -> None:
        self.time = Time()
        seeded = random.Random(1)  # noqa: S311 - made-up ids, no secret
        self._service: ASGIApp = create_app(store=None, clock=self.time.clock, random=seeded)
        self._turn = Turn()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request after another, as a service does in its event loop; each run has a thread here."""
        with self._turn:
            await self._service(scope, receive, send)

    def store(self, app: ASGIApp | None = None) -> BucketLockfile:
        return BucketLockfile(
            ADDRESS,
            lambda: storage_of(app or self.app, self.time),
            clock=self.time.clock,
            sleep=self.time.sleep,
            holder="process 7",
            label="the published pointer",
        )


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def test_an_object_is_written_with_compare_and_swap(cloud: Cloud) -> None:
    first, second = (publisher(cloud.store(), shown=ADDRESS) for _ in range(2))
    assert first.publish(lock(words=served(K1))) == (Published("words", K1),)
    assert second.publish(lock(words=served(K2, K1))) == (Published("words", K2),)
    caught = failure(lambda: first.publish(lock(words=served(K3, K1))))
    assert caught.message.startswith(f"{ADDRESS}: changed out-of-band, not overwritten: words has {K2}")
    assert json.loads(cloud.store().read() or "")["models"][0]["key"] == K2


def test_an_object_shows_since_when_each_generation_is_published(cloud: Cloud) -> None:
    pointer = publisher(cloud.store(), shown=ADDRESS)

    def published(hour: float, only: frozenset[str] | None = None, **keys: str) -> dict[str, str]:
        """Publish these keys at this hour, and return since when each was, unless the object itself shows it."""
        cloud.time.now = START + timedelta(hours=hour)
        models = {name: served(key, before.get(name)) for name, key in keys.items()}
        pointer.publish(lock(**models), only)
        before.update(keys)
        return {model["name"]: model.get("publishTime", "")[11:16] for model in document()}

    def document() -> Any:
        return held_to("resolve", json.loads(cloud.store().read() or ""))["models"]

    before: dict[str, str] = {}
    assert published(1, words=K1) == {"words": ""}
    assert published(2, words=K1) == {"words": ""}, "nothing is written where nothing changes"
    assert published(3, words=K1, numbers=NUMBERS) == {"words": "01:00", "numbers": ""}
    assert published(4, words=K2, numbers=NUMBERS) == {"words": "", "numbers": "03:00"}
    assert published(5, frozenset({"numbers"}), words=K2, numbers=K3) == {"words": "04:00", "numbers": ""}
    assert published(6, words=K1, numbers=K3) == {"words": "", "numbers": "05:00"}
    assert published(7, words=K1, numbers=K2) == {"words": "06:00", "numbers": ""}, "not since it was published first"
    forged = json.dumps(json.loads(cloud.store().read() or "")).replace("06:00:00", "09:00:00")
    store = cloud.store()
    store.read()
    store.write(forged)
    assert published(8, words=K1, numbers=K1) == {"words": "07:00", "numbers": ""}, "not since a time in the future"


def test_of_concurrent_writers_one_wins_and_the_others_fail(cloud: Cloud) -> None:
    start = lock(words=served(K1))
    publisher(cloud.store(), shown=ADDRESS).publish(start)
    wanted = [f"words-{letter * 8}" for letter in "abcd"]

    def work(key: str) -> str:
        try:
            publisher(cloud.store(), shown=ADDRESS).publish(lock(words=served(key, K1)))
        except ReconcileError as error:
            return error.message
        return key

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(work, wanted))
    (winner,) = [one for one in outcomes if one in wanted]
    assert json.loads(cloud.store().read() or "")["models"][0]["key"] == winner
    assert all(f"words has {winner} (" in one for one in outcomes if one != winner)


def test_an_unreachable_bucket_is_an_error(cloud: Cloud) -> None:
    pointer = publisher(cloud.store(script(error(503, "UNAVAILABLE", "busy"))), shown=ADDRESS)
    for act, verb in ((pointer.publish, "read"), (pointer.check, "check")):
        caught = failure(lambda act=act: act(lock(words=served(K1))))
        assert isinstance(caught, ServiceError)
        assert caught.message.startswith(f"cannot {verb} the published pointer {ADDRESS}: GET /storage/v1/b/acme-")
