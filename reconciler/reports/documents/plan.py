"""Plan documents: the actions that a run would carry out, and changes of data sets where they were compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field
from msgspec.structs import asdict, replace

from reconciler.domain.access import AccessChange
from reconciler.domain.document import (
    END,
    Attempt,
    Count,
    Key,
    LockfilePath,
    ManifestName,
    NonEmpty,
    Position,
    Record,
    Remote,
    Scalar,
)
from reconciler.domain.lock import StageName
from reconciler.domain.model import (
    Capabilities,
    Conversation,
    Hyperparameters,
    Method,
    Source,
    Target,
    TrainingExample,
)
from reconciler.domain.money import Money
from reconciler.domain.plan import Action, Deletion, FieldChange, KeptGeneration, Kind, Plan, Reason, TrainingEstimate
from reconciler.planning.costs import count_unknown, total_cost
from reconciler.planning.datasets import ChangedExample, DatasetChange, DatasetChanges, Use
from reconciler.reports.documents.envelope import Places, TargetReport, TargetSummary, target_summary
from reconciler.reports.documents.status import RecordedDetails


class PlanTarget(TargetSummary, frozen=True, kw_only=True):
    """The target of a plan, with where data and requests go: a pull request can change all of these."""

    endpoint: Annotated[str, Meta(examples=["http://127.0.0.1:8080"])] = ""
    """The declared service endpoint; omitted for the default."""
    serving_location: Annotated[str, Meta(examples=["eu"])] = ""
    """Where models are deployed again; omitted for the service's choice."""
    storage_endpoint: Annotated[str, Meta(examples=["http://127.0.0.1:8080"])] = ""
    """The Cloud Storage endpoint; omitted for the default."""
    bucket: Annotated[str, Meta(examples=["gs://acme-tuning-data"])] = ""
    """The Cloud Storage location that data sets are uploaded to."""
    lock: Annotated[str, Meta(examples=["gs://acme-tuning-data/production.lock.json"])] = ""
    """The Cloud Storage location of the lockfile; omitted if it is beside the target file."""
    service_account: Annotated[str, Meta(examples=["tuner@my-project-id.iam.gserviceaccount.com"])] = ""
    """The service account that trainings run as; omitted for the default."""
    kms_key_name: Annotated[
        str, Meta(examples=["projects/my-project-id/locations/europe-west4/keyRings/tuning/cryptoKeys/models"])
    ] = ""
    """The Cloud KMS key that encrypts the trained models; omitted for a Google-managed key."""
    publish: Annotated[str, Meta(examples=["gs://acme-tuning-data/serving.json"])] = ""
    """The published pointer: a file or a Cloud Storage location."""
    store: Annotated[str, Meta(examples=["/data/models"])] = ""
    """The folder of the models that are trained on this machine; omitted for the default."""
    inference_url: Annotated[str, Meta(examples=["http://127.0.0.1:8000/v1"])] = ""
    """The server that answers prompts; omitted for the service's own."""


class PlanSummary(Record, frozen=True):
    """The number of actions of each kind, and the amount of training that they start."""

    create: Count
    """Actions of the kind create."""
    update: Count
    """Actions of the kind update."""
    wait: Count
    """Actions of the kind wait."""
    adopt: Count
    """Actions of the kind adopt."""
    check: Count
    """Actions of the kind check."""
    promote: Count
    """Actions of the kind promote."""
    delete: Count
    """Actions of the kind delete."""
    hold: Count
    """Actions of the kind hold."""
    noop: Count
    """Actions of the kind noop."""
    failing: Count
    """Held actions that make a run fail until someone resolves them."""
    steps: Count
    """The training steps of all creates, where they can be estimated."""
    estimated: bool
    """Whether some of the steps are estimates."""
    seconds: Annotated[float, Meta(ge=0)] | None = None
    """The estimated duration of all trainings, one after the other, in seconds; omitted if one is unknown."""
    billable_tokens: Count = 0
    """The tokens of all epochs of all creates that are paid, where they can be estimated."""
    cost: Money | None = None
    """The cost of all creates, where it is known."""
    unknown_costs: Count = 0
    """The number of creates whose cost is unknown."""


