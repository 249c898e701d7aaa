"""How long the simulated training takes."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_STEP_SECONDS = 1.65
DEFAULT_OVERHEAD_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The pace of the simulated training, fixed for a model when it is created.

    ``step_seconds`` is the time of one training step, ``overhead_seconds`` what start and end take together.
    """

    step_seconds: float = DEFAULT_STEP_SECONDS
    overhead_seconds: float = DEFAULT_OVERHEAD_SECONDS


DEFAULT_SETTINGS = Settings()
