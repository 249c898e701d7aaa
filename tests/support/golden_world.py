"""One rich world, played by real commands, and what every face shows of it.

``python -m support.golden_world`` in the folder ``tests`` writes the golden files anew; read their diff before you
commit it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from reconciler.commands.main import main
from reconciler.emulator.app import create_app
from reconciler.emulator.training import TrainingPace
from reconciler.environment import Environment
from support.cli_world import Clock

GOLDEN = Path(__file__).parent.parent / "golden"
FOREIGN = Path(__file__).parent.parent / "fixtures" / "legacy" / "list_tuned_models.v1beta3.json"
FACES = ("json", "md", "html", "xml")
HOSTILE = "<script>alert(1)</script> | `x` @everyone [a](http://evil.example) ::error::no"
ENVIRON = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": "f" * 40,
    "CI_COMMIT_REF_NAME": HOSTILE,
    "GITLAB_USER_LOGIN": "\x1b[31m\u202e@ada",
}
EXAMPLES = [(str(number), str(number + 1)) for number in range(20)]
TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: default}
spec:
  provider: embedded
  scope: acme/nlp
  publish: serving.json
  embedded: {world: world.json, stepSeconds: 1.65}
"""
CHECKS = """\
  sampling: {temperature: 0}
  checks:
    - {name: small, prompt: "7", expect: {equals: "8"}}
    - {name: unseen, dataset: {path: unseen.csv, minimum: 0.9, sample: 8}}
"""


class Play:
    """A project in a folder, and the commands that are given in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs = folder / "specs"
        self.clock = Clock()
        self.specs.mkdir()
        (self.specs / "reconcile.yaml").write_text(TARGET)
        shutil.copy(FOREIGN, self.specs / "world.json")
        self.rows("unseen", EXAMPLES[:8])

    def rows(self, name: str, examples: Iterable[tuple[str, str]]) -> None:
        lines = ["text_input,output", *(f"{given},{wanted}" for given, wanted in examples)]
        (self.specs / f"{name}.csv").write_text("\n".join(lines) + "\n")

    def manifest(
        self,
        name: str,
        *,
        source: str = "baseModel: models/gemini-3.5-flash",
        rate: float = 0.001,
        examples: Iterable[tuple[str, str]] = EXAMPLES,
        more: str = "",
    ) -> None:
        self.rows(name, examples)
        (self.specs / f"{name}.yaml").write_text(
            f"apiVersion: tuning.reconcile/v1alpha1\nkind: TunedModel\nmetadata: {{name: {name}}}\nspec:\n  {source}\n"
            f"  dataset: {{path: {name}.csv}}\n"
            f"  hyperparameters: {{epochCount: 2, batchSize: 4, learningRate: {rate}}}\n{more}"
        )

    def __call__(self, *arguments: str) -> str:
        """Standard output of a command."""
        environment = Environment(
            cwd=self.folder,
            environ=ENVIRON,
            stdin=io.BytesIO(),
            clock=self.clock,
            sleeper=self.clock.sleep,
            rng=random.Random(7),  # noqa: S311 - reproducible, and no secret
        )
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        inside = contextlib.chdir(self.folder)  # reports are named relative to it, so that their command is the same
        with inside, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([*arguments], environment)
        out.seek(0)
        return out.read()

    def tamper(self, method: str, path: str, body: Any = None, **query: str) -> None:
        """Somebody else's request."""
        app = create_app(
            store=self.specs / ".reconcile" / "default.sqlite3",
            clock=self.clock,
            random=random.Random(8),  # noqa: S311 - made-up ids, no secret
            settings=TrainingPace(step_seconds=1.65, overhead_seconds=2),
        )

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return await client.request(method, f"/v1beta3/{path}", params=query, json=body)

        answer = asyncio.run(send())
        assert answer.is_success, answer.text

    def remote(self, name: str) -> str:
        return self("resolve", name).strip()


def prepared(folder: Path) -> Play:
    """The world before anybody looks: everything that can have become of a model has become of one."""
    play = Play(folder)
    play.manifest("numbers", more=CHECKS)
    play.manifest("shared", more="  access: [{role: reader, everyone: true}]\n  displayName: shared by all\n")
    play.manifest("films", source="source: {tunedModel: numbers}")
    play.manifest("broken", rate=1.0)
    for name in ("gone", "removed"):
        play.manifest(name)
    play("apply", "--yes")
    play.manifest("numbers", examples=[*EXAMPLES[:18], ("18", "20"), ("20", "21")], more=CHECKS)
    play("apply", "--yes")
    play.manifest("numbers", examples=[(given, wanted + "0") for given, wanted in EXAMPLES], more=CHECKS)
    play("apply", "--yes")
    play.tamper("PATCH", play.remote("shared"), {"displayName": HOSTILE[:40]}, updateMask="displayName")
    play.tamper("DELETE", play.remote("gone"))
    (play.specs / "removed.yaml").unlink()
    play.manifest("fresh", more=f"  description: '{HOSTILE}'\n")
    play.manifest("shared", examples=[*EXAMPLES, ("20", "21")], more="  displayName: shared by all\n")
    return play


def faces() -> dict[str, str]:
    """What each golden file should hold, by its name."""
    shown: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        play = prepared(Path(name))
        commands = {
            "drift": ("drift",),
            "plan": ("plan",),
            "status": ("status", "--live"),
            "result": ("apply", "--yes"),
        }
        for kind, command in commands.items():
            files = {face: play.folder / f"{kind}.{face}" for face in FACES}
            reports = [part for file in files.values() for part in ("--report", file.name)]
            shown[f"{kind}.txt"] = play(*command, *reports)
            shown |= {f"{kind}.{face}": file.read_text(encoding="utf-8") for face, file in files.items()}
    return shown


if __name__ == "__main__":
    for file, text in faces().items():
        (GOLDEN / file).write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {file}\n")
