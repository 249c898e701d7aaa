"""``spec.method``: preference pairs are trained as pairs, or as their chosen answers."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from reconciler.domain.model import Capabilities, Conversation, Dataset
from reconciler.domain.plan import FieldChange, Observation
from reconciler.manifests.datasets.validation import read_examples
from reconciler.manifests.workspace import Workspace
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
            [{"text_input": "2+2?", "output": "4"}],
            LOCAL,
            (
                "pairs.jsonl:1:1: spec.dataset.path: the example has no rejected answer, which the method preference"
                " needs; declare shape: preference for examples with chosen and rejected, or set spec.method to"
                " supervised"
            ),
        ),
        (
            PREFERENCE.replace("path: pairs.jsonl\n    shape: preference", "examples: [{input: a, output: b}]"),
            [],
            LOCAL,
            "the example has no rejected answer",
        ),
        (
            MANIFEST.replace("data.csv", "pairs.jsonl\n    shape: preference") + "  method: preference\n",
            [],
            CAPABILITIES,
            (
                "spec.method: preference tuning is not supported by the test service; set it to supervised, which"
                " trains on the chosen answers, or use a target with provider: local"
            ),
        ),
        (PAIRS + "  method: dpo\n", [], LOCAL, 'spec.method: invalid value "dpo"'),
    ],
)
def test_what_the_method_does_not_fit(
    tmp_path: Path, manifest: str, rows: list[object], capabilities: Capabilities, expected: str
) -> None:
    found = messages(read(tmp_path, manifest, *rows, capabilities=capabilities))
    assert [message for message in found if expected in message] == found


def test_another_method_is_another_training_and_says_so(tmp_path: Path) -> None:
    (preference,) = read(tmp_path, PREFERENCE).manifests
    supervised = resolve_recorded(recorded(Made()), Owner(SCOPE, preference.name), Observation())
    changes = content_changes(preference, supervised)
    assert FieldChange("method", "supervised", "preference") in changes


def test_the_method_has_its_own_defaults_on_this_machine() -> None:
    pairs = effective_hyperparameters({}, Dataset("sha256:a", "a.jsonl", 10, pairs=True))
    assert (pairs["learningRate"], pairs["epochCount"], pairs["beta"]) == (5e-6, 1, 0.1)
    assert effective_hyperparameters({}, Dataset("sha256:a", "a.jsonl", 10)) == DEFAULTS
