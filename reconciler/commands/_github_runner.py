"""The runner of GitHub Actions: annotations, the step summary, and streams without workflow commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from reconciler.domain.errors import Problem
from reconciler.manifests.paths import repository_of
from reconciler.reports.documents.plan_and_result import Document, validation_document
from reconciler.reports.github_annotations import SUMMARY, Annotation, annotated, commands, defused
from reconciler.reports.markdown import Limit, markdown

_TOLD: Final = frozenset({"Validation", "Plan", "Result", "Drift", "Check"})
"""The kinds of documents of which annotations and a summary are made."""


class Defused:
    """A stream on which nothing is a workflow command; one that is ours goes to ``stream`` itself."""

    buffer = None
    """Nobody writes past this stream."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._line = ""

    def write(self, text: str) -> int:
        """Write a text; what only the end of the line so far makes a command is found, too."""
        whole = defused(self._line + text)
        self.stream.write(whole[len(self._line) :])
        self._line = whole[max(whole.rfind("\n"), whole.rfind("\r")) + 1 :]
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@dataclass(slots=True)
class Runner:
    """The runner of a step: takes note of annotations until the command ends, and gets a summary for the step's page.

    ``summary`` is the file that is shown there, empty where there is none.
    """

    cwd: Path
    summary: str = ""
    _found: list[Annotation] = field(default_factory=list)

    def tell(self, document: Document) -> str:
        """Take note of a document; what is returned says why its summary could not be written, and is mostly empty."""
        if document["kind"] not in _TOLD:
            return ""
        self._found += annotated(document, self._path)
        return self._summarize(document) if self.summary else ""

    def problems(self, problems: Iterable[Problem]) -> None:
        """Take note of problems of the input."""
        self._found += annotated(validation_document(problems, 0, 0), self._path)

    def error(self, message: str) -> None:
        """Take note of what ended the command."""
        self._found.append(Annotation("error", message, title="reconcile"))

    def commands(self) -> Iterator[str]:
        """What the runner is to be told at the end."""
        return commands(self._found)

    def _path(self, file: str) -> str:
        """The path from the top of the repository, as annotations have it."""
        path = self.cwd / file
        folder = path.parent.resolve()
        top = repository_of(folder)
        return (folder / path.name).relative_to(top).as_posix() if (top / ".git").exists() else file

    def _summarize(self, document: Document) -> str:
        path = Path(self.summary)
        try:
            taken = path.stat().st_size if path.exists() else 0
            limit = Limit(SUMMARY.size - taken - 1, SUMMARY.measure, SUMMARY.holder)
            text = ("\n" if taken else "") + markdown(document, limit)
            if SUMMARY.measure(text) + taken > SUMMARY.size:
                return "the summary of this step is full, and holds nothing of this command"
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            return f"the summary of this step cannot be written: {error.strerror}"
        return ""
