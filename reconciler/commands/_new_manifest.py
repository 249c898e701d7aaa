"""What `init` and `add` share: options for a data set, and the choice of service, base model and fields.

Without a terminal, options decide; on one, what they leave open is a question.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from reconciler.commands._options import combine
from reconciler.commands._output import ask, choose
from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.errors import UsageError
from reconciler.domain.model import Target
from reconciler.domain.text import join_names, quote, suggest, terminal_safe
from reconciler.environment import Environment
from reconciler.manifests.datasets.detect import AmbiguousFieldsError, Fields
from reconciler.manifests.datasets.folders import open_folder
from reconciler.manifests.discovery import DEFAULT, EMBEDDED
from reconciler.manifests.scaffold import DataFile, Scaffold, Service
from reconciler.providers.registry import capabilities_of, provider_names, provider_spec
from reconciler.providers.spec import Discovery, ProviderSpec

_MOST_NAMES: Final = 6

data_options = combine(
    click.option("--input", "input_field", metavar="FIELD", help="Column or member with the inputs."),
    click.option("--output", "output_field", metavar="FIELD", help="Column or member with the outputs."),
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first row of a table has the names of its columns. Default: recognize it.",
    ),
)
base_model_option = click.option(
    "--base-model", metavar="NAME", help="Base model of the manifest. Default: the first that can be tuned today."
)


class ChosenService(Struct, frozen=True):
    """A service for a new target, and lines that give the reasons."""

    service: Service
    notes: tuple[str, ...]


def choose_service(
    environment: Environment, *, provider: str | None, fields: Mapping[str, str], base_model: str | None
) -> ChosenService:
    """Return the service for a new target: the chosen one, else one that the environment has credentials for.

    ``fields`` are the required fields that the user has chosen.

    Raises:
        UsageError: when a field is missing and standard input is not a terminal, or the provider does not exist.
    """
    today = environment.clock().date()
    specs = {name: provider_spec(name) for name in ([provider] if provider else provider_names())}
    found = {name: found for name, spec in specs.items() if (found := spec.discover(environment.environ, fields))}
    notes = []
    if provider is None:
        default = EMBEDDED
        for name, candidate in found.items():
            needed = {**candidate.fields, **fields}
            missing = [field for field in specs[name].required_fields if field not in {*needed, "location"}]
            if not specs[name].catalog().tunable(today):
                notes.append(f"provider {name}: {candidate.credentials} found, but no base model can be tuned there")
            elif missing:
                options = _options_for(missing)
                notes.append(
                    f"provider {name}: {candidate.credentials} found; to use it, add --provider {name} {options}"
                )
            else:
                default = name
        provider = choose("Provider", sorted(specs), default) or default
    spec, discovery = specs[provider], found.get(provider)
    reason = f"{discovery.credentials} found" if discovery else _reason(provider, found)
    notes.append(f"provider {provider}: {reason}")
    completed = _complete(spec, discovery, fields, _locations(spec, environment, base_model))
    target = Target(name=DEFAULT, file="", provider=provider, scope="", location=completed.get("location"))
    chosen, alternatives = choose_base_model(environment, spec.catalog(), target, base_model)
    notes += alternatives
    if discovery and discovery.preparation:
        notes.append(f"create the bucket if it does not exist: {discovery.preparation.format_map(completed)}")
    return ChosenService(Service(provider, completed, chosen), tuple(notes))


def _reason(provider: str, found: Mapping[str, Discovery]) -> str:
    if provider != EMBEDDED:
        return "chosen"
    return "simulates training on this machine" + ("" if found else "; no credentials of a service were found")


def _locations(spec: ProviderSpec, environment: Environment, base_model: str | None) -> tuple[str, ...]:
    """Return the locations in which the base model, or the first that can be tuned today, can be tuned."""
    catalog = spec.catalog()
    name = base_model or next(iter(catalog.tunable(environment.clock().date())), "")
    return catalog.models[name].locations if name in catalog.models else ()


def _complete(
    spec: ProviderSpec, discovery: Discovery | None, fields: Mapping[str, str], locations: tuple[str, ...]
) -> dict[str, str]:
    """Return the required fields of a target of the provider."""
    for field in fields:
        if field not in spec.required_fields:
            raise UsageError(f"--{field} does not apply to provider {spec.name}", f"remove --{field}")
    defaults = dict(discovery.fields) if discovery else {}
    if locations and defaults.get("location") not in locations:
        defaults["location"] = locations[0]
    completed = {}
    missing = []
    for field in spec.required_fields:
        default = defaults.get(field)
        value = fields.get(field) or ask(field.capitalize(), default) or default
        if value:
            completed[field] = value
        else:
            missing.append(field)
    if missing:
        raise UsageError(f"provider {spec.name} needs {join_names(missing)}", f"add {_options_for(missing)}")
    return completed


def _options_for(fields: Iterable[str]) -> str:
    return " ".join(f"--{field} {'gs://' if field == 'bucket' else ''}{field.upper()}" for field in fields)


def choose_base_model(
    environment: Environment, catalog: ModelCatalog, target: Target, name: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return a base model that can be tuned today at the service of a target, and a line with the alternatives.

    Raises:
        UsageError: when none can be tuned there, or the named one is retired.
    """
    today, capabilities = environment.clock().date(), capabilities_of(target)
    prefix = capabilities.base_model_prefix
    names = [known.removeprefix(prefix) for known in catalog.tunable(today, target.location)]
    if name:
        model = catalog.models.get(f"{prefix}{name.removeprefix(prefix)}")
        if model and model.is_retired(today):
            remedy = suggest(name, names, otherwise=f"choose one of {join_names(names, _MOST_NAMES)}")
            raise UsageError(f"base model {quote(name)} is retired since {model.retirement}", remedy)
        return name, ()
    if not names:
        message = f"no base model can be tuned at {capabilities.label} today, according to {catalog.named}"
        raise UsageError(message, "add --base-model NAME if the service tunes it, or use --provider vertex")
    chosen = choose("Base model", names, names[0]) or names[0]
    others = [known for known in names if known != chosen]
    more = f"; --base-model chooses another one: {join_names(others, _MOST_NAMES)}" if others else ""
    return chosen, (f"base model {chosen}: can be tuned today, according to {catalog.named}{more}",)


