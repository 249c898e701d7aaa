"""Label selectors in the syntax of Kubernetes: ``team=demo,tier in (gold, silver),!beta``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from reconciler.domain.document import NonEmpty, Record

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
_KEY: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?"
_VALUE: Final = r"[^\s,()!=]*"
_SET: Final = rf"\(\s*(?P<values>{_VALUE}(?:\s*+,\s*+{_VALUE})*+)\s*\)"
_REQUIREMENT: Final = (
    rf"\s*(?:!\s*(?P<absent>{_KEY})"
    rf"|(?P<key>{_KEY})(?:\s+(?P<set>in|notin)\s*{_SET}|\s*(?P<sign>==?|!=)\s*(?P<value>{_VALUE}))?)\s*(?:,|\Z)"
)
_OPERATORS: Final[Mapping[str, Operator]] = {"=": "In", "==": "In", "in": "In", "!=": "NotIn", "notin": "NotIn"}


class LabelRequirement(Record, frozen=True):
    """One condition on the labels of a manifest."""

    key: NonEmpty
    """The name of the label."""
    operator: Operator
    """`In` and `NotIn` compare the value; `NotIn` also accepts manifests without the label."""
    values: tuple[str, ...] = ()
    """The values of `In` and `NotIn`."""

    def matches(self, labels: Mapping[str, Any]) -> bool:
        """Whether labels meet the condition."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        return (labels.get(self.key) in self.values) is (self.operator == "In")


def parse_selector(text: str) -> tuple[LabelRequirement, ...]:
    """Return the conditions of a selector, all of which must be met; ``ValueError`` if it is invalid."""
    return tuple(_requirements(text))


def _requirements(text: str) -> Iterator[LabelRequirement]:
    requirement = re.compile(_REQUIREMENT)  # not at the import: every command has --label, and few get it
    at = 0
    while at < len(text) or not at or text[at - 1] == ",":
        found = requirement.match(text, at)
        if not found:
            raise ValueError(text)
        at = found.end()
        operator = found["set"] or found["sign"]
        if found["absent"]:
            yield LabelRequirement(found["absent"], "DoesNotExist")
        elif operator:
            values = re.split(r"\s*,\s*", found["values"]) if found["set"] else [found["value"]]
            yield LabelRequirement(found["key"], _OPERATORS[operator], tuple(values))
        else:
            yield LabelRequirement(found["key"], "Exists")
