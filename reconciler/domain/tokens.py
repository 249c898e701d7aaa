"""Estimate the tokens of texts without a tokenizer: quickly, from counts of bytes and words.

Tokenizers have a token for each frequent English word, and for parts of other words. So the estimate counts:

- a token for each frequent English word, digit, group of punctuation and end of line, and for the space before a
  number;
- a token for some letters of other words: more letters in English text and code, where more words have a token, than in
  other languages. The share of frequent English words shows which it is;
- some tokens for each character outside of ASCII, by the first byte that it has in UTF-8, which shows its script.

The rates are those of the tokenizer of SmolLM2, rounded, for messages of programs in 22 languages (the translations of
Debian's packages and of Django), and for documentation and modules of Python and Vim. Other tokenizers differ: one with
a larger vocabulary, such as Gemini's, probably has fewer tokens for languages other than English. That is assumed, and
was not measured.
"""

from __future__ import annotations

from typing import Final

_FREQUENT: Final = frozenset(
    b"""
    a able about above across add after again against ago air all almost along already also always among an and
    animal another answer any are area around as ask at away back ball base be became because become been before
    began begin behind being below best better between big black boat body book both box boy bring brought build
    built but buy by call called came can cannot car care carefully carry case certain change check children city
    class clear close code cold color come common complete contain correct could country course cover cut dark data
    day decided deep did different do does dog done door down draw dry during each early earth easy eat eight email
    end enough equation error even ever every example explain eye face fact fall false family far farm fast father
    feel few field figure file fill final find fine fire first fish five fly follow food foot for force form found
    four free friend from front full function game gave get girl give go gold good got government great green ground
    group grow had half hand happened hard has have he head hear heard heat heavy help her here high him himself his
    hold home horse hot hour house how hundred idea if import important in inches include inside into is island it
    its just keep kind king knew know land language large last late later learn leave left less let letter life
    light like line list listen little live long look love low machine made make man many map mark may me mean
    measure message might mile mind minutes miss money month moon more morning most mother mountain move much music
    must my name near need negative never new next nice night nine no north not note nothing notice noun now null
    number object of off often oh old on once one only open or order other our out over own page pair paper part
    pass pattern people perhaps person phone picture piece place plain plan plane plant play please point positive
    possible power press price problem produce product pull put question quick rain ran reach read ready real red
    remember rest return right river road rock room round rule run said same saw say school science sea second see
    seem self sentence service set seven several shape she ship short should show side simple since sing sit six
    size sleep slow small snow so some something song soon sound south space special spell stand star start state
    stay step still stood stop story street string strong study such sun sure surface system table take talk teach
    tell ten test text than thank that the their them then there these they thing think third this those though
    thought thousand three through time to today together told too took top toward town travel tree true try turn
    twelve twenty two type under understand unit until up upon us use used user usually value verb very voice wait
    walk want warm was watch water wave way we week well went were what wheel when where which while white who whole
    why will wind with without wood word words work world would write year yes yet you young your zero
    """.split()
)
"""Frequent English words; not those that are also frequent in German, such as ``die``."""
_TYPICAL_SHARE: Final = 0.35
"""The share of frequent words in English text."""

_ASCII_LETTERS: Final = bytes(code for code in range(128) if chr(code).isalpha())
_DIGITS: Final = b"0123456789"
_PUNCTUATION: Final = bytes(code for code in range(33, 127) if not chr(code).isalnum())
_NOT_LEADING: Final = bytes(range(0xC2))
"""ASCII, and the bytes that continue a character."""

_TO_WORDS: Final = bytes(
    code if code in _ASCII_LETTERS or not chr(code).isascii() else 32 for code in range(256)
).lower()
_TO_PUNCTUATION: Final = bytes(code if code in _PUNCTUATION else 32 for code in range(256))
_TO_NUMBERS: Final = bytes(48 if code in _DIGITS else code for code in range(256))

