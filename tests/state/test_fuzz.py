"""Coverage-guided fuzzing of the documents that are read: a bounded number of runs, where atheris is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

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
