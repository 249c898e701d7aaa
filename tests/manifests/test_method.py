"""``spec.method``: preference pairs are trained as pairs, or as their chosen answers."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from reconciler.domain.identity import object_digest
from reconciler.domain.lock import Lock
from reconciler.domain.model import Capabilities, Conversation, Dataset
from reconciler.domain.plan import FieldChange, Observation
from reconciler.manifests.datasets.validation import read_examples
from reconciler.manifests.workspace import Workspace
from reconciler.planning.datasets import with_dataset_versions
from reconciler.planning.diff import content_changes
from reconciler.planning.generations import resolve_recorded
from reconciler.planning.live_proof import Owner
from reconciler.providers.local.capabilities import CAPABILITIES as LOCAL
from reconciler.providers.local.capabilities import DEFAULTS, effective_hyperparameters
from support.cases import each_row
from support.core_cases import SCOPE, Made, recorded
from support.files_samples import CAPABILITIES, MANIFEST, load_in, messages, sample

PAIRS = MANIFEST.replace("data.csv", "pairs.jsonl\n    shape: preference").replace(
    "models/gemini-3.5-flash", "HuggingFaceTB/SmolLM2-135M-Instruct@" + "a" * 40
)
PREFERENCE = PAIRS + "  method: preference\n"
PAIR = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
COMPLETIONS = PREFERENCE.replace("\n    shape: preference", "")


def answer(text: str) -> dict[str, object]:
    """Return the answer of a model in Vertex AI's format."""
    return {"role": "model", "parts": [{"text": text}]}


SCORED: dict[str, list[object]] = {
    "contents": [{"role": "user", "parts": [{"text": "2+2?"}]}],
    "completions": [{"completion": answer("5"), "score": 0}, {"completion": answer("4"), "score": 1}],
}


def read(folder: Path, manifest: str, *rows: object, capabilities: Capabilities = LOCAL) -> Workspace:
    """Read a manifest with a data set of these rows."""
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows or [PAIR]), encoding="utf-8")
    return load_in(sample(folder, manifest=manifest), capabilities=replace(capabilities, recommended_examples=0))


def test_the_rejected_answers_are_part_of_the_examples_of_the_method_preference(tmp_path: Path) -> None:
    (supervised,), (preference,) = (read(tmp_path, text).manifests for text in (PAIRS, PREFERENCE))
    assert (supervised.method, preference.method) == ("supervised", "preference")
    assert supervised.dataset.digest != preference.dataset.digest
    (same,) = read(tmp_path, PAIRS + "  method: supervised\n").manifests
    assert same.dataset == supervised.dataset
    workspace = read(tmp_path, PREFERENCE.replace("shape: preference", "shape: preference\n    preamble: 'Sum '"))
    (manifest,) = workspace.manifests
    source = workspace.sources(manifest).training
    assert source
    (example,) = read_examples(source, manifest.dataset)
    assert isinstance(example, Conversation)
    turn = {"role": "user", "parts": [{"text": "Sum 2+2?"}]}
    answers = [{"role": "model", "parts": [{"text": text}]} for text in ("4", "5")]
    completions = [{"completion": answer, "score": score} for answer, score in zip(answers, (1, 0), strict=True)]
    assert json.loads(example.line) == {"contents": [turn], "completions": completions}
    (other,) = read(tmp_path, PREFERENCE, PAIR | {"rejected": "6"}).manifests
    assert other.dataset.digest != preference.dataset.digest


