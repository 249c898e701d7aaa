from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from domain.test_lock_diff import WHOLE
from reconciler.domain.errors import AccessError, PreconditionError, ReconcileError, ServiceError, UsageError
from reconciler.domain.model import Dataset
from reconciler.domain.ports import Objects
from reconciler.providers.google.storage import Bucket, ObjectInfo, Storage
from support.cases import each_row
from support.provider_service import Script, Time, error, script
from support.provider_storage import (
    DENIED,
    NO_BUCKET,
    NO_CONTENT,
    NO_OBJECT,
    OBJECT,
    UNMET,
    UPLOAD,
    URI,
    md5_of,
    refusal,
    resource,
    storage_of,
    upload,
    with_storage,
)

BUSY = error(503, "UNAVAILABLE", "busy")
CONTENT = Response(b"text", headers={"x-goog-generation": "7"})
LINES = (b"one", b"two")
DATA = b"one\ntwo\n"
NO_LINE, NO_TEXT = "gs://acme-data/a\nb", "gs://acme-data/\ud800"
INFO = ObjectInfo(7, len(DATA), md5_of(DATA), "AAAAAA==")

CREATE_BUCKET = (
    "fix the name of the bucket, or create it: `gcloud storage buckets create gs://acme-data --location=LOCATION`"
)
ASK = (
    "ask for roles/storage.objectUser on gs://acme-data for your account, or use another bucket if it belongs to"
    " another project: bucket names are global"
)


def failure(app: Script, act: Callable[[Storage], Awaitable[Any]]) -> ReconcileError:
    with pytest.raises(ReconcileError) as caught:
        with_storage(app, act)
    return caught.value


def stat(storage: Storage) -> Awaitable[ObjectInfo | None]:
    return storage.stat(URI)


def write(storage: Storage) -> Awaitable[int]:
    return storage.write(URI, DATA, generation=6)


# looking


def test_an_object_is_reported_by_its_metadata() -> None:
    app = script(resource(DATA))
    assert with_storage(app, stat) == INFO
    assert app.lines == [f"GET {OBJECT}"]


def test_a_composed_object_has_no_md5() -> None:
    composed = JSONResponse({"generation": "7", "size": "8", "crc32c": "AAAAAA=="})
    assert with_storage(script(composed), stat) == ObjectInfo(7, 8, "", "AAAAAA==")


def test_a_missing_object_is_none() -> None:
    assert with_storage(script(NO_OBJECT), stat) is None


def test_a_missing_bucket_is_an_error_with_its_remedy() -> None:
    caught = failure(script(NO_BUCKET), stat)
    assert isinstance(caught, ServiceError)
    assert str(caught) == (
        f"GET {OBJECT} failed with 404 NOT_FOUND: The specified bucket does not exist; {CREATE_BUCKET}"
    )


def test_a_forbidden_bucket_names_the_role() -> None:
    caught = failure(script(DENIED), stat)
    assert isinstance(caught, AccessError)
    assert caught.message.startswith(f"GET {OBJECT} failed with 403 PERMISSION_DENIED: me@example.com does not")
    assert caught.remedy == ASK


@each_row("body", [{}, {"generation": "x", "size": "1"}, {"generation": "1", "size": None}])
def test_metadata_of_another_shape_is_reported(body: dict[str, Any]) -> None:
    told = str(failure(script(JSONResponse(body)), stat))
    assert told.startswith(f"GET {OBJECT} returned a body of another shape (")
    assert told.endswith("); check spec.storageEndpoint of the target: another kind of service responded")


def test_what_is_disabled_or_out_of_reach_speaks_of_cloud_storage() -> None:
    disabled = "Cloud Storage JSON API has not been used in project 1 before or it is disabled."
    assert failure(script(refusal(403, disabled)), stat).remedy.endswith("enable storage.googleapis.com`")
    assert failure(script(refusal(401, "Invalid Credentials")), stat).remedy == (
        "log in with `gcloud auth application-default login --scopes=https://www.googleapis.com/auth/cloud-platform`,"
        " or set RECONCILE_ACCESS_TOKEN"
    )


@each_row(
    "uri",
    [
        "",
        "gs://",
        "gs://acme-data",
        "gs://acme-data/",
        "s3://b/o",
        "gs://UP/o",
        "gs://acme-data/..",
        "gs://acme-data/a\nb",
        "gs://acme-data/\ud800",
    ],
)
def test_what_is_no_address_is_a_usage_error(uri: str) -> None:
    app = script(NO_OBJECT)
    caught = failure(app, lambda storage: storage.stat(uri))
    assert isinstance(caught, UsageError)
    assert str(caught).startswith("invalid Cloud Storage address ")
    assert str(caught).endswith(": expected gs://bucket/object")
    assert app.seen == []


def test_a_name_that_is_too_long_is_no_address() -> None:
    assert isinstance(
        failure(script(NO_OBJECT), lambda storage: storage.stat(f"gs://acme-data/{'é' * 513}")), UsageError
    )


