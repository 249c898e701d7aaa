"""Keys and ownership marks of generations. Version 1 of both never changes."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import rfc8785
from msgspec import Struct
from msgspec.json import Encoder as JsonEncoder

from reconciler.domain.model import (
    UNKNOWN_DATA,
    Conversation,
    Hyperparameters,
    HyperparameterValue,
    Mark,
    Number,
    Source,
    TrainingExample,
)

NAME_PATTERN = r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?"
"""The pattern of metadata.name: at most 31 characters, so that a key fits the service's limit of 40."""

_VERSION = 1
_HASH_BYTES = 5
_FLOAT32_DIGITS = 9  # IEEE 754: nine significant decimal digits always round-trip a binary32
encode_string = json.JSONEncoder(ensure_ascii=False).encode
_ENCODER: Final = JsonEncoder()
"""Writes strings exactly as ``encode_string`` does."""
"""Encode a text as a JSON string, with only the escapes that UTF-8 needs; one encoder for a million examples."""
_SAFE_INTEGER = 2**53 - 1  # RFC 8785 has no larger integers; beyond, a whole number stays a float
_MARK = re.compile(
    r"managed-by=reconcile scope=(?P<scope>\S+) name=(?P<name>\S+)"
    r" spec=(?P<spec>sha256:[0-9a-f]{64}) data=(?P<data>sha256:[0-9a-f]{64}) attempt=(?P<attempt>\d{1,9})"
)


class Content(Struct, frozen=True):
    """The identity of a generation; equal contents have equal keys."""

    scope: str
    name: str
    source: Source
    hyperparameters: Hyperparameters
    data: str
    attempt: int = 0

    def canonical(self) -> bytes:
        """Return the spec as RFC 8785 canonical JSON."""
        values = {name: canonical_value(value) for name, value in self.hyperparameters.items()}
        source = self.source.identity
        return _canonical(self.scope, self.name, source, tuple(sorted(values.items())), self.data, self.attempt)

    def mark(self) -> Mark:
        """Return the ownership mark of a generation with this content."""
        spec = f"sha256:{hashlib.sha256(self.canonical()).hexdigest()}"
        return Mark(scope=self.scope, name=self.name, spec=spec, data=self.data, attempt=self.attempt)


@lru_cache(maxsize=2**14)  # a plan computes the mark of a generation several times
def _canonical(
    scope: str,
    name: str,
    source: str,
    hyperparameters: tuple[tuple[str, HyperparameterValue], ...],
    data: str,
    attempt: int,
) -> bytes:
    """Return the canonical JSON of a spec. The numbers are canonical: equal ones have one spelling."""
    return rfc8785.dumps(
        {
            "v": _VERSION,
            "scope": scope,
            "name": name,
            "source": source,
            "hyperparameters": dict(hyperparameters),
            "data": data,
            "attempt": attempt,
        }
    )


def key_of(mark: Mark) -> str:
    """Return the key of a mark: the name and eight base32 characters of the spec digest."""
    return f"{mark.name}-{_shortened(bytes.fromhex(mark.spec.removeprefix('sha256:')))}"


def short_hash(data: bytes) -> str:
    """Return eight base32 characters of a SHA-256, as keys have them."""
    return _shortened(hashlib.sha256(data).digest())


def _shortened(digest: bytes) -> str:
    return base64.b32encode(digest[:_HASH_BYTES]).decode().lower()


def canonical_value(value: HyperparameterValue) -> HyperparameterValue:
    """Return a number as :func:`canonical_number` does, and a text unchanged."""
    return value if isinstance(value, str) else canonical_number(value)


def canonical_number(value: Number) -> Number:
    """Return the shortest decimal with the same float32, which is the services' precision; whole numbers as ints."""
    if isinstance(value, int) and abs(value) <= _SAFE_INTEGER:
        return value
    wire = round_to_float32(value)
    shortest = next(
        candidate
        for digits in range(1, _FLOAT32_DIGITS + 1)
        if _rounded(candidate := float(f"{wire:.{digits}g}")) == wire
    )
    return int(shortest) if shortest.is_integer() and abs(shortest) <= _SAFE_INTEGER else shortest


