"""Reads lines as the runner of GitHub Actions does, and takes them for commands by the same rules.

See ``ActionCommand.TryParseV2`` and ``TryParse`` of https://github.com/actions/runner: the newer form begins a line,
the older stands anywhere in one. The runner's comparisons pass over characters without a width; so does this.
"""

from __future__ import annotations

import re
import unicodedata

from msgspec import Struct, field

COMMANDS = frozenset({"error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands", "echo"})
COMMANDS |= frozenset({"set-output", "save-state", "set-env", "add-path", "add-matcher", "remove-matcher"})


class Command(Struct, frozen=True):
    """A command that the runner would carry out."""

    name: str
    data: str
    properties: dict[str, str] = field(default_factory=dict)


def commands_in(text: str) -> list[Command]:
    """Every command in what a process wrote to one of its streams."""
    found = (_newer(line) or _older(line) for line in re.split(r"\r\n|\r|\n", text))
    return [command for command in found if command]


def _seen(line: str) -> str:
    return "".join(one for one in line if unicodedata.category(one) not in {"Cf", "Cc", "Mn"})


def _newer(line: str) -> Command | None:
    line = _seen(line).lstrip()
    if not line.startswith("::") or "::" not in line[2:]:
        return None
    head, _, data = line[2:].partition("::")
    name, _, properties = head.partition(" ")
    if name.lower() not in COMMANDS:
        return None
    pairs = (one.partition("=") for one in properties.split(",") if one)
    values = {
        key.strip(): _plain(value, ("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")) for key, _, value in pairs
    }
    return Command(name, _plain(data, ("%0D", "\r"), ("%0A", "\n")), values)


def _older(line: str) -> Command | None:
    found = re.search(r"##\[([^\]\s]*)[^\]]*\](.*)", _seen(line))
    return Command(found[1], found[2]) if found and found[1].lower() in COMMANDS else None


def _plain(text: str, *pairs: tuple[str, str]) -> str:
    for escaped, plain in (*pairs, ("%25", "%")):
        text = text.replace(escaped, plain)
    return text
