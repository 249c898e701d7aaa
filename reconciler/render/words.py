"""Numbers, times and values as people read them."""

from __future__ import annotations

import json
import re
from typing import Final

from reconciler.render.safe import terminal_safe

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_SHOWN: Final = len("sha256:") + 8
_VALUE_SHOWN: Final = 120
_BYTES: Final = ("B", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1000
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def counted(amount: int, noun: str, plural: str = "") -> str:
    """``1 model``, ``2 models``; ``plural`` is given where it does not end in s."""
    return f"{amount} {noun if amount == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A rough duration: ``40 s``, ``5 min``, ``3 h``; each unit from two of it on."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.0f} h"


def age(seconds: float) -> str:
    """How old something is, roughly: ``5 min``, ``3 h``, and in days from two on: ``40 d``."""
    return duration(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:.0f} d"


def elapsed(seconds: float) -> str:
    """A measured duration: ``0.2 s``, ``5 min 3 s``."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s"


def clock_time(seconds: float) -> str:
    """A time left as a clock shows it: ``0:11``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def minute(time: str) -> str:
    """An RFC 3339 time cut to minutes: ``2026-01-31 12:34``."""
    return time[: len("2026-01-31T12:34")].replace("T", " ")


def share(value: float) -> str:
    """A share as a percentage of three digits: ``92.3 %``."""
    return f"{100 * value:.3g} %"


def size(amount: int) -> str:
    """A number of bytes in the largest decimal unit of which there is one: ``12 MB``."""
    unit = max(unit for unit in range(len(_BYTES)) if not unit or amount >= _THOUSAND**unit)
    return f"{amount / _THOUSAND**unit:.3g} {_BYTES[unit]}"


def loss(value: float | str) -> str:
    """A loss with two decimals, or in powers of ten where two decimals say nothing; ``nan`` and ``inf`` as they are."""
    number = float(value)
    plain = number == 0 or 0.01 <= abs(number) < 1e6  # noqa: PLR2004 - the range in which two decimals are readable
    return f"{number:.2f}" if plain else f"{number:.1e}"


def steps_and_loss(steps: int | None, final_loss: float | str | None) -> str:
    """``23 steps, final loss 3.80``, as far as they are known."""
    parts = [counted(steps, "step")] if steps is not None else []
    parts += [f"final loss {loss(final_loss)}"] if final_loss is not None else []
    return ", ".join(parts)


def value(one: object) -> str:
    """A value of a field, on one line: digests cut short, text that is more than a word in quotes."""
    if one is None:
        return "unset"
    if not isinstance(one, str):
        return json.dumps(one)
    if _DIGEST.fullmatch(one):
        return f"{one[:_DIGEST_SHOWN]}…"
    bare = one if re.fullmatch(r"\S+", one) else json.dumps(one, ensure_ascii=False)
    return terminal_safe(bare if len(bare) <= _VALUE_SHOWN else f"{bare[:_VALUE_SHOWN]}…")
