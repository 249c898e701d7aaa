"""Which of the manifests a command is about."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.domain.errors import UsageError
from reconciler.domain.model import Manifest


@dataclass(frozen=True, slots=True)
class Selection:
    """Names and labels to choose manifests by; an empty selection chooses all of them.

    ``labels`` are pairs that must all be borne; ``only`` are the names to keep, ``exclude`` those to drop.
    """

    labels: tuple[tuple[str, str], ...] = ()
    only: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    @property
    def selects_all(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection()

    def select(self, manifests: Sequence[Manifest]) -> tuple[Manifest, ...]:
        """The chosen manifests.

        Raises:
            UsageError: when ``only`` or ``exclude`` name what is not there, or nothing is chosen.
        """
        check_names("--only", self.only, manifests)
        check_names("--exclude", self.exclude, manifests)
        chosen = tuple(one for one in manifests if self.matches(one.name, one.labels))
        if manifests and not chosen:
            raise UsageError("none of the manifests is chosen", "see their metadata.labels, --only and --exclude")
        return chosen

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a manifest of this name and with these labels is chosen."""
        return (
            all(labels.get(label) == value for label, value in self.labels)
            and (not self.only or name in self.only)
            and name not in self.exclude
        )


def check_names(option: str, names: Iterable[str], manifests: Sequence[Manifest]) -> None:
    """Refuse names that no manifest bears; a misspelt one must not silently do nothing.

    Raises:
        UsageError: naming the nearest name, or all of them.
    """
    known = [manifest.name for manifest in manifests]
    for name in sorted(set(names) - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"the manifests are: {', '.join(sorted(known)) or 'none'}"
        raise UsageError(f"{option} {name}: no manifest of that name", remedy)
