"""The routes of the embedded Cloud Storage, and the methods that read, list and delete."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import IO

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from reconciler.emulator import uploads
from reconciler.emulator.errors import HEADERS, JsonObject, json_response
from reconciler.emulator.objects import (
    StorageError,
    StoredObject,
    bucket_resource,
    check_bucket,
    chunks_of,
    invalid,
    object_resource,
    whole_number,
)
from reconciler.emulator.service import Service
from reconciler.emulator.store import dump
from reconciler.emulator.training import timestamp
from reconciler.emulator.uploads import UploadSessions, read_resource, small_body

PROJECT_NUMBER = "100000000000"
"""The project of buckets that no request created."""


async def get_bucket(service: Service, request: Request) -> Response:
    """Return one bucket."""
    name = request.path_params["bucket"]
    check_bucket(name)
    row = service.store.execute("SELECT document FROM buckets WHERE name = ?", name).fetchone()
    document = json.loads(row[0]) if row else _document(service, name, "US", PROJECT_NUMBER)
    return json_response(bucket_resource(document, request))


async def create_bucket(service: Service, request: Request) -> Response:
    """Set the location and project of a bucket."""
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
    """Return the buckets that were created in a project, on one page."""
    number = _number(request.query_params.get("project", ""))
    rows = service.store.execute(
        "SELECT document FROM buckets WHERE json_extract(document, '$.projectNumber') = ? ORDER BY name", number
    )
    items = [bucket_resource(json.loads(row[0]), request) for row in rows]
    return json_response({"kind": "storage#buckets", **({"items": items} if items else {})})


async def test_permissions(service: Service, request: Request) -> Response:  # noqa: ARG001 - the signature of all handlers
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


Handler = Callable[[Service, Request], Awaitable[Response]]
_MAX_PAGE = 1000
_UNSUPPORTED = frozenset({"delimiter", "startOffset", "endOffset", "matchGlob", "versions", "softDeleted"})
_RANGE = re.compile(r"bytes=(?P<first>\d{1,19})-(?P<last>\d{0,19})")
_BUCKETS = "/storage/v1/b"
_BUCKET = f"{_BUCKETS}/{{bucket}}"
_OBJECTS = f"{_BUCKET}/o"
_OBJECT = f"{_OBJECTS}/{{object:path}}"


def _sessions(request: Request) -> UploadSessions:
    sessions: UploadSessions = request.app.state.uploads
    return sessions


_UPLOADS: Mapping[str, Handler] = MappingProxyType(
    {
        "media": uploads.upload_media,
        "multipart": uploads.upload_multipart,
        "resumable": lambda _, request: _sessions(request).start(request),
    }
)


@cache
def storage_routes() -> tuple[Route, ...]:
    """Return the routes of Cloud Storage, which apps share: compiling their paths takes milliseconds."""
    return (
        _route("GET", _BUCKETS, list_buckets),
        _route("POST", _BUCKETS, create_bucket),
        _route("GET", _BUCKET, get_bucket),
        _route("GET", f"{_BUCKET}/iam/testPermissions", test_permissions),
        _route("GET", _OBJECTS, list_objects),
        _route("GET", _OBJECT, get_object),
        _route("GET", f"/download{_OBJECT}", download_object),
        _route("DELETE", _OBJECT, delete_object),
        _route("POST", f"/upload{_OBJECTS}", _upload),
        _route("PUT", f"/upload{_OBJECTS}", lambda _, request: _sessions(request).proceed(request)),
        _route("DELETE", f"/upload{_OBJECTS}", lambda _, request: _sessions(request).cancel(request)),
    )


def _route(method: str, path: str, handler: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request.app.state.service, request)
        except StorageError as error:
            return json_response(error.body(), error.status)
        except OSError as error:
            message = f"The embedded service cannot store the content of objects: {error.strerror}"
            return json_response(StorageError(503, "backendError", message).body(), 503)
        except ClientDisconnect:
            return Response(status_code=499, headers=HEADERS)  # the client has disconnected

    return Route(path, endpoint, methods=[method])


async def _upload(service: Service, request: Request) -> Response:
    kind = request.query_params.get("uploadType", "")
    if kind not in _UPLOADS:
        raise invalid(f"uploadType must be one of {', '.join(_UPLOADS)}, but is '{kind[:100]}'")
    return await _UPLOADS[kind](service, request)


async def list_objects(service: Service, request: Request) -> Response:
    """Return a page of the objects of a bucket, ordered by name."""
    bucket, query = request.path_params["bucket"], request.query_params
    check_bucket(bucket)
    unknown = _UNSUPPORTED & query.keys()
    if unknown:
        raise invalid(f"{', '.join(sorted(unknown))}: not supported by this service; list by prefix")
    asked = whole_number("maxResults", query.get("maxResults", str(_MAX_PAGE)))
    if not asked:
        raise invalid("Invalid value for maxResults: '0'")
    size = min(asked, _MAX_PAGE)
    found = service.objects.after(bucket, query.get("prefix", ""), _page_start(query.get("pageToken", "")), size + 1)
    page: JsonObject = {"kind": "storage#objects"}
    if found:
        page["items"] = [object_resource(stored, request) for stored in found[:size]]
    if len(found) > size:
        page["nextPageToken"] = base64.urlsafe_b64encode(found[size - 1].document["name"].encode()).decode()
    return json_response(page)


def _page_start(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError:
        raise invalid(f"Invalid value for pageToken: '{token[:100]}'") from None


def _find(service: Service, request: Request) -> StoredObject:
    return service.objects.get(request.path_params["bucket"], request.path_params["object"], request.query_params)


async def get_object(service: Service, request: Request) -> Response:
    """Return the resource of an object, or its content with ``alt=media``."""
    if request.query_params.get("alt") == "media":
        return await download_object(service, request)
    return json_response(object_resource(_find(service, request), request))


async def delete_object(service: Service, request: Request) -> Response:
    """Delete an object."""
    service.objects.delete(request.path_params["bucket"], request.path_params["object"], request.query_params)
    return Response(status_code=204, headers=HEADERS)


async def download_object(service: Service, request: Request) -> Response:
    """Return the content of an object, or the part in a Range header (``bytes=FIRST-`` or ``FIRST-LAST``)."""
    stored = _find(service, request)
    document, size = stored.document, stored.size
    hashes = {"crc32c": document.get("crc32c"), "md5": document["md5Hash"]}
    headers = {
        **HEADERS,
        "x-goog-generation": document["generation"],
        "x-goog-metageneration": document["metageneration"],
        "x-goog-hash": ",".join(f"{kind}={value}" for kind, value in hashes.items() if value),
        "accept-ranges": "bytes",
        "content-disposition": "attachment",  # a browser must not show an upload as a page of this host
    }
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    first, last = 0, size - 1
    if match:
        first, last = int(match["first"]), min(int(match["last"] or last), last)
        if first > last:
            raise StorageError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    headers["content-length"] = str(last - first + 1)
    file = stored.path.open("rb")  # opened now: the object may be replaced during the read
    file.seek(first)
    content = _stream(file, last - first + 1)
    return StreamingResponse(content, 206 if match else 200, headers, document["contentType"])


async def _stream(file: IO[bytes], length: int) -> AsyncIterator[bytes]:
    with file:
        for chunk in chunks_of(file, length):
            yield chunk
