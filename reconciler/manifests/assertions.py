"""Read the assertions of a check as promptfoo writes them, the metric of an evaluation, and the judge of both."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import rfc8785
from msgspec.structs import replace

from reconciler.domain.checks import Expectation, ExpectationKind, Judge, read_judge
from reconciler.domain.model import Capabilities
from reconciler.domain.text import invalid, shorten
from reconciler.manifests.datasets.records import text_problems
from reconciler.manifests.provider_fields import base_model_faults, full_base_model
from reconciler.manifests.schema_validation import Finding
from reconciler.manifests.yaml_parser import FieldPath
from reconciler.planning.check_metrics import (
    DEFAULT_THRESHOLDS,
    LONGEST_COMPARED,
    NEEDS_LIBRARY,
    ExpressionError,
    SchemaError,
    compile_expression,
    compile_schema,
)

BASE_PROMPTS = "basePrompts"
MISSING_JUDGE: Final = "missing field that llm-rubric requires"
_INSTALL: Final = "run `pip install 'tuned-model-reconciler[metrics]'`"
_RUBRIC: Final = "llm-rubric"
_GRADED: Final = frozenset({*DEFAULT_THRESHOLDS, _RUBRIC})
_KINDS: Final[Mapping[str, ExpectationKind]] = {
    "equals": "equals",
    "contains": "contains",
    "contains-any": "contains",
    "icontains": "icontains",
    "icontains-any": "icontains",
    "contains-all": "contains-all",
    "icontains-all": "icontains-all",
    "starts-with": "starts-with",
    "ends-with": "ends-with",
    "regex": "matches",
    "is-json": "json-schema",
    "json-schema": "json-schema",
    "similar": "similar",
    "bleu": "bleu",
    "chrf": "chrf",
    _RUBRIC: _RUBRIC,
}
_LISTS: Final = frozenset({"contains-any", "icontains-any", "contains-all", "icontains-all"})
_MAY_BE_LISTS: Final = frozenset({*_LISTS, "similar", "bleu", "chrf"})
_SYNTAX: Final = "fix the syntax, without look-around and back-references (github.com/google/re2/wiki/Syntax)"
_REMEDIES: Final = (
    ("pattern too large", "use smaller or fewer repetitions"),
    ("invalid repetition size", "use at most 1,000 repetitions in total"),
)
"""The remedies by how RE2's message starts."""


def expectations(declared: Sequence[Mapping[str, Any]]) -> tuple[Expectation, ...]:
    """Return the expectations of assertions without problems."""
    return tuple(map(_expectation, declared))


def _expectation(declared: Mapping[str, Any]) -> Expectation:
    name, negated = _type_of(declared)
    kind, value = _KINDS[name], declared.get("value", True)
    if name == "equals" and isinstance(value, list | dict):
        kind, value = "json-schema", {"const": value}
    values = [_canonical(value)] if kind == "json-schema" else value if isinstance(value, list) else [value]
    threshold = declared.get("threshold", DEFAULT_THRESHOLDS.get(kind))
    return Expectation(
        kind,
        tuple(map(_text, values)),
        None if threshold is None else float(threshold),
        negated=negated,
        weight=float(declared.get("weight", 1)),
    )


def _type_of(declared: Mapping[str, Any]) -> tuple[str, bool]:
    return declared["type"].removeprefix("not-"), declared["type"].startswith("not-")


