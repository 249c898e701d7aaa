from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response

from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.domain.model import Sampling
from reconciler.domain.ports import Answer, Prompt, Reply
from reconciler.providers.generativelanguage.wire import CODECS
from reconciler.providers.google.inference import InferenceCodec, merge_replies
from reconciler.providers.vertex.wire import CODEC as VERTEX_CODEC
from support.cases import each_row
from support.google_clients import gemini, palm, vertex
from support.provider_samples import judge
from support.provider_service import Script, Time, error, provider_of, script
from support.provider_vertex import vertex_of

MODEL = "tunedModels/number-generator-3kq7w2ma"
ENDPOINT = "projects/123/locations/us-central1/endpoints/9"
SERVICES: dict[str, tuple[str, str, InferenceCodec]] = {
    "v1beta3": (f"/v1beta3/{MODEL}:generateText", MODEL, CODECS["v1beta3"]),
    "v1beta": (f"/v1beta/{MODEL}:generateContent", MODEL, CODECS["v1beta"]),
    # Services may return the number of the project; requests name the target's own project by its ID.
    "v1": (f"/v1/{ENDPOINT.replace('123', 'acme-project')}:generateContent", ENDPOINT, VERTEX_CODEC),
}
CONTENTS: dict[str, Any] = {"v1beta": gemini, "v1": vertex}
FULL = Prompt("7\n\u00fc", Sampling(temperature=0.0, top_p=0.5, top_k=3), candidates=2, max_tokens=20)


@pytest.fixture(params=SERVICES)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def infer(version: str, app: Script, prompt: Prompt, remote: str | None = None, time: Time | None = None) -> Reply:
    async def run() -> Reply:
        clock = time or Time()
        async with vertex_of(app, clock) if version == "v1" else provider_of(app, clock, version) as provider:
            return await provider.infer(SERVICES[version][1] if remote is None else remote, prompt)

    return asyncio.run(run())


def refused(version: str, app: Script, remote: str | None = None) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        infer(version, app, Prompt("7"), remote)
    return caught.value


def config_of(body: dict[str, Any]) -> dict[str, Any]:
    """What a request says beyond the prompt."""
    return dict(body.get("generationConfig") or {name: value for name, value in body.items() if name != "prompt"})


def answered(version: str, *texts: str) -> dict[str, Any]:
    """The response of a service that answers with these texts."""
    if version == "v1beta3":
        return {"candidates": [{"output": text} for text in texts]}
    contents = [{"role": "model", "parts": [{"text": text}]} for text in texts]
    return {"candidates": [{"content": content, "finishReason": "STOP"} for content in contents]}


# what is sent


def test_a_prompt_is_sent_as_the_protos_have_it(version: str) -> None:
    app = script(JSONResponse(answered(version, "8", "9")))
    assert infer(version, app, FULL) == Reply((Answer("8"), Answer("9")))
    assert app.lines == [f"POST {SERVICES[version][0]}"]
    config = {"temperature": 0.0, "topP": 0.5, "topK": 3, "candidateCount": 2, "maxOutputTokens": 20}
    contents = [{"role": "user", "parts": [{"text": FULL.text}]}]
    assert app.seen[0].json() == (
        {"prompt": {"text": FULL.text}, **config}
        if version == "v1beta3"
        else {"contents": contents, "generationConfig": config}
    )
    assert judge(app.seen, version) == 1


def test_what_is_left_open_is_not_sent(version: str) -> None:
    app = script(JSONResponse(answered(version, "8")))
    infer(version, app, Prompt("7"))
    assert config_of(app.seen[0].json()) == {"candidateCount": 1}
    assert judge(app.seen, version) == 1


