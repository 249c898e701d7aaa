"""What doctor asks of a service: credentials, the way there, its list, its base models."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from reconciler.commands._event_loop import EventLoop
from reconciler.commands._project import CommandInput
from reconciler.domain.errors import AccessError, ReconcileError, ServiceError
from reconciler.domain.model import REMOTE_SCHEME
from reconciler.environment import Environment
from reconciler.providers.registry import (
    EMBEDDED,
    TOKEN_VARIABLE,
    VERTEX_AI,
    WORLD_FOLDER,
    connect,
    connect_storage,
    endpoint_of,
)
from reconciler.reports.documents.doctor import Status
from reconciler.reports.text.format import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from reconciler.domain.model import RemoteModel, Target
    from reconciler.manifests.workspace import Workspace
    from reconciler.providers.google import errors
    from reconciler.providers.google.storage import Bucket, Storage
    from reconciler.providers.google.whoami import CallerIdentity
    from reconciler.providers.registry import Service


T = TypeVar("T")

_SCOPE_PREFIX = "https://www.googleapis.com/auth/"
_SERVER_ERROR = 500
_NAMED = 5


class ServiceChecks:
    """The checks of one target's service; they share a connection, which :meth:`close` gives back.

    ``models`` are what the service listed, empty before.
    """

    def __init__(self, env: Environment, what: CommandInput, workspace: Workspace, session: EventLoop) -> None:
        self.env = env
        self.what = what
        self.workspace = workspace
        self.session = session
        self.models: tuple[RemoteModel, ...] = ()
        self._service: Service | None = None

    def close(self) -> None:
        """Give back what was opened."""
        if self._service:
            self.session.run(self._service.aclose())

    def credentials(self) -> Diagnosis:
        """Whose the token is, and whether its scopes are enough."""
        from reconciler.providers.google.whoami import whoami

        environ, target = self.env.environ, self.workspace.target
        identity = self.session.run(
            whoami(
                access_token=environ.get(TOKEN_VARIABLE),
                environ=environ,
                project=target.project,
                ask_google=(urlsplit(endpoint_of(target)).hostname or "").endswith(".googleapis.com"),
            )
        )
        return describe_credentials(identity, self._known_service())

    def reachable(self) -> Diagnosis:
        """Whether anything answers at the service's address."""
        from reconciler.providers.google.credentials import run_in_daemon_thread
        from reconciler.providers.google.network import check_connection

        address, service = endpoint_of(self.workspace.target), self._known_service()
        reached = self.session.run(run_in_daemon_thread(lambda: check_connection(address, service)))
        way = f" through the proxy {reached.proxy}" if reached.proxy else ""
        if reached.status >= _SERVER_ERROR:
            return Diagnosis(f"{address} answers{way}, but with {reached.status}", "try again later", "warning")
        return Diagnosis(f"{address} answers{way}")

    def store(self) -> Diagnosis:
        """Where the embedded service keeps its models."""
        root, folder = self.workspace.root, self._kept.parent
        if not os.access(folder if folder.exists() else root, os.W_OK | os.X_OK):
            raise ReconcileError(f"the embedded service cannot keep its models in {folder}", "make the folder writable")
        shown = Path(os.path.relpath(self._kept, self.env.cwd)).as_posix()
        later = "" if self._kept.is_file() else ", once there are any"
        return Diagnosis(f"the embedded service keeps its models in {shown}{later}")

    def embedded_list(self) -> Diagnosis:
        """The models of the embedded service, which is not begun for this."""
        return self.list() if self._kept.is_file() else Diagnosis("nothing was trained here yet", status="skipped")

    def list(self) -> Diagnosis:
        """What the service lists."""
        target = self.workspace.target
        self.models = self._ask(lambda service: service.list(progress=False))
        if target.provider == VERTEX_AI:  # jobs of other scopes are not asked for
            return Diagnosis(f"{counted(len(self.models), 'tuning job')} of the scope {target.scope} listed")
        ours = sum(1 for model in self.models if model.mark and model.mark.scope == target.scope)
        listed = counted(len(self.models), "tuned model is", "tuned models are")
        return Diagnosis(f"{listed} listed, {ours} of them of the scope {target.scope}")

    def base_models(self) -> Diagnosis:
        """Whether the base models of the manifests can be tuned."""
        if self.workspace.target.provider == EMBEDDED and not self._kept.is_file():
            return Diagnosis("the embedded service simulates them", status="skipped")
        from reconciler.providers.generativelanguage.errors import NO_TUNABLE_MODELS

        wanted = frozenset(manifest.source.base_model for manifest in self.workspace.manifests)
        tunable = self._ask(_tunable)
        if tunable is None:
            return Diagnosis("the service does not tell which base models can be tuned", status="skipped")
        if not tunable:
            message, _, remedy = NO_TUNABLE_MODELS.partition("\n")
            return Diagnosis(message, remedy, "failed")
        obstacles = self._ask(lambda service: service.preflight(wanted))
        if obstacles:
            names = ", ".join(sorted(obstacles))
            return Diagnosis(f"manifests name what cannot be tuned: {names}", "\n".join(obstacles.values()), "failed")
        more = f" and {len(tunable) - _NAMED} more" if len(tunable) > _NAMED else ""
        return Diagnosis(f"{', '.join(tunable[:_NAMED])}{more} can be tuned")

    @property
    def _kept(self) -> Path:
        """The file of the embedded service."""
        return self.workspace.root / WORLD_FOLDER / f"{self.workspace.target.name}.sqlite3"

    def _ask(self, act: Callable[[Service], Awaitable[T]]) -> T:
        if self._service is None:
            self._service = connect(self.env, self.workspace.target, self.workspace.root, self.what.allow_endpoints)
        service = self._service

        async def asked() -> T:
            return await act(service)

        return self.session.run(asked())

    def _known_service(self) -> errors.ServiceDescription:
        from reconciler.providers.generativelanguage.errors import SERVICE as GENERATIVE_LANGUAGE
        from reconciler.providers.vertex.errors import SERVICE as VERTEX

        return VERTEX if self.workspace.target.provider == VERTEX_AI else GENERATIVE_LANGUAGE


