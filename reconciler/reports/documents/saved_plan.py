"""SavedPlan documents: a plan with everything that is needed to carry it out later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from reconciler.domain.document import Digest, Moment, NonEmpty, Record, Report, Scalar
from reconciler.domain.errors import Place
from reconciler.domain.labels import LabelRequirement
from reconciler.domain.lock import Lock, LockedGeneration, limits_by_name
from reconciler.domain.model import Manifest, Stage, Target
from reconciler.planning.check_evaluation import checks_digest
from reconciler.reports.documents.plan import Commit, PlanReport


class PlanInput(Record, frozen=True, kw_only=True):
    """The request that the plan answers."""

    paths: tuple[str, ...]
    """The paths of the request, relative to the working directory; empty for the default."""
    target: NonEmpty
    """The target's name."""
    labels: tuple[LabelRequirement, ...]
    """The label selectors."""
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
    checks: str = ""
    """The digest of its checks; omitted if there are none."""


class RecordedFacts(Record, frozen=True, kw_only=True):
    """The recorded inputs of one name."""

    rejected: tuple[str, ...]
    """The keys of the rejected generations."""
    generations: Mapping[str, Digest]
    """The digest of what does not change in the record of each generation, by key: remote name, inputs,
    origin and promoted checkpoint."""
    serving: str = ""
    """The key of the serving generation."""
    stages: Mapping[str, str] = {}
    """The keys of the generations that are serving in the stages after the first one."""


class PlanFacts(Record, frozen=True):
    """The inputs of a plan besides the live state, which its actions contain."""

    target: Annotated[Mapping[str, Scalar], Meta(examples=[{"scope": "demo", "limits.maxCreates": 20}])]
    """The declared target fields; those of a block have the prefix `limits.`, `policy.` or `PROVIDER.`."""
    manifests: Mapping[str, ManifestFacts]
    """The selected manifests, by name."""
    recorded: Mapping[str, RecordedFacts]
    """The inputs from the lockfile, by manifest."""

    def of(self, name: str) -> tuple[ManifestFacts | None, RecordedFacts | None]:
        """Return the facts about one name."""
        return self.manifests.get(name), self.recorded.get(name)

    def about(self, names: AbstractSet[str]) -> PlanFacts:
        """Return the facts about these names, and about the target."""
        return PlanFacts(
            self.target,
            {name: facts for name, facts in self.manifests.items() if name in names},
            {name: facts for name, facts in self.recorded.items() if name in names},
        )


class SavedPlan(Report, frozen=True, kw_only=True, tag="SavedPlan"):
    """A saved plan: written by `reconcile plan --out FILE` and read by `reconcile apply FILE`."""

    time: Moment
    """When the plan was made, in UTC."""
    reconciler: NonEmpty
    """The version of reconcile that saved it; another version refuses it."""
    input: PlanInput
    """The request that the plan answers."""
    facts: PlanFacts
    """The inputs of the plan besides the live state; if one changed that an action depends on, the plan is stale."""
    plan: PlanReport
    """The plan. Its actions contain the live state."""


_TARGET_FIELDS: Final = {
    "name": "name",
    "provider": "provider",
    "scope": "scope",
    "project": "project",
    "location": "location",
    "servingLocation": "serving_location",
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
    fields = {name: getattr(target, attribute) for name, attribute in _TARGET_FIELDS.items()}
    settings = {f"{target.provider}.{name}": _scalar(value) for name, value in target.settings.items()}
    stages = {
        f"stages.{stage.name}.{field}": value for stage in target.stages for field, value in _stage(stage).items()
    }
    limits = {f"limits.{name}": limit for name, limit in limits_by_name(target).items()}
    return PlanFacts(
        target={
            name: value for name, value in {**fields, **settings, **limits, **stages}.items() if value not in (None, "")
        },
        manifests={manifest.name: _manifest(manifest) for manifest in manifests},
        recorded={manifest.name: _recorded(lock, manifest) for manifest in manifests if _is_recorded(lock, manifest)},
    )


def _stage(stage: Stage) -> dict[str, str]:
    return {
        "after": stage.after,
        "soak": "" if stage.soak is None else str(stage.soak),
        "publish": stage.publish,
        "checks": checks_digest(stage.checks) if stage.checks else "",
    }


def _scalar(value: object) -> str | int:
    return value if isinstance(value, str | int) else json.dumps(value, sort_keys=True)


def _manifest(manifest: Manifest) -> ManifestFacts:
    """Return the facts about everything that a manifest declares, without places in the file."""
    checks = checks_digest(manifest.checks) if manifest.checks else ""
    return ManifestFacts(_digest(replace(manifest, place=Place(""), field_places={})), manifest.dataset.digest, checks)


def _digest(value: object) -> str:
    return f"sha256:{hashlib.sha256(msgspec.json.encode(value, order='sorted')).hexdigest()}"


def _is_recorded(lock: Lock, manifest: Manifest) -> bool:
    return not lock.models.keys().isdisjoint(manifest.names)


def _recorded(lock: Lock, manifest: Manifest) -> RecordedFacts:
    """Return what is recorded under the present and the former names of a manifest."""
    models = [lock.models[name] for name in manifest.names if name in lock.models]
    generations = [generation for model in models for generation in model.generations if generation.remote]
    return RecordedFacts(
        rejected=tuple(sorted(key for model in models for key in model.barred_keys)),
        serving=next((model.serving_key for model in models if model.serving_key), ""),
        stages={
            name: stage.serving for model in models for name, stage in model.stages.items() if stage.serving is not None
        },
        generations={generation.key: _digest(_unchanging(generation)) for generation in generations},
    )


def _unchanging(generation: LockedGeneration) -> tuple[object, ...]:
    return (
        generation.remote,
        generation.spec,
        generation.attempt,
        generation.origin,
        generation.source,
        generation.hyperparameters.declared,
        generation.dataset,
        generation.preamble,
        *filter(None, (generation.checkpoint,)),
    )
