"""Where the examples of a manifest come from when they are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from reconciler.core.checks import Check
from reconciler.core.model import Example, Manifest, TrainingExample


class Examples(Protocol):
    """Reads data sets afresh; every method raises ReconcileError when one is not what was checked any more.

    That may come as late as the end of the iteration. A data set in Cloud Storage has no examples here.
    """

    def training(self, manifest: Manifest) -> Iterable[TrainingExample]:
        """What the manifest trains on."""
        ...

    def validation(self, manifest: Manifest) -> Iterable[TrainingExample]:
        """What the training is measured on; nothing where the manifest declares nothing."""
        ...

    def held_out(self, manifest: Manifest, check: Check) -> Iterable[Example]:
        """What the evaluation of a check asks about, without preamble."""
        ...
