"""Texts from services and for terminals, commands in messages, and the hosts of endpoints."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import reconciler
from reconciler.domain.endpoints import is_host
from reconciler.domain.errors import Place, Problem, ReconcileError
from reconciler.domain.target_option import COMMANDS, commands_for, for_target
from reconciler.domain.text import encodable, sanitize, terminal_safe
from support.cases import each_row

PACKAGE: Final = Path(reconciler.__file__).parent
_COMMAND: Final = re.compile(rf"reconcile ({'|'.join(COMMANDS)})\b")


@each_row(
    ("text", "encoding", "shown"),
    [("a → b", "utf-8", "a → b"), ("café → b", "latin-1", "café -> b"), ("日", "ascii", r"\u65e5")],
)
def test_a_stream_gets_what_it_can_encode(text: str, encoding: str, shown: str) -> None:
    assert encodable(text, encoding) == shown


@each_row(
    ("received", "shown"),
    [("It failed.", "It failed"), ("a\n\x1b[2Jb\u202ec", "a [2Jb c"), ("x" * 700, "x" * 600 + "…")],
)
def test_a_text_of_a_service_is_one_short_line(received: str, shown: str) -> None:
    assert sanitize(received) == shown


def test_what_steers_a_terminal_is_escaped() -> None:
    assert terminal_safe("a\x1b\n\u202e") == r"a\x1b\n\u202e"


@each_row(
    ("netloc", "is_valid"),
    [
        ("localhost:8080", True),
        ("[::1]:8080", True),
        ("[::1]", True),
        ("[::1%eth0]", False),
        ("[not an address]", False),
        ("exa_mple.com", False),
        ("host:", False),
    ],
)
def test_the_host_of_an_endpoint(netloc: str, *, is_valid: bool) -> None:
    assert is_host(netloc) is is_valid


@each_row(
    ("text", "shown"),
    [
        ("run reconcile forget adder", "run reconcile forget --target prod adder"),
        (
            "reconcile prune --dry-run, or `reconcile promote NAME --to KEY`",
            "reconcile prune --target prod --dry-run, or `reconcile promote --target prod NAME --to KEY`",
        ),
        ("run reconcile plan --target vertex", "run reconcile plan --target vertex"),
        (
            "run `reconcile init`, or reconcile help forget",
            "run `reconcile init`, or reconcile help forget",
        ),
        ("preconcile plan, reconcile planning", "preconcile plan, reconcile planning"),
    ],
)
def test_commands_of_messages_name_the_target(text: str, shown: str) -> None:
    assert for_target(text) == text
    assert for_target(text, "prod") == shown
    with commands_for("prod"):
        assert for_target(for_target(text)) == shown
        assert ReconcileError("run reconcile plan", text).remedy == shown
        assert str(Problem(Place("a"), "", "run reconcile plan", text)) == f"a:1:1: run reconcile plan; {shown}"
    assert for_target(text) == text


def _open_commands(node: ast.AST, constants: frozenset[str], *, complete: bool = False) -> Iterator[ast.expr]:
    """Yield each text with a command that neither ``for_target`` nor an error completes; also uses of ``constants``."""
    if isinstance(node, ast.Call):
        names = {
            name.attr if isinstance(name, ast.Attribute) else ast.unparse(name) for name in (node.func, *node.args)
        }
        complete = complete or "for_target" in names or any(name.endswith("Error") for name in names)
    complete = complete or isinstance(node, ast.Raise)
    if isinstance(node, ast.Compare) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return  # not shown: a membership test, or the documentation of what is before it
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and not complete and _COMMAND.search(node.value):
        yield node
    if isinstance(node, ast.Name) and node.id in constants and isinstance(node.ctx, ast.Load) and not complete:
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _open_commands(child, constants, complete=complete)


def test_no_message_has_a_command_without_the_target() -> None:
    found: list[str] = []
    for package in ("planning", "engine", "state", "reports"):
        for file in sorted((PACKAGE / package).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            assigned = [one for one in tree.body if isinstance(one, ast.Assign | ast.AnnAssign)]
            holding = (one for one in assigned if [*_open_commands(one, frozenset())])
            targets = (one.targets[0] if isinstance(one, ast.Assign) else one.target for one in holding)
            constants = frozenset(ast.unparse(target) for target in targets)
            rest = (one for one in tree.body if one not in assigned)
            found += (f"{file.name}:{text.lineno}" for one in rest for text in _open_commands(one, constants))
    assert found == []
