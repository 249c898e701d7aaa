"""Grade an answer by one expectation: texts, expressions, JSON Schemas and similarity, in bounded time."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import chain
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from reconciler.domain.checks import Expectation, ExpectationKind
from reconciler.domain.identity import normalize_newlines
from reconciler.domain.text import shorten

_MOST_INSTRUCTIONS: Final = 50_000
"""The largest program of an expression; a search takes at most this many steps for each character of the text."""
_MOST_STEPS: Final = 20_000
"""The largest number of keywords of a JSON Schema that are applied to one answer: less than a second."""
LONGEST_COMPARED: Final = 20_000
"""The most characters that a metric compares, because similarity takes the product of both lengths."""
_QUOTED_CHARACTERS: Final = 60

DEFAULT_THRESHOLDS: Final[Mapping[ExpectationKind, float]] = {"similar": 0.75, "bleu": 0.5, "chrf": 0.5}
"""The least scores of graded kinds, those of promptfoo where it has the kind."""
NEEDS_LIBRARY: Final = frozenset({"bleu", "chrf"})
"""The kinds that need sacrebleu."""


class Expression(Protocol):
    """A compiled expression."""

    def search(self, text: str) -> object | None:
        """Return a match or ``None``; the text must be valid UTF-8."""
        ...


class ExpressionError(ValueError):
    """The text is not a valid RE2 expression, or one that is too large; the message is the reason."""


@cache
def compile_expression(expression: str) -> Expression:
    """Return the compiled expression.

    Raises:
        ExpressionError: with the reason of the library.
    """
    # Imported here because most runs use no expressions.
    import re2  # type: ignore[import-untyped]  # the library has no types

    options = re2.Options()
    options.log_errors = False  # the library would write to standard error
    try:
        found = re2.compile(expression, options)
    except re2.error as error:
        reason: str | bytes = error.args[0]
        raise ExpressionError(reason.decode(errors="replace") if isinstance(reason, bytes) else reason) from None
    except UnicodeEncodeError:
        raise ExpressionError("unpaired surrogate") from None
    if found.programsize > _MOST_INSTRUCTIONS:
        raise ExpressionError("pattern too large")
    searchable: Expression = found
    return searchable


class SchemaError(ValueError):
    """The value is not a JSON Schema that checks support; the message is the reason, ``remedy`` what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        """Keep both texts."""
        super().__init__(reason)
        self.remedy = remedy


class _NotGradableError(Exception):
    """An answer passes neither an expectation nor its negation; the message is the reason."""


class _Steps(Struct):
    """How many more keywords may be applied to an answer."""

    left: int = _MOST_STEPS

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _NotGradableError("the JSON Schema takes too many steps for this answer")


_FIX: Final = "fix it (json-schema.org)"
_LITERAL: Final = frozenset({"const", "enum"})
"""Keywords whose values are not schemas."""
_BY_NAME: Final = frozenset({"$defs", "definitions", "dependencies", "dependentSchemas", "properties"})
"""Keywords whose values have schemas by name: ``const`` is a property there."""
_QUADRATIC: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})
"""Keywords for which the library compares each pair of members."""
_PAIRS: Final = 1000
"""The pairs of members that take as long as a step."""
_FURTHER: Final = frozenset({"definitions", "else", "then"})
"""Keywords with schemas that do nothing by themselves."""
_IDENTITY: Final = ("$schema", "$id", "id")
"""Keywords that choose a dialect, or begin another document."""


