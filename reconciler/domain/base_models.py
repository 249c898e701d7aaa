"""Base models that can be tuned, as a dated catalog has them. A catalog ages: it causes warnings, never errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from reconciler.domain.document import Count, NonEmpty, Record, Share
from reconciler.domain.money import Money

Method = Literal["SFT", "DPO"]
Names = tuple[NonEmpty, ...]

SHARE_FROM: Final = 1000
"""Above this number of validation examples, :attr:`BaseModel.max_validation_share` applies."""


class BaseModel(Record, frozen=True, kw_only=True):
    """What is known about a base model; omitted facts are unknown."""

    methods: tuple[Method, ...] | None = None
    """How it can be tuned: supervised (`SFT`), or from preferences (`DPO`); empty if no tuning is documented."""
    locations: Names = ()
    """The locations in which it can be tuned."""
    serving_locations: Names = ()
    """The locations in which tuned models are served."""
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    """The highest number of tokens of a training example, its answer included."""
    max_examples: Annotated[int, Meta(ge=1)] | None = None
    """The highest number of training examples."""
    max_bytes: Annotated[int, Meta(ge=1)] | None = None
    """The largest training file in bytes."""
    max_validation_examples: Annotated[int, Meta(ge=1)] | None = None
    """The highest number of validation examples."""
    max_validation_share: Share | None = None
    """The largest share of validation examples in relation to training examples, above 1,000 validation examples."""
    max_validation_bytes_share: Share | None = None
    """The largest share of the validation file in relation to the training file, in bytes."""
    adapter_sizes: tuple[Count, ...] = ()
    """The supported values of `adapterSize`."""
    hyperparameters: Names = ()
    """The names of the supported hyperparameters; all of the service if omitted."""
    max_epochs: Annotated[int, Meta(ge=1)] | None = None
    """The highest number of epochs."""
    cmek: bool | None = None
    """Whether customer-managed encryption keys are supported."""
    price: Money | None = None
    """The public price of a million training tokens, as in `"9.06 USD"`."""
    retirement: date | None = None
    """The day of its retirement: from then on, nothing can be tuned from it."""
    retirement_can_be_later: bool = False
    """Whether the service promises only that it is not retired earlier."""
    successor: str = ""
    """The base model to use instead."""
    supported: bool = True
    """Whether `reconcile` can train from it; if not, `advice` has the reason."""
    advice: str = ""
    """What to do instead, where no base model of this service is a successor, or what else it needs."""
    source: str = ""
    """The address of the page that has these facts."""
    verified: bool = False
    """Whether the facts were read at the source; omitted if some are assumed."""

    def is_retired(self, today: date) -> bool:
        """Return whether its day of retirement has come."""
        return self.retirement is not None and self.retirement <= today


class ModelCatalog(Struct, frozen=True):
    """Base models by name, as of a day.

    A ``closed`` catalog warns of base models that it does not have; the embedded service, which simulates what its
    users declare, has an open one.
    """

    as_of: date | None = None
    models: Mapping[str, BaseModel] = field(default_factory=dict)
    closed: bool = True

    @property
    def named(self) -> str:
        """The catalog as messages name it."""
        return f"the model catalog of {self.as_of}" if self.as_of else "the model catalog"

    def tunable(self, today: date, location: str | None = None) -> tuple[str, ...]:
        """Return the names of the base models that can be tuned today, in a location if one is given."""
        return tuple(
            name
            for name, model in self.models.items()
            if model.supported and model.methods != () and not model.is_retired(today)
            if location is None or not model.locations or location in model.locations
        )