def test_a_bucket_is_reported_by_location_and_project() -> None:
    answer = JSONResponse({"name": "acme-data", "location": "us-central1", "projectNumber": "123"})
    app = script(answer)
    assert with_storage(app, lambda storage: storage.bucket("acme-data")) == Bucket("acme-data", "US-CENTRAL1", "123")
    assert app.lines == ["GET /storage/v1/b/acme-data"]


def test_a_bucket_that_may_not_be_read_names_another_role() -> None:
    caught = failure(script(DENIED), lambda storage: storage.bucket("acme-data"))
    assert caught.remedy.startswith("ask for roles/storage.bucketViewer on gs://acme-data for your account")


# pinning


def test_a_data_set_is_pinned_by_generation_and_checksum() -> None:
    objects: Objects = storage_of(script(resource(DATA)), Time())
    assert isinstance(objects, Storage)
    found = with_storage(script(resource(DATA)), lambda storage: storage.pin(URI))
    again = with_storage(script(resource(DATA, 8)), lambda storage: storage.pin(URI))
    assert isinstance(found, Dataset)
    assert isinstance(again, Dataset)
    assert (found.path, found.generation, found.checksum, found.size) == (URI, "7", "AAAAAA==", len(DATA))
    assert found.digest.startswith("sha256:")
    assert again.digest != found.digest


def test_where_one_checksum_is_not_told_the_other_pins() -> None:
    found = with_storage(script(resource(DATA, crc32c="")), lambda storage: storage.pin(URI))
    assert isinstance(found, Dataset)
    assert found.checksum == md5_of(DATA)


@each_row(
    ("answer", "fault"),
    [
        (NO_OBJECT, f"no such object: {URI}; fix the address, or upload the data set"),
        (NO_BUCKET, CREATE_BUCKET),
        (DENIED, ASK),
    ],
)
def test_a_data_set_that_is_not_there_has_a_fault(answer: Response, fault: str) -> None:
    found = with_storage(script(answer), lambda storage: storage.pin(URI))
    assert isinstance(found, str)
    assert found.endswith(fault)


def test_an_address_that_is_none_is_a_fault() -> None:
    found = with_storage(script(NO_OBJECT), lambda storage: storage.pin("gs://x"))
    assert found == "invalid Cloud Storage address 'gs://x': expected gs://bucket/object"


@each_row(
    ("answer", "said", "remedy"),
    [
        (BUSY, "503 UNAVAILABLE: busy", "run the command again later"),
        (refusal(401, "Invalid Credentials"), "401 UNAUTHENTICATED: Invalid Credentials", "log in with"),
        (
            error(403, "PERMISSION_DENIED", "Cloud Storage has not been used in project 1 before or it is disabled."),
            "403 PERMISSION_DENIED: Cloud Storage has not been used in project 1",
            "enable the API",
        ),
    ],
)
def test_what_says_nothing_of_the_data_set_is_an_error(answer: Response, said: str, remedy: str) -> None:
    caught = failure(script(answer), lambda storage: storage.pin(URI))
    assert caught.message.startswith(f"GET {OBJECT} failed with {said}")
    assert caught.remedy.startswith(remedy)


# reading and writing


def test_content_is_read_with_its_generation() -> None:
    app = script(CONTENT)
    assert with_storage(app, lambda storage: storage.read(URI)) == (b"text", 7)
    assert app.seen[0].query == {"alt": "media"}


def test_content_that_is_not_there_is_none() -> None:
    assert with_storage(script(NO_CONTENT, NO_OBJECT), lambda storage: storage.read(URI)) is None


def test_content_in_a_missing_bucket_is_an_error() -> None:
    caught = failure(script(NO_CONTENT, NO_BUCKET), lambda storage: storage.read(URI))
    assert str(caught).endswith(CREATE_BUCKET)


def test_content_that_may_not_be_read_is_an_error() -> None:
    assert failure(script(DENIED), lambda storage: storage.read(URI)).remedy == ASK


@each_row("generation", ["", "x", "-1", "9" * 5000])
def test_content_without_a_generation_is_unexpected(generation: str) -> None:
    answer = Response(b"text", headers={"x-goog-generation": generation})
    told = str(failure(script(answer), lambda storage: storage.read(URI)))
    assert told.startswith(f"GET {OBJECT} returned content without a generation; check spec.storage")


def test_writing_is_compare_and_swap() -> None:
    app = script(resource(DATA, 8))
    assert with_storage(app, write) == 8
    (seen,) = app.seen
    assert seen.line == f"POST {UPLOAD}"
    assert seen.query == {"uploadType": "media", "name": "reconcile/a b.jsonl", "ifGenerationMatch": "6"}
    assert seen.body == DATA


def test_a_write_that_came_too_late_is_a_conflict() -> None:
    app = script(UNMET)
    caught = failure(app, write)
    assert isinstance(caught, PreconditionError)
    assert str(caught) == (
        f"POST {UPLOAD} failed with 412 FAILED_PRECONDITION: At least one of the pre-conditions you specified did"
        " not hold; run the command again: another user or run has changed the object"
    )
    assert len(app.seen) == 1


