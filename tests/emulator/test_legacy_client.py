"""google-generativeai, which Google keeps no longer, against the service's v1beta on a port.

It needs an older google-ai-generativelanguage than the other clients do, and so an environment of its own.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.emulator_process import Process, running

pytestmark = pytest.mark.filterwarnings(
    "ignore:The argument `including_default_value_fields`:DeprecationWarning"  # it lags behind the protobuf it uses
)
REQUEST = Path(__file__).parent.parent / "fixtures" / "legacy" / "create_tuned_model.request.json"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("legacy")) as service:
        yield service


@pytest.fixture(scope="module")
def legacy(service: Process) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # on import it says that its support has ended
        reason = "google-generativeai cannot be installed beside the other clients"
        module = pytest.importorskip("google.generativeai", reason=reason)
    module.configure(api_key="any", transport="rest", client_options={"api_endpoint": service.url})
    return module


def test_every_call_of_the_quickstart_succeeds(service: Process, legacy: Any) -> None:
    examples = json.loads(REQUEST.read_text(encoding="utf-8"))["tuning_task"]["training_data"]["examples"]
    base, *_ = [model for model in legacy.list_models() if "createTunedModel" in model.supported_generation_methods]
    assert legacy.GenerativeModel(base.name).generate_content("55").text.startswith("(simulated answer")
    operation = legacy.create_tuned_model(
        source_model=base.name,
        training_data=examples["examples"],
        id="legacy",
        epoch_count=3,
        batch_size=2,
        learning_rate=0.001,
    )
    assert operation.metadata.total_steps == 23
    service.advance_to(20)
    assert not operation.done()
    assert (operation.metadata.completed_steps, len(operation.metadata.snapshots)) == (11, 11)
    service.advance_to(1000)
    assert operation.result().name == "tunedModels/legacy"
    assert len(operation.result().tuning_task.snapshots) == 23
    legacy.create_tuned_model(source_model=base.name, training_data=examples["examples"], id="other")
    assert [model.name for model in legacy.list_tuned_models(page_size=1)] == [
        "tunedModels/legacy",
        "tunedModels/other",
    ]
    legacy.delete_tuned_model("tunedModels/other")
    changed = legacy.update_tuned_model("tunedModels/legacy", {"description": "Says the next number."})
    assert changed.description == "Says the next number."
    permissions = legacy.get_tuned_model("tunedModels/legacy").permissions
    permissions.create(role="READER", grantee_type="EVERYONE")
    assert len(list(permissions.list())) == 2
    model = legacy.GenerativeModel("tunedModels/legacy")
    assert model.generate_content("seven", generation_config={"temperature": 0}).text == "eight"
    legacy.delete_tuned_model("tunedModels/legacy")
    assert list(legacy.list_tuned_models()) == []
