"""status --access: what somebody can reach, over the embedded service and over a port."""

from __future__ import annotations

import json

import pytest

from support.cli_world import Cli, Snapshot
from support.render_values import held_to
from support.vertex_fronts import refusal, refusing
from support.vertex_runs import BASE
from support.vertex_world import World, fresh, lock_of, resume

ADA = "ada@example.com"
GL = "--target", "gl"
MODELS = "/v1beta/tunedModels"


def share(world: World, key: str, **permission: str) -> None:
    """Give somebody a role for a model, past reconcile."""
    world.ask("POST", f"{MODELS}/{key}/permissions", json.dumps(permission).encode())


@pytest.fixture(scope="module")
def after_apply(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Three models at the Generative Language API."""
    reconcile = Cli(tmp_path_factory.mktemp("models"))
    fresh(served, reconcile)
    for name in ("adder", "letters", "words"):
        reconcile.manifest(name, base=BASE)
    assert reconcile("apply", "--yes", *GL).status == 0
    return reconcile.snapshot()


@pytest.fixture
def world(served: World, reconcile: Cli, after_apply: Snapshot) -> World:
    """The services with these models."""
    return resume(served, reconcile, after_apply)


@pytest.fixture
def keys(reconcile: Cli, world: World) -> dict[str, str]:
    """The keys of their generations, by name."""
    assert world.lines == []
    return {name: model["serving"] for name, model in lock_of(reconcile, "gl").items()}


def below_the_table(text: str) -> list[str]:
    return text.splitlines()[5:]


def test_what_somebody_can_reach(reconcile: Cli, world: World, keys: dict[str, str]) -> None:
    share(world, keys["adder"], granteeType="USER", emailAddress="Ada@Example.com", role="WRITER")
    share(world, keys["letters"], granteeType="EVERYONE", role="READER")
    share(world, keys["letters"], granteeType="GROUP", emailAddress="nlp@example.com", role="WRITER")
    before, asked = lock_of(reconcile, "gl"), len(world.lines)

    answer = reconcile("status", "--access", "ADA@example.com", *GL)

    assert (answer.status, answer.err) == (0, "")
    assert below_the_table(answer.out) == [
        "ada@example.com has access to 2 of 3 ready models:",
        f"  adder  {keys['adder']} (serving): writer as user:ada@example.com",
        f"  letters  {keys['letters']} (serving): reader as everyone",
        "Possible access; the service does not list the members:",
        f"  letters  {keys['letters']} (serving): writer through group:nlp@example.com",
        "Recorded state of specs/reconcile.gl.lock.json; the service was queried only for permissions.",
    ]
    assert {line.split(" ")[0] for line in world.lines[asked:]} == {"GET"}
    assert lock_of(reconcile, "gl") == before
    document = held_to("status", reconcile("status", "--access", ADA, *GL, "--format", "json").document)
    assert document["verified"] is False
    assert [(one["name"], one["role"], one["through"]) for one in document["access"]["models"]] == [
        ("adder", "writer", "user:ada@example.com"),
        ("letters", "reader", "everyone"),
    ]
    assert [one["through"] for one in document["access"]["perhaps"]] == ["group:nlp@example.com"]


def test_superseded_generations_count_too(reconcile: Cli, world: World, keys: dict[str, str]) -> None:
    share(world, keys["adder"], granteeType="USER", emailAddress=ADA, role="READER")
    reconcile.manifest("adder", base=BASE, epochs=3)
    assert reconcile("apply", "--yes", *GL).status == 0
    (reached,) = reconcile("status", "--access", ADA, *GL, "--format", "json").document["access"]["models"]
    assert (reached["key"], reached["serving"]) == (keys["adder"], False)


def test_a_missing_model_is_skipped_with_a_warning(reconcile: Cli, world: World, keys: dict[str, str]) -> None:
    share(world, keys["words"], granteeType="EVERYONE", role="READER")
    world.ask("DELETE", f"{MODELS}/{keys['adder']}")

    answer = reconcile("status", "--access", ADA, *GL)

    assert answer.status == 0
    remedy = "run reconcile apply --target gl"
    assert below_the_table(answer.out)[:3] == [
        "ada@example.com has access to 1 of 2 ready models:",
        f"  words  {keys['words']} (serving): reader as everyone",
        f"warning: {keys['adder']} no longer exists at the service, so no user has access to it; {remedy}",
    ]
    access = reconcile("status", "--access", ADA, *GL, "--format", "json").document["access"]
    assert [one["key"] for one in access["gone"]] == [keys["adder"]]


def test_live_reads_states_and_permissions(reconcile: Cli, keys: dict[str, str]) -> None:
    document = reconcile("status", "--live", "--access", "owner@example.com", *GL, "--format", "json").document
    assert document["verified"] is True
    assert [(one["key"], one["role"]) for one in document["access"]["models"]] == [
        (key, "owner") for _, key in sorted(keys.items())
    ]


def test_permissions_of_each_ready_generation_are_read_once(reconcile: Cli, world: World, keys: dict[str, str]) -> None:
    asked = len(world.lines)
    assert reconcile("status", "--access", ADA, *GL).status == 0
    expected = sorted(f"GET {MODELS}/{key}/permissions" for key in keys.values())
    assert sorted(line for line in world.lines[asked:] if "permissions" in line) == expected


@pytest.mark.usefixtures("keys")
def test_unreadable_permissions_are_a_warning(reconcile: Cli, world: World) -> None:
    world.front = refusing(refusal(403, "PERMISSION_DENIED", "You are no owner."), f"GET {MODELS}/adder")
    answer = reconcile("status", "--access", ADA, *GL)
    assert (answer.status, answer.out) == (3, "")
    assert "failed with 403 PERMISSION_DENIED: You are no owner; log in as its owner" in answer.err


def test_without_records_no_user_has_access(reconcile: Cli) -> None:
    answer = reconcile("status", "--access", ADA)
    assert answer.status == 0
    assert "ada@example.com has access to none of 0 ready models." in answer.out


def test_an_invalid_email_is_a_usage_error(reconcile: Cli) -> None:
    for address in ("ada", "@example.com", "ada@", "ada@localhost", "a da@example.com", "", "a@b@c.de"):
        answer = reconcile("status", "--access", address)
        assert answer.status == 64
        assert f"Error: Invalid value for '--access': invalid email address {address!r}: expected" in answer.err


def test_on_vertex_ai_iam_is_named(reconcile: Cli, world: World) -> None:
    answer = reconcile("status", "--access", ADA, "--target", "vertex")
    assert answer.status == 64
    assert answer.err == (
        "Error: --access is not supported: in Vertex AI, IAM grants access to all models of a project; see gcloud"
        " projects get-iam-policy my-project\n"
    )
    assert world.lines == []
