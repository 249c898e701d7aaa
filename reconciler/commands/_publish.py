"""Telling applications what serves: the published pointer, for those that have no checkout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.commands._locks import bucket_text
from reconciler.commands._project import shown_path
from reconciler.commands.resolve import resolved
from reconciler.domain.errors import LockConflict
from reconciler.domain.model import REMOTE_SCHEME, Manifest, Sampling
from reconciler.manifests.discovery import absolute
from reconciler.manifests.paths import find_place, repository_of
from reconciler.reports.documents.serving import resolve_document
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
    from reconciler.environment import Environment
    from reconciler.planning.events import Published


_RIVALS = 5
"""How many times in a row others may be faster at writing; each of them wrote something, which is looked at anew."""


class Publisher:
    """Keeps the pointer of a target: which generation serves each model, and how it is asked.

    It writes over nothing that it cannot account for. Of a model whose manifest was not read, the pointer goes on
    saying how it is sampled, as long as the same generation serves.
    """

    def __init__(
        self,
        target: Target,
        capabilities: Capabilities,
        manifests: Iterable[Manifest],
        store: LockStore | None,
        shown: str,
    ) -> None:
        """``manifests`` are all that were read. ``store`` keeps the pointer, if there is one; ``shown`` names it."""
        self.shown = shown
        self._target = target
        self._capabilities = capabilities
        self._sampling = {manifest.name: manifest.sampling for manifest in manifests}
        self._store = store

    def check(self, lock: Lock) -> None:
        """Raise the ReconcileError that :meth:`publish` would, as far as that can be told without writing."""
        if self._store:
            self._store.check_writable()
            self._text(lock, self._store)

    def publish(self, lock: Lock) -> tuple[Published, ...]:
        """Write what serves by this lock, if the pointer does not say so yet; the models of which it is news.

        Raises:
            ReconcileError: when the pointer says what was never written from here, when it is none or another
                target's, or cannot be read or written; it is left as it is then.
        """
        if self._store is None:
            return ()
        for _ in range(_RIVALS):
            with suppress(LockConflict):
                text = self._text(lock, self._store)
                if text is not None:
                    self._store.write(text)
                return newly_published(lock)
        raise LockConflict(
            f"{self.shown} cannot be written: {_RIVALS} times in a row another run was faster", "run the command again"
        )

    def _text(self, lock: Lock, store: LockStore) -> str | None:
        """What the pointer should say, after it was found to be ours; ``None`` where none is needed yet."""
        found, serving_now = store.read(), serving_keys(lock)
        if found is None and not serving_now:
            return None
        before = {} if found is None else read_pointer(found, self._target, self.shown)
        if found is not None:
            require_unchanged(before, lock, self.shown)
        entries = (
            resolved(self._target, name, serving, self._sampled(name, key, before))
            for name, key in serving_now.items()
            if (serving := lock.models[name].generation(key))
        )
        document = resolve_document(entries, self._target, self._capabilities)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def _sampled(self, name: str, key: str, before: Mapping[str, PublishedModel]) -> Sampling:
        told = before.get(name)
        kept = told.sampling if told and told.key == key else Sampling()
        return self._sampling.get(name, kept)


def publisher_of(env: Environment, project: Project, allow_endpoints: frozenset[str]) -> Publisher:
    """What keeps the pointer of a project's target; it does nothing where the target names none."""
    target = project.target
    store, shown = _store(env, project, allow_endpoints)
    return Publisher(target, project.capabilities, project.workspace.manifests, store, shown)


def _store(env: Environment, project: Project, allow_endpoints: frozenset[str]) -> tuple[LockStore | None, str]:
    target, root = project.target, project.workspace.root
    if not target.publish:
        return None, ""
    if target.publish.startswith(REMOTE_SCHEME):
        return bucket_text(env, target, target.publish, allow_endpoints, "the published pointer"), target.publish
    path = find_place(target.publish, root, repository_of(root))
    return LockFile(path), shown_path(absolute(target.publish, root), project.cwd)
