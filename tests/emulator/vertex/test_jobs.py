from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.cases import each_row
from support.emulator_vertex import DONE, PARENT, URI, Vertex, lines

JOBS = f"/v1/{PARENT}/tuningJobs"


@pytest.fixture
def world() -> Vertex:
    return Vertex()


def test_a_job_lives_its_whole_life(world: Vertex) -> None:
    job = world.tune(
        baseModel="gemini-2.5-flash",  # the models of today have no keys. legacy base models: gemini-2.5-flash
        tunedModelDisplayName="numbers",
        description="Says the next number.",
        labels={"team": "demo"},
        serviceAccount="a@b.iam.gserviceaccount.com",
        encryptionSpec={"kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"},
    )
    assert job["name"].startswith(f"{PARENT}/tuningJobs/")
    assert job["name"].rpartition("/")[2].isdecimal()
    hyperparameters = {"epochCount": "3", "learningRateMultiplier": 1.0, "adapterSize": "ADAPTER_SIZE_FOUR"}
    assert job["supervisedTuningSpec"]["hyperParameters"] == hyperparameters
    assert (job["state"], job["createTime"], job["updateTime"]) == (
        "JOB_STATE_PENDING",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    )
    assert not {"startTime", "endTime", "tunedModel", "tuningDataStats", "error", "experiment"} & job.keys()

    world.advance(1)
    running = world.job(job)
    assert (running["state"], running["startTime"]) == ("JOB_STATE_RUNNING", "2026-01-01T00:00:01Z")
    assert running["tuningDataStats"]["supervisedTuningDataStats"] == {
        "tuningDatasetExampleCount": "15",
        "totalBillableTokenCount": "41",
        "tuningStepCount": "12",
    }
    assert "tunedModel" not in running

    world.advance(DONE)
    done = world.job(job)
    assert (done["state"], done["endTime"], done["updateTime"]) == (
        "JOB_STATE_SUCCEEDED",
        "2026-01-01T00:00:22Z",
        "2026-01-01T00:00:22Z",
    )
    assert done["tunedModel"]["model"].endswith("@1")
    assert [(each["checkpointId"], each["epoch"], each["step"]) for each in done["tunedModel"]["checkpoints"]] == [
        ("1", "1", "4"),
        ("2", "2", "8"),
        ("3", "3", "12"),
    ]
    assert done["tunedModel"]["endpoint"] == done["tunedModel"]["checkpoints"][-1]["endpoint"]
    assert job.items() <= {**done, "state": job["state"], "updateTime": job["updateTime"]}.items()


def test_v1beta1_also_shows_what_a_job_does_and_its_epochs(world: Vertex) -> None:
    name = world.ok("POST", f"/v1beta1/{PARENT}/tuningJobs", _request())["name"]
    seen: list[tuple[object, ...]] = []
    for seconds in (0, 1, 2, 3, 3, 7, 12, 2):  # five epochs of four steps
        world.advance(seconds)
        job = world.ok("GET", f"/v1beta1/{name}")
        detail, metadata = job.pop("tuningJobState", ""), job.pop("tuningJobMetadata", {})
        metrics = job.get("gcsMetricsUri", "").removeprefix("gs://data/")
        curve = (
            world.storage("GET", f"/storage/v1/b/data/o/{quote(metrics, safe='')}", alt="media") if metrics else None
        )
        points = [json.loads(line)["step"] for line in curve.text.splitlines()] if curve else []
        state = job["state"].removeprefix("JOB_STATE_")
        seen.append((state, detail.removeprefix("TUNING_JOB_STATE_"), metadata.get("completedEpochCount"), len(points)))
        assert job == world.ok("GET", f"/v1/{name}"), "only v1beta1 has these fields"
    assert seen == [
        ("PENDING", "", None, 0),
        ("RUNNING", "WAITING_FOR_QUOTA", None, 0),
        ("RUNNING", "PROCESSING_DATASET", None, 0),
        ("RUNNING", "WAITING_FOR_CAPACITY", None, 0),
        ("RUNNING", "TUNING", None, 0),
        ("RUNNING", "TUNING", "1", 7),
        ("RUNNING", "POST_PROCESSING", "5", 19),
        ("SUCCEEDED", "", "5", 19),
    ]


