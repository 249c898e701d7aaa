"""Status, validation, result and resolve documents for people and for shells; the plan has a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from reconciler.domain.errors import ExitStatus
from reconciler.reports.documents.change import change_text
from reconciler.reports.documents.check import check_text, passed_text
from reconciler.reports.documents.doctor import doctor_text
from reconciler.reports.documents.drift import drift_text
from reconciler.reports.documents.graph import graph_text
from reconciler.reports.documents.history import history_text
from reconciler.reports.documents.plan_and_result import Document
from reconciler.reports.documents.prompt import prompt_text
from reconciler.reports.documents.refresh import refresh_text
from reconciler.reports.documents.serving import serving_text
from reconciler.reports.documents.status import access_lines
from reconciler.reports.text.escape import terminal_safe
from reconciler.reports.text.format import Role, Style, counted, elapsed, folded, loss, plain, steps_and_loss, told
from reconciler.reports.text.plan import notices_text, plan_text, target_line

_STATUS_HEAD: Final = ("NAME", "SERVING", "STATE", "STEPS", "FINAL LOSS", "CHECKS", "SINCE")
_RIGHT: Final = frozenset({3, 4, 5})
_MINUTES: Final = len("2026-01-31T12:34")
_WORD_WIDTH: Final = 10
_PLIGHTS: Final = {
    "FAILED": ("failed", "the service does not tell why"),
    "CANCELLED": ("cancelled", "at the service"),
    "INTENDED": ("intended", "a run asked for it and did not learn the outcome; the next apply looks for it first"),
}
"""Each state in which the newest generation is told of, and what is said where the service gives no reason."""


def status_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Status document as a table of models, with what trains and what failed under each."""
    lines = [target_line(document, style, width)]
    models = document["models"]
    if not models:
        lines.append("No models are recorded.")
    else:
        lines += _models(models, width, style)
    if "access" in document:
        lines += access_lines(document["access"], style, width)
    if not document["observed"]:
        asked = "asked for permissions alone" if "access" in document else "not asked"
        origin = terminal_safe(f"As {document['lockfile']} records it; the service was {asked}.")
        lines += [style("muted", line) for _, line in folded("", origin, width)]
    return "\n".join(lines)


def _models(models: Sequence[Document], width: int | None, style: Style) -> Iterator[str]:
    """A table of models; where the terminal is too narrow for that, a name a line with its row folded below it."""
    head, *rows = _table([_STATUS_HEAD, *map(_status_row, models)])
    fits = width is None or max(map(len, (head, *rows))) <= width
    if fits:
        yield style("heading", head)
    for row, model in zip(rows, models, strict=True):
        yield from [row] if fits else _narrow_row(model, width, style)
        yield from _status_details(model, width, style)


