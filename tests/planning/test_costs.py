"""What trainings cost, and the limit of a run."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
from msgspec.structs import replace

from reconciler.domain.base_models import BaseModel, ModelCatalog
from reconciler.domain.lock import Lock, LockedEstimate, LockedHyperparameters, LockedModel
from reconciler.domain.model import Limits, Source, Target
from reconciler.domain.money import dollars, parse_money
from reconciler.domain.plan import Action, Kind, Plan, Reason, TrainingCost, World
from reconciler.planning.costs import Billing, billing_of, estimate_of, price_of
from reconciler.planning.events import update_observed
from reconciler.planning.planner import plan
from reconciler.providers.registry import provider_spec
from reconciler.reports.text.format import billing_text
from support.cases import each_row
from support.core_cases import BASE_MODEL, CAPABILITIES, SCOPE, START, Made, live, manifest, recorded

PRICES = ModelCatalog(date(2026, 11, 1), {BASE_MODEL: BaseModel(price=parse_money("3.02 USD"))})
NO_PRICES = ModelCatalog(date(2026, 11, 1), {BASE_MODEL: BaseModel()})
PARENT = Made("parent", hyperparameters={"epochCount": 2})
CHILD = Made("child", hyperparameters={"epochCount": 2}, parent=PARENT)
FILE = "reconcile.yaml"


def planned(*made: Made, tokens: int | None = 500_000, limit: str = "", **fields: Any) -> Plan:
    """The plan of a service without defaults, where every data set has as many tokens."""
    limits = Limits(max_cost=parse_money(limit) if limit else None)
    world = World(
        manifests=tuple(replace(manifest(one), training_tokens=tokens) for one in made),
        lock=Lock(),
        target=Target("default", FILE, "vertex", SCOPE, limits=limits, models=fields.pop("models", "")),
        capabilities=replace(CAPABILITIES, defaults={}, **fields.pop("capabilities", {})),
        now=START,
        catalog=PRICES,
    )
    return plan(replace(world, **fields))


def of(name: str, found: Plan) -> Action:
    return next(action for action in found.actions if action.name == name)


def cost(found: Plan) -> TrainingCost | None:
    (action,) = found.actions
    assert action.training
    return action.training.cost


@each_row(
    ("base_model", "tokens", "total"),
    [
        ("google/gemma4@gemma-4-31b-it", 1_000_000, "9.06 USD"),
        ("google/gemma4@gemma-4-31b-it", 12_345, "0.1118 USD"),
        ("meta/llama3-2@llama-3.2-1b-instruct", 1_000_000, "0.28 USD"),
        ("meta/llama3-2@llama-3.2-1b-instruct", 50_000_000, "14 USD"),
    ],
)
def test_prices_of_the_catalog_are_for_a_million_tokens(base_model: str, tokens: int, total: str) -> None:
    models = provider_spec("vertex").catalog().models
    price = models[base_model].price
    assert price
    assert str(price_of(tokens, price)) == total
    assert {name for name, model in models.items() if model.price} == {
        "google/gemma4@gemma-4-31b-it",
        "meta/llama3-2@llama-3.2-1b-instruct",
    }


@each_row(
    ("hyperparameters", "tokens", "billed", "total"),
    [
        ({"epochCount": 1}, 500_000, 500_000, 1.51),
        ({"epochCount": 3}, 500_000, 1_500_000, 4.53),
        ({"epochCount": 3}, 7, 21, 0.000063),
        ({"epochCount": 3}, 0, 0, 0),
    ],
)
def test_the_tokens_of_all_epochs_are_billed(
    hyperparameters: dict[str, int], tokens: int, billed: int, total: float
) -> None:
    found = cost(planned(Made(hyperparameters=hyperparameters), tokens=tokens))
    assert found == TrainingCost(billable_tokens=billed, price=dollars(3.02), total=dollars(total))


UNKNOWN = {
    "no price": (
        {"catalog": NO_PRICES},
        {"epochCount": 3},
        f"the model catalog of 2026-11-01 has no price of {BASE_MODEL}",
        (
            f'write price = "AMOUNT USD" below [models."{BASE_MODEL}"] into a file models.toml beside {FILE}, and add'
            " models: models.toml to the spec of the target"
        ),
    ),
    "no price in the target's file": (
        {"catalog": ModelCatalog(), "models": "prices.toml"},
        {"epochCount": 3},
        f"the model catalog has no price of {BASE_MODEL}",
        f'add price = "AMOUNT USD" below [models."{BASE_MODEL}"] to prices.toml',
    ),
    "no epochs": ({}, {}, "the service chooses the number of epochs", "set spec.hyperparameters.epochCount"),
    "media": (
        {"tokens": None},
        {"epochCount": 3},
        "the tokens of media are not estimated",
        "remove the parts with fileData and inlineData from the examples",
    ),
}


def test_an_unknown_cost_has_a_reason_and_with_a_limit_the_training_is_held() -> None:
    for fields, hyperparameters, unknown, remedy in UNKNOWN.values():
        made = Made(hyperparameters=hyperparameters)
        found = cost(planned(made, **dict(fields)))
        assert found
        assert (found.unknown, found.remedy, found.total) == (unknown, remedy, None)
        (held,) = planned(made, limit="50 USD", **dict(fields)).actions
        assert (held.kind, held.reason) == (Kind.HOLD, Reason.GUARDED)
        assert held.message == (f"its cost is unknown, and limits.maxCost of the target is 50 USD: {unknown}; {remedy}")


def test_a_data_set_in_cloud_storage_has_no_known_cost() -> None:
    found = cost(planned(Made(data=7, hyperparameters={"epochCount": 3}), tokens=None))
    assert found
    assert found.unknown == "data sets in Cloud Storage are not read"


@each_row(("limit", "held"), [("6.04 USD", False), ("6.0399 USD", True), ("0 USD", True), ("", False)])
def test_a_plan_that_costs_more_than_the_limit_creates_nothing(limit: str, *, held: bool) -> None:
    found = planned(PARENT, Made("other", hyperparameters={"epochCount": 2}), limit=limit)
    assert {action.kind for action in found.actions} == {Kind.HOLD if held else Kind.CREATE}
    if held:
        assert found.actions[0].message == (
            f"the trainings of this plan cost about 6.04 USD, but limits.maxCost of the target is {limit}, so nothing"
            " is created; raise spec.limits.maxCost in the target, or select fewer manifests with --only or -l"
        )


def test_a_training_of_known_cost_starts_beside_a_held_one() -> None:
    found = planned(PARENT, Made("other", hyperparameters={}), limit="50 USD")
    assert [of(name, found).kind for name in ("other", "parent")] == [Kind.HOLD, Kind.CREATE]


def test_a_child_has_the_price_of_the_base_model_of_its_parent_and_is_held_with_it() -> None:
    child = of("child", planned(PARENT, CHILD)).training
    assert child
    assert child.cost
    assert child.cost.total == dollars(3.02)
    held = of("child", planned(replace(PARENT, hyperparameters={}), CHILD, limit="50 USD"))
    assert held.reason is Reason.GUARDED
    assert held.message.startswith("the training of its parent is held: its cost is unknown")


def test_messages_do_not_grow_with_the_generations_of_a_lineage() -> None:
    made = [replace(PARENT, hyperparameters={})]
    for generation in range(40):
        made.append(Made(f"child-{generation}", hyperparameters={"epochCount": 2}, parent=made[-1]))
    limits = Limits(max_creates=100, max_cost=parse_money("50 USD"))
    found = planned(*made, target=Target("default", FILE, "vertex", SCOPE, limits=limits))
    assert found.of_kind(Kind.CREATE) == ()
    assert max(len(action.message) for action in found.actions) < 300


@each_row(
    ("price", "limit", "notice"),
    [
        ("3.02 USD", "50 USD", ""),
        (
            "0.01 USD",
            "",
            "is 0.01 USD a million tokens, but 3.02 USD in the newest estimate of the lockfile; check x.toml",
        ),
        (
            "0 USD",
            "50 USD",
            "is 0 USD a million tokens, but 3.02 USD in the newest estimate of the lockfile; check x.toml",
        ),
    ],
)
def test_a_price_that_is_not_the_recorded_one_is_noticed(price: str, limit: str, notice: str) -> None:
    old = replace(recorded(PARENT), estimate=LockedEstimate(tokens=1, epochs=1, price=dollars(3.02)))
    lock = Lock(models={"parent": LockedModel("parent.yaml", generations=(old,))})
    catalog = ModelCatalog(models={BASE_MODEL: BaseModel(price=parse_money(price))})
    other = Made("other", hyperparameters={"epochCount": 2})
    expected = [f"the price of {BASE_MODEL} {notice}"] if notice else []
    assert [
        text
        for text in planned(other, limit=limit, lock=lock, catalog=catalog, models="x.toml").notices
        if "price" in text
    ] == expected


def test_a_price_of_0_is_noticed_where_a_limit_is_set() -> None:
    free = ModelCatalog(models={BASE_MODEL: BaseModel(price=parse_money("0 USD"))})
    expected = f"the price of {BASE_MODEL} is 0, so limits.maxCost of the target does not limit its trainings"
    assert expected in planned(PARENT, limit="50 USD", catalog=free).notices
    assert expected not in planned(PARENT, catalog=free).notices


def test_numbers_without_limits_are_amounts() -> None:
    """Manifests and edited lockfiles can have any; more tokens than there can be cost more than any limit."""
    found = planned(Made(hyperparameters={"epochCount": 10**36}), limit="999999999 USD")
    assert [action.reason for action in found.actions] == [Reason.GUARDED]
    for epochs, tokens, price in ((1e308, 2**62, 1e12), (-5, 7, 1.0)):
        estimate = LockedEstimate(tokens=tokens, epochs=epochs, price=dollars(price))
        billing = billing_of(replace(recorded(PARENT), estimate=estimate, billable_tokens=tokens))
        assert billing
        assert (billing.estimated_tokens or 0) >= 0
        assert billing.estimated_cost
        assert msgspec.json.decode(msgspec.json.encode(billing), type=Billing) == billing


@each_row(("capabilities", "limit"), [({"billed": False}, ""), ({"billed": False}, "1 USD"), ({"simulated": True}, "")])
def test_what_is_not_paid_has_no_cost(capabilities: dict[str, bool], limit: str) -> None:
    found = planned(Made(hyperparameters={}), limit=limit, capabilities=capabilities, catalog=NO_PRICES)
    assert found.of_kind(Kind.CREATE)
    assert cost(found) is None


def test_amounts() -> None:
    shown = {text: (str(parse_money(text)), parse_money(text).rounded) for text in ("50 USD", "0.125 USD", "0.001 USD")}
    assert shown == {
        "50 USD": ("50 USD", "50.00 USD"),
        "0.125 USD": ("0.125 USD", "0.12 USD"),
        "0.001 USD": ("0.001 USD", "less than 0.01 USD"),
    }


def test_the_estimate_is_recorded_and_shown_beside_the_tokens_that_the_service_counted() -> None:
    training = planned(PARENT).actions[0].training
    estimate = estimate_of(training)
    assert estimate == LockedEstimate(tokens=500_000, epochs=2, price=dollars(3.02))
    generation = replace(
        recorded(PARENT), estimate=estimate, hyperparameters=LockedHyperparameters(effective={"epochCount": 2})
    )
    expected = Billing(estimated_tokens=1_000_000, estimated_cost=dollars(3.02))
    assert billing_of(generation) == expected
    ended = update_observed(generation, replace(live(PARENT), billable_tokens=480_000))
    billing = billing_of(ended)
    assert billing == replace(expected, billed_tokens=960_000, cost=dollars(2.8992))
    assert billing_text(billing) == "960,000 billed tokens, 2.90 USD (estimated: about 1,000,000, about 3.02 USD)"
    assert billing_of(recorded(PARENT)) is None
    assert billing_text(None) == ""


def test_the_cost_of_a_child_of_an_unmanaged_model_is_unknown() -> None:
    """A parent without a manifest cannot be selected."""
    made = replace(manifest(CHILD), source=Source(remote="tunedModels/theirs"), training_tokens=500_000)
    world = World((made,), Lock(), Target("default", FILE, "vertex", SCOPE), CAPABILITIES, START, catalog=PRICES)
    known = cost(plan(world))
    assert known
    assert (known.total, known.unknown) == (None, "the base model of tunedModels/theirs is unknown")
    assert known.remedy.startswith("run reconcile adopt NAME tunedModels/theirs to manage it")
