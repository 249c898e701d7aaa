"""Versioned JSON documents from the values of the core; every text is drawn from one of these, and from nothing else.

A document holds what is known: what was not declared, not told or not counted is left out. Its shape is its schema in
``schemas/``. A loss that is no finite number is spelt as proto3 JSON spells it, ``"NaN"`` or ``"Infinity"``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from reconciler.domain.access import AccessChange
from reconciler.domain.checks import CheckReport, CheckResult, Miss
from reconciler.domain.errors import ExitStatus, Place, Problem
from reconciler.domain.model import Capabilities, Source, Target
from reconciler.domain.plan import Action, Deletion, FieldChange, Kind, Plan, Reason, TrainingEstimate
from reconciler.state.lockfile import source_json

DOCUMENT_VERSION: Final = 1
Document = dict[str, Any]
Places = Mapping[str, Place]
"""Where each manifest stands, by its name."""

OutcomeState = Literal[
    "ready", "checked", "updated", "deleted", "training", "failed", "held", "refused", "pending", "inSync", "orphaned"
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one manifest in a run.

    ``steps`` are those of the whole training, ``final_loss`` its last mean loss. ``message`` is a sentence for people:
    why it failed or was refused, which fields were updated. ``checks`` are those that were run, ``deleted`` the keys of
    the generations that were deleted.
    """

    name: str
    state: OutcomeState
    key: str = ""
    remote: str = ""
    steps: int | None = None
    final_loss: float | None = None
    message: str = ""
    checks: CheckReport | None = None
    deleted: tuple[str, ...] = ()


def envelope(kind: str, target: Target, capabilities: Capabilities, root: str) -> Document:
    """What every document about a target begins with; ``root`` is the root's path as the user would write it."""
    return {
        "version": DOCUMENT_VERSION,
        "kind": kind,
        "simulated": capabilities.simulated,
        "target": filled(
            {
                "name": target.name,
                "provider": target.provider,
                "label": capabilities.label,
                "scope": target.scope,
                "project": target.project,
                "location": target.location,
                "root": root,
            }
        ),
    }


def filled(document: Mapping[str, Any]) -> Document:
    """The document without what is unknown, empty or undeclared."""
    return {key: value for key, value in document.items() if value is not None and value not in ("", [], {})}


def number(value: float | None) -> float | str | None:
    """The value as JSON can hold it; what is not finite under its proto3 name."""
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def plan_document(
    plan: Plan,
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    root: str = "",
    places: Places = MappingProxyType({}),
    deletions_alone: bool = False,
) -> Document:
    """A plan; ``lockfile`` is the lockfile's path as shown to the user (schema: plan).

    One of ``deletions_alone`` says of everything else why it is kept.
    """
    whole = envelope("Plan", target, capabilities, root)
    return {
        **whole,
        "target": {**whole["target"], **_reach(target)},
        "lockfile": lockfile,
        "changes": plan.changes,
        "summary": _summary(plan),
        "actions": [_action(action) | _mark(action.name, places) for action in plan.actions],
        "notices": list(plan.notices),
        "unmanaged": plan.unmanaged,
        "candidates": plan.candidates,
        **({"kept": [asdict(one) for one in plan.kept]} if deletions_alone else {}),
    }


def _reach(target: Target) -> Document:
    """Where data and requests go and as whom trainings run: a pull request can change all of it."""
    return filled(
        {
            "endpoint": target.endpoint,
            "storageEndpoint": target.storage_endpoint,
            "bucket": target.bucket,
            "lock": target.lock,
            "serviceAccount": target.settings.get("serviceAccount"),
            "kmsKeyName": target.settings.get("kmsKeyName"),
            "publish": target.publish,
        }
    )


def _summary(plan: Plan) -> Document:
    counted = Counter(action.kind for action in plan.actions)
    return {
        **{kind.value: counted[kind] for kind in Kind},
        "failing": len(plan.failing),
        "steps": plan.steps,
        "estimated": any(one.training.estimated for one in plan.of_kind(Kind.CREATE) if one.training),
    }


