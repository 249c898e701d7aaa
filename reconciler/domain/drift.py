"""Drift classes, as one table, and the findings that have them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reconciler.domain.document import Count, Key, NonEmpty, Position, Record, TableEnum

Severity = Literal["drift", "note"]
"""Whether a finding makes ``reconcile drift`` exit with 2, or with 0."""


Cause = Literal["pending", "outOfBand", ""]
"""Whether a manifest is ahead of what was applied, or the model was changed at the service."""


class DriftClass(TableEnum):
    """The classes of findings, in the order in which the findings of one model are shown.

    A row has the name, the default severity, the meaning and the remedy. ``reconcile drift --help``,
    ``schemas/drift.schema.json`` and ``docs/drift.md`` are generated from this table. A state that is expected to last
    is a note, so that scheduled jobs do not fail without need.
    """

    severity: Severity
    meaning: str
    remedy: str

    MISSING = (
        "Missing",
        "drift",
        (
            "The manifest has no serving generation and no training, or the service confirmed that a recorded "
            "generation is gone."
        ),
        "`reconcile apply` trains it, or records the loss of a superseded one",
    )
    REPLACED = (
        "Replaced",
        "drift",
        (
            "Another model has the name of the serving generation: its creation time, base model, "
            "hyperparameters or mark are not the recorded ones. For a superseded generation this is a note."
        ),
        (
            "without this scope's mark: find out who created the other model, or rename the manifest. With it: "
            "`reconcile refresh` if another run of yours trained it, otherwise `reconcile apply --replace NAME`"
        ),
    )
    FAILED = (
        "Failed",
        "drift",
        "The training that the manifest asks for failed or was canceled, or its checks failed.",
        "change the inputs, or `reconcile apply --retry NAME`",
    )
    DEGRADED = (
        "Degraded",
        "drift",
        (
            "No endpoint has the model of the serving generation, or it failed its checks when they last ran, even if "
            "`onFailedChecks: serve` allows it."
        ),
        "`reconcile apply` to deploy it again; `reconcile rollback NAME --reason TEXT`, or fix data or checks",
    )
    OUTDATED = (
        "Outdated",
        "drift",
        (
            "The serving generation does not match the manifest and nothing is training for it, or a new "
            "generation is ready and was not promoted."
        ),
        "`reconcile apply`",
    )
    MODIFIED = (
        "Modified",
        "drift",
        (
            "A declared field, a permission or the ownership mark has another live value. It is pending if the "
            "manifest changed since the last apply, otherwise out of band. Fields in `ignoreDrift` and omitted fields "
            "are not compared. Or the lockfile records a fact, such as an endpoint, that the live model contradicts, "
            "or a published pointer was changed."
        ),
        "`reconcile apply`",
    )
    ORPHANED = (
        "Orphaned",
        "drift",
        ("The lockfile records a model that no manifest declares. Reported only if the whole root was read."),
        "`reconcile forget NAME` to keep its models, or `reconcile prune --dry-run`",
    )
    PINNED = (
        "Pinned",
        "note",
        ("The serving generation intentionally differs from the manifest: a rollback, or a suspended manifest."),
        "`reconcile promote NAME --to KEY`, or remove `suspend`",
    )
    IN_PROGRESS = (
        "InProgress",
        "note",
        "A training is in progress.",
        "`reconcile wait`",
    )
    CANDIDATE = (
        "Candidate",
        "note",
        (
            "A model has this scope's mark, and neither manifest nor lockfile here has it: usually a model of "
            "another branch."
        ),
        "none; it is adopted when its branch is merged",
    )
    UNVERIFIABLE = (
        "Unverifiable",
        "note",
        (
            "The state cannot be determined: the model was adopted and its data is unknown, the lockfile "
            "records no serving generation, checks changed and have not run, permissions cannot be read, or "
            "the parent is held."
        ),
        "the finding names `apply`, `check` or `refresh`",
    )
    BASE_MODEL_RETIRING = (
        "BaseModelRetiring",
        "note",
        (
            "The retirement date of the base model of the serving generation, or of the manifest, is within 90 days, "
            "according to the model catalog. After it, no model can be trained from this base model."
        ),
        "run `reconcile migrate`, which writes the successor into the manifest",
    )
    BASE_MODEL_RETIRED = (
        "BaseModelRetired",
        "note",
        (
            "The base model of the serving generation, or of the manifest, can no longer be tuned, according to the "
            "service or to its retirement date in the model catalog. If the service refuses it and a model must be "
            "trained from it, it is drift and exits with 2."
        ),
        "run `reconcile migrate`, or use another base model in the manifest",
    )
    BASE_MODEL_CHANGED = (
        "BaseModelChanged",
        "note",
        (
            "The base model that the manifest pins to a commit changed at its source: the main branch on the hub has "
            "other files, or the hub no longer has it. Only files that a training reads count."
        ),
        "set the commit that the finding names to train from the new files",
    )
    SUSPENSION_EXPIRED = (
        "SuspensionExpired",
        "note",
        "The time in `spec.lifecycle.suspend.until` has passed: the manifest is applied again.",
        "remove `spec.lifecycle.suspend` from the manifest",
    )
    UNMANAGED = (
        "Unmanaged",
        "note",
        (
            "A model of the project is not managed by this project. `--unmanaged summary` counts these, `all` "
            "lists each, `none` omits them."
        ),
        "none; it is never changed",
    )
    IN_SYNC = (
        "InSync",
        "note",
        "Everything is as declared.",
        "none",
    )


class Retirement(Record, frozen=True):
    """When a base model is retired, according to the model catalog."""

    base_model: NonEmpty
    """The base model."""
    date: date
    """The day of its retirement; the service may have announced it as the earliest one."""
    days_left: Count
    """The number of days until then; 0 if the day has come."""
    successor: str = ""
    """The base model to use instead."""


class Finding(Record, frozen=True, kw_only=True):
    """One finding about one model."""

    kind: DriftClass = msgspec.field(name="class")
    """The drift class."""
    severity: Severity
    """`drift` makes the command exit with 2; `note` does not."""
    cause: Cause = ""
    """`pending` if the manifest changed since the last apply, `outOfBand` if the model was changed at the service;
    omitted if it is neither."""
    name: str = ""
    """The manifest's metadata.name; omitted for unmanaged models."""
    file: str = ""
    """The path of the manifest; `-` is standard input."""
    line: Position | None = None
    """The line of the manifest's name, counted from 1; omitted for orphans."""
    column: Position | None = None
    """The column of the manifest's name, counted from 1."""
    key: Key = ""
    remote: Annotated[str, Meta(examples=["tunedModels/number-generator-3kq7w2ma"])] = ""
    """The remote name of the model."""
    field: Annotated[str, Meta(examples=["displayName"])] = ""
    """The field that differs; a permission is a field such as `access.user:ada@example.com`, and its value is the
    role."""
    declared: str | int | float | bool | None = None
    """The declared or recorded value; omitted if there is none."""
    live: str | int | float | bool | None = None
    """The live value; omitted if there is none."""
    since: Annotated[str, Meta(examples=["2026-01-01T12:00:00Z"])] = ""
    """When it began, if known; RFC 3339."""
    retirement: Retirement | None = None
    """When the base model is retired; only for `BaseModelRetiring` and `BaseModelRetired`, if known."""
    message: NonEmpty
    """A sentence for the reader."""
    remedy: Annotated[str, Meta(examples=["reconcile apply"])] = ""
    """The remedy: a command where there is one."""

    def sort_key(self) -> tuple[bool, str, str, int, str, str, str]:
        """Return the sort key: manifest, then class; findings without a manifest come last."""
        position = list(DriftClass).index(self.kind)
        return not self.file, self.file, self.name, position, self.key, self.remote, self.field
