"""The calls of the Cloud Storage JSON API on objects, reading and describing; see ``uploads`` for writing."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.objects import StoredObject
from reconciler.emulator.responses import HEADERS, json_response
from reconciler.emulator.service import Service
from reconciler.emulator.storage_errors import StorageError

Handler = Callable[[Service, Request], Awaitable[Response]]
_CHUNK = 1024 * 1024
_OBJECTS = "/storage/v1/b/{bucket}/o"
_OBJECT = f"{_OBJECTS}/{{object:path}}"


def storage_routes(service: Service) -> list[Route]:
    """The routes of Cloud Storage."""
    return [_route(service, *entry) for entry in _CALLS]


def _route(service: Service, method: str, path: str, handler: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(service, request)
        except StorageError as error:
            return json_response(error.body(), error.status)

    return Route(path, endpoint, methods=[method])


async def get_object(service: Service, request: Request) -> Response:
    """The resource of an object, or with ``alt=media`` its content."""
    stored = service.objects.get(request.path_params["bucket"], request.path_params["object"], request.query_params)
    if request.query_params.get("alt") == "media":
        return _media(stored)
    return json_response(resource(stored, request))


async def download_object(service: Service, request: Request) -> Response:
    """The content of an object."""
    return _media(
        service.objects.get(request.path_params["bucket"], request.path_params["object"], request.query_params)
    )


async def delete_object(service: Service, request: Request) -> Response:
    """Removes an object."""
    service.objects.delete(request.path_params["bucket"], request.path_params["object"], request.query_params)
    return Response(status_code=204, headers=HEADERS)


async def upload(service: Service, request: Request) -> Response:
    """Stores the body as an object."""
    bucket, query = request.path_params["bucket"], request.query_params
    described = {"name": query.get("name", ""), "contentType": request.headers.get("content-type", "")}
    content = service.objects.new_content()
    try:
        async for chunk in request.stream():
            content.write(chunk)
    except BaseException:
        content.discard()
        raise
    stored = service.objects.put(bucket, described, content, query, service.clock())
    return json_response(resource(stored, request))


def resource(stored: StoredObject, request: Request) -> JsonObject:
    """An object as the JSON API tells it, with links to the host that was asked."""
    document = stored.document
    path = f"b/{document['bucket']}/o/{quote(document['name'], safe='')}"
    query = f"generation={document['generation']}&alt=media"
    tag = f"{document['generation']}/{document['metageneration']}"
    return {
        "kind": "storage#object",
        "id": f"{document['bucket']}/{document['name']}/{document['generation']}",
        "selfLink": f"{request.base_url}storage/v1/{path}",
        "mediaLink": f"{request.base_url}download/storage/v1/{path}?{query}",
        "etag": base64.b64encode(tag.encode()).decode(),
        **document,
    }


def _media(stored: StoredObject) -> Response:
    document = stored.document
    headers = {
        **HEADERS,
        "content-length": document["size"],
        "x-goog-generation": document["generation"],
        "x-goog-metageneration": document["metageneration"],
        "x-goog-hash": f"md5={document['md5Hash']}",
    }
    return StreamingResponse(_read(stored.path), headers=headers, media_type=document["contentType"])


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


_CALLS: tuple[tuple[str, str, Handler], ...] = (
    ("GET", _OBJECT, get_object),
    ("GET", f"/download{_OBJECT}", download_object),
    ("DELETE", _OBJECT, delete_object),
    ("POST", f"/upload{_OBJECTS}", upload),
)