def _action(action: Action) -> Document:
    return filled(
        {
            "name": action.name,
            "file": action.file,
            "action": action.kind.value,
            "reason": action.reason.value,
            "key": action.key,
            "remote": action.remote,
            "message": action.message,
            "attempt": action.attempt,
            "baseModel": action.source.base_model if action.source else None,
            "source": _source(action.source) if action.source else None,
            "after": action.after,
            "dataset": action.dataset.path if action.dataset else None,
            "dataGeneration": action.dataset.generation if action.dataset else None,
            "dataBytes": action.dataset.size or None if action.dataset else None,
            "validationDataset": action.validation,
            "hyperparameters": dict(action.hyperparameters),
            "training": _training(action.training) if action.training else None,
            "checks": action.checks or None,
            "changes": [*map(_change, action.changes), *map(_access_change, action.access)],
            "deletion": _deletion(action.deletion) if action.deletion else None,
        }
    )


def _deletion(deletion: Deletion) -> Document:
    return filled(
        {
            "createTime": deletion.create_time,
            "ageSeconds": round(deletion.age.total_seconds()) if deletion.age is not None else None,
            "servedFrom": deletion.served_from,
            "servedUntil": deletion.served_until,
            "serves": deletion.serves or None,
            "examples": deletion.examples or None,
            "bytes": deletion.size or None,
            "checkpoints": deletion.checkpoints or None,
        }
    )


def _mark(name: str, places: Places) -> Document:
    """Where in its file a manifest stands."""
    place = places.get(name)
    return {"line": place.line, "column": place.column} if place else {}


def _training(training: TrainingEstimate) -> Document:
    return filled(
        {
            "examples": training.examples,
            "epochs": training.epochs,
            "batch": training.batch,
            "steps": training.steps,
            "estimated": training.estimated,
            "seconds": training.seconds,
        }
    )


def _change(change: FieldChange) -> Document:
    values = {"live": change.live, "declared": change.declared}
    return {"field": change.field, **{side: value for side, value in values.items() if value is not None}}


def _access_change(change: AccessChange) -> Document:
    values = {"live": change.before.role if change.before else None, "declared": change.role}
    return {"field": f"access.{change.grantee}", **{side: role for side, role in values.items() if role}}


def _source(source: Source) -> Document:
    """What a child is tuned from; of a base model there is a field of its own."""
    return {name: value for name, value in source_json(source).items() if name != "baseModel"}


def validation_document(problems: Iterable[Problem], files: int, manifests: int) -> Document:
    """What is wrong in the input, in the order of files and lines; ``files`` were read (schema: validation)."""
    ordered = sorted(problems)
    counted = Counter(problem.severity for problem in ordered)
    return {
        "version": DOCUMENT_VERSION,
        "kind": "Validation",
        "valid": not counted["error"],
        "files": files,
        "manifests": manifests,
        "summary": {"errors": counted["error"], "warnings": counted["warning"]},
        "problems": [_problem(problem) for problem in ordered],
    }


def _problem(problem: Problem) -> Document:
    return filled(
        {
            "file": problem.place.file,
            "line": problem.place.line,
            "column": problem.place.column,
            "path": problem.path,
            "message": problem.message,
            "remedy": problem.remedy,
            "severity": problem.severity,
        }
    )


