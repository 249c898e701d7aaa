"""What PyYAML and libyaml say about broken YAML, in words that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.domain.errors import Place, Problem

if TYPE_CHECKING:
    from yaml import MarkedYAMLError


_QUOTE = "close it with the same quote that opens it"
_MISFIT = "does not fit what stands before it"
_ALIGN = "mend the indentation, or put the text in quotes"
_EXPLAINED: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not allowed", "a colon is not allowed here", _ALIGN),
    ("could not find expected ':'", "a key without a colon", "write it as `key: value`, with a space after the colon"),
    ("expected ',' or '}'", "the { before this is not closed", "add the missing comma or }"),
    ("expected ',' or ']'", "the [ before this is not closed", "add the missing comma or ]"),
    ("expected key", _MISFIT, _ALIGN),
    ("expected <block end>", _MISFIT, _ALIGN),
    ("sequence entries are not allowed", "a list item is not allowed here", "put it on a line of its own"),
    ("expected '-' indicator", _MISFIT, _ALIGN),
    ("unexpected end of stream", "the quoted text is not closed", _QUOTE),
    ("unexpected document separator", "the quoted text is not closed", _QUOTE),
    ("unexpected document indicator", "the quoted text is not closed", _QUOTE),
    ("exceeded maximum nesting depth", "is nested too deep", "write flatter YAML"),
    ("escape", "the backslash in the double quotes starts no known escape", "write \\\\ for a backslash, or use '…'"),
    ("expected <document start>", "something follows the end of the document", "begin a new document with ---"),
    ("expected '<document start>'", "something follows the end of the document", "begin a new document with ---"),
    ("cannot start any token", "this character cannot begin a text", "put the text in quotes"),
    ("expected node content", "a value is missing here", "write one, or close the bracket before it"),
    ("expected the node content", "a value is missing here", "write one, or close the bracket before it"),
)


def translate(error: MarkedYAMLError, file: str, text: str) -> Problem:
    """What is wrong, where, and what to do, for an error of the YAML scanner or parser in this text."""
    mark = error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
    if _character(text, place) == "\t":
        return Problem(place, "", "a tab indents this line", "indent with spaces")
    said = error.problem or error.context or "cannot be read"
    for part, message, remedy in _EXPLAINED:
        if part in said:
            return Problem(place, "", message, remedy)
    return Problem(place, "", f"is no valid YAML: {said}", "mend the file")


def _character(text: str, place: Place) -> str:
    lines = text.split("\n", place.line)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    return line[place.column - 1 : place.column]
