"""Find phrases in the prose of source files: what a user or contributor reads, without the code around it.

Run ``python tests/support/prose.py [FILE|FOLDER]…`` to list them; tests/language.toml has the rules.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import re2
from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
CODE = "`…`"
_COVERED = (
    "reconciler/**/*.py",
    "reconciler/**/*.j2",
    "reconciler/**/*.yml",
    "schemas/*.json",
    "benchmarks/*.py",
    "docs/**/*.md",
    "docs/*.py",
    "examples/**/*.md",
    "examples/**/*.yaml",
    "specs/*.yaml",
    "*.md",
)
_CODE_SPAN = re.compile(r"``[^`]+``|`[^`\n]+`")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_TEXT = (ast.Constant, ast.JoinedStr)
_LOOP = (ast.For, ast.AsyncFor, ast.comprehension)
_STRING_OR_COMMENT = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|(?P<comment>\#[^\n]*)""",
    re.DOTALL,
)
_LOOKAROUND = re.compile(r"\(\?<?[!=](?:[^()]|\([^()]*\))*\)")
_MARKUP = re.compile(r"\{%.*?%\}|\{#.*?#\}|\{\{.*?\}\}|<[^>]*>|\]\([^)]*\)|https?://\S+", re.DOTALL)


class Passage(Struct, frozen=True):
    """A run of prose and the line on which it begins."""

    line: int
    text: str


class Parsed(Struct, frozen=True):
    """The prose of a file, and the parameters and loop variables of a module, each with its line."""

    passages: tuple[Passage, ...]
    names: tuple[tuple[int, str], ...] = ()


class Finding(Struct, frozen=True):
    """A phrase that the language rules exclude, with what to write instead."""

    file: Path
    line: int
    phrase: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.phrase!r}: {self.instead}"


def read_rules() -> dict[str, Any]:
    """Return the tables of tests/language.toml."""
    return tomllib.loads((ROOT / "tests" / "language.toml").read_text(encoding="utf-8"))


def covered_files(folder: Path) -> list[Path]:
    """List the files of a checkout that the language rules cover."""
    return [file for pattern in _COVERED for file in sorted(folder.glob(pattern))]


def find_phrases(file: Path, phrases: Mapping[str, str]) -> Iterator[Finding]:
    """Find every match of the patterns in the prose of a file; a space in a pattern matches any white space."""
    rules = [(pattern.replace(" ", r"\s+"), instead) for pattern, instead in phrases.items()]
    candidates = _candidates(tuple(spaced for spaced, _ in rules))
    for passage in read_file(file).passages:
        for number in sorted(candidates.Match(passage.text.encode(errors="replace")) or ()):
            spaced, instead = rules[number]
            for match in re.finditer(spaced, passage.text, re.IGNORECASE):
                line = passage.line + passage.text.count("\n", 0, match.start())
                yield Finding(file, line, " ".join(match.group().split()), instead)


@cache
def _candidates(patterns: tuple[str, ...]) -> re2.Set:
    """Combine the patterns, without what RE2 does not know, which only restricts them, into one that is quick."""
    options = re2.Options()
    options.case_sensitive = False
    candidates = re2.Set.SearchSet(options)
    for pattern in patterns:
        candidates.Add(_LOOKAROUND.sub("", pattern))
    candidates.Compile()
    return candidates


@cache
def read_file(file: Path) -> Parsed:
    """Return the prose of one file, by the kind of file, and the names that a module binds."""
    text = file.read_text(encoding="utf-8")
    match file.suffix:
        case ".py":
            return _python(text)
        case ".md":
            return Parsed(tuple(_lines(_blank(_FENCE, text))))
        case ".json":
            return Parsed(tuple(_descriptions(json.loads(text), text)))
        case _:
            return Parsed(tuple(_lines(text)))


def _python(text: str) -> Parsed:
    """Return comments, docstrings and other strings with a space; a value inside an f-string is three dots."""
    passages = [
        Passage(block[0][0], _plain("\n".join(comment for _, _, comment in block)))
        for block in _adjacent(_comments(text))
    ]
    names: list[tuple[int, str]] = []
    nodes: list[Any] = [ast.parse(text)]
    while nodes:  # several times as quick as ast.walk
        node = nodes.pop()
        if isinstance(node, _TEXT):
            string = _string(node)
            if string is not None and " " in string.strip():
                passages.append(Passage(node.lineno, _plain(string)))
            if isinstance(node, ast.JoinedStr):
                nodes += [value.value for value in node.values if isinstance(value, ast.FormattedValue)]
            continue
        if isinstance(node, ast.arg):
            names.append((node.lineno, node.arg))
        elif isinstance(node, _LOOP):
            names += ((name.lineno, name.id) for name in ast.walk(node.target) if isinstance(name, ast.Name))
        for field in node._fields:
            child = getattr(node, field)
            if isinstance(child, list):
                nodes += [item for item in child if isinstance(item, ast.AST)]  # a name or nothing is no node
            elif isinstance(child, ast.AST):
                nodes.append(child)
    return Parsed(tuple(passages), tuple(names))


def _comments(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the line, the column and the text of each comment of a module."""
    line, counted = 1, 0
    for match in _STRING_OR_COMMENT.finditer(text):
        if match["comment"]:
            line, counted = line + text.count("\n", counted, match.start()), match.start()
            column = counted - text.rfind("\n", 0, counted) - 1
            yield line, column, match["comment"].removeprefix("#")


def _adjacent(comments: Iterable[tuple[int, int, str]]) -> Iterator[list[tuple[int, int, str]]]:
    block: list[tuple[int, int, str]] = []
    for comment in comments:
        if block and comment[:2] != (block[-1][0] + 1, block[-1][1]):
            yield block
            block = []
        block.append(comment)
    if block:
        yield block


def _string(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def _descriptions(node: Any, text: str) -> Iterator[Passage]:
    """Yield the titles and descriptions of a JSON Schema; the line is that of the first equal value."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if name in {"title", "description"} and isinstance(value, str):
            start = max(text.find(json.dumps(value, ensure_ascii=False)), 0)
            yield Passage(1 + text.count("\n", 0, start), _plain(value))
        else:
            yield from _descriptions(value, text)


def _lines(text: str) -> Iterator[Passage]:
    """Yield the paragraphs of a page; each row of a table is one of its own."""
    clean = _plain(text)
    for match in re.finditer(r"\|.*|(?:(?!\|).+\n?)+", clean):
        yield Passage(_line(clean, match), match.group())


def _line(text: str, match: re.Match[str]) -> int:
    return 1 + text.count("\n", 0, match.start())


def _plain(text: str) -> str:
    return _blank(_MARKUP, _blank(_CODE_SPAN, text, CODE))


def _blank(expression: re.Pattern[str], text: str, replacement: str = "") -> str:
    """Replace matches, and keep their line breaks so that line numbers stay right."""
    return expression.sub(lambda match: replacement + "\n" * match.group().count("\n"), text)


def _expand(path: Path) -> list[Path]:
    return [file for file in covered_files(ROOT) if file.is_relative_to(path.resolve())] if path.is_dir() else [path]


def main(arguments: list[str]) -> int:
    """Print the findings of the files and folders given, or of every covered file."""
    rules = read_rules()
    phrases = rules["banned"] | rules["spelling"]
    files = [file for argument in arguments for file in _expand(Path(argument))] or covered_files(ROOT)
    findings = [finding for file in files for finding in find_phrases(file, phrases)]
    print("\n".join(map(str, findings)))  # noqa: T201 - the result of a script
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
