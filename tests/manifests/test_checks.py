"""The checks that a manifest declares, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.checks import Check, ComparisonRule, Evaluation, Expectation, Judge
from reconciler.domain.errors import ReconcileError
from reconciler.domain.identity import dataset_digest
from reconciler.domain.model import Capabilities, Example, Manifest
from reconciler.manifests.workspace import Workspace
from support.cases import each_row
from support.files_samples import CAPABILITIES, MANIFEST, VERTEX, close, load_in, messages, sample, write

_UNSEEN = "text_input,output\n5,6\n7,8\n9,10\n"
_AT = "spec.checks[0]"


def _checking(folder: Path, *checks: str, **files: str | bytes) -> Path:
    """A root whose manifest has these checks, one a line from line 10 on; ``unseen`` is the held-out file."""
    unseen = files.pop("unseen", _UNSEEN)
    lines = "".join(f"    - {check}\n" for check in checks)
    manifest = files.pop("manifest", MANIFEST)
    assert isinstance(manifest, str)
    return write(sample(folder, manifest=f"{manifest}  checks:\n{lines}", **files), {"unseen.csv": unseen})


def _found(folder: Path, *checks: str, **files: str | bytes) -> list[str]:
    return messages(load_in(_checking(folder, *checks, **files)))


def _only(workspace: Workspace) -> Manifest:
    assert not workspace.errors
    (manifest,) = workspace.manifests
    return manifest


def test_checks_are_read_in_their_order(tmp_path: Path) -> None:
    _checking(
        tmp_path,
        '{name: small, prompt: "8", expect: {equals: "9"}}',
        "{name: words, prompt: nine, expect: {oneOf: [ten, Ten]}, candidates: 10.0, minPass: 1, temperature: 1}",
        "{name: within, prompt: a, expect: {contains: ' b'}, temperature: 0.5}",
        "{name: digits, prompt: a, expect: {matches: '^[0-9]+$'}, minPass: 0.5}",
        "{name: unseen, dataset: {path: unseen.csv, minimum: 0.5, sample: 2.0}, temperature: 0}",
    )
    digest = dataset_digest([Example("5", "6"), Example("7", "8"), Example("9", "10")])
    checks = _only(load_in(tmp_path)).checks
    assert checks == (
        Check("small", "8", (Expectation("equals", ("9",)),)),
        Check("words", "nine", (Expectation("oneOf", ("ten", "Ten")),), candidates=10, min_pass=1.0, temperature=1.0),
        Check("within", "a", (Expectation("contains", (" b",)),), temperature=0.5),
        Check("digits", "a", (Expectation("matches", ("^[0-9]+$",)),), min_pass=0.5),
        Check("unseen", temperature=0.0, evaluation=Evaluation("unseen.csv", digest, 3, minimum=0.5, sample=2)),
    )
    numbers = (checks[1].candidates, checks[1].min_pass, checks[4].temperature)
    assert [type(number) for number in numbers] == [int, float, float]


def test_assertions_are_read_as_promptfoo_writes_them(tmp_path: Path) -> None:
    _checking(
        tmp_path,
        "{name: a, prompt: p, assert: [{type: equals, value: 9}, {type: not-contains-any, value: [a, true]}]}",
        "{name: b, prompt: p, assert: [{type: is-json}, {type: equals, value: {b: 1, a: [2]}}], repeat: 3}",
        "{name: c, prompt: p, assert: [{type: similar, value: a, weight: 2}, {type: bleu, value: [a, b]}],"
        " threshold: 1}",
        "{name: d, prompt: p, assert: [{type: llm-rubric, value: r}], severity: warn, judge: {model: m, prompt: Hi.}}",
        "{name: e, dataset: {path: unseen.csv, minimum: 0.5, metric: chrf}}",
        "{name: f, dataset: {path: unseen.csv, minimum: 0.5, metric: llm-rubric, rubric: r}, judge: {endpoint: e/1}}",
    )
    found = load_in(tmp_path, capabilities=replace(CAPABILITIES, features=CAPABILITIES.features | {"basePrompts"}))
    a, b, c, d, e, f = _only(found).checks
    assert a.expect == (Expectation("equals", ("9",)), Expectation("contains", ("a", "true"), negated=True))
    assert b.expect == tuple(Expectation("json-schema", (text,)) for text in ("true", '{"const":{"a":[2],"b":1}}'))
    assert c.expect == (
        Expectation("similar", ("a",), threshold=0.75, weight=2.0),
        Expectation("bleu", ("a", "b"), threshold=0.5),
    )
    assert (b.repeat, c.threshold, d.severity) == (3, 1.0, "warn")
    assert (d.expect, d.judge) == ((Expectation("llm-rubric", ("r",)),), Judge("models/m", prompt="Hi."))
    assert [(one.evaluation.metric, one.evaluation.threshold) for one in (e, f) if one.evaluation] == [
        ("chrf", 0.5),
        ("llm-rubric", None),
    ]
    assert (e.judge, f.judge, f.evaluation and f.evaluation.rubric) == (None, Judge(endpoint="e/1"), "r")


@each_row(
    ("check", "told"),
    [
        ("assert: [{type: string_check}]", 'assert[0].type: invalid value "string_check": expected '),
        (
            "assert: [{type: foo}]",
            (
                'assert[0].type: invalid value "foo": expected equals, contains, icontains, contains-any,'
                " icontains-any, contains-all, icontains-all, starts-with, ends-with, regex and 22 more;"
                " set one of these; run `reconcile explain spec.checks.assert.type` for all of them"
            ),
        ),
        ("assert: [{type: contains}]", "assert[0].value: missing required field; add it"),
        ("assert: [{type: contains-any, value: 'a, b'}]", 'assert[0].value: invalid value "a, b": expected a list of'),
        ("assert: [{type: contains, value: [a]}]", "assert[0].value: invalid value"),
        ("assert: [{type: icontains, value: ' '}]", "assert[0].value: is empty; fill it in, or delete the assertion"),
        ("assert: [{type: equals, value: file://a.txt}]", "assert[0].value: checks read no files; write the contents"),
        ("assert: [{type: regex, value: (a}]", "assert[0].value: invalid regular expression: missing ): (a; fix the"),
        (
            "assert: [{type: regex, value: a, threshold: 0.5}]",
            "assert[0].threshold: type regex has no score; remove",
        ),
        ("assert: [{type: similar, value: a, threshold: 0}]", "assert[0].threshold: every answer has a score of at"),
        (
            "assert: [{type: similar, value: a, weight: 0}]",
            "assert: each weight is 0, so that every answer passes;",
        ),
        (
            f"assert: [{{type: similar, value: [{', '.join(['a' * 5001] * 4)}]}}]",
            "assert[0].value: 20,004 characters exceed the limit of 20,000; remove texts",
        ),
        ("assert: [{type: json-schema, value: {type: x}}]", "assert[0].value: invalid JSON Schema: $.type: 'x' is not"),
        ("assert: [{type: json-schema, value: {$ref: 'http://x/y'}}]", "assert[0].value: the reference http://x/y is"),
        ("assert: [{type: llm-rubric, value: r}]", "judge: missing field that llm-rubric requires; add judge: {model:"),
        ("assert: [{type: llm-rubric, value: r}], judge: {model: m}", "judge: the test service cannot send prompts to"),
        (
            "assert: [{type: llm-rubric, value: r}], judge: {endpoint: m, prompt: '{{output}}'}",
            "judge.prompt: contains {{, but has no variables: rubric, prompt and answer follow it; remove",
        ),
        ("assert: [{type: regex, value: a}], judge: {model: m}", "judge: no assertion and no metric is llm-rubric; "),
        ("expect: {equals: a}, threshold: 0.5", "threshold: expect has no scores; write assert in place of expect, or"),
    ],
)
def test_what_is_wrong_with_assertions(tmp_path: Path, check: str, told: str) -> None:
    (message,) = _found(tmp_path, f"{{name: x, prompt: a, {check}}}")
    assert message.partition(": ")[2].startswith(f"{_AT}.{told}")


def test_a_judge_is_an_endpoint_of_the_target(tmp_path: Path) -> None:
    place = "projects/acme-project/locations/us-central1/endpoints"
    capabilities = replace(CAPABILITIES, endpoint_pattern=rf"{place}/\d+")
    told = {
        judge: messages(
            load_in(
                _checking(
                    tmp_path,
                    f"{{name: x, prompt: a, assert: [{{type: llm-rubric, value: r}}], judge: {{endpoint: {judge}}}}}",
                ),
                capabilities=capabilities,
            )
        )
        for judge in (f"{place}/1", "projects/evil/locations/us-central1/endpoints/1", "tunedModels/a")
    }
    accepted, *refused = told.values()
    assert accepted == []
    for (message,) in refused:
        assert "judge.endpoint: invalid value " in message
        assert message.endswith("; set judge.endpoint to a name that `reconcile resolve` prints")


def test_a_simulated_judge_is_a_warning(tmp_path: Path) -> None:
    _checking(tmp_path, "{name: x, prompt: a, assert: [{type: llm-rubric, value: r}], judge: {model: m}}")
    features = CAPABILITIES.features | {"basePrompts"}
    found = load_in(tmp_path, capabilities=replace(CAPABILITIES, features=features, simulated=True))
    assert found.errors == ()
    assert _only(found).checks[0].judge == Judge("models/m")
    (message,) = messages(found)
    assert message.partition(": ")[2] == (
        "spec.checks[0].judge: base models of the test service only simulate answers, and give no verdict; set"
        " judge.endpoint to a tuned model, or use another target"
    )


@each_row(
    ("data", "told"),
    [
        (
            "threshold: 0.5",
            "threshold: metric exactMatch has no score; remove it, or use one of bleu, chrf,",
        ),
        ("metric: bleu, rubric: r", "rubric: metric bleu has no rubric; remove it, or set metric: llm-rubric"),
        ("metric: fuzzy_match", 'metric: invalid value "fuzzy_match": expected exactMatch, similar, bleu, chrf or'),
    ],
)
def test_what_is_wrong_with_a_metric(tmp_path: Path, data: str, told: str) -> None:
    (message,) = _found(tmp_path, f"{{name: x, dataset: {{path: unseen.csv, minimum: 1, {data}}}}}")
    assert message.partition(": ")[2].startswith(f"{_AT}.dataset.{told}")


def test_without_checks_there_are_none(tmp_path: Path) -> None:
    assert _only(load_in(sample(tmp_path))).checks == ()
    assert _only(load_in(sample(tmp_path, manifest=f"{MANIFEST}  checks: []\n"))).checks == ()


def test_a_name_that_is_taken_names_the_other_place(tmp_path: Path) -> None:
    check = "{name: small, prompt: a, expect: {equals: b}}"
    assert _found(tmp_path, check, check) == [
        (
            'm.yaml:11:14: spec.checks[1].name: duplicate name "small" (first defined at m.yaml:10:14);'
            " rename one of the checks"
        )
    ]
    broken = "{name: small, prompt: a}"
    for pair in ((check, broken), (broken, check), (broken, broken)):
        assert any('checks[1].name: duplicate name "small"' in found for found in _found(tmp_path, *pair))


_SYNTAX = "fix the syntax, without look-around and back-references (github.com/google/re2/wiki/Syntax)"


@each_row(
    ("expression", "told"),
    [
        ("(a", f"missing ): (a; {_SYNTAX}"),
        ("(?=a)", f"invalid perl operator: (?=; {_SYNTAX}"),
        (r"(a)\1", rf"invalid escape sequence: \1; {_SYNTAX}"),
        ("[z-a]", f"invalid character class range: z-a; {_SYNTAX}"),
        (f"({'a' * 50}", f"missing ): ({'a' * 38}…; {_SYNTAX}"),
        ("a{1001}", "invalid repetition size: {1001}; use at most 1,000 repetitions in total"),
        (r"(\pL{500}){2}", "pattern too large - compile failed; use smaller or fewer repetitions"),
        (r"\pL{100}", "pattern too large; use smaller or fewer repetitions"),
    ],
)
def test_a_wrong_regular_expression_is_told_with_the_library_s_reason(
    tmp_path: Path, expression: str, told: str
) -> None:
    assert _found(tmp_path, f"{{name: x, prompt: a, expect: {{matches: '{expression}'}}}}") == [
        f"m.yaml:10:46: {_AT}.expect.matches: invalid regular expression: {told}"
    ]


@each_row(
    ("check", "told"),
    [
        ('{name: x, prompt: " ", expect: {equals: b}}', "25: {}.prompt: is empty; fill it in, or delete the check"),
        (
            '{name: x, prompt: "a\\0", expect: {equals: b}}',
            "25: {}.prompt: contains a NUL character; remove it",
        ),
        (
            '{name: x, prompt: a, expect: {equals: "\\t"}}',
            "45: {}.expect.equals: is empty; fill it in, or delete the check",
        ),
        (
            '{name: x, prompt: a, expect: {contains: "\\0"}}',
            "47: {}.expect.contains: contains a NUL character; remove it",
        ),
        (
            '{name: x, prompt: a, expect: {oneOf: [b, " "]}}',
            "48: {}.expect.oneOf[1]: is empty; fill it in, or delete the check",
        ),
    ],
)
def test_texts_that_say_nothing_or_that_no_service_takes(tmp_path: Path, check: str, told: str) -> None:
    assert _found(tmp_path, check) == [f"m.yaml:10:{told.format(_AT)}"]


_PREAMBLE = f"{MANIFEST}    preamble: 'Say: '\n"


@pytest.mark.parametrize(("manifest", "length"), [(MANIFEST, 20), (_PREAMBLE, 15)])
def test_a_prompt_may_be_as_long_as_the_service_takes(tmp_path: Path, manifest: str, length: int) -> None:
    check = f"{{name: x, prompt: {'a' * length}, expect: {{equals: b}}}}"
    assert not _found(tmp_path, check, manifest=manifest)


@pytest.mark.parametrize(
    ("manifest", "length", "told"),
    [
        (
            MANIFEST,
            21,
            (
                "m.yaml:10:25: {}.prompt: has 21 characters, which exceeds the limit of 20 for the test service;"
                " shorten it"
            ),
        ),
        (
            _PREAMBLE,
            16,
            (
                "m.yaml:11:25: {}.prompt: has 21 characters with the preamble, which exceeds the limit of 20 for the"
                " test service; shorten it"
            ),
        ),
    ],
)
def test_a_prompt_over_the_limit(tmp_path: Path, manifest: str, length: int, told: str) -> None:
    check = f"{{name: x, prompt: {'a' * length}, expect: {{equals: b}}}}"
    assert _found(tmp_path, check, manifest=manifest) == [told.format(_AT)]


def test_everything_that_is_wrong_with_checks_is_told_at_once(tmp_path: Path) -> None:
    problems = load_in(
        _checking(
            tmp_path,
            "{name: a, prompt: ' ', expect: {matches: '('}}",
            "{name: b}",
            "{name: a, dataset: {path: nowhere.csv, minimum: 1}}",
        )
    ).problems
    assert [problem.path for problem in problems] == [
        f"{_AT}.prompt",
        f"{_AT}.expect.matches",
        "spec.checks[1]",
        "spec.checks[2].name",
        "spec.checks[2].dataset.path",
    ]


@each_row("checks", ["checks: 1", "checks: {a: 1}", "checks: [1]", "checks:"])
def test_checks_that_are_none_are_told_once(tmp_path: Path, checks: str) -> None:
    (problem,) = load_in(sample(tmp_path, manifest=f"{MANIFEST}  {checks}\n")).problems
    assert "expected a" in problem.message


# Held-out data sets

_EVALUATED = "{name: x, dataset: {path: unseen.csv, minimum: 0.5}}"


def test_held_out_examples_are_read_without_the_preamble(tmp_path: Path) -> None:
    check = "{name: x, dataset: {path: unseen.csv, minimum: 1, inputField: q, outputField: a}}"
    workspace = load_in(_checking(tmp_path, check, manifest=_PREAMBLE, unseen="a,q\n6,5\n8,7\n"))
    manifest = _only(workspace)
    examples = [Example("5", "6"), Example("7", "8")]
    assert manifest.checks[0].evaluation == Evaluation("unseen.csv", dataset_digest(examples), 2, minimum=1.0)
    assert list(workspace.held_out(manifest, manifest.checks[0])) == examples
    assert list(workspace.training(manifest)) == [Example("Say: 1", "2"), Example("Say: 3", "4")]


def test_a_check_without_a_data_set_has_no_examples(tmp_path: Path) -> None:
    workspace = load_in(_checking(tmp_path, "{name: x, prompt: a, expect: {equals: b}}"))
    manifest = _only(workspace)
    assert not list(workspace.held_out(manifest, manifest.checks[0]))


@each_row("after", ["text_input,output\n5,6\n7,9\n9,10\n", "text_input,output\n5,6\n", "a,b\n1,2\n"])
def test_held_out_examples_that_change_before_they_are_asked_are_refused(tmp_path: Path, after: str) -> None:
    workspace = load_in(_checking(tmp_path, _EVALUATED))
    write(tmp_path, {"unseen.csv": after})
    manifest = _only(workspace)
    with pytest.raises(
        ReconcileError, match=r"^unseen\.csv has changed since the plan was made; run the command again"
    ):
        list(workspace.held_out(manifest, manifest.checks[0]))


_PATH = f"{_AT}.dataset.path"


@each_row(
    ("path", "told"),
    [
        ("x/y.csv", "x/y.csv: no such file; fix the path, or add the file"),
        ("unseeen.csv", "unseeen.csv: no such file; did you mean unseen.csv?"),
        ("../x.csv", "../x.csv: outside the repository; move the file into {}"),
        ("/etc/passwd", 'invalid path "/etc/passwd": expected a relative path; make it relative to this file'),
        (
            "m.yaml",
            (
                'unsupported format ".yaml"; set spec.checks[0].dataset.format to one of: csv, tsv, jsonl, json, '
                "parquet, arrow"
            ),
        ),
        ("gs://bucket/x.jsonl", "checks do not support data sets in Cloud Storage; set the path of a file"),
    ],
)
def test_held_out_files_that_are_none(tmp_path: Path, path: str, told: str) -> None:
    found = _found(tmp_path, f"{{name: x, dataset: {{path: '{path}', minimum: 1}}}}")
    assert found == [f"m.yaml:10:33: {_PATH}: {told.format(tmp_path.name)}"]


@each_row(
    ("data", "told"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
            f"unseen.csv:1:1: {_PATH}: the file is a Git LFS pointer, not the data; run `git lfs pull`",
        ),
        (
            "question,output\n5,6\n",
            (
                f'unseen.csv:1:1: {_AT}.dataset.inputField: no column "text_input" in the header; set'
                f" {_AT}.dataset.inputField to one of: question, output"
            ),
        ),
        ("text_input,output\n", f"unseen.csv:1:1: {_AT}.dataset.path: the data set has no examples; add examples"),
        (
            "text_input,output\n5,\n",
            f"unseen.csv:2:1: {_PATH}: the output is empty; fill it in, or delete the example",
        ),
    ],
)
def test_held_out_files_that_cannot_be_asked(tmp_path: Path, data: str, told: str) -> None:
    assert _found(tmp_path, _EVALUATED, unseen=data) == [told]


def test_a_held_out_file_that_cannot_be_read(tmp_path: Path) -> None:
    close(_checking(tmp_path, _EVALUATED) / "unseen.csv")
    assert messages(load_in(tmp_path)) == [
        f"unseen.csv:1:1: {_PATH}: cannot be read: Permission denied; see to the file"
    ]


_CHAT = (
    '{{"contents": [{{"role": "user", "parts": [{{"text": "{}"}}]}},'
    ' {{"role": "model", "parts": [{{"text": "b"}}]}}]}}\n'
)


def test_a_held_out_file_of_conversations(tmp_path: Path) -> None:
    write(_checking(tmp_path, _EVALUATED.replace(".csv", ".jsonl")), {"unseen.jsonl": _CHAT.format("a") * 2})
    told = (
        f"unseen.jsonl:1:1: {_PATH}: checks do not support examples in Vertex AI's format; write one"
        " input and one output in each line"
    )
    assert messages(load_in(tmp_path)) == [told]


@pytest.mark.parametrize(
    ("manifest", "question", "told"),
    [
        (MANIFEST, "a" * 21, "the input has 21 characters, which exceeds the limit of 20 for the test service"),
        (
            _PREAMBLE,
            "a" * 16,
            ("the input has 21 characters with the preamble, which exceeds the limit of 20 for the test service"),
        ),
    ],
)
def test_a_held_out_input_over_the_limit(tmp_path: Path, manifest: str, question: str, told: str) -> None:
    data = f"text_input,output\n{question},{'b' * 1_000}\n5,6\n"
    found = _found(tmp_path, _EVALUATED, manifest=manifest, unseen=data)
    assert found == [f"unseen.csv:2:1: {_PATH}: {told}; shorten it"]


def test_what_a_training_takes_is_no_limit_of_held_out_examples(tmp_path: Path) -> None:
    data = "text_input,output\n" + "".join(f"{number},{'b' * 100}\n" for number in range(100, 110))
    assert not _found(tmp_path, _EVALUATED, unseen=data)


def test_repetitions_in_a_held_out_file(tmp_path: Path) -> None:
    assert _found(tmp_path, _EVALUATED, unseen=_UNSEEN + "5,6\n") == [
        f"unseen.csv:5:1: {_PATH}: duplicate of the example on line 2; delete one of them"
    ]


def test_a_sample_larger_than_the_file(tmp_path: Path) -> None:
    workspace = load_in(_checking(tmp_path, "{name: x, dataset: {path: unseen.csv, minimum: 1, sample: 50}}"))
    assert messages(workspace) == [
        (
            f"m.yaml:10:65: {_AT}.dataset.sample: 50 examples requested, but the file has 3, which are all"
            " used; add examples, or delete the line"
        )
    ]
    assert _only(workspace).checks[0].evaluation


# Comparisons with other models

_COMPARED = "{{name: x, dataset: {{path: unseen.csv, minimum: 0.5}}, {}}}"
_ASKING = replace(CAPABILITIES, features=frozenset({"basePrompts", "lineage"}))


@each_row(
    ("comparisons", "rules"),
    [
        ("betterThan: {base: true}", [ComparisonRule("base", "better")]),
        ("betterThan: {serving: true}", [ComparisonRule("serving", "better")]),
        ("noWorseThan: {base: true, margin: 1}", [ComparisonRule("base", "noWorse", 1.0)]),
        (
            "noWorseThan: {margin: 0.02, serving: true}, betterThan: {base: true}",
            [ComparisonRule("base", "better"), ComparisonRule("serving", "noWorse", 0.02)],
        ),
    ],
)
def test_comparisons_are_read(tmp_path: Path, comparisons: str, rules: list[ComparisonRule]) -> None:
    root = _checking(tmp_path, _COMPARED.format(comparisons))
    (check,) = _only(load_in(root, capabilities=_ASKING)).checks
    assert check.evaluation
    assert check.evaluation.comparisons == tuple(rules)
    assert all(type(rule.margin) is float for rule in check.evaluation.comparisons)


_INSTEAD = "compare with the serving generation (serving: true), or remove the comparison"


@each_row(
    ("manifest", "capabilities", "comparison", "told"),
    [
        (
            MANIFEST,
            CAPABILITIES,
            "betterThan: {base: true}",
            f"79: {_AT}.betterThan.base: the test service cannot send prompts to base models; {_INSTEAD}",
        ),
        (
            MANIFEST.replace("baseModel: models/gemini-3.5-flash", "source: {remote: tunedModels/other}"),
            _ASKING,
            "noWorseThan: {base: true}",
            (
                f"80: {_AT}.noWorseThan.base: the base model of tunedModels/other is unknown, because no manifest"
                f" declares it; {_INSTEAD}"
            ),
        ),
        (
            MANIFEST,
            _ASKING,
            "betterThan: {base: true}, noWorseThan: {base: true}",
            (
                f"106: {_AT}.noWorseThan.base: base is also in betterThan, which requires more; remove one of the two"
                " comparisons"
            ),
        ),
    ],
)
def test_comparisons_that_are_impossible(
    tmp_path: Path, manifest: str, capabilities: Capabilities, comparison: str, told: str
) -> None:
    root = _checking(tmp_path, _COMPARED.format(comparison), manifest=manifest)
    assert messages(load_in(root, capabilities=capabilities)) == [f"m.yaml:10:{told}"]


def test_a_comparison_with_the_serving_generation_needs_no_feature(tmp_path: Path) -> None:
    assert not _found(tmp_path, _COMPARED.format("noWorseThan: {serving: true}"))


# Examples that the model was trained on

_PROVES = "first here: of what was learnt, right answers prove little; take them out of one of the two"


@pytest.mark.parametrize("manifest", [MANIFEST, _PREAMBLE])
def test_examples_that_stand_in_the_training_data_too_are_told(tmp_path: Path, manifest: str) -> None:
    data, unseen = "text_input,output\n1,2\n3,4\n", "text_input,output\n5,6\n3,4\n1,9\n"
    workspace = load_in(_checking(tmp_path, _EVALUATED, manifest=manifest, data=data, unseen=unseen))
    assert messages(workspace) == [
        (
            f"unseen.csv:3:1: {_PATH}: 2 of 3 inputs are in the training data too, first on this line: right"
            " answers to them prove little; remove them from one of the two data sets"
        ),
    ]
    (evaluation,) = [check.evaluation for check in _only(workspace).checks]
    assert evaluation
    assert evaluation.leaked == 2


def test_line_ends_hide_no_leak_and_one_is_told_as_one(tmp_path: Path) -> None:
    data, unseen = 'text_input,output\n"a\r\nb",2\n3,4\n', 'text_input,output\n"a\nb",2\n'
    assert _found(tmp_path, _EVALUATED, data=data, unseen=unseen) == [
        (
            f"unseen.csv:2:1: {_PATH}: 1 of 1 input is in the training data too, first on this line: right"
            " answers to them prove little; remove them from one of the two data sets"
        ),
    ]


def test_each_check_is_told_of_its_own_leaks(tmp_path: Path) -> None:
    _checking(
        tmp_path,
        "{name: a, dataset: {path: unseen.csv, minimum: 1}}",
        "{name: b, dataset: {path: data.csv, minimum: 1}}",
        "{name: c, dataset: {path: unseen.csv, minimum: 0}}",
    )
    workspace = load_in(tmp_path)
    assert messages(workspace) == [
        (
            "data.csv:2:1: spec.checks[1].dataset.path: 2 of 2 inputs are in the training data too, first on"
            " this line: right answers to them prove little; remove them from one of the two data sets"
        )
    ]
    assert [check.evaluation.leaked for check in _only(workspace).checks if check.evaluation] == [0, 2, 0]


def test_inline_examples_are_compared_too(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("path: data.csv", "examples: [{input: '5', output: '6'}, {input: a, output: b}]")
    (found,) = _found(tmp_path, _EVALUATED, manifest=manifest)
    assert "1 of 3 inputs is in the training data too" in found


_BARE = MANIFEST.replace("models/gemini-3.5-flash", "gemini-3.5-flash")
_LONG = (
    '{"contents": [{"role": "user", "parts": [{"text": "7"}]}, {"role": "model", "parts": [{"text": "b"}]},'
    ' {"role": "user", "parts": [{"text": "9"}]}, {"role": "model", "parts": [{"text": "b"}]}]}\n'
)
_PICTURE = (
    '{"contents": [{"role": "user", "parts": [{"text": "7"}, {"inlineData": {}}]},'
    ' {"role": "model", "parts": [{"text": "b"}]}]}\n'
)


def test_of_conversations_those_of_one_exchange_are_compared(tmp_path: Path) -> None:
    _checking(tmp_path, _EVALUATED, manifest=_BARE.replace("data.csv", "chats.jsonl"))
    write(tmp_path, {"chats.jsonl": _CHAT.format("5") + _CHAT.format("a") + _LONG + _PICTURE})
    (found,) = messages(load_in(tmp_path, capabilities=VERTEX))
    assert found.startswith("unseen.csv:2:1: spec.checks[0].dataset.path: 1 of 3 inputs is in the training data")


def test_what_is_in_cloud_storage_is_not_compared(tmp_path: Path) -> None:
    manifest = _BARE.replace("data.csv", "gs://acme-tuning-data/x.jsonl")
    assert not messages(load_in(_checking(tmp_path, _EVALUATED, manifest=manifest), capabilities=VERTEX))


def test_training_data_with_errors_are_not_compared(tmp_path: Path) -> None:
    found = _found(tmp_path, _EVALUATED, data="text_input,output\n5,\n")
    assert found == ["data.csv:2:1: spec.dataset.path: the output is empty; fill it in, or delete the example"]
