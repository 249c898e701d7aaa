"""Model repositories of the Hugging Face Hub, which the library huggingface_hub writes in one commit each.

A repository belongs to a manifest if the metadata of its model card name the scope and the manifest. The token goes to
the hub alone: large files are sent to addresses that the hub has signed.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.commands.export import CARD, CARD_FIELD
from reconciler.domain.endpoints import HUB_VARIABLE, hub_of, is_allowed_hub, is_loopback
from reconciler.domain.errors import AccessError, ReconcileError, UsageError
from reconciler.domain.text import quote, sanitize
from reconciler.manifests.datasets.hub import causes_of, hub_library
from reconciler.manifests.datasets.hub_addresses import card_metadata

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"hf://(?!(?:models|datasets|spaces|buckets)/)({_NAME}/{_NAME})")
_OF_THE_HUB: Final = frozenset({".gitattributes"})
"""The files that the hub writes into a new repository."""
_MAX_CARD: Final = 2**18
_DENIED: Final = frozenset({401, 403})


def parse_repository(address: str) -> str:
    """Return ``ORG/REPO`` of ``hf://ORG/REPO``; raises UsageError."""
    found = _ADDRESS.fullmatch(address)
    if not found or "--" in address or ".." in address:
        raise UsageError(
            f"invalid repository {quote(address)}: expected a model repository of the Hugging Face Hub",
            "write hf://ORG/REPO",
        )
    return found[1]


class Repository(Struct, frozen=True):
    """A repository: its newest commit, empty if it does not exist yet, its files, and whose they are.

    ``files`` are digests by name, as :func:`_digests` returns them. ``owner`` is the field of the model card.
    """

    name: str
    head: str = ""
    private: bool = True
    files: Mapping[str, str] = {}
    owner: Mapping[str, Any] = {}

    def require_owner(self, scope: str, names: Collection[str], page: str) -> None:
        """Raise ReconcileError for a repository with files of another author, or of another model."""
        if not set(self.files) - _OF_THE_HUB:
            return
        if self.owner.get("scope") == scope and self.owner.get("name") in names:
            return
        owner = self.owner.get("name")
        whose = f"has the model {quote(str(owner))} of another manifest" if owner else "was not pushed by reconcile"
        raise ReconcileError(f"{page} {whose}, and is not changed", "name an empty or a new repository")

    def require_visibility(self, *, private: bool, page: str) -> None:
        """Raise ReconcileError if an existing repository is not as private as the user has asked for."""
        if not self.head or self.private == private:
            return
        if private:
            raise ReconcileError(f"{page} is public", "pass --public to push there, or name another repository")
        raise ReconcileError(f"{page} is private", f"omit --public, or make it public at {page}/settings")

    def changes(self, folder: Path) -> tuple[list[Path], list[str]]:
        """Return the files of a folder that the repository lacks, and the files of earlier pushes to be removed.

        Files that were not pushed by reconcile are kept.
        """
        local = sorted(folder.iterdir())
        changed = [path for path in local if self.files.get(path.name) not in _digests(path)]
        pushed = self.owner.get("files")
        listed = [name for name in pushed if isinstance(name, str)] if isinstance(pushed, list) else []
        kept = {path.name for path in local} | _OF_THE_HUB
        return changed, sorted((set(listed) & self.files.keys()) - kept)


def _digests(path: Path) -> tuple[str, str]:
    """Return the digests by which a repository can have a file: that of large files, and that of git."""
    with path.open("rb") as file:
        large = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while block := file.read(2**20):
            blob.update(block)
    return large, blob.hexdigest()


