"""What of a manifest and a target reaches the tuning job that Vertex AI shows; and what other services say to it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from support.cli_world import Cli
from support.vertex_runs import apply, chosen, conversations, declare, manifest, on, states
from support.vertex_world import BUCKET, LOCATION, OBJECTS, PROJECT, World, aim, lock_file, lock_of

OTHERS = pytest.mark.parametrize(
    ("target", "label"), [("", "embedded service"), ("gl", "Generative Language API v1beta")]
)
KEY = f"projects/{PROJECT}/locations/{LOCATION}/keyRings/tuning/cryptoKeys/models"
ACCOUNT = f"tuner@{PROJECT}.iam.gserviceaccount.com"


def content(world: World, uri: str) -> list[object]:
    """The lines of an object in the bucket."""
    name = uri.removeprefix(f"gs://{BUCKET}/").replace("/", "%2F")
    return [json.loads(line) for line in world.read(f"{OBJECTS}/{name}").splitlines()]


def turns(*said: str) -> dict[str, object]:
    roles = ("user", "model")
    return {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in zip(roles, said, strict=True)]}


def test_local_data_sets_are_uploaded_with_the_preamble_and_named_by_their_content(
    reconcile: Cli, world: World
) -> None:
    (reconcile.specs / "seen.csv").write_text("text_input,output\n" + "".join(f"{n},{n + 1}\n" for n in range(20)))
    (reconcile.specs / "unseen.csv").write_text("text_input,output\n90,91\n91,92\n")
    declare(
        reconcile,
        "adder",
        'seen.csv, preamble: "Next: "',
        "    validationDataset: {path: unseen.csv}\n"
        "    hyperparameters: {epochCount: 2, learningRateMultiplier: 1.5, adapterSize: 8}\n",
    )

    assert apply(reconcile).status == 0

    (job,) = world.jobs()
    spec, recorded = job["supervisedTuningSpec"], lock_of(reconcile, "vertex")["adder"]["generations"][0]
    digest = recorded["dataset"]["digest"].removeprefix("sha256:")
    assert spec["trainingDatasetUri"] == f"gs://{BUCKET}/data/reconcile/{digest}.jsonl"
    assert content(world, spec["trainingDatasetUri"]) == [turns(f"Next: {n}", str(n + 1)) for n in range(20)]
    assert content(world, spec["validationDatasetUri"]) == [turns("Next: 90", "91"), turns("Next: 91", "92")]
    assert spec["hyperParameters"] == {
        "epochCount": "2",
        "learningRateMultiplier": 1.5,
        "adapterSize": "ADAPTER_SIZE_EIGHT",
    }
    assert recorded["hyperparameters"]["effective"] == {
        "adapterSize": 8,
        "epochCount": 2,
        "learningRateMultiplier": 1.5,
    }
    assert {"serviceAccount", "encryptionSpec"}.isdisjoint(job), "what is not declared is the service's to choose"
    assert "exportLastCheckpointOnly" not in spec
    assert len(world.objects()) == 2


def test_pairs_are_uploaded_with_scores_and_trained_by_preference(reconcile: Cli, world: World) -> None:
    rows = [{"prompt": f"{n}+1?", "chosen": str(n + 1), "rejected": str(n)} for n in range(20)]
    (reconcile.specs / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluated = "{metrics: [{rougeSpec: {}}], outputConfig: {gcsDestination: {outputUriPrefix: gs://acme-tuning/e}}}"
    block = (
        f"    hyperparameters: {{epochCount: 2, beta: 0.2}}\n    evaluationConfig: {evaluated}\n  method: preference\n"
    )
    declare(reconcile, "adder", "pairs.jsonl, shape: preference", block)

    assert apply(reconcile).status == 0

    (job,) = world.jobs()
    spec = job["preferenceOptimizationSpec"]
    assert spec["hyperParameters"]["beta"] == 0.2
    assert content(world, spec["trainingDatasetUri"])[0] == {
        "contents": [{"role": "user", "parts": [{"text": "0+1?"}]}],
        "completions": [
            {"score": score, "completion": {"role": "model", "parts": [{"text": text}]}}
            for score, text in ((1, "1"), (0, "0"))
        ],
    }
    recorded = lock_of(reconcile, "vertex")["adder"]["generations"][0]
    assert recorded["dataset"]["pairs"] is True
    assert abs(recorded["billableTokens"] / recorded["estimate"]["tokens"] - 1) < 0.1, "the prompt counts twice"
    last = {"checkpointId": "2", "metrics": [{"metric": "rouge", "score": 0.5, "aggregation": "AVERAGE"}]}
    assert last.items() <= recorded["evaluations"][-1].items()
    page, shown = (
        reconcile.folder / "status.html",
        "checkpoint 1: rouge 0.50 (average); checkpoint 2: rouge 0.50 (average)",
    )
    assert shown in on(reconcile, "status", "--report", str(page)).out.replace("\n ", " ").replace("  ", " ")
    assert shown in page.read_text()
    (action,) = on(reconcile, "plan", "--format", "json").document["actions"]
    assert action["action"] == "noop"


def test_the_weights_of_an_open_model_are_resolved_pruned_and_missed(reconcile: Cli, world: World) -> None:
    (reconcile.specs / "pairs.csv").write_text("text_input,output\n" + "".join(f"{n},{n + 1}\n" for n in range(20)))
    base = "qwen/qwen3@qwen3-8b"
    block = "    outputUri: gs://acme-tuning/weights\n    tuningMode: FULL\n"
    declare(reconcile, "adder", "pairs.csv", block, base)

    (planned,) = on(reconcile, "plan", "--format", "json").document["actions"]
    assert planned["settings"] == {"outputUri": "gs://acme-tuning/weights"}
    assert planned["hyperparameters"] == {"tuningMode": "FULL"}
    assert "outputUri" in on(reconcile, "plan").out
    assert apply(reconcile).status == 0

    (job,) = world.jobs()
    assert (job["outputUri"], job["supervisedTuningSpec"]["tuningMode"]) == (
        f"gs://acme-tuning/weights/{planned['key']}",
        "TUNING_MODE_FULL",
    )
    assert on(reconcile, "resolve", "adder").out.strip() == job["outputUri"]
    assert f"send the prompt there: {job['outputUri']}" in on(reconcile, "prompt", "adder", "7").err
    (resolved,) = on(reconcile, "resolve", "--live", "--format", "json").document["models"]
    assert (resolved["remote"], resolved["resources"]["weights"]) == (job["outputUri"], job["outputUri"])
    assert "url" not in resolved

    file = lock_file(reconcile, "vertex")
    recorded = file.read_text()
    for forged in (f"gs://evil/{planned['key']}", "gs://acme-tuning/weights/other"):
        file.write_text(recorded.replace(job["outputUri"], forged))
        refused = on(reconcile, "resolve", "adder")
        assert refused.status == 1
        assert f"{forged} is not where the target vertex writes the weights of this key" in refused.err
    file.write_text(recorded)

    (weights,) = world.objects()[1:]
    world.delete(weights.replace("/", "%2F"))
    (missed,) = on(reconcile, "plan", "--format", "json").document["actions"]
    assert (missed["action"], missed["reason"]) == ("create", "Missing")

    world.put(weights, b"restored")
    assert [action["action"] for action in on(reconcile, "plan", "--format", "json").document["actions"]] == ["noop"]
    (reconcile.specs / "adder.yaml").unlink()
    assert on(reconcile, "prune", "adder", "--yes").status == 0
    assert weights not in world.objects()
    assert states(reconcile) == []


# The models of today support no keys; legacy base models: gemini-2.5-flash
def test_names_and_marks_and_what_the_target_declares_are_on_the_job(reconcile: Cli, world: World) -> None:
    reconcile.manifest(
        "adder",
        more="  displayName: The adder\n  description: Adds one.\n"
        "  vertex: {baseModel: gemini-2.5-flash, hyperparameters: {epochCount: 2}}\n",
    )
    aim(reconcile, world.url, more=f"  vertex: {{serviceAccount: {ACCOUNT}, kmsKeyName: {KEY}}}\n")

    assert apply(reconcile).status == 0

    (job,) = world.jobs()
    recorded = lock_of(reconcile, "vertex")["adder"]
    assert (job["baseModel"], job["tunedModelDisplayName"], job["description"]) == (
        "gemini-2.5-flash",
        "The adder",
        "Adds one.",
    )
    assert job["labels"]["managed-by"] == "reconcile"
    assert job["labels"]["reconcile-key"] == recorded["serving"]
    assert job["labels"]["reconcile-name"] == "adder"
    assert recorded["generations"][0]["remote"] == job["name"]
    assert job["serviceAccount"] == ACCOUNT
    assert job["encryptionSpec"] == {"kmsKeyName": KEY}


def test_checkpoints_are_recorded_and_resolved(reconcile: Cli, world: World) -> None:
    (reconcile.specs / "chat.jsonl").write_bytes(conversations())
    epochs = {"chat": [1, 2, 3], "last": [3]}
    for name in epochs:
        last_only = str(name == "last").lower()
        block = f"    hyperparameters: {{epochCount: 3}}\n    exportLastCheckpointOnly: {last_only}\n"
        declare(reconcile, name, "chat.jsonl", block)

    apply(reconcile)

    resolved = on(reconcile, "resolve", "--format", "json").document["models"]
    for job in world.jobs():
        name = job["labels"]["reconcile-name"]
        assert job["supervisedTuningSpec"].get("exportLastCheckpointOnly", False) is (name == "last")
        made = job["tunedModel"]
        shown = [{**one, "epoch": int(one["epoch"]), "step": int(one["step"])} for one in made["checkpoints"]]
        assert [one["epoch"] for one in shown] == epochs.pop(name)
        expected = {
            "job": job["name"],
            "model": made["model"],
            "endpoint": made["endpoint"],
            "location": LOCATION,
            "checkpoints": shown,
        }
        assert lock_of(reconcile, "vertex")[name]["generations"][0]["resources"] == expected
        assert [model["resources"] for model in resolved if model["name"] == name] == [expected]
    assert epochs == {}


def test_conversations_of_a_file_are_trained_as_they_stand(reconcile: Cli, world: World) -> None:
    (reconcile.specs / "chat.jsonl").write_bytes(conversations())
    declare(reconcile, "chat", "chat.jsonl")

    assert apply(reconcile).status == 0

    (job,) = world.jobs("SUCCEEDED")
    sent = content(world, job["supervisedTuningSpec"]["trainingDatasetUri"])
    assert sent == [json.loads(line) for line in conversations().splitlines()]
    prompt = json.dumps({"contents": [{"role": "user", "parts": [{"text": "and then?"}]}]}).encode()
    endpoint = on(reconcile, "resolve", "chat").out.strip()
    assert world.ask("POST", f"/v1/{endpoint}:generateContent", prompt)["candidates"]


def test_data_sets_in_cloud_storage_are_trained_where_they_are(reconcile: Cli, world: World) -> None:
    seen, unseen = (world.put(f"sets/{name}.jsonl", conversations()) for name in ("seen", "unseen"))
    declare(
        reconcile,
        "cloud",
        f"gs://{BUCKET}/sets/seen.jsonl",
        f"    validationDataset: {{path: gs://{BUCKET}/sets/unseen.jsonl}}\n",
    )

    assert apply(reconcile).status == 0

    (job,) = world.jobs("SUCCEEDED")
    spec = job["supervisedTuningSpec"]
    assert spec["trainingDatasetUri"] == f"gs://{BUCKET}/{seen['name']}"
    assert spec["validationDatasetUri"] == f"gs://{BUCKET}/{unseen['name']}"
    recorded = lock_of(reconcile, "vertex")["cloud"]["generations"][0]["dataset"]
    assert (recorded["generation"], recorded["checksum"]) == (seen["generation"], seen["crc32c"])
    assert world.objects() == ["sets/seen.jsonl", "sets/unseen.jsonl"], "nothing is copied"


@pytest.mark.usefixtures("slow")
def test_a_job_is_followed_through_its_phases_with_its_dropped_examples(reconcile: Cli) -> None:
    long = json.loads(conversations(1))
    long["contents"][0]["parts"][0]["text"] = "4 letters a token " * 30_000
    rows = [*conversations(20).splitlines(), json.dumps(long).encode()]
    (reconcile.specs / "chat.jsonl").write_bytes(b"\n".join(rows))
    declare(reconcile, "chat", "chat.jsonl", "    hyperparameters: {epochCount: 2}\n")

    reconcile.clock.least = 0  # a poll every two seconds
    begun = apply(reconcile, "--timeout", "7s")

    assert begun.status == 4, begun.err
    phases = [line.split(": ")[1] for line in begun.err.splitlines() if "service phase" in line]
    assert phases == ["waiting for quota", "processing data", "waiting for capacity"]
    assert lock_of(reconcile, "vertex")["chat"]["generations"][0]["phase"] == "WAITING_FOR_CAPACITY"
    assert ", waiting for capacity" in on(reconcile, "status").out
    reconcile.clock.now += timedelta(seconds=9)
    page = reconcile.folder / "page.html"
    shown = on(reconcile, "status", "--live", "--report", str(page))
    assert ": step 7/11 (64 %), loss " in shown.out
    assert "Loss of each generation of chat" in page.read_text(encoding="utf-8")

    ended = apply(reconcile, "--format", "json", "--report", str(page))

    assert ended.status == 0, ended.err
    reason = "truncated: 135002 tokens are more than 131072"
    warning = f"the service dropped or truncated 1 example: specs/chat.jsonl:21: {reason}"
    (recorded,) = lock_of(reconcile, "vertex")["chat"]["generations"]
    sample = [{"example": 21, "reason": reason, "place": "specs/chat.jsonl:21"}]
    assert recorded["droppedExamples"] == {"count": 1, "sample": sample}
    assert ended.document["models"][0]["droppedExamples"] == recorded["droppedExamples"]
    assert {"phase", "completedEpochs"}.isdisjoint(recorded)
    assert recorded["finalLoss"] > 0
    assert warning in page.read_text(encoding="utf-8")
    assert warning in on(reconcile, "status").out
    assert warning in on(reconcile, "history", "chat").out
    link = f"https://console.cloud.google.com/vertex-ai/experiments/locations/{LOCATION}/experiments/"
    (resolved,) = on(reconcile, "resolve", "--format", "json").document["models"]
    assert resolved["experimentUrl"].startswith(link)
    assert f'<a href="{link}' in page.read_text(encoding="utf-8")
    before = lock_file(reconcile, "vertex").read_bytes()
    assert apply(reconcile).status == 0
    assert lock_file(reconcile, "vertex").read_bytes() == before


@OTHERS
def test_other_services_refuse_conversations_of_several_turns(
    reconcile: Cli, world: World, target: str, label: str
) -> None:
    (reconcile.specs / "chat.jsonl").write_bytes(conversations())
    declare(reconcile, "chat", "chat.jsonl")
    said = (
        f"specs/chat.jsonl:1:1: spec.dataset.path: has 2 turns, and {label} accepts one input and one output;"
        " split the example, or use a Vertex AI target\n"
    )

    assert said in reconcile("validate", *chosen(target)).out
    for command in (["plan"], ["apply", "--yes"]):
        answer = reconcile(*command, *chosen(target))
        assert answer.status == 1
        assert said in answer.err
    assert world.lines == []


@OTHERS
def test_other_services_refuse_data_sets_in_cloud_storage(
    reconcile: Cli, world: World, target: str, label: str
) -> None:
    declare(reconcile, "cloud", f"gs://{BUCKET}/sets/seen.jsonl")

    answer = reconcile("apply", "--yes", *chosen(target))

    assert answer.status == 1
    assert (
        f"specs/cloud.yaml:6:19: spec.dataset.path: data sets in Cloud Storage are not supported by {label}; set the"
        " path of a file, or use a Vertex AI target\n"
    ) in answer.err
    assert world.lines == []


@OTHERS
def test_other_services_ignore_the_block(reconcile: Cli, world: World, target: str, label: str) -> None:
    block = f"    validationDataset: {{path: gs://{BUCKET}/sets/unseen.jsonl}}\n    exportLastCheckpointOnly: true\n"
    manifest(reconcile)
    file = reconcile.specs / "adder.csv"
    declare(reconcile, "adder", file.name, block)

    answer = reconcile("apply", "--yes", *chosen(target))

    assert answer.status == 0, answer.err
    assert f"Target {target or 'default'}: {label}" in answer.err
    assert not [line for line in world.lines if "/storage/" in line]
