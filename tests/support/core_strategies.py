"""Values of the core, representative and arbitrary."""

from __future__ import annotations

from datetime import UTC, datetime
from string import ascii_lowercase, digits
from typing import Any, get_args

from hypothesis import strategies as st

from reconciler.domain.checks import RecordedChecks, RecordedComparison, RecordedMiss
from reconciler.domain.identity import Content, canonical_number
from reconciler.domain.lock import (
    DecidedAction,
    Decision,
    Lock,
    LockedGeneration,
    LockedHyperparameters,
    LockedModel,
    LockedStage,
    LockedTarget,
)
from reconciler.domain.model import (
    Checkpoint,
    Dataset,
    Example,
    Failure,
    Mark,
    Number,
    Resources,
    Sampling,
    Source,
    State,
)
from support.base_models import GEMINI_API

DIGEST = "sha256:" + "0" * 64
FLOAT32_MAX = 3.4028234e38
FLOAT32_MIN = 1.17549435e-38


def generation(key: str = "numbers-aaaaaaaa", **fields: Any) -> LockedGeneration:
    """A recorded generation, ready where ``fields`` say nothing else."""
    common: dict[str, Any] = {
        "key": key,
        "remote": f"tunedModels/{key}",
        "spec": DIGEST,
        "attempt": 0,
        "origin": "created",
        "state": State.ACTIVE,
        "source": Source(GEMINI_API),
        "dataset": Dataset(DIGEST, "data.csv", 15),
    }
    return LockedGeneration(**(common | fields))


# One draw for a text is several times as fast as a draw for each of its characters, or for each part of a pattern.


def texts(*, min_size: int = 0) -> st.SearchStrategy[str]:
    """Any text that can be stored: no halves of surrogate pairs; line ends of all kinds are likely."""
    storable = st.text(st.characters(exclude_categories=["Cs"]), min_size=min_size, max_size=12)
    return storable | st.text('\n\r \\"aä', min_size=min_size, max_size=12)


def names() -> st.SearchStrategy[str]:
    """Names that match NAME_PATTERN."""
    return st.text(f"{ascii_lowercase}{digits}-", max_size=31).map(
        lambda text: text.lstrip(f"{digits}-").rstrip("-") or "a"
    )


def scopes() -> st.SearchStrategy[str]:
    return st.text(f"{ascii_lowercase}{digits}./_-", max_size=63).map(lambda text: text.lstrip("./_-") or "0")


def digests() -> st.SearchStrategy[str]:
    return st.binary(min_size=32, max_size=32).map(lambda digest: f"sha256:{digest.hex()}")


def rates() -> st.SearchStrategy[float]:
    """Every number that a manifest may declare for a learning rate."""
    return st.floats(FLOAT32_MIN, FLOAT32_MAX) | st.integers(1, 10**20).map(float) | st.floats(1e-7, 10)


def hyperparameters() -> st.SearchStrategy[dict[str, Number]]:
    counts = st.integers(1, 10_000)
    optional = {"epochCount": counts, "batchSize": counts, "learningRate": rates().map(canonical_number)}
    return st.fixed_dictionaries({}, optional=optional)


def examples() -> st.SearchStrategy[list[Example]]:
    return st.lists(st.builds(Example, texts(), texts()), min_size=1, max_size=4)


def sources() -> st.SearchStrategy[Source]:
    """Base models, parents whose generation is chosen, and models from outside."""
    base = st.text(f"{ascii_lowercase}{digits}.-", min_size=1, max_size=20).map("models/".__add__).map(Source)
    parent = st.builds(lambda name, key: Source(tuned_model=name, key=key), names(), names())
    return base | parent | texts(min_size=1).map(lambda remote: Source(remote=remote))


def comparisons() -> st.SearchStrategy[RecordedComparison]:
    differences = st.floats(-1, 1)
    return st.builds(
        RecordedComparison,
        other=st.sampled_from(["base", "serving"]),
        model=texts(min_size=1),
        score=st.floats(0, 1),
        difference=differences,
        interval=st.tuples(differences, differences),
        required=st.sampled_from(["better", "noWorse"]),
        margin=st.floats(0, 1),
        passed=st.booleans(),
    )


def recorded_checks() -> st.SearchStrategy[RecordedChecks]:
    return st.builds(
        RecordedChecks,
        digest=digests(),
        passed=st.integers(0, 9),
        failed=st.integers(0, 9),
        scores=st.dictionaries(texts(min_size=1), st.floats(0, 1), max_size=2),
        misses=st.lists(st.builds(RecordedMiss, texts(min_size=1), texts(), texts()), max_size=2).map(tuple),
        comparisons=st.dictionaries(texts(min_size=1), st.lists(comparisons(), max_size=2).map(tuple), max_size=2),
    )


def contents() -> st.SearchStrategy[Content]:
    return st.builds(
        Content,
        scope=scopes(),
        name=names(),
        source=sources(),
        hyperparameters=hyperparameters(),
        data=digests(),
        attempt=st.integers(0, 5),
    )


