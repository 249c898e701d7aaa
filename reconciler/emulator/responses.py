"""What all responses of the embedded service have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from reconciler.emulator.errors import JsonObject

SERVER = "reconcile-emulator (simulated training)"
HEADERS = {"server": SERVER}


def json_response(content: JsonObject, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON body as Google's services send it."""
    body = json.dumps(content, separators=(",", ":"))
    return Response(body, status, {**HEADERS, **(headers or {})}, "application/json; charset=UTF-8")
