"""Remove known secrets from all text that leaves the process.

Messages do not quote secrets in the first place. This is the second line: a service may repeat a token in an error, and
a secret may be in a variable that is for something else. A run knows the secrets of its environment, and adds the
tokens that it gets and the credentials that it reads. Each is found in its common encodings too.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TextIO

_HIDDEN: Final = "[secret]"
_ENCODING: Final = ("utf-8", "surrogatepass")
_SHORTEST: Final = 8
"""The characters of a secret at least; a shorter one would remove ordinary words."""
_PIECE: Final = 16
"""The characters that identify a long secret: the rest may be cut off, or be in another line or part of a path."""
_LONGEST: Final = 2**14
_SECRET_VARIABLE: Final = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE_?KEY|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_SECRET_MEMBER: Final = re.compile(
    r"(?!.*(_uri|_url|_id|_type|_lifetime)$).*(token|secret|password|private_?key|api_?key|assertion|authorization|cookie"
    r"|identity-header)",
    re.IGNORECASE,
)
"""Names of members of JSON, the headers in the credentials of an external account among them."""
_SCHEME: Final = re.compile(r"(Basic|Bearer)\s+", re.IGNORECASE)
"""What precedes the secret in an Authorization header."""
_SECRET_SHAPE: Final = re.compile(
    r"(?<![\w/.-])(?:ya29\.|1//|AIza|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|eyJ[\w-]{8,}\.)(?=[^\s\"',;]*\d)"
    r"[^\s\"',;]{16,}"
)
"""Tokens by their usual beginnings, as whole words."""
_KEY_FILE: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\"(private_key|refresh_token|client_secret|access_token)\""
)
_FREE_TEXTS: Final = frozenset({"answer", "message", "notices", "prompt", "rejection"})
"""Fields of documents that a service or a model can fill with anything."""
_FILE_PATH: Final = re.compile(r"[~./].*\.\w{1,5}|[^\s\"'{}\[\]]+\.json", re.DOTALL)
_PASSWORD: Final = re.compile(r"://[^/@\s:]*:([^@\s]+)@")
_USER_INFO: Final = re.compile(r"(://)[^/@\s]+@")
_SECRET_PARAMETER: Final = re.compile(
    r"([?&][^=&#\s]*(?:token|secret|passw|credential|signature|api_?key|access_?key|\bkey|\bsig)[^=&#\s]*=)[^&#\s]+",
    re.IGNORECASE,
)
"""Parameters of addresses, such as those of signed ones."""
_RUN: Final = re.compile(rf"[A-Za-z0-9+/=_.~-]{{{_PIECE},}}")


class Secrets:
    """The secrets that a run has seen."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: dict[str, None] = {}
        self._forms: dict[str, set[str]] = {}
        self._pattern: Any = None
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Add a secret: a text, or JSON with members that are secret."""
        new = [part for part in _parts(secret) if part not in self._known]
        if new:
            self._known |= dict.fromkeys(new)
            self._pattern = None

    def redact(self, text: str) -> str:
        """Return the text without the secrets."""
        if not self._known:
            return text
        if self._pattern is None:
            forms = {form for secret in self._known for form in _forms(secret)}
            self._forms = {}
            for form in forms:
                self._forms.setdefault(form[:_PIECE], set()).add(form)
            self._pattern = _compile(map(_start, forms))
        shown, end = [], 0
        for start, found in _find(self._pattern, text):
            if start < end or _is_escaped(text, start):
                continue
            shown += [text[end:start], _HIDDEN]
            rest = text[start : start + _LONGEST]
            end = start + max(_same(rest, form) for form in self._forms[found[:_PIECE]])
            end -= _is_escaped(text, end)
        return "".join([*shown, text[end:]]) if shown else text


def _compile(texts: Iterable[str]) -> Any:
    """Return a pattern that finds the longest of the texts, in one pass however many they are: a key file has hundreds.

    It is for bytes, because the library counts their positions, and cannot encode halves of surrogate pairs.
    """
    import re2  # type: ignore[import-untyped]  # the library has no types

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    longest_first = sorted(dict.fromkeys(texts), key=len, reverse=True)
    return re2.compile(b"|".join(re2.escape(text.encode(*_ENCODING)) for text in longest_first), options)


def _find(pattern: Any, text: str) -> Iterator[tuple[int, str]]:
    """Yield position and text of each match of a pattern for bytes."""
    data = text.encode(*_ENCODING)
    position = read = 0
    for found in pattern.finditer(data):
        position += len(data[read : found.start()].decode(*_ENCODING))
        read = found.start()
        yield position, found[0].decode(*_ENCODING)


def _is_escaped(text: str, position: int) -> bool:
    """Whether a backslash before this position escapes the character there, as in JSON."""
    start = position
    while start and text[start - 1] == "\\":
        start -= 1
    return (position - start) % 2 == 1


def _start(form: str) -> str:
    return form[:_PIECE] if len(form) >= _PIECE + _SHORTEST else form


def _same(text: str, form: str) -> int:
    """Return how many characters two texts have in common at their start."""
    return next(
        (index for index, pair in enumerate(zip(text, form, strict=False)) if pair[0] != pair[1]),
        min(len(text), len(form)),
    )


def _parts(secret: str) -> Iterator[str]:
    """Yield the texts to look for: the members of JSON that are secret, else the text, its lines and long runs."""
    text = secret.strip().strip("\"'").strip()
    try:
        document = json.loads(secret)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict | list):
        for member in _members(document, secret=False):
            yield from _parts(member)
        return
    if len(text) < _SHORTEST:
        return
    if not text.startswith("-----"):
        yield text
    pieces = [*text.splitlines(), *text.split("/"), *_RUN.findall(text)]
    yield from (piece for piece in pieces if len(piece) >= _PIECE and not piece.startswith("-----"))


def _members(value: Any, *, secret: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _members(member, secret=_SECRET_MEMBER.match(str(name)) is not None)
    elif isinstance(value, list):
        for member in value:
            yield from _members(member, secret=secret)
    elif secret and isinstance(value, str):
        yield value
        if scheme := _SCHEME.match(value):
            yield value[scheme.end() :]


def _forms(secret: str) -> Iterator[str]:
    """Yield a text as it is, in URLs, paths, JSON, HTML, XML and ``repr``, and in base64 at each offset."""
    import html
    from urllib.parse import quote, quote_plus

    quoted = {secret, re.sub("/+", "/", secret), secret.lower(), repr(secret)[1:-1]}
    in_element = html.escape(secret, quote=False)
    in_attribute = in_element.replace('"', "&quot;")
    quoted |= {in_element, in_attribute, html.escape(secret)}
    quoted.add(in_element.replace('"', "&#34;").replace("'", "&#39;"))  # as templates write it
    quoted |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    for encoded in (quote(secret, "/", *_ENCODING), quote(secret, "", *_ENCODING), quote_plus(secret, "", *_ENCODING)):
        lower = re.sub("%..", lambda found: found[0].lower(), encoded)
        quoted |= {encoded, lower, encoded.replace("%", "%25"), lower.replace("%", "%25")}  # twice, as in annotations
    for form in quoted | set(_base64_forms(secret.encode(*_ENCODING))):
        if len(form) >= _SHORTEST:
            yield form


def _base64_forms(secret: bytes) -> Iterator[str]:
    from base64 import b64encode, urlsafe_b64encode

    for offset, skipped in enumerate((0, 2, 3)):  # characters that also encode what is before the secret
        for encode in (b64encode, urlsafe_b64encode):
            form = encode(bytes(offset) + secret).decode()[skipped:]
            yield form
            yield form.rstrip("=")[:-1]


_CURRENT: ContextVar[Secrets | None] = ContextVar("secrets", default=None)


def remember(secret: str) -> None:
    """Remove a secret, or the secret members of JSON, from the output of this command from now on."""
    secrets = _CURRENT.get()
    if secrets:
        secrets.add(secret)


def remember_members(text: str) -> None:
    """Remove the secret members of a text from the output, if it is JSON."""
    if text.lstrip().startswith("{"):
        remember(text)


def redact(text: str) -> str:
    """Return the text without the secrets of this command."""
    secrets = _CURRENT.get()
    return secrets.redact(text) if secrets else text


def redact_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments of a command without values that look like secrets, although this run does not know them."""
    return [_redact_argument(argument) for argument in arguments]


