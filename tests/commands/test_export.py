"""``reconcile export``: copies of the files of a model, and merged models with their checks before and after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.commands._project import CommandInput, open_project
from reconciler.commands.export import Exported, export_report, select_generation, write_files
from reconciler.domain.errors import ExitStatus
from reconciler.environment import Environment
from reconciler.manifests.datasets.hub_addresses import card_metadata
from reconciler.providers.local.provider import Local
from reconciler.reports.documents.check import ExportReport
from reconciler.reports.writer import render_text
from support.cli_world import Cli, Result, Snapshot
from support.local_world import LOCAL_TARGET, ClockLauncher, machine, make_base, train

CHECKS = """\
  checks:
    - {name: first, prompt: "1", expect: {equals: "2"}}
    - {name: second, prompt: "2", expect: {equals: "3"}}
"""


def project(folder: Path) -> Cli:
    """Return a project on this machine whose model adder was trained."""
    cli = Cli(folder)
    (cli.specs / "reconcile.yaml").write_text(LOCAL_TARGET, encoding="utf-8")
    cli.manifest("adder", base=make_base(cli.specs))
    train(cli, "adder", cli.clock, cli.clock.sleep)
    done = cli("apply", "--yes", "specs")
    assert done.status == 0, done.err + done.out
    return cli


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return project(tmp_path_factory.mktemp("exported")).snapshot()


@pytest.fixture
def cli(tmp_path: Path, after: Snapshot) -> Cli:
    made = Cli(tmp_path)
    made.resume(after)
    return made


def export(cli: Cli, *arguments: str, to: str = "out") -> Result:
    return cli("export", "adder", "specs", "--to", to, *arguments)


def adapter_of(cli: Cli) -> Path:
    (found,) = cli.specs.glob("store/*/starts/1/adapter")
    return found


def test_the_files_of_the_serving_generation_are_copied(cli: Cli) -> None:
    lockfile = cli.lock_file.read_bytes()
    done = export(cli, "--format", "json")
    assert done.status == 0, done.err
    out = cli.folder / "out"
    names = [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer_config.json",
    ]
    assert sorted(path.name for path in out.iterdir()) == names == done.document["files"]
    for name in names[1:]:
        assert (out / name).read_bytes() == (adapter_of(cli) / name).read_bytes()
    metadata = card_metadata((out / "README.md").read_text(encoding="utf-8"))
    key = done.document["key"]
    assert metadata == {
        "library_name": "peft",
        "license": "apache-2.0",
        "reconcile": {"scope": "demo", "name": "adder", "generation": key},
    }
    assert (done.document["kind"], done.document["outcome"], done.document["merged"]) == ("Export", "done", False)
    assert cli.lock_file.read_bytes() == lockfile
    assert list(cli.folder.glob(".out*")) == []
    assert f"adder: {key} was exported to again" in export(cli, to="again").out


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adapter_model.safetensors", edit, "was changed after its training: adapter_model.safetensors in "),
        ("chat_template.jinja", Path.unlink, "was changed after its training: chat_template.jinja in "),
        ("tokenizer_config.json", link, "is a link, which is not exported; replace it by a copy of the file"),
    ],
)
def test_an_adapter_that_was_changed_is_refused(
    cli: Cli, name: str, change: Callable[[Path], None], message: str
) -> None:
    change(adapter_of(cli) / name)
    done = export(cli)
    assert done.status == 1
    assert message in done.err
    assert not (cli.folder / "out").exists()
    assert list(cli.folder.glob(".out*")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(cli: Cli) -> None:
    (cli.folder / "locked").mkdir(mode=0o500)
    assert "--to locked/out cannot be written: Permission denied" in export(cli, to="locked/out").err


def test_only_a_new_or_empty_folder_is_written(cli: Cli) -> None:
    full = cli.folder / "full"
    full.mkdir()
    (full / "file").touch()
    (cli.folder / "link").symlink_to(cli.folder)
    for folder, message in (
        ("full", "--to full cannot be written: it exists, and is not an empty folder; name a folder that does not"),
        ("full/file", "--to full/file cannot be written: it exists, and is not an empty folder"),
        ("none/out", "--to none/out cannot be written: No such file or directory"),
        ("link", "--to link cannot be written: it is a symbolic link"),
        (".git/out", "--to .git/out cannot be written: "),
    ):
        done = export(cli, to=folder)
        assert (done.status, message in done.err) == (64, True), done.err
    (cli.folder / "empty").mkdir()
    assert export(cli, to="empty").status == 0


def test_a_service_that_keeps_the_weights_is_named(trained: Cli) -> None:
    done = trained("export", "adder", "--to", "out")
    assert done.status == 1
    assert "cannot be exported: the weights of its model stay at the service; call it there, by the name" in done.err
    assert not (trained.folder / "out").exists()


def merged(cli: Cli, *forgotten: str) -> tuple[ExportReport, Path]:
    """Export the merged model of a machine of the test, which has forgotten the answers to these prompts."""
    cli.manifest("adder", base="./base", more=CHECKS)
    opened = open_project(Environment(cwd=cli.folder, environ={}), CommandInput(paths=("specs",)))
    folder = cli.folder / "out"
    folder.mkdir()
    found = machine(cli.specs, cli.clock, cli.clock.sleep, ClockLauncher(cli.clock))

    generation = select_generation(opened, "adder", None, merged=True)

    async def run() -> Exported:
        async with Local(replace(found, merger=replace(found.merger, forgotten=forgotten))) as local:
            return await write_files(opened, local, generation, folder, lambda _event: None)

    return export_report(opened, generation, asyncio.run(run()), Path("out")), folder


def test_a_check_that_fails_after_the_merge_fails_the_command_and_the_folder_is_kept(cli: Cli) -> None:
    report, folder = merged(cli, "2")
    assert report.exit_status is ExitStatus.ERROR
    assert render_text(report).splitlines()[1:] == [
        f"adder: {report.key} was exported to out, merged into its base model",
        f"  files     {', '.join(report.files)}",
        "  check     first: 1 of 1 correct (passed) before the merge, 1 of 1 correct (passed) after it",
        "  check     second: 1 of 1 correct (passed) before the merge, 0 of 1 correct (failed) after it",
        "  the check second passes before the merge, and fails after it; the folder is kept",
    ]
    card = (folder / "README.md").read_text(encoding="utf-8")
    metadata = card_metadata(card)
    assert metadata
    assert metadata["library_name"] == "transformers"
    assert "1 of 2 checks passed." in card


def test_a_merge_that_keeps_the_answers_succeeds(cli: Cli) -> None:
    report, _ = merged(cli)
    assert (report.exit_status, report.regressed) == (ExitStatus.OK, ())
