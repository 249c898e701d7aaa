"""Texts from services and for terminals, and the hosts of endpoints."""

from __future__ import annotations

from reconciler.domain.endpoints import is_host
from reconciler.domain.text import encodable, sanitize, terminal_safe
from support.cases import each_row


@each_row(
    ("text", "encoding", "shown"),
    [("a → b", "utf-8", "a → b"), ("café → b", "latin-1", "café -> b"), ("日", "ascii", r"\u65e5")],
)
def test_a_stream_gets_what_it_can_encode(text: str, encoding: str, shown: str) -> None:
    assert encodable(text, encoding) == shown


@each_row(
    ("received", "shown"),
    [("It failed.", "It failed"), ("a\n\x1b[2Jb\u202ec", "a [2Jb c"), ("x" * 700, "x" * 600 + "…")],
)
def test_a_text_of_a_service_is_one_short_line(received: str, shown: str) -> None:
    assert sanitize(received) == shown


def test_what_steers_a_terminal_is_escaped() -> None:
    assert terminal_safe("a\x1b\n\u202e") == r"a\x1b\n\u202e"


@each_row(
    ("netloc", "is_valid"),
    [
        ("localhost:8080", True),
        ("[::1]:8080", True),
        ("[::1]", True),
        ("[::1%eth0]", False),
        ("[not an address]", False),
        ("exa_mple.com", False),
        ("host:", False),
    ],
)
def test_the_host_of_an_endpoint(netloc: str, *, is_valid: bool) -> None:
    assert is_host(netloc) is is_valid