@each_row(("wanted", "asked"), [(1, [1]), (8, [8]), (9, [8, 1]), (20, [8, 8, 4])])
def test_more_candidates_than_one_request_gives_take_several(version: str, wanted: int, asked: list[int]) -> None:
    numbers = iter(range(wanted))
    responses = [JSONResponse(answered(version, *(str(next(numbers)) for _ in range(count)))) for count in asked]
    app = script(*responses)
    reply = infer(version, app, Prompt("7", candidates=wanted))
    assert [config_of(seen.json())["candidateCount"] for seen in app.seen] == asked
    assert reply == Reply(tuple(Answer(str(number)) for number in range(wanted)))


def test_a_prompt_is_a_read_and_repeated_as_one(version: str) -> None:
    time, busy = Time(), error(503, "UNAVAILABLE", "busy")
    app = script(busy, busy, JSONResponse(answered(version, "8")))
    assert infer(version, app, Prompt("7"), time=time) == Reply((Answer("8"),))
    assert (len(app.seen), len(time.naps)) == (3, 2)


# what is read


@pytest.mark.parametrize("integers", [False, True])
def test_palms_reason_for_no_answer_is_reported(integers: bool) -> None:  # noqa: FBT001 - a table's column
    for reason in palm.ContentFilter.BlockedReason:
        message = palm.GenerateTextResponse(filters=[palm.ContentFilter(reason=reason, message="No.")])
        body = json.loads(palm.GenerateTextResponse.to_json(message, use_integers_for_enums=integers))
        word = "" if reason.value == 0 else reason.name
        assert infer("v1beta3", script(JSONResponse(body)), Prompt("7")) == Reply((), word)


@each_row("integers", [False, True])
@each_row("version", CONTENTS)
def test_the_reason_for_a_blocked_prompt_is_reported(version: str, integers: bool) -> None:  # noqa: FBT001 - as above
    Response_ = CONTENTS[version].GenerateContentResponse  # noqa: N806 - a class
    feedback = Response_.PromptFeedback
    reasons = feedback.BlockReason if version == "v1beta" else feedback.BlockedReason
    for reason in reasons:
        message = Response_(prompt_feedback=feedback(block_reason=reason))
        body = json.loads(Response_.to_json(message, use_integers_for_enums=integers))
        word = "" if reason.value == 0 else reason.name
        assert infer(version, script(JSONResponse(body)), Prompt("7")) == Reply((), word)


@each_row("integers", [False, True])
@each_row("version", CONTENTS)
def test_why_an_answer_ended_is_reported_where_that_is_not_the_ordinary_way(
    version: str,
    integers: bool,  # noqa: FBT001 - a table's column
) -> None:
    api = CONTENTS[version]
    for reason in api.Candidate.FinishReason:
        content = api.Content(role="model", parts=[api.Part(text="eig"), api.Part(text="ht")])
        message = api.GenerateContentResponse(candidates=[api.Candidate(content=content, finish_reason=reason)])
        body = json.loads(api.GenerateContentResponse.to_json(message, use_integers_for_enums=integers))
        word = "" if reason.name in {"FINISH_REASON_UNSPECIFIED", "STOP"} else reason.name
        assert infer(version, script(JSONResponse(body)), Prompt("7")) == Reply((Answer("eight", word),))


@pytest.mark.parametrize("version", CONTENTS)
def test_what_a_model_thought_is_no_part_of_its_answer(version: str) -> None:
    api = CONTENTS[version]
    parts = [api.Part(text="Seven and one ", thought=True), api.Part(text="8"), api.Part(text=".")]
    message = api.GenerateContentResponse(candidates=[api.Candidate(content=api.Content(parts=parts))])
    body = json.loads(api.GenerateContentResponse.to_json(message))
    assert infer(version, script(JSONResponse(body)), Prompt("7")) == Reply((Answer("8."),))


@pytest.mark.parametrize("version", CONTENTS)
def test_an_answer_that_is_withheld_has_no_text(version: str) -> None:
    body = {"candidates": [{"finishReason": "SAFETY"}, {"content": {}, "finishReason": "MAX_TOKENS"}]}
    reply = infer(version, script(JSONResponse(body)), Prompt("7", candidates=2))
    assert reply == Reply((Answer("", "SAFETY"), Answer("", "MAX_TOKENS")))


