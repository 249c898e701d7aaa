"""The calls on buckets. Every bucket of a legal name is there; creating one only settles what is told of it."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.objects import check_bucket
from reconciler.emulator.responses import json_response
from reconciler.emulator.service import Service
from reconciler.emulator.storage_errors import StorageError, invalid
from reconciler.emulator.storage_resources import bucket_resource
from reconciler.emulator.store import dump
from reconciler.emulator.training import timestamp
from reconciler.emulator.uploads import read_resource, small_body

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

PROJECT_NUMBER = "100000000000"
"""The project of the buckets that nobody created."""


async def get_bucket(service: Service, request: Request) -> Response:
    """One bucket."""
    name = request.path_params["bucket"]
    check_bucket(name)
    row = service.store.execute("SELECT document FROM buckets WHERE name = ?", name).fetchone()
    document = json.loads(row[0]) if row else _document(service, name, "US", PROJECT_NUMBER)
    return json_response(bucket_resource(document, request))


async def create_bucket(service: Service, request: Request) -> Response:
    """Settles the location and project of a bucket."""
    asked, project = read_resource(await small_body(request)), request.query_params.get("project", "")
    name, location = asked.get("name", ""), asked.get("location", "US")
    if not isinstance(name, str) or not isinstance(location, str) or not project:
        raise invalid("Required: a project in the query, a name in the resource, and a location that is a string.")
    check_bucket(name)
    document = _document(service, name, location.upper(), _number(project))
    row = (name, dump(document))
    if not service.store.execute("INSERT OR IGNORE INTO buckets VALUES (?, ?)", *row).rowcount:
        raise StorageError(409, "conflict", "Your previous request to create the named bucket succeeded.")
    return json_response(bucket_resource(document, request))


async def list_buckets(service: Service, request: Request) -> Response:
    """The buckets that were created in a project, all on one page."""
    number = _number(request.query_params.get("project", ""))
    rows = service.store.execute(
        "SELECT document FROM buckets WHERE json_extract(document, '$.projectNumber') = ? ORDER BY name", number
    )
    items = [bucket_resource(json.loads(row[0]), request) for row in rows]
    return json_response({"kind": "storage#buckets", **({"items": items} if items else {})})


async def test_permissions(request: Request) -> Response:
    """Which of the permissions asked for the caller has on a bucket: all, as one user owns everything here."""
    check_bucket(request.path_params["bucket"])
    asked = request.query_params.getlist("permissions")
    return json_response({"kind": "storage#testIamPermissionsResponse", "permissions": asked})


def _number(project: str) -> str:
    """The number of a project; one that is known by its id alone is given one."""
    return project if project.isdecimal() else str(int(PROJECT_NUMBER) + zlib.crc32(project.encode()))


def _document(service: Service, name: str, location: str, project_number: str) -> JsonObject:
    time = timestamp(service.clock())
    return {
        "name": name,
        "projectNumber": project_number,
        "location": location,
        "locationType": "multi-region" if location in ("US", "EU", "ASIA") else "region",
        "storageClass": "STANDARD",
        "timeCreated": time,
        "updated": time,
        "metageneration": "1",
        "etag": "CAE=",
    }
