"""Compare manifests with the catalog of base models; every difference is a warning, because a catalog ages."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from typing import Final, Self

from msgspec import Struct

from reconciler.domain.base_models import SHARE_FROM, BaseModel, ModelCatalog
from reconciler.domain.errors import Problem
from reconciler.domain.model import FieldPlace, Manifest
from reconciler.domain.plan import World
from reconciler.domain.text import counted, join_names, suggest
from reconciler.planning.training_time import number_of

RETIRING: Final = timedelta(days=90)
"""How long before the retirement of a base model warnings begin."""
_MOST_NAMES: Final = 5


class CatalogContext(Struct, frozen=True):
    """What manifests are compared with.

    ``location`` is that of the target, ``encrypted`` whether the target has a customer-managed key, and ``tunable`` are
    the base models that the service itself lists as tunable.
    """

    catalog: ModelCatalog
    today: date
    location: str | None = None
    encrypted: bool = False
    tunable: Collection[str] = ()

    @classmethod
    def of(cls, world: World) -> Self:
        """Return the context of a plan."""
        return cls(
            world.catalog,
            world.now.date(),
            world.target.location,
            world.capabilities.encrypted,
            world.observation.tunable,
        )


def catalog_warnings(manifest: Manifest, context: CatalogContext) -> Iterator[Problem]:
    """Yield the warnings about the base model of a manifest, and about what it is trained with."""
    name = manifest.source.base_model
    if not name or not context.catalog.models:
        return
    model = context.catalog.models.get(name)
    if model is None:
        yield from _unknown(manifest, context)
        return
    yield from retirement_warnings(manifest, context)
    if not model.is_retired(context.today):
        for rule in _RULES:
            yield from rule(manifest, model, context)


def retirement_warnings(manifest: Manifest, context: CatalogContext) -> Iterator[Problem]:
    """Yield the warning that the base model of a manifest is retired, or is retired within 90 days."""
    name = manifest.source.base_model
    model = context.catalog.models.get(name)
    if model is None or (name in context.tunable and model.is_retired(context.today)):
        return
    message = describe_retirement(name, model, context.today)
    if message:
        place = _located(manifest, "baseModel")
        yield _warning(
            place, f"{message}, according to {context.catalog.named}", replacement(place.path, model, context)
        )


def describe_retirement(name: str, model: BaseModel, today: date) -> str:
    """Return that a base model is retired or is retired within 90 days; empty if it is neither."""
    if model.retirement is None or model.retirement - today > RETIRING:
        return ""
    if model.is_retired(today):
        earliest = " at the earliest" if model.retirement_can_be_later else ""
        return f"{name} was retired on {model.retirement}{earliest}"
    earliest = "earliest " if model.retirement_can_be_later else ""
    days = counted((model.retirement - today).days, "day")
    return f"the {earliest}retirement date of {name} is {model.retirement}, in {days}"


def replacement(path: str, model: BaseModel, context: CatalogContext) -> str:
    """Return the remedy that names another base model: the successor, or those that can be tuned in the location."""
    if model.successor:
        return f"set {path} to {model.successor}"
    if model.advice:
        return model.advice
    names = [name for name in context.catalog.tunable(context.today, context.location) if name]
    names = [name for name in names if context.catalog.models[name] is not model]
    return f"set {path} to {join_names(names, _MOST_NAMES)}" if names else f"plan a change of {path}"


def _located(manifest: Manifest, field: str) -> FieldPlace:
    return manifest.field_places.get(field) or FieldPlace(manifest.place, f"spec.{field}")


def _warning(location: FieldPlace, message: str, remedy: str) -> Problem:
    return Problem(location.place, location.path, message, remedy, "warning")


def _unknown(manifest: Manifest, context: CatalogContext) -> Iterator[Problem]:
    name, catalog = manifest.source.base_model, context.catalog
    if name in context.tunable or not catalog.closed:
        return
    known = catalog.tunable(context.today, context.location)
    remedy = suggest(name, known, otherwise="check the name, or add the base model in the file of spec.models")
    yield _warning(_located(manifest, "baseModel"), f"{name} is not in {catalog.named}", remedy)


def _supported(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    if not model.supported:
        place = _located(manifest, "baseModel")
        message = f"reconcile cannot train from {manifest.source.base_model} yet"
        yield _warning(place, message, replacement(place.path, model, context))


def _methods(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    if model.methods == () and manifest.source.base_model not in context.tunable:
        place = _located(manifest, "baseModel")
        message = f"no tuning of {manifest.source.base_model} is documented, according to {context.catalog.named}"
        yield _warning(place, message, replacement(place.path, model, context))
    elif manifest.method == "preference" and model.methods and "DPO" not in model.methods:
        place, named = _located(manifest, "baseModel"), context.catalog
        message = f"no preference tuning of {manifest.source.base_model} is documented, according to {named.named}"
        tunable = named.tunable(context.today, context.location)
        names = [name for name in tunable if "DPO" in (named.models[name].methods or ())]
        others = f", or {place.path} to {join_names(names, _MOST_NAMES)}" if names else ""
        yield _warning(place, message, f"set spec.method to supervised{others}")


def _location(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    if context.location and model.locations and context.location not in model.locations:
        places = join_names(model.locations)
        message = (
            f"{manifest.source.base_model} cannot be tuned in {context.location}, according to {context.catalog.named}"
        )
        yield _warning(_located(manifest, "baseModel"), message, f"set spec.location of the target to one of {places}")


def _encryption(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    if context.encrypted and model.cmek is False:
        message = f"{manifest.source.base_model} does not support the KMS key of the target"
        remedy = "remove kmsKeyName from the target, or use another base model"
        yield _warning(_located(manifest, "baseModel"), f"{message}, according to {context.catalog.named}", remedy)


def _adapter_size(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    size = manifest.hyperparameters.get("adapterSize")
    if size is not None and model.adapter_sizes and size not in model.adapter_sizes:
        sizes = join_names([str(value) for value in model.adapter_sizes])
        message = f"{manifest.source.base_model} has no adapter size {size}, according to {context.catalog.named}"
        yield _warning(_located(manifest, "adapterSize"), message, f"set one of {sizes}")


def _hyperparameters(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    for name in manifest.hyperparameters if model.hyperparameters else ():
        if name not in model.hyperparameters:
            message = f"{manifest.source.base_model} has no such hyperparameter, according to {context.catalog.named}"
            yield _warning(_located(manifest, name), message, f"remove it, or use {join_names(model.hyperparameters)}")


def _epochs(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    yield from _limit(
        manifest, "epochCount", "epochs", number_of(manifest.hyperparameters, "epochCount"), model.max_epochs, context
    )


def _training_size(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    data = manifest.dataset
    yield from _limit(manifest, "dataset", "examples", data.examples, model.max_examples, context)
    yield from _limit(manifest, "dataset", "bytes", data.size or manifest.training_bytes, model.max_bytes, context)


def _example_size(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    """Yield the warning that an example has too many tokens: for its bytes, as many as the whole data set has."""
    share = (manifest.training_tokens or 0) / (manifest.training_bytes or 1)
    tokens = math.ceil(manifest.longest_example * share)
    if model.max_tokens and tokens > model.max_tokens:
        message = (
            f"the longest example has about {tokens:,} tokens, more than the {model.max_tokens:,} of"
            f" {manifest.source.base_model} in {context.catalog.named}"
        )
        yield _warning(_located(manifest, "dataset"), message, "shorten it, or use another base model")


def _validation_size(manifest: Manifest, model: BaseModel, context: CatalogContext) -> Iterator[Problem]:
    data, training = manifest.validation, manifest.dataset
    if data is None:
        return
    limit = model.max_validation_examples
    if model.max_validation_share and training.examples and data.examples > SHARE_FROM:
        allowed = max(SHARE_FROM, int(training.examples * model.max_validation_share))
        limit = allowed if limit is None else min(limit, allowed)
    field = "validationDataset"
    yield from _limit(manifest, field, "validation examples", data.examples, limit, context)
    size, total = data.size or manifest.validation_bytes, training.size or manifest.training_bytes
    share = model.max_validation_bytes_share
    if share and size and total:
        yield from _limit(manifest, field, "bytes of validation data", size, int(total * share), context)


def _limit(
    manifest: Manifest, field: str, unit: str, value: float | None, limit: int | None, context: CatalogContext
) -> Iterator[Problem]:
    if value and limit is not None and value > limit:
        message = (
            f"{value:,} {unit}, more than the {limit:,} of {manifest.source.base_model} in {context.catalog.named}"
        )
        yield _warning(_located(manifest, field), message, "use fewer, or another base model")


_RULES: Final = (
    _supported,
    _methods,
    _location,
    _encryption,
    _adapter_size,
    _hyperparameters,
    _epochs,
    _training_size,
    _example_size,
    _validation_size,
)
