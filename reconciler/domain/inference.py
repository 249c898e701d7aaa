"""Prompts and replies."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from reconciler.domain.document import Record
from reconciler.domain.model import Sampling


class Prompt(Struct, frozen=True):
    """A prompt: ``text`` is the whole input, including the preamble.

    Unset fields of ``sampling`` use the model's or the service's defaults. ``candidates`` is the number of answers, of
    at most ``max_tokens`` tokens each.
    """

    text: str
    sampling: Sampling = field(default_factory=Sampling)
    candidates: int = 1
    max_tokens: int | None = None


class Answer(Record, frozen=True):
    """One answer."""

    text: str
    """The answer, exactly as the service returned it; empty if there is none."""
    finish: Annotated[str, Meta(examples=["MAX_TOKENS", "SAFETY"])] = ""
    """The service's reason why the answer ended, if it did not end normally."""


class Reply(Struct, frozen=True):
    """The answers to a prompt; ``blocked`` is the service's reason for not answering, or empty."""

    answers: tuple[Answer, ...]
    blocked: str = ""
