"""Scenarios for the planner as data: what is declared, live and recorded, and the plan that follows.

Every case names its generations, by the content that makes their keys::

    a changed hyperparameter trains anew:
      generations: {old: {}, new: {hyperparameters: {epochCount: 5}}}
      manifests: [{is: new}]
      live: [{is: old}]
      lock: {numbers: {serving: old, generations: [{is: old}]}}
      plan: [{create: new, because: ContentChanged, changes: {hyperparameters.epochCount: [3, 5]}}]

Times are minutes after START; ``now`` is an hour after it. A data set is named by a word, and so is its digest; one in
Cloud Storage by the number of its object's generation; ``unknown`` is unknown data. With ``ids: false`` nobody chooses
ids: models are jobs, known by a number. A generation with a ``parent`` is tuned from that one. ``checks`` of a manifest
are the names of checks, those of a recorded generation how they went: ``{of: [names], failed: n}``, with ``against``
the serving generation that the first one compared with. ``access`` of a
manifest and of a live model are like ``{"user:ada@example.com": reader}``. ``says`` is part of a message, and empty if
there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from msgspec import Struct, convert
from msgspec.structs import replace

from reconciler.domain.access import AccessChange, Grant, Grantee, GranteeKind, Permission, Role
from reconciler.domain.base_models import BaseModel, ModelCatalog
from reconciler.domain.checks import Check, Expectation, RecordedChecks, RecordedComparison, RecordedMiss
from reconciler.domain.errors import Place
from reconciler.domain.identity import UNKNOWN_DATA, Content, dataset_digest, key_of, object_digest
from reconciler.domain.lock import Lock, LockedGeneration, LockedHyperparameters, LockedModel, LockedTarget
from reconciler.domain.model import (
    Capabilities,
    Dataset,
    Example,
    Failure,
    Lifecycle,
    Limits,
    Manifest,
    Mark,
    Number,
    RemoteModel,
    Sampling,
    Source,
    State,
    Suspension,
    Target,
)
from reconciler.domain.plan import Action, FieldChange, Kind, Observation, Plan, Reason, Request, World
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.planner import plan
from reconciler.providers.generativelanguage.wire import read_page
from support.base_models import GEMINI_API

CASES = Path(__file__).parent.parent / "planning" / "cases"
FOREIGN = Path(__file__).parent.parent / "fixtures" / "legacy" / "list_tuned_models.v1beta3.json"

SCOPE, NAME, BASE_MODEL = "demo", "numbers", GEMINI_API
START = datetime(2026, 1, 1, tzinfo=UTC)
SERVER_DEFAULTS: dict[str, Number] = {"epochCount": 10, "batchSize": 16, "learningRate": 0.0002}
DECLARED: dict[str, Number] = {"epochCount": 3, "batchSize": 2}
CAPABILITIES = Capabilities(
    "a service",
    frozenset(SERVER_DEFAULTS),
    mutable=frozenset({"displayName", "description", "sampling"}),
    defaults=SERVER_DEFAULTS,
)
WITHOUT_IDS = replace(CAPABILITIES, caller_chosen_ids=False, mutable=frozenset())
OBJECT, CHECKSUM = "gs://acme/data.jsonl", "AAAAAA=="


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


@cache
def digest_of(data: str | int) -> str:
    """The digest of the data set of that word, or of that generation of the object."""
    if data == "unknown":
        return UNKNOWN_DATA
    if isinstance(data, int):
        return object_digest(OBJECT, str(data), CHECKSUM)
    return dataset_digest([Example(data, data)])


def job(number: int) -> str:
    """The remote name of a model at a service without caller-chosen ids."""
    return f"jobs/{number}"


class Made(Struct, frozen=True, dict=True):
    """The content of a generation that a case names."""

    name: str = NAME
    source: str = BASE_MODEL
    data: str | int = "A"
    examples: int = 20
    hyperparameters: Mapping[str, Number] | None = None
    attempt: int = 0
    scope: str = SCOPE
    parent: Made | None = None

    @property
    def declared(self) -> dict[str, Number]:
        return DECLARED if self.hyperparameters is None else dict(self.hyperparameters)

    @cached_property
    def mark(self) -> Mark:
        content = Content(
            self.scope, self.name, self.recorded_source, self.declared, digest_of(self.data), self.attempt
        )
        return content.mark()

    @property
    def declared_source(self) -> Source:
        return Source(tuned_model=self.parent.name) if self.parent else Source(self.source)

    @property
    def recorded_source(self) -> Source:
        return replace(self.declared_source, key=self.parent.key) if self.parent else Source(self.source)

    @property
    def live_source(self) -> Source:
        return Source(remote=self.parent.remote) if self.parent else Source(self.source)

    @cached_property
    def key(self) -> str:
        return key_of(self.mark)

    @property
    def remote(self) -> str:
        return f"tunedModels/{self.key}"

    @property
    def dataset(self) -> Dataset:
        if isinstance(self.data, int):
            return Dataset(digest_of(self.data), OBJECT, 0, str(self.data), CHECKSUM, 1000)
        return Dataset(digest_of(self.data), "data.csv", self.examples)


def manifest(
    made: Made,
    *,
    display_name: str | None = None,
    description: str | None = None,
    sampling: Mapping[str, float] | None = None,
    checks: tuple[str, ...] = (),
    on_failed_checks: Literal["hold", "serve"] = "hold",
    access: Mapping[str, Role] | None = None,
    ignore_drift: tuple[str, ...] = (),
    suspend: bool | Mapping[str, str] = False,
    timeout: float | None = None,
    looked: bool = True,
    fault: str = "",
    validation_fault: str = "",
) -> Manifest:
    """A manifest; without ``looked`` nobody looked at its data set in Cloud Storage, ``fault`` says why it is gone."""
    return Manifest(
        name=made.name,
        file=f"{made.name}.yaml",
        place=Place(f"{made.name}.yaml"),
        source=made.declared_source,
        dataset=made.dataset if looked else Dataset("", OBJECT),
        dataset_error=fault,
        validation=Dataset("", "gs://acme/validation.jsonl") if validation_fault else None,
        validation_error=validation_fault,
        hyperparameters=made.declared,
        display_name=display_name,
        description=description,
        sampling=_sampling(sampling),
        checks=checks_of(checks),
        access=None if access is None else tuple(Grant(one.grantee, one.role) for one in permissions(access)),
        ignore_drift=frozenset(ignore_drift),
        lifecycle=Lifecycle(
            suspend=Suspension(**(suspend if isinstance(suspend, Mapping) else {})) if suspend else None,
            timeout=timedelta(minutes=timeout) if timeout else None,
            on_failed_checks=on_failed_checks,
        ),
    )


def checks_of(names: Iterable[str]) -> tuple[Check, ...]:
    return tuple(Check(name, "8", (Expectation("equals", ("9",)),)) for name in names)


def permissions(access: Mapping[str, Role]) -> tuple[Permission, ...]:
    """Permissions as cases write them."""
    return tuple(Permission(grantee(who), role, f"permissions/{who}") for who, role in access.items())


def grantee(text: str) -> Grantee:
    kind, _, who = text.partition(":")
    return Grantee(cast("GranteeKind", kind), who)


def _sampling(sampling: Mapping[str, Any] | None) -> Sampling:
    return Sampling(**(sampling or {}))


def live(
    made: Made,
    *,
    state: str = "ACTIVE",
    created: float = 0,
    marked: bool = True,
    under: str | None = None,
    display_name: str | None = None,
    description: str = "",
    sampling: Mapping[str, float] | None = None,
    effective: Mapping[str, Number] | None = None,
    failure: str | None = None,
    number: int | None = None,
    started: float | None = None,
    updated: float | None = None,
    phase: str = "",
    deployed: bool = True,
) -> RemoteModel:
    """A model as the service shows it; ``under`` is another id than the generation's key, ``number`` that of a job."""
    chosen = under or made.key
    return RemoteModel(
        remote=f"tunedModels/{chosen}" if number is None else job(number),
        chosen_id=chosen if number is None else None,
        state=State(state),
        source=made.live_source,
        mark=made.mark if marked else None,
        display_name=made.name if display_name is None else display_name,
        description=description,
        sampling=_sampling(sampling),
        hyperparameters={**SERVER_DEFAULTS, **(made.declared if effective is None else effective)},
        create_time=at(created),
        start_time="" if started is None else at(started),
        update_time="" if updated is None else at(updated),
        failure=Failure(3, failure) if failure else None,
        phase=phase,
        undeployed=frozenset() if deployed else frozenset({""}),
    )


