"""A provider of another package: it is found by its entry point, and keeps the contract. Nothing of ours names it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reconciler.domain.model import Hyperparameters
from reconciler.domain.ports import Provider
from reconciler.manifests.schema_validation import schema_text, strict_validator
from reconciler.providers.registry import BUILT_IN
from reconciler.testing.contract import ProviderContract
from reconciler.testing.service import ServiceUnderTest
from support.fork_server import forked

PACKAGE = Path(__file__).parents[1] / "fixtures" / "plugin_package"
TARGET = """\
apiVersion: tuning.reconcile/v1alpha1
kind: Target
metadata: {name: default}
spec:
  provider: filemodels
  scope: acme/nlp
  filemodels: {path: models.json, seconds: 0}
"""
MANIFEST = """\
apiVersion: tuning.reconcile/v1alpha1
kind: TunedModel
metadata: {name: next-number}
spec:
  baseModel: counter
  dataset:
    examples:
      - {input: "1", output: "2"}
      - {input: "2", output: "3"}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


def install(site: Path, package: Path = PACKAGE, name: str = "") -> None:
    """Install the package as pip would, without a network: its modules, and the metadata with its entry points."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    distribution = name or project["name"]
    metadata = site / f"{distribution.replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items()) for group, points in groups
    ]
    (metadata / "entry_points.txt").write_text("".join(lines))
    shutil.copytree(package / "file_models", site / "file_models", dirs_exist_ok=True)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def reconcile(tmp_path: Path, site: Path) -> Run:
    root = tmp_path / "root"
    root.mkdir()
    (root / "reconcile.yaml").write_text(TARGET)
    (root / "next-number.yaml").write_text(MANIFEST)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        paths = [str(site), str(Path(__file__).parents[2])]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = forked("-m", "reconciler", *arguments)
        return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)  # noqa: S603 - our own command

    return run


def test_an_installed_provider_is_used_from_validate_to_status(tmp_path: Path, site: Path, reconcile: Run) -> None:
    install(site)
    for arguments in (["validate"], ["plan"], ["apply", "--yes"]):
        ran = reconcile(*arguments)
        assert ran.returncode in {0, 2}, ran.stdout + ran.stderr
    status = json.loads(reconcile("status", "--format", "json").stdout)
    assert status["target"]["provider"] == "filemodels"
    (record,) = json.loads((tmp_path / "root" / "models.json").read_text()).values()
    assert record["answers"] == {"1": "2", "2": "3"}
    resolved = reconcile("resolve", "next-number", "--format", "json").stdout
    assert json.loads(resolved)["models"][0]["url"].startswith("file:models.json#filemodels/next-number-")
    assert "models.json can be written" in reconcile("doctor").stdout
    prompted = reconcile("prompt", "next-number", "1")
    assert prompted.stdout.strip() == "2", prompted.stderr
    assert "No changes." in reconcile("plan").stdout


def test_the_printed_schema_has_the_settings_of_installed_providers(site: Path, reconcile: Run) -> None:
    assert json.loads(reconcile("schema", "Target").stdout) == json.loads(schema_text("Target"))
    install(site)
    fields = json.loads(reconcile("schema", "Target").stdout)["properties"]["spec"]["properties"]
    assert fields["provider"]["enum"] == [*sorted(BUILT_IN), "filemodels"]
    assert fields["filemodels"]["required"] == ["path"]


def recorded(root: Path) -> dict[str, Any]:
    """Return the record of the only generation in the lockfile."""
    (model,) = json.loads((root / "reconcile.lock.json").read_text())["models"].values()
    (generation,) = model["generations"]
    return generation


def test_the_lockfile_has_what_the_provider_records_for_itself(tmp_path: Path, site: Path, reconcile: Run) -> None:
    install(site)
    reconcile("apply", "--yes")
    root = tmp_path / "root"
    assert recorded(root)["providerData"] == {"position": 1}
    schema = json.loads(reconcile("schema", "Lock").stdout)
    lock = json.loads((root / "reconcile.lock.json").read_text())
    assert strict_validator(schema).is_valid(lock)
    text = (root / "reconcile.lock.json").read_text().replace('"position": 1', '"position": 0')
    assert not strict_validator(schema).is_valid(json.loads(text))
    assert strict_validator(schema).is_valid(json.loads(text.replace("filemodels", "other")))
    (root / "reconcile.lock.json").write_text(text)
    line = 1 + text[: text.index('"position": 0')].count("\n")
    assert (
        f"reconcile.lock.json:{line}:25: models.next-number.generations[0].providerData.position: expected a whole"
        " number, 1 or more; run `mv reconcile.lock.json reconcile.lock.json.invalid`, then `reconcile refresh`"
    ) in reconcile("status").stderr


def test_a_lockfile_is_read_without_the_provider_that_wrote_it(tmp_path: Path, site: Path, reconcile: Run) -> None:
    install(site)
    reconcile("apply", "--yes")
    before = {command: reconcile(*command.split()).stdout for command in ("status", "history next-number")}
    remote = reconcile("resolve", "next-number").stdout
    shutil.rmtree(site)
    assert reconcile("resolve", "next-number").stdout == remote
    for command, text in before.items():
        ran = reconcile(*command.split())
        assert ran.returncode == 0, ran.stderr
        assert recorded(tmp_path / "root")["key"] in ran.stdout
        assert ran.stdout.replace("filemodels", "file of models") == text.replace("filemodels", "file of models")
    assert 'provider "filemodels" is not installed; install the package' in reconcile("status", "--live").stderr
    assert 'provider "filemodels" is not installed; install the package' in reconcile("plan").stderr


def test_settings_are_held_to_the_schema_of_the_provider(tmp_path: Path, site: Path, reconcile: Run) -> None:
    install(site)
    (tmp_path / "root" / "reconcile.yaml").write_text(TARGET.replace("path: models.json, seconds: 0", "seconds: -1"))
    errors = reconcile("validate").stdout
    assert "spec.filemodels.path" in errors
    assert "spec.filemodels.seconds" in errors


def test_a_provider_that_is_not_installed_is_one_error(reconcile: Run) -> None:
    ran = reconcile("validate")
    assert ran.returncode == 1
    assert (
        'reconcile.yaml:5:13: spec.provider: provider "filemodels" is not installed; install the package that provides'
        " it, or use one of embedded, generativelanguage, local, vertex\n"
    ) in ran.stdout
    assert ran.stdout.count("filemodels") == 1


def test_two_packages_of_one_provider_are_one_error(site: Path, reconcile: Run) -> None:
    install(site)
    install(site, name="other-file-models")
    assert (
        'several packages provide "filemodels": other-file-models, reconcile-file-models; uninstall all but one of them'
    ) in reconcile("validate").stdout


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import none_such",
            (
                'provider "filemodels" of package reconcile-file-models cannot be loaded: ModuleNotFoundError: No'
                " module named 'none_such'; update or reinstall reconcile-file-models"
            ),
        ),
        (
            "SPEC = 1",
            (
                'provider "filemodels" of package reconcile-file-models is invalid: file_models:SPEC is int, expected a'
                ' ProviderSpec named "filemodels"; update reconcile-file-models'
            ),
        ),
    ],
)
def test_a_broken_package_is_one_error(site: Path, reconcile: Run, source: str, message: str) -> None:
    install(site)
    (site / "file_models" / "__init__.py").write_text(source)
    ran = reconcile("validate")
    assert message in ran.stdout
    assert ran.stderr == ""


@pytest.mark.usefixtures("reconcile")
def test_validate_imports_only_the_spec(tmp_path: Path, site: Path) -> None:
    install(site)
    script = (
        "import sys, pathlib; from reconciler.commands.main import main\n"
        "sys.argv = ['reconcile', 'validate']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = {'httpx', 'starlette', 'google.auth', 'file_models.provider', 'reconciler.providers.vertex.spec'}\n"
        "print('loaded:', sorted(slow & set(sys.modules)), 'file_models' in sys.modules)"
    )
    paths = [str(site), str(Path(__file__).parents[2])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ran = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script], cwd=tmp_path / "root", env=environ, capture_output=True, text=True, check=True
    )
    assert ran.stdout.endswith("loaded: [] True\n")


class FileService(ServiceUnderTest):
    base_model = "counter"
    hyperparameters: ClassVar[Hyperparameters] = {"epochCount": 2}
    diverging: ClassVar[Hyperparameters] = {"epochCount": 101}
    failure = "too many epochs"
    refusal = "does not exist"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def provider(self) -> AsyncIterator[Provider]:
        from file_models.provider import FileModels

        async with FileModels(self._path, self.clock, 30) as provider:
            yield provider


class TestFileModels(ProviderContract):
    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(PACKAGE)
        self._path = tmp_path / "models.json"

    def service(self) -> FileService:
        return FileService(self._path)
