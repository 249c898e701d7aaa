"""Which buckets are near a region, and what a bucket lets us do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from reconciler.domain.errors import ReconcileError
from reconciler.providers.vertex.location_policy import is_allowed
from reconciler.providers.vertex.spec import is_near
from support.cases import each_row
from support.provider_service import error, script
from support.provider_storage import NO_BUCKET, with_storage

if TYPE_CHECKING:
    from starlette.requests import Request

WANTED = ("storage.objects.create", "storage.objects.get")


@each_row(
    ("bucket", "region", "near"),
    [
        ("US-CENTRAL1", "us-central1", True),
        ("US-EAST1", "us-central1", False),
        ("US", "us-central1", True),
        ("US", "europe-west4", False),
        ("NAM4", "us-central1", True),
        ("EU", "europe-west4", True),
        ("EUR4", "europe-west4", True),
        ("ASIA1", "asia-northeast1", True),
        ("ASIA", "australia-southeast1", False),
        ("US", "us", True),
        ("US-EAST1", "us", True),
        ("EUROPE-WEST4", "eu", True),
        ("EU", "us", False),
        ("ASIA", "global", True),
    ],
)
def test_a_bucket_is_near_when_it_is_or_spans_the_region(bucket: str, region: str, *, near: bool) -> None:
    assert is_near(bucket, region) is near


def test_what_a_bucket_lets_us_do_is_asked_in_one_request() -> None:
    queries: list[str] = []

    def answer(request: Request) -> Response:
        queries.append(request.url.query)
        return JSONResponse({"permissions": ["storage.objects.get"]})

    app = script(answer)
    assert with_storage(app, lambda storage: storage.permissions("acme-data", WANTED)) == {"storage.objects.get"}
    assert app.lines == ["GET /storage/v1/b/acme-data/iam/testPermissions"]
    assert queries == ["permissions=storage.objects.create&permissions=storage.objects.get"]


def test_nothing_may_be_held() -> None:
    assert with_storage(script(JSONResponse({})), lambda storage: storage.permissions("acme-data", WANTED)) == set()


@pytest.mark.parametrize("answer", [error(404, "NOT_FOUND", "Method not found."), error(501, "UNIMPLEMENTED", "No.")])
def test_a_service_may_not_tell(answer: Response) -> None:
    assert with_storage(script(answer), lambda storage: storage.permissions("acme-data", WANTED)) is None


def test_a_bucket_that_is_not_there_is_reported() -> None:
    with pytest.raises(ReconcileError, match=r"The specified bucket does not exist; fix the name of the bucket, or"):
        with_storage(script(NO_BUCKET), lambda storage: storage.permissions("acme-data", WANTED))


@each_row(
    ("rules", "location", "allowed"),
    [
        ([], "us-central1", True),
        ([{"allowAll": True}], "us-central1", True),
        ([{"denyAll": True}], "us-central1", False),
        ([{"values": {"allowedValues": ["us-central1"]}}], "us-central1", True),
        ([{"values": {"allowedValues": ["is:US-CENTRAL1"]}}], "us-central1", True),
        ([{"values": {"allowedValues": ["us"]}}], "us-central1", False),
        ([{"values": {"allowedValues": ["in:us-locations"]}}], "us-central1", True),
        ([{"values": {"allowedValues": ["in:us-central1-locations"]}}], "us-central1", True),
        ([{"values": {"allowedValues": ["in:us-central1-locations"]}}], "us-central2", False),
        ([{"values": {"allowedValues": ["in:eu-locations"]}}], "europe-west4", True),
        ([{"values": {"allowedValues": ["in:eu-locations"]}}], "europe-west2", False),
        ([{"values": {"allowedValues": ["in:europe-locations"]}}], "europe-west2", True),
        (
            [{"values": {"allowedValues": ["in:eu-locations"]}}, {"values": {"allowedValues": ["asia"]}}],
            "asia-east1",
            False,
        ),
        ([{"values": {"allowedValues": ["in:low-carbon-locations"]}}], "us-central1", None),
        ([{"values": {"allowedValues": ["under:folders/1"]}}], "us-central1", None),
        ([{"values": {"allowedValues": ["in:low-carbon-locations", "us-central1"]}}], "us-central1", True),
        ([{"values": {"deniedValues": ["in:us-locations"]}}], "us-central1", False),
        ([{"values": {"deniedValues": ["in:us-locations"]}}], "europe-west4", True),
        ([{"values": {"deniedValues": ["in:low-carbon-locations"]}}], "us-central1", None),
        ([{"values": {"allowedValues": ["us-central1"], "deniedValues": ["us-central1"]}}], "us-central1", False),
        ([{"allowAll": True, "condition": {"expression": "resource.matchTag('1/env', 'prod')"}}], "us-central1", None),
        ("none", "us-central1", True),
        ([None, {"values": 1}, {"values": {"allowedValues": [1]}}], "us-central1", True),
    ],
)
def test_whether_an_organization_policy_allows_a_location(
    rules: object, location: str, *, allowed: bool | None
) -> None:
    assert is_allowed({"spec": {"rules": rules}}, location) is allowed
