"""Drift classes, as one table, and the findings that have them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from msgspec import Struct

from reconciler.domain.errors import Place

Severity = Literal["drift", "note"]
"""Whether a finding makes ``reconcile drift`` exit with 2, or with 0."""


class DriftClass(StrEnum):
    """The classes of findings, in the order in which the findings of one model are shown.

    A row has the name, the default severity, the meaning and the remedy. ``reconcile drift --help``,
    ``schemas/drift.schema.json`` and ``docs/drift.md`` are generated from this table. A state that is expected to last
    is a note, so that scheduled jobs do not fail without need.
    """

    severity: Severity
    meaning: str
    remedy: str

    def __new__(cls, name: str, severity: Severity, meaning: str, remedy: str) -> Self:
        """Return the member with its row."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.severity, member.meaning, member.remedy = severity, meaning, remedy
        return member

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
            "without this scope's mark: delete the other model, then `reconcile apply`. With it: `reconcile "
            "refresh` if another run of yours trained it, otherwise `reconcile apply --replace NAME`"
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
        ("The serving generation failed its checks when they last ran, even if `onFailedChecks: serve` allows it."),
        "`reconcile rollback NAME --reason TEXT`, or fix data or checks",
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
            "A declared field, a permission or the ownership mark has another live value: an out-of-band "
            "change, or the manifest has changed. Fields in `ignoreDrift` and omitted fields are not "
            "compared."
        ),
        "`reconcile apply`",
    )
    ORPHANED = (
        "Orphaned",
        "drift",
        ("The lockfile records a model that no manifest declares. Reported only if the whole root was read."),
        "`reconcile prune`, or `reconcile forget NAME`",
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
    BASE_MODEL_RETIRED = (
        "BaseModelRetired",
        "note",
        (
            "The base model of the serving generation, or of the manifest, can no longer be tuned. If a model "
            "must be trained from it, it is drift and exits with 2."
        ),
        "use another base model in the manifest",
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


class Finding(Struct, frozen=True):
    """One fact about one model.

    ``file`` is the manifest's path relative to the root and ``place`` the position of its name; both are empty without
    a manifest. ``field`` is the field that differs, ``declared`` its desired or recorded value and ``live`` its live
    value. ``since`` is an RFC 3339 time, empty if unknown. ``message`` is a sentence without a final stop, ``remedy`` a
    command or another imperative.
    """

    kind: DriftClass
    message: str
    severity: Severity
    name: str = ""
    file: str = ""
    place: Place | None = None
    key: str = ""
    remote: str = ""
    field: str = ""
    declared: object = None
    live: object = None
    since: str = ""
    remedy: str = ""

    def sort_key(self) -> tuple[bool, str, str, int, str, str, str]:
        """Return the sort key: manifest, then class; findings without a manifest come last."""
        position = list(DriftClass).index(self.kind)
        return not self.file, self.file, self.name, position, self.key, self.remote, self.field