class PlannedAction(Record, frozen=True, kw_only=True):
    """One action for one manifest."""

    name: ManifestName
    file: NonEmpty
    """The path of the manifest relative to the root; `-` is standard input, `(no manifest)` if none is known."""
    action: Kind
    """The action."""
    reason: Reason
    """The reason; a stable name."""
    stage: StageName = ""
    """The stage that the action is about; omitted for the first one."""
    key: Key = ""
    remote: Remote = ""
    serving: Key = ""
    """The key of the serving generation that a create or promotion replaces; omitted if there is none."""
    message: str = ""
    """A sentence for the reader."""
    attempt: Attempt
    base_model: Annotated[str, Meta(examples=["models/gemini-3.5-flash"])] = ""
    """The full name of the model that a create is tuned from."""
    source: Source | None = None
    """The parent of a create; omitted for a base model."""
    after: str = ""
    """The key of the parent generation that must be promoted before a create starts; omitted if there is none."""
    method: Method = "supervised"
    """How the model is trained."""
    dataset: str = ""
    """The data set's path relative to the root, or its gs:// address; omitted for inline examples."""
    data_generation: str = ""
    """The generation of a data set in Cloud Storage."""
    data_bytes: Count = 0
    """The size of a data set in Cloud Storage."""
    validation_dataset: str = ""
    """The validation data set's path relative to the root, its gs:// address, or `inline`; omitted if there is none."""
    hyperparameters: Annotated[Hyperparameters, Meta(examples=[{"epochCount": 3, "adapterSize": 4}])] = field(
        default_factory=dict
    )
    """The declared hyperparameters of a create."""
    settings: Annotated[Mapping[str, Any], Meta(examples=[{"outputUri": "gs://acme-tuning-data/weights"}])] = field(
        default_factory=dict
    )
    """Other fields of the provider's block that are sent with a create."""
    training: TrainingEstimate | None = None
    """The amount of training that a create starts."""
    checks: Count = 0
    """The number of checks that run now, or before the new generation is promoted."""
    prompts: Count = 0
    """The largest number of prompts that these checks send, also to models that they compare with and to judges."""
    checkpoints: tuple[str, ...] = ()
    """The IDs of the checkpoints that are checked, promoted or deployed again; omitted for the default one."""
    changes: tuple[FieldChange, ...] = ()
    """The fields that an update patches, or that require a new generation; a permission is a field such as
    `access.user:ada@example.com`, and its value is the role."""
    deletion: Deletion | None = None
    """Details of a generation to delete; omitted when a duplicate training is canceled."""
    line: Position | None = None
    """The line of the manifest's name, counted from 1; omitted for orphans."""
    column: Position | None = None
    """The column of the manifest's name, counted from 1."""

    @property
    def generation(self) -> str:
        """The key of the generation, or else its remote name."""
        return self.key or self.remote


Commit = Annotated[str, Meta(pattern=f"^([0-9a-f]{{40,64}})?{END}", extra={"expected": "the ID of a commit"})]


class DataBase(Record, frozen=True):
    """The commit that the lockfile and the data sets were compared with (`--base REF`)."""

    ref: Annotated[NonEmpty, Meta(examples=["origin/main"])]
    """The branch, tag or commit as it was given."""
    commit: Commit = ""
    """The common ancestor of that commit and HEAD; omitted if nothing could be compared, which a notice explains."""


SampleChange = Literal["added", "removed", "changed", "duplicate", "contradiction", "leaked"]


class DataSample(Record, frozen=True, kw_only=True):
    """One example; its fields depend on `change`."""

    change: SampleChange
    """The change, or the fault."""
    check: str = ""
    """The check whose held-out input is in the training data."""
    input: str | None = None
    """The input without the preamble."""
    output: str | None = None
    """The output of an added, removed or repeated example."""
    conversation: str | None = None
    """An example in the format of Vertex AI, as JSON, in place of input and output."""
    before: str | None = None
    """The previous output of a changed example."""
    after: str | None = None
    """The new output of a changed example."""
    outputs: tuple[str, ...] = ()
    """The first contradicting outputs."""


class DataChange(Record, frozen=True, kw_only=True):
    """The changes of one data set of one manifest."""

    name: ManifestName
    use: Use
    """The use of the data set; `check` is a held-out data set."""
    check: str = ""
    """The name of the check of a held-out data set."""
    path: str = ""
    """The file relative to the root, or the address in Cloud Storage; omitted for inline examples."""
    added: Count | None = None
    """The number of added examples; omitted if the data sets could not be compared."""
    removed: Count | None = None
    """The number of removed examples."""
    changed: Count | None = None
    """The number of examples with the same input and a different output."""
    duplicates: Count = 0
    """The number of distinct examples that occur more than once, and more often than before."""
    contradictions: Count = 0
    """The number of inputs with several outputs of which one is new."""
    leaked: Count = 0
    """The number of held-out inputs that are now in the training data and were not before."""
    samples: tuple[DataSample, ...] = ()
    """The first examples of each kind, shortened; none if the target's `policy` hides examples."""
    note: str = ""
    """Why nothing could be compared, or a remark: the data set is new, was moved, or has a different order."""


