"""Run folders with a tiny model, and trainers in forked processes that end at an exact point."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from reconciler.trainer.__main__ import main
from reconciler.trainer.run_files import EXAMPLES_FILE, RUN_FILE, RunCheck

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
"""The examples of the tiny model: each word is answered with the next."""


def turn(role: str, text: str) -> dict[str, Any]:
    """Return a turn of a canonical conversation."""
    return {"role": role, "parts": [{"text": text}]}


def conversation(*texts: str) -> dict[str, Any]:
    """Return a canonical conversation of alternating texts, of which the user's is the first."""
    return {"contents": [turn(role, text) for role, text in zip(("user", "model") * len(texts), texts, strict=False)]}


def preference(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    """Return a canonical example of a preference."""
    completions = [{"score": score, "completion": turn("model", text)} for score, text in ((0, rejected), (1, chosen))]
    return {"contents": [turn("user", prompt)], "completions": completions}


def supervised_rows() -> list[dict[str, Any]]:
    """Return examples of one turn."""
    return [conversation(word, following) for word, following in pairwise(WORDS)]


def preference_rows() -> list[dict[str, Any]]:
    """Return preferences for the next word."""
    return [preference(word, following, word) for word, following in pairwise(WORDS)]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write examples as JSON Lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_run(run: Path, model: Path, rows: Iterable[dict[str, Any]], **members: Any) -> Path:
    """Write a run folder with a base model of a local folder and return it."""
    run.mkdir(parents=True)
    document = {"kind": "TrainingRun", "version": 1, "base": {"folder": str(model)}, **members}
    (run / RUN_FILE).write_text(json.dumps(document), encoding="utf-8")
    write_rows(run / EXAMPLES_FILE, rows)
    return run


AuditEvent = Callable[[str, tuple[Any, ...]], None]


def train_forked(
    run: Path, observe: AuditEvent = lambda _event, _arguments: None, before: Callable[[], None] = lambda: None
) -> int:
    """Run the trainer in a forked process and return its exit status, negative for a signal.

    ``observe`` is called with the audit events of the process, such as ``open`` and ``os.rename``, and can end it.
    """
    child = os.fork()
    if not child:
        status = 99
        try:
            before()
            sys.addaudithook(observe)
            status = main([str(run)])
        except BaseException:  # noqa: BLE001 - a child must not return into the test
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_event(number: int, act: Callable[[], None], *, event: str, ending: str) -> AuditEvent:
    """Return an observer that acts at the n-th event of a kind whose first argument, a path, has this ending."""
    seen = 0

    def observe(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name == event and str(arguments[0]).endswith(ending):
            seen += 1
            if seen == number:
                act()

    return observe


def run_check(run: Path, *, dry_run: bool = False) -> RunCheck:
    """Return the document that ``--check`` prints, which a forked process writes."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(writing, 1)
            sys.stdout = os.fdopen(1, "w", encoding="utf-8")
            main([str(run), "--check", *["--dry-run"] * dry_run])
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - a child must not return into the test
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return msgspec.json.decode(text, type=RunCheck)
