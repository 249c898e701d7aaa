"""Every way to break a manifest, and what is said about it."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from reconciler.domain.text import list_choices, quote, suggest_name
from support.cases import each_row
from support.files_samples import CAPABILITIES, MANIFEST, load_in, messages, sample

_LONG = "1" * 5000
_CUT = f"{_LONG[:39]}…"
_IN_SPEC = [
    (
        "  colour: red\n",
        (
            '9:3: spec.colour: unknown field "colour"; use one of source, method, displayName, description,'
            " hyperparameters, sampling, serve, access, checks, lifecycle, adopted, ignoreDrift, local, vertex"
        ),
    ),
    ("  samplings: {}\n", '9:3: spec.samplings: unknown field "samplings"; did you mean sampling?'),
    (
        "  sampling: {temprature: 1}\n",
        '9:14: spec.sampling.temprature: unknown field "temprature"; did you mean temperature?',
    ),
    ("  sampling: {x: 1}\n", '9:14: spec.sampling.x: unknown field "x"; use one of temperature, topP, topK'),
    (
        '  hyperparameters: {learningRate: "0.001"}\n',
        '9:35: spec.hyperparameters.learningRate: invalid value "0.001": expected a number; remove the quotes',
    ),
    (
        "  hyperparameters: {learningRate: fast}\n",
        '9:35: spec.hyperparameters.learningRate: invalid value "fast": expected a number; set a number',
    ),
    (
        f'  hyperparameters: {{epochCount: "{_LONG}"}}\n',
        (
            f'9:33: spec.hyperparameters.epochCount: invalid value "{_CUT}": expected a whole number; set a'
            " whole number of at least 1"
        ),
    ),
    (
        "  hyperparameters: {epochCount: 2.5}\n",
        (
            "9:33: spec.hyperparameters.epochCount: invalid value 2.5: expected a whole number; set a whole"
            " number of at least 1"
        ),
    ),
    (
        "  serve: {checkpoint: 1.5}\n",
        (
            "9:23: spec.serve.checkpoint: invalid value 1.5: expected a string or a whole number; set a whole number"
            " of at least 0"
        ),
    ),
    (
        "  hyperparameters: {epochCount: true}\n",
        (
            "9:33: spec.hyperparameters.epochCount: invalid value true: expected a whole number; set a whole"
            " number of at least 1"
        ),
    ),
    (
        "  hyperparameters: {epochCount: ~}\n",
        (
            "9:33: spec.hyperparameters.epochCount: empty value: expected a whole number; set a whole"
            " number of at least 1, or delete the line"
        ),
    ),
    (
        "  hyperparameters: {epochCount: 0}\n",
        "9:33: spec.hyperparameters.epochCount: invalid value 0: expected at least 1; increase it",
    ),
    (
        "  hyperparameters: {batchSize: 3000000000}\n",
        "9:32: spec.hyperparameters.batchSize: invalid value 3000000000: expected at most 2147483647; decrease it",
    ),
    (
        "  hyperparameters: {learningRate: .inf}\n",
        "9:35: spec.hyperparameters.learningRate: invalid value .inf: expected a number; set a number",
    ),
    (
        "  hyperparameters: {learningRate: -.inf}\n",
        "9:35: spec.hyperparameters.learningRate: invalid value -.inf: expected a number; set a number",
    ),
    (
        "  hyperparameters: {learningRate: .nan}\n",
        "9:35: spec.hyperparameters.learningRate: invalid value .nan: expected a number; set a number",
    ),
    (
        "  hyperparameters: {learningRate: 1, learningRateMultiplier: 2}\n",
        (
            "9:38: spec.hyperparameters.learningRateMultiplier: learningRate and learningRateMultiplier"
            " are mutually exclusive; keep one of them"
        ),
    ),
    (
        "  hyperparameters: [1]\n",
        (
            "9:20: spec.hyperparameters: invalid value: expected a mapping, not a list; write its fields as"
            " indented `name: value` lines"
        ),
    ),
    ("  displayName: 12:30\n", ""),
    ("  displayName: 5\n", "9:16: spec.displayName: invalid value 5: expected a string; put it in quotes"),
    ("  displayName: true\n", "9:16: spec.displayName: invalid value true: expected a string; put it in quotes"),
    ("  displayName: {}\n", ("9:16: spec.displayName: invalid value: expected a string, not a mapping; set a string")),
    ('  displayName: ""\n', "9:16: spec.displayName: empty value; set a value, or delete the line"),
    (
        "  lifecycle: {protect: yes}\n",
        '9:24: spec.lifecycle.protect: invalid value "yes": expected true or false; set true or false',
    ),
    (
        '  lifecycle: {protect: "true"}\n',
        '9:24: spec.lifecycle.protect: invalid value "true": expected true or false; remove the quotes',
    ),
    (
        "  lifecycle: {suspend: 2026-12-31}\n",
        (
            '9:24: spec.lifecycle.suspend: invalid value "2026-12-31": expected a mapping or true or false; set true '
            "or false, or fields as in {until: 2026-12-31}"
        ),
    ),
    (
        "  lifecycle: {suspend: {until: 2026-02-30, reason: x}}\n",
        (
            '9:32: spec.lifecycle.suspend.until: invalid value "2026-02-30": expected a date or a time that exists; '
            "fix the day, the month or the time"
        ),
    ),
    (
        "  lifecycle: {suspend: {until: tomorrow}}\n",
        (
            '9:32: spec.lifecycle.suspend.until: invalid value "tomorrow"; write a date as in 2026-12-31, or a time as '
            "in 2026-12-31T18:00:00Z"
        ),
    ),
    (
        "  lifecycle: {suspend: {untill: 2026-12-31}}\n",
        '9:25: spec.lifecycle.suspend.untill: unknown field "untill"; did you mean until?',
    ),
    (
        '  lifecycle: {suspend: "true"}\n',
        '9:24: spec.lifecycle.suspend: invalid value "true": expected a mapping or true or false; remove the quotes',
    ),
    (
        "  lifecycle: {onFailedChecks: hodl}\n",
        '9:31: spec.lifecycle.onFailedChecks: invalid value "hodl": expected hold or serve; did you mean hold?',
    ),
    (
        "  lifecycle: {onFailedChecks: 7}\n",
        "9:31: spec.lifecycle.onFailedChecks: invalid value 7: expected hold or serve; set one of these",
    ),
    (
        "  lifecycle: {timeout: 4 hours}\n",
        (
            '9:24: spec.lifecycle.timeout: invalid value "4 hours"; write hours, minutes and seconds as in'
            " 4h, 90m or 1h30m"
        ),
    ),
    (
        '  lifecycle: {timeout: ""}\n',
        "9:24: spec.lifecycle.timeout: empty value; write hours, minutes and seconds as in 4h, 90m or 1h30m",
    ),
    (
        "  lifecycle: {timeout: 5}\n",
        (
            "9:24: spec.lifecycle.timeout: invalid value 5: expected a string; write hours, minutes and seconds as in"
            " 4h, 90m or 1h30m"
        ),
    ),
    (
        "  lifecycle: {timeout: 0m}\n",
        ('9:24: spec.lifecycle.timeout: invalid value "0m"; write hours, minutes and seconds as in 4h, 90m or 1h30m'),
    ),
    (
        "  ignoreDrift: [description, description]\n",
        '9:30: spec.ignoreDrift[1]: duplicate value "description"; remove it',
    ),
    (
        "  ignoreDrift: description\n",
        '9:16: spec.ignoreDrift: invalid value "description": expected a list; write its items as `- value` lines',
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {}}]\n",
        "9:33: spec.checks[0].expect: missing required field: equals, contains, matches or oneOf; add one of them",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {oneOf: []}}]\n",
        "9:49: spec.checks[0].expect.oneOf: empty list; set a value, or delete the line",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c, matches: d}}]\n",
        "9:53: spec.checks[0].expect.matches: equals and matches are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, expect: {equals: b}}]\n",
        "9:12: spec.checks[0]: missing required field: prompt or dataset; add one of them",
    ),
    (
        "  checks: [{name: a, prompt: b}]\n",
        "9:12: spec.checks[0]: missing required field: expect or assert; add one of them",
    ),
    (
        "  checks: [{name: a, prompt: b, dataset: {path: data.csv, minimum: 1}, expect: {equals: c}}]\n",
        "9:33: spec.checks[0].dataset: prompt and dataset are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, expect: {equals: c}}]\n",
        "9:61: spec.checks[0].expect: dataset and expect are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, candidates: 2}]\n",
        "9:61: spec.checks[0].candidates: dataset and candidates are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, minPass: 1}]\n",
        "9:61: spec.checks[0].minPass: dataset and minPass are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c}, betterThan: {base: true}}]\n",
        "9:54: spec.checks[0].betterThan: prompt and betterThan are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c}, noWorseThan: {serving: true}}]\n",
        "9:54: spec.checks[0].noWorseThan: prompt and noWorseThan are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, betterThan: {base: true, serving: true}}]\n",
        "9:86: spec.checks[0].betterThan.serving: base and serving are mutually exclusive; keep one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, noWorseThan: {margin: 0}}]\n",
        "9:61: spec.checks[0].noWorseThan: missing required field: base or serving; add one of them",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, betterThan: {base: false}}]\n",
        "9:80: spec.checks[0].betterThan.base: invalid value false: expected true; set true",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1}, noWorseThan: {base: true, margin: 2}}]\n",
        "9:95: spec.checks[0].noWorseThan.margin: invalid value 2: expected at most 1; decrease it",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv}}]\n",
        "9:22: spec.checks[0].dataset.minimum: missing required field; add it",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 80}}]\n",
        "9:57: spec.checks[0].dataset.minimum: invalid value 80: expected at most 1; decrease it",
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1, metric: gleu}}]\n",
        (
            '9:68: spec.checks[0].dataset.metric: invalid value "gleu": expected exactMatch, similar, bleu, chrf or'
            " llm-rubric; did you mean bleu?"
        ),
    ),
    (
        "  checks: [{name: a, dataset: {path: data.csv, minimum: 1, sample: 0}}]\n",
        "9:68: spec.checks[0].dataset.sample: invalid value 0: expected at least 1; increase it",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c}, candidates: 101}]\n",
        "9:66: spec.checks[0].candidates: invalid value 101: expected at most 100; decrease it",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: c}, temperature: 2.5}]\n",
        "9:67: spec.checks[0].temperature: invalid value 2.5: expected at most 2; decrease it",
    ),
    (
        '  checks: [{name: a, prompt: b, expect: {equals: ""}}]\n',
        "9:50: spec.checks[0].expect.equals: empty value; set a value, or delete the line",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {equals: 9}}]\n",
        "9:50: spec.checks[0].expect.equals: invalid value 9: expected a string; put it in quotes",
    ),
    (
        "  checks: [{name: a, prompt: b, expect: {oneOf: [c, d, c]}}]\n",
        '9:56: spec.checks[0].expect.oneOf[2]: duplicate value "c"; remove it',
    ),
    (
        "  vertex: {hyperparameters: {adapterSize: 3}}\n",
        (
            "9:43: spec.vertex.hyperparameters.adapterSize: invalid value 3: expected 1, 2, 4, 8, 16 or"
            " 32; set one of these"
        ),
    ),
]


@each_row(("line", "message"), _IN_SPEC)
def test_what_is_wrong_in_a_spec(tmp_path: Path, line: str, message: str) -> None:
    workspace = load_in(sample(tmp_path, manifest=MANIFEST + line))
    assert messages(workspace) == ([f"m.yaml:{message}"] if message else [])
    assert len(workspace.manifests) == (0 if message else 1)


_REPLACED = [
    (
        "  name: number-generator",
        "  nam: x",
        [
            "m.yaml:3:1: metadata.name: missing required field; add it",
            'm.yaml:4:3: metadata.nam: unknown field "nam"; did you mean name?',
        ],
    ),
    (
        "number-generator",
        "Number_Generator",
        [
            (
                'm.yaml:4:9: metadata.name: invalid value "Number_Generator"; use 1 to 31 lower-case'
                " letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
            ),
        ],
    ),
    (
        "number-generator",
        "n" * 32,
        [
            (
                f'm.yaml:4:9: metadata.name: invalid value "{"n" * 32}"; use 1 to 31 lower-case letters,'
                " digits and hyphens, beginning with a letter and not ending with a hyphen"
            ),
        ],
    ),
    (
        "number-generator",
        "x\n  labels: {a b: c}",
        [
            (
                'm.yaml:5:12: metadata.labels.a b: invalid key "a b"; use letters, digits, dots, slashes,'
                " hyphens and underscores, with a letter or digit at both ends"
            ),
        ],
    ),
    (
        "number-generator",
        "x\n  labels: {a: 1}",
        [
            "m.yaml:5:15: metadata.labels.a: invalid value 1: expected a string; put it in quotes",
        ],
    ),
    (
        "models/gemini-3.5-flash",
        "tunedModels/x",
        [
            (
                'm.yaml:6:3: spec.baseModel: invalid value "tunedModels/x": expected the name of a base model of the'
                " test service; write it as gemini-3.5-flash; a model that is already tuned goes under spec.source"
            ),
        ],
    ),
    (
        "models/gemini-3.5-flash",
        "x" * 301,
        ["m.yaml:6:14: spec.baseModel: 301 characters exceed the limit of 300; shorten it"],
    ),
    (
        "  baseModel: models/gemini-3.5-flash\n",
        "",
        [("m.yaml:5:1: spec: missing required field: baseModel or source; add one of them")],
    ),
    (
        "    path: data.csv",
        "    {}",
        [("m.yaml:7:3: spec.dataset: missing required field: path, examples or unknown; add one of them")],
    ),
    (
        "    path: data.csv",
        "    path: data.csv\n    examples: []",
        [
            "m.yaml:9:5: spec.dataset.examples: path and examples are mutually exclusive; keep one of them",
        ],
    ),
    (
        "    path: data.csv",
        "    examples: [{input: 1, output: b}, {input: a}]",
        [
            "m.yaml:8:24: spec.dataset.examples[0].input: invalid value 1: expected a string; put it in quotes",
            "m.yaml:8:39: spec.dataset.examples[1].output: missing required field; add it",
        ],
    ),
]


@each_row(("old", "new", "expected"), _REPLACED)
def test_what_is_wrong_elsewhere(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in MANIFEST
    workspace = load_in(sample(tmp_path, manifest=MANIFEST.replace(old, new)))
    assert messages(workspace) == expected


def test_everyone_is_true_or_left_out(tmp_path: Path) -> None:
    sample(tmp_path, manifest=MANIFEST + "  access: [{role: reader, everyone: false}]\n")
    workspace = load_in(tmp_path, capabilities=replace(CAPABILITIES, features=frozenset({"access"})))
    assert messages(workspace) == [
        ("m.yaml:9:37: spec.access[0].everyone: invalid value false: expected true; set true")
    ]


def test_a_spec_that_is_no_mapping_is_one_problem(tmp_path: Path) -> None:
    text = MANIFEST[: MANIFEST.index("spec:")] + "spec:\n"
    (message,) = messages(load_in(sample(tmp_path, manifest=text)))
    assert message == (
        "m.yaml:5:6: spec: empty value: expected a mapping; write its fields as indented `name: value`"
        " lines, or delete the line"
    )


def test_all_problems_are_told_at_once_in_their_order(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("data.csv", "dta.csv") + "  displayNam: x\n  hyperparameters: {topK: 1}\n"
    assert messages(load_in(sample(tmp_path, manifest=manifest))) == [
        "m.yaml:8:11: spec.dataset.path: dta.csv: no such file; did you mean data.csv?",
        'm.yaml:9:3: spec.displayNam: unknown field "displayNam"; did you mean displayName?',
        'm.yaml:10:21: spec.hyperparameters.topK: unknown field "topK"; remove it',
    ]


def test_suggested_names_ignore_case_and_lists_are_short() -> None:
    assert suggest_name("BASEMODEL", ["baseModel", "dataset"]) == "did you mean baseModel?"
    assert suggest_name("x", []) == "remove it"
    assert suggest_name("x", [f"field{number}" for number in range(17)]) == "remove it"


def test_choices_include_the_similar_name() -> None:
    assert list_choices("anwser", ["question", "answer"]) == "question, answer (did you mean answer?)"
    shown = "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15 and 1 more"
    assert list_choices("x", [f"c{number}" for number in range(17)]) == shown


def test_long_and_multiline_strings_are_quoted_on_one_line() -> None:
    assert quote("a\nb  c") == '"a b c"'
    assert quote("x" * 50) == f'"{"x" * 39}…"'
