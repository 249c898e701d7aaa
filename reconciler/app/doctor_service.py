"""What doctor asks of a service: credentials, the way there, its list, its base models."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from reconciler.app.doctor_report import Said
from reconciler.app.environment import Environment
from reconciler.app.project import Input
from reconciler.app.services import EMBEDDED, TOKEN_VARIABLE, VERTEX_AI, WORLD_FOLDER, connect, endpoint_of
from reconciler.app.session import Session
from reconciler.core.problems import ReconcileError
from reconciler.render.words import counted

if TYPE_CHECKING:
    from reconciler.app.services import Service
    from reconciler.core.model import RemoteModel
    from reconciler.files.workspace import Workspace
    from reconciler.providers import remedies
    from reconciler.providers.whoami import Identity

T = TypeVar("T")

_SCOPE_PREFIX = "https://www.googleapis.com/auth/"
_SERVER_ERROR = 500
_NAMED = 5


class Examination:
    """The checks of one target's service; they share a connection, which :meth:`close` gives back.

    ``models`` are what the service listed, empty before.
    """

    def __init__(self, env: Environment, what: Input, workspace: Workspace, session: Session) -> None:
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

    def credentials(self) -> Said:
        """Whose the token is, and whether its scopes are enough."""
        from reconciler.providers.whoami import whoami

        environ, target = self.env.environ, self.workspace.target
        identity = self.session.run(
            whoami(
                access_token=environ.get(TOKEN_VARIABLE),
                environ=environ,
                project=target.project,
                ask_google=(urlsplit(endpoint_of(target)).hostname or "").endswith(".googleapis.com"),
            )
        )
        return said_of(identity, self._known_service())

    def reachable(self) -> Said:
        """Whether anything answers at the service's address."""
        from reconciler.providers.adc import in_daemon
        from reconciler.providers.reach import reach

        address, service = endpoint_of(self.workspace.target), self._known_service()
        reached = self.session.run(in_daemon(lambda: reach(address, service)))
        way = f" through the proxy {reached.proxy}" if reached.proxy else ""
        if reached.status >= _SERVER_ERROR:
            return Said(f"{address} answers{way}, but with {reached.status}", "try again later", "warning")
        return Said(f"{address} answers{way}")

    def store(self) -> Said:
        """Where the embedded service keeps its models."""
        root, folder = self.workspace.root, self._kept.parent
        if not os.access(folder if folder.exists() else root, os.W_OK | os.X_OK):
            raise ReconcileError(f"the embedded service cannot keep its models in {folder}", "make the folder writable")
        shown = Path(os.path.relpath(self._kept, self.env.cwd)).as_posix()
        later = "" if self._kept.is_file() else ", once there are any"
        return Said(f"the embedded service keeps its models in {shown}{later}")

    def embedded_list(self) -> Said:
        """The models of the embedded service, which is not begun for this."""
        return self.list() if self._kept.is_file() else Said("nothing was trained here yet", status="skipped")

    def list(self) -> Said:
        """What the service lists."""
        target = self.workspace.target
        self.models = self._ask(lambda service: service.list(progress=False))
        if target.provider == VERTEX_AI:  # jobs of other scopes are not asked for
            return Said(f"{counted(len(self.models), 'tuning job')} of the scope {target.scope} listed")
        ours = sum(1 for model in self.models if model.mark and model.mark.scope == target.scope)
        listed = counted(len(self.models), "tuned model is", "tuned models are")
        return Said(f"{listed} listed, {ours} of them of the scope {target.scope}")

    def base_models(self) -> Said:
        """Whether the base models of the manifests can be tuned."""
        if self.workspace.target.provider == EMBEDDED and not self._kept.is_file():
            return Said("the embedded service simulates them", status="skipped")
        from reconciler.providers.preflight import RETIRED

        wanted = frozenset(manifest.source.base_model for manifest in self.workspace.manifests)
        tunable = self._ask(_tunable)
        if tunable is None:
            return Said("the service does not tell which base models can be tuned", status="skipped")
        if not tunable:
            message, _, remedy = RETIRED.partition("\n")
            return Said(message, remedy, "failed")
        obstacles = self._ask(lambda service: service.preflight(wanted))
        if obstacles:
            names = ", ".join(sorted(obstacles))
            return Said(f"manifests name what cannot be tuned: {names}", "\n".join(obstacles.values()), "failed")
        more = f" and {len(tunable) - _NAMED} more" if len(tunable) > _NAMED else ""
        return Said(f"{', '.join(tunable[:_NAMED])}{more} can be tuned")

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

    def _known_service(self) -> remedies.Service:
        from reconciler.providers.remedies import GENERATIVE_LANGUAGE, VERTEX

        return VERTEX if self.workspace.target.provider == VERTEX_AI else GENERATIVE_LANGUAGE


async def _tunable(service: Service) -> tuple[str, ...] | None:
    from reconciler.providers.generativelanguage import GenerativeLanguage

    if not isinstance(service, GenerativeLanguage):
        raise TypeError("only the Generative Language API tells which base models can be tuned")
    return await service.tunable()


def said_of(identity: Identity, service: remedies.Service) -> Said:
    """What to say of credentials that are to be used with a service."""
    from reconciler.providers.whoami import USER_LOGIN

    scopes = ", ".join(sorted(scope.removeprefix(_SCOPE_PREFIX) for scope in identity.scopes)) or "unknown"
    message = (
        f"{identity.kind} from {identity.source}: account {identity.account or 'unknown'}; scopes {scopes}; "
        f"quota project {identity.quota_project or 'none'}"
    )
    missing = [scope for scope in service.scopes if identity.scopes and scope not in identity.scopes]
    if missing:
        return Said(message, service.remedy("", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"), "warning")
    if identity.kind == USER_LOGIN and not identity.quota_project:
        remedy = "name the project whose quota is to be used in spec.project of the target"
        return Said(message, remedy, "warning")
    return Said(message)
