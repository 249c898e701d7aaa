"""Arbitrary worlds for the planner, and a tiny interpreter that carries plans out in them."""

from __future__ import annotations

from datetime import timedelta
from functools import reduce
from itertools import chain, product

from hypothesis import strategies as st
from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.domain.checks import CheckResult, CheckResults, check_results
from reconciler.domain.lock import Lock, LockedGeneration, LockedModel
from reconciler.domain.model import Limits, Manifest, Mark, RemoteModel, State, Target
from reconciler.domain.plan import Action, Kind, Observation, Plan, Request
from reconciler.domain.plan import World as PlanInputs
from reconciler.planning.check_evaluation import checks_digest
from reconciler.planning.diff import update_of
from reconciler.planning.events import (
    Adopted,
    Checked,
    Dropped,
    Event,
    Intended,
    Promoted,
    Started,
    record,
    update_observed,
)
from reconciler.planning.observed_events import observed_events
from reconciler.planning.planner import plan
from support.core_cases import (
    CAPABILITIES,
    SCOPE,
    START,
    WITHOUT_IDS,
    Made,
    intended,
    job,
    live,
    manifest,
    recorded,
)

NAMES = ("numbers", "words", "letters")
"""What is tuned from a base model."""
LIVE_STATES = ("CREATING", "ACTIVE", "FAILED")
TUNINGS = ({"epochCount": 3}, {"epochCount": 3, "batchSize": 16}, {"epochCount": 5})
"""The first two are the same where 16 is the service's own choice."""
OURS = {
    name: [
        Made(name, data=data, hyperparameters=tuning, attempt=attempt)
        for data, tuning, attempt in product("AB", TUNINGS, range(3))
    ]
    for name in NAMES
}
CHILD = "leaf"
OURS[CHILD] = [Made(CHILD, parent=parent, attempt=attempt) for parent in OURS["numbers"] for attempt in range(2)]
POOL = [*chain(*OURS.values()), *(Made(name, scope="theirs") for name in NAMES)]


class World(Struct, frozen=True):
    """What is declared, live and recorded at one moment."""

    manifests: tuple[Manifest, ...]
    observation: Observation
    lock: Lock
    request: Request
    limits: Limits = field(default_factory=Limits)
    ids: bool = True
    checked: frozenset[str] = frozenset()

    @property
    def target(self) -> Target:
        return Target("default", "reconcile.yaml", "embedded", SCOPE, limits=self.limits)

    def inputs(self) -> PlanInputs:
        """Return the world as the planner takes it, one hour after START."""
        return PlanInputs(
            self.manifests,
            self.lock,
            self.target,
            CAPABILITIES if self.ids else WITHOUT_IDS,
            START + timedelta(hours=1),
            self.observation,
            self.request,
            self.checked,
        )

    def plan(self) -> Plan:
        return plan(self.inputs())

    def manages(self, remote: str) -> bool:
        """Whether a model bears our mark, or is what was recorded (or not shown); told without the planner's code."""
        model = self.observation.models.get(remote)
        if model and model.mark and model.mark.scope == SCOPE:
            return True
        every = [one for block in self.lock.models.values() for one in block.generations if one.remote == remote]
        return any(model is None or one.create_time == model.create_time for one in every)

    def recording(self, event: Event) -> World:
        return replace(self, lock=record(self.lock, event))

    def showing(self, model: RemoteModel) -> World:
        seen = self.observation
        return replace(self, observation=Observation({**seen.models, model.remote: model}, seen.gone - {model.remote}))

    def refreshed(self) -> World:
        """The lock with what the observation says of the recorded generations."""
        return replace(self, lock=reduce(record, observed_events(self.inputs()), self.lock))

    def carried_out(self, made: Plan) -> World:
        """The world after a plan: what is created is ready at once; a request for more training is answered once."""
        world = self
        manifests = {one.name: replace(one, source=made.sources[one.name]) for one in self.manifests}
        for action in made.actions:
            if action.name in manifests and not action.after:
                world = world.after(action, manifests[action.name])
        return replace(world, request=Request(complete=self.request.complete))

    def after(self, action: Action, declared: Manifest) -> World:
        match action.kind:
            case Kind.CREATE:
                return self.created(declared, action)
            case Kind.ADOPT:
                model = self.observation.models[action.remote]
                assert model.mark is not None
                found = replace(_locked(declared, action), key=action.key, spec=model.mark.spec, remote=model.remote)
                return self.recording(Adopted(declared.name, declared.file, update_observed(found, model)))
            case Kind.UPDATE:
                return self.showing(self.patched(declared, action))
            case Kind.CHECK | Kind.PROMOTE:
                ran = self.checked | ({action.key} if action.kind is Kind.CHECK else set())
                return replace(self.recording(_qualified(declared, action)), checked=ran)
            case Kind.DELETE:
                stopped = replace(self.observation.models[action.remote], state=State.CANCELLED)
                return self.recording(Dropped(declared.name, action.key, action.remote)).showing(stopped)
            case _:
                return self

    def created(self, declared: Manifest, action: Action) -> World:
        model, locked = trained(declared, action), _locked(declared, action)
        if self.ids:
            return self.recording(Started(declared.name, declared.file, locked)).showing(model)
        remote = job(len(self.observation.models) + 1000)
        intent = self.recording(Intended(declared.name, declared.file, intended(_made(declared, action))))
        begun = intent.recording(Started(declared.name, declared.file, replace(locked, remote=remote)))
        return begun.showing(replace(model, remote=remote, chosen_id=None))

    def patched(self, declared: Manifest, action: Action) -> RemoteModel:
        model = self.observation.models[action.remote]
        update = update_of(declared, model.mark or self.mark_of(action), model, action.changes)
        sampling = {
            name: value
            for name in ("temperature", "top_p", "top_k")
            if (value := getattr(update.sampling, name)) is not None
        }
        return replace(
            model,
            mark=model.mark if update.description is None else update.mark,
            description=model.description if update.description is None else update.description,
            display_name=model.display_name if update.display_name is None else update.display_name,
            sampling=replace(model.sampling, **sampling),
        )

    def mark_of(self, action: Action) -> Mark:
        locked = self.lock.models[action.name].generation(action.key)
        assert locked is not None
        return locked.mark(SCOPE, action.name)