def round_to_float32(value: float) -> float:
    """Round to a 32-bit float; raises OverflowError beyond its range."""
    (wire,) = struct.unpack("<f", struct.pack("<f", value))
    return float(wire)


def _rounded(value: Number) -> float:
    try:
        return round_to_float32(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def same_value(declared: HyperparameterValue, effective: HyperparameterValue) -> bool:
    """Whether two texts are equal, or two numbers as 32-bit floats, up to one unit in the last place."""
    if isinstance(declared, str) or isinstance(effective, str):
        return declared == effective
    return declared == effective or abs(_rounded(declared) - _rounded(effective)) <= abs(declared) * 2**-23


class DatasetDigest:
    r"""The ``sha256:`` digest of examples that are added one by one.

    Each is a line ``["input","output"]\n`` of compact JSON in UTF-8, or, in Vertex AI's own form, the line of its
    canonical JSON object. The preamble is already part of each input; in inputs and outputs CRLF and CR count as LF;
    nothing else is normalized.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, example: TrainingExample) -> None:
        """Add the next example."""
        if isinstance(example, Conversation):
            self._digest.update(example.line.encode() + b"\n")
        else:
            self.add_lines(encode_texts((example.input,), (example.output,)))

    def add_lines(self, lines: bytes) -> None:
        """Add the lines of the next examples, as :func:`encode_texts` returns them."""
        self._digest.update(lines)

    def __str__(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def encode_texts(inputs: Iterable[str], outputs: Iterable[str]) -> bytes:
    """Return the lines of examples in the digest of a data set; raises UnicodeEncodeError for an unpaired surrogate."""
    return encode_normalized(map(normalize_newlines, inputs), map(normalize_newlines, outputs))


def encode_normalized(inputs: Iterable[str], outputs: Iterable[str]) -> bytes:
    """Return what :func:`encode_texts` returns of texts without CR."""
    return _ENCODER.encode_lines(list(zip(inputs, outputs, strict=True)))


def dataset_digest(examples: Iterable[TrainingExample]) -> str:
    """Return the digest of all examples; see :class:`DatasetDigest`."""
    digest = DatasetDigest()
    for example in examples:
        digest.add(example)
    return str(digest)


def object_digest(uri: str, generation: str, checksum: str, *, pairs: bool = False) -> str:
    """Return the digest of a data set in Cloud Storage: canonical JSON of its address, generation and checksum.

    Each write of an object makes another generation, and so another data set, even with the same content. Trained as
    ``pairs`` it is another one too, because the digest of other data sets differs by what is trained on.
    """
    parts = [uri, generation, checksum, *(["preference"] if pairs else [])]
    return f"sha256:{hashlib.sha256(rfc8785.dumps(parts)).hexdigest()}"


def same_data(digest: str, other: str) -> bool:
    """Whether two digests can be those of one data set; unknown data matches everything."""
    return digest == other or UNKNOWN_DATA in {digest, other}


def normalize_newlines(text: str) -> str:
    """Return the text with LF in place of CRLF and CR."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def with_mark(description: str, mark: Mark) -> str:
    """Return the remote description: the human part, then the mark as its last line."""
    line = (
        f"managed-by=reconcile scope={mark.scope} name={mark.name}"
        f" spec={mark.spec} data={mark.data} attempt={mark.attempt}"
    )
    return f"{description}\n{line}" if description else line


def split_mark(remote_description: str) -> tuple[str, Mark | None]:
    """Return the human part of a remote description, and the mark on its last line or ``None``."""
    human, _, last = remote_description.rpartition("\n")
    found = _MARK.fullmatch(last.strip())
    if not found:
        return remote_description, None
    fields = found.groupdict()
    return human, Mark(fields["scope"], fields["name"], fields["spec"], fields["data"], int(fields["attempt"]))
