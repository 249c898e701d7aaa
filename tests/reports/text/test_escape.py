"""Hostile text is shown, and does nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.text import encodable, terminal_safe
from support.cases import each_row


@each_row(
    ("hostile", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b31m", r"\x9b31m"),
        ("one\r\ntwo\tthree", r"one\r\ntwo\tthree"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("line\u2028end", r"line\u2028end"),
        ("\ud800", r"\ud800"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("\x7f", r"\x7f"),
    ],
)
def test_what_steers_or_hides_is_written_out(hostile: str, shown: str) -> None:
    assert terminal_safe(hostile) == shown


@each_row("harmless", ["", "plain", "grün 数字 ٣", "क\u094d\u200cष", "👩\u200d🔬", "a\\nb", "wide\u3000space"])
def test_text_of_every_script_stays_as_it_is(harmless: str) -> None:
    assert terminal_safe(harmless) == harmless


@given(st.text(st.characters()))
def test_nothing_gets_through_that_could_break_a_line_or_an_encoder(text: str) -> None:
    safe = terminal_safe(text)
    assert safe.splitlines() in ([], [safe])
    assert "\x1b" not in safe
    safe.encode("utf-8")
    assert terminal_safe(safe) == safe


@each_row(
    ("text", "encoding", "shown"),
    [
        ("loss 7.21 → 5.14 ▇▆▅", "utf-8", "loss 7.21 → 5.14 ▇▆▅"),
        ("loss 7.21 → 5.14 ▇▆▅", "ascii", "loss 7.21 -> 5.14 "),
        ("3 \N{MULTIPLICATION SIGN} 2 … 数", "ascii", r"3 x 2 ... \u6570"),
        ("é", "latin-1", "é"),
    ],
)
def test_a_poor_encoding_gets_signs_that_it_has(text: str, encoding: str, shown: str) -> None:
    assert encodable(text, encoding) == shown


@given(st.text(), st.sampled_from(["ascii", "cp1252", "utf-8", "koi8-r"]))
def test_any_text_can_be_written_in_any_encoding(text: str, encoding: str) -> None:
    encodable(text, encoding).encode(encoding)