class LockfileChange(Record, frozen=True, kw_only=True):
    """One change of the lockfile since the base commit that needs a review or an explanation."""

    name: str = ""
    """The name of the model; omitted for the target and the published pointer."""
    field: NonEmpty
    """The field of the model, of its generation `key`, or of the target; `pointer` for the published pointer."""
    before: Scalar | None = None
    """The value at the base commit, or the one that manifests and target declare; omitted if there is none."""
    after: Scalar | None = None
    """The value now; omitted if there is none."""
    key: Key = ""
    remote: Remote = ""
    reason: str = ""
    """Why a fact is unexplained."""
    file: NonEmpty
    """The path of the lockfile, the target or the published pointer."""
    line: Position
    """The line in the file, counted from 1."""
    column: Position
    """The column in the file, counted from 1."""


class PlanReport(TargetReport, frozen=True, kw_only=True, tag="Plan"):
    """The actions that a run would carry out.

    The output of `reconcile plan --format json` and `reconcile prune --dry-run --format json`.
    """

    target: PlanTarget
    """The target of this document."""
    lockfile: LockfilePath
    verified: bool
    """Whether the service was queried; otherwise the plan trusts what the lockfile records (`--offline`)."""
    changes: bool
    """Whether applying the plan would change the service or the lockfile."""
    summary: PlanSummary
    """The number of actions of each kind, and the amount of training that they start."""
    actions: tuple[PlannedAction, ...]
    """Every action, by manifest and in the order of execution; a model that is in sync has a `noop`."""
    notices: tuple[str, ...]
    """Notices about the whole run."""
    unmanaged: Count
    """The number of unmanaged models at the service; they are never changed."""
    candidates: Count
    """The number of candidates: models of this scope that neither a manifest nor the lockfile knows."""
    kept: tuple[KeptGeneration, ...] | None = None
    """The generations that are kept; only in the plan of `reconcile prune`."""
    model_details: RecordedDetails = ()
    base: DataBase | None = None
    """The commit that the lockfile and the data sets were compared with (`plan --base REF`)."""
    decisions: tuple[LockfileChange, ...] | None = None
    """The decisions in the lockfile that differ from `base`: serving, rejected, protected, published, adopted and
    removed generations; present only with `--base`."""
    unexplained: tuple[LockfileChange, ...] | None = None
    """The facts in the lockfile that differ from `base` and that no manifest change explains; present only with
    `--base`. They make the command exit with 1."""
    data_changes: tuple[DataChange, ...] | None = None
    """The data sets that differ from `base`; present only with `--base`."""


def plan_report(
    plan: Plan,
    target: Target,
    capabilities: Capabilities,
    lockfile: str,
    *,
    root: str = "",
    places: Places = MappingProxyType({}),
    deletions_alone: bool = False,
    verified: bool = True,
) -> PlanReport:
    """Return the report of a plan; ``lockfile`` is its path as the user would write it.

    With ``deletions_alone`` it has the reason why each other generation is kept. ``verified`` means that the service
    was queried.
    """
    return PlanReport(
        simulated=capabilities.simulated,
        target=PlanTarget(
            **asdict(target_summary(target, capabilities, root)),
            endpoint=target.endpoint,
            serving_location=target.serving_location,
            storage_endpoint=target.storage_endpoint,
            bucket=target.bucket,
            lock=target.lock,
            service_account=target.settings.get("serviceAccount", ""),
            kms_key_name=target.settings.get("kmsKeyName", ""),
            publish=target.publish,
            store=target.settings.get("store", ""),
            inference_url=target.settings.get("inference", {}).get("url", ""),
        ),
        lockfile=lockfile,
        verified=verified,
        changes=plan.changes,
        summary=_summary(plan),
        actions=tuple(_action(action, places) for action in plan.actions),
        notices=plan.notices,
        unmanaged=plan.unmanaged,
        candidates=plan.candidates,
        kept=plan.kept if deletions_alone else None,
    )


