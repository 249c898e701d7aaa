"""Which models are tuned from which, all the way up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.core.model import Source


class Descent:
    """Which models are tuned from which, however deep, by remote name.

    Lockfiles name a parent by its generation's key, services by its remote name or by that of what its training made:
    there a project goes by its id or its number, and the version of a model may be left out.
    """

    def __init__(self) -> None:
        self._remotes: dict[str, set[str]] = {}
        self._parents: dict[str, set[str]] = {}

    def add(self, remote: str, names: Iterable[str], sources: Iterable[Source]) -> None:
        """Take up a model with further names of it, and what it is tuned from; what has no remote name is no parent."""
        if not remote:
            return
        for name in (remote, *names):
            for handle in {_placed(name), _any_version(_placed(name))} - {""}:
                self._remotes.setdefault(handle, set()).add(remote)
        self._parents.setdefault(remote, set()).update(_links(sources))

    def ancestors(self, sources: Iterable[Source]) -> set[str]:
        """The remote names of everything that what is tuned from ``sources`` descends from, as far as it was added."""
        found: set[str] = set()
        ahead = list(_links(sources))
        while ahead:
            link = ahead.pop()
            for remote in (self._remotes.get(link) or self._remotes.get(_any_version(link), set())) - found:
                found.add(remote)
                ahead += self._parents[remote]
        return found


def _links(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        yield from filter(None, (source.key, _placed(source.remote)))


def _placed(name: str) -> str:
    """A remote name without the project, which has two names."""
    return name.partition("/locations/")[2] or name


def _any_version(name: str) -> str:
    return name.partition("@")[0]
