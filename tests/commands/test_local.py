"""Commands on a store of this machine; the trainings ended before, so that no training library is needed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from reconciler.domain.identity import Content, dataset_digest, key_of
from reconciler.domain.model import CreateRequest, Dataset, Example, Sampling, Source
from reconciler.providers.local.hub import Hub
from reconciler.providers.local.processes import missing_libraries
from reconciler.providers.local.provider import Local
from reconciler.providers.local.store import Store
from reconciler.trainer.run_files import BaseModel
from support.cases import each_row
from support.cli_world import EXAMPLES, Cli
from support.local_world import ClockLauncher, machine, make_base
from support.render_values import held_to

TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: default}
spec:
  provider: local
  scope: demo
"""
HYPERPARAMETERS = {"epochCount": 2, "batchSize": 4, "learningRate": 0.001}
BASE = "./base"


class Machine:
    """A project with a local target, and its store."""

    def __init__(self, folder: Path) -> None:
        self.reconcile = Cli(folder)
        self.root = self.reconcile.specs
        self.target()
        make_base(self.root)
        self.store = self.root / ".reconcile/local"
        self.reconcile.manifest("adder", base=BASE)

    def target(self, more: str = "") -> None:
        (self.root / "reconcile.yaml").write_text(TARGET + more)

    def train(self) -> Path:
        """Train the manifest to its end, and return the folder of the model."""
        examples = [Example(*pair) for pair in EXAMPLES]
        content = Content("demo", "adder", Source(BASE), HYPERPARAMETERS, dataset_digest(examples))
        request = CreateRequest(
            key=key_of(content.mark()),
            mark=content.mark(),
            source=content.source,
            hyperparameters=HYPERPARAMETERS,
            display_name="adder",
            description="",
            sampling=Sampling(),
            dataset=Dataset(content.data, "", len(examples)),
        )
        clock = self.reconcile.clock
        launcher = ClockLauncher(clock)
        found = replace(machine(self.root, clock, clock.sleep, launcher), store=Store(self.store, "store"))

        async def create() -> None:
            async with Local(found) as provider:
                await provider.create(request, examples)

        asyncio.run(create())
        folder = self.store / request.key
        clock.now += timedelta(days=1)
        assert not launcher.is_running(folder)
        return folder