class ModelHub:
    """The hub of an environment, with the token of the user.

    Args:
        environ: The environment of the command.
        allowed: The hosts that the user has allowed.

    Raises:
        ReconcileError: the library is missing, or the host of the hub is not allowed.
        AccessError: there is no token.
    """

    def __init__(self, environ: Mapping[str, str], allowed: Collection[str]) -> None:
        self._address = hub_of(environ)
        host = urlsplit(self._address).hostname or ""
        if not is_allowed_hub(self._address, allowed):
            raise ReconcileError(
                f"{HUB_VARIABLE} names {self._address}, which is not the Hugging Face Hub",
                f"unset it, or pass --allow-endpoint {host} if you trust this host with the model and your token",
            )
        if not (self._address.startswith("https://") or is_loopback(host)):
            raise ReconcileError(f"{HUB_VARIABLE} names {self._address}, which has no TLS", "set an https:// address")
        self._hub = hub_library("pushing to the Hugging Face Hub")
        token = environ.get("HF_TOKEN") or self._hub.get_token()
        if not token:
            raise AccessError(
                f"no token for {self._address}",
                f"set HF_TOKEN to a token with write access, from {self._address}/settings/tokens",
            )
        self._api = self._hub.HfApi(endpoint=self._address, token=token)

    def page(self, repository: str) -> str:
        """Return the address of a repository's page."""
        return f"{self._address}/{repository}"

    def read(self, repository: str) -> Repository:
        """Return a repository as it is now; raises ReconcileError."""
        with self._errors(repository):
            try:
                info = self._api.model_info(repository, files_metadata=True)
            except self._hub.errors.RepositoryNotFoundError:
                return Repository(repository)
            files = {
                file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id or "" for file in info.siblings or ()
            }
            card = self._card(repository, info.sha) if CARD in files else ""
        metadata = card_metadata(card) or {}
        owner = metadata.get(CARD_FIELD)
        return Repository(repository, info.sha, bool(info.private), files, owner if isinstance(owner, dict) else {})

    def _card(self, repository: str, commit: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(repository, CARD, revision=commit, local_dir=folder)
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                return file.read(_MAX_CARD)

    def push(self, before: Repository, changed: Sequence[Path], removed: Sequence[str], message: str) -> str:
        """Write one commit on the newest one, and return it; a repository that does not exist is created.

        Raises ReconcileError, also if the repository was changed since it was read.
        """
        with self._errors(before.name):
            head = before.head
            if not head:
                self._api.create_repo(before.name, private=before.private, repo_type="model")
                head = self._api.model_info(before.name).sha
            operations = [self._hub.CommitOperationAdd(path.name, str(path)) for path in changed]
            operations += [self._hub.CommitOperationDelete(name) for name in removed]
            done = self._api.create_commit(before.name, operations, commit_message=message, parent_commit=head)
        return str(done.oid)

    @contextmanager
    def _errors(self, repository: str) -> Iterator[None]:
        """Turn the errors of the library into one message; it never has an address that the hub has signed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library prints them, with what the hub says about metadata
                yield
        except (OSError, ValueError, RuntimeError, self._hub.errors.HTTPError) as error:
            raise self._explain(repository, causes_of(error)) from error

    def _explain(self, repository: str, causes: Sequence[BaseException]) -> ReconcileError:
        errors = self._hub.errors
        if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
            return ReconcileError("HF_HUB_OFFLINE is set, so nothing can be pushed", "unset it")
        for cause in causes:
            if isinstance(cause, errors.HfHubHTTPError):
                said = sanitize(str(cause.server_message or "")) or "it states no reason"
                return self._explain_status(repository, cause.response.status_code, said)
        if any(isinstance(cause, errors.HTTPError) for cause in causes):
            remedy = f"check the network, and {HUB_VARIABLE} if it is set"
            return ReconcileError(f"{self._address} cannot be reached: {_reason(causes[-1])}", remedy)
        message = f"{self.page(repository)} cannot be written: {_reason(causes[-1])}"
        return ReconcileError(message, "fix the reason, and run the command again")

    def _explain_status(self, repository: str, status: int, said: str) -> ReconcileError:
        page, tokens, owner = self.page(repository), f"{self._address}/settings/tokens", repository.partition("/")[0]
        explanations: Mapping[int, tuple[str, str]] = {
            401: (f"{self._address} does not accept the token: {said}", f"set HF_TOKEN to a token of {tokens}"),
            403: (
                f"{page} cannot be written: {said}",
                f"set HF_TOKEN to a token with write access to {owner}, from {tokens}",
            ),
            409: (f"{page} cannot be created: {said}", "name another repository"),
            412: (f"{page} was changed meanwhile, and nothing was pushed", "run the command again"),
        }
        other = f"{self._address} answered with the status {status}: {said}", "try again later"
        kind = AccessError if status in _DENIED else ReconcileError
        return kind(*explanations.get(status, other))


def _reason(error: BaseException) -> str:
    """Return the first line of an error, without the queries of addresses, which can be signed."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return quote(re.sub(r"\?\S*", "?…", line))
