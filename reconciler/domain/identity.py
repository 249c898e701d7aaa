"""How a generation gets its name, and how ownership is written down. Version 1 of both never changes."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import rfc8785

from reconciler.domain.model import (
    UNKNOWN_DATA,
    Conversation,
    Hyperparameters,
    Mark,
    Number,
    Source,
    TrainingExample,
)

NAME_PATTERN = r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?"
"""A legal metadata.name: 31 characters, so that the key fits the 40 that the service allows an id."""

_VERSION = 1
_HASH_CHARACTERS = 8
_FLOAT32_DIGITS = 9  # IEEE 754: nine significant decimal digits always round-trip a binary32
encode_string = json.JSONEncoder(ensure_ascii=False).encode
"""A text as a JSON string, without escapes that UTF-8 does not need; one encoder for a million examples."""
_SAFE_INTEGER = 2**53 - 1  # RFC 8785 has no larger integers; beyond, a whole number stays a float
_MARK = re.compile(
    r"managed-by=reconcile scope=(?P<scope>\S+) name=(?P<name>\S+)"
    r" spec=(?P<spec>sha256:[0-9a-f]{64}) data=(?P<data>sha256:[0-9a-f]{64}) attempt=(?P<attempt>\d{1,9})"
)


@dataclass(frozen=True, slots=True)
class Content:
    """Everything immutable about a generation; two contents are equal exactly when their keys are meant to be."""

    scope: str
    name: str
    source: Source
    hyperparameters: Hyperparameters
    data: str
    attempt: int = 0

    def canonical(self) -> bytes:
        """The spec as RFC 8785 canonical JSON."""
        return rfc8785.dumps(
            {
                "v": _VERSION,
                "scope": self.scope,
                "name": self.name,
                "source": self.source.identity,
                "hyperparameters": {name: canonical_number(value) for name, value in self.hyperparameters.items()},
                "data": self.data,
                "attempt": self.attempt,
            }
        )

    def mark(self) -> Mark:
        """The ownership mark of a generation with this content."""
        spec = f"sha256:{hashlib.sha256(self.canonical()).hexdigest()}"
        return Mark(scope=self.scope, name=self.name, spec=spec, data=self.data, attempt=self.attempt)


def key_of(mark: Mark) -> str:
    """The key of the generation that bears this mark: the name and eight base32 characters of its spec digest."""
    digest = bytes.fromhex(mark.spec.removeprefix("sha256:"))
    return f"{mark.name}-{base64.b32encode(digest)[:_HASH_CHARACTERS].decode().lower()}"


def canonical_number(value: Number) -> Number:
    """The shortest decimal that is the same float32, as the services store no more than that; whole numbers as ints."""
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
    """The value after a trip through a 32-bit float; raises OverflowError beyond its range."""
    (wire,) = struct.unpack("<f", struct.pack("<f", value))
    return float(wire)


def _rounded(value: Number) -> float:
    try:
        return round_to_float32(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def same_number(declared: Number, effective: Number) -> bool:
    """Whether two numbers are one on a wire of 32-bit floats, one unit in the last place allowed."""
    return declared == effective or abs(_rounded(declared) - _rounded(effective)) <= abs(declared) * 2**-23


class DatasetDigest:
    r"""The ``sha256:`` digest of examples that come one by one.

    Each is a line ``["input","output"]\n`` of compact JSON in UTF-8, or, in Vertex AI's own form, the line of its
    canonical JSON object. The preamble is already part of each input; in inputs and outputs CRLF and CR count as LF;
    nothing else is normalised.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, example: TrainingExample) -> None:
        """Take up the next example."""
        if isinstance(example, Conversation):
            line = example.line
        else:
            texts = (encode_string(normalize_newlines(text)) for text in (example.input, example.output))
            line = f"[{','.join(texts)}]"
        self._digest.update(line.encode() + b"\n")

    def __str__(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def dataset_digest(examples: Iterable[TrainingExample]) -> str:
    """The digest of all these examples, as :class:`DatasetDigest` makes it."""
    digest = DatasetDigest()
    for example in examples:
        digest.add(example)
    return str(digest)


def object_digest(uri: str, generation: str, checksum: str) -> str:
    """The digest of a data set in Cloud Storage: the canonical JSON of its address, generation and checksum.

    An object that is written again has another generation, and so is another data set, whatever it holds.
    """
    return f"sha256:{hashlib.sha256(rfc8785.dumps([uri, generation, checksum])).hexdigest()}"


def same_data(one: str, other: str) -> bool:
    """Whether two digests may be those of one data set: what nobody has at hand is taken for any."""
    return one == other or UNKNOWN_DATA in {one, other}


def normalize_newlines(text: str) -> str:
    """The text with CRLF and CR made LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def with_mark(description: str, mark: Mark) -> str:
    """The remote description: the human part, then the mark as its last line."""
    line = (
        f"managed-by=reconcile scope={mark.scope} name={mark.name}"
        f" spec={mark.spec} data={mark.data} attempt={mark.attempt}"
    )
    return f"{description}\n{line}" if description else line


def split_mark(remote_description: str) -> tuple[str, Mark | None]:
    """The human part of a remote description, and the mark on its last line, if it bears one."""
    human, _, last = remote_description.rpartition("\n")
    found = _MARK.fullmatch(last.strip())
    if not found:
        return remote_description, None
    fields = found.groupdict()
    return human, Mark(fields["scope"], fields["name"], fields["spec"], fields["data"], int(fields["attempt"]))