def test_empty_examples_are_dropped_and_long_ones_truncated(world: Vertex) -> None:
    long = "x" * 4 * 131_073
    world.put(URI, lines([("1", "2"), ("3", " "), (long, "4"), ("5", "6"), ("7", "8")]))
    created = world.tune(parameters={"epochCount": 1})
    world.advance(2)
    assert world.job(created)["tuningDataStats"]["supervisedTuningDataStats"] == {
        "tuningDatasetExampleCount": "5",
        "totalBillableTokenCount": "131078",
        "tuningStepCount": "1",
        "totalTruncatedExampleCount": "2",
        "truncatedExampleIndices": ["2", "3"],
        "droppedExampleReasons": [
            "dropped: contents[1] is empty",
            "truncated: 131073 tokens are more than 131072",
        ],
    }


def _request() -> dict[str, Any]:
    return {
        "base_model": "gemini-3.5-flash",
        "supervised_tuning_spec": {"training_dataset_uri": "gs://data/numbers.jsonl"},
    }


def test_enums_are_numbers_on_request(world: Vertex) -> None:
    created = world.tune(parameters={"adapterSize": 6})
    told = world.ok("GET", f"/v1/{created['name']}?$alt=json%3Benum-encoding%3Dint")
    assert (told["state"], told["supervisedTuningSpec"]["hyperParameters"]["adapterSize"]) == (2, 6)


@pytest.mark.parametrize(
    ("epochs", "last_only", "shown"),
    [
        (1, False, ["1"]),
        (10, False, [str(epoch) for epoch in range(1, 11)]),
        (25, False, ["2", "5", "7", "10", "12", "15", "17", "20", "22", "25"]),
        (25, True, ["25"]),
    ],
)
def test_checkpoints_are_at_most_ten_or_the_last_alone(
    world: Vertex, epochs: int, shown: list[str], *, last_only: bool
) -> None:
    job = world.tune(parameters={"epochCount": epochs}, spec={"exportLastCheckpointOnly": last_only})
    world.advance(1000)
    checkpoints = world.job(job)["tunedModel"]["checkpoints"]
    assert [each["epoch"] for each in checkpoints] == shown
    assert len({each["endpoint"] for each in checkpoints}) == len(shown)


def test_the_newest_come_first_page_by_page(world: Vertex) -> None:
    names = [world.tune()["name"] for _ in range(5)]
    page = world.ok("GET", JOBS, pageSize=2)
    told = [job["name"] for job in page["tuningJobs"]]
    while "nextPageToken" in page:
        page = world.ok("GET", JOBS, pageSize=2, pageToken=page["nextPageToken"])
        told += [job["name"] for job in page["tuningJobs"]]
    assert told == names[::-1]
    assert world.jobs() == names[::-1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("labels.team=demo", ["b", "a"]),
        ('labels.team="demo"', ["b", "a"]),
        ('labels.team=demo AND labels.name="a"', ["a"]),
        ("labels.team = demo   AND labels.name=b", ["b"]),
        ("labels.name=", ["c"]),
        ("labels.team=other", []),
        ("labels.nobody=demo", []),
        ("", ["c", "b", "a"]),
    ],
)
def test_jobs_are_found_by_their_labels(world: Vertex, text: str, found: list[str]) -> None:
    created = {
        world.tune(labels=labels)["name"]: key
        for key, labels in {
            "a": {"team": "demo", "name": "a"},
            "b": {"team": "demo", "name": "b"},
            "c": {"name": ""},
        }.items()
    }
    assert [created[name] for name in world.jobs(filter=text)] == found