def _redact_argument(argument: str) -> str:
    name, equals, _value = argument.partition("=")
    if equals and _SECRET_VARIABLE.search(name) and not name.endswith("-env"):
        return f"{name}={_HIDDEN}"
    without = _USER_INFO.sub(rf"\1{_HIDDEN}@", _SECRET_SHAPE.sub(_HIDDEN, argument))
    return _SECRET_PARAMETER.sub(rf"\1{_HIDDEN}", without)


def redact_free_texts(value: Any, *, free: bool = False) -> Any:
    """Return the JSON of a document that is read again without secrets in its free texts.

    Names, keys and addresses are never changed: a short password can be part of one.
    """
    if isinstance(value, dict):
        return {name: redact_free_texts(member, free=name in _FREE_TEXTS) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [redact_free_texts(member, free=free) for member in value]
    return redact(value) if free and isinstance(value, str) else value


@contextmanager
def secrets_of(environ: Mapping[str, str]) -> Iterator[None]:
    """Begin with the secrets in the environment variables of a command."""
    token = _CURRENT.set(Secrets(_of_environment(environ)))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def _of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        password = _PASSWORD.search(value)
        if password:
            yield password[1]
        is_plain = value.startswith(("http://", "https://")) or is_path(value.strip().strip("\"'"))
        if _KEY_FILE.search(value) or (_SECRET_VARIABLE.search(name) and not is_plain):
            yield value
        yield from (found[0] for found in _SECRET_SHAPE.finditer(value))


def is_path(text: str) -> bool:
    """Return whether a text looks like a path, and not like a secret."""
    return _FILE_PATH.fullmatch(text) is not None or is_existing(Path(text))


def is_existing(path: Path) -> bool:
    """Return whether a path exists; ``False`` for a text that cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class WrappedStream(ABC):
    """A stream that changes each text before it writes it to ``stream``."""

    buffer = None
    """Absent, so that no text bypasses this stream."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @abstractmethod
    def write(self, text: str) -> int:
        """Write a text in its changed form."""

    def writelines(self, lines: Iterable[str]) -> None:
        """Write the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class RedactedStream(WrappedStream):
    """A stream from which secrets are removed."""

    def write(self, text: str) -> int:
        """Write a text without secrets."""
        self.stream.write(redact(text))
        return len(text)
