"""Read ``spec.stages`` of a target: the pointers to which a generation is promoted, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from reconciler.domain.checks import Check, read_judge
from reconciler.domain.errors import Problem
from reconciler.domain.model import REMOTE_SCHEME, Capabilities, Stage, Target
from reconciler.domain.text import quote, shorten, suggest
from reconciler.manifests.provider_fields import duration, full_base_model, mapping
from reconciler.manifests.schema_validation import Finding, has_problem
from reconciler.manifests.yaml_parser import FieldPath, YamlDocument

Stages = Sequence[Mapping[str, Any]]


def stage_faults(spec: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    """Yield what a schema cannot express about the stages of a target file in this directory.

    The spec may violate its schema.
    """
    declared = spec.get("stages")
    if not isinstance(declared, list):
        return
    stages = [mapping(stage) for stage in declared]
    if "publish" in spec:
        remedy = "move it to spec.stages[].publish, because each stage has its own pointer"
        yield ["spec", "publish"], "not supported together with spec.stages", remedy
    for rule in _RULES:
        for path, message, remedy in rule(stages):
            yield ["spec", "stages", *path], message, remedy
    for path, message, remedy in _shared_pointers(stages, folder):
        yield ["spec", "stages", *path], message, remedy


def _names(stages: Stages) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, name in _texts(stages, "name"):
        earlier = first.setdefault(name, index)
        if earlier != index:
            message = f"duplicate name {quote(name)} (first used by spec.stages[{earlier}])"
            yield [index, "name"], message, "rename one of the stages"


def _order(stages: Stages) -> Iterator[Finding]:
    """Yield the errors in ``after``: all stages but the first one follow one that is declared before them."""
    names = [stage.get("name") for stage in stages]
    for index, stage in enumerate(stages):
        before = [name for name in names[:index] if isinstance(name, str)]
        if index and "after" not in stage:
            previous = shorten(before[-1]) if before else "NAME"
            message = "missing required field: only the first stage follows no other one"
            yield [index, "after"], message, f"add after: {previous}, or the name of another stage above"
    for index, after in _texts(stages, "after"):
        before = [name for name in names[:index] if isinstance(name, str)]
        if index == 0:
            remedy = "remove the field, or move the stage below the one that it follows"
            yield [0, "after"], "the first stage follows no other one", remedy
        elif after == names[index]:
            yield [index, "after"], "a stage cannot follow itself", "set the name of a stage above"
        elif after in names[index:]:
            yield [index, "after"], f"{quote(after)} is declared below this stage", "move this stage below it"
        elif after not in before:
            yield [index, "after"], f"no stage is named {quote(after)}", suggest(after, before, otherwise=_ABOVE)


def _check_names(stages: Stages) -> Iterator[Finding]:
    """Yield the errors in equal names of the checks of a stage, which may be invalid in other ways."""
    for index, stage in enumerate(stages):
        checks = stage.get("checks")
        first: dict[str, int] = {}
        for number, name in _texts([*map(mapping, checks)] if isinstance(checks, list) else [], "name"):
            earlier = first.setdefault(name, number)
            if earlier != number:
                message = f"duplicate name {quote(name)} (first used by spec.stages[{index}].checks[{earlier}])"
                yield [index, "checks", number, "name"], message, "rename one of the checks"


_ABOVE = "set the name of a stage above"


def _soak(stages: Stages) -> Iterator[Finding]:
    if stages and "soak" in stages[0]:
        yield [0, "soak"], "the first stage has no stage before it to wait for", "remove it"


def _texts(stages: Stages, field: str) -> Iterator[tuple[int, str]]:
    """Yield the index and the value of a field of each stage that has it as a text."""
    for index, stage in enumerate(stages):
        if isinstance(value := stage.get(field), str):
            yield index, value


def _shared_pointers(stages: Stages, folder: Path) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, publish in _texts(stages, "publish"):
        if not publish or "\0" in publish:
            continue
        destination = publish if publish.startswith(REMOTE_SCHEME) else os.path.realpath(folder / publish)
        earlier = first.setdefault(destination, index)
        if earlier != index:
            message = f"spec.stages[{earlier}] publishes its pointer to this path too"
            yield [index, "publish"], message, "set a different path in each stage"


_RULES: tuple[Callable[[Stages], Iterator[Finding]], ...] = (_names, _order, _soak, _check_names)


def read_stages(document: YamlDocument, found: Sequence[Problem]) -> tuple[tuple[Stage, ...], tuple[Problem, ...]]:
    """Return the stages of a target without a problem in ``found``, and the problems in their checks."""
    spec = mapping(document.value.get("spec"))
    declared = spec.get("stages", [])
    if has_problem("spec.stages", found) or has_problem("spec.judge", found) or not isinstance(declared, list):
        return (), ()
    stages: list[Stage] = []
    problems: list[Problem] = []
    for index, stage in enumerate(declared):
        checks, check_problems = _checks(document, ["spec", "stages", index, "checks"], spec, stage)
        problems += check_problems
        stages.append(
            Stage(
                name=stage["name"],
                after=stage.get("after", ""),
                soak=duration(stage.get("soak")),
                checks=checks,
                publish=stage.get("publish", ""),
            )
        )
    return tuple(stages), tuple(problems)


def _checks(
    document: YamlDocument, path: FieldPath, spec: Mapping[str, Any], stage: Mapping[str, Any]
) -> tuple[tuple[Check, ...], tuple[Problem, ...]]:
    if not stage.get("checks"):
        return (), ()
    # Imported here, because the reader of checks imports that of data sets, which commands without a manifest omit.
    from reconciler.manifests.checks import read_stage_checks

    checks = read_stage_checks(document, path, read_judge(spec.get("judge")))
    return checks.checks, checks.problems


def with_judges(target: Target, capabilities: Capabilities) -> Target:
    """Return the target with the full names of the base models that evaluate the checks of its stages."""

    def full(check: Check) -> Check:
        judge = check.judge
        if judge is None or not judge.model:
            return check
        return replace(check, judge=replace(judge, model=full_base_model(judge.model, capabilities)))

    stages = (replace(stage, checks=tuple(map(full, stage.checks))) for stage in target.stages)
    return replace(target, stages=tuple(stages))
