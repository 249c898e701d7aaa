"""Write the published pointer: the serving generations, for applications without a checkout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.commands._project import display_path
from reconciler.commands.resolve import resolved
from reconciler.domain.errors import LockConflict
from reconciler.domain.model import REMOTE_SCHEME, Manifest, Sampling
from reconciler.manifests.discovery import absolute
from reconciler.paths import find_writable, repository_of
from reconciler.reports.documents.change import resolve_document
from reconciler.state.lock_store import LockFile
from reconciler.state.published_pointer import (
    PublishedModel,
    newly_published,
    read_pointer,
    require_unchanged,
    serving_keys,
)

if TYPE_CHECKING:
    from reconciler.commands._project import Project
    from reconciler.domain.lock import Lock
    from reconciler.domain.model import Capabilities, Target
    from reconciler.domain.ports import LockStore
    from reconciler.planning.events import Published


_MAX_CONFLICTS = 5
"""Writes lost to other runs before an error; each of those runs completed a write."""


class Publisher:
    """Writes the pointer of a target: the serving generation of each model, and how to send prompts to it.

    It never overwrites changes that this project did not make. For a model whose manifest was not read, it keeps the
    published sampling while the same generation is serving.
    """

    def __init__(
        self,
        target: Target,
        capabilities: Capabilities,
        manifests: Iterable[Manifest],
        store: LockStore | None,
        shown: str,
    ) -> None:
        """Take all manifests that were read, the store of the pointer, if any, and its name in messages."""
        self.shown = shown
        self._target = target
        self._capabilities = capabilities
        self._sampling = {manifest.name: manifest.sampling for manifest in manifests}
        self._store = store

    def check(self, lock: Lock) -> None:
        """Raise the ReconcileError that :meth:`publish` would, if it can be found without writing."""
        if self._store:
            self._store.check_writable()
            self._text(lock, self._store)

    def publish(self, lock: Lock) -> tuple[Published, ...]:
        """Write the serving generations of the lock, unless the pointer has them; return events for those that changed.

        Raises:
            ReconcileError: when the pointer has changes that this project did not make, is invalid or another
                target's, or cannot be read or written; it is not changed then.
        """
        if self._store is None:
            return ()
        for _ in range(_MAX_CONFLICTS):
            with suppress(LockConflict):
                text = self._text(lock, self._store)
                if text is not None:
                    self._store.write(text)
                return newly_published(lock)
        raise LockConflict(
            f"{self.shown} cannot be written: other runs wrote it {_MAX_CONFLICTS} times in a row",
            "run the command again",
        )

    def _text(self, lock: Lock, store: LockStore) -> str | None:
        """Return the new text of the pointer after checking the current one; ``None`` if no pointer is needed yet."""
        current, serving_now = store.read(), serving_keys(lock)
        if current is None and not serving_now:
            return None
        published = {} if current is None else read_pointer(current, self._target, self.shown)
        if current is not None:
            require_unchanged(published, lock, self.shown)
        entries = (
            resolved(self._target, name, serving, self._sampling_of(name, key, published))
            for name, key in serving_now.items()
            if (serving := lock.models[name].generation(key))
        )
        document = resolve_document(entries, self._target, self._capabilities)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def _sampling_of(self, name: str, key: str, published: Mapping[str, PublishedModel]) -> Sampling:
        former = published.get(name)
        kept = former.sampling if former and former.key == key else Sampling()
        return self._sampling.get(name, kept)


def publisher_of(project: Project) -> Publisher:
    """Return the publisher of a project's target; it does nothing if the target has no ``publish``."""
    store, shown = _pointer_store(project)
    return Publisher(project.target, project.capabilities, project.workspace.manifests, store, shown)


def _pointer_store(project: Project) -> tuple[LockStore | None, str]:
    address, root = project.target.publish, project.workspace.root
    if not address:
        return None, ""
    if address.startswith(REMOTE_SCHEME):
        return project.session.object_store(address, "the published pointer"), address
    path = find_writable(address, root, repository_of(root))
    return LockFile(path), display_path(absolute(address, root), project.session.environment.cwd)
