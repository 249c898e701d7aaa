"""The commands that read: each takes the environment and what it is about, and gives a document and an exit status."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from reconciler.app.environment import Environment
from reconciler.app.locks import other_locks
from reconciler.app.portraying import portrayed, recorded_models
from reconciler.app.project import Input, Project, open_project, project_of, read_workspace
from reconciler.app.recorded import serving_generation
from reconciler.app.resolving import resolved
from reconciler.app.saving import saved_document
from reconciler.app.services import connect
from reconciler.core.events import Disappeared, record
from reconciler.core.generations import Observation, vanished
from reconciler.core.locked import not_ready
from reconciler.core.model import Sampling, State
from reconciler.core.moving import moving_notices
from reconciler.core.pinning import addresses, loss_notices, pinned
from reconciler.core.plan import Plan, Request
from reconciler.core.planner import plan as make_plan
from reconciler.core.ports import Objects
from reconciler.core.problems import ExitStatus, InvalidInput, Problem, ReconcileError, UsageError
from reconciler.core.selection import check_names
from reconciler.files.saved_plan import check_place, write_saved_plan
from reconciler.render.data_changes import with_data_changes
from reconciler.render.documents import Document, plan_document, validation_document
from reconciler.render.resolve import Resolved, resolve_document
from reconciler.render.status import status_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.app.services import Service
    from reconciler.core.data_changes import DataChanges
    from reconciler.core.lock import Lock
    from reconciler.render.access import Reach


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a command: a versioned document, the status to exit with, and the warnings about the input."""

    document: Document
    exit_status: ExitStatus = ExitStatus.OK
    warnings: tuple[Problem, ...] = ()


def validate(env: Environment, what: Input, *, locked: bool) -> Answer:
    """Every problem of the input; with ``locked`` also what the lockfile does not promise yet."""
    try:
        workspace = read_workspace(env, what)
    except InvalidInput as error:
        return Answer(validation_document(error.problems, 0, 0), ExitStatus.ERROR)
    if workspace.errors:
        return Answer(
            validation_document(workspace.problems, workspace.files, len(workspace.manifests)), ExitStatus.ERROR
        )
    chosen = what.selection.of(workspace.manifests)
    unready: Iterable[Problem] = ()
    if locked:
        project = project_of(env, workspace, what)
        unready = not_ready(project.manifests, project.target.scope, project.lock, project.lockfile)
    document = validation_document([*workspace.problems, *unready], workspace.files, len(chosen))
    return Answer(document, ExitStatus.OK if document["valid"] else ExitStatus.ERROR)


def plan(
    env: Environment,
    what: Input,
    request: Request,
    *,
    offline: bool,
    detailed: bool,
    base: str | None = None,
    out: str | None = None,
) -> Answer:
    """What apply would do; ``offline`` believes the lockfile, ``detailed`` tells changes by the exit status.

    ``base`` is a commit, of which it is told how the data sets have changed since. ``out`` is a file to save the plan
    in, which apply can carry out.

    Raises:
        UsageError: when git does not know ``base``, or nothing can be saved in ``out``.
    """
    if out:
        check_place(env.cwd / out, out)
    project = open_project(env, what)
    request = checked(request, project)
    seen = Observation()
    if offline:
        made = make_plan(
            project.manifests, seen, project.lock, project.target, request, project.capabilities, env.clock()
        )
    else:
        project, seen, made = _looked(env, project, what, request)
    status = ExitStatus.CHANGES if detailed and made.changes else ExitStatus.OK
    document = documented(project, made)
    if what.portraits:
        document = portrayed(document, project.lock, project.target.scope, seen)
    if base is not None:
        document = with_data_changes(document, _data_changes(env, project, base))
    if out:
        write_saved_plan(env.cwd / out, out, saved_document(env, what, request, project, document))
    return Answer(document, ExitStatus.ERROR if made.failing else status, project.workspace.problems)


def _data_changes(env: Environment, project: Project, base: str) -> DataChanges:
    from reconciler.files.data_changes import data_changes

    found = data_changes(project.workspace, project.manifests, base, project.capabilities, env.environ)
    if project.target.show_examples:
        return found
    return replace(found, changes=tuple(one.without_samples for one in found.changes))


def checked(request: Request, project: Project) -> Request:
    """The request as it applies to this project; raises UsageError for names that no manifest bears."""
    check_names("--retry", request.retry, project.manifests)
    check_names("--replace", request.replace, project.manifests)
    return Request(request.retry, request.replace, complete=project.complete)