@cache
def compile_schema(text: str) -> Callable[[Any], str]:
    """Return a function that returns the first violation of a JSON Schema by a value; empty if it is valid.

    References to other documents are never fetched, and patterns have RE2's syntax.

    Raises:
        SchemaError: if the schema is invalid, or uses what cannot be evaluated safely.
    """
    # Imported here, because it takes longer than most commands.
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    schema = msgspec.json.decode(text)
    dialect = validator_for(schema, default=Draft202012Validator)
    try:
        error = next(dialect(dialect.META_SCHEMA).iter_errors(schema), None)
        if error:
            raise SchemaError(f"invalid JSON Schema: {error.json_path}: {shorten(error.message, 100)}", _FIX)
        if isinstance(schema, dict):  # with $schema, a reference to it would leave the keywords below
            schema = {name: part for name, part in schema.items() if name != "$schema"}
        known = {*dialect.VALIDATORS, *_FURTHER, *(["$defs"] if "unevaluatedItems" in dialect.VALIDATORS else [])}
        parts = list(_schemas(schema, known - _LITERAL))
        for part in parts:
            _require_supported(part, is_root=part is schema)
        _require_references(schema, parts)
    except RecursionError:
        raise SchemaError("nested too deeply", "simplify the schema") from None
    steps = _Steps()

    def counted(keyword: Callable[..., Any], validator: Any, value: Any, instance: Any, part: Any) -> Any:
        steps.spend(1)
        return keyword(validator, value, instance, part)

    def squared(keyword: Callable[..., Any], validator: Any, value: Any, instance: Any, part: Any) -> Any:
        steps.spend(len(instance) ** 2 // _PAIRS if isinstance(instance, dict | list) else 1)
        return keyword(validator, value, instance, part)

    keywords = {
        name: partial(squared if name in _QUADRATIC else counted, keyword)
        for name, keyword in dialect.VALIDATORS.items()
    }
    keywords |= {"pattern": partial(counted, _pattern), "uniqueItems": partial(counted, _unique_items)}
    bounded = extend(dialect, keywords)  # type: ignore[no-untyped-call] # the stubs leave the function untyped
    validator = bounded(schema, registry=Registry())

    def violation(value: Any) -> str:
        steps.left = _MOST_STEPS
        try:
            error = next(validator.iter_errors(value), None)
        except OverflowError:  # multipleOf with a number that is larger than any float
            raise _NotGradableError("a number of the answer is too large for the JSON Schema") from None
        return f"{error.json_path}: {error.message}" if error else ""

    return violation


def _schemas(value: Any, known: Container[str]) -> Iterator[Mapping[str, Any]]:
    """Yield every object that is a schema, in the values of known keywords."""
    if isinstance(value, dict):
        yield value
        for keyword, part in value.items():
            if keyword in known:
                parts = part.values() if keyword in _BY_NAME and isinstance(part, dict) else [part]
                yield from chain.from_iterable(_schemas(nested, known) for nested in parts)
    elif isinstance(value, list):
        yield from chain.from_iterable(_schemas(nested, known) for nested in value)


_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


def _require_supported(schema: Mapping[str, Any], *, is_root: bool) -> None:
    """Refuse what the library evaluates with its own keywords, or in another document than that of the checks."""
    for keyword in () if is_root else _IDENTITY:
        if isinstance(schema.get(keyword), str):
            raise SchemaError(f"{keyword} is only supported at the top of a JSON Schema", "remove it from the part")
    if "patternProperties" in schema:  # the library compiles its expressions with a backtracking engine
        raise SchemaError("patternProperties is not supported in checks", "list the names under properties")
    try:
        if isinstance(schema.get("pattern"), str):
            compile_expression(schema["pattern"])
    except ExpressionError as error:
        raise SchemaError(f"invalid pattern: {error}", "use RE2's syntax") from None


def _require_references(schema: Any, parts: Iterable[Mapping[str, Any]]) -> None:
    """Refuse references to other documents, and to definitions that do not exist or are not schemas."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    known = set(map(id, parts))
    for reference in (part[keyword] for part in parts for keyword in _REFERENCES if keyword in part):
        if not isinstance(reference, str):
            continue
        if not reference.startswith("#"):
            raise SchemaError(
                f"the reference {shorten(reference)} is another document, which checks do not fetch",
                "copy it to $defs, and refer to #/$defs/NAME",
            )
        try:
            found = resolver.lookup(reference).contents
        except Unresolvable:
            message = f"the reference {shorten(reference)} does not exist"
            raise SchemaError(message, "add its definition to $defs") from None
        if not isinstance(found, bool) and id(found) not in known:
            raise SchemaError(f"the reference {shorten(reference)} is not a JSON Schema", "move the schema to $defs")


def _pattern(_validator: Any, expression: str, value: Any, _schema: Any) -> Iterator[Exception]:
    from jsonschema import ValidationError

    if isinstance(value, str) and compile_expression(expression).search(value) is None:
        yield ValidationError(f"{shorten(value)!r} does not match {shorten(expression)!r}")


def _unique_items(_validator: Any, unique: Any, value: Any, _schema: Any) -> Iterator[Exception]:
    """Compare canonical texts, because the library compares each pair of objects; 1 and 1.0 are equal."""
    from jsonschema import ValidationError

    if unique and isinstance(value, list):
        texts = {msgspec.json.encode(_canonical(part), order="sorted") for part in value}
        if len(texts) < len(value):
            yield ValidationError("the items are not unique")


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_canonical(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Grade(Struct, frozen=True):
    """The result of one expectation: a score from 0 to 1, and why the answer fails, empty if it passes."""

    score: float
    reason: str = ""


def grade(expectation: Expectation, text: str) -> Grade:
    """Return the grade of an answer, without regard to surrounding whitespace and line endings.

    What cannot be evaluated in bounded time fails, also if it is negated.

    Raises:
        ExpressionError: if an expression is invalid, which validation prevents.
        SchemaError: if a JSON Schema is invalid, which validation prevents.
    """
    answer = plain(text)
    try:
        score, reason = _GRADERS[expectation.kind](answer, expectation)
    except _NotGradableError as error:
        return Grade(0.0, str(error))
    return decide(
        expectation, score, reason, passed=score >= (1.0 if expectation.threshold is None else expectation.threshold)
    )


def decide(expectation: Expectation, score: float, reason: str, *, passed: bool) -> Grade:
    """Return the grade for a score, and whether it is enough, both reversed if the expectation is negated."""
    if not expectation.negated:
        return Grade(score, "" if passed else reason)
    quoted = shorten(", ".join(expectation.values), _QUOTED_CHARACTERS)
    return Grade(1 - score, f"violates not-{expectation.kind}: {quoted}" if passed else "")


def plain(text: str) -> str:
    """Return the text with LF line endings, and without surrounding whitespace and unpaired surrogates.

    JSON can contain unpaired surrogates; RE2 and files cannot.
    """
    return normalize_newlines(text).strip().encode(errors="replace").decode()


_Grader = Callable[[str, Expectation], tuple[float, str]]
"""Takes a plain answer; returns its score, and why it fails if that is not enough."""


def _texts(wanted: str, test: Callable[[str, str], bool], *, every: bool = False) -> _Grader:
    """Return a grader that compares the answer with each text; ``every`` requires all of them."""

    def graded(answer: str, expectation: Expectation) -> tuple[float, str]:
        found = [test(answer, normalize_newlines(value)) for value in expectation.values]
        missing = [value for value, is_found in zip(expectation.values, found, strict=True) if not is_found]
        passed = all(found) if every else any(found)
        return float(passed), f"{wanted} {shorten(', '.join(missing), _QUOTED_CHARACTERS)}"

    return graded


def _metric(scores: Callable[[str, list[str]], float]) -> _Grader:
    """Return a grader by a metric, which takes the answer and all references."""

    def graded(answer: str, expectation: Expectation) -> tuple[float, str]:
        references = [plain(value) for value in expectation.values]
        longest = max(map(len, [answer, *references]))
        if longest > LONGEST_COMPARED:
            raise _NotGradableError(f"{longest:,} characters; {expectation.kind} compares at most {LONGEST_COMPARED:,}")
        score = min(1.0, max(0.0, scores(answer, references)))
        reference = shorten(", ".join(references), _QUOTED_CHARACTERS)
        return score, f"{expectation.kind} {score:.2f} with {reference}, {expectation.threshold:.4g} required"

    return graded


def _similarity(answer: str, references: list[str]) -> float:
    from rapidfuzz import fuzz

    return max(fuzz.ratio(answer, reference) for reference in references) / 100


def _corpus_metric(name: str, answer: str, references: list[str]) -> float:
    return float(_sentence_metric(name).sentence_score(answer, references).score) / 100


@cache
def _sentence_metric(name: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    # With the effective order, as sacrebleu recommends for sentences: a text of three words has no sequences of four.
    return BLEU(effective_order=True) if name == "bleu" else CHRF()


def _json(answer: str, expectation: Expectation) -> tuple[float, str]:
    try:
        value = msgspec.json.decode(answer)
        violation = compile_schema(expectation.values[0])(value)
    except msgspec.DecodeError as error:
        return 0.0, f"invalid JSON: {shorten(str(error), _QUOTED_CHARACTERS)}"
    except RecursionError:
        raise _NotGradableError("the JSON is nested too deeply") from None
    return float(not violation), f"violates the JSON Schema: {shorten(violation, _QUOTED_CHARACTERS)}"


def _equals(answer: str, value: str) -> bool:
    return answer == value.strip()


def _contains(answer: str, value: str) -> bool:
    return value in answer


def _icontains(answer: str, value: str) -> bool:
    return value.casefold() in answer.casefold()


_LACKS: Final = "does not contain"
_GRADERS: Final[Mapping[ExpectationKind, _Grader]] = {
    "equals": _texts("expected", _equals),
    "oneOf": _texts("expected one of", _equals),
    "contains": _texts(_LACKS, _contains),
    "icontains": _texts(_LACKS, _icontains),
    "contains-all": _texts(_LACKS, _contains, every=True),
    "icontains-all": _texts(_LACKS, _icontains, every=True),
    "starts-with": _texts("does not start with", lambda answer, value: answer.startswith(value.strip())),
    "ends-with": _texts("does not end with", lambda answer, value: answer.endswith(value.strip())),
    "matches": _texts("does not match", lambda answer, value: compile_expression(value).search(answer) is not None),
    "json-schema": _json,
    "similar": _metric(_similarity),
    "bleu": _metric(partial(_corpus_metric, "bleu")),
    "chrf": _metric(partial(_corpus_metric, "chrf")),
}
"""Every kind that needs no judge."""
