from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources

import click

import reconciler
from reconciler.commands.main import cli
from reconciler.manifests.schema_validation import SCHEMA_KINDS
from support.cases import each_row

DISTRIBUTION = "tuned-model-reconciler"


def test_the_version_is_one() -> None:
    assert metadata.version(DISTRIBUTION) == reconciler.__version__


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files(reconciler).joinpath("py.typed").is_file()


@each_row("name", ["page.html.j2", "page.css", "page.js"])
def test_the_package_has_what_pages_are_made_of(name: str) -> None:
    assert resources.files("reconciler.reports.html").joinpath("templates", name).is_file()


def test_commands_do_without_what_only_pages_need() -> None:
    script = "import sys, reconciler.commands.main, reconciler.reports.writer; print('jinja2' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # noqa: S603 - our own script
    assert ran.stdout == "False\n"


def test_the_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="reconcile")
    assert command.value == "reconciler.commands.main:main"
    assert callable(command.load())


def test_every_kind_of_document_has_a_schema() -> None:
    kinds = {"Result", "Lock", "Plan", "Resolve", "Status", "Target", "TunedModel", "Validation"}
    assert set(SCHEMA_KINDS) >= kinds


def test_every_listed_command_can_be_loaded() -> None:
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in cli.list_commands(context)]
    assert all(command is not None and command.help for command in commands)
