"""One list of the characters that do not reach a reader, and the outputs that escape them."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from typing import Any

import pytest

from reconciler.domain.document import Record, escape_unseen, json_text
from reconciler.domain.text import JOINERS, UNSEEN, sanitize, terminal_safe
from support.cases import each_row

HOSTILE = "\x7f\x9b\x85\u202e\u2066\u200b\u200d\u00ad\u2028\u3164\ufe01\ufeff\U000e0041\U000e0100"
IGNORED = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180f\u2065\u3164\ufe00\ufe0f\uffa0\ufff0\U000e0000\U000e0100\U000e0fff"


class _Text(Record, frozen=True):
    text: str


def test_the_list_has_every_character_that_unicode_calls_a_control_or_a_format() -> None:
    unseen = re.compile(f"[{UNSEEN}]")
    every = map(chr, range(sys.maxunicode + 1))
    categories = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    missing = [character for character in every if unicodedata.category(character) in categories]
    assert [f"U+{ord(character):04X}" for character in missing if not unseen.match(character)] == []
    assert all(map(unseen.match, IGNORED))
    assert not unseen.search("plain grün 数字 ٣ \u3000 e\u0301 😀")


@each_row("character", HOSTILE)
def test_json_escapes_it_and_means_the_same(character: str) -> None:
    written = json_text(_Text(f"a{character}b"))
    assert written.isascii()
    assert "\\u" in written
    assert json.loads(written) == {"text": f"a{character}b"}


def test_json_keeps_the_text_of_every_script() -> None:
    text = "grün 数字 ٣ 😀"
    assert text in json_text(_Text(text))
    assert escape_unseen('{\n  "a": "b"\n}') == '{\n  "a": "b"\n}'


@pytest.mark.parametrize("show", [terminal_safe, sanitize])
def test_text_for_people_has_only_joiners_of_them(show: Any) -> None:
    assert not re.search(f"(?![{JOINERS}])[{UNSEEN}]", show(f"a{HOSTILE}b"))
    assert "क\u094d\u200cष 👩\u200d🔬 ❤\ufe0f" in show("क\u094d\u200cष 👩\u200d🔬 ❤\ufe0f")
