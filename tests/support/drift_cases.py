"""Scenarios for drift as data: what is declared, live and recorded as in the cases of the planner, and what is found.

A finding names its class with the generation that it is about, and what else there is to it::

    found:
      - Modified: one
        field: displayName
        declared: counter
        live: other
        since: 30

Digests, keys and times are written as the word of the data set, the name of the generation and the minutes after START.
``severity`` is said where it is not that of the class; ``cause``, and ``says`` and ``remedy``, which are parts of what
people read, where they matter. ``applied`` are the declared fields that the model had as declared after the last apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import convert
from msgspec.structs import replace

from reconciler.domain.drift import DriftClass, Finding
from reconciler.domain.model import Target
from reconciler.domain.plan import BaseModelChange
from reconciler.planning.diff import declared_fields
from reconciler.planning.drift import drift
from support.core_cases import SCOPE, Case, at, digest_of, job

CASES = Path(__file__).parent.parent / "planning" / "drift_cases"
TARGET = Target("default", "reconcile.yaml", "embedded", SCOPE)


class DriftCase(Case, frozen=True):
    """One scenario as its YAML gives it."""

    found: tuple[Mapping[str, Any], ...] = ()
    where: str = ""
    applied: tuple[str, ...] = ()
    unreadable: Mapping[str, str] | None = None
    changed: Mapping[str, BaseModelChange] | None = None

    def findings(self) -> tuple[Finding, ...]:
        world = self.world()
        unreadable = {self.made[alias].remote: why for alias, why in (self.unreadable or {}).items()}
        changed = convert(self.changed or {}, dict[str, BaseModelChange])
        observation = replace(world.observation, unreadable=unreadable, changed_base_models=changed)
        models = dict(world.lock.models)
        for manifest in world.manifests if self.applied else ():
            fields = {name: digest for name, digest in declared_fields(manifest).items() if name in self.applied}
            models[manifest.name] = replace(models[manifest.name], applied=fields)
        world = replace(world, lock=replace(world.lock, models=models))
        return drift(replace(world, observation=observation), where=self.where)

    def expected(self) -> list[dict[str, Any]]:  # type: ignore[override]  # what is found stands in the plan's place
        """The findings, with what a case need not say filled in."""
        return [self._finding(one) for one in self.found]

    def _finding(self, one: Mapping[str, Any]) -> dict[str, Any]:
        (kind,) = one.keys() & set(DriftClass)
        made = self.made.get(one[kind])
        remote = job(one["number"]) if "number" in one else one.get("remote", made.remote if made else "")
        return {
            "kind": kind,
            "severity": one.get("severity", DriftClass(kind).severity),
            "name": one.get("name", made.name if made else ""),
            "key": one.get("key", made.key if made else ""),
            "remote": remote,
            "field": one.get("field", ""),
            "declared": self._value(one, "declared"),
            "live": self._value(one, "live"),
            "since": at(one["since"]) if isinstance(one.get("since"), int) else one.get("since", ""),
        }

    def _value(self, one: Mapping[str, Any], side: str) -> Any:
        value, about = one.get(side), one.get("field", "")
        if value is None:
            return None
        if about == "dataset" and value in {"A", "B"}:
            return digest_of(value)
        if about == "createTime":
            return at(value)
        if about in {"generation", "source"}:
            return self.made[value].key
        return self.made[value].mark.spec if about == "ownership mark" and value in self.made else value


def facts(one: Finding) -> dict[str, Any]:
    """A finding without what is told in words, and where its manifest is."""
    names = ("severity", "name", "key", "remote", "field", "declared", "live", "since")
    return {"kind": str(one.kind), **{name: getattr(one, name) for name in names}}


def cases() -> dict[str, DriftCase]:
    """Every case by its file and its name."""
    return {
        f"{path.stem}: {name}": DriftCase(plan=[], **case)
        for path in sorted(CASES.glob("*.yaml"))
        for name, case in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader).items()
    }