def _canonical(schema: Any) -> str:
    return rfc8785.dumps(schema).decode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def assertion_findings(declared: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the errors in assertions that fit their schema; paths begin at the check."""
    for index, assertion in enumerate(declared):
        for path, message, remedy in _assertion(assertion):
            yield ["assert", index, *path], message, remedy
    if not any(assertion.get("weight", 1) for assertion in declared):
        yield ["assert"], "each weight is 0, so that every answer passes", "set the weight of one assertion"


def _assertion(declared: Mapping[str, Any]) -> Iterator[Finding]:
    name, _ = _type_of(declared)
    if "threshold" in declared:
        yield from threshold_findings(_KINDS[name], declared["threshold"], f"type {name}")
    if "value" in declared:
        yield from _value(name, declared["value"])
    elif name != "is-json":
        yield ["value"], "missing required field", "add it"
    yield from library_findings(_KINDS[name], ["type"])


def threshold_findings(kind: str, threshold: float, owner: str) -> Iterator[Finding]:
    """Yield an error if a kind has no score, or if every answer reaches the threshold."""
    if kind not in _GRADED:
        yield ["threshold"], f"{owner} has no score", f"remove it, or use one of {', '.join(sorted(_GRADED))}"
    elif threshold == 0 and kind != _RUBRIC:
        yield ["threshold"], "every answer has a score of at least 0", "increase it"


def library_findings(kind: str, path: FieldPath) -> Iterator[Finding]:
    """Yield an error if the library of a metric is not installed."""
    if kind in NEEDS_LIBRARY and importlib.util.find_spec("sacrebleu") is None:
        yield path, f"{kind} needs the package sacrebleu", _INSTALL


def _value(name: str, value: Any) -> Iterator[Finding]:
    if isinstance(value, str) and value.startswith("file://"):
        yield ["value"], "checks read no files", "write the contents here"
    elif _KINDS[name] == "json-schema" or (name == "equals" and isinstance(value, list | dict)):
        yield from _schema(value if _KINDS[name] == "json-schema" else {"const": value})
    elif name in _LISTS and not isinstance(value, list):
        yield ["value"], invalid(value, "a list of texts"), "write them as in [one, two]"
    elif isinstance(value, list) and (name not in _MAY_BE_LISTS or not value):
        yield ["value"], invalid(value, "one text" if value else "at least one text"), "set a text"
    else:
        texts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, text in texts:
            path: FieldPath = ["value"] if index is None else ["value", index]
            for message, remedy in _text_findings(name, text):
                yield path, message, remedy
        if isinstance(value, list) and _KINDS[name] in _GRADED:
            length = sum(len(_text(text)) for text in value)
            if length > LONGEST_COMPARED:  # the time of a metric grows with each reference
                yield ["value"], f"{length:,} characters exceed the limit of {LONGEST_COMPARED:,}", "remove texts"


def _text_findings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, str | int | float):
        yield invalid(value, "a text"), "set a text"
        return
    text = _text(value)
    if name == "regex":
        yield from expression_problems(text)
        return
    yield from text_problems(text, "assertion")
    if len(text) > LONGEST_COMPARED and _KINDS[name] in _GRADED:
        yield f"{len(text):,} characters exceed the limit of {LONGEST_COMPARED:,}", "shorten it"


def expression_problems(expression: str) -> Iterator[tuple[str, str]]:
    """Yield the message and the remedy for an invalid regular expression."""
    if not expression:
        yield "is empty", "fill it in, or delete the assertion"
        return
    try:
        compile_expression(expression)
    except ExpressionError as error:
        cause, colon, part = str(error).partition(": ")
        remedy = next((remedy for start, remedy in _REMEDIES if cause.startswith(start)), _SYNTAX)
        yield f"invalid regular expression: {cause}{colon}{shorten(part)}", remedy


def _schema(schema: Any) -> Iterator[Finding]:
    if not isinstance(schema, dict | bool):
        yield ["value"], invalid(schema, "a JSON Schema"), "write it as a mapping"
        return
    try:
        compile_schema(_canonical(schema))
    except SchemaError as error:
        yield ["value"], str(error), error.remedy
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        yield ["value"], f"not a JSON Schema: {shorten(str(error))}", "fix it (json-schema.org)"


def judge_of(check: Mapping[str, Any], default: Judge | None, capabilities: Capabilities | None) -> Judge | None:
    """Return the judge of a check with the full name of its base model; ``None`` if no rubric needs one."""
    judge = (read_judge(check.get("judge")) or default) if has_rubric(check) else None
    return replace(judge, model=full_base_model(judge.model, capabilities)) if judge and judge.model else judge


def judge_findings(
    check: Mapping[str, Any], default: Judge | None, capabilities: Capabilities | None
) -> Iterator[Finding]:
    """Yield the errors in the judge of a check, or that a rubric has none.

    Without ``capabilities`` the target is unknown, and so is its judge.
    """
    declared = check.get("judge")
    if not has_rubric(check):
        if declared:
            yield ["judge"], "no assertion and no metric is llm-rubric", "remove it"
        return
    judge = read_judge(declared) or default
    if judge and capabilities:
        for field, message, remedy in _judge_faults(judge, capabilities):
            yield ["judge", *([field] if declared and field else [])], message, remedy
    elif capabilities:
        remedy = "add judge: {model: NAME} to the check, or to spec of the target"
        yield ["judge"], MISSING_JUDGE, remedy
    if declared and "prompt" in declared:
        yield from (
            (["judge", "prompt"], message, remedy) for message, remedy in text_problems(declared["prompt"], "field")
        )
        if "{{" in declared["prompt"]:
            message = "contains {{, but has no variables: rubric, prompt and answer follow it"
            yield ["judge", "prompt"], message, "remove the variables"


def _judge_faults(judge: Judge, capabilities: Capabilities) -> Iterator[tuple[str, str, str]]:
    """Yield the field, the message and the remedy of what a service does not support in a judge."""
    if judge.model and BASE_PROMPTS not in capabilities.features:
        message = f"{capabilities.label} cannot send prompts to base models"
        yield "", message, "set judge.endpoint to a tuned model"
    elif judge.model:
        for message, remedy in base_model_faults(judge.model, capabilities):
            yield "model", message, remedy
    elif not re.fullmatch(capabilities.endpoint_pattern or capabilities.remote_pattern, judge.endpoint):
        expected = f"a name of {capabilities.label} in the project and location of the target"
        message = invalid(judge.endpoint, expected)
        yield "endpoint", message, "set judge.endpoint to a name that `reconcile resolve` prints"


def simulated_judge(check: Mapping[str, Any], default: Judge | None, capabilities: Capabilities | None) -> bool:
    """Return whether the judge of a check is a base model that only simulates answers, and gives no verdict."""
    judge = read_judge(check.get("judge")) or default
    return bool(capabilities and capabilities.simulated and judge and judge.model) and has_rubric(check)


def has_rubric(check: Mapping[str, Any]) -> bool:
    """Return whether a judge evaluates the answers of a declared check."""
    types = [assertion["type"].removeprefix("not-") for assertion in check.get("assert", ())]
    return _RUBRIC in [*types, check.get("dataset", {}).get("metric")]


def metric_findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the errors in the metric of a held-out data set; paths begin at the check."""
    metric = data.get("metric", "exactMatch")
    for path, message, remedy in (
        *(threshold_findings(metric, data["threshold"], f"metric {metric}") if "threshold" in data else ()),
        *library_findings(metric, ["metric"]),
    ):
        yield ["dataset", *path], message, remedy
    if "rubric" in data and metric != _RUBRIC:
        yield ["dataset", "rubric"], f"metric {metric} has no rubric", "remove it, or set metric: llm-rubric"
    elif "rubric" in data:
        yield from (
            (["dataset", "rubric"], message, remedy) for message, remedy in text_problems(data["rubric"], "field")
        )
