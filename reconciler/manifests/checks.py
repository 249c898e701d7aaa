"""Read ``spec.checks``: prompts with expected answers, and evaluations on held-out data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.checks import (
    Check,
    ComparedModel,
    ComparisonRule,
    Evaluation,
    Expectation,
    ExpectationKind,
    Judge,
    Requirement,
)
from reconciler.domain.errors import Problem, ReconcileError
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.model import REMOTE_SCHEME, Capabilities, Dataset
from reconciler.domain.text import counted, exceeds_limit, shorten
from reconciler.manifests.assertions import (
    BASE_PROMPTS,
    MISSING_JUDGE,
    assertion_findings,
    expectations,
    expression_problems,
    has_rubric,
    judge_findings,
    judge_of,
    metric_findings,
    simulated_judge,
)
from reconciler.manifests.datasets.declarations import LoadContext, Origin, Reading, declared_file, preamble_of
from reconciler.manifests.datasets.records import ConversationRow, Fault, Records, Row, text_problems
from reconciler.manifests.datasets.validation import DatasetSource, validate_dataset
from reconciler.manifests.provider_fields import mapping, tuned_further
from reconciler.manifests.schema_validation import Finding, has_problem
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted
from reconciler.planning.check_metrics import DEFAULT_THRESHOLDS


class HeldOut(Struct, frozen=True):
    """A data set that was read without a preamble, and its source."""

    dataset: Dataset
    source: DatasetSource


def read_held_out(
    document: YamlDocument, declared_at: FieldPath, origin: Origin, context: LoadContext
) -> tuple[HeldOut | None, tuple[Problem, ...]]:
    """Return the held-out data set declared in a part of the document that fits the schema, and its problems."""
    path = [*declared_at, "path"]
    if document.child(path).value.startswith(REMOTE_SCHEME):
        message = "checks do not support data sets in Cloud Storage"
        return None, (Problem(document.place(path), dotted(path), message, "set the path of a file"),)
    try:
        file = declared_file(document, declared_at, "", origin, context)
    except ReconcileError as error:
        return None, (Problem(document.place(path), dotted(path), error.message, error.remedy),)
    source = replace(file, records=partial(_prompts, file, preamble_of(document), context.capabilities))
    validated = validate_dataset(source, None)
    if validated.dataset is None:
        return None, validated.problems
    warnings = _sample_warnings(document, declared_at, validated.dataset.examples)
    return HeldOut(validated.dataset, source), (*validated.problems, *warnings)


def _prompts(source: DatasetSource, preamble: str, capabilities: Capabilities | None) -> Records:
    """Yield the records of a source; a record that a check cannot send is a fault."""
    limit = capabilities.max_input_characters if capabilities else None
    for record in source.records():
        if isinstance(record, ConversationRow):
            message = "checks do not support examples in Vertex AI's format"
            yield Fault(record.number, message, "write one input and one output in each line")
            return
        if isinstance(record, Row) and capabilities and limit and len(preamble + record.input) > limit:
            yield Fault(record.number, f"the input {too_long(record.input, preamble, capabilities)}", "shorten it")
        else:
            yield record


def too_long(prompt: str, preamble: str, capabilities: Capabilities) -> str:
    """Return the message for a prompt that is longer than the service accepts."""
    with_preamble = " with the preamble" if preamble else ""
    limit = exceeds_limit(capabilities.label, capabilities.max_input_characters or 0)
    return f"has {len(preamble + prompt):,} characters{with_preamble}, {limit}"


def _sample_warnings(document: YamlDocument, declared_at: FieldPath, examples: int) -> Iterator[Problem]:
    sample, path = document.child(declared_at).value.get("sample", 0), [*declared_at, "sample"]
    if sample > examples:
        message = f"{int(sample):,} examples requested, but the file has {examples:,}, which are all used"
        yield Problem(document.place(path), dotted(path), message, "add examples, or delete the line", "warning")


def find_leaks(held_out: Sequence[HeldOut], training: DatasetSource) -> Iterator[tuple[int, tuple[Problem, ...]]]:
    """Yield for each data set how many of its inputs are in the training data too, and a warning about them.

    The training data is streamed; of the held-out data, hashes of the inputs are kept in memory. Only conversations of
    one prompt and one answer are compared.
    """
    hashes = {hash(text) for dataset in held_out for _, text in inputs(dataset.source)}
    trained = hashes.intersection(hash(text) for _, text in inputs(training)) if hashes else set()
    for dataset in held_out:
        numbers = [number for number, text in inputs(dataset.source) if hash(text) in trained] if trained else []
        yield len(numbers), tuple(_leak_warnings(dataset, numbers))


def _leak_warnings(held_out: HeldOut, numbers: Sequence[int]) -> Iterator[Problem]:
    if numbers:
        verb = "is" if len(numbers) == 1 else "are"
        message = (
            f"{len(numbers):,} of {counted(held_out.dataset.examples, 'input')} {verb} in the training data too,"
            " first on this line: right answers to them prove little"
        )
        remedy = "remove them from one of the two data sets"
        yield Problem(*held_out.source.locate(numbers[0]), message, remedy, "warning")


def inputs(source: DatasetSource) -> Iterator[tuple[int, str]]:
    """Yield the number and the input, without preamble, of each record that has one."""
    for record in source.records():
        if isinstance(record, Row):
            yield record.number, normalize_newlines(record.input)
        elif isinstance(record, ConversationRow):
            yield from _single_prompt(record)


def _single_prompt(row: ConversationRow) -> Iterator[tuple[int, str]]:
    """Yield the prompt of a valid conversation that has only one."""
    turns = row.value["contents"]
    parts = turns[0]["parts"]
    if len(turns) == len(("user", "model")) and all("text" in part for part in parts):
        yield row.number, normalize_newlines("".join(part["text"] for part in parts))


_KINDS: tuple[ExpectationKind, ...] = ("equals", "contains", "matches", "oneOf")
"""The comparisons of ``expect``."""


class Checks(Struct, frozen=True):
    """The checks of a manifest, the held-out data sets by the name of the check, and all problems."""

    checks: tuple[Check, ...] = ()
    held_out: Mapping[str, HeldOut] = {}
    problems: tuple[Problem, ...] = ()


class _DeclaredCheck(Struct, frozen=True):
    """A check in a document that fits the schema, with the limits of its prompt.

    ``remote_source`` is the tuned model without a manifest that the generations are tuned from, or empty. ``judge`` is
    that of the target.
    """

    path: FieldPath
    value: Mapping[str, Any]
    preamble: str
    capabilities: Capabilities | None
    remote_source: str
    judge: Judge | None


def read_checks(
    document: YamlDocument, origin: Origin, context: LoadContext, training: Reading, found: Sequence[Problem]
) -> Checks:
    """Read the checks without a problem in ``found``.

    Held-out examples that are in the training data too are reported, unless it is in Cloud Storage or has errors.
    """
    declared = list(_valid_checks(document, context, found))
    problems = [*_duplicate_names(document), *_rule_problems(document, declared)]
    problems += _simulated_judges(document, declared)
    held_out = {}
    for check in declared:
        if "dataset" in check.value:
            reading, dataset_problems = read_held_out(document, [*check.path, "dataset"], origin, context)
            problems += dataset_problems
            if reading:
                held_out[check.value["name"]] = reading
    leaks = {}
    if training.dataset and training.source and held_out:
        for name, (count, warnings) in zip(held_out, find_leaks(list(held_out.values()), training.source), strict=True):
            leaks[name] = count
            problems += warnings
    checks = tuple(_check(check, held_out, leaks) for check in declared)
    return Checks(checks, held_out, tuple(problems))


def _valid_checks(document: YamlDocument, context: LoadContext, found: Sequence[Problem]) -> Iterator[_DeclaredCheck]:
    spec = mapping(document.value.get("spec"))
    checks, remote_source = spec.get("checks"), tuned_further(spec, context.capabilities).get("remote", "")
    for index, value in enumerate(checks if isinstance(checks, list) else []):
        path: FieldPath = ["spec", "checks", index]
        if not has_problem(dotted(path), found):
            yield _DeclaredCheck(path, value, preamble_of(document), context.capabilities, remote_source, context.judge)


def read_stage_checks(document: YamlDocument, declared_at: FieldPath, judge: Judge | None) -> Checks:
    """Read the checks of a stage of a target, which fit the schema; ``judge`` is that of the target."""
    declared = [
        _DeclaredCheck([*declared_at, index], value, "", None, "", judge)
        for index, value in enumerate(document.child(declared_at).value)
    ]
    problems = [*_rule_problems(document, declared)]
    for check in declared:
        if has_rubric(check.value) and not (judge or "judge" in check.value):
            path, remedy = [*check.path, "judge"], "add judge: {model: NAME} to the check, or to spec"
            problems.append(Problem(document.place(path), dotted(path), MISSING_JUDGE, remedy))
    return Checks(tuple(_check(check, {}, {}) for check in declared), problems=tuple(problems))


def _rule_problems(document: YamlDocument, declared: Iterable[_DeclaredCheck]) -> Iterator[Problem]:
    for check in declared:
        for rule in _RULES:
            for path, message, remedy in rule(check):
                full_path = [*check.path, *path]
                yield Problem(document.place(full_path), dotted(full_path), message, remedy)


def _simulated_judges(document: YamlDocument, declared: Iterable[_DeclaredCheck]) -> Iterator[Problem]:
    for check in declared:
        if check.capabilities and simulated_judge(check.value, check.judge, check.capabilities):
            path = [*check.path, "judge"]
            message = f"base models of {check.capabilities.label} only simulate answers, and give no verdict"
            remedy = "set judge.endpoint to a tuned model, or use another target"
            yield Problem(document.place(path), dotted(path), message, remedy, "warning")


def _duplicate_names(document: YamlDocument) -> Iterator[Problem]:
    """Yield the errors in equal names of checks, which may be invalid in other ways."""
    declared = mapping(document.value.get("spec")).get("checks")
    first_paths: dict[str, FieldPath] = {}
    for index, check in enumerate(declared if isinstance(declared, list) else []):
        name = mapping(check).get("name")
        path: FieldPath = ["spec", "checks", index, "name"]
        if not isinstance(name, str):
            continue
        first = first_paths.setdefault(name, path)
        if first is not path:
            message = f'duplicate name "{shorten(name)}" (first defined at {document.place(first)})'
            yield Problem(document.place(path), dotted(path), message, "rename one of the checks")


def _prompt(check: _DeclaredCheck) -> Iterator[Finding]:
    prompt, service = check.value.get("prompt"), check.capabilities
    if prompt is None:
        return
    for message, remedy in text_problems(prompt, "check"):
        yield ["prompt"], message, remedy
    if service and service.max_input_characters and len(check.preamble + prompt) > service.max_input_characters:
        yield ["prompt"], too_long(prompt, check.preamble, service), "shorten it"


def _expected_texts(check: _DeclaredCheck) -> Iterator[Finding]:
    for kind, value in check.value.get("expect", {}).items():
        texts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, text in texts if kind != "matches" else ():
            path: FieldPath = ["expect", kind] if index is None else ["expect", kind, index]
            for message, remedy in text_problems(text, "check"):
                yield path, message, remedy


def _expression(check: _DeclaredCheck) -> Iterator[Finding]:
    expression = check.value.get("expect", {}).get("matches")
    if expression is None:
        return
    for message, remedy in expression_problems(expression):
        yield ["expect", "matches"], message, remedy


def _assertions(check: _DeclaredCheck) -> Iterator[Finding]:
    if "assert" in check.value:
        yield from assertion_findings(check.value["assert"])
    elif "threshold" in check.value:
        yield ["threshold"], "expect has no scores", "write assert in place of expect, or remove it"
    if "dataset" in check.value:
        yield from metric_findings(check.value["dataset"])
    yield from judge_findings(check.value, check.judge, check.capabilities)


_REQUIREMENTS: Mapping[str, Requirement] = {"betterThan": "better", "noWorseThan": "noWorse"}
_INSTEAD = "compare with the serving generation (serving: true), or remove the comparison"


def _comparisons(check: _DeclaredCheck) -> Iterator[Finding]:
    better, no_worse = ({*check.value.get(field, ())} - {"margin"} for field in _REQUIREMENTS)
    if better & no_worse:
        (other,) = better
        message = f"{other} is also in betterThan, which requires more"
        yield ["noWorseThan", other], message, "remove one of the two comparisons"
    for field in _REQUIREMENTS:
        if "base" not in check.value.get(field, ()):
            continue
        if check.capabilities and BASE_PROMPTS not in check.capabilities.features:
            yield [field, "base"], f"{check.capabilities.label} cannot send prompts to base models", _INSTEAD
        elif check.remote_source:
            message = f"the base model of {shorten(check.remote_source)} is unknown, because no manifest declares it"
            yield [field, "base"], message, _INSTEAD


_RULES: tuple[Callable[[_DeclaredCheck], Iterator[Finding]], ...] = (
    _prompt,
    _expected_texts,
    _expression,
    _assertions,
    _comparisons,
)


def _check(check: _DeclaredCheck, held_out: Mapping[str, HeldOut], leaks: Mapping[str, int]) -> Check:
    declared = check.value
    name, temperature, threshold = declared["name"], declared.get("temperature"), declared.get("threshold")
    dataset = held_out.get(name)
    return Check(
        name=name,
        prompt=declared.get("prompt", ""),
        expect=_expected(declared),
        candidates=int(declared.get("candidates", 1)),
        min_pass=float(declared.get("minPass", 1)),
        temperature=None if temperature is None else float(temperature),
        evaluation=_evaluation(declared, dataset.dataset, leaks.get(name, 0)) if dataset else None,
        threshold=None if threshold is None else float(threshold),
        repeat=int(declared.get("repeat", 1)),
        severity=declared.get("severity", "error"),
        judge=judge_of(declared, check.judge, check.capabilities),
    )


def _expected(declared: Mapping[str, Any]) -> tuple[Expectation, ...]:
    if "assert" in declared:
        return expectations(declared["assert"])
    expect = declared.get("expect", {})
    return tuple(
        Expectation(kind, tuple(expect[kind] if isinstance(expect[kind], list) else [expect[kind]]))
        for kind in _KINDS
        if kind in expect
    )


def _evaluation(declared: Mapping[str, Any], dataset: Dataset, leaks: int) -> Evaluation:
    data = declared["dataset"]
    sample, metric = data.get("sample"), data.get("metric", "exactMatch")
    threshold = data.get("threshold", DEFAULT_THRESHOLDS.get(metric))
    return Evaluation(
        path=dataset.path,
        digest=dataset.digest,
        examples=dataset.examples,
        minimum=float(data["minimum"]),
        metric=metric,
        threshold=None if threshold is None else float(threshold),
        rubric=data.get("rubric", ""),
        sample=None if sample is None else int(sample),
        leaked=leaks,
        comparisons=tuple(
            ComparisonRule(other, required, margin=float(declared[field].get("margin", 0)))
            for field, required in _REQUIREMENTS.items()
            for other in get_args(ComparedModel)
            if other in declared.get(field, ())
        ),
    )
