"""The embedded world on disk: everything but the contents of objects is in one SQLite file.

Any number of processes share it. Here are tuned models and their permissions; Vertex AI's resources are in
``vertex_store``, objects in ``objects``.

A model's document holds what does not depend on the time. What is large (examples, recorded loss curves) is kept in a
table of its own, so that listing thousands of models reads none of it. The file has SQLite's ordinary rollback journal:
the write-ahead log cannot be switched on safely by two processes that open a new file at once.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reconciler.domain.errors import ReconcileError
from reconciler.emulator.errors import ApiError, Code, JsonObject
from reconciler.emulator.training import SimulatedTraining

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS worlds (digest TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, api TEXT NOT NULL, operation TEXT,
    document TEXT NOT NULL, training TEXT
);
CREATE TABLE IF NOT EXISTS contents (
    seq INTEGER PRIMARY KEY REFERENCES models ON DELETE CASCADE, examples TEXT NOT NULL, snapshots TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS permissions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    grantee TEXT NOT NULL, document TEXT NOT NULL, UNIQUE (model, grantee)
);
CREATE TABLE IF NOT EXISTS resources (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, collection TEXT NOT NULL, since INTEGER NOT NULL,
    origin INTEGER REFERENCES resources ON DELETE CASCADE, document TEXT NOT NULL, course TEXT, examples TEXT
);
CREATE INDEX IF NOT EXISTS resources_of_collection ON resources (collection, seq);
CREATE INDEX IF NOT EXISTS resources_of_origin ON resources (origin);
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    generation INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
    file TEXT NOT NULL, UNIQUE (bucket, name)
);
COMMIT;
"""
_BUSY_SECONDS = 10.0
_TEXT = (
    "lower(coalesce(json_extract(document, '$.displayName'), '')"
    " || ' ' || coalesce(json_extract(document, '$.description'), ''))"
)
_COLUMNS = "seq, name, api, operation, document, training"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A tuned model as it is kept. ``operation`` and ``training`` are those of a model that was created here."""

    seq: int
    name: str
    api: str
    operation: str | None
    document: JsonObject
    training: SimulatedTraining | None


class Store:
    """The one connection of an app; not for use by several threads at a time."""

    def __init__(self, path: Path | None) -> None:
        """Opens the file, making it and its folder if need be; ``None`` is a world in memory. Raises ReconcileError."""
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, self._connection.close)
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ReconcileError(
                f"{path}: the embedded service cannot keep its models here: {error}",
                "remove the file, or choose a place that can be written",
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens, or nothing; other processes wait."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    def is_loaded(self, digest: str) -> bool:
        """Whether a world with that digest was loaded before."""
        return bool(self._all("SELECT 1 FROM worlds WHERE digest = ?", digest))

    def set_loaded(self, digest: str) -> None:
        """Notes that a world was loaded."""
        self._connection.execute("INSERT OR IGNORE INTO worlds VALUES (?)", (digest,))

    def insert(
        self,
        document: JsonObject,
        *,
        api: str,
        operation: str | None = None,
        training: SimulatedTraining | None = None,
        examples: Sequence[JsonObject] = (),
        snapshots: Sequence[JsonObject] = (),
    ) -> int | None:
        """Keeps a new model and returns its number, or ``None`` when its name is taken."""
        started = dump(asdict(training)) if training else None
        row = (document["name"], api, operation, dump(document), started)
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO models (name, api, operation, document, training) VALUES (?, ?, ?, ?, ?)", row
        )
        if not cursor.rowcount:
            return None
        seq = cursor.lastrowid
        self._connection.execute("INSERT INTO contents VALUES (?, ?, ?)", (seq, dump(examples), dump(snapshots)))
        return seq

    def model(self, name: str) -> StoredModel:
        """The model of that name; raises ApiError when it is not there."""
        rows = self._all(f"SELECT {_COLUMNS} FROM models WHERE name = ?", name)  # noqa: S608 - a constant
        if not rows:
            raise ApiError(Code.NOT_FOUND, f"Tuned model {name} does not exist.")
        return _model(rows[0])

    def models(self, after: int, limit: int, words: Sequence[str] = ()) -> list[StoredModel]:
        """Models in the order of their creation whose display name or description has all the words."""
        having = f" AND instr({_TEXT}, lower(?))" * len(words)
        query = f"SELECT {_COLUMNS} FROM models WHERE seq > ?{having} ORDER BY seq LIMIT ?"  # noqa: S608 - constants
        return [_model(row) for row in self._all(query, after, *words, limit)]

    def update(self, seq: int, document: JsonObject) -> None:
        """Replaces the document of a model."""
        self._connection.execute("UPDATE models SET document = ? WHERE seq = ?", (dump(document), seq))

    def delete(self, seq: int) -> None:
        """Removes a model with everything about it."""
        self._connection.execute("DELETE FROM models WHERE seq = ?", (seq,))

    def examples(self, seq: int) -> list[JsonObject]:
        """The examples that a model answers from: its own, and those of the models that it was tuned from."""
        return self._content("examples", seq)

    def snapshots(self, seq: int) -> list[JsonObject]:
        """The recorded loss curve of a model that came with the world."""
        return self._content("snapshots", seq)

    def _content(self, column: str, seq: int) -> list[JsonObject]:
        rows = self._all(f"SELECT {column} FROM contents WHERE seq = ?", seq)  # noqa: S608 - one of two constants
        return list(json.loads(rows[0][0])) if rows else []

    def add_permission(self, model: int, grantee: str, document: JsonObject) -> bool:
        """Keeps a permission of a model; False when that grantee has one already."""
        row = (model, grantee, dump(document))
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO permissions (model, grantee, document) VALUES (?, ?, ?)", row
        )
        return bool(cursor.rowcount)

    def permissions(self, model: int, after: int = 0, limit: int = -1) -> list[tuple[int, JsonObject]]:
        """The permissions of a model with their numbers, oldest first."""
        query = "SELECT seq, document FROM permissions WHERE model = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [(seq, json.loads(document)) for seq, document in self._all(query, model, after, limit)]

    def update_permission(self, seq: int, document: JsonObject) -> None:
        """Replaces a permission."""
        self._connection.execute("UPDATE permissions SET document = ? WHERE seq = ?", (dump(document), seq))

    def delete_permission(self, seq: int) -> None:
        """Removes a permission."""
        self._connection.execute("DELETE FROM permissions WHERE seq = ?", (seq,))

    def _all(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.execute(query, *parameters).fetchall()

    def execute(self, query: str, *parameters: Any) -> sqlite3.Cursor:
        """Runs a statement for those who keep tables of their own here."""
        return self._connection.execute(query, parameters)


def dump(value: Any) -> str:
    """The compact JSON that the tables hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _model(row: tuple[Any, ...]) -> StoredModel:
    seq, name, api, operation, document, training = row
    started = SimulatedTraining(**json.loads(training)) if training else None
    return StoredModel(seq, name, api, operation, json.loads(document), started)
