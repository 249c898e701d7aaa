"""Data sets of the Hugging Face Hub, through its real client and a server that speaks its API on loopback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cli_world import Cli
from support.dataset_hub import COMMIT, OLD_COMMIT, DatasetHub, Repository, dataset_hub, without_certificates
from support.git_repository import Repository as GitRepository

TOKEN = "hf_0123456789abcdefghijklmnopqrstuvwxyz"
BASE = f"hf://datasets/acme/faq@{COMMIT}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    """A hub that the client uses in this process, with an empty cache."""
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    from huggingface_hub import close_session, constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    without_certificates(monkeypatch, tmp_path)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with dataset_hub() as served:
        for name, value in (
            ("ENDPOINT", served.address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", f"{served.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"),
            ("HF_HUB_CACHE", str(tmp_path / "cache")),
            ("HF_HUB_OFFLINE", False),
            ("HF_HUB_DISABLE_TELEMETRY", True),
        ):
            monkeypatch.setattr(constants, name, value)  # it read the environment when it was imported
        yield served
        close_session()


def rows(name: str, count: int = 20) -> str:
    """Examples in JSON Lines."""
    return "".join(f'{{"question": "{name} {number}", "answer": "{number}"}}\n' for number in range(count))


FILES = {
    "README.md": "---\nconfigs:\n- data_files: [{split: train, path: data/train-*}]\n---\n",
    "data/train-0.jsonl": rows("x"),
    "data/train-1.jsonl": rows("y"),
    "data/test-0.jsonl": rows("t", 2),
}


def declare(reconcile: Cli, path: str, more: str = "    inputField: question\n    outputField: answer\n") -> None:
    """Write a manifest whose data set has this path."""
    file = reconcile.manifest("faq")
    text = file.read_text().replace("  dataset: {path: faq.csv}\n", f'  dataset:\n    path: "{path}"\n{more}')
    file.write_text(text)


def test_init_pins_the_newest_commit_and_nothing_is_downloaded_twice(reconcile: Cli, hub: DatasetHub) -> None:
    hub.add("acme/faq", FILES, large=frozenset({"data/train-0.jsonl"}))
    reconcile.specs.joinpath("reconcile.yaml").unlink()

    made = reconcile("init", "--from", "hf://datasets/acme/faq")

    assert made.status == 0, made.err
    assert made.out.splitlines()[0].startswith(f"{BASE}/data/train-*.jsonl: 40 examples, one input and one output")
    assert f'    path: "{BASE}/data/train-*.jsonl"\n' in (reconcile.specs / "faq.yaml").read_text()
    with_token = {request.authorization for request in hub.requests if request.host == hub.address}
    elsewhere = [request for request in hub.requests if request.host == hub.other]
    assert with_token == {f"Bearer {TOKEN}"}
    assert [(request.method, request.authorization) for request in elsewhere] == [("GET", None)]
    assert hub.downloads() == ["README.md", "data/train-0.jsonl", "data/train-1.jsonl"]

    assert reconcile("apply", "--yes").status == 0
    assert "No changes." in reconcile("plan").out
    assert hub.requests == []


def test_moving_a_file_to_the_hub_trains_nothing(reconcile: Cli, hub: DatasetHub) -> None:
    address = hub.add("acme/faq", {"faq.jsonl": rows("x")})
    (reconcile.specs / "faq.jsonl").write_text(rows("x"))
    declare(reconcile, "faq.jsonl")
    assert reconcile("apply", "--yes").status == 0

    declare(reconcile, f"{address}/faq.jsonl")

    assert "No changes." in reconcile("plan").out
    assert hub.downloads() == ["faq.jsonl"]


def _gated(hub: DatasetHub) -> None:
    hub.add("acme/faq", FILES, gated="another token")


def _private(hub: DatasetHub) -> None:
    hub.repositories.clear()


def _without_commit(hub: DatasetHub) -> None:
    hub.repositories["acme/faq"] = Repository({OLD_COMMIT: FILES})


def _refusing(hub: DatasetHub) -> None:
    hub.status = 403


def _huge(hub: DatasetHub) -> None:
    hub.add("acme/faq", FILES, sizes={"data/train-1.jsonl": 2**30})


GATED = (
    "hf://datasets/acme/faq is gated: HF_TOKEN is not set, or its account has not accepted the conditions; "
    "accept them at {hub}/datasets/acme/faq, and set HF_TOKEN to a token of that account"
)
PAGE = "{hub}/datasets/acme/faq"


@pytest.mark.parametrize(
    ("state", "path", "message"),
    [
        (_gated, "/data/train-0.jsonl", GATED),
        (_private, "", "hf://datasets/acme/faq: not found, or you do not have access; fix the name"),
        (_without_commit, "", f'hf://datasets/acme/faq has no revision "{COMMIT}"; choose a commit of {PAGE}/commits'),
        (_refusing, "", f"{{hub}} answered with the status 403 for {BASE}; fix HF_TOKEN"),
        (_huge, "", f"{BASE} has 1,073,742,544 bytes, more than the limit of 1,073,741,824; name a smaller file"),
        (None, "/none.jsonl", f'{BASE} has no file "none.jsonl"; choose a file of {PAGE}/tree/{COMMIT}'),
        (None, "/data/none-*", f'no data file "data/none-*" in {BASE}; choose one of data/test-0.jsonl, data/train-0'),
    ],
)
def test_what_cannot_be_read_is_one_message(
    reconcile: Cli, hub: DatasetHub, state: Callable[[DatasetHub], None] | None, path: str, message: str
) -> None:
    hub.add("acme/faq", FILES)
    if state:
        state(hub)
    declare(reconcile, f"{BASE}{path}")

    validated, inspected = reconcile("validate"), reconcile("data", "inspect", f"{BASE}{path}")

    expected = message.format(hub=hub.address)
    assert (validated.status, inspected.status) == (1, 1)
    assert validated.out.startswith(f"specs/faq.yaml:7:11: spec.dataset.path: {expected}")
    assert inspected.err.startswith(f"Error: {expected}")


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("hf://datasets/acme/faq", "write hf://datasets/acme/faq@COMMIT with the commit that `git ls-remote"),
        ("hf://datasets/acme/faq@main/a.csv", "write hf://datasets/acme/faq@COMMIT/a.csv with the commit that `git"),
        ("hf://datasets/acme/faq@0123abc", "with all digits of the commit, from https://huggingface.co/datasets"),
        ("hf://spaces/acme/faq", "write hf://datasets/OWNER/NAME@COMMIT/FILE"),
    ],
)
def test_a_manifest_names_a_commit(reconcile: Cli, path: str, remedy: str) -> None:
    declare(reconcile, path)
    refused = reconcile("validate")
    assert refused.status == 1
    assert "specs/faq.yaml:7:11: spec.dataset.path: " in refused.out
    assert remedy in refused.out


def test_the_extra_is_named_where_it_is_missing(reconcile: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    declare(reconcile, BASE)
    message = "needs huggingface_hub 1.24 or newer; run `pip install 'tuned-model-reconciler[hub]'`\n"
    assert message in reconcile("validate").out
    assert reconcile("data", "inspect", "hf://datasets/acme/faq").err.endswith(message)


def test_without_the_network_the_cache_is_read(
    reconcile: Cli, hub: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/faq", FILES)
    declare(reconcile, BASE)
    assert reconcile("validate").status == 0
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    cached, missing = reconcile("validate"), reconcile("data", "inspect", f"{BASE}/data/test-0.jsonl")

    assert cached.status == 0, cached.out
    assert missing.err == (
        f"Error: {BASE}/data/test-0.jsonl is not in the cache, and HF_HUB_OFFLINE is set; "
        "unset HF_HUB_OFFLINE, or run the command with network access first\n"
    )
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_named(
    reconcile: Cli, hub: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    refused = reconcile("data", "inspect", "hf://datasets/acme/faq")
    assert hub.requests == []
    assert refused.status == 1
    assert refused.err.startswith("Error: cannot read hf://datasets/acme/faq from http://127.0.0.1:9: ")
    assert refused.err.endswith("; check the network, and HF_ENDPOINT if it is set\n")


def test_a_link_in_the_cache_does_not_lead_out_of_it(reconcile: Cli, hub: DatasetHub) -> None:
    hub.add("acme/faq", FILES)
    secret = reconcile.folder / "secret.jsonl"
    secret.write_text(rows("secret"))
    planted = reconcile.folder / f"cache/datasets--acme--faq/snapshots/{COMMIT}/data/train-0.jsonl"
    planted.parent.mkdir(parents=True)
    planted.symlink_to(secret)
    declare(reconcile, f"{BASE}/data/train-0.jsonl")

    refused = reconcile("validate")

    assert f"{BASE}/data/train-0.jsonl: a link in the cache leads out of it; remove the link {planted}" in refused.out


def test_a_cache_that_cannot_be_written_is_named(
    reconcile: Cli, hub: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/faq", FILES)
    (reconcile.folder / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(reconcile.folder / "file/cache"))
    refused = reconcile("data", "inspect", f"{BASE}/data/test-0.jsonl")
    assert refused.status == 1
    assert refused.err.startswith("Error: cannot write the cache of huggingface_hub: Not a directory: ")
    assert refused.err.endswith("; free space, check its permissions, or set HF_HOME to another folder\n")


def test_problems_name_the_file_they_are_in(reconcile: Cli, hub: DatasetHub) -> None:
    hub.add("acme/faq", {**FILES, "data/train-1.jsonl": rows("x", 2) + '{"question": "y", "answer": ""}\n'})
    declare(reconcile, BASE)

    found = reconcile("validate").out.splitlines()
    inspected = reconcile("data", "inspect", BASE).out

    first, second = f"{BASE}/data/train-0.jsonl", f"{BASE}/data/train-1.jsonl"
    assert f"{second}:3:1: spec.dataset.path: the output is empty; fill it in, or delete the example" in found
    assert (
        f"{second}:1:1: warning: spec.dataset.path: 2 examples are duplicates of earlier ones: "
        f"line 1 of {second} and line 2 of {second}; delete them"
    ) in found
    assert f"      {second}:2:1 (example 22), like example 2 on line 2 of {first}\n" in inspected
    assert f"      {second}:3:1\n" in inspected


def test_checks_and_data_commands_read_the_hub(reconcile: Cli, hub: DatasetHub) -> None:
    hub.add("acme/faq", FILES)
    check = "    - name: unseen\n      dataset: {path: 'PATH', minimum: 0, inputField: question, outputField: answer}\n"
    declare(reconcile, f"{BASE}/data/train-0.jsonl")
    with (reconcile.specs / "faq.yaml").open("a") as file:
        file.write("  checks:\n" + check.replace("PATH", f"{BASE}/data/test-0.jsonl"))
    latest = "hf://datasets/acme/faq@main/data"

    assert reconcile("validate").status == 0
    assert reconcile("data", "convert", f"{latest}/test-0.jsonl", "--to", "csv").out == (
        "text_input,output\nt 0,0\nt 1,1\n"
    )
    compared = reconcile("data", "diff", f"{latest}/train-0.jsonl", f"{latest}/test-0.jsonl")
    assert "2 added, 20 removed" in compared.out
    split = ("data", "split", f"{latest}/train-0.jsonl", "--held-out", "5")
    assert reconcile(*split).err.endswith("; add --out FILE\n")
    assert "the files have the format of" in reconcile(*split, "--out", "mine.csv").err
    assert "mine.zip: the files have the format of" in reconcile(*split, "--out", "mine.zip").err
    assert (
        reconcile(*split, "--out", "mine.jsonl").out
        == "mine.train.jsonl: 15 examples\nmine.held-out.jsonl: 5 examples\n"
    )
    several = reconcile("data", "split", "hf://datasets/acme/faq", "--held-out", "5", "--out", "mine.jsonl")
    assert "several files cannot be split; convert it first: reconcile data convert" in several.err


def test_plan_compares_with_the_former_commit(reconcile: Cli, hub: DatasetHub) -> None:
    hub.repositories["acme/faq"] = Repository({OLD_COMMIT: {"a.jsonl": rows("x")}, COMMIT: {"a.jsonl": rows("x", 22)}})
    declare(reconcile, f"hf://datasets/acme/faq@{OLD_COMMIT}/a.jsonl")
    GitRepository(reconcile.folder).commit()
    declare(reconcile, f"{BASE}/a.jsonl")

    planned = reconcile("plan", "--base", "HEAD")

    assert "a.jsonl: +2 −0 ~0 examples" in planned.out  # noqa: RUF001 - as it is printed
    assert f"at HEAD it was hf://datasets/acme/faq@{OLD_COMMIT}/a.jsonl" in planned.out


def test_the_environment_names_the_hub_and_the_cache(reconcile: Cli, hub: DatasetHub) -> None:
    hub.add("acme/faq", FILES)
    reconcile.environ |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(reconcile.folder / "home")}
    shown, errors = reconcile.process("data", "convert", f"{BASE}/data/test-0.jsonl", "--to", "csv").communicate()
    assert (shown, errors) == ("text_input,output\nt 0,0\nt 1,1\n", "")
    assert (reconcile.folder / f"home/hub/datasets--acme--faq/snapshots/{COMMIT}/data/test-0.jsonl").exists()
