"""Every method of google-genai that touches tuning, in both of its modes, against the service on a port.

The tables have a reason for each method that fails, and what it fails with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from google.oauth2.credentials import Credentials
from msgspec import Struct

from support.emulator_process import Process, running
from support.emulator_vertex import NUMBERS, URI, lines, scored
from support.emulator_world import BASE_MODELS, REQUEST
from support.google_clients import genai

pytestmark = pytest.mark.filterwarnings(
    "ignore:The SDK's tuning implementation is experimental"  # google-genai warns on every call of its tunings
)
BASE, DEVELOPER_BASE = "gemini-3.5-flash", BASE_MODELS["v1beta"]
DATA = {"gcs_uri": URI}
PAIRS = {"gcs_uri": "gs://data/pairs.jsonl"}


class Tuned(Struct):
    """A client, and a model that was tuned and is deployed."""

    client: Any
    job: str
    model: str
    endpoint: str
    undeploy: Callable[[], None]


class Row(Struct):
    """A call of a method; ``expected`` is of its result. A method that fails has a reason, and what it raises.

    All rows of a mode share one model, which the last row deletes.
    """

    method: str
    call: Callable[[Tuned], Any]
    expected: Callable[[Any], bool] = bool
    reason: str = ""
    raises: str = ""


def tuned_with(**config: Any) -> Callable[[Tuned], Any]:
    return lambda tuned: tuned.client.tunings.tune(base_model=BASE, training_dataset=DATA, config=config)


def cancelled(tuned: Tuned) -> Any:
    job = tuned.client.tunings.tune(base_model=BASE, training_dataset=DATA)
    tuned.client.tunings.cancel(name=job.name)
    return tuned.client.tunings.get(name=job.name)


def deleted(tuned: Tuned) -> Any:
    tuned.undeploy()
    tuned.client.models.delete(model=tuned.model)
    with pytest.raises(genai.errors.ClientError, match=r"not found|does not exist"):
        tuned.client.models.get(model=tuned.model)
    return True


def streamed(tuned: Tuned) -> Any:
    stream = tuned.client.models.generate_content_stream(
        model=tuned.endpoint, contents="two hundred", config={"temperature": 0}
    )
    return [(part.text, part.candidates[0].finish_reason) for part in stream]


def rewarded(tuned: Tuned) -> Any:
    return tuned.client.tunings.validate_reward(
        parent="projects/demo/locations/us-central1",
        sample_response={"role": "model"},
        example={},
        single_reward_config={},
    )


def listed(tuned: Tuned, **config: Any) -> list[str]:
    return [model.name for model in tuned.client.models.list(config=config)]


def in_three_parts(parts: Any) -> bool:
    return bool(parts == [("two", None), (" hundred", None), (" one", genai.types.FinishReason.STOP)])


MASK = "the service requires an update mask, which google-genai does not send"
COMMON = (
    Row("tunings.get", lambda tuned: tuned.client.tunings.get(name=tuned.job), lambda job: bool(job.has_succeeded)),
    Row("models.get", lambda tuned: tuned.client.models.get(model=tuned.model)),
    Row("models.list", lambda tuned: tuned.model in listed(tuned, query_base=False, page_size=1)),
    Row(
        "models.generate_content",
        lambda tuned: tuned.client.models.generate_content(
            model=tuned.endpoint, contents="seven", config={"temperature": 0}
        ),
        lambda answer: bool(answer.text == "eight"),
    ),
    Row("models.generate_content_stream", streamed, in_three_parts),
    Row(
        "chats.create",
        lambda tuned: tuned.client.chats.create(model=tuned.endpoint, config={"temperature": 0}).send_message("seven"),
        lambda answer: bool(answer.text == "eight"),
    ),
)
VERTEX = (
    *COMMON,
    Row("tunings.tune", tuned_with(epoch_count=3, adapter_size="ADAPTER_SIZE_TWO", labels={"team": "demo"})),
    Row("tunings.tune", tuned_with(validation_dataset=DATA, export_last_checkpoint_only=True, description="numbers")),
    Row(
        "tunings.tune",
        lambda tuned: tuned.client.tunings.tune(base_model=tuned.model, training_dataset=DATA),
        lambda job: bool(job.pre_tuned_model.checkpoint_id),
    ),
    Row(
        "tunings.tune",
        lambda tuned: tuned.client.tunings.tune(
            base_model=BASE, training_dataset=PAIRS, config={"method": "PREFERENCE_TUNING", "beta": 0.2}
        ),
        lambda job: bool(job.preference_optimization_spec.hyper_parameters.beta == 0.2),
    ),
    Row(
        "tunings.tune",
        lambda tuned: tuned.client.tunings.tune(
            base_model="qwen/qwen3@qwen3-8b",
            training_dataset=DATA,
            config={"output_uri": "gs://data/out", "tuning_mode": "TUNING_MODE_FULL", "learning_rate": 0.001},
        ),
        lambda job: bool(job.output_uri == "gs://data/out" and job.supervised_tuning_spec.tuning_mode),
    ),
    Row("tunings.list", lambda tuned: tuned.job in [job.name for job in tuned.client.tunings.list()]),
    Row("tunings.cancel", cancelled, lambda job: bool(job.state == "JOB_STATE_CANCELLED")),
    Row(
        "tunings.validate_reward",
        rewarded,
        reason="reinforcement tuning is not simulated",
        raises="Method not found",
    ),
    Row("models.list", lambda tuned: f"publishers/google/models/{BASE}" in listed(tuned)),
    Row("models.get", lambda tuned: tuned.client.models.get(model=BASE)),
    Row(
        "models.update",
        lambda tuned: tuned.client.models.update(model=tuned.model, config={"description": "x"}),
        reason=MASK,
        raises="update_mask: is required",
    ),
    Row(
        "models.count_tokens",
        lambda tuned: tuned.client.models.count_tokens(
            model=tuned.endpoint, contents="one two", config={"system_instruction": "Count."}
        ),
        lambda count: bool(count.total_tokens == 3),
    ),
    Row(
        "models.compute_tokens",
        lambda tuned: tuned.client.models.compute_tokens(model=tuned.endpoint, contents="one"),
        reason="the embedded service has no tokenizer",
        raises="Method not found",
    ),
)
DEVELOPER = (
    *COMMON,
    Row(
        "tunings.tune",
        lambda tuned: tuned.client.tunings.tune(
            base_model=DEVELOPER_BASE, training_dataset={"examples": [{"text_input": "1", "output": "2"}]}
        ),
        reason="google-genai leaves out the examples of its caller",
        raises="must have at least one example",
    ),
    Row(
        "tunings.list",
        lambda tuned: list(tuned.client.tunings.list()),
        reason="google-genai has no list of tunings in this mode",
        raises="only supported in",
    ),
    Row(
        "tunings.cancel",
        lambda tuned: tuned.client.tunings.cancel(name=tuned.job),
        reason="the service cancels operations, not tuned models",
        raises="Method not found",
    ),
    Row(
        "tunings.validate_reward",
        rewarded,
        reason="google-genai has no reinforcement tuning in this mode",
        raises="only supported in",
    ),
    Row("models.list", lambda tuned: DEVELOPER_BASE in listed(tuned)),
    Row("models.get", lambda tuned: tuned.client.models.get(model=DEVELOPER_BASE)),
    Row(
        "models.update",
        lambda tuned: tuned.client.models.update(model=tuned.model, config={"description": "x"}),
        lambda model: bool(model.description == "x"),
    ),
    Row(
        "models.count_tokens",
        lambda tuned: tuned.client.models.count_tokens(model=DEVELOPER_BASE, contents="one two"),
        lambda count: bool(count.total_tokens == 2),
    ),
    Row(
        "models.count_tokens",
        lambda tuned: tuned.client.models.count_tokens(model=tuned.model, contents="one"),
        reason="the service counts the tokens of base models only",
        raises="Method not found",
    ),
    Row(
        "models.compute_tokens",
        lambda tuned: tuned.client.models.compute_tokens(model=tuned.model, contents="one"),
        reason="google-genai has no compute_tokens in this mode",
        raises="only supported in",
    ),
)
DELETE = Row("models.delete", deleted)
MODES = {"vertex": (*VERTEX, DELETE), "v1": (*DEVELOPER, DELETE), "v1beta": (*DEVELOPER, DELETE)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("genai")) as service:
        pairs = [*NUMBERS, ("seven", "eight"), ("two hundred", "two hundred one")]
        upload = f"{service.url}/upload/storage/v1/b/data/o?uploadType=media&name="
        httpx.post(f"{upload}numbers.jsonl", content=lines(pairs)).raise_for_status()
        httpx.post(f"{upload}pairs.jsonl", content=scored("1", "2", "3")).raise_for_status()
        yield service


def on_vertex(service: Process) -> Tuned:
    client = genai.Client(
        vertexai=True,
        project="demo",
        location="us-central1",
        credentials=Credentials(token="any"),
        http_options=genai.types.HttpOptions(base_url=service.url, api_version="v1beta1"),
    )
    name = client.tunings.tune(base_model=BASE, training_dataset=DATA).name
    service.advance_to(1000)
    made = client.tunings.get(name=name).tuned_model

    def undeploy() -> None:
        for deployed in httpx.get(f"{service.url}/v1/{made.model}").json()["deployedModels"]:
            path = f"{service.url}/v1/{deployed['endpoint']}:undeployModel"
            httpx.post(path, json={"deployedModelId": deployed["deployedModelId"]}).raise_for_status()

    return Tuned(client, name, made.model.partition("@")[0], made.endpoint, undeploy)


def in_developer_mode(service: Process, version: str) -> Tuned:
    """The default version of google-genai 3 is ``v1``."""
    created = httpx.post(f"{service.url}/{version}/tunedModels", json={**REQUEST, "base_model": DEVELOPER_BASE})
    name = created.raise_for_status().json()["metadata"]["tunedModel"]
    service.advance_to(1000)
    options = genai.types.HttpOptions(base_url=service.url, api_version=version)
    return Tuned(genai.Client(api_key="any", http_options=options), name, name, name, lambda: None)


@pytest.mark.parametrize("mode", MODES)
def test_a_method_succeeds_or_fails_for_a_known_reason(shared: Process, mode: str) -> None:
    shared.advance_to(0)
    tuned = on_vertex(shared) if mode == "vertex" else in_developer_mode(shared, mode)
    for number, row in enumerate(MODES[mode]):
        owner, _, method = row.method.partition(".")
        if not hasattr(getattr(tuned.client, owner), method):
            continue  # an older google-genai
        row_name = f"row {number}: {row.method}"
        if row.reason:
            with pytest.raises((genai.errors.ClientError, ValueError)) as refusal:
                row.call(tuned)
            assert row.raises in str(refusal.value), row_name
        else:
            assert row.expected(row.call(tuned)), row_name


@pytest.mark.parametrize("rows", [VERTEX, DEVELOPER], ids=["vertex", "developer"])
def test_the_table_has_every_method_of_tunings(rows: tuple[Row, ...]) -> None:
    client = genai.Client(api_key="any")
    methods = {name for name in dir(client.tunings) if not name.startswith("_")}
    assert {f"tunings.{name}" for name in methods if callable(getattr(client.tunings, name))} <= {
        row.method for row in rows
    }