@each_row(
    "text",
    ["state=JOB_STATE_RUNNING", "labels.a:b", "labels.a=b OR labels.a=c", "labels.a=b AND labels.a=c", 'labels.a="b'],
)
def test_a_filter_that_is_not_understood_is_refused(world: Vertex, text: str) -> None:
    status, code, message = world.refused("GET", JOBS, filter=text)
    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert "is not supported by this service; use labels.key=value or labels.key:*, joined with AND" in message


def test_jobs_live_in_a_project_and_a_location(world: Vertex) -> None:
    job = world.tune()
    for other in ("projects/other/locations/us-central1", "projects/demo/locations/europe-west4"):
        assert world.jobs(parent=other) == []
        name = job["name"].replace(PARENT, other)
        expected = (404, "NOT_FOUND", f"Requested entity was not found: {name}")
        assert world.refused("GET", f"/v1/{name}") == expected
    assert world.tune(parent="projects/123/locations/europe-west4")["name"].startswith(
        "projects/123/locations/europe-west4/"
    )


@pytest.mark.parametrize("location", ["mars", "us-central1-a", "us-central"])
def test_a_place_that_is_no_location_is_refused(world: Vertex, location: str) -> None:
    path = f"/v1/projects/demo/locations/{location}/tuningJobs"
    message = f"Unsupported region: {location}. Choose a location of Vertex AI, such as us-central1."
    assert world.refused("GET", path) == (400, "INVALID_ARGUMENT", message)
    assert world.refused("POST", path, _request()) == (400, "INVALID_ARGUMENT", message)


@pytest.mark.parametrize(("after", "started"), [(0, False), (5, True)])
def test_a_cancelled_job_makes_nothing(world: Vertex, after: float, *, started: bool) -> None:
    job = world.tune()
    world.advance(after)
    assert world.ok("POST", f"/v1/{job['name']}:cancel", {}) == {}
    cancelled = world.job(job)
    assert (cancelled["state"], cancelled["error"]) == (
        "JOB_STATE_CANCELLED",
        {"code": 1, "message": "The tuning job was canceled."},
    )
    assert cancelled["endTime"] == cancelled["updateTime"] == f"2026-01-01T00:00:0{after}Z"
    assert ("startTime" in cancelled) is started
    world.advance(DONE)
    assert world.job(job) == cancelled
    assert world.ok("GET", f"/v1/{PARENT}/models") == world.ok("GET", f"/v1/{PARENT}/endpoints") == {}


@pytest.mark.parametrize("first", ["SUCCEEDED", "CANCELLED"])
def test_a_finished_job_cannot_be_cancelled(world: Vertex, first: str) -> None:
    job = world.tune()
    if first == "CANCELLED":
        world.ok("POST", f"/v1/{job['name']}:cancel")
    world.advance(DONE)
    message = f"The tuning job {job['name']} cannot be canceled: it is already JOB_STATE_{first}."
    assert world.refused("POST", f"/v1/{job['name']}:cancel") == (400, "FAILED_PRECONDITION", message)


def test_too_high_a_rate_diverges(world: Vertex) -> None:
    job = world.tune(parameters={"learningRateMultiplier": 1000})
    world.advance(1000)
    failed = world.job(job)
    assert failed["state"] == "JOB_STATE_FAILED"
    assert failed["error"]["code"] == 3
    assert failed["error"]["message"].startswith("Tuning failed: the mean loss is not a number at step 6 of 12.")
    assert "tunedModel" not in failed
    assert world.ok("GET", f"/v1/{PARENT}/models") == {}


def test_what_is_not_there_cannot_be_cancelled(world: Vertex) -> None:
    name = f"{PARENT}/tuningJobs/1"
    expected = (404, "NOT_FOUND", f"Requested entity was not found: {name}")
    assert world.refused("POST", f"/v1/{name}:cancel") == expected


def test_a_job_goes_on_while_no_process_lives(tmp_path: Path) -> None:
    job = Vertex(tmp_path / "store").tune()
    later = Vertex(tmp_path / "store")
    later.advance(DONE)
    assert later.job(job)["state"] == "JOB_STATE_SUCCEEDED"
    assert later.tune()["name"] != job["name"]