def _summary(plan: Plan) -> PlanSummary:
    counted = Counter(action.kind for action in plan.actions)
    trainings = [action.training for action in plan.of_kind(Kind.CREATE) if action.training]
    seconds = [training.seconds for training in trainings if training.seconds is not None]
    return PlanSummary(
        **{kind.value: counted[kind] for kind in Kind},
        failing=len(plan.failing),
        steps=plan.steps,
        estimated=any(training.estimated for training in trainings),
        seconds=sum(seconds) if seconds and len(seconds) == len(trainings) else None,
        billable_tokens=sum(training.cost.billable_tokens or 0 for training in trainings if training.cost),
        cost=total_cost(plan.actions),
        unknown_costs=count_unknown(plan.actions),
    )


def _action(action: Action, places: Places) -> PlannedAction:
    source, dataset, place = action.source or Source(), action.dataset, places.get(action.name)
    return PlannedAction(
        name=action.name,
        file=action.file,
        action=action.kind,
        reason=action.reason,
        stage=action.stage,
        key=action.key,
        remote=action.remote,
        message=action.message,
        attempt=action.attempt,
        base_model=source.base_model,
        source=None if source.base_model or source == Source() else source.recorded,
        serving=action.serving if action.kind in _REPLACING and action.serving != action.key else "",
        after=action.after,
        method=dataset.method if dataset else "supervised",
        dataset=dataset.path if dataset else "",
        data_generation=dataset.generation if dataset else "",
        data_bytes=dataset.size if dataset else 0,
        validation_dataset=action.validation,
        hyperparameters=action.hyperparameters,
        settings=action.settings,
        training=action.training,
        checks=action.checks,
        prompts=action.prompts,
        checkpoints=action.checkpoints,
        changes=(*action.changes, *map(_access_change, action.access)),
        deletion=action.deletion,
        line=place.line if place else None,
        column=place.column if place else None,
    )


_REPLACING: Final = frozenset({Kind.CREATE, Kind.PROMOTE})


def _access_change(change: AccessChange) -> FieldChange:
    return FieldChange(f"access.{change.grantee}", change.before.role if change.before else None, change.role)


_LONGEST: Final = 500
"""Characters of a sample's texts that a document keeps; an example may be as long as a book."""
_MOST_OUTPUTS: Final = 5
"""Outputs of one contradiction that a document keeps."""


def with_data_changes(report: PlanReport, found: DatasetChanges) -> PlanReport:
    """Return the report with the changes of data sets; the reason for not comparing them is a notice."""
    return replace(
        report,
        notices=(*report.notices, *filter(None, [found.note])),
        base=DataBase(found.ref, found.commit),
        data_changes=tuple(map(_data_change, found.changes)),
    )


def _data_change(change: DatasetChange) -> DataChange:
    found = change.changes
    return DataChange(
        name=change.name,
        use=change.use,
        check=change.check,
        path=change.path,
        added=found.added if found else None,
        removed=found.removed if found else None,
        changed=found.changed if found else None,
        duplicates=change.duplicates.count,
        contradictions=change.contradictions.count,
        leaked=change.leaks.count,
        samples=tuple(_samples(change)),
        note=change.note,
    )


def _samples(change: DatasetChange) -> Iterator[DataSample]:
    if change.changes:
        yield from (example_sample("added", example) for example in change.changes.some_added)
        yield from (example_sample("removed", example) for example in change.changes.some_removed)
        yield from map(changed_sample, change.changes.some_changed)
    yield from (example_sample("duplicate", example) for example in change.duplicates.samples)
    for contradiction in change.contradictions.samples:
        outputs = tuple(map(cut, contradiction.outputs[:_MOST_OUTPUTS]))
        yield DataSample(change="contradiction", input=cut(contradiction.input), outputs=outputs)
    yield from (DataSample(change="leaked", check=leak.check, input=cut(leak.input)) for leak in change.leaks.samples)


def example_sample(change: SampleChange, example: TrainingExample) -> DataSample:
    """Return an example that was added or removed, or is a duplicate."""
    if isinstance(example, Conversation):
        return DataSample(change=change, conversation=cut(example.line))
    return DataSample(change=change, input=cut(example.input), output=cut(example.output))


def changed_sample(example: ChangedExample) -> DataSample:
    """Return an example whose output changed."""
    return DataSample(change="changed", input=cut(example.input), before=cut(example.old), after=cut(example.new))


def cut(text: str) -> str:
    """Return the text, cut to the length that a document keeps."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