def marks() -> st.SearchStrategy[Mark]:
    return contents().map(Content.mark)


def times() -> st.SearchStrategy[str]:
    """RFC 3339 times as services write them: in seconds, milliseconds, microseconds or nanoseconds."""
    seconds = st.integers(946_684_800, 4_102_444_799).map(
        lambda second: datetime.fromtimestamp(second, UTC).isoformat()[:19]
    )
    fractions = st.sampled_from([0, 3, 6, 9]).flatmap(lambda size: st.text(digits, min_size=size, max_size=size))
    return st.tuples(seconds, fractions).map(lambda parts: ".".join(filter(None, parts)) + "Z")


def datasets() -> st.SearchStrategy[Dataset]:
    """Files, inline examples, and objects in Cloud Storage, whose examples nobody counted."""
    local = st.builds(Dataset, digests(), texts(), st.integers(1, 10**6))
    pins = {"generation": texts(min_size=1), "checksum": texts(min_size=1), "size": st.integers(0, 10**9)}
    return local | st.builds(Dataset, digests(), texts(min_size=1).map("gs://".__add__), st.just(0), **pins)


def resources() -> st.SearchStrategy[Resources]:
    checkpoint = st.builds(Checkpoint, texts(min_size=1), st.integers(0, 99), st.integers(0, 10**6), texts())
    return st.builds(Resources, texts(), texts(), texts(), texts(), st.lists(checkpoint, max_size=2).map(tuple))


def generations() -> st.SearchStrategy[LockedGeneration]:
    """Recorded generations; of those that are only intended some have no remote name."""
    return _generations(st.sampled_from(State), texts(min_size=1)) | _generations(st.just(State.INTENDED), st.just(""))


def _generations(
    states: st.SearchStrategy[State], remotes: st.SearchStrategy[str]
) -> st.SearchStrategy[LockedGeneration]:
    maybe = st.none() | texts(min_size=1)
    return st.builds(
        LockedGeneration,
        key=names(),
        remote=remotes,
        spec=digests(),
        attempt=st.integers(0, 9),
        origin=st.sampled_from(["created", "adopted"]),
        state=states,
        source=sources(),
        dataset=datasets(),
        hyperparameters=st.builds(LockedHyperparameters, hyperparameters(), hyperparameters()),
        preamble=texts(),
        operation=maybe,
        total_steps=st.none() | st.integers(0, 10**9),
        final_loss=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        create_time=st.just("") | times(),
        complete_time=st.just("") | times(),
        failure=st.none() | st.builds(Failure, st.integers(0, 16), texts()),
        resources=resources(),
        checks=st.none() | recorded_checks(),
        promote_time=st.just("") | times(),
        rejection=texts(),
    )


def locked_models() -> st.SearchStrategy[LockedModel]:
    return st.builds(
        LockedModel,
        manifest=texts(min_size=1),
        serving=st.none() | names(),
        rejected=st.lists(names(), unique=True, max_size=2).map(tuple),
        protect=st.booleans(),
        published=st.none() | names(),
        labels=st.dictionaries(texts(min_size=1), texts(), max_size=2),
        sampling=st.none()
        | st.builds(Sampling, st.just(0.5), st.none() | st.just(1e-05), st.none() | st.integers(1, 40)),
        generations=st.lists(generations(), max_size=2, unique_by=lambda one: one.key).map(tuple),
        stages=st.dictionaries(names(), locked_stages(), max_size=2),
    )


def locked_stages() -> st.SearchStrategy[LockedStage]:
    return st.builds(
        LockedStage,
        serving=names(),
        previous=st.none() | names(),
        checkpoint=st.just("") | st.just("2"),
        promote_time=st.just("") | times(),
        sampling=st.none() | st.just(Sampling(0.5)),
        requested=st.none() | names(),
        rejected=st.lists(names(), unique=True, max_size=1).map(tuple),
        fields=st.none() | st.just("sha256:" + "0" * 64),
    )


def locks() -> st.SearchStrategy[Lock]:
    optional = st.none() | texts(min_size=1)
    limits = st.dictionaries(st.sampled_from(["maxCreates", "maxSteps", "concurrency"]), st.integers(0, 10**6))
    target = st.builds(LockedTarget, names(), names(), scopes(), optional, optional, limits)
    history = st.lists(decisions(), max_size=3, unique=True).map(newest_first)
    return st.builds(Lock, target, st.dictionaries(names(), locked_models(), max_size=2), history)


def decisions() -> st.SearchStrategy[Decision]:
    times = st.sampled_from([f"2026-01-01T00:00:0{second}Z" for second in range(3)])
    actions = st.sampled_from(get_args(DecidedAction))
    return st.builds(Decision, time=times, action=actions, model=names(), reason=st.text(max_size=20))


def newest_first(decided: list[Decision]) -> tuple[Decision, ...]:
    return tuple(sorted(decided, key=lambda decision: decision.time, reverse=True))