def recorded(
    made: Made,
    *,
    state: str = "ACTIVE",
    created: float | None = 0,
    failure: str | None = None,
    code: int = 3,
    number: int | None = None,
    checks: Mapping[str, Any] | None = None,
    completed: float | None = None,
    promoted: float | None = None,
    rejection: str = "",
    claimed: bool = False,
) -> LockedGeneration:
    return LockedGeneration(
        key=made.key,
        remote=made.remote if number is None else job(number),
        spec=made.mark.spec,
        attempt=made.attempt,
        origin="adopted" if claimed else "created",
        state=State(state),
        source=made.recorded_source,
        dataset=replace(made.dataset, claimed=claimed),
        checks=recorded_checks(**checks) if checks else None,
        hyperparameters=LockedHyperparameters(
            made.declared, {} if created is None else {**SERVER_DEFAULTS, **made.declared}
        ),
        create_time="" if created is None else at(created),
        failure=Failure(code, failure) if failure else None,
        complete_time="" if completed is None else at(completed),
        promote_time="" if promoted is None else at(promoted),
        rejection=rejection,
    )


def recorded_checks(*, of: tuple[str, ...], failed: int = 0, against: str = "") -> RecordedChecks:
    """How the checks of these names went; the first one was worse than the generation ``against``."""
    misses = tuple(RecordedMiss(name, "8", "10") for name in of[:failed])
    checks = RecordedChecks(checks_digest(checks_of(of)), len(of) - failed, failed, {}, misses)
    return replace(checks, scores={of[0]: 0.5}, comparisons={of[0]: (worse_than(against),)}) if against else checks


