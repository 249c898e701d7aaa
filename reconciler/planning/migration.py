"""Move manifests to the successors of their base models, which the model catalog names; pure decisions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.base_models import BaseModel
from reconciler.domain.identity import short_hash
from reconciler.domain.model import HyperparameterValue, Manifest, Source
from reconciler.planning.model_catalog import CatalogContext, catalog_warnings, describe_retirement

_SYNONYMS: Final = {"adapterSize": "rank", "rank": "adapterSize"}
"""Names of the same hyperparameter: the rank of a LoRA adapter."""


_WORDS: Final = 60
"""The most characters of a base model in the name of a change."""


class FieldEdit(Struct, frozen=True):
    """A new value of ``baseModel`` or a hyperparameter of a manifest; ``renamed`` is its new name if that differs."""

    field: str
    before: HyperparameterValue
    after: HyperparameterValue
    renamed: str = ""


class Migration(Struct, frozen=True):
    """What to change in a manifest. Without edits, ``obstacle`` is the reason, and ``remedy`` what to do about it.

    ``is_due`` is whether the base model is retired, or is retired within the time of the warnings. ``is_needed`` is
    whether it is an error that the manifest cannot be changed. ``notes`` are what the model catalog warns of about the
    successor.
    """

    manifest: Manifest
    is_due: bool = False
    is_needed: bool = True
    successor: str = ""
    retirement: date | None = None
    edits: tuple[FieldEdit, ...] = ()
    obstacle: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()

    @property
    def base_model(self) -> str:
        """The base model before the change."""
        return self.manifest.source.base_model


def migration_of(manifest: Manifest, context: CatalogContext) -> Migration:
    """Return how to move a manifest to the successor of its base model."""
    name = manifest.source.base_model
    model = context.catalog.models.get(name)
    plain = Migration(
        manifest,
        is_due=model is not None and bool(describe_retirement(name, model, context.today)),
        retirement=model.retirement if model else None,
    )
    if not name:
        parent = manifest.source.tuned_model
        follows = f"it is tuned from {parent or manifest.source.remote}, and has no base model of its own"
        remedy = f"migrate {parent}: it is trained again after that" if parent else "set spec.source to another model"
        return replace(plain, obstacle=follows, remedy=remedy, is_needed=False)
    if manifest.dataset.unknown:
        remedy = "declare the data set in spec.dataset first"
        return replace(plain, obstacle="its training data is unknown, so it cannot be trained again", remedy=remedy)
    successor, obstacle = _successor(name, context)
    if obstacle:
        remedy = model.advice if model and model.advice else _ADD_SUCCESSOR.format(name)
        return replace(plain, obstacle=obstacle, remedy=remedy, is_needed=plain.is_due or model is None)
    target = context.catalog.models.get(successor, BaseModel())
    edits = tuple(_hyperparameter_edits(manifest, target))
    values = dict(manifest.hyperparameters)
    for edit in edits:
        del values[edit.field]
        values[edit.renamed or edit.field] = edit.after
    migrated = replace(manifest, source=Source(successor), hyperparameters=values)
    found = catalog_warnings(migrated, context)
    notes = tuple(f"{problem.path}: {problem.message}; {problem.remedy}" for problem in found)
    return replace(plain, successor=successor, edits=(FieldEdit("baseModel", name, successor), *edits), notes=notes)


_ADD_SUCCESSOR: Final = 'add successor to [models."{}"] in the file of spec.models of the target, see docs/models.md'


def _successor(name: str, context: CatalogContext) -> tuple[str, str]:
    """Return the first successor that is not due, else the last one that is not retired; or why there is none."""
    models, found = context.catalog.models, name
    chain = [name]
    while (model := models.get(found)) and model.successor and (found == name or _is_due(found, model, context)):
        found = model.successor
        if found in chain:
            return "", f"the successors of {name} in {context.catalog.named} form a cycle"
        chain.append(found)
    usable = [link for link in chain[1:] if link not in models or not models[link].is_retired(context.today)]
    if usable:
        return usable[-1], ""
    if len(chain) > 1:
        return "", f"the successor {chain[-1]} of {name} was retired, according to {context.catalog.named}"
    return "", f"{context.catalog.named} names no successor of {name}"


def unless_suspended(migration: Migration, now: datetime) -> Migration:
    """Return the migration of a manifest that was not named: a suspended one is not changed."""
    suspension = migration.manifest.lifecycle.suspension(now)
    if suspension is None:
        return migration
    obstacle, remedy = f"it is suspended{suspension}", "name it to change it nevertheless"
    return replace(migration, edits=(), notes=(), obstacle=obstacle, remedy=remedy, is_needed=False)


def _is_due(name: str, model: BaseModel, context: CatalogContext) -> bool:
    return bool(describe_retirement(name, model, context.today))


def _hyperparameter_edits(manifest: Manifest, successor: BaseModel) -> Iterator[FieldEdit]:
    """Yield the hyperparameters whose name or value the successor does not support, with what it supports instead."""
    for field, value in manifest.hyperparameters.items():
        name = _SYNONYMS.get(field, "")
        supported = successor.hyperparameters
        renamed = name if supported and field not in supported and name in supported else ""
        if renamed in manifest.hyperparameters:
            renamed = ""
        after = _in_range(renamed or field, value, successor)
        if renamed or after != value:
            yield FieldEdit(field, value, after, renamed)


def _in_range(field: str, value: HyperparameterValue, model: BaseModel) -> HyperparameterValue:
    """Return the nearest value that the model supports, the lower one of two."""
    if isinstance(value, str):
        return value
    if field == "adapterSize" and model.adapter_sizes:
        return min(model.adapter_sizes, key=lambda size: (abs(size - value), size))
    if field == "epochCount" and model.max_epochs:
        return min(value, model.max_epochs)
    return value


def change_id(base_model: str, migrations: Iterable[Migration]) -> str:
    """Return a name of a change, which is the same for the same edits: the base model and a hash, as in a branch."""
    edits = sorted(
        (migration.manifest.name, edit.field, edit.renamed, str(edit.before), str(edit.after))
        for migration in migrations
        for edit in migration.edits
    )
    words = re.sub(r"[^a-z0-9]+", "-", base_model.lower()).strip("-")[:_WORDS].strip("-")
    return f"{words or 'base-model'}/{short_hash(json.dumps(edits).encode())}"
