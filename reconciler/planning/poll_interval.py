"""The poll interval: how long a run waits before it looks at a training again."""

from __future__ import annotations

from reconciler.domain.model import Capabilities

POLLS_PER_TRAINING = 20
SLOWEST_SECONDS = 30.0
FASTEST_SECONDS = 2.0
FASTEST_SIMULATED_SECONDS = 0.1
SLOWEST_SIMULATED_SECONDS = 1.0
"""Polling the embedded service costs no network, so the display is smooth."""


def poll_delay(left: float | None, waited: float, capabilities: Capabilities) -> float:
    """Return the seconds until the next poll: about twenty polls per training, more often if it costs nothing.

    Without an estimate (``left`` is ``None``) the pause grows with the time already ``waited``.
    """
    fastest, slowest = (
        (FASTEST_SIMULATED_SECONDS, SLOWEST_SIMULATED_SECONDS)
        if capabilities.simulated
        else (FASTEST_SECONDS, SLOWEST_SECONDS)
    )
    pause = (waited if left is None else left) / POLLS_PER_TRAINING
    return min(max(pause, fastest), slowest)
