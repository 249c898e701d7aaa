"""prompt on the command line, over the embedded service and over Vertex AI."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.commands.main import main
from reconciler.emulator.generativelanguage.inference import BLOCKED_ANSWER, BLOCKED_PROMPT, NO_ANSWER
from reconciler.environment import Environment
from support.cli_world import Cli, Result, Snapshot
from support.render_values import held_to
from support.vertex_fronts import altering, refusal, refusing
from support.vertex_runs import apply, manifest, on
from support.vertex_world import PROJECT, World, fresh, lock_file, lock_of, resume

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ADDER = "prompt", "adder"


@pytest.fixture
def adder(trained: Cli) -> Cli:
    """A project whose one model serves."""
    return trained


def key_of(reconcile: Cli) -> str:
    key: str = reconcile.lock["adder"]["serving"]
    return key


def edit(reconcile: Cli, **fields: Any) -> None:
    """Change what is recorded of the serving generation."""
    document = json.loads(reconcile.lock_file.read_text())
    document["models"]["adder"]["generations"][0].update(fields)
    reconcile.lock_file.write_text(json.dumps(document))


def test_the_answer_alone_goes_to_standard_output(adder: Cli) -> None:
    answer = adder(*ADDER, "7", "--temperature", "0")
    assert (answer.status, answer.out) == (0, "8\n")
    assert answer.err == "The answer is simulated: it is taken from the training examples.\n"
    assert adder(*ADDER, "7", "-q", "--temperature", "0").err == ""


def test_the_prompt_can_come_from_standard_input(adder: Cli) -> None:
    for arguments in ((), ("-",), ("-", "specs")):
        assert adder(*ADDER, *arguments, "--temperature", "0", stdin=b"7\n").out == "8\n"


def test_the_final_line_break_is_not_part_of_the_prompt(adder: Cli) -> None:
    asked = adder(*ADDER, "--format", "json", stdin="eins\nzwei ä\r\n\r\n".encode()).document["text"]
    assert asked == "eins\nzwei ä\r\n"


def test_reading_from_a_terminal_is_announced(adder: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(BytesIO):
        def isatty(self) -> bool:
            return True

    environment = Environment(
        cwd=adder.folder, environ={}, stdin=Terminal(b"7\n"), clock=adder.clock, sleeper=adder.clock.sleep
    )
    assert main([*ADDER, "--temperature", "0"], environment) == 0
    said = capsys.readouterr()
    assert said.out == "8\n"
    assert said.err.startswith("Type the prompt, and end it with Ctrl-D (on Windows Ctrl-Z, Enter).\n")


def test_a_result_in_a_file_is_utf8_on_any_code_page(reconcile: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    reconcile.manifest("adder", examples=[(str(number), "日本 é") for number in range(20)])
    assert reconcile("apply", "--yes").status == 0
    environment = Environment(cwd=reconcile.folder, environ={}, clock=reconcile.clock, sleeper=reconcile.clock.sleep)
    for encoding in ("cp1252", "ascii", "cp932"):
        for arguments in ((), ("--format", "json")):
            streams = TextIOWrapper(BytesIO(), encoding=encoding), TextIOWrapper(BytesIO(), encoding=encoding)
            with monkeypatch.context() as patched:
                for name, stream in zip(("stdout", "stderr"), streams, strict=True):
                    patched.setattr(sys, name, stream)
                assert main([*ADDER, "7", "--temperature", "0", *arguments], environment) == 0
            out, err = (stream.detach().getvalue().decode("utf-8") for stream in streams)
            assert "日本 é" in (json.loads(out)["candidates"][0]["text"] if arguments else out)
            assert "simulated" in err


def test_the_document_holds_it_all(adder: Cli) -> None:
    options = ["--temperature", "0", "--top-p", "0.5", "--top-k", "3", "--candidates", "2", "--max-tokens", "9"]
    document = held_to("prompt", adder(*ADDER, "7", *options, "--format", "json").document)
    key = key_of(adder)
    assert (document["kind"], document["simulated"], document["key"]) == ("Prompt", True, key)
    assert document["remote"] == f"tunedModels/{key}"
    assert document["sampling"] == {"temperature": 0, "topP": 0.5, "topK": 3}
    assert document["maxTokens"] == 9
    assert document["candidates"] == [{"text": "8"}, {"text": "8"}]


def test_several_answers_stand_apart_and_change_nothing(adder: Cli) -> None:
    before = adder.lock_file.read_bytes()
    assert adder(*ADDER, "7", "--temperature", "0", "--candidates", "3").out == "8\n---\n8\n---\n8\n"
    assert adder.lock_file.read_bytes() == before


def test_many_answers_take_several_requests(adder: Cli) -> None:
    answer = adder(*ADDER, "7", "--candidates", "20", "--format", "json")
    assert len(answer.document["candidates"]) == 20


# The service withholds.


def refuse_blocked(reconcile: Cli) -> None:
    answer = reconcile(*ADDER, BLOCKED_PROMPT)
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == "Error: the service blocked the prompt: SAFETY\n"


def test_a_blocked_prompt_has_the_reason_of_the_service(adder: Cli) -> None:
    refuse_blocked(adder)

    answer = adder(*ADDER, BLOCKED_PROMPT, "--format", "json", "-q")
    document = held_to("prompt", answer.document)
    assert (answer.status, document["exitStatus"], document["blocked"]) == (1, 1, "SAFETY")
    assert document["message"] == "the service blocked the prompt: SAFETY"
    assert answer.err == "Error: the service blocked the prompt: SAFETY\n"


def test_a_withheld_or_shortened_answer_has_the_reason_of_the_service(reconcile: Cli) -> None:
    """This API version gives for each answer why it ended."""
    reconcile.target("  apiVersion: v1beta\n")
    words = [(f"say {number}", f"one two three {number}") for number in range(20)]
    reconcile.manifest("adder", examples=words)
    assert reconcile("apply", "--yes").status == 0

    refuse_blocked(reconcile)
    for text, reason in ((BLOCKED_ANSWER, "SAFETY"), (NO_ANSWER, "OTHER")):
        answer = reconcile(*ADDER, text)
        said = f"Error: the service withheld the answer: {reason}\n"
        assert (answer.status, answer.out, answer.err) == (1, "", said)
        document = held_to("prompt", reconcile(*ADDER, text, "--format", "json").document)
        assert "blocked" not in document
        assert [one["text"] for one in document["candidates"]] == [""]
    answer = reconcile(*ADDER, "say 7", "--max-tokens", "2", "--temperature", "0")
    assert (answer.status, answer.out) == (0, "one two\n")
    assert answer.err.endswith("note: the answer is cut short: MAX_TOKENS; increase --max-tokens\n")


# What cannot be asked.


def test_invalid_values_are_usage_errors(adder: Cli) -> None:
    for arguments, said in {
        ("--temperature", "2.1"): "2.1 is not in the range 0<=x<=2",
        ("--temperature", "nan"): "is not a number",
        ("--top-p", "-0.1"): "-0.1 is not in the range 0<=x<=1",
        ("--top-k", "0"): "0 is not in the range 1<=x<=2147483647",
        ("--candidates", "101"): "101 is not in the range 1<=x<=100",
        ("--max-tokens", "0"): "0 is not in the range 1<=x<=2147483647",
        ("--max-tokens", "many"): "'many' is not a valid integer range",
    }.items():
        answer = adder(*ADDER, "7", *arguments)
        assert (answer.status, answer.out) == (64, "")
        assert said in answer.err


def test_an_empty_prompt_is_a_usage_error(adder: Cli) -> None:
    empty = "the prompt is empty; pass TEXT, or write the prompt to standard input"
    for arguments, stdin, said in (
        ((), b"", empty),
        ((), b"\n", empty),
        (("",), b"", empty),
        ((), b"ab\xff", "the prompt on standard input is not UTF-8: invalid byte at position 2; convert it to UTF-8"),
        (("\udcff",), b"", "the prompt is not Unicode text; write it in UTF-8"),
        (("-", "-"), b"7", "standard input cannot be both the prompt and a manifest; pass the prompt as TEXT"),
    ):
        answer = adder(*ADDER, *arguments, stdin=stdin)
        assert (answer.status, answer.out, answer.err) == (64, "", f"Error: {said}\n")


def test_standard_input_that_is_closed_is_empty(adder: Cli) -> None:
    command = 'exec "$0" -m reconciler prompt adder <&-'
    ended = subprocess.run(  # noqa: S603 - our own command
        ["/bin/sh", "-c", command, sys.executable], cwd=adder.folder, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr == "Error: the prompt is empty; pass TEXT, or write the prompt to standard input\n"


def test_an_unknown_name_is_an_error(adder: Cli) -> None:
    answer = adder("prompt", "addr", "7")
    assert answer.status == 1
    assert answer.err == (
        "Error: addr not found: no manifest and no model in specs/reconcile.lock.json has this name; did you mean"
        " adder?\n"
    )


def test_a_manifest_that_was_never_applied(adder: Cli) -> None:
    adder.manifest("other")
    answer = adder("prompt", "other", "7")
    assert (answer.status, answer.err) == (
        1,
        "Error: other has no serving generation: it was never applied; run reconcile apply\n",
    )


def test_no_generation_is_serving_during_the_first_training(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile("apply", "--yes", "--no-wait")
    (key,) = (one["key"] for one in reconcile.lock["adder"]["generations"])

    answer = reconcile(*ADDER, "7")
    assert answer.status == 1
    assert answer.err == (
        "Error: adder has no serving generation: none of its generations has been promoted yet; run reconcile apply\n"
    )
    answer = reconcile(*ADDER, "7", "--generation", key)
    assert answer.status == 1
    assert answer.err == (f"Error: {key} is not ready: it was recorded as CREATING; run reconcile wait\n")


def test_a_generation_that_was_rolled_back(adder: Cli) -> None:
    key = key_of(adder)
    document = json.loads(adder.lock_file.read_text())
    del document["models"]["adder"]["serving"]
    document["models"]["adder"]["rejected"] = [key]
    adder.lock_file.write_text(json.dumps(document))

    answer = adder(*ADDER, "7")
    assert answer.status == 1
    assert answer.err == (
        f"Error: adder has no serving generation: {key} was rolled back; run reconcile promote adder"
        " to promote it again\n"
    )
    assert adder(*ADDER, "7", "--temperature", "0", "--generation", key).out == "8\n"


def test_a_generation_that_is_not_ready(adder: Cli) -> None:
    for state, remedy in (
        ("MISSING", "run reconcile apply to train it again"),
        ("FAILED", "see reconcile status; name another generation of adder with --generation"),
    ):
        edit(adder, state=state)
        answer = adder(*ADDER, "7")
        assert answer.status == 1
        assert answer.err == f"Error: {key_of(adder)} is not ready: it was recorded as {state}; {remedy}\n"


def test_a_generation_that_was_never_recorded(adder: Cli) -> None:
    key = key_of(adder)
    for wanted, remedy in (("adder-zzzzzzzz", f"recorded generations: {key}"), (f"{key}x", f"did you mean {key}?")):
        answer = adder(*ADDER, "7", "--generation", wanted)
        assert answer.status == 64
        assert answer.err == f"Error: adder has no recorded generation {wanted}; {remedy}\n"


def test_a_model_that_was_deleted_by_hand(adder: Cli) -> None:
    (adder.specs / ".reconcile" / "default.sqlite3").unlink()
    key = key_of(adder)
    answer = adder(*ADDER, "7")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == (
        f"Error: {key} is gone: the service has no tunedModels/{key}; run reconcile apply to train it again\n"
    )


# Which generation, and its own preamble.


def test_the_generations_own_preamble_is_put_before_the_prompt(reconcile: Cli) -> None:
    file = reconcile.manifest("adder")
    file.write_text(file.read_text().replace("adder.csv}", 'adder.csv, preamble: "after "}'))
    assert reconcile("apply", "--yes").status == 0
    file.write_text(file.read_text().replace("after ", "before "))

    answer = reconcile(*ADDER, "7", "--temperature", "0", "--format", "json")

    document = answer.document
    assert (document["preamble"], document["text"]) == ("after ", "7")
    assert document["candidates"] == [{"text": "8"}], "the whole input of a training example is answered exactly"
    assert answer.err.splitlines()[0] == (
        f"warning: specs/adder.yaml:3:18: spec.dataset.preamble: differs from the preamble that {document['key']}"
        " was trained with, which precedes the prompt; run reconcile apply to train with the new preamble"
    )


def test_an_older_generation_can_be_prompted(adder: Cli) -> None:
    old = key_of(adder)
    adder.manifest("adder", examples=[(str(number), str(number + 100)) for number in range(20)])
    assert adder("apply", "--yes").status == 0
    assert adder(*ADDER, "7", "--temperature", "0").out == "107\n"
    assert adder(*ADDER, "7", "--temperature", "0", "--generation", old).out == "8\n"


def test_a_model_without_a_manifest_can_be_prompted(adder: Cli) -> None:
    (adder.specs / "adder.yaml").unlink()
    assert adder(*ADDER, "7", "--temperature", "0").out == "8\n"


# Vertex AI.


class Overhearing:
    """A front end that keeps the bodies of prompts."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            async def kept() -> Any:
                message = await receive()
                if scope["path"].endswith(":generateContent"):
                    self.bodies.append(json.loads(message["body"]))
                return message

            await app(scope, kept, send)

        return front