def result_document(
    *,
    plan: Plan,
    target: Target,
    capabilities: Capabilities,
    outcomes: Iterable[Outcome],
    requests: int,
    seconds: float,
    exit_status: ExitStatus,
    unpublished: str = "",
    root: str = "",
    places: Places = MappingProxyType({}),
) -> Document:
    """What a run of apply or wait did (schema: result).

    ``unpublished`` says why applications could not be told what serves.

    ``plan`` is the plan that is left at the end. It tells of every manifest that no outcome tells of, and what is still
    to be done about those that one does. ``requests`` were sent to the service, ``seconds`` went by.
    """
    models = {model["name"]: model for model in map(_left, plan.actions)}
    for outcome in outcomes:
        models[outcome.name] = _merged(_outcome(outcome), models.get(outcome.name))
    files = {action.name: {"file": action.file} | _mark(action.name, places) for action in plan.actions}
    return {
        **envelope("Result", target, capabilities, root),
        "exitStatus": int(exit_status),
        "requests": requests,
        "seconds": round(seconds, 3),
        "summary": dict(sorted(Counter(model["state"] for model in models.values()).items())),
        "models": [models[name] | files.get(name, {}) for name in sorted(models)],
        "notices": list(plan.notices),
        "unmanaged": plan.unmanaged,
        **filled({"unpublished": unpublished}),
    }


_UNDONE: Final[Mapping[Kind, str]] = {
    Kind.CREATE: "it is not there, and nobody trains it; run reconcile apply",
    Kind.UPDATE: "it differs from what is declared; run reconcile apply",
    Kind.CHECK: "its checks have not been run; run reconcile apply",
    Kind.PROMOTE: "it is ready, and does not serve yet; run reconcile apply",
}
_LEFT: Final[Mapping[Kind, OutcomeState]] = {Kind.HOLD: "held", Kind.WAIT: "training", Kind.NOOP: "inSync"}
_SETTLED: Final = frozenset({"inSync", "orphaned"})


def _left(action: Action) -> Document:
    state = "orphaned" if action.reason is Reason.ORPHANED else _LEFT.get(action.kind, "pending")
    return filled(
        {
            "name": action.name,
            "state": state,
            "reason": action.reason.value if action.kind is Kind.HOLD else "",
            "key": action.key,
            "remote": action.remote,
            "message": action.message or _undone(action),
        }
    )


def _undone(action: Action) -> str:
    """What is left to do about a model; its parent comes first, where that is what it waits for."""
    if action.kind is Kind.CREATE and action.after:
        return f"it is tuned from {action.after}, which does not serve yet; see to that one, and run reconcile apply"
    return _UNDONE.get(action.kind, "")


def _merged(outcome: Document, left: Document | None) -> Document:
    """The outcome, unless something is left to do about the model: then that is what became of it."""
    if left is None or left["state"] in _SETTLED or outcome["state"] == "refused":
        return outcome
    if outcome["state"] == "failed":
        return {**outcome, **{name: left[name] for name in ("reason", "message") if name in left}}
    return {**outcome, **left} if left.get("key") == outcome.get("key") else left


def _outcome(outcome: Outcome) -> Document:
    return filled(
        {
            "name": outcome.name,
            "state": outcome.state,
            "key": outcome.key,
            "remote": outcome.remote,
            "steps": outcome.steps,
            "finalLoss": number(outcome.final_loss),
            "message": outcome.message,
            "checks": checks_report(outcome.checks) if outcome.checks else None,
            "deleted": list(outcome.deleted),
        }
    )


def checks_report(report: CheckReport) -> Document:
    """How checks went, whole: every prompt and answer that did not pass."""
    return {
        "digest": report.digest,
        "passed": report.passed,
        "failed": report.failed,
        "results": [_check_result(one) for one in report.results],
    }


def _check_result(one: CheckResult) -> Document:
    shown = {
        "name": one.name,
        "passed": one.passed,
        "passes": one.passes,
        "answers": one.answers,
        "score": round(one.score, 4),
        "minimum": one.minimum,
    }
    further = {
        "interval": [round(bound, 4) for bound in one.interval or ()],
        "leaked": one.leaked or None,
        "misses": [_miss(miss) for miss in one.misses],
    }
    return shown | filled(further)


def _miss(miss: Miss) -> Document:
    return {"prompt": miss.prompt, "answer": miss.answer, "why": miss.reason}
