from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, Parse
from hypothesis import given
from hypothesis import strategies as st

from reconciler.domain.identity import round_to_float32
from reconciler.emulator import proto
from reconciler.emulator.errors import ApiError
from reconciler.emulator.generativelanguage import messages
from reconciler.emulator.generativelanguage.messages import V1BETA, V1BETA3
from reconciler.emulator.proto import Field, Message, decode, decode_query, encode, message, read_json
from reconciler.emulator.vertex import messages as vertex_messages
from support.cases import each_row
from support.emulator_vertex import NOT_IN_PROTOS
from support.google_clients import LazyModule, gemini, palm, vertex, vertex_v1beta1

SAMPLE = message(
    "Sample",
    text=proto.STRING,
    count=proto.INT,
    big=Field("int64", repeated=True),
    length=proto.INT64,
    exact=proto.DOUBLE,
    labels=proto.MAP,
    share=proto.FLOAT,
    chosenShare=proto.OPTIONAL_FLOAT,
    flag=proto.BOOL,
    state=proto.enum("STATE_UNSPECIFIED", "CREATING", "ACTIVE"),
    written=proto.OUTPUT_STRING,
    moment=proto.TIMESTAMP,
    inner=proto.single(message("Inner", moreText=proto.STRING)),
    many=proto.repeated(message("Each", text=proto.STRING)),
    oneText=Field("string", optional=True, oneof="choice"),
    otherText=Field("string", optional=True, oneof="choice"),
)
PROTOS: list[tuple[Message, LazyModule, str]] = [
    (V1BETA3.tuned_models, palm, "ListTunedModelsResponse"),
    (V1BETA.tuned_models, gemini, "ListTunedModelsResponse"),
    (messages.LIST_MODELS, palm, "ListModelsResponse"),
    (messages.LIST_PERMISSIONS, palm, "ListPermissionsResponse"),
    (messages.GENERATE_TEXT, gemini, "GenerateTextRequest"),
    (messages.TEXT, palm, "GenerateTextResponse"),
    (messages.GENERATE_CONTENT, gemini, "GenerateContentRequest"),
    (messages.CONTENT, gemini, "GenerateContentResponse"),
    (messages.COUNT_TOKENS, gemini, "CountTokensRequest"),
    (messages.TOKENS, gemini, "CountTokensResponse"),
    (messages.TRANSFER_OWNERSHIP, gemini, "TransferOwnershipRequest"),
    *(
        row
        for api_version in (vertex, vertex_v1beta1)
        for row in (
            (vertex_messages.list_of("tuningJobs", vertex_messages.TUNING_JOB), api_version, "ListTuningJobsResponse"),
            (vertex_messages.list_of("models", vertex_messages.MODEL), api_version, "ListModelsResponse"),
            (vertex_messages.list_of("endpoints", vertex_messages.ENDPOINT), api_version, "ListEndpointsResponse"),
            (vertex_messages.GENERATE_CONTENT, api_version, "GenerateContentRequest"),
            (vertex_messages.CONTENT, api_version, "GenerateContentResponse"),
            (vertex_messages.COUNT_TOKENS, api_version, "CountTokensRequest"),
            (vertex_messages.TOKENS, api_version, "CountTokensResponse"),
            (vertex_messages.PUBLISHER_MODEL, api_version, "PublisherModel"),
            (vertex_messages.UNDEPLOY_MODEL, api_version, "UndeployModelRequest"),
            (vertex_messages.DEPLOY_MODEL, api_version, "DeployModelRequest"),
        )
    ),
]


def refusal(payload: Any, root: str = "") -> str:
    with pytest.raises(ApiError) as caught:
        decode(SAMPLE, payload, root)
    assert caught.value.http_status == 400
    assert caught.value.message == "\n".join(violation.description for violation in caught.value.violations)
    return caught.value.message


LIBERAL: list[tuple[Any, Any]] = [
    ({"chosen_share": 0.5}, {"chosenShare": 0.5}),
    ({"chosenShare": "0.5"}, {"chosenShare": 0.5}),
    ({"chosenShare": 0}, {"chosenShare": 0}),
    ({"share": 0}, {}),
    ({"share": 0.1234567891}, {"share": 0.12345679}),
    ({"count": 3.0}, {"count": 3}),
    ({"count": "3"}, {"count": 3}),
    ({"count": -(2**31)}, {"count": -(2**31)}),
    ({"big": ["123", 4]}, {"big": ["123", "4"]}),
    ({"length": 3}, {"length": "3"}),
    ({"length": "3"}, {"length": "3"}),
    ({"length": "0"}, {}),
    ({"exact": 0.1234567891}, {"exact": 0.1234567891}),
    ({"exact": "1e300"}, {"exact": 1e300}),
    ({"labels": {"a_b": "x", "b": ""}}, {"labels": {"a_b": "x", "b": ""}}),
    ({"labels": {}}, {}),
    ({"state": 2}, {"state": "ACTIVE"}),
    ({"state": "ACTIVE"}, {"state": "ACTIVE"}),
    ({"state": 0}, {}),
    ({"flag": True}, {"flag": True}),
    ({"moment": "2026-01-01T00:00:00.123456789Z"}, {"moment": "2026-01-01T00:00:00.123456789Z"}),
    ({"text": None, "inner": None, "many": None}, {}),
    ({"text": "", "many": []}, {}),
    ({"inner": {}}, {"inner": {}}),
    ({"inner": {"more_text": "ä"}}, {"inner": {"moreText": "ä"}}),
    ({"many": [{"text": "a"}, {}]}, {"many": [{"text": "a"}, {}]}),
    ({"written": 17}, {}),
    ({"oneText": "a", "otherText": None}, {"oneText": "a"}),
]


