"""GitHub Actions: annotations, the step summary, and streams on which no other text is a workflow command."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

from msgspec import Struct

from reconciler.domain.text import encodable
from reconciler.files import open_log
from reconciler.redaction import WrappedStream, redact

if TYPE_CHECKING:
    from reconciler.domain.document import Document
    from reconciler.domain.errors import Problem
    from reconciler.reports.github_annotations import Annotation

# The imports in functions are slow, and needed on GitHub Actions only.

_SUMMARIZED: Final = frozenset({"Validation", "Plan", "Result", "Drift", "Check", "Combined", "Migration", "Error"})
"""Kinds of documents that become annotations and a summary."""


class Runner(Struct):
    """Collects annotations until the command ends, and adds documents to the summary of the step.

    ``summary`` is the file of the step's summary, empty if there is none.
    """

    cwd: Path
    summary: str = ""
    _annotations: list[Annotation] = []

    def add_document(self, document: Document) -> str:
        """Add a document; return why its summary could not be written, or an empty text."""
        from reconciler.reports.documents.envelope import kind_of
        from reconciler.reports.github_annotations import annotated

        combined = kind_of(document) == "Combined"
        kinds = {kind_of(result.report) for result in getattr(document, "reports", ())} if combined else set()
        if not {kind_of(document), *kinds} <= _SUMMARIZED:
            return ""
        self._annotations += annotated(document, self._repository_path)
        return self._summarize(document) if self.summary else ""

    def add_problems(self, problems: Iterable[Problem]) -> None:
        """Add problems of the input."""
        from reconciler.reports.documents.doctor import validation_report
        from reconciler.reports.github_annotations import annotated

        self._annotations += annotated(validation_report(problems, 0, 0), self._repository_path)

    def commands(self) -> Iterator[str]:
        """Return the workflow commands for the annotations."""
        from reconciler.reports.github_annotations import commands

        return commands(self._annotations)

    def _repository_path(self, file: str) -> str:
        """Return a path from the top of the repository, which annotations need."""
        from reconciler.paths import repository_of

        path = self.cwd / file
        folder = path.parent.resolve()
        top = repository_of(folder)
        return (folder / path.name).relative_to(top).as_posix() if (top / ".git").exists() else file

    def _summarize(self, document: Document) -> str:
        from reconciler.reports.github_annotations import SUMMARY
        from reconciler.reports.markdown import Limit, markdown

        path = Path(self.summary)
        if not path.is_absolute():  # a runner sets an absolute path; another value may be a secret
            return "the summary of this step cannot be written: GITHUB_STEP_SUMMARY is not an absolute path"
        try:
            used = path.stat().st_size if path.exists() else 0
            limit = Limit(SUMMARY.size - used - 1, SUMMARY.measure, SUMMARY.holder)
            text = ("\n" if used else "") + redact(markdown(document, limit))
            if SUMMARY.measure(text) + used > SUMMARY.size:
                return "the summary of this step is full; the result of this command is not in it"
            with open_log(path, "a") as file:
                file.write(text)
        except OSError as error:
            return f"the summary of this step cannot be written: {error.strerror}"
        return ""


_CURRENT: ContextVar[Runner | None] = ContextVar("runner", default=None)


def current_runner() -> Runner | None:
    """Return the runner of this command, or ``None`` outside GitHub Actions."""
    return _CURRENT.get()


class Defused(WrappedStream):
    """A stream on which no text is a workflow command; write our own commands to ``stream`` directly."""

    _line = ""

    def write(self, text: str) -> int:
        """Write a text; a command that is completed by it is found too, if it began earlier on the line."""
        from reconciler.reports.github_annotations import defused

        whole = defused(self._line + text)
        self.stream.write(whole[len(self._line) :])
        self._line = whole[max(whole.rfind("\n"), whole.rfind("\r")) + 1 :]
        return len(text)


@contextmanager
def github_actions(environ: Mapping[str, str], cwd: Path | None) -> Iterator[None]:
    """On GitHub Actions, disarm workflow commands in the output, and print annotations at the end."""
    if environ.get("GITHUB_ACTIONS") != "true":
        yield
        return
    streams = sys.stdout, sys.stderr
    runner = Runner(cwd or Path(), environ.get("GITHUB_STEP_SUMMARY", ""))
    token = _CURRENT.set(runner)
    sys.stdout, sys.stderr = (cast("TextIO", Defused(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        _CURRENT.reset(token)
        with suppress(OSError):
            sys.stderr.writelines(f"{encodable(line, sys.stderr.encoding)}\n" for line in runner.commands())
            sys.stderr.flush()
