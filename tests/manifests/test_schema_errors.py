"""Every way to break a manifest, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.domain.text import shorten
from reconciler.manifests.schema_validation import choices, shown, suggest
from support.files_samples import CAPABILITIES, MANIFEST, load_in, messages, sample

_LONG = "1" * 5000
_CUT = f"{_LONG[:39]}…"
_IN_SPEC = [
    (
        "  colour: red\n",
        (
            "9:3: spec.colour: is an unknown field; use one of source, displayName,"
            " description, hyperparameters, sampling, access, checks, lifecycle, ignoreDrift, vertex"
        ),
    ),
    ("  samplings: {}\n", "9:3: spec.samplings: is an unknown field; did you mean sampling?"),
    (
        "  sampling: {temprature: 1}\n",
        "9:14: spec.sampling.temprature: is an unknown field; did you mean temperature?",
    ),
    ("  sampling: {x: 1}\n", "9:14: spec.sampling.x: is an unknown field; use one of temperature, topP, topK"),
    (
        '  hyperparameters: {learningRate: "0.001"}\n',
        '9:35: spec.hyperparameters.learningRate: must be a number, is the text "0.001"; remove the quotes',
    ),
    (
        "  hyperparameters: {learningRate: fast}\n",
        '9:35: spec.hyperparameters.learningRate: must be a number, is the text "fast"; write a number',
    ),
    (
        f'  hyperparameters: {{epochCount: "{_LONG}"}}\n',
        f'9:33: spec.hyperparameters.epochCount: must be a whole number, is the text "{_CUT}"; write a whole number',
    ),
    (
        "  hyperparameters: {epochCount: 2.5}\n",
        "9:33: spec.hyperparameters.epochCount: must be a whole number, is the number 2.5; write a whole number",
    ),
    (
        "  hyperparameters: {epochCount: true}\n",
        "9:33: spec.hyperparameters.epochCount: must be a whole number, is true; write a whole number",
    ),
    (
        "  hyperparameters: {epochCount: ~}\n",
        (
            "9:33: spec.hyperparameters.epochCount: must be a whole number, is empty; write a whole"
            " number, or delete the line"
        ),
    ),
    (
        "  hyperparameters: {epochCount: 0}\n",
        "9:33: spec.hyperparameters.epochCount: must be at least 1, is 0; raise it",
    ),
    (
        "  hyperparameters: {batchSize: 3000000000}\n",
        "9:32: spec.hyperparameters.batchSize: must be at most 2147483647, is 3000000000; lower it",
    ),
    (
        "  hyperparameters: {learningRate: .inf}\n",
        "9:35: spec.hyperparameters.learningRate: must be a number, is the number .inf; write a number",
    ),
    (
        "  hyperparameters: {learningRate: -.inf}\n",
        "9:35: spec.hyperparameters.learningRate: must be a number, is the number -.inf; write a number",
    ),
    (
        "  hyperparameters: {learningRate: .nan}\n",
        "9:35: spec.hyperparameters.learningRate: must be a number, is the number .nan; write a number",
    ),
    (
        "  hyperparameters: {learningRate: 1, learningRateMultiplier: 2}\n",
        (
            "9:38: spec.hyperparameters.learningRateMultiplier: learningRate and learningRateMultiplier exclude each"
            " other; keep one of them"
        ),
    ),
    (
        "  hyperparameters: [1]\n",
        "9:20: spec.hyperparameters: must be a mapping, is a list; write its fields as indented `name: value` lines",
    ),
    ("  displayName: 12:30\n", ""),
    ("  displayName: 5\n", "9:16: spec.displayName: must be a text, is the number 5; put it in quotes"),
    ("  displayName: true\n", "9:16: spec.displayName: must be a text, is true; put it in quotes"),
    ("  displayName: {}\n", "9:16: spec.displayName: must be a text, is a mapping; write a text"),
    ('  displayName: ""\n', "9:16: spec.displayName: is empty; write something, or delete the line"),
    (
        "  lifecycle: {protect: yes}\n",
        '9:24: spec.lifecycle.protect: must be true or false, is the text "yes"; write true or false',
    ),
    (
        '  lifecycle: {protect: "true"}\n',
        '9:24: spec.lifecycle.protect: must be true or false, is the text "true"; remove the quotes',
    ),
    (
        "  lifecycle: {onFailedChecks: hodl}\n",
        '9:31: spec.lifecycle.onFailedChecks: must be hold or serve, is the text "hodl"; did you mean hold?',
    ),
    (
        "  lifecycle: {onFailedChecks: 7}\n",
        "9:31: spec.lifecycle.onFailedChecks: must be hold or serve, is the number 7; use one of these",
    ),
    (
        "  lifecycle: {timeout: 4 hours}\n",
        (
            '9:24: spec.lifecycle.timeout: "4 hours" is not allowed here; write hours, minutes and'
            " seconds as in 4h, 90m or 1h30m"
        ),
    ),
    (
        '  lifecycle: {timeout: ""}\n',
        "9:24: spec.lifecycle.timeout: is empty; write hours, minutes and seconds as in 4h, 90m or 1h30m",
    ),
    (
        "  lifecycle: {timeout: 0m}\n",
        (
            '9:24: spec.lifecycle.timeout: "0m" is not allowed here; write hours, minutes and seconds'
            " as in 4h, 90m or 1h30m"
        ),
    ),
    (
        "  ignoreDrift: [description, description]\n",
        '9:30: spec.ignoreDrift[1]: the text "description" stands in this list twice; delete one of them',
    ),
    (
        "  ignoreDrift: description\n",
        '9:16: spec.ignoreDrift: must be a list, is the text "description"; write its items as `- item` lines',
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {}}]\n",
        "9:33: spec.checks[0].expect: needs equals, contains, matches or oneOf; add one of them",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {oneOf: []}}]\n",
        "9:49: spec.checks[0].expect.oneOf: is empty; write something, or delete the line",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c, matches: d}}]\n",
        "9:53: spec.checks[0].expect.matches: equals and matches exclude each other; keep one of them",
    ),
    (
        "  checks: [{name: a, expect: {equals: b}}]\n",
        "9:12: spec.checks[0]: needs prompt or dataset; add one of them",
    ),
    ("  checks: [{name: a, prompt: b}]\n", "9:12: spec.checks[0].expect: is missing; add it"),
    (
        "  checks: [{name: a, prompt: b, dataset: {path: data.csv, minimum: 1}, expect: {equals: c}}]\n",
        "9:33: spec.checks[0].dataset: prompt and dataset exclude each other; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, expect: {equals: c}}]\n",
        "9:61: spec.checks[0].expect: dataset and expect exclude each other; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, candidates: 2}]\n",
        "9:61: spec.checks[0].candidates: dataset and candidates exclude each other; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, minPass: 1}]\n",
        "9:61: spec.checks[0].minPass: dataset and minPass exclude each other; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv}}]\n",
        "9:22: spec.checks[0].dataset.minimum: is missing; add it",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 80}}]\n",
        "9:57: spec.checks[0].dataset.minimum: must be at most 1, is 80; lower it",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1, metric: bleu}}]\n",
        '9:68: spec.checks[0].dataset.metric: must be exactMatch, is the text "bleu"; write exactMatch',
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1, sample: 0}}]\n",
        "9:68: spec.checks[0].dataset.sample: must be at least 1, is 0; raise it",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c}, candidates: 101}]\n",
        "9:66: spec.checks[0].candidates: must be at most 100, is 101; lower it",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c}, temperature: 2.5}]\n",
        "9:67: spec.checks[0].temperature: must be at most 2, is 2.5; lower it",
    ),
    (
        '  checks: [{name: a, prompt: b, expect: {equals: ""}}]\n',
        "9:50: spec.checks[0].expect.equals: is empty; write something, or delete the line",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: 9}}]\n",
        "9:50: spec.checks[0].expect.equals: must be a text, is the number 9; put it in quotes",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {oneOf: [c, d, c]}}]\n",
        '9:56: spec.checks[0].expect.oneOf[2]: the text "c" stands in this list twice; delete one of them',
    ),
    (
        "  vertex: {hyperparameters: {adapterSize: 3}}\n",
        (
            "9:43: spec.vertex.hyperparameters.adapterSize: must be 1, 2, 4, 8, 16 or 32, is the"
            " number 3; use one of these"
        ),
    ),
]


@pytest.mark.parametrize(("line", "message"), _IN_SPEC)
def test_what_is_wrong_in_a_spec(tmp_path: Path, line: str, message: str) -> None:
    workspace = load_in(sample(tmp_path, manifest=MANIFEST + line))
    assert messages(workspace) == ([f"m.yaml:{message}"] if message else [])
    assert len(workspace.manifests) == (0 if message else 1)


_REPLACED = [
    (
        "  name: number-generator",
        "  nam: x",
        [
            "m.yaml:3:1: metadata.name: is missing; add it",
            "m.yaml:4:3: metadata.nam: is an unknown field; did you mean name?",
        ],
    ),
    (
        "number-generator",
        "Number_Generator",
        [
            (
                'm.yaml:4:9: metadata.name: "Number_Generator" is not allowed here; use 1 to 31'
                " lower-case letters, digits and"
                " hyphens, beginning with a letter and not ending with a hyphen"
            ),
        ],
    ),
    (
        "number-generator",
        "n" * 32,
        [
            (
                f'm.yaml:4:9: metadata.name: "{"n" * 32}" is not allowed here; use 1 to 31 lower-case letters, digits'
                " and hyphens, beginning with a letter and not ending with a hyphen"
            ),
        ],
    ),
    (
        "number-generator",
        "x\n  labels: {a b: c}",
        [
            (
                'm.yaml:5:12: metadata.labels.a b: "a b" is not allowed here; use letters, digits, dots,'
                " slashes, hyphens and"
                " underscores, with a letter or digit at both ends"
            ),
        ],
    ),
    (
        "number-generator",
        "x\n  labels: {a: 1}",
        [
            "m.yaml:5:15: metadata.labels.a: must be a text, is the number 1; put it in quotes",
        ],
    ),
    (
        "models/text-bison-001",
        "tunedModels/x",
        [
            (
                'm.yaml:6:14: spec.baseModel: "tunedModels/x" is not allowed here; write it as models/NAME; a model'
                " that is already tuned goes under spec.source"
            ),
        ],
    ),
    (
        "models/text-bison-001",
        "x" * 101,
        ["m.yaml:6:14: spec.baseModel: has 101 characters, where 100 are allowed; shorten it"],
    ),
    ("  baseModel: models/text-bison-001\n", "", ["m.yaml:5:1: spec: needs baseModel or source; add one of them"]),
    ("    path: data.csv", "    {}", ["m.yaml:7:3: spec.dataset: needs path, examples or unknown; add one of them"]),
    (
        "    path: data.csv",
        "    path: data.csv\n    examples: []",
        [
            "m.yaml:9:5: spec.dataset.examples: path and examples exclude each other; keep one of them",
        ],
    ),
    (
        "    path: data.csv",
        "    examples: [{input: 1, output: b}, {input: a}]",
        [
            "m.yaml:8:24: spec.dataset.examples[0].input: must be a text, is the number 1; put it in quotes",
            "m.yaml:8:39: spec.dataset.examples[1].output: is missing; add it",
        ],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), _REPLACED)
def test_what_is_wrong_elsewhere(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in MANIFEST
    workspace = load_in(sample(tmp_path, manifest=MANIFEST.replace(old, new)))
    assert messages(workspace) == expected


def test_everyone_is_true_or_left_out(tmp_path: Path) -> None:
    sample(tmp_path, manifest=MANIFEST + "  access: [{role: reader, everyone: false}]\n")
    workspace = load_in(tmp_path, capabilities=replace(CAPABILITIES, features=frozenset({"access"})))
    assert messages(workspace) == ["m.yaml:9:37: spec.access[0].everyone: must be true, is false; write true"]


def test_a_spec_that_is_no_mapping_is_one_problem(tmp_path: Path) -> None:
    text = MANIFEST[: MANIFEST.index("spec:")] + "spec:\n"
    (message,) = messages(load_in(sample(tmp_path, manifest=text)))
    assert message == (
        "m.yaml:5:6: spec: must be a mapping, is empty; write its fields as indented `name:"
        " value` lines, or delete the line"
    )


def test_all_problems_are_told_at_once_in_their_order(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("data.csv", "dta.csv") + "  displayNam: x\n  hyperparameters: {topK: 1}\n"
    assert messages(load_in(sample(tmp_path, manifest=manifest))) == [
        "m.yaml:8:11: spec.dataset.path: dta.csv does not exist; did you mean data.csv, in the same folder?",
        "m.yaml:9:3: spec.displayNam: is an unknown field; did you mean displayName?",
        (
            "m.yaml:10:21: spec.hyperparameters.topK: is an unknown field;"
            " use one of epochCount, batchSize, learningRate, learningRateMultiplier"
        ),
    ]


def test_suggestions_see_through_capitals_and_stay_short() -> None:
    assert suggest("BASEMODEL", ["baseModel", "dataset"]) == "did you mean baseModel?"
    assert suggest("x", []) == "delete it"
    assert suggest("x", [f"field{number}" for number in range(13)]) == "delete it"


def test_choices_name_the_nearest() -> None:
    assert choices("anwser", ["question", "answer"]) == "question, answer (did you mean answer?)"
    assert choices("x", [f"c{number}" for number in range(13)]) == "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, …"


def test_long_and_broken_texts_are_shown_on_one_line() -> None:
    assert shorten("a\nb  c") == "a b c"
    assert shown("x" * 50) == f'the text "{"x" * 39}…"'
