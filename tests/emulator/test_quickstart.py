"""The requests of Google's old tuning quickstarts, with curl and with requests, unchanged but for host and credentials.

These pages are of the services that were retired: https://ai.google.dev/palm_docs/tuning_quickstart_rest (v1beta3), and
https://ai.google.dev/gemini-api/docs/model-tuning/tutorial (v1beta). The library of that time is in
``test_legacy_client.py``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.cases import in_turn
from support.emulator_process import Process, running
from support.emulator_world import BASE_MODELS, FIXTURES

Send = Callable[[str, str, str], tuple[int, Any]]
"""Sends a body with a method to a URL, and returns the status and the JSON of the response."""
HEADERS = {"Authorization": "Bearer ya29.any", "x-goog-user-project": "my-project"}
STRICT = (FIXTURES / "create_tuned_model.request.json").read_text(encoding="utf-8")
LENIENT = re.sub(r'("epoch_count": 3|"output": "[^"]*")', r"\1,", STRICT)
"""The body in the quickstart, with its trailing commas: they are no JSON, and Google's front end accepts them."""
PROMPTS = {
    "v1beta3": ("generateText", '{"prompt": {"text": "%s"}, "temperature": %s, "candidate_count": 2}'),
    "v1beta": (
        "generateContent",
        '{"contents": [{"parts": [{"text": "%s"}]}], "generationConfig": {"temperature": %s, "candidateCount": 2}}',
    ),
}


def curl(method: str, url: str, body: str) -> tuple[int, Any]:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    headers = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
    data = ["-H", "Content-Type: application/json", "-d", body] if body else []
    command = [program, "-sS", "--noproxy", "*", "-X", method, url, *headers, *data, "-w", "\n%{http_code}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - fixed
    content, _, status = answer.stdout.rpartition("\n")
    return int(status), json.loads(content)


def requests(method: str, url: str, body: str) -> tuple[int, Any]:
    module = pytest.importorskip("requests", reason="the package requests is not installed")
    with module.Session() as session:
        session.trust_env = False
        lenient = session.request(method, url, headers=HEADERS, data=body or None, timeout=60)
    return lenient.status_code, lenient.json()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("quickstart")) as service:
        yield service


def text_of(response: Any) -> list[str]:
    candidates = response["candidates"]
    return [each["output"] if "output" in each else each["content"]["parts"][0]["text"] for each in candidates]


def test_the_body_of_the_quickstart_is_not_json() -> None:
    assert LENIENT.count(",\n") == STRICT.count(",\n") + 16
    with pytest.raises(ValueError, match="Expecting property name"):
        json.loads(LENIENT)


@in_turn("version", PROMPTS)
@pytest.mark.parametrize("send", [curl, requests])
def test_every_request_of_the_quickstart_succeeds(shared: Process, send: Send, version: str) -> None:
    shared.advance_to(0)
    url, base = f"{shared.url}/{version}", BASE_MODELS[version]
    method, prompt = PROMPTS[version]

    def ok(verb: str, path: str, body: str = "") -> Any:
        status, answer = send(verb, path if path.startswith("http") else f"{url}/{path}", body)
        assert status == 200, answer
        return answer

    tunable = [model for model in ok("GET", "models")["models"] if "createTunedModel" in json.dumps(model)]
    assert tunable[0]["name"] == base  # the first one is the quickstart's choice
    assert len(text_of(ok("POST", f"{base}:{method}", prompt % ("55", 1.0)))) == 2

    body = LENIENT.replace(BASE_MODELS["v1beta3"], base)
    operation = ok("POST", "tunedModels", body)
    name = operation["metadata"]["tunedModel"]
    other = ok("POST", f"tunedModels?tunedModelId=other-{send.__name__}-{version}", body)["metadata"]["tunedModel"]
    assert re.fullmatch(r"tunedModels/number-generator-model-[a-z0-9]{12}", name)
    assert send("POST", f"{url}/{name}:{method}", prompt % ("55", 1.0))[0] == 400  # it trains

    seen = []
    for second in (0, 20, 40):
        shared.advance_to(second)
        polled = ok("GET", f"{shared.url}/v1/{operation['name']}")
        losses = [snapshot["meanLoss"] for snapshot in polled["metadata"].get("snapshots", [])]
        seen.append((polled["metadata"].get("completedPercent", 0), len(losses), polled.get("done", False)))
    assert seen == [(0, 0, False), (pytest.approx(47.8, abs=0.1), 11, False), (100, 23, True)]

    names, token = [], ""
    for _ in range(20):
        page = ok("GET", f"tunedModels?page_size=1&page_token={token}")
        names += [model["name"] for model in page["tunedModels"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert names == sorted(set(names), key=names.index)
    assert {name, other} <= set(names)

    model = ok("GET", name)
    assert (model["state"], model["tuningTask"]["hyperparameters"]["epochCount"]) == ("ACTIVE", 3)
    assert text_of(ok("POST", f"{name}:{method}", prompt % ("seven", 0))) == ["eight", "eight"]
    assert len(text_of(ok("POST", f"{name}:{method}", prompt % ("4", 1.0)))) == 2

    described = '{"description": "This is my model."}'
    assert ok("PATCH", f"{name}?updateMask=description", described)["description"] == "This is my model."
    assert [ok("DELETE", each) for each in (name, other)] == [{}, {}]
    assert send("GET", f"{url}/{name}", "")[0] == 404