_LETTER: Final = 0.4
"""The tokens of a letter of another word, in other languages."""
_ENGLISH_WORD, _ENGLISH_LETTER = 0.37, 0.16
"""The tokens of another word and of each of its letters, in English text."""
_MORE_PUNCTUATION: Final = 0.36
"""The tokens of each further character of punctuation in a group."""
_CHARACTERS: Final = (
    (0xC2, 0xCA, 1.9),  # letters with accents
    (0xCA, 0xE0, 0.97),  # Greek, Cyrillic, Hebrew, Arabic
    (0xE0, 0xE1, 1.35),  # scripts of India, Thai
    (0xE1, 0xE2, 2.7),  # Vietnamese, Georgian
    (0xE2, 0xE3, 2.3),  # quotation marks, dashes, arrows
    (0xE3, 0xEA, 1.76),  # Chinese, Japanese
    (0xEA, 0xEE, 2.78),  # Korean
    (0xEE, 0xF0, 1.76),  # forms of double width
    (0xF0, 0x100, 3.0),  # emoji
)
_SCRIPTS: Final = tuple(
    (bytes(set(range(0xC2, 256)) - set(range(first, end))), rate) for first, end, rate in _CHARACTERS
)
"""The first bytes of the characters of all other scripts, and the tokens of a character of this one."""


_WHOLE: Final = 1_000_000
"""The characters that are all counted."""
_STEP: Final = 7
"""Of further texts, one of so many is counted; not a multiple of the texts of an example."""


class TokenCount:
    """The estimated tokens of the texts that were added: all of the first ones, and a sample of the others."""

    def __init__(self) -> None:
        self._first, self._sample = _Counts(), _Counts()
        self._first_length = self._other_length = self._others = 0

    def add(self, text: str, texts: int = 1) -> None:
        """Add a text, or several ``texts`` that are joined with line feeds; takes time linear in the length."""
        if self._first_length < _WHOLE:
            self._first_length += len(text)
            self._first.add(text, texts)
            return
        if self._others % _STEP == 0:
            self._sample.add(text, texts)
        self._others += 1
        self._other_length += len(text)

    @property
    def tokens(self) -> int:
        """The estimated number of tokens."""
        sampled = self._sample.tokens * self._other_length / (self._sample.length or 1)
        return round(self._first.tokens + sampled)


class _Counts:
    """What the estimate counts in texts."""

    def __init__(self) -> None:
        self.length = 0
        self._certain = 0.0
        self._words = self._frequent = self._other_words = self._other_letters = 0

    def add(self, text: str, texts: int) -> None:
        """Add a text, or several that are joined with line feeds."""
        self.length += len(text)
        data = text.encode("utf-8", "replace")
        words = data.translate(_TO_WORDS).split()
        frequent = list(filter(_FREQUENT.__contains__, words))
        letters = _count(data, _ASCII_LETTERS)
        groups = len(data.translate(_TO_PUNCTUATION).split())
        punctuation = _count(data, _PUNCTUATION)
        self._words += len(words)
        self._frequent += len(frequent)
        self._other_words += len(words) - len(frequent)
        self._other_letters += letters - sum(map(len, frequent))
        self._certain += (
            len(frequent)
            + _count(data, _DIGITS)
            + data.translate(_TO_NUMBERS).count(b" 0")
            + data.count(b"\n")
            - data.count(b"\n\n ")
            - (texts - 1)
            + groups
            + _MORE_PUNCTUATION * (punctuation - groups)
        )
        if not text.isascii():
            leading = data.translate(None, _NOT_LEADING)
            self._certain += sum(rate * len(leading.translate(None, skipped)) for skipped, rate in _SCRIPTS)

    @property
    def tokens(self) -> float:
        """The estimated number of tokens."""
        english = min(1.0, self._frequent / (self._words or 1) / _TYPICAL_SHARE)
        in_english = _ENGLISH_WORD * self._other_words + _ENGLISH_LETTER * self._other_letters
        in_others = _LETTER * self._other_letters
        return self._certain + english * in_english + (1 - english) * in_others


def estimate_tokens(*texts: str) -> int:
    """Return the estimated number of tokens of texts."""
    count = TokenCount()
    for text in texts:
        count.add(text)
    return count.tokens


def _count(data: bytes, kind: bytes) -> int:
    return len(data) - len(data.translate(None, kind))
