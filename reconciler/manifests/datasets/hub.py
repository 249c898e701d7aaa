"""Data sets of the Hugging Face Hub, in the cache of huggingface_hub, which is in the extra `hub`.

The hub, the cache and the token are those of the user's environment: ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN``. What
the cache has of a commit is not requested again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.text import quote
from reconciler.manifests.datasets.file_formats import MAX_BYTES, names_data_file
from reconciler.manifests.datasets.hub_addresses import (
    CARD,
    HubAddress,
    common_pattern,
    require_commit,
    select_files,
)

_MAX_CARD: Final = 2**18
_LIBRARY: Final = "huggingface_hub"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNAUTHORIZED: Final = frozenset({401, 403})
_INSTALL: Final = "run `pip install 'tuned-model-reconciler[hub]'`"


class HubFiles(Struct, frozen=True):
    """The files in the cache that an address stands for, by their own addresses.

    ``declared`` is the address for a manifest: with the path of the file, or a pattern that the files have in common.
    """

    address: HubAddress
    files: Mapping[str, Path]
    declared: HubAddress


def resolve_commit(address: HubAddress) -> HubAddress:
    """Return the address pinned to the current commit of its branch or tag, by default of the main branch.

    Raises ReconcileError if the hub cannot be queried.
    """
    if address.is_pinned:
        return address
    hub = hub_library()
    with _hub_errors(hub, address):
        found = hub.HfApi().dataset_info(address.repository, revision=unquote(address.revision) or "main").sha
    pinned = replace(address, revision=found or "")
    require_commit(pinned)
    return pinned


def fetch(address: HubAddress, *, offline: bool = False) -> HubFiles:
    """Return the files of a pinned address; those that the cache does not have are downloaded.

    ``offline`` reads the cache alone.

    Raises ReconcileError if the address stands for no data file, or the files are unavailable.
    """
    require_commit(address)
    hub = hub_library()
    with _hub_errors(hub, address):
        names, declared = [address.path], address
        if address.is_pattern or not names_data_file(address.path):
            listed = _listed(hub, address, offline=offline)
            names = select_files(address, listed, lambda: _card(hub, address, offline=offline))
            if not address.is_pattern:
                declared = replace(address, path=common_pattern(names, listed) or address.path)
        files = _cached(hub, address, names, offline=offline)
    addresses = [str(replace(address, path=name)) for name in names]
    return HubFiles(address, dict(zip(addresses, files, strict=True)), declared)


def hub_library(purpose: str = "reading data sets of the Hugging Face Hub") -> Any:
    """Return the library, silent; raises ReconcileError, with the purpose, if it is missing or too old."""
    try:
        hub = import_module(_LIBRARY)
        _ = hub.get_cached_repo_tree  # the newest function that is used here
    except (ImportError, AttributeError):
        message = f"{purpose} needs {_LIBRARY} 1.24 or newer"
        raise ReconcileError(message, _INSTALL) from None
    hub.utils.disable_progress_bars()  # they would print names of files as they are
    hub.utils.logging.set_verbosity_error()
    return hub


def _listed(hub: Any, address: HubAddress, *, offline: bool) -> list[str]:
    """Return the names of all files of a data set; the library keeps the list of a commit in the cache."""
    arguments = {"repo_type": "dataset", "revision": address.revision}
    try:
        found = hub.get_cached_repo_tree(address.repository, **arguments)
    except hub.errors.CachedRepoTreeNotFoundError:
        hub.snapshot_download(address.repository, **arguments, allow_patterns=[], local_files_only=offline)
        found = hub.get_cached_repo_tree(address.repository, **arguments)
    return [file.path for file in found]


def _card(hub: Any, address: HubAddress, *, offline: bool) -> str:
    (card,) = _cached(hub, replace(address, path=CARD), [CARD], offline=offline)
    with card.open(encoding="utf-8", errors="replace") as file:
        return file.read(_MAX_CARD)


def _cached(hub: Any, address: HubAddress, names: Sequence[str], *, offline: bool) -> list[Path]:
    """Return files in the cache; those that it does not have are downloaded, if all together are not too large.

    Raises ReconcileError if a link leads out of the cache, as one in a cache of another author may.
    """
    arguments = {"repo_type": "dataset", "revision": address.revision}
    found = {name: hub.try_to_load_from_cache(address.repository, name, **arguments) for name in names}
    missing = [name for name, file in found.items() if not isinstance(file, str)]
    if missing and not offline:
        _require_downloadable(hub, address, missing)
    for name in missing:
        found[name] = hub.hf_hub_download(address.repository, name, **arguments, local_files_only=offline)
    cache = os.path.realpath(hub.constants.HF_HUB_CACHE)
    for name, file in found.items():
        if not Path(os.path.realpath(file)).is_relative_to(cache):
            message = f"{replace(address, path=name)}: a link in the cache leads out of it"
            raise ReconcileError(message, f"remove the link {file}")
    return [Path(file) for file in found.values()]


def _require_downloadable(hub: Any, address: HubAddress, names: list[str]) -> None:
    arguments = {"repo_type": "dataset", "revision": address.revision}
    described = hub.HfApi().get_paths_info(address.repository, names, **arguments)
    sizes = {file.path: file.size for file in described if isinstance(file, hub.hf_api.RepoFile)}
    for name in names:
        if name not in sizes:
            page = f"{hub.constants.ENDPOINT}/datasets/{address.repository}/tree/{address.revision}"
            message = f"{replace(address, path='')} has no file {quote(name)}"
            raise ReconcileError(message, f"choose a file of {page}")
    if sum(sizes.values()) > MAX_BYTES:
        message = f"{address} has {sum(sizes.values()):,} bytes, more than the limit of {MAX_BYTES:,}"
        raise ReconcileError(message, "name a smaller file; no service accepts more")


@contextmanager
def _hub_errors(hub: Any, address: HubAddress) -> Iterator[None]:
    """Turn the errors of the library, and those that they are raised from, into one message."""
    errors = hub.errors
    known = (OSError, ValueError, RuntimeError, errors.CachedRepoTreeNotFoundError, errors.HTTPError)
    try:
        yield
    except known as error:
        message, remedy = _explain(hub, address, causes_of(error))
        raise ReconcileError(message, remedy) from error


def causes_of(error: BaseException | None) -> list[BaseException]:
    """Return an error and those that it was raised from."""
    found = []
    while error and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _explain(hub: Any, address: HubAddress, causes: Sequence[BaseException]) -> tuple[str, str]:
    """Return the message and the remedy for an error of the library."""
    data_set, endpoint = replace(address, revision="", path=""), hub.constants.ENDPOINT
    page = f"{endpoint}/datasets/{address.repository}"
    explanations = {
        "GatedRepoError": (
            f"{data_set} is gated: HF_TOKEN is not set, or its account has not accepted the conditions",
            f"accept them at {page}, and set HF_TOKEN to a token of that account",
        ),
        "RepositoryNotFoundError": (
            f"{data_set}: not found, or you do not have access",
            "fix the name; for a private data set, set HF_TOKEN to a token that can read it",
        ),
        "RevisionNotFoundError": (
            f"{data_set} has no revision {quote(address.revision)}",
            f"choose a commit of {page}/commits/main",
        ),
        "OfflineModeIsEnabled": (
            f"{address} is not in the cache, and HF_HUB_OFFLINE is set",
            "unset HF_HUB_OFFLINE, or run the command with network access first",
        ),
    }
    for name, explanation in explanations.items():
        if any(isinstance(cause, getattr(hub.errors, name)) for cause in causes):
            return explanation
    answers = (cause.response for cause in causes if isinstance(cause, hub.errors.HfHubHTTPError))
    if answer := next(answers, None):
        message = f"{endpoint} answered with the status {answer.status_code} for {address}"
        return message, "fix HF_TOKEN" if answer.status_code in _UNAUTHORIZED else "try again later"
    for cause in causes:
        if isinstance(cause, OSError) and (cause.filename or cause.errno in _NO_ROOM):
            shown = f": {quote(str(cause.filename))}" if cause.filename else ""
            message = f"cannot write the cache of huggingface_hub: {cause.strerror}{shown}"
            return message, "free space, check its permissions, or set HF_HOME to another folder"
    reason = (str(causes[-1]).splitlines() or [type(causes[-1]).__name__])[0]
    return f"cannot read {address} from {endpoint}: {quote(reason)}", "check the network, and HF_ENDPOINT if it is set"
