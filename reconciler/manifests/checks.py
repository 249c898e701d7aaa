"""The checks that a manifest declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from reconciler.domain.checks import Check, Evaluation, Expectation, ExpectationKind
from reconciler.domain.errors import Problem
from reconciler.domain.model import Capabilities
from reconciler.domain.text import shorten
from reconciler.manifests.datasets.declarations import LoadContext, Origin, Reading, preamble_of
from reconciler.manifests.datasets.held_out import HeldOut, leaked, read_held_out, too_long
from reconciler.manifests.datasets.records import text_faults
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.schema_validation import Finding, is_told
from reconciler.manifests.yaml_parser import Document, FieldPath, dotted
from reconciler.planning.check_evaluation import ExpressionError, compile_expression

_KINDS: tuple[ExpectationKind, ...] = get_args(ExpectationKind)
_SYNTAX = "mend it; there is no look-around, and there are no back-references (github.com/google/re2/wiki/Syntax)"
_REMEDIES = (
    ("pattern too large", "use smaller or fewer repetitions"),
    ("invalid repetition size", "repeat at most 1,000 times in all"),
)
"""What to do about what RE2 says, by how that begins."""


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of a manifest, the held-out data sets of those that have one (by name), and what is wrong."""

    checks: tuple[Check, ...] = ()
    held_out: Mapping[str, HeldOut] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Declared:
    """One check as it stands in a document, and what its prompt is held to."""

    path: FieldPath
    value: Mapping[str, Any]
    preamble: str
    capabilities: Capabilities | None


def read_checks(
    document: Document, origin: Origin, surroundings: LoadContext, training: Reading, found: Sequence[Problem]
) -> Checks:
    """The checks that fit their schema, which is what ``found`` tells; the others are left out.

    Held-out examples that stand in the training data too are told, unless those are in Cloud Storage or have errors.
    """
    declared = list(_readable(document, surroundings, found))
    problems = [*_repeated_names(document, declared), *_against_the_rules(document, declared)]
    held_out = {}
    for one in declared:
        if "dataset" in one.value:
            reading, wrong = read_held_out(document, [*one.path, "dataset"], origin, surroundings)
            problems += wrong
            if reading:
                held_out[one.value["name"]] = reading
    leaks = {}
    if training.dataset and training.source and held_out:
        for name, (count, warnings) in zip(held_out, leaked(list(held_out.values()), training.source), strict=True):
            leaks[name] = count
            problems += warnings
    checks = tuple(_check(one.value, held_out, leaks) for one in declared)
    return Checks(checks, held_out, tuple(problems))


def _readable(document: Document, surroundings: LoadContext, found: Sequence[Problem]) -> Iterator[_Declared]:
    checks = mapping(document.value.get("spec")).get("checks")
    for index, value in enumerate(checks if isinstance(checks, list) else []):
        path: FieldPath = ["spec", "checks", index]
        if not is_told(dotted(path), found):
            yield _Declared(path, value, preamble_of(document), surroundings.capabilities)


def _against_the_rules(document: Document, declared: Iterable[_Declared]) -> Iterator[Problem]:
    for one in declared:
        for rule in _RULES:
            for path, message, remedy in rule(one):
                where = [*one.path, *path]
                yield Problem(document.place(where), dotted(where), message, remedy)


def _repeated_names(document: Document, declared: Iterable[_Declared]) -> Iterator[Problem]:
    first: dict[str, FieldPath] = {}
    for one in declared:
        name, path = one.value["name"], [*one.path, "name"]
        before = first.setdefault(name, path)
        if before is not path:
            message = f"{shorten(name)} is the name of another check, at {document.place(before)}"
            yield Problem(document.place(path), dotted(path), message, "rename one of them")


def _prompt(check: _Declared) -> Iterator[Finding]:
    prompt, able = check.value.get("prompt"), check.capabilities
    if prompt is None:
        return
    for message, remedy in text_faults(prompt, "check"):
        yield ["prompt"], message, remedy
    if able and able.max_input_characters and len(check.preamble + prompt) > able.max_input_characters:
        yield ["prompt"], too_long(prompt, check.preamble, able), "shorten it"


def _expected_texts(check: _Declared) -> Iterator[Finding]:
    for kind, value in check.value.get("expect", {}).items():
        texts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, text in texts if kind != "matches" else ():
            path: FieldPath = ["expect", kind] if index is None else ["expect", kind, index]
            for message, remedy in text_faults(text, "check"):
                yield path, message, remedy


def _expression(check: _Declared) -> Iterator[Finding]:
    expression = check.value.get("expect", {}).get("matches")
    if expression is None:
        return
    try:
        compile_expression(expression)
    except ExpressionError as error:
        what, colon, part = str(error).partition(": ")
        remedy = next((remedy for start, remedy in _REMEDIES if what.startswith(start)), _SYNTAX)
        message = f"is no regular expression that RE2 takes: {what}{colon}{shorten(part)}"
        yield ["expect", "matches"], message, remedy


_RULES: tuple[Callable[[_Declared], Iterator[Finding]], ...] = (_prompt, _expected_texts, _expression)


def _check(declared: Mapping[str, Any], held_out: Mapping[str, HeldOut], leaks: Mapping[str, int]) -> Check:
    name, temperature = declared["name"], declared.get("temperature")
    expect, one = declared.get("expect"), held_out.get(name)
    return Check(
        name=name,
        prompt=declared.get("prompt", ""),
        expect=_expectation(expect) if expect else None,
        candidates=int(declared.get("candidates", 1)),
        min_pass=float(declared.get("minPass", 1)),
        temperature=None if temperature is None else float(temperature),
        evaluation=_evaluation(declared["dataset"], one, leaks.get(name, 0)) if one else None,
    )


def _expectation(declared: Mapping[str, Any]) -> Expectation:
    kind = next(kind for kind in _KINDS if kind in declared)
    value = declared[kind]
    return Expectation(kind, tuple(value if isinstance(value, list) else [value]))


def _evaluation(declared: Mapping[str, Any], held_out: HeldOut, leaks: int) -> Evaluation:
    sample, dataset = declared.get("sample"), held_out.dataset
    return Evaluation(
        path=dataset.path,
        digest=dataset.digest,
        examples=dataset.examples,
        minimum=float(declared["minimum"]),
        sample=None if sample is None else int(sample),
        leaked=leaks,
    )
