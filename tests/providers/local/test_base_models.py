"""Which base models can be trained on this machine, and how their files are used."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
from msgspec.structs import replace

from reconciler.domain.model import UNKNOWN_DATA, Dataset, HyperparameterValue, Target
from reconciler.providers.local.base_models import Fault, Places, read_base_model
from reconciler.providers.local.capabilities import CAPABILITIES, effective_hyperparameters, read_hyperparameters
from reconciler.providers.local.models import LocalRecord
from reconciler.providers.local.spec import is_safe
from reconciler.providers.local.usage import usage_of
from reconciler.trainer.run_files import BaseModel

COMMIT = "a" * 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("root/base", "outside/base"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("config.json", "model.safetensors"):
            (tmp_path / name / file).touch()
    (tmp_path / "root/base.gguf").touch()
    (tmp_path / "root/link").symlink_to(tmp_path / "outside/base")
    (tmp_path / "root/empty").mkdir()
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"acme/tiny@{COMMIT}", BaseModel(hub="acme/tiny", revision=COMMIT)),
        ("./base", BaseModel(folder="ROOT/base")),
        ("./base.gguf", BaseModel(gguf="ROOT/base.gguf")),
        ("./none", "no such folder; fix the path, which is relative to ROOT"),
        ("./none.gguf", "no such file; fix the path, which is relative to ROOT"),
        ("./empty", "has no config.json or no weights in safetensors; name a folder as transformers saves it"),
        ("../outside/base", "outside the repository; pass --allow-folder OUTSIDE if you trust this folder"),
        ("./link", "outside the repository; pass --allow-folder OUTSIDE if you trust this folder"),
        ("gemini-3.5-flash", "expected OWNER/NAME@COMMIT, or the path of a folder or of a GGUF file; write"),
    ],
)
def test_a_base_model_is_pinned_or_inside_the_repository(root: Path, name: str, expected: BaseModel | str) -> None:
    outside = root.with_name("outside")
    found = read_base_model(name, Places(root))
    if isinstance(expected, str):
        assert expected.replace("OUTSIDE", str(outside)).replace("ROOT", str(root)) in str(found)
        return
    fields = {name: value.replace("ROOT", str(root)) for name, value in vars_of(expected).items()}
    assert found == replace(expected, **fields)


def vars_of(base: BaseModel) -> dict[str, str]:
    return {"hub": base.hub, "revision": base.revision, "folder": base.folder, "gguf": base.gguf}


def test_a_folder_that_the_user_has_allowed_may_have_base_models(root: Path) -> None:
    outside = root.with_name("outside")
    assert read_base_model(f"{outside}/base", Places(root, [outside])) == BaseModel(folder=f"{outside}/base")
    assert isinstance(read_base_model(f"{outside}/base", Places(root, [root.with_name("out")])), Fault)


@pytest.mark.parametrize(
    ("declared", "examples", "expected"),
    [
        ({}, 15, {"epochCount": 3, "batchSize": 8, "rank": 16, "alpha": 32, "learningRate": 0.0002}),
        ({"rank": 8}, 1000, {"epochCount": 1, "rank": 8, "alpha": 16}),
        ({"gradientAccumulation": 4}, 15, {"batchSize": 2}),
        ({}, 15, {"targetModules": "all-linear", "packing": "false", "tuning": "lora"}),
        ({"tuning": "full"}, 15, {"tuning": "full", "learningRate": 0.00002}),
    ],
)
def test_a_plan_shows_the_defaults_of_the_trainer(
    declared: dict[str, HyperparameterValue], examples: int, expected: dict[str, HyperparameterValue]
) -> None:
    found = effective_hyperparameters(declared, Dataset(UNKNOWN_DATA, examples=examples))
    assert {name: found[name] for name in expected} == expected
    assert found.keys() <= CAPABILITIES.hyperparameters


def test_hyperparameters_that_are_texts_are_those_of_the_trainer() -> None:
    declared = {"tuning": "qlora", "targetModules": "q_proj,v_proj", "packing": "true", "schedule": "cosine"}
    found, tuning = read_hyperparameters(declared)
    assert (tuning, found.target_modules, found.packing, found.schedule) == (
        "qlora",
        ("q_proj", "v_proj"),
        True,
        "cosine",
    )


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("https://gpu.example/v1", True),
        ("http://gpu.example/v1", False),
        ("https://user@gpu.example/v1", False),
        ("https://gpu.example/v1?x=1", False),
        ("file:///v1", False),
    ],
)
def test_an_inference_server_has_tls_or_is_on_this_machine(url: str, safe: bool) -> None:  # noqa: FBT001 - a table
    assert is_safe(url) == safe


TARGET = Target("default", "reconcile.yaml", "local", "demo", settings=MappingProxyType({"store": "store"}))
FOLDER = "numbers-3kq7w2ma/starts/2/adapter"


@pytest.mark.parametrize(
    ("base", "rank", "vllm", "loaded", "llama"),
    [
        (
            ("acme/tiny", COMMIT),
            12,
            f"vllm serve acme/tiny --revision {COMMIT} --enable-lora --lora-modules KEY=DIR --max-lora-rank 16",
            f"'acme/tiny', revision='{COMMIT}'",
            "python convert_lora_to_gguf.py --base-model-id acme/tiny --outfile KEY.gguf DIR",
        ),
        (
            ("./base", ""),
            8,
            "vllm serve ROOT/base --enable-lora --lora-modules KEY=DIR --max-lora-rank 8",
            "'ROOT/base'",
            "python convert_lora_to_gguf.py --base ROOT/base --outfile KEY.gguf DIR",
        ),
        (
            ("./base.gguf", ""),
            600,
            "vllm serve ROOT/base.gguf --enable-lora --lora-modules KEY=DIR --max-lora-rank 512",
            "'ROOT', gguf_file='base.gguf'",
            "python convert_lora_to_gguf.py --base ROOT --outfile KEY.gguf DIR",
        ),
        (
            ("./base", ""),
            0,
            "vllm serve DIR --served-model-name KEY",
            "'DIR'",
            "python convert_hf_to_gguf.py DIR --outfile KEY.gguf",
        ),
    ],
    ids=["hub", "folder", "gguf", "whole model"],
)
def test_the_files_of_a_model_can_be_used(
    tmp_path: Path, base: tuple[str, str], rank: int, vllm: str, loaded: str, llama: str
) -> None:
    name, revision = base
    recorded = {"adapter": FOLDER, "baseModel": name, "revision": revision, "rank": rank}
    usage = usage_of(TARGET, tmp_path, "local/numbers-3kq7w2ma", recorded)
    assert usage

    def shown(text: str) -> str:
        return text.replace("DIR", usage.folder).replace("ROOT", str(tmp_path)).replace("KEY", "numbers-3kq7w2ma")

    assert usage.folder == f"{tmp_path}/store/{FOLDER}"
    assert usage.commands["vllm"] == (shown(vllm),)
    assert usage.commands["llamaCpp"][0] == shown(llama)
    assert f"model = AutoModelForCausalLM.from_pretrained({shown(loaded)})" in usage.commands["transformers"]


@pytest.mark.parametrize("adapter", ["../../etc", "/etc", "a/../b", "a/starts/1/adapter/x", ""])
def test_a_record_does_not_lead_out_of_the_store(tmp_path: Path, adapter: str) -> None:
    assert usage_of(TARGET, tmp_path, "local/a", {"adapter": adapter, "baseModel": "./base"}) is None
    assert LocalRecord(adapter).adapter == adapter