async def _tunable(service: Service) -> tuple[str, ...] | None:
    from reconciler.providers.generativelanguage.provider import GenerativeLanguage

    if not isinstance(service, GenerativeLanguage):
        raise TypeError("only the Generative Language API tells which base models can be tuned")
    return await service.tunable()


def describe_credentials(identity: CallerIdentity, service: errors.ServiceDescription) -> Diagnosis:
    """What to say of credentials that are to be used with a service."""
    from reconciler.providers.google.whoami import USER_LOGIN

    scopes = ", ".join(sorted(scope.removeprefix(_SCOPE_PREFIX) for scope in identity.scopes)) or "unknown"
    message = (
        f"{identity.kind} from {identity.source}: account {identity.account or 'unknown'}; scopes {scopes}; "
        f"quota project {identity.quota_project or 'none'}"
    )
    missing = [scope for scope in service.scopes if identity.scopes and scope not in identity.scopes]
    if missing:
        return Diagnosis(message, service.find_remedy("", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"), "warning")
    if identity.kind == USER_LOGIN and not identity.quota_project:
        remedy = "name the project whose quota is to be used in spec.project of the target"
        return Diagnosis(message, remedy, "warning")
    return Diagnosis(message)


_UPLOADING = ("storage.objects.create", "storage.objects.get")
_LOCKING = (*_UPLOADING, "storage.objects.delete")  # to replace an object is to delete what was there
_NUMBERED = re.compile(r"projects/(\d+)/")


def region(examination: ServiceChecks) -> Diagnosis:
    """Whether Google documents the target's location as one that tunes."""
    from reconciler.providers.vertex.locations import TUNING_REGIONS

    location = examination.workspace.target.location or ""
    if location in TUNING_REGIONS:
        return Diagnosis(f"{location} is a region in which Google documents tuning")
    near = difflib.get_close_matches(location, sorted(TUNING_REGIONS), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return Diagnosis(
        f"{location} is not among the regions in which Google documents tuning",
        f"{meant}spec.location of the target may be us-central1 or europe-west4, for example",
        "warning",
    )


def bucket(examination: ServiceChecks) -> Diagnosis:
    """Whether data sets can be uploaded to the target's bucket, and whether that is near and of the same project."""
    target = examination.workspace.target
    return _asked(examination, lambda storage: _looked(storage, _bucket_of(target.bucket), examination))


def may_lock(examination: ServiceChecks) -> None:
    """Raise AccessError when the account may not save the target's lockfile in its bucket, as far as that is told."""
    name = _bucket_of(examination.workspace.target.lock)
    _asked(examination, lambda storage: _granted(storage, name, _LOCKING))


def held_lease(examination: ServiceChecks) -> ReconcileError | None:
    """What a run would be told that finds the lease beside the target's lockfile held by another one."""
    from reconciler.providers.google.bucket_lockfile import LEASE_SUFFIX, Lease

    env, address = examination.env, examination.workspace.target.lock + LEASE_SUFFIX
    lease = Lease(address, clock=env.clock, sleep=env.sleeper, holder="doctor")
    try:
        _asked(examination, lease.find_expired)
    except (AccessError, ServiceError):
        raise
    except ReconcileError as error:
        return error
    return None


def _bucket_of(address: str) -> str:
    return address.removeprefix(REMOTE_SCHEME).partition("/")[0]


def _asked(examination: ServiceChecks, act: Callable[[Storage], Awaitable[T]]) -> T:
    async def ask() -> T:
        target, allowed = examination.workspace.target, examination.what.allow_endpoints
        async with connect_storage(examination.env, target, allowed) as storage:
            return await act(storage)

    return examination.session.run(ask())


async def _granted(storage: Storage, name: str, wanted: tuple[str, ...]) -> bool:
    """Whether the service tells that all of these are granted; raises AccessError when it tells otherwise."""
    held = await storage.permissions(name, wanted)
    missing = [] if held is None else [one for one in wanted if one not in held]
    if missing:
        raise AccessError(
            f"the account lacks {' and '.join(missing)} on gs://{name}",
            f"ask for roles/storage.objectUser on gs://{name}",
        )
    return held is not None


async def _looked(storage: Storage, name: str, examination: ServiceChecks) -> Diagnosis:
    from reconciler.domain.errors import ForbiddenError

    granted = await _granted(storage, name, _UPLOADING)
    may = "objects may be created there" if granted else "whether objects may be created there is not told"
    try:
        found = await storage.bucket(name)
    except ForbiddenError as error:
        return Diagnosis(f"gs://{name}: {may}; where it is and whose is not told", error.remedy, "warning")
    doubts = list(_doubts(found, examination))
    message = f"gs://{name} is in {found.location}; {may}"
    if doubts:
        remedy = "name a bucket of this project, near the target's location, in spec.bucket"
        return Diagnosis("\n".join([message, *doubts]), remedy, "warning")
    return Diagnosis(message)


def _doubts(found: Bucket, examination: ServiceChecks) -> Iterator[str]:
    from reconciler.providers.vertex.locations import is_near

    target: Target = examination.workspace.target
    if not is_near(found.location, target.location or ""):
        yield f"the trainings are in {target.location}: their data leaves its region"
    numbers = {number for model in examination.models for number in _NUMBERED.findall(model.remote)}
    if numbers and found.project_number and found.project_number not in numbers:
        yield f"it belongs to the project number {found.project_number}, and the jobs to {', '.join(sorted(numbers))}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a check has to say when it ran to its end; what it raises instead is a failure."""

    message: str
    remedy: str = ""
    status: Status = "ok"