@pytest.fixture
def world(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_finished_training_is_recorded_promoted_and_resolved(world: Machine) -> None:
    folder = world.train()
    applied = world.reconcile("apply", "--yes")
    assert applied.status == 0, applied.err
    (generation,) = world.reconcile.lock["adder"]["generations"]
    assert (generation["state"], generation["remote"]) == ("ACTIVE", f"local/{folder.name}")
    assert generation["providerData"]["adapter"] == f"{folder.name}/starts/1/adapter"
    (model,) = world.reconcile("resolve", "--live", "--format", "json").document["models"]
    assert model["files"]["folder"] == str(folder / "starts/1/adapter")
    assert model["files"]["baseModel"] == str(world.root / "base")
    assert world.reconcile("drift").status == 0


def test_an_edited_adapter_is_replaced_and_does_not_serve(world: Machine) -> None:
    folder = world.train()
    world.reconcile("apply", "--yes")
    (folder / "starts/1/adapter/adapter_model.safetensors").write_text('{"1": "666"}')
    reason = f"adapter_model.safetensors of {folder.name} changed after the training"
    remedy = f"restore it, or run `mv {folder} {folder.with_name(f'.{folder.name}.edited')}`"
    (finding,) = world.reconcile("drift", "--format", "json").document["findings"]
    assert (finding["class"], finding["message"]) == ("Replaced", reason)
    assert finding["remedy"].startswith(remedy)
    assert f"{reason}; {remedy}" in world.reconcile("prompt", "adder", "1").err
    assert world.reconcile("resolve", "--live").status == 1
    (action,) = world.reconcile("plan", "--format", "json").document["actions"]
    assert (action["action"], action["reason"]) == ("hold", "RecordMismatch")
    folder.rename(folder.with_name(f".{folder.name}.edited"))
    (action,) = world.reconcile("plan", "--format", "json").document["actions"]
    assert action["key"] == folder.name
    assert action["action"] == ("create" if missing_libraries() else "hold")


@pytest.mark.skipif(not missing_libraries(), reason="the training libraries are installed")
def test_without_the_training_libraries_a_plan_names_what_was_not_checked_and_apply_refuses(world: Machine) -> None:
    missing = "training needs torch, transformers, peft, trl"
    remedy = "run `pip install 'tuned-model-reconciler[local]'`"
    planned = world.reconcile("plan", "--format", "json")
    assert (planned.status, planned.document["summary"]["create"]) == (0, 1)
    (notice,) = planned.document["notices"]
    assert notice.startswith(f"the training of adder was not checked: {missing}; {remedy}")
    before = sorted(world.root.rglob("*"))
    refused = world.reconcile("apply", "--yes")
    assert refused.status == 1
    assert f"{missing}, so adder cannot be trained; {remedy}" in " ".join(refused.err.split())
    assert sorted(world.root.rglob("*")) == before


def test_a_copied_adapter_is_adopted(world: Machine) -> None:
    trained = world.train()
    copied = world.store / "old-adder"
    shutil.copytree(trained / "starts/1/adapter", copied)
    shutil.rmtree(trained)
    (world.root / "adder.yaml").unlink()
    adopted = world.reconcile("adopt", "old", "local/old-adder")
    assert adopted.status == 0, adopted.err
    applied = world.reconcile("apply", "--yes")
    assert applied.status == 0, applied.err
    assert json.loads((copied / "model.json").read_text())["mark"]["name"] == "old"
    assert world.reconcile("plan", "--detailed-exitcode").status == 0
    assert world.reconcile("resolve", "old").out == "local/old-adder\n"


def test_a_store_that_is_in_git_is_refused(world: Machine) -> None:
    world.train()
    for command in (("init", "-q"), ("add", "--force", "specs/.reconcile")):
        subprocess.run(["git", *command], cwd=world.reconcile.folder, check=True)  # noqa: S603, S607 - git
    planned = world.reconcile("apply", "--yes")
    assert planned.status == 1
    assert "specs/.reconcile/local has files that are in git, such as specs/.reconcile/local/" in planned.err
    assert "run `git rm -r --cached specs/.reconcile/local`, and commit that" in planned.err


def test_a_store_outside_the_repository_needs_an_option_and_is_a_row(world: Machine, tmp_path: Path) -> None:
    outside = tmp_path.with_name(f"{tmp_path.name}-models")
    (world.reconcile.folder / ".git").mkdir()
    world.target(f"  local: {{store: {outside}, inference: {{url: 'https://gpu.example/v1'}}}}\n")
    refused = world.reconcile("plan")
    assert refused.status == 1
    assert f"pass --allow-folder {outside} if you trust this folder with your models" in refused.err
    allowed = " ".join(world.reconcile("plan", "--allow-folder", str(outside)).out.split())
    assert f"model store {outside} inference server https://gpu.example/v1" in allowed


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "acme/tiny",
            (
                "the base model acme/tiny is not pinned to a commit, and a model of the hub can change; run"
                " `git ls-remote https://huggingface.co/acme/tiny HEAD`, and write acme/tiny@COMMIT with the 40 digits"
                " that it prints"
            ),
        ),
        ("acme/tiny@main", "the base model acme/tiny is not pinned to a commit"),
        ("gemini-3.5-flash", "expected the name of a base model of this machine; write it as HuggingFaceTB/"),
        ("models/tiny", "models/tiny is a base model of the Generative Language API; "),
    ],
)
def test_a_base_model_is_pinned(world: Machine, base: str, message: str) -> None:
    world.reconcile.manifest("adder", base=base)
    assert message in world.reconcile("validate").out


OLD, NEW = "a" * 40, "b" * 40
PINNED = {"config.json": "1", "model.safetensors": "1", "README.md": "1"}


