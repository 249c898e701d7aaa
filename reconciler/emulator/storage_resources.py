"""Objects and buckets as the Cloud Storage JSON API tells them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

from reconciler.emulator.errors import JsonObject
from reconciler.emulator.objects import StoredObject

if TYPE_CHECKING:
    from starlette.requests import Request


def object_resource(stored: StoredObject, request: Request) -> JsonObject:
    """An object, with links to the host that was asked."""
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


def bucket_resource(document: JsonObject, request: Request) -> JsonObject:
    """A bucket, with a link to the host that was asked."""
    name = document["name"]
    return {"kind": "storage#bucket", "id": name, "selfLink": f"{request.base_url}storage/v1/b/{name}", **document}
