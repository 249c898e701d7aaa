"""Messages, comments, docstrings and pages follow docs/glossary.md and tests/language.toml."""

from __future__ import annotations

import re
from pathlib import Path

from support.cases import each_row
from support.prose import ROOT, covered_files, find_phrases, read_file, read_rules

RULES = read_rules()
GLOSSARY = ROOT / "docs" / "glossary.md"


def found(table: str) -> list[str]:
    findings = (finding for file in covered_files(ROOT) for finding in find_phrases(file, RULES[table]))
    return [str(finding).removeprefix(f"{ROOT}/") for finding in findings]


def test_no_file_has_a_banned_phrase() -> None:
    assert found("banned") == []


def test_terms_have_one_spelling() -> None:
    assert found("spelling") == []


def test_parameters_and_loop_variables_say_what_they_hold() -> None:
    rejected = {*RULES["names"]["pronouns"], *RULES["names"]["empty"]}
    assert [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sorted((ROOT / "reconciler").rglob("*.py"))
        for line, name in read_file(file).names
        if name in rejected
    ] == []


def test_the_glossary_has_every_action_of_the_command_line_once() -> None:
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(terms) == len(set(terms))
    assert {"desired state", "live state", "recorded state", "serving generation", "prune", "drift"} <= set(terms)


@each_row(
    ("name", "text", "phrases"),
    [
        ("a.py", 'x = f"model {y} stands here"\n', ["stands"]),
        ("a.py", '"""Return what\n    serves."""\n', ["what serves"]),
        ("a.py", "# what\n# serves now\n", ["what serves"]),
        ("a.py", 'x = "what_serves" + y["told"]\n', []),
        ("a.md", "One `what serves`.\n\n```text\nwhat serves\n```\n", []),
        ("a.md", "a\nb\nwhat serves\n", ["what serves"]),
        ("a.schema.json", '{"$defs": {"a": {"description": "It is told."}}}', ["told"]),
        ("a.html.j2", '<p class="told">{{ told }}</p><p>what serves</p>', ["what serves"]),
        ("a.yml", "a: 1 # nobody\n", ["nobody"]),
    ],
)
def test_phrases_are_found_in_prose_alone(tmp_path: Path, name: str, text: str, phrases: list[str]) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    assert [finding.phrase for finding in find_phrases(file, RULES["banned"])] == phrases


def test_findings_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""First line.\n\nThen `code`\nand nobody.\n"""\n', encoding="utf-8")
    (finding,) = find_phrases(file, RULES["banned"])
    assert finding.line == 4


def test_every_kind_of_covered_file_has_prose() -> None:
    suffixes = {file.suffix for file in covered_files(ROOT) if read_file(file).passages}
    assert {".py", ".md", ".json", ".j2", ".yml", ".yaml"} <= suffixes
