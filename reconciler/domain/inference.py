"""Asking a model: a prompt, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.domain.model import Sampling


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked: ``text`` is all that the model gets, its preamble included.

    What ``sampling`` leaves open is the model's own, or the service's. ``candidates`` answers are wanted, of at most
    ``max_tokens`` tokens each.
    """

    text: str
    sampling: Sampling = field(default_factory=Sampling)
    candidates: int = 1
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; ``finish`` is the service's word for why it ended, where that is not the ordinary way.

    ``MAX_TOKENS`` was cut short, ``SAFETY`` was withheld; then ``text`` may be empty.
    """

    text: str
    finish: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers to a prompt; ``blocked`` is the service's word for why it gave none, else empty."""

    answers: tuple[Answer, ...]
    blocked: str = ""