@contextmanager
def model_hub(main: str, files: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Serve the API of the hub for the model acme/tiny with the files of each commit, and yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/api/models/acme/tiny/")
            commit, found = path.removeprefix("tree/"), b"Repository not found"
            if path == "revision/main" and main:
                found = json.dumps({"sha": main}).encode()
            elif commit in files:
                found = json.dumps([{"path": name, "oid": oid} for name, oid in files[commit].items()]).encode()
            self.send_response(404 if found.startswith(b"Repository") else 200)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_arguments: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@each_row(
    ("main", "files", "change"),
    [
        (OLD, {OLD: PINNED}, None),
        (NEW, {OLD: PINNED, NEW: {**PINNED, "README.md": "2", "photo.png": "1"}}, None),
        (
            NEW,
            {OLD: PINNED, NEW: {**PINNED, "model.safetensors": "2", "tokenizer.json": "1"}},
            (
                "the main branch of acme/tiny on the hub has other files than the pinned commit: model.safetensors, "
                f"tokenizer.json (acme/tiny@{NEW})"
            ),
        ),
        (NEW, {NEW: PINNED}, f"acme/tiny no longer has the commit {OLD} on the hub ()"),
        ("", {}, "acme/tiny was not found on the hub, or you do not have access ()"),
    ],
)
def test_a_base_model_is_compared_with_its_main_branch(
    main: str, files: Mapping[str, Mapping[str, str]], change: str | None
) -> None:
    pinned = {f"acme/tiny@{OLD}": BaseModel(hub="acme/tiny", revision=OLD), "./base": BaseModel(folder="/base")}
    with model_hub(main, files) as address:
        hub = Hub.of({"HF_ENDPOINT": address}, ())
        found = [f"{one.message} ({one.newest})" for one in asyncio.run(hub.find_changes(pinned)).values()]
        assert asyncio.run(replace(hub, offline=True).find_changes(pinned)) == {}
    assert found == ([change] if change else [])


def test_drift_reports_a_base_model_that_changed_on_the_hub(world: Machine) -> None:
    world.reconcile.manifest("adder", base=f"acme/tiny@{OLD}")
    with model_hub(NEW, {OLD: PINNED, NEW: {**PINNED, "config.json": "2"}}) as address:
        world.reconcile.environ["HF_ENDPOINT"] = address
        found = held_to("drift", world.reconcile("drift", "--format", "json").document)["findings"]
        (finding,) = (one for one in found if one["class"] == "BaseModelChanged")
        assert (finding["severity"], finding["declared"]) == ("note", f"acme/tiny@{OLD}")
        assert finding["remedy"] == f"set spec.baseModel to acme/tiny@{NEW} to train from it"
        world.reconcile.environ["HF_HUB_OFFLINE"] = "1"
        assert "BaseModelChanged" not in world.reconcile("drift").out
    del world.reconcile.environ["HF_HUB_OFFLINE"]
    unreachable = world.reconcile("drift")
    assert "acme/tiny was not compared with its main branch on the hub: " in unreachable.err
    assert "BaseModelChanged" not in unreachable.out


def test_init_writes_a_project_that_trains_a_small_model(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    reconcile = Cli(folder)
    shutil.rmtree(reconcile.specs)
    assert reconcile("init", "--provider", "local").status == 0
    (action,) = reconcile("plan", "--format", "json").document["actions"]
    assert action["name"] == "number-generator"
    assert reconcile("validate").status == 0


def test_doctor_checks_this_machine(world: Machine) -> None:
    world.train()
    checks = {check["check"]: check for check in world.reconcile("doctor", "--format", "json").document["findings"]}
    assert checks["store"]["message"].startswith("specs/.reconcile/local has 1 model, 1 of them of the scope demo;")
    if missing_libraries():
        assert checks["libraries"]["remedy"] == "run `pip install 'tuned-model-reconciler[local]'`"
        assert checks["device"]["status"] == "skipped"
    assert checks["baseModels"]["message"] == "the weights of 1 base model are on this machine"