def test_a_write_that_seemed_to_fail_and_did_not_is_done() -> None:
    app = script(BUSY, UNMET, Response(DATA, headers={"x-goog-generation": "9"}))
    assert with_storage(app, write) == 9
    assert app.lines == [f"POST {UPLOAD}", f"POST {UPLOAD}", f"GET {OBJECT}"]


@pytest.mark.parametrize("there", [CONTENT, NO_CONTENT])
def test_a_write_that_failed_while_another_user_wrote_is_a_conflict(there: Response) -> None:
    caught = failure(script(BUSY, UNMET, there, NO_OBJECT), write)
    assert isinstance(caught, PreconditionError)


def test_a_first_write_that_fails_its_precondition_is_a_conflict() -> None:
    quota = error(429, "RESOURCE_EXHAUSTED", "slow down")
    app = script(quota, UNMET, Response(DATA, headers={"x-goog-generation": "9"}))
    assert isinstance(failure(app, write), PreconditionError)
    assert len(app.seen) == 2


def test_deleting_wants_the_generation() -> None:
    app = script(Response(status_code=204))
    with_storage(app, lambda storage: storage.delete(URI, generation=7))
    assert (app.seen[0].line, app.seen[0].query) == (f"DELETE {OBJECT}", {"ifGenerationMatch": "7"})


def test_deleting_what_is_gone_is_no_error() -> None:
    app = script(NO_OBJECT)
    with_storage(app, lambda storage: storage.delete(URI, generation=7))
    assert app.lines == [f"DELETE {OBJECT}"]


@pytest.mark.parametrize(
    "message",
    [
        "Object 'acme-data/o' is subject to bucket's retention policy and cannot be deleted or overwritten until 2030",
        "Object 'acme-data/o' is under active Temporary hold and cannot be deleted, overwritten or archived until […]",
    ],
)
def test_an_object_that_is_kept_from_being_changed_is_no_matter_of_roles(message: str) -> None:
    assert failure(script(refusal(403, message)), write).remedy == (
        "use a bucket or an object without a retention policy and without a hold"
    )


@each_row(
    ("answer", "code", "remedy"),
    [
        (NO_BUCKET, "404 NOT_FOUND", CREATE_BUCKET),
        (UNMET, "412 FAILED_PRECONDITION", "run the command again: another user or run has changed the object"),
        (DENIED, "403 PERMISSION_DENIED", ASK),
    ],
)
def test_a_refused_deletion_is_an_error(answer: Response, code: str, remedy: str) -> None:
    caught = failure(script(answer), lambda storage: storage.delete(URI, generation=7))
    assert caught.message.startswith(f"DELETE {OBJECT} failed with {code}: ")
    assert caught.remedy == remedy


# small uploads


def test_a_data_set_that_is_there_is_not_sent() -> None:
    app = script(resource(DATA))
    assert with_storage(app, lambda storage: upload(storage, LINES)) == INFO
    assert app.lines == [f"GET {OBJECT}"]


def test_a_small_data_set_is_one_request() -> None:
    app = script(NO_OBJECT, resource(DATA))
    assert with_storage(app, lambda storage: upload(storage, LINES)) == INFO
    assert app.lines == [f"GET {OBJECT}", f"POST {UPLOAD}"]
    assert app.seen[1].query["ifGenerationMatch"] == "0"
    assert app.seen[1].body == DATA


@pytest.mark.parametrize("answers", [(UNMET,), (BUSY, UNMET)])
def test_a_data_set_that_another_user_uploaded_meanwhile_is_compared(answers: tuple[Response, ...]) -> None:
    app = script(NO_OBJECT, *answers, resource(DATA))
    assert with_storage(app, lambda storage: upload(storage, LINES)) == INFO


def test_a_data_set_that_came_and_went_is_a_conflict() -> None:
    caught = failure(script(NO_OBJECT, UNMET, NO_OBJECT), lambda storage: upload(storage, LINES))
    assert isinstance(caught, PreconditionError)


@each_row("answers", [(), (NO_OBJECT,), (NO_OBJECT, UNMET)])
def test_other_content_under_the_name_is_reported(answers: tuple[Response, ...]) -> None:
    app = script(*answers, resource(b"tampered"))
    caught = failure(app, lambda storage: upload(storage, LINES))
    assert str(caught) == (
        f"{URI} has 8 bytes with MD5 {md5_of(b'tampered')}, expected 8 bytes with MD5 {md5_of(DATA)}: it was"
        " changed, or damaged by the upload;"
        f" move it away and run the command again: `gcloud storage mv {URI} {URI}.damaged`"
    )


def test_an_upload_to_a_missing_bucket_says_so() -> None:
    app = script(NO_OBJECT, NO_BUCKET)
    assert failure(app, lambda storage: upload(storage, LINES)).remedy == CREATE_BUCKET


def test_up_to_a_limit_an_upload_is_one_request() -> None:
    line = b"x" * (WHOLE - 1)
    app = script(NO_OBJECT, resource(line + b"\n"))
    with_storage(app, lambda storage: upload(storage, [line]))
    assert app.seen[1].query["uploadType"] == "media"
