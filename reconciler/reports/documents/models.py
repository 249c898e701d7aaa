"""Models and Migration reports: the base models that can be tuned, and manifests that move to their successors."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Literal

from reconciler.domain.base_models import BaseModel, ModelCatalog
from reconciler.domain.document import Count, ManifestName, ManifestPath, NonEmpty, Position, Record, Scalar
from reconciler.domain.errors import ExitStatus
from reconciler.domain.model import Capabilities, Target
from reconciler.planning.model_catalog import RETIRING
from reconciler.reports.documents.envelope import TargetReport, target_summary

BaseModelState = Literal["tunable", "elsewhere", "retiring", "retired", "undocumented", "unsupported", "notListed"]
"""Whether a base model can be tuned in the target's location today."""


class ListedBaseModel(Record, frozen=True, kw_only=True):
    """One base model."""

    name: NonEmpty
    """The name, as in `spec.baseModel` of a manifest."""
    state: BaseModelState
    """`tunable`; `retiring` if it is tunable and retired within 90 days; `retired`; `elsewhere` if it cannot be tuned
    in the location of the target; `undocumented` if no tuning of it is documented; `unsupported` if `reconcile` cannot
    train from it; `notListed` if the service has a list of tunable base models without it."""
    days_left: Count | None = None
    """The number of days until its retirement date; 0 from that day on, omitted if the date is unknown."""
    listed: bool | None = None
    """Whether the service lists it as tunable; omitted if the service has no such list or was not queried."""
    facts: BaseModel | None = None
    """What the catalog has about it; omitted if it is only in the list of the service."""


class ModelsReport(TargetReport, frozen=True, kw_only=True, tag="Models"):
    """The base models that can be tuned: the output of `reconcile models --format json`."""

    as_of: date | None = None
    """The date of the catalog."""
    verified: bool
    """Whether the service was queried, and lists its tunable base models."""
    models: tuple[ListedBaseModel, ...]
    """The base models of the catalog in its order, and then those that only the service lists."""
    notices: tuple[str, ...]
    """Why the list of the service is not included."""


def models_report(
    catalog: ModelCatalog,
    target: Target,
    capabilities: Capabilities,
    today: date,
    *,
    listed: Collection[str] | None,
    notices: tuple[str, ...] = (),
    root: str = "",
) -> ModelsReport:
    """Return the report of a catalog and of the base models that the service lists, ``None`` without such a list."""
    unknown = sorted(set(listed or ()) - catalog.models.keys())
    return ModelsReport(
        simulated=capabilities.simulated,
        target=target_summary(target, capabilities, root),
        as_of=catalog.as_of,
        verified=listed is not None,
        models=(
            *(
                ListedBaseModel(
                    name=name,
                    state=_state(name, model, today, target.location, listed),
                    days_left=max((model.retirement - today).days, 0) if model.retirement else None,
                    listed=None if listed is None else name in listed,
                    facts=model,
                )
                for name, model in catalog.models.items()
            ),
            *(ListedBaseModel(name=name, state="tunable", listed=True) for name in unknown),
        ),
        notices=notices,
    )


def _state(
    name: str, model: BaseModel, today: date, location: str | None, listed: Collection[str] | None
) -> BaseModelState:
    is_listed = listed is not None and name in listed
    obstacles: tuple[tuple[BaseModelState, bool], ...] = (
        ("retired", model.is_retired(today)),
        ("undocumented", model.methods == ()),
        ("unsupported", not model.supported),
        ("notListed", listed is not None),
        ("elsewhere", bool(location and model.locations and location not in model.locations)),
    )
    for state, applies in obstacles:
        if applies and not is_listed:
            return state
    return "retiring" if model.retirement and today < model.retirement <= today + RETIRING else "tunable"


class EditedField(Record, frozen=True, kw_only=True):
    """One field of a manifest with a new value."""

    field: NonEmpty
    """The field, such as `spec.baseModel`."""
    line: Position
    """Its line in the manifest."""
    before: Scalar
    """The value in the manifest."""
    after: Scalar
    """The value for the successor."""
    renamed: str = ""
    """Its name for the successor; omitted if that is the same."""


class ModelMigration(Record, frozen=True, kw_only=True):
    """One manifest."""

    name: ManifestName
    manifest: ManifestPath
    line: Position
    """The line of its name in the manifest."""
    outcome: Literal["changed", "unchanged", "refused"]
    """`changed` if it moves to the successor; `unchanged` if there is nothing to do or to move it to; `refused` if it
    must move and cannot: then no manifest is written."""
    base_model: str = ""
    """The base model before the change; omitted for a model that is tuned from another one."""
    successor: str = ""
    """The base model after the change."""
    retirement: date | None = None
    """The day of the retirement of the base model; omitted if it is unknown."""
    edits: tuple[EditedField, ...] = ()
    """The fields with a new value."""
    message: str = ""
    """Why the manifest is not changed, and what to do."""
    notes: tuple[NonEmpty, ...] = ()
    """What the catalog warns of about the manifest with the successor."""


class BaseModelChange(Record, frozen=True, kw_only=True):
    """The manifests that move from one base model to another."""

    id: NonEmpty
    """A name of this change, which is the same in each run until the edits differ: words of the base model, and a hash
    of the edits."""
    base_model: NonEmpty
    """The base model before the change."""
    successor: NonEmpty
    """The base model after the change."""
    names: tuple[ManifestName, ...]
    """The manifests."""


class EditedFile(Record, frozen=True, kw_only=True):
    """One file of manifests."""

    file: NonEmpty
    """The path, as the user would write it."""
    diff: str = ""
    """The differences in unified format; omitted if the target does not show examples."""


class MigrationReport(TargetReport, frozen=True, kw_only=True, tag="Migration"):
    """What `reconcile migrate` changed in manifests, or would change: the output with `--format json`."""

    as_of: date | None = None
    """The date of the catalog."""
    exit_status: ExitStatus
    """The exit status of the command: 1 if a manifest is `refused`."""
    written: bool
    """Whether the files were written."""
    models: tuple[ModelMigration, ...]
    """The manifests that were named, or else those whose base model is retired or is retired within 90 days."""
    changes: tuple[BaseModelChange, ...]
    """The changes, by base model; without those of which a manifest is refused."""
    files: tuple[EditedFile, ...]
    """The files of the changes."""
