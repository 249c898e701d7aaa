"""Any bytes as a document: a value, or one message with a place; the work grows with the size and not faster."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import decode

from reconciler.commands._event_log import event_log
from reconciler.commands._output import Output
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.lock import Lock
from reconciler.domain.model import Target
from reconciler.environment import Environment
from reconciler.reports.documents.events import AnyLine, EventsHeader
from reconciler.reports.documents.saved_plan import SavedPlan
from reconciler.state.document_files import read_saved_plan
from reconciler.state.json_decoder import JsonError, JsonSource, scan
from reconciler.state.lockfile import dumps, loads
from reconciler.state.published_pointer import read_pointer
from support.cases import each_row

LOCKFILES = Path(__file__).parents[1] / "fixtures" / "lockfiles"
VALID = (LOCKFILES / "checks.lock.json").read_bytes()
TARGET = Target("default", "specs/reconcile.yaml", "embedded", "demo")
MARKER = b"<<<<<<< HEAD\n"
HEADER = b'{"kind": "Events", "version": 1'


def mutations() -> st.SearchStrategy[bytes]:
    """A valid lockfile that was cut, or has swapped bytes, a repeated line, inserted markers or other bytes."""
    at = st.integers(0, len(VALID) - 1)
    lines = VALID.splitlines(keepends=True)
    line = st.integers(0, len(lines) - 1)
    return st.one_of(
        at.map(lambda end: VALID[:end]),
        st.tuples(at, st.binary(min_size=1, max_size=3)).map(
            lambda cut: VALID[: cut[0]] + cut[1] + VALID[cut[0] + 1 :]
        ),
        line.map(lambda number: b"".join([*lines[: number + 1], *lines[number:]])),
        line.map(lambda number: b"".join([*lines[:number], MARKER, *lines[number:]])),
        st.tuples(at, st.sampled_from([b"1e999", b"NaN", b'"\\ud800"', b"[" * 99, b"9" * 99, b"\xef\xbb\xbf"])).map(
            lambda put: VALID[: put[0]] + put[1] + VALID[put[0] :]
        ),
    )


def require_one_message(read: Callable[[], object]) -> None:
    """Any other exception fails the test."""
    error: ReconcileError | None = None
    try:
        read()
    except ReconcileError as caught:
        error = caught
    assert error is None or (error.remedy and re.match(r"x\.json:[1-9]\d*:[1-9]\d*: ", error.message)), error


@given(st.binary(max_size=60) | mutations())
def test_any_bytes_as_a_lockfile_are_a_lock_or_one_message(data: bytes) -> None:
    def read() -> None:
        lock = loads(data, "x.json")
        assert loads(dumps(lock).encode(), "x.json") == lock

    require_one_message(read)


@given(st.text(max_size=60) | mutations().map(lambda data: data.decode(errors="replace")))
def test_any_text_as_a_pointer_is_a_pointer_or_one_message(text: str) -> None:
    require_one_message(lambda: read_pointer(text, TARGET, "x.json"))


@given(data=st.binary(max_size=60) | mutations())
def test_any_bytes_as_a_saved_plan_are_a_plan_or_one_message(data: bytes, tmp_path_factory: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "x.json"
    file.write_bytes(data)
    require_one_message(lambda: read_saved_plan(file, "x.json", SavedPlan))


@given(data=st.binary(max_size=60) | mutations() | st.binary(max_size=20).map(lambda data: HEADER + data))
def test_any_bytes_as_an_event_log_are_overwritten_or_kept_with_one_message(data: bytes, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "events.jsonl").write_bytes(data)
    refusal: str | None = None
    try:
        with event_log(Environment(cwd=folder, stdin=BytesIO()), Output(), "events.jsonl", "apply"):
            pass
    except UsageError as error:
        refusal = str(error)
    kept = (folder / "events.jsonl").read_bytes()
    if refusal is None:
        lines = kept.splitlines()
        assert decode(lines[0], type=EventsHeader).command == "apply"
        assert all(decode(line, type=AnyLine) for line in lines[1:])
    else:
        assert refusal.startswith("--events events.jsonl would overwrite a file that is not an event log")
        assert kept == data


def scanned(text: str) -> bool:
    try:
        for _ in scan(text):
            pass
    except JsonError:
        return False
    return True


def parsed(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@given(st.text(st.sampled_from('{}[]:,"\\ \n01.eE+-truefalsn'), max_size=30) | st.text(max_size=20))
def test_the_scan_accepts_what_the_parser_accepts(text: str) -> None:
    if scanned(text):
        assert parsed(text)
    elif parsed(text):
        with pytest.raises(ReconcileError):
            JsonSource(text, "x.json", "fix it").parse()


@each_row(
    ("data", "message"),
    [
        (b'\xef\xbb\xbf{"version": 1}', "x.json:1:1: begins with a byte order mark; save it as UTF-8 without"),
        (
            b'{"version": 1,\n "models": {},\n "models": {}}',
            "x.json:3:2: models: duplicate key (first defined on line 2)",
        ),
        (b'{"version": 2, "models": {}}', "x.json:1:13: unsupported version 2"),
        (b'{"version": 1,\n "models": {"a"', "x.json:2:16: truncated JSON"),
        (b'{"version": 1,\n<<<<<<< HEAD\n}', "x.json:2:1: contains git conflict markers; run reconcile refresh"),
        (b'{"version": 1, "models": {}, "a": "\xff"}', "x.json:1:36: not UTF-8 text: invalid byte 0xff"),
        (
            b'{"version": 1, "models": {"a": {"manifest": 1e999}}}',
            "x.json:1:45: models.a.manifest: number out of range",
        ),
        (b'{"version": 1, "models": {"A": {}}}', "x.json:1:32: models.A: "),
        (b'{"version": 1, "models": {"a": {"manifest": "\\ud800"}}}', "x.json:1:45: models.a.manifest: invalid text"),
    ],
)
def test_each_problem_has_its_own_message_with_a_place(data: bytes, message: str) -> None:
    with pytest.raises(ReconcileError) as caught:
        loads(data, "x.json")
    assert str(caught.value).startswith(message)
    assert "delete" not in caught.value.remedy


class CountedText(str):
    """A text that counts the characters that are copied from it."""

    __slots__ = ()
    copied: ClassVar[int] = 0

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        CountedText.copied += len(part)
        return part


@each_row("filler", ['"a": 1, ', '"a": "\\u0041", ', "[[[]]], ", '{"a": [1, 2]}, ', "  \n"])
def test_the_work_of_a_scan_is_linear_in_the_size(filler: str) -> None:
    def work(count: int) -> int:
        CountedText.copied = 0
        scanned(CountedText("[" + filler.replace('"a": ', "") * count + "1"))
        return CountedText.copied

    assert work(4_000) <= 5 * work(1_000) + 100


def test_a_saved_plan_of_another_kind_has_its_own_message(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"kind": "SamedPlan", "version": 1, "plan": {}}')
    with pytest.raises(ReconcileError, match=r"x\.json:1:10: kind: expected one of SavedPlan"):
        read_saved_plan(tmp_path / "x.json", "x.json", SavedPlan)


def listed(item: bytes, count: int) -> bytes:
    """Return the item with each number up to the count, separated by commas."""
    return b", ".join(item % number for number in range(count))


def calls_of(data: bytes) -> int:
    """Return the number of function calls for reading these bytes as a lockfile, those of C functions included."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(called)
    try:
        loads(data, "x.json")
    except ReconcileError:
        pass
    finally:
        sys.setprofile(None)
    return count