def test_neither_answer_nor_reason_is_an_empty_reply(version: str) -> None:
    for body in ({}, {"candidates": [], "filters": [], "promptFeedback": {}}, {"usageMetadata": {}}):
        app = script(JSONResponse(body))
        assert infer(version, app, Prompt("7", candidates=20)) == Reply(())
        assert len(app.seen) == 1  # it would not get better


def test_a_blocked_prompt_is_sent_once(version: str) -> None:
    blocked = {"filters": [{"reason": "SAFETY"}], "promptFeedback": {"blockReason": "SAFETY"}}
    app = script(JSONResponse(blocked))
    assert infer(version, app, Prompt("7", candidates=20)) == Reply((), "SAFETY")
    assert len(app.seen) == 1


def test_what_palm_withholds_of_several_answers_keeps_its_place() -> None:
    app = script(
        JSONResponse(answered("v1beta3", *"1234567") | {"filters": [{"reason": "SAFETY"}]}),
        JSONResponse({"filters": [{"reason": "OTHER"}]}),
    )
    texts = [(answer.text, answer.finish) for answer in infer("v1beta3", app, Prompt("7", candidates=10)).answers]
    assert texts == [*((number, "") for number in "1234567"), ("", "SAFETY"), ("", "OTHER"), ("", "OTHER")]


def test_fewer_answers_without_a_reason_are_what_they_are(version: str) -> None:
    reply = infer(version, script(JSONResponse(answered(version, "8"))), Prompt("7", candidates=3))
    assert reply == Reply((Answer("8"),))


replies = st.builds(
    Reply, st.lists(st.builds(Answer, st.just("x")), max_size=3).map(tuple), st.sampled_from(["", "SAFETY", "OTHER"])
)


@given(st.lists(st.tuples(st.integers(1, 3), replies), max_size=4))
def test_joining_loses_no_answer_and_says_a_reason_only_for_none(parts: list[tuple[int, Reply]]) -> None:
    reply = merge_replies(parts)
    given_texts = [answer.text for _, part in parts for answer in part.answers]
    assert [answer.text for answer in reply.answers if answer.text] == given_texts
    assert not (reply.answers and reply.blocked)
    assert bool(reply.answers) == bool(given_texts)


@each_row("word", ["\x1b[31mBAD\n", "\ud800BAD", "A_LATER_REASON", 99, -1])
def test_a_reason_that_is_unknown_is_reported_and_made_safe(word: object) -> None:
    told = str(word).replace("\x1b", "").replace("\ud800", "").strip()
    for body in ({"promptFeedback": {"blockReason": word}}, {"candidates": [{"finishReason": word}]}):
        reply = infer("v1beta", script(Response(json.dumps(body), media_type="application/json")), Prompt("7"))
        assert told in {reply.blocked, *(answer.finish for answer in reply.answers)}


def test_an_answer_stays_as_it_is_but_for_lone_surrogates(version: str) -> None:
    body = json.dumps(answered(version, " \x1b[2J\u202e8\n", "\ud83d\ude00\ud800"))
    reply = infer(version, script(Response(body, media_type="application/json")), Prompt("7", candidates=2))
    assert [answer.text for answer in reply.answers] == [" \x1b[2J\u202e8\n", "\U0001f600?"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
parts = st.fixed_dictionaries({}, optional={"text": json_values, "thought": json_values}) | json_values
candidates = st.fixed_dictionaries(
    {},
    optional={
        "output": json_values,
        "content": st.fixed_dictionaries({}, optional={"parts": st.lists(parts, max_size=2) | json_values}),
        "finishReason": json_values,
    },
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(candidates | json_values, max_size=3) | json_values,
        "filters": st.lists(json_values, max_size=2) | json_values,
        "promptFeedback": st.fixed_dictionaries({}, optional={"blockReason": json_values}) | json_values,
    },
)