def worse_than(key: str) -> RecordedComparison:
    """How a generation with the score 0.5 compares with a serving one that is always right."""
    return RecordedComparison(
        other="serving",
        model=key,
        score=1.0,
        difference=-0.5,
        interval=(-0.7634, -0.1679),
        required="noWorse",
        margin=0.02,
        passed=False,
    )


def intended(made: Made) -> LockedGeneration:
    """What a run leaves that was cut off while it asked the service."""
    return replace(recorded(made, state="INTENDED", created=None), remote="")


class Case(Struct, frozen=True, dict=True):
    """One scenario as its YAML gives it."""

    generations: Mapping[str, Mapping[str, Any]]
    plan: list[Mapping[str, Any]]
    manifests: tuple[Mapping[str, Any], ...] = ()
    live: tuple[Mapping[str, Any], ...] = ()
    lock: Mapping[str, Mapping[str, Any]] | None = None
    gone: tuple[str | int, ...] = ()
    request: Mapping[str, Any] | None = None
    limits: Mapping[str, int] | None = None
    recorded_limits: Mapping[str, int] | None = None
    foreign: bool = False
    now: float = 60
    notices: tuple[str, ...] = ()
    unmanaged: int = 0
    candidates: int = 0
    ids: bool = True
    checked: tuple[str, ...] = ()
    untunable: Mapping[str, str] | None = None
    tunable: tuple[str, ...] = ()
    catalog: Mapping[str, Mapping[str, Any]] | None = None

    @cached_property
    def made(self) -> dict[str, Made]:
        made: dict[str, Made] = {}
        for alias, content in self.generations.items():
            parent = made[content["parent"]] if "parent" in content else None
            made[alias] = Made(**{**content, "parent": parent})
        return made

    def planned(self) -> Plan:
        request = {name: frozenset(names) for name, names in (self.request or {}).items() if name != "complete"}
        return plan(replace(self.world(), request=Request(complete=self._complete(), **request)))

    def world(self) -> World:
        """Return what is declared, live and recorded, without a request for training."""
        return World(
            manifests=tuple(manifest(**self._resolved(one)) for one in self.manifests),
            lock=self._lock(),
            target=Target("default", "reconcile.yaml", "embedded", SCOPE, limits=Limits(**(self.limits or {}))),
            capabilities=CAPABILITIES if self.ids else WITHOUT_IDS,
            now=START + timedelta(minutes=self.now),
            observation=self._observation(),
            request=Request(complete=self._complete()),
            checked=frozenset(self.made[alias].key for alias in self.checked),
            catalog=ModelCatalog(date(2025, 12, 1), convert(self.catalog or {}, dict[str, BaseModel])),
        )

    def _complete(self) -> bool:
        return bool((self.request or {}).get("complete", True))

    def expected(self) -> list[Action]:
        """The actions, with what a case need not say left out."""
        return [self._action(one) for one in self.plan]

    def _resolved(self, one: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "made" if name == "is" else name: self.made[value] if name == "is" else value for name, value in one.items()
        }

    def _observation(self) -> Observation:
        shown = [self._resolved(one) for one in self.live]
        models = [live(**{name: value for name, value in one.items() if name != "access"}) for one in shown]
        shared = {
            model.remote: permissions(one["access"])
            for model, one in zip(models, shown, strict=True)
            if "access" in one
        }
        if self.foreign:
            models += read_page(json.loads(FOREIGN.read_text(encoding="utf-8")))[0]
        gone = frozenset(job(one) if isinstance(one, int) else self.made[one].remote for one in self.gone)
        deleted = {model.remote: model for model in models if model.state is State.DELETED}
        existing = {model.remote: model for model in models if model.remote not in deleted}
        return Observation(
            existing, gone, self.untunable or {}, shared, deleted=deleted, tunable=frozenset(self.tunable)
        )

    def _lock(self) -> Lock:
        limits = self.recorded_limits
        target = None if limits is None else LockedTarget("default", "embedded", SCOPE, limits=limits)
        return Lock(target, {name: self._locked(name, **block) for name, block in (self.lock or {}).items()})

    def _locked(
        self,
        name: str,
        *,
        generations: tuple[Mapping[str, Any], ...] = (),
        serving: str | None = None,
        rejected: tuple[str, ...] = (),
    ) -> LockedModel:
        return LockedModel(
            manifest=f"{name}.yaml",
            serving=self.made[serving].key if serving else None,
            rejected=tuple(self.made[alias].key for alias in rejected),
            generations=tuple(self._recorded(**self._resolved(one)) for one in generations),
        )

    def _recorded(self, made: Made, *, state: str = "ACTIVE", **fields: Any) -> LockedGeneration:
        other = (fields.get("checks") or {}).get("against")
        if other:
            fields["checks"] = {**fields["checks"], "against": self.made[other].key}
        return intended(made) if state == "INTENDED" else recorded(made, state=state, **fields)

    def _action(self, one: Mapping[str, Any]) -> Action:
        (kind,) = one.keys() & set(Kind)
        made = self.made[one[kind]] if one[kind] else None
        name = one["name"] if made is None else made.name
        return Action(
            name=name,
            file=f"{name}.yaml",
            kind=Kind(kind),
            reason=Reason(one["because"]),
            key=made.key if made else "",
            attempt=made.attempt if made else 0,
            changes=tuple(self._changes(one.get("changes", {}))),
            access=tuple(_access_change(who, *roles) for who, roles in one.get("access", {}).items()),
            after=self.made[one["after"]].key if "after" in one else "",
            checks=one.get("checks", 0),
            prompts=one.get("checks", 0),
        )

    def _changes(self, changes: Mapping[str, tuple[Any, Any]]) -> Iterator[FieldChange]:
        for field, (before, after) in changes.items():
            if field == "dataset":
                yield FieldChange(field, digest_of(before), digest_of(after))
            elif field == "source":
                yield FieldChange(field, self.made[before].key, self.made[after].key)
            else:
                yield FieldChange(field, before, after)


def _access_change(who: str, before: Role | None, role: Role | None) -> AccessChange:
    there = Permission(grantee(who), before, f"permissions/{who}") if before else None
    return AccessChange(grantee(who), there, role)


def cases() -> dict[str, Case]:
    """Every case by its file and its name."""
    return {
        f"{path.stem}: {name}": Case(**case)
        for path in sorted(CASES.glob("*.yaml"))
        for name, case in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader).items()
    }


def remotes(case: Case) -> list[str | None]:
    """The job that each expected action is about, where the case says so."""
    return [job(one["number"]) if "number" in one else None for one in case.plan]


def expected_reasons(case: Case) -> list[str | None]:
    """Part of the message of each expected action, where the case has it; empty if there is no message."""
    return [one.get("says") for one in case.plan]
