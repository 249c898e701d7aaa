"""Read ``spec.checks``: prompts with expected answers, and evaluations on held-out data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from msgspec import Struct

from reconciler.domain.checks import Check, Evaluation, Expectation, ExpectationKind
from reconciler.domain.errors import Problem
from reconciler.domain.model import Capabilities, Dataset
from reconciler.domain.text import shorten
from reconciler.manifests.datasets.declarations import LoadContext, Origin, Reading, preamble_of
from reconciler.manifests.datasets.held_out import HeldOut, find_leaks, read_held_out, too_long
from reconciler.manifests.datasets.records import text_problems
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import Finding, has_problem
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument, dotted
from reconciler.planning.check_evaluation import ExpressionError, compile_expression

_KINDS: tuple[ExpectationKind, ...] = get_args(ExpectationKind)
_SYNTAX = "fix the syntax, without look-around and back-references (github.com/google/re2/wiki/Syntax)"
_REMEDIES = (
    ("pattern too large", "use smaller or fewer repetitions"),
    ("invalid repetition size", "use at most 1,000 repetitions in total"),
)
"""The remedies by how RE2's message starts."""


class Checks(Struct, frozen=True):
    """The checks of a manifest, the held-out data sets by the name of the check, and all problems."""

    checks: tuple[Check, ...] = ()
    held_out: Mapping[str, HeldOut] = {}
    problems: tuple[Problem, ...] = ()


class _DeclaredCheck(Struct, frozen=True):
    """A check in a document that fits the schema, with the limits of its prompt."""

    path: FieldPath
    value: Mapping[str, Any]
    preamble: str
    capabilities: Capabilities | None


def read_checks(
    document: YamlDocument, origin: Origin, context: LoadContext, training: Reading, found: Sequence[Problem]
) -> Checks:
    """Read the checks without a problem in ``found``.

    Held-out examples that are in the training data too are reported, unless it is in Cloud Storage or has errors.
    """
    declared = list(_valid_checks(document, context, found))
    problems = [*_duplicate_names(document, declared), *_rule_problems(document, declared)]
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
    checks = tuple(_check(check.value, held_out, leaks) for check in declared)
    return Checks(checks, held_out, tuple(problems))


def _valid_checks(document: YamlDocument, context: LoadContext, found: Sequence[Problem]) -> Iterator[_DeclaredCheck]:
    checks = mapping(document.value.get("spec")).get("checks")
    for index, value in enumerate(checks if isinstance(checks, list) else []):
        path: FieldPath = ["spec", "checks", index]
        if not has_problem(dotted(path), found):
            yield _DeclaredCheck(path, value, preamble_of(document), context.capabilities)


def _rule_problems(document: YamlDocument, declared: Iterable[_DeclaredCheck]) -> Iterator[Problem]:
    for check in declared:
        for rule in _RULES:
            for path, message, remedy in rule(check):
                full_path = [*check.path, *path]
                yield Problem(document.place(full_path), dotted(full_path), message, remedy)


def _duplicate_names(document: YamlDocument, declared: Iterable[_DeclaredCheck]) -> Iterator[Problem]:
    first_paths: dict[str, FieldPath] = {}
    for check in declared:
        name, path = check.value["name"], [*check.path, "name"]
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
    try:
        compile_expression(expression)
    except ExpressionError as error:
        cause, colon, part = str(error).partition(": ")
        remedy = next((remedy for start, remedy in _REMEDIES if cause.startswith(start)), _SYNTAX)
        yield ["expect", "matches"], f"invalid regular expression: {cause}{colon}{shorten(part)}", remedy


_RULES: tuple[Callable[[_DeclaredCheck], Iterator[Finding]], ...] = (_prompt, _expected_texts, _expression)


def _check(declared: Mapping[str, Any], held_out: Mapping[str, HeldOut], leaks: Mapping[str, int]) -> Check:
    name, temperature = declared["name"], declared.get("temperature")
    expect, dataset = declared.get("expect"), held_out.get(name)
    return Check(
        name=name,
        prompt=declared.get("prompt", ""),
        expect=_expectation(expect) if expect else None,
        candidates=int(declared.get("candidates", 1)),
        min_pass=float(declared.get("minPass", 1)),
        temperature=None if temperature is None else float(temperature),
        evaluation=_evaluation(declared["dataset"], dataset.dataset, leaks.get(name, 0)) if dataset else None,
    )


def _expectation(declared: Mapping[str, Any]) -> Expectation:
    kind = next(kind for kind in _KINDS if kind in declared)
    value = declared[kind]
    return Expectation(kind, tuple(value if isinstance(value, list) else [value]))


def _evaluation(declared: Mapping[str, Any], dataset: Dataset, leaks: int) -> Evaluation:
    sample = declared.get("sample")
    return Evaluation(
        path=dataset.path,
        digest=dataset.digest,
        examples=dataset.examples,
        minimum=float(declared["minimum"]),
        sample=None if sample is None else int(sample),
        leaked=leaks,
    )