def test_requests_are_read_liberally() -> None:
    assert [decode(SAMPLE, raw) for raw, _ in LIBERAL] == [read for _, read in LIBERAL]


def test_what_a_service_had_stored_is_read_with_its_output() -> None:
    assert decode(SAMPLE, {"written": "x"}, stored=True) == {"written": "x"}


UNFIT: list[tuple[Any, str]] = [
    ({"foo": 1}, "Invalid JSON payload received. Unknown name \"foo\" at 'root': Cannot find field."),
    (
        {"inner": {"foo": 1}},
        "Invalid JSON payload received. Unknown name \"foo\" at 'root.inner': Cannot find field.",
    ),
    (
        {"many": [{}, {"foo": 1}]},
        "Invalid JSON payload received. Unknown name \"foo\" at 'root.many[1]': Cannot find field.",
    ),
    ({"text": 1}, "Invalid value at 'root.text' (TYPE_STRING), 1"),
    ({"text": "\ud800"}, "Invalid value at 'root.text' (TYPE_STRING), \"\\ud800\""),
    ({"count": "x"}, "Invalid value at 'root.count' (TYPE_INT32), \"x\""),
    ({"count": 1.5}, "Invalid value at 'root.count' (TYPE_INT32), 1.5"),
    ({"count": True}, "Invalid value at 'root.count' (TYPE_INT32), true"),
    ({"count": "1_0"}, "Invalid value at 'root.count' (TYPE_INT32), \"1_0\""),
    ({"count": 2**31}, "Invalid value at 'root.count' (TYPE_INT32), 2147483648"),
    ({"big": [2**63]}, "Invalid value at 'root.big[0]' (TYPE_INT64), 9223372036854775808"),
    ({"big": 1}, "Invalid value at 'root.big' (repeated int64), 1"),
    ({"share": "nan"}, "Invalid value at 'root.share' (TYPE_FLOAT), \"nan\""),
    ({"share": 1e39}, "Invalid value at 'root.share' (TYPE_FLOAT), 1e+39"),
    ({"share": []}, "Invalid value at 'root.share' (TYPE_FLOAT), []"),
    ({"flag": 1}, "Invalid value at 'root.flag' (TYPE_BOOL), 1"),
    ({"moment": "yesterday"}, "Invalid value at 'root.moment' (TYPE_TIMESTAMP), \"yesterday\""),
    (
        {"moment": "2026-13-01T00:00:00Z"},
        "Invalid value at 'root.moment' (TYPE_TIMESTAMP), \"2026-13-01T00:00:00Z\"",
    ),
    ({"moment": 1}, "Invalid value at 'root.moment' (TYPE_TIMESTAMP), 1"),
    ({"state": "GONE"}, "Invalid value at 'root.state' (TYPE_ENUM), \"GONE\""),
    ({"state": 9}, "Invalid value at 'root.state' (TYPE_ENUM), 9"),
    ({"inner": 1}, "Invalid value at 'root.inner' (Inner), 1"),
    ({"chosenShare": 1, "chosen_share": 1}, "Invalid value at 'root', field 'chosenShare' is already set. "),
    (
        {"oneText": "a", "otherText": "b"},
        "Invalid value at 'root' (oneof), oneof field 'choice' is already set. Cannot set 'otherText'",
    ),
]


def test_what_does_not_fit_is_refused_with_its_place() -> None:
    refused = [(refusal(payload, "root"), message) for payload, message in UNFIT]
    assert [pair for pair in refused if not pair[0].startswith(pair[1])] == []


def test_everything_wrong_is_told_at_once() -> None:
    assert refusal({"foo": 1, "count": "x", "text": 2}).count("\n") == 2


@each_row(
    ("body", "message"),
    [
        (b"{", "Invalid JSON payload received. Unable to parse: Expecting property name"),
        (b"\xff", "Invalid JSON payload received. Unable to parse: 'utf-8' codec can't decode"),
        (b'{"a": NaN}', "Invalid JSON payload received. Unable to parse: NaN is not JSON"),
        (b"[1]", "Invalid JSON payload received. Root element must be a message."),
        (b"[" * 100_000, "Invalid JSON payload received. Nesting is too deep."),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(body)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2, ], "b": {"c": 1,\n}, }', {"a": [1, 2], "b": {"c": 1}}),
        (rb'{"a": ",]", "b": ",}", "c": "\",}", "d": "\\", }', {"a": ",]", "b": ",}", "c": '",}', "d": "\\"}),
    ],
)
def test_an_object_and_a_list_may_end_with_a_comma(body: bytes, value: Any) -> None:
    assert read_json(body) == value


