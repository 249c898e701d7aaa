"""``reconcile push``: models in the Hugging Face Hub, through its real client and a server that speaks its API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.commands._model_hub import parse_repository
from reconciler.domain.errors import UsageError
from support.cli_world import Cli, Result
from support.dataset_hub import DatasetHub, dataset_hub, without_certificates

TOKEN = "hf_0123456789abcdefghijklmnopqrstuvwxyz"
FILES = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "tokenizer_config.json",
]
OWN = '---\nreconcile: {{"scope": "demo", "name": "{}", "files": ["README.md", "old.json"]}}\n---\n'


@pytest.fixture
def hub(local: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    """A hub that the environment of the commands names, which accepts the token of this environment."""
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    from huggingface_hub import close_session, constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    without_certificates(monkeypatch, tmp_path)
    with dataset_hub() as served:
        for name, value in (
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_DISABLE_TELEMETRY", True),
            ("HF_HUB_DISABLE_XET", True),
            ("HF_TOKEN_PATH", str(tmp_path / "no-token")),
        ):
            monkeypatch.setattr(constants, name, value)  # it read the environment when it was imported
        served.writer = TOKEN
        local.environ |= {"HF_ENDPOINT": served.address, "HF_TOKEN": TOKEN}
        yield served
        close_session()


def push(local: Cli, *arguments: str, to: str = "hf://acme/adder") -> Result:
    return local("push", "adder", to, "specs", "--yes", *arguments)


def test_a_generation_becomes_a_commit_once(local: Cli, hub: DatasetHub) -> None:
    first = push(local, "--format", "json")
    assert first.status == 0, first.err
    model = hub.models["acme/adder"]
    key = first.document["key"]
    assert [commit.message for commit in model.commits] == ["initial commit", f"Push {key}"]
    assert (sorted(model.head.files), model.private) == ([".gitattributes", *FILES], True)
    (adapter,) = local.specs.glob("store/*/starts/1/adapter")
    assert model.head.files["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    shown = {name: first.document[name] for name in ("outcome", "url", "commit", "private")}
    url = f"{hub.address}/acme/adder"
    assert shown == {"outcome": "done", "url": url, "commit": model.head.oid, "private": True}
    sent = {request.host: request.authorization for request in hub.requests}
    assert sent == {hub.address: f"Bearer {TOKEN}", hub.other: None}
    again = push(local)
    assert again.status == 0, again.err
    assert f"adder: {url} has {key} already; nothing was pushed" in again.out
    assert len(model.commits) == 2
    assert TOKEN not in first.out + first.err + again.out + again.err


def test_another_push_removes_only_the_files_of_the_earlier_one(local: Cli, hub: DatasetHub) -> None:
    model = hub.add_model("acme/adder", {"README.md": OWN.format("adder"), "old.json": "{}", "LICENSE": "text"})
    assert push(local).status == 0
    assert len(model.commits) == 3
    assert sorted(model.head.files) == [".gitattributes", "LICENSE", *FILES]


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("# Mine\n", " was not pushed by reconcile, and is not changed; name an empty or a new repository"),
        (OWN.format("adder").replace("demo", "x"), ' has the model "adder" of another manifest, and is not changed'),
        (OWN.format("other"), ' has the model "other" of another manifest, and is not changed'),
        ("---\nreconcile: [\n---\n", " was not pushed by reconcile, and is not changed"),
    ],
)
def test_a_repository_of_others_is_not_changed(local: Cli, hub: DatasetHub, card: str, message: str) -> None:
    model = hub.add_model("acme/adder", {"README.md": card})
    done = push(local)
    assert (done.status, message in done.err, len(model.commits)) == (1, True, 2), done.err


def test_a_repository_is_as_private_as_asked_for(local: Cli, hub: DatasetHub) -> None:
    assert push(local, "--public").status == 0
    assert not hub.models["acme/adder"].private
    refused = push(local)
    assert refused.status == 1
    assert "/acme/adder is public; pass --public to push there, or name another repository" in refused.err
    hub.add_model("acme/empty", {})
    refused = push(local, "--public", to="hf://acme/empty")
    assert "/acme/empty is private; omit --public, or make it public at " in refused.err
    assert push(local, to="hf://acme/empty").status == 0


def test_what_the_hub_refuses_has_a_reason(local: Cli, hub: DatasetHub) -> None:
    model = hub.add_model("acme/raced", {})
    for repository, status, message in (
        ("other/adder", 3, "/other/adder cannot be written: You don't have the rights to create a model under the"),
        ("acme/hidden", 1, "/acme/hidden cannot be created: You already created this model repo; name another"),
        ("acme/raced", 1, "/acme/raced was changed meanwhile, and nothing was pushed; run the command again"),
    ):
        hub.meanwhile = lambda: model.commit("of another user", model.head.files)
        done = push(local, to=f"hf://{repository}")
        assert (done.status, message in done.err, done.out) == (status, True, ""), done.err
    hub.writer = "another"
    done = push(local)
    assert (done.status, "does not accept the token: " in done.err) == (3, True), done.err
    hub.status = 418
    assert "answered with the status 418: it states no reason; try again later" in push(local).err


def test_a_token_goes_to_the_hub_and_to_hosts_that_are_allowed(local: Cli, hub: DatasetHub) -> None:
    local.environ["HF_ENDPOINT"] = "https://hub.example.com"
    done = push(local)
    assert done.status == 1
    assert "HF_ENDPOINT names https://hub.example.com, which is not the Hugging Face Hub; unset it, or pass" in done.err
    local.environ["HF_ENDPOINT"] = "http://hub.example.com"
    assert "has no TLS; set an https:// address" in push(local, "--allow-endpoint", "hub.example.com").err
    local.environ |= {"HF_ENDPOINT": hub.address, "HF_TOKEN": ""}
    done = push(local)
    assert done.status == 3
    assert f"no token for {hub.address}; set HF_TOKEN to a token with write access, from " in done.err
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_one_message(local: Cli, hub: DatasetHub) -> None:
    local.environ["HF_ENDPOINT"] = "http://127.0.0.1:1"
    done = push(local)
    assert done.status == 1
    assert "http://127.0.0.1:1 cannot be reached: " in done.err
    assert hub.requests == []


def test_nothing_is_sent_without_approval(local: Cli, hub: DatasetHub) -> None:
    done = local("push", "adder", "hf://acme/adder", "specs")
    assert (done.status, "stdin is not a terminal; pass --yes to approve" in done.err) == (64, True)
    assert hub.requests == []


def test_a_service_that_keeps_the_weights_is_named_before_the_hub(trained: Cli) -> None:
    done = trained("push", "adder", "hf://acme/adder", "specs", "--yes")
    assert done.status == 1
    assert "cannot be exported: the weights of its model stay at the service" in done.err


@pytest.mark.parametrize(
    "address",
    ["acme/adder", "hf://adder", "hf://datasets/adder", "hf://acme/adder@main", "hf://acme/../x", "hf://a/b/c"],
)
def test_an_address_is_a_model_repository(address: str) -> None:
    with pytest.raises(UsageError, match="write hf://ORG/REPO"):
        parse_repository(address)