@each_row(
    ("manifest", "rows", "capabilities", "expected"),
    [
        (
            PREFERENCE.replace("\n    shape: preference", ""),
            [{"text_input": f"2+{number}?", "output": "4"} for number in range(20)],
            LOCAL,
            (
                "pairs.jsonl:1:1: spec.dataset.path: 20 of 20 examples have no rejected answer, which the method"
                " preference needs; declare shape: preference for examples with chosen and rejected, or set"
                " spec.method to supervised"
            ),
        ),
        (
            PREFERENCE.replace("path: pairs.jsonl\n    shape: preference", "examples: [{input: a, output: b}]"),
            [],
            LOCAL,
            "the example has no rejected answer",
        ),
        (
            MANIFEST.replace("data.csv", "pairs.jsonl") + "  method: preference\n",
            [{"text_input": str(number), "output": "4"} for number in range(3)],
            CAPABILITIES,
            (
                "spec.method: preference tuning is not supported by the test service; set it to supervised, which"
                " trains on the chosen answers, or use another target"
            ),
        ),
        (
            COMPLETIONS,
            [{**SCORED, "completions": SCORED["completions"][:1]}],
            LOCAL,
            "completions has 1 answer, expected two with different scores; write the preferred answer with the score 1",
        ),
        (
            COMPLETIONS,
            [{**SCORED, "completions": [{"completion": answer("4"), "score": True}]}],
            LOCAL,
            "invalid completions[0].score true: expected a number; write 1 or 0",
        ),
        (
            COMPLETIONS,
            [{**SCORED, "completions": [{"completion": {"parts": [{"functionCall": {}}]}, "score": 1}]}],
            LOCAL,
            "completions[0].completion.parts has a part that is not text; delete it: only texts are compared",
        ),
        (PAIRS + "  method: dpo\n", [], LOCAL, 'spec.method: invalid value "dpo"'),
    ],
)
def test_what_the_method_does_not_fit(
    tmp_path: Path, manifest: str, rows: list[object], capabilities: Capabilities, expected: str
) -> None:
    found = messages(read(tmp_path, manifest, *rows, capabilities=capabilities))
    assert len(found) == 1
    assert expected in found[0]


def test_pairs_with_scores_are_the_same_data_as_chosen_and_rejected(tmp_path: Path) -> None:
    expected = {method: read(tmp_path, text).manifests[0].dataset for method, text in (("p", PREFERENCE), ("s", PAIRS))}
    (scored,) = read(tmp_path, COMPLETIONS, SCORED).manifests
    assert scored.dataset == expected["p"]
    declared = COMPLETIONS.replace("pairs.jsonl", "pairs.jsonl\n    shape: completions")
    system = {**SCORED, "system_instruction": {"parts": [{"text": "Add."}]}}
    (other,) = read(tmp_path, declared, SCORED, system).manifests
    assert (other.dataset.examples, other.dataset.pairs) == (2, True)
    supervised = COMPLETIONS.replace("  method: preference\n", "")
    (chosen,) = read(tmp_path, supervised, SCORED).manifests
    assert not chosen.dataset.pairs
    contents = {"contents": [*SCORED["contents"], answer("4")]}
    assert read(tmp_path, supervised, contents).manifests[0].dataset == chosen.dataset


def test_an_object_in_cloud_storage_is_other_data_for_another_method(tmp_path: Path) -> None:
    service = replace(LOCAL, features=LOCAL.features | {"cloudStorage"})
    text = COMPLETIONS.replace("pairs.jsonl", "gs://bucket/pairs.jsonl")
    manifests = [
        read(tmp_path, text.replace(cut, ""), capabilities=service).manifests[0]
        for cut in ("#", "  method: preference\n")
    ]
    pinned = Dataset(
        object_digest("gs://bucket/pairs.jsonl", "7", "c"), "gs://bucket/pairs.jsonl", generation="7", checksum="c"
    )
    preference, supervised = with_dataset_versions(manifests, {pinned.path: pinned}, Lock())
    assert (preference.method, supervised.method) == ("preference", "supervised")
    assert supervised.dataset == pinned
    assert preference.dataset.digest != pinned.digest
    assert preference.dataset == replace(pinned, digest=preference.dataset.digest, pairs=True)


def test_another_method_is_another_training_and_says_so(tmp_path: Path) -> None:
    (preference,) = read(tmp_path, PREFERENCE).manifests
    supervised = resolve_recorded(recorded(Made()), Owner(SCOPE, preference.name), Observation())
    changes = content_changes(preference, supervised)
    assert FieldChange("method", "supervised", "preference") in changes


def test_the_method_has_its_own_defaults_on_this_machine() -> None:
    pairs = effective_hyperparameters({}, Dataset("sha256:a", "a.jsonl", 10, pairs=True))
    assert (pairs["learningRate"], pairs["epochCount"], pairs["beta"]) == (5e-6, 1, 0.1)
    assert effective_hyperparameters({}, Dataset("sha256:a", "a.jsonl", 10)) == DEFAULTS
