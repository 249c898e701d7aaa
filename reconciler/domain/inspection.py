"""What the inspection of a data set finds, and how two data sets differ."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from reconciler.domain.document import Count, NonEmpty, Position, Record, Report
from reconciler.domain.errors import Severity

FindingKind = Literal[
    "invalid",
    "duplicate",
    "contradiction",
    "nearDuplicate",
    "leak",
    "secret",
    "personalData",
    "brokenText",
    "warning",
]


class Spot(Record, frozen=True, kw_only=True):
    """Where a finding is."""

    line: Position
    """The line, counted from 1."""
    column: Position = 1
    """The column, counted from 1; omitted if it is 1."""
    file: str = ""
    """The file, if the data set has several; they are read one after the other."""
    example: Position | None = None
    """Which example of the data set it is, counted from 1; omitted for invalid examples and for the whole file."""
    earlier: Position | None = None
    """Which example it repeats, contradicts or is similar to; omitted for other findings."""
    earlier_line: Position | None = None
    """The line of this example."""
    earlier_file: str = ""
    """The file of this example, if the data set has several."""


class Finding(Record, frozen=True, kw_only=True):
    """Examples with the same problem."""

    kind: FindingKind
    """The kind: `invalid` examples cannot be read; a `duplicate` has the input and the output of an earlier example, a
    `contradiction` its input and another output; a `nearDuplicate` has an input that is similar to an earlier one; a
    `leak` has an input that is held out for a check; `secret` and `personalData` are likely in the example;
    `brokenText` was decoded incorrectly; `warning` is every other warning of `reconcile validate`."""
    severity: Severity
    """Whether it is an error, which stops a run, or a warning."""
    count: Position
    """The number of examples that have it."""
    message: NonEmpty
    """The problem. Secrets and personal data are never quoted."""
    remedy: str = ""
    """The remedy."""
    first: Annotated[tuple[Spot, ...], Meta(min_length=1)]
    """The first of the examples."""


class LengthBucket(Record, frozen=True):
    """A bar of a histogram."""

    up_to: Position
    """The greatest length in the bucket, in characters; the bucket before has the shorter ones."""
    examples: Count
    """The number of examples."""


class Lengths(Record, frozen=True, kw_only=True):
    """The lengths of texts, in characters."""

    least: Count
    """The shortest length."""
    most: Count
    """The greatest length."""
    mean: Annotated[float, Meta(ge=0)]
    """The mean length."""
    histogram: tuple[LengthBucket, ...]
    """The number of examples by length; each bucket is twice as wide as the one before."""


class Label(Record, frozen=True):
    """One of a few distinct outputs."""

    output: str
    """The output; `[hidden]` if it probably has a secret or personal data."""
    examples: Count
    """The number of examples that have it."""


class DatasetFormat(Record, frozen=True, kw_only=True):
    """How the file is read, as fields of a manifest declare it."""

    format: NonEmpty
    """The file format, such as `csv` or `jsonl`."""
    compression: NonEmpty
    """The compression, or `none`."""
    encoding: NonEmpty
    """The encoding of the text."""
    delimiter: str = ""
    """The character between the columns; omitted for the default of the format."""
    header: bool = True
    """Whether a table has a header; omitted if it has."""
    items: str = ""
    """The member that has the examples; omitted if the file has none around them."""
    input_field: str = ""
    """The column or member that is the input; omitted for chat formats."""
    output_field: str = ""
    """The column or member that is the output; omitted for chat formats."""


class Inspection(Report, frozen=True, kw_only=True):
    """The findings in a data set, and its measures. Invalid examples are counted only as findings.

    Tokens are estimated, as in plans.
    """

    shape: NonEmpty
    """The shape of the examples: `messages`, `contents`, `sharegpt`, `alpaca`, `preference` or `completions` (the
    chosen answers are the outputs), or `input-output`."""
    examples: Count
    """The number of valid examples."""
    turns: Count
    """The number of turns of all examples: a text of the user and the answer are one turn."""
    longest_conversation: Count
    """The greatest number of turns in an example."""
    tokens: Count
    """The estimated number of tokens of all examples."""
    longest_example: Count
    """The estimated number of tokens of the longest example."""
    inputs: Lengths | None = None
    """The lengths of the inputs; omitted without examples."""
    outputs: Lengths | None = None
    """The lengths of the outputs; omitted without examples."""
    labels: tuple[Label, ...] = ()
    """The outputs and their numbers, the most frequent one first, if there are few distinct and short outputs."""
    compared: Count
    """The number of distinct inputs that were searched for near duplicates."""
    sampled: bool = False
    """Whether these are a sample of more distinct inputs; omitted if they are all."""
    findings: tuple[Finding, ...] = ()
    """The findings: errors first."""


class DifferentExample(Record, frozen=True, kw_only=True):
    """An added, removed or changed example."""

    kind: Literal["added", "removed", "changed"]
    """`changed` has the same input and another output."""
    line: Position
    """The line in the new file; in the old file for a removed example."""
    old_line: Position | None = None
    """The line of a changed example in the old file."""
    input: str
    """The input, shortened; the texts of a conversation up to its last answer."""
    output: str
    """The output, shortened."""
    old_output: str | None = None
    """The output of a changed example in the old file, shortened."""
