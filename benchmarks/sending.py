"""The ways from a data set to an object, each timed in this one process.

Run by ``upload.py`` in the folder of a target and its manifest; prints the seconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable

from reconciler.commands._project import CommandInput, open_project
from reconciler.environment import Environment
from reconciler.providers.google.http import Client, ClientSettings, HttpRequest
from reconciler.providers.google.storage import SERVICE, Storage, open_storage
from reconciler.providers.google.upload import SpooledFile, spool_lines
from reconciler.providers.vertex.wire import write_example

COPY, UPLOAD = "gs://benchmark/copy", "gs://benchmark/upload"


async def main(rounds: int) -> None:
    """Check, spool, and then copy and upload in turns."""
    env = Environment()
    began = time.perf_counter()
    project = open_project(env, CommandInput())
    seconds = {"check": [time.perf_counter() - began], "spool": [], "copy": [], "upload": []}
    began = time.perf_counter()
    async with (
        spool_lines(map(write_example, project.workspace.training(project.manifests[0]))) as spool,
        open_storage(env, project.target, frozenset()) as storage,
    ):
        seconds["spool"].append(time.perf_counter() - began)
        for _ in range(rounds):
            seconds["copy"].append(await taken(copy(env, project.target.storage_endpoint, spool)))
            await remove(storage, COPY)
            seconds["upload"].append(await taken(storage.upload(UPLOAD, spool)))
            await remove(storage, UPLOAD)
    print(json.dumps({"bytes": spool.size, "seconds": seconds}))


async def taken(work: Awaitable[object]) -> float:
    """Return how many seconds the work takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def copy(env: Environment, endpoint: str, spool: SpooledFile) -> None:
    """Send all bytes in one request of the HTTP client, without checksum and chunks."""
    client = Client(endpoint, SERVICE, ClientSettings(env.clock, env.sleeper, env.rng.random))
    opening = HttpRequest("POST", "/upload/storage/v1/b/benchmark/o", {"uploadType": "resumable", "name": "copy"}, {})
    opened = await client.send(opening)
    sizes = {"content-length": str(spool.size), "content-range": f"bytes 0-{spool.size - 1}/{spool.size}"}
    await client.request(
        HttpRequest("PUT", opened.headers["location"], content=spool.part(0, spool.size), headers=sizes)
    )
    await client.aclose()


async def remove(storage: Storage, uri: str) -> None:
    """Delete an object, which must exist."""
    found = await storage.stat(uri)
    if found is None:
        raise SystemExit(f"{uri} did not arrive")
    await storage.delete(uri, generation=found.generation)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