def _narrow_row(model: Document, width: int | None, style: Style) -> Iterator[str]:
    name, serving, *cells = map(terminal_safe, _status_row(model))
    yield style("heading", name)
    told = [f"{label.lower()} {cell}" for label, cell in zip(_STATUS_HEAD[2:], cells, strict=True) if cell != "-"]
    yield from (head + line for head, line in folded(f"  {'serving':<{_WORD_WIDTH}}", serving, width))
    yield from (head + line for head, line in folded(" " * (_WORD_WIDTH + 2), ", ".join(told), width))


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[terminal_safe(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if position in _RIGHT else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _status_row(model: Document) -> tuple[str, ...]:
    shown = shown_generation(model)
    return (
        model["name"],
        model.get("serving", {}).get("key", "-"),
        shown.get("state", "-"),
        str(shown.get("totalSteps", "-")),
        loss(shown["finalLoss"]) if "finalLoss" in shown else "-",
        passed_ratio(shown["checks"]) if "checks" in shown else "-",
        (shown.get("completeTime") or shown.get("createTime", "-"))[:_MINUTES].replace("T", " "),
    )


def passed_ratio(checks: Document) -> str:
    """How many of recorded checks passed: ``2/3``."""
    return f"{checks['passed']}/{checks['passed'] + checks['failed']}"


def shown_generation(model: Document) -> Document:
    """The generation that a model's line tells of: the serving one, else the newest."""
    serving = model.get("serving", {}).get("key")
    generations: list[Document] = model["generations"]
    return next((one for one in generations if one["key"] == serving), generations[0] if generations else {})


def _status_details(model: Document, width: int | None, style: Style) -> Iterator[str]:
    for role, word, text in status_details(model):
        for margin, line in folded(f"  {word:<{_WORD_WIDTH}}", terminal_safe(text), width):
            yield style(role, margin) + line


def status_details(model: Document) -> Iterator[tuple[Role, str, str]]:
    """Role, word and sentence of what trains, failed or waits among the generations of a model in a Status document."""
    for position, one in enumerate(model["generations"]):
        if one["state"] == "CREATING":
            phase = f", {one['phase']}" if "phase" in one else ""
            yield "wait", "training", one["key"] + phase + _progress(one.get("progress"))
        elif position == 0 and one["key"] != model.get("serving", {}).get("key"):
            yield from _candidate(one)
        if one["state"] in _PLIGHTS and position == 0:
            word, unexplained = _PLIGHTS[one["state"]]
            yield "error", word, f"{one['key']}: {one.get('error', {}).get('message') or unexplained}"


def _candidate(one: Document) -> Iterator[tuple[Role, str, str]]:
    """Why the newest generation, although it is ready, does not serve."""
    if one["state"] != "ACTIVE":
        return
    if "rejected" in one:
        word, why = "rejected", one.get("rejection", "it was rolled back")
    elif one.get("checks", {}).get("failed"):
        word, why = "held", f"{passed_ratio(one['checks'])} checks passed"
    elif "promoteTime" in one:
        return  # it has served, and gave way to what is asked for now
    else:
        word, why = "ready", "it does not serve; reconcile plan says why"
    yield "hold", word, f"{one['key']}: {why}"


def _progress(progress: Document | None) -> str:
    if not progress:
        return ""
    total = progress.get("totalSteps")
    if not total and not progress["completedSteps"]:
        return ""
    steps = f"step {progress['completedSteps']}" + (f"/{total} ({progress['percent']:.0f} %)" if total else "")
    return f": {steps}" + (f", loss {loss(progress['loss'])}" if "loss" in progress else "")


def validation_text(document: Document, *, style: Style = plain) -> str:
    """A Validation document: a line a problem, as compilers write them, and how many there are."""
    verdict = style("good" if document["valid"] else "error", validation_verdict(document))
    return "\n".join([*(_problem(problem, style) for problem in document["problems"]), verdict])


def _problem(problem: Document, style: Style) -> str:
    place = terminal_safe(f"{problem['file']}:{problem['line']}:{problem['column']}: ")
    warning = style("warning", "warning: ") if problem["severity"] == "warning" else ""
    path = f"{problem['path']}: " if "path" in problem else ""
    remedy = f"; {problem['remedy']}" if "remedy" in problem else ""
    return style("muted", place) + warning + terminal_safe(f"{path}{problem['message']}{remedy}")


def validation_verdict(document: Document) -> str:
    """How many manifests are valid, or how much is wrong, in one line."""
    errors, warnings = document["summary"]["errors"], document["summary"]["warnings"]
    besides = f", {counted(warnings, 'warning')}" if warnings else ""
    if document["valid"]:
        return f"{counted(document['manifests'], 'manifest is', 'manifests are')} valid{besides}"
    files = {problem["file"] for problem in document["problems"] if problem["severity"] == "error"}
    return f"{counted(errors, 'problem')} in {counted(len(files), 'file')}{besides}"


OUTCOMES: Final[Mapping[str, tuple[str, Role]]] = {
    "ready": ("ready", "good"),
    "checked": ("checked", "good"),
    "updated": ("updated", "good"),
    "deleted": ("deleted", "good"),
    "training": ("still training", "wait"),
    "failed": ("failed", "error"),
    "held": ("held", "hold"),
    "refused": ("refused", "error"),
    "pending": ("not done", "warning"),
    "inSync": ("in sync", "muted"),
    "orphaned": ("no longer declared", "muted"),
}
"""How each state reads, and in which order they are counted."""
_UNEVENTFUL: Final = frozenset({"inSync", "orphaned"})
_TRAINED: Final = frozenset({"ready", "training", "failed"})


def result_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Result document: a line a model to which something happened, and what the run took."""
    shown = [model for model in document["models"] if model["state"] not in _UNEVENTFUL]
    column = max((len(model["name"]) for model in shown), default=0)
    explained: dict[str, str] = {}
    lines = [line for model in shown for line in _result(model, explained, column, width, style)]
    if shown:
        closing = [result_tally(document), *what_next(document)]
        lines += [line for sentence in closing for _, line in folded("", sentence, width)]
    elif "unpublished" not in document:
        lines.append(style("good", result_tally(document)))
    if "unpublished" in document:
        lines += [
            style("error", margin) + line for margin, line in told("Not published: ", document["unpublished"], width)
        ]
    return "\n".join(lines)


def _result(model: Document, explained: dict[str, str], column: int, width: int | None, style: Style) -> Iterator[str]:
    word, role = OUTCOMES[model["state"]]
    reason = f" ({model['reason']})" if "reason" in model and model["state"] == "held" else ""
    name = terminal_safe(model["name"])
    head = f"{name:<{column}}  {word}{reason}: "
    coloured = f"{name:<{column}}  {style(role, word)}{reason}: "
    for position, (margin, line) in enumerate(told(head, outcome_details(model, explained), width)):
        yield ((margin if position else coloured) + line).rstrip()


def outcome_details(model: Document, explained: dict[str, str]) -> str:
    """What is told of an outcome; ``explained`` notes who has told a message of several lines first."""
    deleted = ", ".join(model.get("deleted", ()))
    if model["state"] == "deleted":
        return deleted
    told = _details(model, explained)
    return f"{told}; deleted: {deleted}" if deleted else told


def _details(model: Document, explained: dict[str, str]) -> str:
    if model["state"] not in {"ready", "checked"}:
        message = str(model.get("message") or model.get("key") or "no details")
        first = explained.setdefault(message, model["name"]) if "\n" in message else model["name"]
        return message if first == model["name"] else f"the same as {first}"
    trained = steps_and_loss(model.get("steps"), model.get("finalLoss"))
    where = model.get("remote") or model.get("key", "")
    told = f"{where} ({trained})" if trained else str(where)
    return f"{told}, {passed_text(model['checks'])}" if "checks" in model else told


def _cost(document: Document) -> str:
    return f"{counted(document['requests'], 'request')}, {elapsed(document['seconds'])}"


def result_tally(document: Document) -> str:
    """What a Result document comes to, in one line: how many models ended in each state, and what the run took."""
    summary = document["summary"]
    if summary.keys() <= _UNEVENTFUL:
        return f"Everything is in sync: {counted(summary.get('inSync', 0), 'model')}, {_cost(document)}."
    counts = ", ".join(f"{summary[state]} {word}" for state, (word, _) in OUTCOMES.items() if state in summary)
    trained = any(model["state"] in _TRAINED for model in document["models"])
    simulated = " The training is simulated." if document["simulated"] and trained else ""
    return f"Models: {counts}; {_cost(document)}.{simulated}"


def what_next(document: Document) -> Iterator[str]:
    """How to go on after a run that did not end everything."""
    if document["exitStatus"] == ExitStatus.INTERRUPTED:
        yield "Interrupted: the lockfile is valid, and the next run resumes."
    if "training" in document["summary"]:
        name = document["target"]["name"]
        target = "" if name == "default" else f" --target {terminal_safe(name)}"
        yield f"The training goes on; `reconcile wait{target}` resumes the waiting."


def resolve_text(document: Document, *, bare: bool) -> str:
    """A Resolve document: a line a model with its remote name, and that name alone when ``bare``."""
    models = document["models"]
    if bare:
        return "\n".join(terminal_safe(model["remote"]) for model in models)
    column = max((len(model["name"]) for model in models), default=0)
    return "\n".join(terminal_safe(f"{model['name']:<{column}}  {model['remote']}") for model in models)


_Verbose = Callable[[Document, int | None, Style, bool], str]

_TEXTS: Final[Mapping[str, _Verbose]] = {
    "Change": lambda document, width, style, _: change_text(document, width=width, style=style),
    "Check": lambda document, width, style, _: check_text(document, width=width, style=style),
    "Doctor": lambda document, width, style, _: doctor_text(document, width=width, style=style),
    "Drift": lambda document, width, style, full: drift_text(document, width=width, verbose=full, style=style),
    "Graph": lambda document, _, style, __: graph_text(document, style=style),
    "History": lambda document, width, style, full: history_text(document, width=width, verbose=full, style=style),
    "Plan": lambda document, width, style, full: plan_text(document, width=width, verbose=full, style=style),
    "Prompt": lambda document, _, __, ___: prompt_text(document),
    "Refresh": lambda document, width, style, _: refresh_text(document, width=width, style=style),
    "Resolve": lambda document, _, __, ___: resolve_text(document, bare=False),
    "Result": lambda document, width, style, _: result_text(document, width=width, style=style),
    "Serving": lambda document, width, style, _: serving_text(document, width=width, style=style),
    "Status": lambda document, width, style, _: status_text(document, width=width, style=style),
    "Validation": lambda document, _, style, __: validation_text(document, style=style),
}
KINDS: Final = tuple(_TEXTS)
"""The kinds of documents that have a text."""


def text_of(document: Document, *, width: int | None = None, verbose: bool = False, style: Style = plain) -> str:
    """The text of a document of one of these kinds, folded to ``width`` columns; ``verbose`` says more where it can."""
    return _TEXTS[document["kind"]](document, width, style, verbose)


def pruned_text(document: Document, *, width: int | None = None, style: Style = plain) -> str:
    """A Result document of prune: a line a model of which something was deleted or not, and what is to be noted."""
    told = result_text(document, width=width, style=style) if document["models"] else "Nothing was deleted."
    return "\n".join(filter(None, [told, notices_text(document, width=width, style=style)]))
