"""The commands that read: each takes the environment and what it is about, and gives a document and an exit status."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from reconciler.app.environment import Environment
from reconciler.app.locks import other_locks
from reconciler.app.project import Input, Project, open_project, project_of, read_workspace
from reconciler.app.services import callable_name, connect, endpoint_of, url_of
from reconciler.core.events import Disappeared, record
from reconciler.core.generations import Observation, live_of, vanished
from reconciler.core.locked import not_ready
from reconciler.core.model import RemoteModel, Sampling, State
from reconciler.core.moving import moving_notices
from reconciler.core.pinning import addresses, loss_notices, pinned
from reconciler.core.plan import Plan, Request
from reconciler.core.planner import plan as make_plan
from reconciler.core.ports import Objects
from reconciler.core.problems import ExitStatus, InvalidInput, Problem, ReconcileError
from reconciler.core.selection import check_names
from reconciler.render.documents import Document, plan_document, validation_document
from reconciler.render.resolve import Resolved, resolve_document
from reconciler.render.status import status_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.app.services import Service
    from reconciler.core.lock import Lock


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


def plan(env: Environment, what: Input, request: Request, *, offline: bool, detailed: bool) -> Answer:
    """What apply would do; ``offline`` believes the lockfile, ``detailed`` tells changes by the exit status."""
    project = open_project(env, what)
    request = checked(request, project)
    if offline:
        nothing = Observation()
        made = make_plan(
            project.manifests, nothing, project.lock, project.target, request, project.capabilities, env.clock()
        )
    else:
        project, made = _looked(env, project, what, request)
    status = ExitStatus.CHANGES if detailed and made.changes else ExitStatus.OK
    return Answer(documented(project, made), ExitStatus.ERROR if made.failing else status, project.workspace.problems)


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
    return plan_document(noted, project.target, project.capabilities, project.lockfile, root=project.root)


async def with_pins(project: Project, service: Service) -> Project:
    """The project with its data sets in Cloud Storage as they are now; nothing is asked where there are none."""
    if not addresses(project.manifests):
        return project
    if not isinstance(service, Objects):
        raise TypeError("validation refuses data sets in Cloud Storage where a service cannot read them")
    from reconciler.engine.look import pin

    found = await pin(service, project.manifests, project.target.limits.concurrency)
    return replace(project, manifests=pinned(project.manifests, found, project.lock))


def _looked(env: Environment, project: Project, what: Input, request: Request) -> tuple[Project, Plan]:
    from reconciler.app.session import Session
    from reconciler.engine.look import look

    async def work() -> tuple[Project, Plan]:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as service:
            seen = await with_pins(project, service)
            _, made = await look(service, seen.manifests, seen.lock, seen.target, request, env.clock, progress=False)
            return seen, made

    with Session() as session:
        return session.run(work())


def _observed(env: Environment, project: Project, what: Input) -> Observation:
    from reconciler.app.session import Session
    from reconciler.engine.observe import observe

    async def look() -> Observation:
        async with connect(env, project.target, project.workspace.root, what.allow_endpoints) as provider:
            concurrency = project.target.limits.concurrency
            return await observe(provider, project.lock, concurrency=concurrency, progress=True)

    with Session() as session:
        return session.run(look())


def status(env: Environment, what: Input, *, live: bool) -> Answer:
    """What the lockfile holds; with ``live`` also what the service shows of it."""
    project = open_project(env, what, strict=False)
    observed = _observed(env, project, what) if live else Observation()
    document = status_document(
        _without_the_vanished(project.lock, observed),
        project.target,
        project.capabilities,
        project.lockfile,
        live=_recorded(project, observed) if live else None,
        root=project.root,
    )
    return Answer(document)


def _without_the_vanished(lock: Lock, observed: Observation) -> Lock:
    """The lock as it would record this observation's losses."""
    return reduce(record, (Disappeared(name, one.key) for name, one in vanished(lock, observed)), lock)


def _recorded(project: Project, observed: Observation) -> dict[str, RemoteModel]:
    """The live models that are the recorded ones; one of the same name may be somebody else's by now."""
    found = (
        live_of(one, project.target.scope, name, observed)
        for name, model in project.lock.models.items()
        for one in model.generations
    )
    return {model.remote: model for model in found if model}


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
    locked = project.lock.models.get(name)
    serving = locked.generation(locked.serving) if locked else None
    if serving is None:
        raise _unserved(project, name)
    if serving.state is not State.ACTIVE:
        raise ReconcileError(
            f"nothing serves {name}: {serving.key} was recorded as {serving.state}", "run reconcile apply to mend that"
        )
    manifest = next((one for one in project.manifests if one.name == name), None)
    remote = callable_name(serving.remote, serving.resources)
    return Resolved(
        name=name,
        key=serving.key,
        remote=remote,
        provider=project.target.provider,
        location=project.target.location or "",
        endpoint=endpoint_of(project.target),
        url=url_of(project.target, remote),
        preamble=serving.preamble,
        resources=serving.resources,
        sampling=manifest.sampling if manifest else Sampling(),
    )


def _unserved(project: Project, name: str) -> ReconcileError:
    declared = {one.name for one in project.manifests}
    known = sorted(declared | project.lock.models.keys())
    if name in known:
        why = "none of its generations has been promoted yet" if name in project.lock.models else "it was never applied"
        return ReconcileError(f"nothing serves {name}: {why}", "run reconcile apply first")
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"the names are: {', '.join(known) or 'none'}"
    return ReconcileError(f"nothing serves {name}: neither a manifest nor {project.lockfile} knows that name", remedy)