def _made(declared: Manifest, action: Action) -> Made:
    data = next(word for word in "AB" if Made(data=word).dataset.digest == declared.dataset.digest)
    parent = next((one for one in OURS["numbers"] if one.key == declared.source.key), None)
    return Made(
        declared.name,
        data=data,
        hyperparameters=declared.hyperparameters,
        attempt=action.attempt,
        parent=parent,
    )


def _qualified(declared: Manifest, action: Action) -> Checked | Promoted:
    if action.kind is Kind.PROMOTE:
        return Promoted(declared.name, action.key, action.remote)
    return Checked(declared.name, action.key, report(declared, passed=action.key[-1] < "p"))


def report(declared: Manifest, *, passed: bool) -> CheckResults:
    """How the checks of a manifest went, all of them alike."""
    results = (
        CheckResult(name=one.name, passed=passed, passes=int(passed), answers=1, score=float(passed), minimum=1.0)
        for one in declared.checks
    )
    return check_results(checks_digest(declared.checks), tuple(results))


def _locked(declared: Manifest, action: Action) -> LockedGeneration:
    return recorded(_made(declared, action), state="CREATING", created=None)


def trained(declared: Manifest, action: Action) -> RemoteModel:
    model = live(
        _made(declared, action),
        created=50 + action.attempt,
        display_name=declared.display_name or declared.name,
        description=declared.description or "",
    )
    return replace(model, sampling=declared.sampling)


@st.composite
def lives(draw: st.DrawFn) -> RemoteModel:
    return live(
        draw(st.sampled_from(POOL)),
        state=draw(st.sampled_from(LIVE_STATES)),
        created=draw(st.integers(0, 3)),
        marked=draw(st.sampled_from([True, True, True, False])),
        under=draw(st.sampled_from([None, None, None, "elsewhere"])),
        display_name=draw(st.sampled_from(["numbers", "other"])),
        description=draw(st.sampled_from(["", "text"])),
        sampling=draw(st.sampled_from([{}, {"temperature": 0.5}])),
    )


@st.composite
def blocks(draw: st.DrawFn, name: str) -> LockedModel:
    contents = draw(st.lists(st.sampled_from(OURS[name]), max_size=3, unique_by=lambda one: one.key))
    states = st.sampled_from([state.value for state in State if state is not State.INTENDED])
    keys = [one.key for one in contents]
    return LockedModel(
        manifest=f"{name}.yaml",
        serving=draw(st.sampled_from([None, *keys])),
        rejected=tuple(draw(st.lists(st.sampled_from(keys), unique=True, max_size=1))) if keys else (),
        generations=tuple(recorded(one, state=draw(states), created=draw(st.integers(0, 3))) for one in contents),
    )