def documented(project: Project, made: Plan) -> Document:
    """The plan as a document, with what only the whole project can tell about it."""
    others = other_locks(project.workspace.root, project.workspace.lock.path)
    notices = (
        *made.notices,
        *moving_notices(made, project.target.provider, others),
        *loss_notices(project.manifests),
    )
    noted = replace(made, notices=notices)
    return plan_document(
        noted,
        project.target,
        project.capabilities,
        project.lockfile,
        root=project.root,
        places={manifest.name: manifest.place for manifest in project.manifests},
    )


async def with_pins(project: Project, service: Service) -> Project:
    """The project with its data sets in Cloud Storage as they are now; nothing is asked where there are none."""
    if not addresses(project.manifests):
        return project
    if not isinstance(service, Objects):
        raise TypeError("validation refuses data sets in Cloud Storage where a service cannot read them")
    from reconciler.engine.look import pin

    found = await pin(service, project.manifests, project.target.limits.concurrency)
    return replace(project, manifests=pinned(project.manifests, found, project.lock))


def _looked(env: Environment, project: Project, what: Input, request: Request) -> tuple[Project, Observation, Plan]:
    from reconciler.app.session import Session
    from reconciler.engine.look import look

    async def work() -> tuple[Project, Observation, Plan]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            found = await with_pins(project, service)
            curves = what.portraits
            seen, made = await look(
                service, found.manifests, found.lock, found.target, request, env.clock, progress=curves
            )
            return found, seen, made

    with Session() as session:
        return session.run(work())


def _asked(
    env: Environment, project: Project, what: Input, *, live: bool, access: str | None
) -> tuple[Observation, Reach | None]:
    """What the service shows, as far as it is to be asked."""
    from reconciler.app.reaching import reach
    from reconciler.app.session import Session
    from reconciler.engine.observe import observe

    async def ask() -> tuple[Observation, Reach | None]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as provider:
            concurrency = project.target.limits.concurrency
            seen = await observe(provider, project.lock, concurrency=concurrency, progress=True) if live else None
            return seen or Observation(), await reach(provider, project, access) if access else None

    with Session() as session:
        return session.run(ask())


def status(env: Environment, what: Input, *, live: bool, access: str | None = None) -> Answer:
    """What the lockfile holds; with ``live`` also what the service shows of it.

    ``access`` is an e-mail address, of which the service is asked what it can reach.

    Raises:
        UsageError: for an address where models have no permissions of their own.
    """
    project = open_project(env, what, strict=False)
    if access:
        _require_permissions(project)
    asked = live or access
    observed, reach = _asked(env, project, what, live=live, access=access) if asked else (Observation(), None)
    lock = _without_the_vanished(project.lock, observed)
    document = status_document(
        lock,
        project.target,
        project.capabilities,
        project.lockfile,
        live=recorded_models(project.lock, project.target.scope, observed) if live else None,
        reach=reach,
        root=project.root,
    )
    return Answer(portrayed(document, lock, project.target.scope, observed) if what.portraits else document)


def _require_permissions(project: Project) -> None:
    if "access" not in project.capabilities.features:
        raise UsageError(
            f"--access: {project.capabilities.label} knows no permissions of single models; IAM says who may use them",
            f"see gcloud projects get-iam-policy {project.target.project or 'PROJECT'}",
        )


def _without_the_vanished(lock: Lock, observed: Observation) -> Lock:
    """The lock as it would record this observation's losses."""
    return reduce(record, (Disappeared(name, one.key) for name, one in vanished(lock, observed)), lock)


def resolve(env: Environment, what: Input, name: str | None) -> Answer:
    """Which remote model serves: of one manifest, or of all that the lockfile holds. Nothing is asked of the service.

    Raises:
        ReconcileError: when ``name`` has no serving generation.
    """
    project = open_project(env, what, strict=False)
    names = [name] if name else sorted(one for one, model in project.lock.models.items() if model.serving)
    entries = [_resolved(project, one) for one in names]
    return Answer(resolve_document(entries, project.target, project.capabilities, root=project.root))


def _resolved(project: Project, name: str) -> Resolved:
    serving = serving_generation(project, name)
    if serving.state is not State.ACTIVE:
        raise ReconcileError(
            f"nothing serves {name}: {serving.key} was recorded as {serving.state}", "run reconcile apply to mend that"
        )
    manifest = next((one for one in project.manifests if one.name == name), None)
    return resolved(project.target, name, serving, manifest.sampling if manifest else Sampling())
