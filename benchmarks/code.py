"""Measure the size and the language of the code.

Run ``python benchmarks/code.py [FOLDER]``, where FOLDER is a checkout (default: the one of this script). Lines are
physical lines of ``reconciler/**/*.py``; `__init__.py` files are counted like all others unless a row says otherwise.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from support.prose import covered_files, find_phrases, read_rules  # noqa: E402 - found through the line above

SHORT_FILE_LINES = 60
DUPLICATE_LINES = 6
LANGUAGE = read_rules()
Functions = ast.FunctionDef | ast.AsyncFunctionDef


def main(folder: Path) -> None:
    """Print one line for each number."""
    sources = {file: file.read_text(encoding="utf-8") for file in sorted((folder / "reconciler").rglob("*.py"))}
    trees = {file: ast.parse(text) for file, text in sources.items()}
    for label, number in {
        **measure_files(sources),
        **measure_functions(trees),
        **measure_names(trees),
        **measure_text(folder, sources, trees),
    }.items():
        print(f"{label:<64}{number:>16}")


def measure_files(sources: Mapping[Path, str]) -> dict[str, str]:
    """Count files and lines; the share of short files leaves `__init__.py` out of both counts."""
    lines = {file: text.count("\n") for file, text in sources.items()}
    modules = [count for file, count in lines.items() if file.name != "__init__.py"]
    short = sum(count < SHORT_FILE_LINES for count in modules)
    return {
        "Python lines": f"{sum(lines.values()):,}",
        "Python files": str(len(lines)),
        f"files under {SHORT_FILE_LINES} lines": str(sum(count < SHORT_FILE_LINES for count in lines.values())),
        f"files under {SHORT_FILE_LINES} lines without __init__.py": f"{short} ({short / len(modules):.0%})",
        "longest file, lines": str(max(lines.values())),
        "modules named with -ing": str(sum(file.stem.endswith("ing") for file in lines)),
    }


def measure_functions(trees: Mapping[Path, ast.Module]) -> dict[str, str]:
    """Measure functions and methods from `def` to the last line, decorators apart."""
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    sizes = sorted(1 + (node.end_lineno or 0) - node.lineno for node in nodes if isinstance(node, Functions))
    return {
        "functions": str(len(sizes)),
        "function lines: median, p90, max": f"{median(sizes):g}, {sizes[len(sizes) * 9 // 10]}, {sizes[-1]}",
    }


def measure_names(trees: Mapping[Path, ast.Module]) -> dict[str, str]:
    """Count class names that several modules define, and names that say nothing."""
    modules_of = defaultdict(set)
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                modules_of[node.name].add(file)
    names = Counter(name for tree in trees.values() for name in bound_names(tree))
    return {
        "class names defined in several modules": str(sum(len(files) > 1 for files in modules_of.values())),
        "pronouns as parameters or loop variables": str(sum(names[name] for name in LANGUAGE["names"]["pronouns"])),
        "empty words as parameters or loop variables": str(sum(names[name] for name in LANGUAGE["names"]["empty"])),
    }


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of parameters, loop variables and comprehension variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            yield from (child.id for child in ast.walk(node.target) if isinstance(child, ast.Name))


def measure_text(folder: Path, sources: Mapping[Path, str], trees: Mapping[Path, ast.Module]) -> dict[str, str]:
    """Count untyped documents, lines of schemas, duplicates and banned phrases."""
    named, untyped = count_untyped_documents(trees)
    schemas = sum(file.read_text(encoding="utf-8").count("\n") for file in (folder / "schemas").glob("*.json"))
    phrases = sum(1 for file in covered_files(folder) for _ in find_phrases(file, LANGUAGE["banned"]))
    return {
        "parameters named document of type dict[str, Any] or Mapping": str(named),
        "parameters of type dict[str, Any] or Mapping[str, Any]": str(untyped),
        "lines of JSON Schema": f"{schemas:,}",
        f"runs of {DUPLICATE_LINES}+ equal lines in two places": str(count_duplicates(sources, trees)),
        "banned phrases in prose": str(phrases),
    }


def count_untyped_documents(trees: Mapping[Path, ast.Module]) -> tuple[int, int]:
    """Count parameters whose type is a mapping of `Any`, spelled out or by an alias such as `Document`."""
    plain = {"dict[str, Any]", "Mapping[str, Any]"}
    statements = [node for tree in trees.values() for node in tree.body if isinstance(node, ast.Assign)]
    aliases = {ast.unparse(node.targets[0]) for node in statements if ast.unparse(node.value) in plain}
    parameters = [
        node.arg
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation) in plain | aliases
    ]
    return parameters.count("document"), len(parameters)


def count_duplicates(sources: Mapping[Path, str], trees: Mapping[Path, ast.Module]) -> int:
    """Count the longest runs of equal lines in two places; indentation, blank lines and imports do not count."""
    lines: list[str] = []
    for number, (file, text) in enumerate(sources.items()):
        imports = {
            line
            for node in ast.walk(trees[file])
            if isinstance(node, ast.Import | ast.ImportFrom)
            for line in span(node)
        }
        rows = [row.strip() for line, row in enumerate(text.splitlines(), start=1) if line not in imports]
        lines += [row for row in rows if row] + [f"end of file {number}"]
    places = defaultdict(list)
    for start in range(len(lines) - DUPLICATE_LINES + 1):
        places[tuple(lines[start : start + DUPLICATE_LINES])].append(start)
    return sum(
        first == 0 or lines[first - 1] != lines[second - 1]
        for starts in places.values()
        for first, second in pairwise(starts)
    )


def span(node: ast.stmt) -> range:
    """Return the line numbers of a statement."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
