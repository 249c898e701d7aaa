"""What the short faces of a document say: Markdown, JUnit and annotations are drawn from this, each in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, Literal

from reconciler.domain.errors import UsageError
from reconciler.domain.plan import REQUESTED_HOLDS
from reconciler.reports.documents.check import passed_text, score_text
from reconciler.reports.documents.dataset_diff import counts_line, remarks, sample_line
from reconciler.reports.documents.drift import drift_summary
from reconciler.reports.documents.history import generation_details, generation_state
from reconciler.reports.documents.plan_and_result import Document
from reconciler.reports.text.documents import (
    OUTCOMES,
    outcome_details,
    passed_ratio,
    result_tally,
    shown_generation,
    status_details,
    validation_verdict,
    what_next,
)
from reconciler.reports.text.format import counted, minute, steps_and_loss, value
from reconciler.reports.text.plan import (
    action_details,
    display_path,
    left_alone,
    plan_summary,
    reach_details,
)

Level = Literal["failed", "warning", "change", "note", "good", "quiet"]
"""How much an entry matters; the first ones outlive the others where there is no room for all.

``failed`` is for somebody to resolve, ``warning`` for somebody to know, ``change`` is what is or was done, ``note``
goes on or was left alone, ``good`` is as it should be, and so is ``quiet``, of which it is enough to know how much
there is.
"""
LEVELS: Final[tuple[Level, ...]] = ("failed", "warning", "change", "note", "good", "quiet")
Detail = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is said of one model, or of one part of it.

    ``word`` says what is, or is done, in a word or two of ours; ``why`` in sentences that may come from anywhere.
    ``part`` names what of the model is meant where there are several, such as a check. ``file`` is the manifest's path
    as the user would write it, empty where there is none; without ``line`` the whole file is meant.
    """

    name: str
    word: str
    level: Level
    why: str = ""
    part: str = ""
    details: tuple[Detail, ...] = ()
    file: str = ""
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What a document says in short.

    ``summary`` says what it comes to, ``about`` what target it is about, ``facts`` where data goes, ``warnings`` what
    everybody should see, ``remarks`` what else there is to say.
    """

    kind: str
    target: str
    about: tuple[Detail, ...]
    summary: str
    failed: bool
    entries: tuple[Entry, ...]
    facts: tuple[Detail, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def gist_of(document: Document) -> ReportSummary:
    """What the document says in short.

    Raises:
        UsageError: for a kind of document that has no short face.
    """
    kind = document["kind"]
    if kind not in _GISTS:
        kinds = ", ".join(KINDS)
        raise UsageError(
            f"a document of the kind {kind} is not drawn as a report",
            f"reports show {kinds}; print it as text or JSON instead",
        )
    return _GISTS[kind](document)


def _gist(
    document: Document,
    summary: str,
    entries: Iterable[Entry],
    *,
    failed: bool,
    facts: Iterable[Detail] = (),
    warnings: Iterable[str] = (),
    remarks: Iterable[str] = (),
) -> ReportSummary:
    target = document.get("target", {})
    simulated = " (simulated training)" if document.get("simulated") else ""
    where = [(field, target[field]) for field in ("project", "location", "scope") if field in target]
    return ReportSummary(
        kind=document["kind"],
        target=target.get("name", ""),
        about=(("service", f"{target['label']}{simulated}"), *where) if target else (),
        summary=summary,
        failed=failed,
        entries=tuple(entries),
        facts=tuple(facts),
        warnings=(*document.get("notices", ()), *warnings),
        remarks=tuple(remarks),
    )


def _placed(entry: Entry, one: Document, root: str) -> Entry:
    """The entry with where the manifest of an action or a model stands."""
    return replace(entry, file=_shown_file(one.get("file", ""), root), line=one.get("line"), column=one.get("column"))


def _shown_file(file: str, root: str) -> str:
    return display_path(file, root) if file and file != "-" else ""


def _plan(document: Document) -> ReportSummary:
    root, explained = document["target"].get("root", ""), dict[str, str]()
    entries = [_action(one, root, explained) for one in document["actions"]]
    places = {entry.name: entry for entry in entries}
    entries += [_data_change(one, places.get(one["name"])) for one in document.get("dataChanges", ())]
    return _gist(
        document,
        plan_summary(document),
        entries,
        failed=document["summary"]["failing"] > 0,
        facts=reach_details(document["target"]),
        remarks=left_alone(document),
    )


def _action(one: Document, root: str, explained: dict[str, str]) -> Entry:
    told = list(action_details(one, explained))
    whys = [text for label, text in told if label == "why"]
    details = tuple(detail for detail in told if detail[0] != "why")
    entry = Entry(
        one["name"],
        _action_word(one),
        _action_level(one),
        ": ".join(filter(None, [one["reason"], "; ".join(whys)])) if one["reason"] != "InSync" else "",
        details=(("generation", one["key"]), *details) if "key" in one and one["action"] != "hold" else details,
    )
    return _placed(entry, one, root)


def _data_change(one: Document, beside: Entry | None) -> Entry:
    """What became of a data set of a manifest, of which another entry tells where it stands."""
    told = [counts_line(one), *remarks(one)]
    uses = {"training": "", "validation": " (validation)", "check": f" (check {one.get('check', '')})"}
    entry = Entry(
        one["name"],
        "data",
        "warning" if any(field in one for field in ("duplicates", "contradictions", "leaked")) else "change",
        f"{one.get('path', 'inline examples')}{uses[one['use']]}: {'; '.join(filter(None, told))}",
        details=tuple(("example", " ".join(sample_line(sample))) for sample in one.get("samples", ())),
    )
    return replace(entry, file=beside.file, line=beside.line, column=beside.column) if beside else entry


def _action_word(one: Document) -> str:
    if one["action"] == "noop":
        return "in sync" if one["reason"] == "InSync" else "kept"
    return "held" if one["action"] == "hold" else str(one["action"])


def _action_level(one: Document) -> Level:
    if one["action"] == "hold":
        return "warning" if one["reason"] in REQUESTED_HOLDS else "failed"
    if one["action"] == "noop":
        return "quiet" if one["reason"] == "InSync" else "note"
    return "note" if one["action"] == "wait" else "change"


def _drift(document: Document) -> ReportSummary:
    unmanaged = document.get("unmanaged", 0)
    return _gist(
        document,
        drift_summary(document),
        [_finding(list(alike)) for _, alike in groupby(document["findings"], key=_sameness)],
        failed=document["drifted"],
        remarks=[f"Unmanaged: {counted(unmanaged, 'foreign model')}, left untouched."] if unmanaged else (),
    )


def _sameness(one: Document) -> list[object]:
    """What findings have in common that differ in their fields alone."""
    shared = ("name", "class", "severity", "key", "remote", "since", "message", "remedy")
    return [one.get(field) for field in shared]


def _finding(alike: list[Document]) -> Entry:
    one = alike[0]
    labels = (("generation", "key"), ("remote", "remote"), ("since", "since"))
    synced = one["class"] == "InSync"
    file = one.get("file", "")
    return Entry(
        one.get("name") or one.get("remote", ""),
        one["class"],
        "failed" if one["severity"] == "drift" else ("quiet" if synced else "note"),
        f"{one['message']}{'; ' if 'remedy' in one else ''}{one.get('remedy', '')}",
        details=(
            *((one["field"], _difference(one)) for one in alike if "field" in one),
            *(
                (label, minute(one[field]) if field == "since" else one[field])
                for label, field in labels
                if field in one
            ),
        ),
        file="" if file == "-" else file,
        line=one.get("line"),
        column=one.get("column"),
    )


def _difference(one: Document) -> str:
    return f"{value(one.get('live'))}, declared {value(one.get('declared'))}"


_OUTCOME_LEVELS: Final[Mapping[str, Level]] = {
    "ready": "change",
    "checked": "change",
    "updated": "change",
    "deleted": "change",
    "training": "note",
    "failed": "failed",
    "held": "failed",
    "refused": "failed",
    "pending": "warning",
    "inSync": "quiet",
    "orphaned": "note",
}


def _result(document: Document) -> ReportSummary:
    root, explained = document["target"].get("root", ""), dict[str, str]()
    unpublished = [f"Not published: {document['unpublished']}"] if "unpublished" in document else []
    return _gist(
        document,
        result_tally(document),
        [_outcome(one, root, explained) for one in document["models"]],
        failed=document["exitStatus"] not in {0, 4},
        warnings=unpublished,
        remarks=what_next(document),
    )


def _outcome(one: Document, root: str, explained: dict[str, str]) -> Entry:
    harmless = one["state"] == "held" and one.get("reason") in REQUESTED_HOLDS
    told = outcome_details(one, explained)
    trained = steps_and_loss(one.get("steps"), one.get("finalLoss"))
    details = (
        *((label, one[field]) for label, field in (("generation", "key"), ("remote", "remote")) if field in one),
        *((("training", trained),) if trained else ()),
        *_checks(one.get("checks", {})),
    )
    entry = Entry(
        one["name"],
        OUTCOMES[one["state"]][0],
        "warning" if harmless else _OUTCOME_LEVELS[one["state"]],
        ": ".join(filter(None, [one.get("reason", ""), told])) if one["state"] != "inSync" else "",
        details=details,
    )
    return _placed(entry, one, root)


def _checks(checks: Document) -> Iterator[Detail]:
    if checks:
        yield "checks", passed_text(checks)
    for result in checks.get("results", ()):
        if "interval" in result or not result["passed"]:
            yield result["name"], score_text(result)
        if not result["passed"]:
            yield from ((result["name"], text) for text in _misses(result))


def _misses(result: Document) -> Iterator[str]:
    for miss in result.get("misses", ()):
        yield f"{value(miss['prompt'])} → {value(miss['answer'])}: {miss['why']}"


_STATUS_LEVELS: Final[Mapping[str, Level]] = {"error": "failed", "hold": "warning", "wait": "note"}


def _status(document: Document) -> ReportSummary:
    root = document["target"].get("root", "")
    entries = [_model(one, root) for one in document["models"]]
    asked = "asked for permissions alone" if "access" in document else "not asked"
    told = [] if document["observed"] else [f"As {document['lockfile']} records it; the service was {asked}."]
    serving = sum("serving" in one for one in document["models"])
    summary = f"{counted(len(entries), 'model is', 'models are')} recorded, {serving} of them serving."
    failed = any(entry.level == "failed" for entry in entries)
    return _gist(document, summary, entries, failed=failed, remarks=[*told, *_access(document.get("access", {}))])


def _access(access: Document) -> Iterator[str]:
    if access:
        yield f"{access['address']} can reach {len(access['models'])} of {access['asked']} ready models."
    for how, entries in (("as", access.get("models", ())), ("perhaps, through", access.get("perhaps", ()))):
        for one in entries:
            yield f"{access['address']} can reach {one['key']} as {one['role']}, {how} {one['through']}"
    for one in access.get("gone", ()):
        yield f"{one['key']} is gone from the service, so nobody can reach it"


def _model(one: Document, root: str) -> Entry:
    shown, plights = shown_generation(one), list(status_details(one))
    levels = [_STATUS_LEVELS[role] for role, _, _ in plights]
    trained = steps_and_loss(shown.get("totalSteps"), shown.get("finalLoss"))
    since = shown.get("completeTime") or shown.get("createTime", "")
    facts = {
        "generation": shown.get("key", ""),
        "remote": shown.get("remote", ""),
        "state": shown.get("state", ""),
        "training": trained,
        "checks": f"{passed_ratio(shown['checks'])} passed" if "checks" in shown else "",
        "since": minute(since),
    }
    return Entry(
        one["name"],
        "serving" if "serving" in one else "not serving",
        min(levels, key=LEVELS.index, default="good" if "serving" in one else "note"),
        "\n".join(f"{word}: {text}" for _, word, text in plights) or facts["generation"],
        details=tuple((label, text) for label, text in facts.items() if text),
        file=_shown_file(one["manifest"], root),
    )


def _check(document: Document) -> ReportSummary:
    entries = [entry for model in document["models"] for entry in _examined(model)]
    entries += [Entry(name, "not checked", "warning", "nothing serves it") for name in document["unserved"]]
    results = [one for model in document["models"] for one in model.get("checks", {}).get("results", ())]
    passed = sum(one["passed"] for one in results)
    summary = f"{passed} of {counted(len(results), 'check')} passed." if results else "Nothing was checked."
    return _gist(document, summary, entries, failed=document["exitStatus"] != 0)


def _examined(model: Document) -> Iterator[Entry]:
    about = (("generation", model["key"]), ("remote", model["remote"]))
    if "message" in model:
        yield Entry(model["name"], "not checked", "failed", model["message"], details=about)
        return
    regressed = "it used to pass these very checks; " if model["regressed"] else ""
    for one in model["checks"]["results"]:
        yield Entry(
            model["name"],
            "passed" if one["passed"] else "failed",
            "good" if one["passed"] else "failed",
            score_text(one) if one["passed"] else f"{regressed}{score_text(one)}",
            part=one["name"],
            details=() if one["passed"] else (*about, *(("wrong", text) for text in _misses(one))),
        )


_STANDINGS: Final[Mapping[str, Level]] = {"serving": "good", "rejected": "warning", "held": "failed"}


def _history(document: Document) -> ReportSummary:
    root = document["target"].get("root", "")
    entries = [
        Entry(
            one["key"],
            one.get("role", "superseded"),
            "failed" if one["state"] in {"FAILED", "CANCELLED"} else _STANDINGS.get(one.get("role", ""), "note"),
            generation_state(one),
            details=tuple(generation_details(one)),
            file=_shown_file(document["manifest"], root),
        )
        for one in document["generations"]
    ]
    summary = f"{document['name']}: {counted(len(entries), 'generation')}, newest first."
    recorded = f"As {document['lockfile']} records it; the service was not asked."
    return _gist(document, summary, entries, failed=False, remarks=[recorded])


def _validation(document: Document) -> ReportSummary:
    entries = [
        Entry(
            f"{one['file']}:{one['line']}:{one['column']}",
            one["severity"],
            "failed" if one["severity"] == "error" else "warning",
            f"{one['message']}{'; ' if 'remedy' in one else ''}{one.get('remedy', '')}",
            part=one.get("path", ""),
            file="" if one["file"] == "-" else one["file"],
            line=one["line"],
            column=one["column"],
        )
        for one in document["problems"]
    ]
    return _gist(document, f"{validation_verdict(document)}.", entries, failed=not document["valid"])


_GISTS: Final[Mapping[str, Callable[[Document], ReportSummary]]] = {
    "Plan": _plan,
    "Drift": _drift,
    "Result": _result,
    "Status": _status,
    "Check": _check,
    "History": _history,
    "Validation": _validation,
}
KINDS: Final = tuple(_GISTS)
"""The kinds of documents that have short faces."""
