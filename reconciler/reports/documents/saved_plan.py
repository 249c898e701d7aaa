"""SavedPlan documents: a plan with everything that is needed to carry it out later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from reconciler.domain.document import Digest, Document, Moment, NonEmpty, Record, Scalar
from reconciler.domain.errors import Place
from reconciler.domain.lock import Lock, limits_by_name
from reconciler.domain.model import Manifest, Target
from reconciler.reports.documents.plan import Commit, PlanReport


class Label(Record, frozen=True):
    """One label."""

    name: str
    """The name."""
    value: str
    """Its value."""


class PlanInput(Record, frozen=True, kw_only=True):
    """The request that the plan answers."""

    paths: tuple[str, ...]
    """The paths of the request, relative to the working directory; empty for the default."""
    target: NonEmpty
    """The target's name."""
    labels: tuple[Label, ...]
    """The labels that select manifests."""
    only: tuple[str, ...]
    """The manifests that were named."""
    exclude: tuple[str, ...]
    """The manifests that were excluded."""
    retry: tuple[str, ...]
    """Names given with `--retry`: train again because the training failed."""
    replace: tuple[str, ...]
    """Names given with `--replace`: train again although the generation is ready."""
    base: Commit = ""
    """The commit that the lockfile was compared with (`plan --base`); omitted without it."""


class ManifestFacts(Record, frozen=True):
    """The inputs from one manifest."""

    content: Digest
    """The digest of all its declared fields."""
    data: str
    """The digest of its training data; empty if the data is unavailable."""


class RecordedFacts(Record, frozen=True, kw_only=True):
    """The recorded inputs of one name."""

    rejected: tuple[str, ...]
    """The keys of the rejected generations."""
    serving: str = ""
    """The key of the serving generation."""


class PlanFacts(Record, frozen=True):
    """The inputs of a plan besides the live state, which its actions contain."""

    target: Annotated[Mapping[str, Scalar], Meta(examples=[{"scope": "demo", "limits.maxCreates": 20}])]
    """The declared target fields; those of a block have the prefix `limits.`, `policy.` or `PROVIDER.`."""
    manifests: Mapping[str, ManifestFacts]
    """The selected manifests, by name."""
    recorded: Mapping[str, RecordedFacts]
    """The inputs from the lockfile, by manifest."""


class SavedPlan(Document, frozen=True, kw_only=True, tag="SavedPlan"):
    """A saved plan: written by `reconcile plan --out FILE` and read by `reconcile apply FILE`."""

    time: Moment
    """When the plan was made, in UTC."""
    reconciler: NonEmpty
    """The version of reconcile that saved it; another version refuses it."""
    input: PlanInput
    """The request that the plan answers."""
    facts: PlanFacts
    """The inputs of the plan besides the live state; if one of them changed, the plan is stale."""
    plan: PlanReport
    """The plan. Its actions contain the live state."""


_TARGET_FIELDS: Final = {
    "name": "name",
    "provider": "provider",
    "scope": "scope",
    "project": "project",
    "location": "location",
    "apiVersion": "api_version",
    "endpoint": "endpoint",
    "storageEndpoint": "storage_endpoint",
    "bucket": "bucket",
    "lock": "lock",
    "publish": "publish",
    "policy.publicAccess": "public_access",
}
"""The attributes of a target that a plan depends on, by wire name; not the pace of the embedded service."""


def plan_facts(manifests: Sequence[Manifest], target: Target, lock: Lock) -> PlanFacts:
    """Return what a plan depends on besides live state, which its actions contain."""
    names = sorted({name for manifest in manifests for name in manifest.names} & lock.models.keys())
    fields = {name: getattr(target, attribute) for name, attribute in _TARGET_FIELDS.items()}
    settings = {f"{target.provider}.{name}": _scalar(value) for name, value in target.settings.items()}
    limits = {f"limits.{name}": limit for name, limit in limits_by_name(target).items()}
    return PlanFacts(
        target={name: value for name, value in {**fields, **settings, **limits}.items() if value not in (None, "")},
        manifests={manifest.name: ManifestFacts(_content(manifest), manifest.dataset.digest) for manifest in manifests},
        recorded={name: _recorded(lock, name) for name in names},
    )


def _scalar(value: object) -> str | int:
    return value if isinstance(value, str | int) else json.dumps(value, sort_keys=True)


def _content(manifest: Manifest) -> str:
    """Return the digest of everything that a manifest declares with its data sets, without its place in the file."""
    declared = msgspec.json.encode(replace(manifest, place=Place("")), order="sorted")
    return f"sha256:{hashlib.sha256(declared).hexdigest()}"


def _recorded(lock: Lock, name: str) -> RecordedFacts:
    model = lock.models[name]
    return RecordedFacts(rejected=tuple(sorted(model.rejected)), serving=model.serving_key or "")
