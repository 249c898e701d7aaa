"""Write the schemas of documents, and the generated parts of pages: commands, fields, drift classes, reasons, events.

Run ``python docs/generate.py``; a test fails if a file differs from what this writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
from json_schemas import document_schema, schema_file, schemas

from reconciler.commands.main import cli
from reconciler.domain.base_models import BaseModel
from reconciler.domain.document import builtins_of
from reconciler.domain.drift import DriftClass
from reconciler.domain.errors import ExitStatus, StatusTable
from reconciler.domain.model import FIELDS, MUTABLE_FIELDS
from reconciler.domain.plan import Kind, Reason
from reconciler.emulator.faults import FaultKind
from reconciler.manifests.schema_validation import IGNORED, schema_text, with_providers
from reconciler.providers.registry import BUILT_IN, provider_spec
from reconciler.reports.documents.events import AnyLine
from reconciler.reports.metrics import METRICS, PREFIX
from reconciler.trainer.run_files import Hyperparameters, RunConfig, TrainerExit, effective

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
_PART = re.compile(r"(?P<begin><!-- generated: (?P<name>[\w ]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
_CHOICE = re.compile(
    r'"title": "(?P<title>[\w ]+)",\n(?P<indent> *)"description": "[^"]*",\n *"oneOf": (?=\[)(?P<rows>\[[^\]]*\])'
)
Schema = Mapping[str, Any]


def pages() -> dict[Path, str]:
    """Return each page and schema that has a generated part, with the text that it should have."""
    files = (ROOT / "README.md", *sorted(FOLDER.glob("*.md")), *sorted(ROOT.glob("schemas/*.json")))
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    derived = {ROOT / "schemas" / name: text for name, text in {**schemas(), **_input_schemas()}.items()}
    return derived | {
        file: _CHOICE.sub(_listed, _PART.sub(_filled, text))
        for file, text in texts.items()
        if file not in derived
        if _PART.search(text) or any(choice["title"] in _TABLES for choice in _CHOICE.finditer(text))
    }


def _input_schemas() -> dict[str, str]:
    """Return the schemas of what people write, with the parts that follow from tables."""
    target, manifest = json.loads(schema_text("Target")), json.loads(schema_text("TunedModel"))
    target["properties"]["spec"]["properties"]["provider"]["enum"] = []
    with_providers(target, map(provider_spec, sorted(BUILT_IN)))
    definitions = manifest["$defs"]
    target["$defs"] = {
        **target.get("$defs", {}),
        "check": _stage_check(definitions["check"]),
        **{name: definitions[name] for name in ("assertion", "judge")},
    }
    names = (name for declared in MUTABLE_FIELDS for name in (declared.group, declared.name))
    manifest["properties"]["spec"]["properties"]["ignoreDrift"]["items"]["enum"] = list(dict.fromkeys(names))
    return {"target.schema.json": schema_file(target), "tuned-model.schema.json": schema_file(manifest)}


def _stage_check(check: Schema) -> Schema:
    """Return the check of a manifest without what needs a data set, which belongs to one model."""
    properties = {name: part for name, part in check["properties"].items() if name not in _OF_DATASETS}
    properties["name"] = {**properties["name"], "description": "The name of the check, unique in this stage."}
    return {
        "title": check["title"],
        "description": "A prompt with its expected answers.",
        **{keyword: check[keyword] for keyword in ("type", "additionalProperties")},
        "required": [*check["required"], "prompt"],
        "oneOf": check["then"]["oneOf"],
        "properties": properties,
    }


_OF_DATASETS = ("dataset", "betterThan", "noWorseThan")


def _listed(choice: re.Match[str]) -> str:
    """Return a node of a schema with the rows of its table as choices; as it is if it has no table."""
    table = _TABLES.get(choice["title"])
    if table is None:
        return choice.group()
    rows = [json.dumps({"const": row.value, "description": row.meaning}) for row in table]
    line = f"\n{choice['indent']}"
    before = choice.group()[: choice.start("rows") - choice.start()]
    return f"{before}[{line}  {f',{line}  '.join(rows)}{line}]"


def _filled(part: re.Match[str]) -> str:
    return f"{part['begin']}\n{_PARTS[part['name']]()}\n{part['end']}"


def _commands() -> str:
    context = click.Context(cli, info_name="reconcile")
    return "\n".join(
        _command(full_name, command)
        for name in cli.list_commands(context)
        for full_name, command in _with_subcommands(name, cli.get_command(context, name))
    )


def _with_subcommands(name: str, command: click.Command | None) -> Iterator[tuple[str, click.Command | None]]:
    yield name, command
    if isinstance(command, click.Group):
        yield from ((f"{name} {below}", command.commands[below]) for below in sorted(command.commands))


def _command(name: str, command: click.Command | None) -> str:
    if command is None:
        raise LookupError(name)
    context = click.Context(command, info_name=f"reconcile {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    options = [one for one in command.params if isinstance(one, click.Option)]
    records = [record for one in options if (record := one.get_help_record(context))]
    rows = [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records]
    table = ["", "| option | meaning |", "|---|---|", *rows] if rows else []
    lines = (command.epilog or "").splitlines()[2:]
    examples = ["", "Examples:", "", *(f"    {line.strip()}" for line in lines)] if lines else []
    return "\n".join([f"## {name}", "", f"    {usage}", "", _paragraphs(command.help or ""), *examples, *table, ""])


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _fields(schema: Schema) -> str:
    rows = [
        f"| `{path}`{' *' if required else ''} | {_type(field)} | {_meaning(field)} |"
        for path, field, required in _walk(schema, schema, "")
    ]
    return "\n".join(["| field | value | meaning |", "|---|---|---|", *rows, ""])


def _walk(schema: Schema, node: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """The fields below a node, depth first, each with its path and whether it is required."""
    for name, reference in node.get("properties", {}).items():
        if reference == IGNORED:
            continue
        field = _resolved(schema, reference)
        here = f"{path}.{name}" if path else name
        yield here, field, name in node.get("required", ())
        yield from _walk(schema, field, here)
        yield from _walk(schema, _resolved(schema, field.get("items", {})), f"{here}[]")


def _resolved(schema: Schema, node: Schema) -> Schema:
    if "$ref" not in node:
        return node
    name = node["$ref"].removeprefix("#/$defs/")
    definition: Schema = schema["$defs"][name]
    return definition


def _type(field: Schema) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    kind = field.get("type", "any value")
    return f"{kind if isinstance(kind, str) else ' or '.join(kind)}{_range(field)}"


def _range(field: Schema) -> str:
    bounds = [
        f"{sign} {field[name]}"
        for name, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
        if name in field
    ]
    return f", {', '.join(bounds)}" if bounds else ""


def _meaning(field: Schema) -> str:
    default = f" Default: `{json.dumps(field['default'])}`." if field.get("default") not in (None, {}, [], "") else ""
    examples = field.get("examples", ()) if "properties" not in field else ()
    example = f" Example: `{json.dumps(examples[0], ensure_ascii=False)}`." if examples else ""
    return _cell(f"{field['description']}{default}{example}")


def _drift_classes() -> str:
    rows = [
        f"| `{kind}` | {2 if kind.severity == 'drift' else 0} | {_cell(kind.meaning)} | {_cell(kind.remedy)} |"
        for kind in DriftClass
    ]
    return "\n".join(["| class | exit status | meaning | remedy |", "|---|---|---|---|", *rows, ""])


def _base_model_fields() -> str:
    schema = document_schema(BaseModel)
    rows = [f"| `{name}` | {_cell(field['description'])} |" for name, field in schema["properties"].items()]
    return "\n".join(["| field | meaning |", "|---|---|", *rows, ""])


def _changes() -> str:
    rows = [f"| `{row.path}` | {row.role} | {row.effect or row.role.effect} |" for row in FIELDS]
    return "\n".join(["| field | role | effect of a change |", "|---|---|---|", *rows, ""])


def _metrics() -> str:
    rows = [f"| `{PREFIX}{name}` | {meaning.removesuffix('.')} |" for name, meaning in METRICS.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows, ""])


def _action_kinds() -> str:
    return "\n".join(["| action | meaning |", "|---|---|", *(f"| `{row}` | {row.meaning} |" for row in Kind), ""])


def _reasons() -> str:
    rows = [f"| `{row}` | {', '.join(f'`{kind}`' for kind in row.kinds)} | {row.meaning} |" for row in Reason]
    return "\n".join(["| reason | action | meaning |", "|---|---|---|", *rows, ""])


def _statuses(table: type[StatusTable]) -> str:
    rows = [f"| {row.value} | {row.meaning} |" for row in table]
    return "\n".join(["| exit status | meaning |", "|---|---|", *rows, ""])


def _training_defaults() -> str:
    columns = [
        builtins_of(effective(Hyperparameters(), method, tuning, examples))
        for method, tuning, examples in (
            ("supervised", "lora", 100),
            ("supervised", "lora", 1000),
            ("preference", "lora", 100),
            ("supervised", "full", 100),
        )
    ]
    rows = [
        f"| `{name}` | {' | '.join(_default(column.get(name)) for column in columns)} |"
        for name in Hyperparameters.__struct_encode_fields__
        if any(name in column for column in columns)
    ]
    head = "| | supervised, LoRA | from 1,000 examples | preference, LoRA | supervised, full |"
    return "\n".join([head, "|---|---|---|---|---|", *rows, ""])


def _default(value: Any) -> str:
    if value is None:
        return ""
    return "all linear layers" if value == [] else str(value).lower()


def _fault_kinds() -> str:
    rows = [f"| `{row}` | {row.meaning} | {f'`{row.required}`' if row.required else ''} |" for row in FaultKind]
    return "\n".join(["| fault | the service | required |", "|---|---|---|", *rows, ""])


_TABLES: Mapping[str, type[DriftClass | Reason | ExitStatus]] = {
    "Drift class": DriftClass,
    "Reason": Reason,
    "Process exit status": ExitStatus,
}
"""The tables of values and meanings, by the title of the nodes in schemas that list them."""


def _events() -> str:
    rows = []
    for line in get_args(AnyLine):
        meaning = " ".join((line.__doc__ or "").split()).removesuffix(".")
        rows.append(f"| `{line.__struct_config__.tag}` | {meaning[0].lower()}{meaning[1:]} |")
    return "\n".join(["| event | meaning |", "|---|---|", *rows, ""])


_PARTS: Mapping[str, Callable[[], str]] = {
    "commands": _commands,
    "drift classes": _drift_classes,
    "fields of TunedModel": lambda: _fields(json.loads(schema_text("TunedModel"))),
    "fields of Target": lambda: _fields(json.loads(schema_text("Target"))),
    "fields of run files": lambda: _fields(document_schema(RunConfig)),
    "defaults of trainings": _training_defaults,
    "exit statuses of the trainer": lambda: _statuses(TrainerExit),
    "fields of base models": _base_model_fields,
    "changes of TunedModel": _changes,
    "action kinds": _action_kinds,
    "metrics": _metrics,
    "reasons": _reasons,
    "exit statuses": lambda: _statuses(ExitStatus),
    "events": _events,
    "fault kinds": _fault_kinds,
}

if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
