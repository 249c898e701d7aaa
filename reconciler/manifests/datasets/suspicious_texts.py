"""Recognize texts that probably do not belong into training data: secrets, personal data, and broken encodings.

One pass of RE2, in linear time, decides whether a text has any of them; only then is each candidate examined.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, Literal

from msgspec import Struct

SuspicionKind = Literal["secret", "personalData", "brokenText"]

_CONTINUATION: Final = "[\\x80-\\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"  # noqa: RUF001 - what the bytes 80 to BF are in windows-1252
_CYRILLIC: Final = r"\x{0400}-\x{052F}"
_SAMPLE_VALUE: Final = re.compile(r"(?i)your|example|placeholder|changeme|dummy|[<$%{*]|(.)\1{5}")
_VALUE: Final = re.compile(r"(?:[:=]|\bis\b)\s*[\"']?(\S+)$")
_SPACES: Final = re.compile(r"[ -]")


class Suspicion(Struct, frozen=True):
    """One kind of suspicious text: its name for users, the expression that finds candidates, and what confirms one."""

    kind: SuspicionKind
    name: str
    pattern: str
    confirm: Callable[[str], bool] = lambda _text: True


def _is_value(text: str) -> bool:
    """Return whether the value of an assignment is like a generated or chosen one, and not a word or a placeholder."""
    found = _VALUE.search(text)
    value = found[1] if found else ""
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return mixed and not _SAMPLE_VALUE.search(value)


def _is_card(text: str) -> bool:
    from stdnum import luhn

    return luhn.is_valid(_SPACES.sub("", text))


def _is_iban(text: str) -> bool:
    """Return whether a text begins with an IBAN; words in capitals may follow it."""
    from stdnum import iban

    words = text.split(" ")
    return any(iban.is_valid("".join(words[:length])) for length in range(len(words), 0, -1))


def _is_social_security_number(text: str) -> bool:
    from stdnum.us import ssn

    return ssn.is_valid(text)


def _is_decoded_with(encoding: str) -> Callable[[str], bool]:
    """Return a check whether a text is UTF-8 that was decoded with another encoding."""

    def check(text: str) -> bool:
        try:
            # windows-1252 has no characters for five bytes, which decoders write as control characters
            data = b"".join(
                character.encode("latin-1") if "\x80" <= character <= "\x9f" else character.encode(encoding)
                for character in text
            )
            return len(data.decode()) < len(text)
        except UnicodeError:
            return False

    return check


SUSPICIONS: Final = (
    Suspicion("secret", "an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    Suspicion("secret", "a Google API key", r"\bAIza[0-9A-Za-z_-]{35}"),
    Suspicion("secret", "a Google OAuth token", r"\bya29\.[0-9A-Za-z_-]{20,}"),
    Suspicion("secret", "a GitHub token", r"\b(?:gh[oprsu]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{36,})"),
    Suspicion("secret", "a GitLab token", r"\bglpat-[0-9A-Za-z_-]{20,}"),
    Suspicion("secret", "a Slack token", r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}"),
    Suspicion("secret", "a Stripe key", r"\b(?:sk|rk)_live_[0-9A-Za-z]{16,}"),
    Suspicion("secret", "an API key of OpenAI or Anthropic", r"\bsk-[0-9A-Za-z_-]{20,}"),
    Suspicion("secret", "a Hugging Face token", r"\bhf_[0-9A-Za-z]{30,}"),
    Suspicion("secret", "an npm or PyPI token", r"\b(?:npm_[0-9A-Za-z]{36}|pypi-[0-9A-Za-z_-]{50,})"),
    Suspicion("secret", "a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"),
    Suspicion("secret", "a JSON Web Token", r"\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}"),
    Suspicion("secret", "a URL with a password", r"\b[a-z][a-z0-9+.-]{1,20}://[^/\s:@\"']+:[^/\s:@\"']+@[^\s@]"),
    Suspicion(
        "secret",
        "a password or key",
        r"(?i)(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key)[\w-]*[\"']?(?:\s*[:=]|\s+is\s)\s*[\"']?[^\s\"',;]{8,}",
        _is_value,
    ),
    Suspicion(
        "personalData", "an email address", r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b"
    ),
    Suspicion(
        "personalData",
        "a phone number",
        r"\+[1-9](?:[ ().\-/]{0,2}[0-9]){7,14}\b|\(?\b[2-9][0-9]{2}\)?[-. ] ?[2-9][0-9]{2}[-. ][0-9]{4}\b",
    ),
    Suspicion("personalData", "an IBAN", r"\b[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,4})?\b", _is_iban),
    Suspicion(
        "personalData",
        "a payment card number",
        r"\b(?:[2-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,7}|3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5})\b",
        _is_card,
    ),
    Suspicion(
        "personalData",
        "a US social security number",
        r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
        _is_social_security_number,
    ),
    Suspicion("brokenText", "the replacement character U+FFFD", r"\x{FFFD}"),
    Suspicion(
        "brokenText", "control characters in place of text", r"[\x01-\x08\x0b\x0e-\x1f\x{80}-\x{84}\x{86}-\x{9F}]"
    ),
    Suspicion(
        "brokenText",
        "UTF-8 that was read as windows-1252",
        rf"[ÂÃ]{_CONTINUATION}|[âã]{_CONTINUATION}{{2}}|ð{_CONTINUATION}{{3}}",
        _is_decoded_with("cp1252"),
    ),
    Suspicion(
        "brokenText",
        "UTF-8 that was read as windows-1252",
        rf"(?:[ÄÅÎÏÐÑ×ØÙ]{_CONTINUATION}){{2,}}|(?:[à-ï]{_CONTINUATION}{{2}}){{2,}}",  # noqa: RUF001 - a sign
        _is_decoded_with("cp1252"),
    ),
    Suspicion(
        "brokenText",
        "UTF-8 that was read as windows-1251",
        rf"(?:[РС][{_CYRILLIC}\x{{201A}}ѓ„…†‡€‰‹‘’“”•–—™›°±µ¶·№»«]){{4,}}",  # noqa: RUF001 - Cyrillic letters
        _is_decoded_with("cp1251"),
    ),
    Suspicion(
        "brokenText", "UTF-8 that was read as Mac Roman", r"√[^\s\w]|\x{201A}Ä[^\s\w]", _is_decoded_with("mac_roman")
    ),
    Suspicion("brokenText", "Latin and Cyrillic letters in one word", rf"[A-Za-z][{_CYRILLIC}]|[{_CYRILLIC}][A-Za-z]"),
)
"""What is recognized, in the order of reports. Tokens have the formats that their issuers document."""


@cache
def _compiled() -> tuple[Any, tuple[Any, ...]]:
    import re2  # type: ignore[import-untyped]  # the library has no types

    found = re2.Set.SearchSet()
    for suspicion in SUSPICIONS:
        found.Add(suspicion.pattern)
    found.Compile()
    return found, tuple(re2.compile(suspicion.pattern) for suspicion in SUSPICIONS)


def suspicions(data: bytes) -> Iterator[Suspicion]:
    """Yield what is suspicious in a text in UTF-8."""
    whole, single = _compiled()
    found = whole.Match(data)
    if not found:
        return
    text = data.decode()
    for index in found:
        suspicion = SUSPICIONS[index]
        if any(suspicion.confirm(candidate.group()) for candidate in single[index].finditer(text)):
            yield suspicion
