"""The SQLite store of the embedded service: everything except the contents of objects.

Several processes can share the file. This module has tuned models and their permissions; ``vertex.store`` has the
resources of Vertex AI, and ``objects`` the objects.

The document of a model does not depend on the time. Large values (examples, recorded loss curves) have a table of their
own, so that a list of thousands of models does not read them. The file uses SQLite's default rollback journal: two
processes that open a new file concurrently cannot enable the write-ahead log safely.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

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


_MOVE_AWAY = (
    "restore the file from a backup, or move it away, and with it the lockfile that records its models; the next apply"
    " trains them again"
)
MAX_STORE_BYTES = 2**33
"""The largest store: eight data sets of the largest size, 1 GiB. It is read page by page, so it needs no memory."""
_MAX_VALUE_BYTES = 2**30
"""The largest value in a store: the examples of one data set."""


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.setlimit(
        sqlite3.SQLITE_LIMIT_LENGTH, min(_MAX_VALUE_BYTES, connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH))
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _require_size(path: Path) -> None:
    size = path.stat().st_size if path.exists() else 0
    if size > MAX_STORE_BYTES:
        raise ReconcileError(f"{path}: the store has {size} bytes: expected at most {MAX_STORE_BYTES}", _MOVE_AWAY)


_SchemaRow = tuple[str, str, str, str]
"""The type and the name of an entry of a schema, the table that it is about, and its statement."""


def _schema_of(connection: sqlite3.Connection) -> Iterator[_SchemaRow]:
    yield from connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")


@cache
def _own_schema() -> Mapping[tuple[str, str], _SchemaRow]:
    """Return the entries of the schema that this module creates, by type and name."""
    with closing(_connect(None)) as own:
        own.executescript(_SCHEMA)
        return {(kind, name): row for row in _schema_of(own) for kind, name in [row[:2]]}


def _has_own_schema(connection: sqlite3.Connection, path: Path | None) -> bool:
    """Return whether the schema is complete.

    Refuse views, triggers, and other tables, columns and indexes: a trigger runs with our own statements.
    """
    expected, found = _own_schema(), tuple(_schema_of(connection))
    for row in found:
        kind, name, *_ = row
        if row != expected.get((kind, name)):
            problem = "has other columns" if (kind, name) in expected else "was not created by the embedded service"
            raise ReconcileError(f"{path}: not a store of the embedded service: {kind} {name} {problem}", _MOVE_AWAY)
    return len(found) == len(expected)


class StoredModel(Struct, frozen=True):
    """A stored tuned model. Only models that were created here have ``operation`` and ``training``."""

    seq: int
    name: str
    api: str
    operation: str | None
    document: JsonObject
    training: SimulatedTraining | None


class Store:
    """The connection of an application; not for concurrent use by several threads."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, and create it and its directory if needed; ``None`` is in memory.

        The file may come from a pull request: what this class did not create there is refused before it is used.

        Raises:
            ReconcileError: the file cannot be written, is damaged, too large, or not a store.
        """
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                _require_size(path)
            self._connection = _connect(path)
            weakref.finalize(self, self._connection.close)
            complete = _has_own_schema(self._connection, path)
            self._connection.execute("PRAGMA foreign_keys = ON")
            if not complete:
                self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.OperationalError) as error:
            raise ReconcileError(
                f"{path}: the embedded service cannot store its models here: {error}",
                "make the file and its folder writable, and end processes that keep the file locked",
            ) from error
        except sqlite3.DatabaseError as error:
            raise ReconcileError(f"{path}: not a store of the embedded service: {error}", _MOVE_AWAY) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the body in a transaction; other processes wait."""
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    def is_loaded(self, digest: str) -> bool:
        """Return whether a world file with this digest was loaded."""
        return bool(self._all("SELECT 1 FROM worlds WHERE digest = ?", digest))

    def set_loaded(self, digest: str) -> None:
        """Record that a world file was loaded."""
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
        """Insert a model and return its number, or ``None`` if its name is taken."""
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
        """Return the model with this name; raises ApiError if it does not exist."""
        rows = self._all(f"SELECT {_COLUMNS} FROM models WHERE name = ?", name)  # noqa: S608 - a constant
        if not rows:
            raise ApiError(Code.NOT_FOUND, f"Tuned model {name} does not exist.")
        return _model(rows[0])

    def models(self, after: int, limit: int, words: Sequence[str] = ()) -> list[StoredModel]:
        """Return models in creation order whose display name or description contains all the words."""
        having = f" AND instr({_TEXT}, lower(?))" * len(words)
        query = f"SELECT {_COLUMNS} FROM models WHERE seq > ?{having} ORDER BY seq LIMIT ?"  # noqa: S608 - constants
        return [_model(row) for row in self._all(query, after, *words, limit)]

    def update(self, seq: int, document: JsonObject) -> None:
        """Replace the document of a model."""
        self._connection.execute("UPDATE models SET document = ? WHERE seq = ?", (dump(document), seq))

    def delete(self, seq: int) -> None:
        """Delete a model with all its data."""
        self._connection.execute("DELETE FROM models WHERE seq = ?", (seq,))

    def examples(self, seq: int) -> list[JsonObject]:
        """Return the examples of a model and of its parents."""
        return self._content("examples", seq)

    def snapshots(self, seq: int) -> list[JsonObject]:
        """Return the recorded loss curve of a model from the world file."""
        return self._content("snapshots", seq)

    def _content(self, column: str, seq: int) -> list[JsonObject]:
        rows = self._all(f"SELECT {column} FROM contents WHERE seq = ?", seq)  # noqa: S608 - one of two constants
        return list(json.loads(rows[0][0])) if rows else []

    def add_permission(self, model: int, grantee: str, document: JsonObject) -> bool:
        """Insert a permission of a model; return False if the grantee already has one."""
        row = (model, grantee, dump(document))
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO permissions (model, grantee, document) VALUES (?, ?, ?)", row
        )
        return bool(cursor.rowcount)

    def permissions(self, model: int, after: int = 0, limit: int = -1) -> list[tuple[int, JsonObject]]:
        """Return the permissions of a model with their numbers, oldest first."""
        query = "SELECT seq, document FROM permissions WHERE model = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [(seq, json.loads(document)) for seq, document in self._all(query, model, after, limit)]

    def update_permission(self, seq: int, document: JsonObject) -> None:
        """Replace a permission."""
        self._connection.execute("UPDATE permissions SET document = ? WHERE seq = ?", (dump(document), seq))

    def delete_permission(self, seq: int) -> None:
        """Delete a permission."""
        self._connection.execute("DELETE FROM permissions WHERE seq = ?", (seq,))

    def _all(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.execute(query, *parameters).fetchall()

    def execute(self, query: str, *parameters: Any) -> sqlite3.Cursor:
        """Run a statement for a module with its own tables."""
        return self._connection.execute(query, parameters)


def dump(value: Any) -> str:
    """Return the compact JSON for the tables."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _model(row: tuple[Any, ...]) -> StoredModel:
    seq, name, api, operation, document, training = row
    started = SimulatedTraining(**json.loads(training)) if training else None
    return StoredModel(seq, name, api, operation, json.loads(document), started)


def with_inherited(own: Sequence[JsonObject], inherited: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the examples of a child: its own, and those of its parent for other inputs."""
    known = {example.get("textInput") for example in own}
    return [*own, *(example for example in inherited if example.get("textInput") not in known)]
