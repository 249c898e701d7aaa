"""Remove examples, prompts and answers from messages, reports and lockfiles if a target requires it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from reconciler.domain.checks import CheckResults
from reconciler.domain.errors import Problem
from reconciler.domain.lock import Lock, LockedModel
from reconciler.domain.plan import TrainingCheck

if TYPE_CHECKING:
    from reconciler.planning.history import HistoryEntry

_CONFIDENTIAL: Final = re.compile(r"spec\.(dataset|checks|\w+\.validationDataset)\b")
_QUOTED: Final = (
    (re.compile(r'".*"', re.DOTALL), '"…"'),
    (re.compile(r'(invalid (?!regular )\S+ )[^\s":]+:'), r"\1…:"),
    (re.compile(r"(invalid regular expression: [^:]*).*", re.DOTALL), r"\1"),
    (re.compile(r"(to one of): .*", re.DOTALL), r"\1 the fields of the file"),
)
"""What messages quote: values, parts of regular expressions, and headers, which may be an example by mistake."""

_FAILURE: Final = re.compile(r"( fails): .*", re.DOTALL)


def hide_examples(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest without examples of data sets, and without prompts and expected answers of checks."""
    spec = manifest.get("spec")
    return {**manifest, "spec": dict(_shown_fields(spec))} if isinstance(spec, dict) else dict(manifest)


def _shown_fields(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in spec.items():
        if name == "checks":
            checks = value if isinstance(value, list) else []
            yield name, [{"name": check.get("name")} for check in checks if isinstance(check, dict)]
        elif isinstance(value, dict):
            yield name, {field: part for field, part in _shown_fields(value) if field != "examples"}
        else:
            yield name, value


def redact_report(report: CheckResults) -> CheckResults:
    """Return the results of checks without prompts and answers."""
    return replace(report, results=tuple(replace(result, misses=(), rows=()) for result in report.results))


def redact_lock(lock: Lock) -> Lock:
    """Return the lockfile without what can quote examples; the same object if it has nothing of it."""
    models = {name: redact_model(model) for name, model in lock.models.items()}
    same = all(models[name] is model for name, model in lock.models.items())
    return lock if same else replace(lock, models=models)


def redact_model(model: LockedModel) -> LockedModel:
    """Return the model without prompts, answers, and reasons of dropped examples; the same object if it has none."""
    for generation in model.generations:
        dropped = generation.dropped_examples
        if dropped and any(example.reason for example in dropped.sample):
            sample = tuple(replace(example, reason="") for example in dropped.sample)
            model = model.with_generation(replace(generation, dropped_examples=replace(dropped, sample=sample)))
    for generation in model.generations:
        if generation.checks and generation.checks.misses:
            checks = replace(generation.checks, misses=())
            model = model.with_generation(replace(generation, checks=checks))
    return model


def redact_history(generation: HistoryEntry) -> HistoryEntry:
    """Return a generation of a history with the numbers of changed examples only."""
    changes = generation.changes
    if changes is None or changes.examples is None:
        return generation
    from reconciler.planning.datasets import ExampleChanges

    counts = ExampleChanges(changes.examples.added, changes.examples.removed, changes.examples.changed)
    return replace(generation, changes=replace(changes, examples=counts))


def redact_problems(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the problems without any part of an example, a prompt or an expected answer."""
    for problem in problems:
        if _CONFIDENTIAL.match(problem.path):
            yield replace(problem, message=_redact(problem.message), remedy=_redact(problem.remedy))
        else:
            yield problem


def redact_check(check: TrainingCheck) -> TrainingCheck:
    """Return a check without the reasons why chat templates fail, which can quote an example."""
    faults = (
        replace(fault, message=_FAILURE.sub(r"\1", fault.message)) if fault.example else fault for fault in check.faults
    )
    return replace(check, faults=tuple(faults))


def _redact(text: str) -> str:
    for quoted, replacement in _QUOTED:
        text = quoted.sub(replacement, text)
    return text
