"""Draw Models and Migration reports: a table of base models, and the manifests that move to their successors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from reconciler.domain.base_models import BaseModel
from reconciler.domain.target_option import for_target
from reconciler.domain.text import join_names, terminal_safe
from reconciler.reports.documents.models import (
    BaseModelState,
    ListedBaseModel,
    MigrationReport,
    ModelMigration,
    ModelsReport,
)
from reconciler.reports.text.format import (
    Detail,
    Layout,
    Role,
    counted,
    notices_text,
    report_heading,
    signed_head,
    table,
)

_HEADINGS: Final = (
    *("BASE MODEL", "STATE", "METHODS", "TUNED IN", "EXAMPLES", "TOKENS", "ADAPTER SIZES", "USD/1M TOKENS"),
    "RETIREMENT",
)
_RIGHT: Final = frozenset({4, 5, 7})
_STATES: Final[Mapping[BaseModelState, str]] = {"undocumented": "no tuning", "notListed": "not listed"}
_HIDDEN: Final = frozenset({"retired", "undocumented"})


def models_text(report: ModelsReport, layout: Layout) -> str:
    """Return a Models report as a table; a verbose layout includes retired base models, and the source of each."""
    shown = [model for model in report.models if layout.verbose or model.state not in _HIDDEN]
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    lines += _rows(shown, layout) if shown else ["No base model can be tuned."]
    lines += [notices_text(report.notices, layout)] if report.notices else []
    return "\n".join([*lines, *layout.sentences("muted", *_closing(report, len(report.models) - len(shown)))])


def _closing(report: ModelsReport, hidden: int) -> Iterator[str]:
    origin = f"Catalog of {report.as_of}" if report.as_of else "Catalog"
    service = f"; {report.target.label} lists which base models can be tuned" if report.verified else ""
    yield f"{origin}{service}. It ages: differences cause warnings only."
    if hidden:
        yield f"{counted(hidden, 'base model')} without tuning not shown; -v shows all."


def _rows(models: Sequence[ListedBaseModel], layout: Layout) -> Iterator[str]:
    """Yield the table without empty columns; on a narrow terminal, the values follow below each name."""
    cells = [_HEADINGS, *map(_cells, models)]
    used = [column for column in range(len(_HEADINGS)) if any(row[column] != "-" for row in cells[1:])]
    right = {position for position, column in enumerate(used) if column in _RIGHT}
    heading, *rows = table([[row[column] for column in used] for row in cells], right)
    fits = layout.width is None or max(map(len, (heading, *rows))) <= layout.width
    if fits:
        yield layout.style("heading", heading)
    for row, model in zip(rows, models, strict=True):
        yield from [row] if fits else _narrow_row(model, layout)
        if layout.verbose and model.facts:
            yield from layout.lines("  ", f"{_detail(model.facts)}")


def _narrow_row(model: ListedBaseModel, layout: Layout) -> Iterator[str]:
    name, *cells = _cells(model)
    yield layout.style("heading", terminal_safe(name))
    values = [f"{label.lower()} {cell}" for label, cell in zip(_HEADINGS[1:], cells, strict=True) if cell != "-"]
    yield from layout.lines("  ", "; ".join(values))


def _cells(model: ListedBaseModel) -> tuple[str, ...]:
    facts = model.facts or BaseModel()
    return (
        model.name,
        _STATES.get(model.state, model.state),
        ", ".join(facts.methods or ()) or "-",
        ", ".join(facts.locations) or "-",
        f"{facts.max_examples:,}" if facts.max_examples else "-",
        f"{facts.max_tokens:,}" if facts.max_tokens else "-",
        ", ".join(map(str, facts.adapter_sizes)) or "-",
        str(facts.price) if facts.price is not None else "-",
        _retirement(facts, model.days_left),
    )


def _retirement(facts: BaseModel, days_left: int | None) -> str:
    if facts.retirement is None:
        return "-"
    later = " or later" if facts.retirement_can_be_later else ""
    return f"{facts.retirement}{later}" + (f", in {counted(days_left, 'day')}" if days_left else "")


def _detail(facts: BaseModel) -> str:
    parts = {
        "served in": join_names(facts.serving_locations) if facts.serving_locations else "",
        "successor": facts.successor,
        "note": facts.advice,
        "read at" if facts.verified else "partly assumed, from": facts.source,
    }
    return "; ".join(f"{label} {text}" for label, text in parts.items() if text)


_OUTCOMES: Final[Mapping[str, tuple[str, Role]]] = {
    "changed": ("~", "update"),
    "unchanged": ("=", "muted"),
    "refused": ("!", "hold"),
}


def migration_text(report: MigrationReport, layout: Layout) -> str:
    """Return a Migration report: a line for each manifest, its edits and notes, and the differences of the files."""
    lines = [report_heading(report.target, layout, simulated=report.simulated)]
    for model in report.models:
        sign, role = _OUTCOMES[model.outcome]
        head = signed_head(sign, model.name)
        lines += layout.lines(head, migration_why(model), colored=head.replace(sign, layout.style(role, sign), 1))
        lines += layout.details(migration_details(model))
    for file in report.files:
        lines += ["", *(_diff_line(line, layout) for line in file.diff.splitlines())] if file.diff else []
    return "\n".join([*lines, *layout.sentences("heading", migration_summary(report))])


def _diff_line(line: str, layout: Layout) -> str:
    roles: Mapping[str, Role] = {"+": "create", "-": "delete", "@": "muted"}
    role = roles.get(line[:1])
    return layout.style(role, terminal_safe(line)) if role else terminal_safe(line)


def migration_why(model: ModelMigration) -> str:
    """Return from what to what a manifest moves, or why it does not."""
    if model.outcome != "changed":
        return model.message
    day = f" (retirement {model.retirement})" if model.retirement else ""
    return f"{model.base_model}{day} → {model.successor}"


def migration_details(model: ModelMigration) -> Iterator[Detail]:
    """Yield the edits of hyperparameters, and the notes."""
    for edit in model.edits:
        if not edit.field.endswith(".baseModel"):
            name = f" as {edit.renamed}" if edit.renamed else ""
            yield edit.field.rpartition(".")[2], f"{edit.before} → {edit.after}{name}"
    for note in model.notes:
        yield "note", note


def migration_summary(report: MigrationReport) -> str:
    """Return the outcome in one sentence or two."""
    files, refused = len(report.files), sum(model.outcome == "refused" for model in report.models)
    if refused:
        return f"{counted(refused, 'manifest')} cannot be changed; nothing was written."
    if not files:
        return "No manifest to change."
    if not report.written:
        return f"{counted(files, 'file')} would be written."
    return for_target(f"{counted(files, 'file')} written. Nothing was trained: run reconcile plan.")
