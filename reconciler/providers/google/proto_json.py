"""Read proto3 JSON: omitted defaults, and integers as numbers, strings or whole floats.

An invalid time, number or text counts as absent: no decision depends on it, and it must not be recorded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from reconciler.domain.model import Failure, Number, Source
from reconciler.domain.text import sanitize

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
_MAX_INTEGER = 2**53 - 1  # RFC 8259, section 6


def read_number(value: Any) -> Number | None:
    """Return a finite number, as ``int`` where it is whole and a float represents it exactly."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _MAX_INTEGER else number


def read_integer(value: Any) -> int | None:
    """Return an integer within the range that a float represents exactly; ``None`` for any other value."""
    number = read_number(value)
    return number if isinstance(number, int) else None


def read_text(value: Any) -> str:
    """Return text that UTF-8 can encode; lone surrogates, which JSON can spell, are replaced."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def read_time(value: Any) -> str:
    """Return an RFC 3339 time with a zone as the service wrote it; an empty string for any other value."""
    moment = read_text(value)
    if not _RFC3339.fullmatch(moment):
        return ""
    try:
        datetime.fromisoformat(moment)
    except ValueError:  # such as February 30
        return ""
    return moment


def read_name(value: Any) -> str:
    """Return the name of a resource; raises ValueError where it is missing."""
    if name := read_text(value):
        return name
    raise ValueError("missing name")


def read_source(base_model: Any, tuned_model: Any) -> Source | None:
    """Return the base model that a model was tuned from, else the tuned model; ``None`` where both are absent."""
    base, parent = read_text(base_model), read_text(tuned_model)
    return Source(base_model=base, remote="" if base else parent) if base or parent else None


def read_failure(error: Mapping[str, Any]) -> Failure:
    """Return the google.rpc.Status of a failed training or operation."""
    message = sanitize(read_text(error.get("message"))) or "no reason given"
    return Failure(code=read_integer(error.get("code")) or 0, message=message)