def with_fields(fields: Fields, make: Callable[[Fields], Scaffold]) -> Scaffold:
    """Return what ``make`` makes of the fields; on a terminal, ambiguous ones are questions.

    Raises:
        AmbiguousFieldsError: when fields are ambiguous and standard input is not a terminal.
    """
    try:
        return make(fields)
    except AmbiguousFieldsError as error:
        if not sys.stdin.isatty():
            raise
        click.echo(terminal_safe(error.message), err=True)
        given, wanted = error.known
        if given is None:
            given = choose("Field with the inputs", error.names, error.proposed[0])
        if wanted is None:
            outputs = [name for name in error.names if name != given]
            wanted = choose("Field with the outputs", outputs, error.proposed[1])
        return make((given, wanted))


def data_file(
    environment: Environment, name: str | None, fields: tuple[str | None, str | None], *, header: bool | None
) -> DataFile | None:
    """Return the data set that the options name; a branch of the Hugging Face Hub is pinned to its current commit.

    Raises:
        ReconcileError: when a data set of the hub is unavailable.
        UsageError: when they describe a data set without naming it, or a folder has none.
    """
    if name is None and (any(fields) or header is not None):
        raise UsageError("--input, --output and --header describe a data set", "add --from FILE")
    if name is None:
        return None
    from reconciler.manifests.datasets.hub_addresses import names_hub, parse_address

    if names_hub(name):
        from reconciler.manifests.datasets.hub import fetch, resolve_commit

        found = fetch(resolve_commit(parse_address(name)))
        return DataFile(next(iter(found.files.values())), str(found.declared), fields, header, found)
    if files := open_folder(environment.cwd, name):
        first = next(iter(files.files.values()))
        return DataFile(first, str(files.declared), fields, header, files)
    return DataFile(environment.cwd / name, str(Path(name)), fields, header)


def default_path(environment: Environment) -> str:
    """Return the path that commands read by default."""
    return "specs" if (environment.cwd / "specs").is_dir() else "."


def show(result: Scaffold, notes: tuple[str, ...] = ()) -> None:
    """Print what was written, how the data set is read, and what to do next."""
    for line in (*result.mapping, *notes, *(f"wrote {file}" for file in result.created)):
        click.echo(terminal_safe(line))
    if result.next_command:
        click.echo(f"Next: {result.next_command}")
    if result.steps:
        click.echo("To set up, see docs/ci.md of reconcile:")
    for number, step in enumerate(result.steps, start=1):
        click.echo(f"{number}. {terminal_safe(step)}")