@each_row(
    "body", [b"{,}", b'{"a": [ ,]}', b'{"a": [1,,]}', b'{"a": 1},', b'{"a",}', b'{"a":,}', b'{"a": "x,}', b'{"a": 1,,}']
)
def test_another_comma_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match="Unable to parse"):
        read_json(body)


@each_row("part", [b'"', b'\\"', b", ", b"[ ,", b'"x", '])
def test_commas_are_found_in_linear_time(part: bytes) -> None:
    """A quadratic search would take many minutes."""
    with pytest.raises(ApiError):
        read_json(b'{"a": "' + part * (2**18 // len(part)))


def test_an_empty_body_is_an_empty_object() -> None:
    assert read_json(b" ") == {}


def test_query_parameters_are_read_like_fields() -> None:
    assert decode_query(messages.PAGE, {"page_size": "3", "pageToken": "x"}) == {"pageSize": 3, "pageToken": "x"}


def test_an_unknown_query_parameter_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        decode_query(messages.PAGE, {"foo": "1"})
    assert caught.value.message == (
        'Invalid JSON payload received. Unknown name "foo": Cannot bind query parameter. '
        "Field 'foo' could not be found in request message."
    )


def test_defaults_are_left_out_and_chosen_values_kept() -> None:
    value = {"text": "", "count": 0, "share": 0.0, "chosenShare": 0.0, "flag": False, "many": [], "inner": {}}
    assert encode(SAMPLE, value) == {"chosenShare": 0.0, "inner": {}}


def test_enums_are_written_as_names_or_numbers() -> None:
    assert encode(SAMPLE, {"state": "ACTIVE"}) == {"state": "ACTIVE"}
    assert encode(SAMPLE, {"state": "ACTIVE"}, enum_numbers=True) == {"state": 2}


def test_what_a_version_does_not_know_is_not_written() -> None:
    document = {"tuningTask": {"hyperparameters": {"learningRateMultiplier": 2}}, "readerProjectNumbers": ["1"]}
    assert encode(V1BETA.tuned_model, document) == document
    assert encode(V1BETA3.tuned_model, document) == {"tuningTask": {"hyperparameters": {}}}


texts = st.text(st.characters(codec="utf-8"), max_size=5)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(-(2.0**120), 2.0**120, width=32).map(lambda value: value + 0.0),  # no negative zero
    "double": st.floats(-(2.0**120), 2.0**120).map(lambda value: value + 0.0),
    "bool": st.booleans(),
    "map": st.dictionaries(texts, texts, max_size=2),
    "integers": st.dictionaries(texts, st.integers(-(2**31), 2**31 - 1), max_size=2),
    "timestamp": st.just("2026-01-01T00:00:00.500Z"),
}


def values(shape: Message) -> st.SearchStrategy[dict[str, Any]]:
    """Random JSON of a message, in camelCase or snake_case, without two fields of a oneof."""
    fields = {name: field_values(field) for name, field in shape.fields.items() if name not in NOT_IN_PROTOS}
    rivals = [name for name, field in shape.fields.items() if field.oneof][1:]
    kept = {name: values for name, values in fields.items() if name not in rivals}
    camel = st.fixed_dictionaries({}, optional=kept)
    return camel | camel.map(lambda value: {proto.snake_case(name): item for name, item in value.items()})


def field_values(field: Field) -> st.SearchStrategy[Any]:
    if field.message is not None:
        single: st.SearchStrategy[Any] = values(field.message)
    elif field.enum:
        single = st.sampled_from(field.enum[1:]) | st.integers(1, len(field.enum) - 1)
    else:
        single = SCALARS[field.kind]
    return st.lists(single, max_size=2) if field.repeated else single


@each_row(("shape", "api_version", "name"), PROTOS)
def test_the_tables_agree_with_the_official_protos(shape: Message, api_version: Any, name: str) -> None:
    proto = getattr(api_version, name).pb()

    @given(values(shape))
    def agrees(raw: dict[str, Any]) -> None:
        official = Parse(json.dumps(raw), proto(), ignore_unknown_fields=False)
        ours = encode(shape, decode(shape, raw, stored=True))
        again = Parse(json.dumps(ours), proto(), ignore_unknown_fields=False)
        assert again == official
        assert in_float32(ours) == in_float32(MessageToDict(official))

    agrees()


def in_float32(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: in_float32(item) for name, item in value.items()}
    if isinstance(value, list):
        return [in_float32(item) for item in value]
    return round_to_float32(value) if isinstance(value, float | int) else value
