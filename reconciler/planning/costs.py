"""What trainings cost, by the public prices of their base models, and the limit of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from reconciler.domain.document import Count, Record
from reconciler.domain.lock import Lock, LockedEstimate, LockedGeneration
from reconciler.domain.model import Number, Source
from reconciler.domain.money import Money, dollars
from reconciler.domain.plan import Action, Kind, TrainingCost, TrainingEstimate, World, hold_over_limit
from reconciler.domain.target_option import for_target
from reconciler.planning.training_time import number_of

MILLION = 1_000_000
"""The number of tokens that a price is for."""
_MOST_TOKENS: Final = 10**18
"""The most tokens; more count as these, because numbers of edited files have no other limit."""


def price_of(tokens: int, price: Money) -> Money:
    """Return what tokens cost at the price of a million."""
    return dollars(tokens * price.amount / MILLION)


def with_costs(actions: Iterable[Action], world: World) -> tuple[Action, ...]:
    """Return the actions, with the cost of each training that a create starts."""
    base_models = _BaseModels(world)
    return tuple(
        replace(action, training=replace(action.training, cost=_cost(action, action.training, world, base_models)))
        if action.kind is Kind.CREATE and action.training and world.capabilities.billed
        else action
        for action in actions
    )


def hold_over_cost(actions: tuple[Action, ...], limit: Money | None) -> tuple[Action, ...]:
    """Return the actions, with creates of unknown cost held, and all if the others cost more than the limit."""
    if limit is None:
        return actions
    held: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for action in actions:  # parents come before their children
        cost = action.training.cost if action.kind is Kind.CREATE and action.training else None
        if cost and cost.total is None:
            unknown[action.key] = (
                f"its cost is unknown, and limits.maxCost of the target is {limit}: {cost.unknown}; {cost.remedy}"
            )
            held[action.key] = unknown[action.key]
        elif action.kind is Kind.CREATE and action.after in held:
            unknown[action.key] = unknown[action.after]  # that of the first parent, because messages must not grow
            held[action.key] = f"the training of its parent is held: {unknown[action.key]}"
    actions = tuple(hold_over_limit(action, held[action.key]) if action.key in held else action for action in actions)
    total = total_cost(actions)
    if total is None or total.amount <= limit.amount:
        return actions
    message = (
        f"the trainings of this plan cost {total.approximate}, but limits.maxCost of the target is {limit}, so"
        " nothing is created; raise spec.limits.maxCost in the target, or select fewer manifests with --only or -l"
    )
    return tuple(hold_over_limit(action, message) if action.kind is Kind.CREATE else action for action in actions)


def price_notices(actions: Iterable[Action], world: World) -> tuple[str, ...]:
    """Return a notice for each price that is 0 or not the one recorded last: a pull request can change ``models``."""
    base_models, prices = _BaseModels(world), dict[str, Money]()
    for action in actions:
        cost = action.training.cost if action.training else None
        if cost and cost.price:
            prices[base_models.find(action.source or Source())] = cost.price
    recorded = _recorded_prices(world.lock) if prices else {}
    return tuple(
        f"the price of {name} is {price} a million tokens, but {before} in the newest estimate of the lockfile; check"
        f" {world.target.models or world.catalog.named}"
        if before != price
        else f"the price of {name} is 0, so limits.maxCost of the target does not limit its trainings"
        for name, price in sorted(prices.items())
        if (before := recorded.get(name, price)) != price or (world.target.limits.max_cost and not price.amount)
    )


def _recorded_prices(lock: Lock) -> dict[str, Money]:
    """Return the price of each base model in the estimate of its newest training."""
    generations = (generation for model in lock.models.values() for generation in model.generations)
    return {
        generation.source.base_model: generation.estimate.price
        for generation in sorted(generations, key=lambda generation: generation.created_at)
        if generation.estimate and generation.estimate.price and generation.source.base_model
    }


def total_cost(actions: Iterable[Action]) -> Money | None:
    """Return the cost of all creates together where it is known; ``None`` if no cost is."""
    totals = [cost.total.amount for cost in _costs(actions) if cost.total]
    return dollars(sum(totals)) if totals else None


def count_unknown(actions: Iterable[Action]) -> int:
    """Return the number of creates whose cost is unknown."""
    return sum(cost.total is None for cost in _costs(actions))


def _costs(actions: Iterable[Action]) -> Iterator[TrainingCost]:
    for action in actions:
        if action.kind is Kind.CREATE and action.training and action.training.cost:
            yield action.training.cost


def _cost(action: Action, training: TrainingEstimate, world: World, base_models: _BaseModels) -> TrainingCost | None:
    name = base_models.find(action.source or Source())
    model = world.catalog.models.get(name)
    price = model.price if model else None
    if price is None and world.capabilities.simulated and world.target.limits.max_cost is None:
        return None  # nothing is paid
    tokens = _all_epochs(training.tokens, training.epochs)
    unknown = list(_unknown(action, training, price, name, world))
    return TrainingCost(
        billable_tokens=tokens,
        price=price,
        total=None if tokens is None or price is None else price_of(tokens, price),
        unknown=" and ".join(reason for reason, _ in unknown),
        remedy="; ".join(remedy for _, remedy in unknown),
    )


def _unknown(
    action: Action, training: TrainingEstimate, price: Money | None, name: str, world: World
) -> Iterator[tuple[str, str]]:
    """Yield each reason why the cost of a training is unknown, and what to do."""
    source = action.source or Source()
    if not name and source.remote and not source.tuned_model:
        remedy = for_target(
            f"run reconcile adopt NAME {source.remote} to manage it, and set spec.source to {{tunedModel: NAME}}"
        )
        yield f"the base model of {source.remote} is unknown", remedy
    elif not name:
        yield "the base model of its parent is unknown", "select the parent too"
    elif price is None:
        entry = f'price = "AMOUNT USD" below [models."{name}"]'
        file = world.target.models
        remedy = (
            f"add {entry} to {file}"
            if file
            else f"write {entry} into a file models.toml beside {world.target.file}, and add models: models.toml to the"
            " spec of the target"
        )
        yield f"{world.catalog.named} has no price of {name}", remedy
    if training.tokens is None and action.dataset and action.dataset.is_remote:
        yield "data sets in Cloud Storage are not read", "train from a file of the repository"
    elif training.tokens is None:
        yield "the tokens of media are not estimated", "remove the parts with fileData and inlineData from the examples"
    if training.epochs is None:
        yield "the service chooses the number of epochs", "set spec.hyperparameters.epochCount"


class _BaseModels:
    """The base models at the roots of lineages: what live parents are tuned from, or planned ones will be."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._manifests = {manifest.name: manifest for manifest in world.manifests}
        self._found: dict[Source, str] = {}

    def find(self, source: Source) -> str:
        """Return the base model of a source; empty if it is unknown, or if its parents form a cycle."""
        passed: list[Source] = []
        while not source.base_model and source.tuned_model and source not in self._found:
            self._found[source] = ""  # a lockfile can be edited to have a cycle
            passed.append(source)
            source = self._parent(source)
        found = self._found.get(source, source.base_model)
        self._found.update(dict.fromkeys(passed, found))
        return found

    def _parent(self, source: Source) -> Source:
        """Return what the parent of a source is tuned from."""
        world = self._world
        model, manifest = world.lock.models.get(source.tuned_model), self._manifests.get(source.tuned_model)
        recorded = model.generation(source.key) if model else None
        live = world.observation.models.get(recorded.remote) if recorded else None
        if live and live.source and live.source.base_model:
            return live.source
        return manifest.source if manifest else Source()


