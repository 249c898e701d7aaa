"""Select the manifests of a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from reconciler.domain.errors import UsageError
from reconciler.domain.model import Manifest
from reconciler.domain.text import join_names, suggest


class Selection(Struct, frozen=True):
    """Names and labels to select manifests by; an empty selection matches all of them.

    ``labels`` are pairs that must all match; ``only`` are the names to keep, ``exclude`` those to drop.
    """

    labels: tuple[tuple[str, str], ...] = ()
    only: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()

    @property
    def selects_all(self) -> bool:
        """Whether it matches every manifest."""
        return self == Selection()

    def select(self, manifests: Sequence[Manifest]) -> tuple[Manifest, ...]:
        """Return the selected manifests.

        Raises:
            UsageError: when ``only`` or ``exclude`` have an unknown name, or no manifests match.
        """
        check_names("--only", self.only, manifests)
        check_names("--exclude", self.exclude, manifests)
        chosen = tuple(manifest for manifest in manifests if self.matches(manifest.name, manifest.labels))
        if manifests and not chosen:
            raise UsageError("no manifests match", "check metadata.labels, --only and --exclude")
        return chosen

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a manifest with this name and these labels is selected."""
        return (
            all(labels.get(label) == value for label, value in self.labels)
            and (not self.only or name in self.only)
            and name not in self.exclude
        )


def check_names(option: str, names: Iterable[str], manifests: Sequence[Manifest]) -> None:
    """Refuse unknown names; a misspelled name must not be ignored silently.

    Raises:
        UsageError: naming the nearest name, or all of them.
    """
    known = [manifest.name for manifest in manifests]
    for name in sorted(set(names) - set(known)):
        remedy = suggest(name, known, otherwise=f"the manifests are: {join_names(sorted(known))}")
        raise UsageError(f"{option} {name}: no manifest of that name", remedy)