@given(version=st.sampled_from(sorted(SERVICES)), body=bodies)
def test_any_body_is_a_valid_reply_or_a_service_error(version: str, body: Any) -> None:
    app = script(Response(json.dumps(body), media_type="application/json"))
    try:
        reply = infer(version, app, Prompt("7"))
    except ServiceError as caught:
        assert "returned a body of another shape" in caught.message  # noqa: PT017 - either outcome is right
        return
    words = [reply.blocked, *(word for answer in reply.answers for word in (answer.text, answer.finish))]
    assert all(word.encode() or True for word in words)


# what is refused

GL, VERTEX = ("v1beta3", "v1beta"), ("v1",)
GONE = "run `reconcile apply`: the model no longer exists"
UNSHARED = (
    "log in as its owner, or ask the owner for reader permission on the tuned model; if it no longer exists, run"
    " `reconcile apply`"
)
UNDEPLOYED = (
    "run `reconcile apply`, which deploys the model again, or trains it again if it is gone: the endpoint no longer"
    " exists, or has no deployed model"
)


@each_row(
    ("versions", "status", "code", "remedy"),
    [
        (GL, 404, "NOT_FOUND", GONE),
        (GL, 400, "FAILED_PRECONDITION", "run `reconcile wait`: only a ready model can answer"),
        (VERTEX, 404, "NOT_FOUND", UNDEPLOYED),
        (VERTEX, 400, "FAILED_PRECONDITION", UNDEPLOYED),
        (VERTEX, 403, "PERMISSION_DENIED", "ask for roles/aiplatform.user on the target's spec.project"),
        ((*GL, *VERTEX), 400, "INVALID_ARGUMENT", "fix the prompt or its options as the service reports"),
        (GL, 403, "PERMISSION_DENIED", UNSHARED),
    ],
)
def test_a_refusal_says_what_to_do(versions: tuple[str, ...], status: int, code: str, remedy: str) -> None:
    for version in versions:
        caught = refused(version, script(error(status, code, "No.")))
        path = SERVICES[version][0]
        assert str(caught) == f"POST {path} failed with {status} {code}: No; {remedy}"
        assert isinstance(caught, AccessError if status == 403 else ServiceError)


@each_row("name", ["", "corpora/x", "tunedModels/../models/x", "tunedModels/", ENDPOINT])
def test_a_name_cannot_reach_out_of_the_tuned_models(name: str) -> None:
    app = script(JSONResponse({}))
    caught = refused("v1beta", app, name)
    assert "expected a name that begins with tunedModels/; fix the lockfile" in str(caught)
    assert app.seen == []


def test_an_open_model_has_no_endpoint() -> None:
    app = script(JSONResponse({}))
    job = "projects/123/locations/us-central1/tuningJobs/1"
    assert str(refused("v1", app, job)).startswith(f"{job} has no endpoint: the service does not deploy open models; ")
    assert app.seen == []


def test_a_name_cannot_choose_the_method() -> None:
    app = script(JSONResponse({}))
    infer("v1beta", app, Prompt("7"), "tunedModels/m:transferOwnership?a=")
    assert app.lines == ["POST /v1beta/tunedModels/m%3AtransferOwnership%3Fa%3D:generateContent"]


@each_row(
    "name",
    [
        "",
        MODEL,
        "projects/123/locations/us-central1/models/1",
        "projects/123/locations/europe-west4/endpoints/1",
        "projects/other-project/locations/us-central1/endpoints/1",
        "projects/123/locations/us-central1/endpoints/../../../x",
        "projects/123/locations/us-central1/endpoints/1:undeployModel",
        "projects/123/locations/us-central1/endpoints/1?x",
    ],
)
def test_a_name_that_is_no_endpoint_here_is_refused(name: str) -> None:
    app = script(JSONResponse({}))
    assert str(refused("v1", app, name)).startswith(
        f"invalid endpoint {name!r}: expected a name like projects/acme-project/locations/us-central1/endpoints/1; fix"
        " the lockfile"
    )
    assert app.seen == []