@st.composite
def manifests(draw: st.DrawFn, name: str) -> Manifest:
    return manifest(
        draw(st.sampled_from([one for one in OURS[name] if one.attempt == 0])),
        display_name=draw(st.none() | st.just("counter")),
        description=draw(st.none() | st.sampled_from(["", "counts"])),
        sampling=draw(st.sampled_from([None, {"temperature": 0.7}])),
        checks=draw(st.sampled_from([(), (), (), ("small",)])),
        ignore_drift=draw(st.sampled_from([(), ("description",), ("sampling",)])),
        suspend=draw(st.sampled_from([False, False, False, True])),
        timeout=draw(st.none() | st.just(5)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    declared = draw(st.lists(st.sampled_from([*NAMES, CHILD]), unique=True))
    locked = draw(st.lists(st.sampled_from([*NAMES, CHILD]), unique=True))
    lock = Lock(models={name: draw(blocks(name)) for name in locked})
    models = {one.remote: one for one in draw(st.lists(lives(), max_size=5))}
    every = {one.remote for block in lock.models.values() for one in block.generations}
    absent = sorted(every - models.keys())
    gone = frozenset(draw(st.lists(st.sampled_from(absent), unique=True))) if absent else frozenset()
    asked = st.lists(st.sampled_from([*NAMES, CHILD]), unique=True).map(frozenset)
    return World(
        manifests=tuple(draw(manifests(name)) for name in declared),
        observation=Observation(models, gone),
        lock=lock,
        request=Request(retry=draw(asked), replace=draw(asked), complete=draw(st.booleans())),
        limits=draw(st.sampled_from([Limits(), Limits(max_creates=1), Limits(max_steps=3)])),
    )


@st.composite
def jobs(draw: st.DrawFn) -> list[RemoteModel]:
    """Jobs of few contents, so that many double each other."""
    contents = draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=3, unique_by=lambda one: one.mark))
    states = st.sampled_from([*LIVE_STATES, "CREATING", "CANCELLED"])
    return [
        live(draw(st.sampled_from(contents)), number=number, state=draw(states), created=draw(st.integers(0, 3)))
        for number in range(draw(st.integers(0, 6)))
    ]


def made_of(model: RemoteModel) -> Made:
    return next(one for one in POOL if one.mark == model.mark)


@st.composite
def entries(draw: st.DrawFn, made: Made, doubles: list[RemoteModel]) -> LockedGeneration:
    """What some run may have recorded of a content: an intent, one of the jobs, or one that is gone by now."""
    model = draw(st.sampled_from([None, *doubles, *doubles]))
    if model is None:
        gone = recorded(made, state=draw(st.sampled_from(["CREATING", "ACTIVE", "MISSING"])), number=99)
        return draw(st.sampled_from([intended(made), gone]))
    state = draw(st.sampled_from([model.state, State.CREATING]))
    return replace(recorded(made, state=state), remote=model.remote, create_time=model.create_time)


@st.composite
def lockfiles(draw: st.DrawFn, shown: list[RemoteModel]) -> Lock:
    """A lockfile of some run that took part: it may know of every job, or of none."""
    blocks: dict[str, LockedModel] = {}
    spare = draw(st.lists(st.sampled_from([one for every in OURS.values() for one in every]), max_size=2))
    contents = {made.mark: made for made in [*map(made_of, shown), *spare] if made.scope == SCOPE}
    for made in contents.values():
        if not draw(st.booleans()):
            continue
        entry = draw(entries(made, [one for one in shown if one.mark == made.mark]))
        block = blocks.get(made.name, LockedModel(f"{made.name}.yaml")).with_generation(entry)
        serves = entry.state is State.ACTIVE and draw(st.booleans())
        blocks[made.name] = replace(block, serving=made.key if serves else block.serving)
    return Lock(models=blocks)


@st.composite
def races(draw: st.DrawFn) -> tuple[World, World]:
    """One service without caller-chosen ids, as two checkouts with lockfiles of their own see it."""
    shown = draw(jobs())
    declared = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    asked = st.lists(st.sampled_from(NAMES), unique=True).map(frozenset)
    request = Request(retry=draw(asked), replace=draw(asked), complete=draw(st.booleans()))
    wanted = tuple(draw(manifests(name)) for name in declared)
    observation = Observation({one.remote: one for one in shown}, frozenset({job(99)}))
    first, second = (World(wanted, observation, draw(lockfiles(shown)), request, ids=False) for _ in range(2))
    return first, second


def worlds_without_ids() -> st.SearchStrategy[World]:
    return races().map(lambda pair: pair[0])