def ask(reconcile: Cli, *arguments: str) -> Result:
    return on(reconcile, *ADDER, *arguments)


@pytest.fixture(scope="module")
def after_vertex(served: World, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    reconcile = Cli(tmp_path_factory.mktemp("vertex"))
    fresh(served, reconcile)
    manifest(reconcile, more="  sampling: {temperature: 0, topP: 0.5}\n")
    assert apply(reconcile).status == 0
    return reconcile.snapshot()


@pytest.fixture
def vertex(served: World, reconcile: Cli, after_vertex: Snapshot) -> World:
    """Vertex AI with an endpoint that answers."""
    return resume(served, reconcile, after_vertex)


def test_on_vertex_ai_the_endpoint_gets_the_declared_sampling(reconcile: Cli, vertex: World) -> None:
    vertex.front = overheard = Overhearing()
    endpoint = lock_of(reconcile, "vertex")["adder"]["generations"][0]["resources"]["endpoint"]

    answer = ask(reconcile, "7", "--top-k", "3", "--format", "json")

    assert vertex.lines[-1] == f"POST /v1/{endpoint}:generateContent"
    document = held_to("prompt", answer.document)
    assert document["remote"] == endpoint
    assert document["sampling"] == {"temperature": 0, "topP": 0.5, "topK": 3}
    assert document["candidates"] == [{"text": "8"}]
    (body,) = overheard.bodies
    assert body["generationConfig"] == {"temperature": 0, "topP": 0.5, "topK": 3, "candidateCount": 1}

    overheard.bodies.clear()  # the command line goes before the manifest
    ask(reconcile, "7", "--temperature", "1", "--top-p", "1")
    (body,) = overheard.bodies
    assert body["generationConfig"] == {"temperature": 1, "topP": 1, "candidateCount": 1}


def test_where_the_service_keeps_sampling_none_is_sent(reconcile: Cli, world: World) -> None:
    reconcile.manifest("adder", more="  sampling: {temperature: 0}\n")
    assert reconcile("apply", "--yes", "--target", "gl").status == 0
    world.front = overheard = Overhearing()
    assert reconcile(*ADDER, "7", "--target", "gl").out == "8\n"
    (body,) = overheard.bodies
    assert body["generationConfig"] == {"candidateCount": 1}


def test_a_model_without_an_endpoint_is_an_error(reconcile: Cli, vertex: World) -> None:
    (generation,) = lock_of(reconcile, "vertex")["adder"]["generations"]
    vertex.front = altering(_undeployed)

    answer = ask(reconcile, "7")

    assert answer.status == 1
    assert answer.err == f"Error: {generation['key']} has no endpoint; deploy its model to an endpoint in Vertex AI\n"
    assert not [line for line in vertex.lines if ":generateContent" in line]


def _undeployed(job: dict[str, Any]) -> dict[str, Any]:
    return {**job, "tunedModel": {"model": job["tunedModel"]["model"]}} if "tunedModel" in job else job


def test_a_record_without_an_endpoint_is_answered_by_the_live_one(reconcile: Cli, vertex: World) -> None:
    assert vertex
    file = lock_file(reconcile, "vertex")
    document = json.loads(file.read_text())
    del document["models"]["adder"]["generations"][0]["resources"]["endpoint"]
    file.write_text(json.dumps(document))

    assert ask(reconcile, "7").out == "8\n"


def test_a_missing_endpoint_is_an_error(reconcile: Cli, vertex: World) -> None:
    prefix = f"POST /v1/projects/{PROJECT}/locations/eu/endpoints/"
    vertex.front = refusing(refusal(404, "NOT_FOUND", "Endpoint not found."), prefix)
    answer = ask(reconcile, "7")
    assert answer.status == 1
    assert "is gone: the service has no projects/my-project/" in answer.err
    assert answer.err.endswith("run reconcile apply --target vertex to train it again\n")


def test_denied_access_to_the_endpoint_is_an_error(reconcile: Cli, vertex: World) -> None:
    vertex.front = refusing(refusal(403, "PERMISSION_DENIED", "No."), "POST /v1/projects/")
    answer = ask(reconcile, "7")
    assert answer.status == 3
    assert "failed with 403 PERMISSION_DENIED: No; ask for roles/aiplatform.user" in answer.err
