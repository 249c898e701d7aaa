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
from support.cli_world import Cli, Result
from support.local_world import ClockLauncher, machine

CHECKS = """\
  checks:
    - {name: first, prompt: "1", expect: {equals: "2"}}
    - {name: second, prompt: "2", expect: {equals: "3"}}
"""


def export(local: Cli, *arguments: str, to: str = "out") -> Result:
    return local("export", "adder", "specs", "--to", to, *arguments)


def adapter_of(local: Cli) -> Path:
    (found,) = local.specs.glob("store/*/starts/1/adapter")
    return found


def test_the_files_of_the_serving_generation_are_copied(local: Cli) -> None:
    lockfile = local.lock_file.read_bytes()
    done = export(local, "--format", "json")
    assert done.status == 0, done.err
    out = local.folder / "out"
    names = [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer_config.json",
    ]
    assert sorted(path.name for path in out.iterdir()) == names == done.document["files"]
    for name in names[1:]:
        assert (out / name).read_bytes() == (adapter_of(local) / name).read_bytes()
    metadata = card_metadata((out / "README.md").read_text(encoding="utf-8"))
    key = done.document["key"]
    assert metadata == {
        "library_name": "peft",
        "license": "apache-2.0",
        "reconcile": {"scope": "demo", "name": "adder", "generation": key, "files": names},
    }
    assert (done.document["kind"], done.document["outcome"], done.document["merged"]) == ("Export", "done", False)
    assert local.lock_file.read_bytes() == lockfile
    assert list(local.folder.glob(".out*")) == []
    (note,) = done.document["notes"]
    assert note.startswith(
        f"the adapter needs its base model {local.specs / 'base'}, which is on this machine; --merged "
    )
    assert f"adder: {key} was exported to again" in export(local, to="again").out


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adapter_model.safetensors", edit, "changed after the training; restore it, or run `mv "),
        ("chat_template.jinja", Path.unlink, "changed after the training; restore it, or run `mv "),
        ("tokenizer_config.json", link, "is a link, which is not exported; replace it by a copy of the file"),
    ],
)
def test_an_adapter_that_was_changed_is_refused(
    local: Cli, name: str, change: Callable[[Path], None], message: str
) -> None:
    change(adapter_of(local) / name)
    done = export(local)
    assert done.status == 1
    assert message in done.err
    assert not (local.folder / "out").exists()
    assert list(local.folder.glob(".out*")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(local: Cli) -> None:
    (local.folder / "locked").mkdir(mode=0o500)
    assert "--to locked/out cannot be written: Permission denied" in export(local, to="locked/out").err


def test_only_a_new_or_empty_folder_is_written(local: Cli) -> None:
    full = local.folder / "full"
    full.mkdir()
    (full / "file").touch()
    (local.folder / "link").symlink_to(local.folder)
    for folder, message in (
        ("full", "--to full cannot be written: it exists, and is not an empty folder; name a folder that does not"),
        ("full/file", "--to full/file cannot be written: it exists, and is not an empty folder"),
        ("none/out", "--to none/out cannot be written: No such file or directory"),
        ("link", "--to link cannot be written: it is a symbolic link"),
        (".git/out", "--to .git/out cannot be written: "),
    ):
        done = export(local, to=folder)
        assert (done.status, message in done.err) == (64, True), done.err
    (local.folder / "empty").mkdir()
    assert export(local, to="empty").status == 0


def test_a_service_that_keeps_the_weights_is_named(trained: Cli) -> None:
    done = trained("export", "adder", "--to", "out")
    assert done.status == 1
    assert "cannot be exported: the weights of its model stay at the service; call it there, by the name" in done.err
    assert not (trained.folder / "out").exists()


def merged(local: Cli, *forgotten: str) -> tuple[ExportReport, Path]:
    """Export the merged model of a machine of the test, which has forgotten the answers to these prompts."""
    local.manifest("adder", base="./base", more=CHECKS)
    opened = open_project(Environment(cwd=local.folder, environ={}), CommandInput(paths=("specs",)))
    folder = local.folder / "out"
    folder.mkdir()
    found = machine(local.specs, local.clock, local.clock.sleep, ClockLauncher(local.clock))

    generation = select_generation(opened, "adder", None, merged=True)

    async def run() -> Exported:
        async with Local(replace(found, merger=replace(found.merger, forgotten=forgotten))) as service:
            return await write_files(opened, service, generation, folder, lambda _event: None)

    return export_report(opened, generation, asyncio.run(run()), "out"), folder


def test_a_check_that_fails_after_the_merge_fails_the_command_and_the_folder_is_kept(local: Cli) -> None:
    report, folder = merged(local, "2")
    assert report.exit_status is ExitStatus.ERROR
    assert render_text(report).splitlines()[1:] == [
        f"adder: {report.key} was exported to out, merged into its base model",
        f"  files     {', '.join(report.files)}",
        "  check     first: 1 of 1 correct (passed) before the merge, 1 of 1 correct (passed) after it",
        "  check     second: 1 of 1 correct (passed) before the merge, 0 of 1 correct (failed) after it",
        "  the check second passes before the merge, and fails after it; the folder is kept",
    ]
    held = replace(report, command="push", outcome="held", folder="", url="https://huggingface.co/acme/adder")
    shown = render_text(held).splitlines()
    assert shown[1].startswith(f"adder: {report.key} was not pushed to {held.url}: a check fails after the merge")
    assert shown[-1] == "  the check second passes before the merge, and fails after it"
    card = (folder / "README.md").read_text(encoding="utf-8")
    metadata = card_metadata(card)
    assert metadata
    assert metadata["library_name"] == "transformers"
    assert "1 of 2 checks passed." in card


def test_a_merge_that_keeps_the_answers_succeeds(local: Cli) -> None:
    report, _ = merged(local)
    assert (report.exit_status, report.regressed) == (ExitStatus.OK, ())
