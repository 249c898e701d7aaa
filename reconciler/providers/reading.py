"""Reading proto3 JSON from outside, liberally: defaults are left out, integers may come as strings or whole floats.

A time, number or text that is none counts as not told: it would spoil what is recorded, and decides nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from reconciler.core.model import Failure, Number, Source
from reconciler.providers.errors import clean

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_MAX_INTEGER = 2**53 - 1  # RFC 8259, section 6


def number(value: Any) -> Number | None:
    """A finite number, whole ones as ``int`` where a float holds them exactly."""
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(found):
        return None
    return int(found) if found.is_integer() and abs(found) <= _MAX_INTEGER else found


def integer(value: Any) -> int | None:
    """An integer, a string or a whole float, within what a float holds exactly; ``None`` for everything else."""
    found = number(value)
    return found if isinstance(found, int) else None


def text(value: Any) -> str:
    """Text as a file can hold it: JSON can spell lone surrogates."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def time(value: Any) -> str:
    """A time as the service wrote it; one that is no RFC 3339 time with a zone is unknown."""
    found = text(value)
    if not _RFC3339.fullmatch(found):
        return ""
    try:
        datetime.fromisoformat(found)
    except ValueError:  # the 30th of February
        return ""
    return found


def resource_name(value: Any) -> str:
    """The name of a model; raises ValueError when it is none."""
    if name := text(value):
        return name
    raise ValueError("no name")


def read_source(base_model: Any, tuned_model: Any) -> Source | None:
    """What a model was tuned from: a base model, else the tuned model of that name; ``None`` where nothing is told."""
    base, parent = text(base_model), text(tuned_model)
    return Source(base_model=base, remote="" if base else parent) if base or parent else None


def read_failure(error: Mapping[str, Any]) -> Failure:
    """The google.rpc.Status of what failed."""
    return Failure(code=integer(error.get("code")) or 0, message=clean(text(error.get("message"))) or "no reason given")