class Billing(Record, frozen=True, kw_only=True):
    """What a training was expected to cost, and what it costs by the tokens that the service counted."""

    estimated_tokens: Count | None = None
    """The estimated tokens of all epochs; omitted if unknown."""
    estimated_cost: Money | None = None
    """The estimated cost; omitted if unknown."""
    billed_tokens: Count | None = None
    """The tokens of all epochs, as the service counts those of one; omitted until the training ends."""
    cost: Money | None = None
    """The cost of the billed tokens; omitted if unknown."""


def estimate_of(training: TrainingEstimate | None) -> LockedEstimate | None:
    """Return what a lockfile records about the cost of a training; ``None`` if nothing is paid or known."""
    if training is None or training.cost is None or training.tokens is None:
        return None
    return LockedEstimate(tokens=training.tokens, epochs=training.epochs, price=training.cost.price)


def billing_of(generation: LockedGeneration) -> Billing | None:
    """Return the estimate of a recorded training beside the actual tokens and cost; ``None`` if neither is recorded."""
    estimate, counted = generation.estimate, generation.billable_tokens
    if estimate is None and counted is None:
        return None
    price = estimate.price if estimate else None
    expected = _all_epochs(estimate.tokens, estimate.epochs) if estimate else None
    epochs = number_of(generation.hyperparameters.effective, "epochCount") or (estimate.epochs if estimate else None)
    billed = _all_epochs(counted, epochs)
    return Billing(
        estimated_tokens=expected,
        estimated_cost=None if expected is None or price is None else price_of(expected, price),
        billed_tokens=billed,
        cost=None if billed is None or price is None else price_of(billed, price),
    )


def _all_epochs(tokens: int | None, epochs: Number | None) -> int | None:
    """Return the tokens of all epochs, which are none for a negative number of epochs."""
    if tokens is None or epochs is None:
        return None
    return round(min(min(tokens, _MOST_TOKENS) * max(0.0, min(epochs, _MOST_TOKENS)), _MOST_TOKENS))