@each_row(
    "build",
    [
        pytest.param(lambda n: b"{" + listed(b'"k%d": 1', n) + b', "k0": 1}', id="duplicates"),
        pytest.param(lambda n: b'{"a": 1' + b', "a": 1' * n + b"}", id="one key"),
        pytest.param(lambda n: b"[" * n, id="lists"),
        pytest.param(lambda n: b'{"a": ' * n, id="objects"),
        pytest.param(lambda n: b'{"a": [' + b"[], " * n, id="truncated"),
        pytest.param(lambda n: b'{"a": "' + b"\\u0041" * n + b'", "a": 1}', id="escapes"),
        pytest.param(lambda n: b'{"a": "' + b"\\" * (2 * n + 1) + b'"', id="backslashes"),
        pytest.param(lambda n: (MARKER + b"=======\n>>>>>>> main\n") * n, id="conflicts"),
        pytest.param(lambda n: b"<" * n + b"\n" + b"< " * n, id="almost markers"),
        pytest.param(lambda n: b'{"a": ' + b"9" * n + b"}", id="digits"),
        pytest.param(
            lambda n: b'{"version": 1, "models": {' + listed(b'"m%d": {"manifest": "m"}', n) + b"}}",
            id="models without a target",
        ),
        pytest.param(
            lambda n: b'{"version": 1, "models": {' + listed(b'"m%d": {}', n) + b"}}",
            id="models without a manifest",
        ),
    ],
)
def test_the_work_of_reading_hostile_bytes_is_linear_in_the_size(build: Callable[[int], bytes]) -> None:
    small, large = (calls_of(build(count)) for count in (500, 2_000))
    assert large <= 4 * small + 200


def test_a_lock_is_read_as_it_was_written() -> None:
    assert loads(dumps(Lock()), "x.json") == Lock()


@each_row(
    "text",
    [
        '{"models":{},"version":1,"a - at $.zzz":1}',
        '{"models":{},"version":1,"a` - at `$.target.zzz":1}',
        '{"models":{},"version":1,"target":{"name":"a","provider":"b","scope":"c","x - at $.models.y":1}}',
        '{"models":{"X - at `$[...]`":{}},"version":1}',
    ],
)
def test_a_name_that_looks_like_a_place_is_an_error_like_any_other(text: str) -> None:
    with pytest.raises(ReconcileError, match=r"^f:1:\d+: .*(unknown field|expected)"):
        loads(text, "f")
