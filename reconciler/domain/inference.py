"""Prompts and replies."""

from __future__ import annotations

from msgspec import Struct, field

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


class Answer(Struct, frozen=True):
    """One answer; ``finish`` is the service's finish reason unless the answer is complete.

    ``MAX_TOKENS`` was cut short, ``SAFETY`` was withheld; then ``text`` can be empty.
    """

    text: str
    finish: str = ""


class Reply(Struct, frozen=True):
    """The answers to a prompt; ``blocked`` is the service's reason for not answering, or empty."""

    answers: tuple[Answer, ...]
    blocked: str = ""
