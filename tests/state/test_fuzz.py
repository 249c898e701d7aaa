"""Fuzzing of what is read: documents with a bounded number of coverage-guided runs, and values of services."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.domain.lock import Lock, LockedModel, LockedTarget
from reconciler.domain.model import RemoteModel
from reconciler.planning.events import update_observed
from reconciler.providers.generativelanguage import wire
from reconciler.providers.vertex.wire import read_job
from reconciler.state.lockfile import dumps, loads
from support.core_cases import Made, recorded

TESTS = Path(__file__).parents[1]
RUNS = 2_000
PREFIXES = {
    "lockfile": b'{"version": 1, "target": {"name": "a", "provider": "embedded", "scope": "s"}, "models": {"a": {}}}',
    "saved-plan": b'{"kind": "SavedPlan", "version": 1, "plan": {}}',
    "pointer": b'{"kind": "Serving", "version": 1, "target": {"name": "default"}, "models": []}',
    "events": b'{"kind": "Events", "version": 1}\n',
}
"""A document of each kind to begin with."""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("kind", sorted(PREFIXES))
def test_a_coverage_guided_fuzzer_finds_no_traceback(kind: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "begin").write_bytes(PREFIXES[kind])
    if kind == "lockfile":
        for file in (TESTS / "fixtures" / "lockfiles").iterdir():
            shutil.copy(file, corpus)
    command = [
        sys.executable,
        "-m",
        "support.fuzz_documents",
        kind,
        f"-runs={RUNS}",
        "-seed=1",
        "-max_len=20000",
        str(corpus),
    ]
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    ran = subprocess.run(  # noqa: S603 - our own command
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stderr[-4_000:]
    assert f"Done {RUNS} runs" in ran.stderr


ABSURD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["NaN", "Infinity", "-5", "1e400", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59", -1, 2**63]),
)
"""A value that a service could send in place of any other."""
MEMBERS = st.dictionaries(
    st.sampled_from(["step", "epoch", "meanLoss", "checkpointId", "endpoint", "code", "message"]), ABSURD
)
NUMBERS = st.dictionaries(st.sampled_from(["epochCount", "batchSize", "learningRate", "adapterSize"]), ABSURD)
TASK = {"hyperparameters": NUMBERS, "snapshots": st.lists(MEMBERS, max_size=3), "completeTime": ABSURD}
TUNED_MODEL = {
    "state": st.sampled_from(["ACTIVE", "CREATING", "FAILED", "UNHEARD_OF", 2, -1]),
    "createTime": ABSURD,
    "tuningTask": st.fixed_dictionaries({}, optional=TASK),
}
JOB = {
    "state": st.sampled_from(["JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_UNHEARD_OF", 4, 99]),
    "createTime": ABSURD,
    "endTime": ABSURD,
    "error": MEMBERS,
    "supervisedTuningSpec": st.fixed_dictionaries({"hyperParameters": NUMBERS}),
    "tuningDataStats": st.fixed_dictionaries(
        {"supervisedTuningDataStats": st.fixed_dictionaries({"tuningStepCount": ABSURD})}
    ),
    "tunedModel": st.fixed_dictionaries(
        {"model": ABSURD, "endpoint": ABSURD, "checkpoints": st.lists(MEMBERS, max_size=3)}
    ),
}


@pytest.mark.parametrize(("read", "fields"), [(wire.read_model, TUNED_MODEL), (read_job, JOB)])
@settings(max_examples=4 * settings.default.max_examples)
@given(data=st.data())
def test_no_value_of_a_service_makes_a_lockfile_invalid(
    read: Callable[[Mapping[str, Any]], RemoteModel], fields: Mapping[str, Any], data: st.DataObject
) -> None:
    body = data.draw(st.fixed_dictionaries({}, optional=fields))
    live = read({"name": "tunedModels/numbers", **body})
    generation = update_observed(recorded(Made()), live)
    target = LockedTarget("default", "embedded", "demo")
    lock = Lock(target, {"numbers": LockedModel("numbers.yaml", generations=(generation,))})
    assert loads(dumps(lock), "reconcile.lock.json") == lock
