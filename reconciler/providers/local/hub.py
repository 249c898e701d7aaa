"""The Hugging Face Hub, from which base models come: its address, and what changed there since they were pinned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.domain.endpoints import HUB, HUB_VARIABLE, hub_of, is_allowed_hub, is_loopback
from reconciler.domain.plan import BaseModelChange
from reconciler.domain.text import join_names, sanitize
from reconciler.providers.local.base_models import Fault
from reconciler.trainer.run_files import MODEL_SUFFIXES, BaseModel

if TYPE_CHECKING:
    import httpx

TOKEN_VARIABLES: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
_OFFLINE: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_BRANCH: Final = "main"
_SECONDS: Final = 10.0
_SHOWN_FILES: Final = 3
_LOG: Final = logging.getLogger(__name__)


class Hub(Struct, frozen=True):
    """Where models of the hub come from, and why they may not come from there.

    ``token`` is sent to the hub itself. If it is ``offline``, the user has forbidden to contact it.
    """

    address: str = HUB
    fault: Fault | None = None
    token: str = ""
    offline: bool = False

    @classmethod
    def of(cls, environ: Mapping[str, str], allowed: Collection[str]) -> Self:
        """Return the hub of an environment; another host than the hub itself or this machine must be allowed."""
        address, offline = hub_of(environ), is_offline(environ)
        token = next(filter(None, (environ.get(name, "") for name in TOKEN_VARIABLES)), "") if address == HUB else ""
        if is_allowed_hub(address, allowed):
            return cls(address, None, token, offline)
        host = urlsplit(address).hostname or ""
        fault = Fault(
            f"{HUB_VARIABLE} names {address}, which is not the hub",
            f"unset it, or pass --allow-endpoint {host} if you trust this host with base models",
        )
        return cls(address, fault, "", offline)

    async def find_changes(self, pinned: Mapping[str, BaseModel]) -> dict[str, BaseModelChange]:
        """Return the base models of which the hub has other files on the main branch than at their commits, by name.

        A hub that cannot be queried changes nothing; then a warning is logged.
        """
        models = {name: model for name, model in pinned.items() if model.hub}
        if not models or self.offline or self.fault:
            return {}
        import httpx

        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        direct = is_loopback(urlsplit(self.address).hostname or "")
        async with httpx.AsyncClient(
            base_url=f"{self.address}/api/models/",
            headers=headers,
            timeout=_SECONDS,
            follow_redirects=True,  # of a model with another name now; another host gets no token
            trust_env=not direct,
            verify=self.address.startswith("https:"),  # otherwise there are no certificates to load
        ) as client:
            found = await asyncio.gather(*(_compare(client, model) for model in models.values()))
        return {name: change for name, change in zip(models, found, strict=True) if change}


def is_offline(environ: Mapping[str, str]) -> bool:
    """Return whether a variable forbids the libraries of the hub to use the network."""
    return any(environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in _OFFLINE)


async def _compare(client: httpx.AsyncClient, pinned: BaseModel) -> BaseModelChange | None:
    """Return how the files of the main branch differ; other files than those that a training reads do not count."""
    import httpx

    try:
        commit = (await _get(client, f"{pinned.hub}/revision/{_BRANCH}"))["sha"]
        if commit == pinned.revision:
            return None
        old, new = [_loaded(await _get(client, f"{pinned.hub}/tree/{at}")) for at in (pinned.revision, commit)]
    except httpx.HTTPStatusError as error:
        return _refused(pinned, error)
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        _warn(pinned, sanitize(str(error)) or type(error).__name__)
        return None
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if not changed:
        return None
    files = join_names(list(map(sanitize, changed)), _SHOWN_FILES)
    message = f"the main branch of {pinned.hub} on the hub has other files than the pinned commit: {files}"
    return BaseModelChange(message, f"{pinned.hub}@{commit}")


def _refused(pinned: BaseModel, error: httpx.HTTPStatusError) -> BaseModelChange | None:
    if error.response.status_code not in {401, 404}:  # the hub answers 401 for what does not exist
        _warn(pinned, f"the hub answered with {error.response.status_code}")
        return None
    if error.request.url.path.endswith(f"/revision/{_BRANCH}"):
        return BaseModelChange(f"{pinned.hub} was not found on the hub, or you do not have access")
    return BaseModelChange(f"{pinned.hub} no longer has the commit {pinned.revision} on the hub")


def _warn(pinned: BaseModel, reason: str) -> None:
    _LOG.warning("%s was not compared with its main branch on the hub: %s", pinned.hub, reason)


async def _get(client: httpx.AsyncClient, path: str) -> Any:
    response = await client.get(path)
    response.raise_for_status()
    return response.json()


def _loaded(listed: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the objects of the files that a training reads, by name."""
    return {file["path"]: file["oid"] for file in listed if file["path"].endswith(MODEL_SUFFIXES)}
