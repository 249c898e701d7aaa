"""What a provider package exports: one ``ProviderSpec``. Everything else in the package imports providers through it.

A module with a spec is light to import: HTTP, ASGI and authentication are imported by the functions that need them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct, field

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.model import Capabilities, RemoteModel, Target
from reconciler.domain.ports import Provider
from reconciler.environment import Environment


@runtime_checkable
class ConnectedProvider(Provider, AbstractAsyncContextManager["ConnectedProvider"], Protocol):
    """A provider with an open connection. Use it as an async context manager, or close it."""

    @property
    def requests(self) -> int:
        """The number of requests sent so far."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


@runtime_checkable
class Exports(Protocol):
    """A provider whose tuned models are files; both methods raise ServiceError and OSError."""

    async def export(self, remote: str, folder: Path) -> str:
        """Copy the files of a ready model into an empty folder: weights, tokenizer, chat template and model card.

        A model whose files were changed after its training is refused. Returns what users of these files, when they are
        not merged, have to know; often nothing.
        """
        ...

    async def merge(self, remote: str, exported: Path, folder: Path) -> str:
        """Merge exported files into the unquantized base model, which an empty folder gets.

        Returns the remote name by which :meth:`Provider.infer` sends prompts to the merged model, with the sampling of
        ``remote``.
        """
        ...


class ProviderContext(Struct, frozen=True):
    """What a provider connects with.

    ``root`` is the directory of the target file. ``allow_endpoints`` are further hosts that may get a token, as
    ``host`` or ``host:port``: the values of ``--allow-endpoint``. ``allow_folders`` are folders outside of the
    repository that may have models: the values of ``--allow-folder``.
    """

    env: Environment
    target: Target
    root: Path
    allow_endpoints: frozenset[str] = frozenset()
    allow_folders: frozenset[Path] = frozenset()


class Diagnosis(Struct, frozen=True):
    """The result of a doctor check. Message and remedy may have several lines."""

    message: str
    remedy: str = ""
    status: Literal["ok", "warning", "failed", "skipped"] = "ok"


class DoctorContext:
    """What the doctor checks of one run share: the context, the connection, and the models listed so far.

    Args:
        context: What to connect with.
        connect: Opens the connection; it is called at most once, when a check first needs it.
        base_models: The base models that the manifests name.
        catalog: Returns the base models of the service, with those of the target's file.
    """

    def __init__(
        self,
        context: ProviderContext,
        connect: Callable[[ProviderContext], ConnectedProvider],
        base_models: frozenset[str] = frozenset(),
        catalog: Callable[[], ModelCatalog] = ModelCatalog,
    ) -> None:
        self.context = context
        self.env = context.env
        self.target = context.target
        self.base_models = base_models
        self._catalog = catalog
        self.models: tuple[RemoteModel, ...] = ()
        self._connect = connect
        self._provider: ConnectedProvider | None = None

    @property
    def catalog(self) -> ModelCatalog:
        """The base models of the service, with those of the target's file."""
        return self._catalog()

    @property
    def provider(self) -> ConnectedProvider:
        """The connection, opened on first use."""
        if self._provider is None:
            self._provider = self._connect(self.context)
        return self._provider

    async def aclose(self) -> None:
        """Close the connection if one was opened."""
        if self._provider is not None:
            await self._provider.aclose()


class DoctorCheck(Struct, frozen=True):
    """A check that ``reconcile doctor`` runs. A ReconcileError that ``run`` raises is a failed check.

    The check is skipped when one of the checks named in ``after`` failed.
    """

    name: str
    run: Callable[[DoctorContext], Awaitable[Diagnosis]]
    after: tuple[str, ...] = ()


class Usage(Struct, frozen=True):
    """How applications use a model that is files: its folder, the base model, and lines ready for tools, by tool."""

    folder: str
    base_model: str
    revision: str = ""
    commands: Mapping[str, tuple[str, ...]] = {}


FieldFinding = tuple[tuple[str, ...], str, str]
"""The path of a field from the top of the document, what is wrong with it, and what to do."""


class Discovery(Struct, frozen=True):
    """What the environment reveals of a provider, for `reconcile init`.

    ``credentials`` names what was found, for people. ``fields`` are values for required fields of a target, and
    ``preparation`` is a command to run before the first apply, with names of fields in braces.
    """

    credentials: str
    fields: Mapping[str, str] = {}
    preparation: str = ""


class ProviderSpec(Struct, frozen=True, eq=False):
    """A provider: what a target may declare for it, what its service can do, and how to connect.

    Attributes:
        name: The value of ``spec.provider`` in a target, and the name of its settings: ``spec.NAME``.
        capabilities: Returns what the service of a target can do, its name for people among it.
        connect: Returns a client of the service of a target. It opens connections only when they are needed.
        settings: JSON Schema of ``spec.NAME``, an object with ``additionalProperties: false``; ``None`` if there are no
            settings. Every pattern has a ``patternErrorMessage``, an imperative. The values are ``Target.settings``.
        required_fields: The fields of ``spec`` that a target needs besides ``provider`` and ``scope``, each with the
            remedy if it is missing.
        unused_fields: The fields of ``spec`` that have no meaning with this provider, each with the reason.
        check_target: Returns errors that a schema cannot express. It gets ``spec``, which may violate its schema, and
            the directory of the target file.
        catalog: Returns what is known about base models of the service; it is called by the commands that need it.
        endpoint: Returns the address of the service of a target; empty if it has none.
        url: Returns the address that takes prompts for a remote model or its endpoint; empty if there is none.
        usage: Returns how applications use a model that is files, for a target, the directory of its file, a remote
            name and what the provider recorded; ``None`` if there are no files.
        token_hosts: Hosts that may get an access token over TLS; ``*.`` at the beginning matches any subdomain.
        record: The type of ``RemoteModel.provider_data``, what the provider records for itself in the lockfile. Fields
            that an older version does not know are ignored unless the type forbids them.
        discover: Returns the credentials that the environment has for the service, and what they reveal; it contacts no
            service, and gets the fields that the user has chosen. ``None`` without credentials.
        doctor_checks: Returns what ``reconcile doctor`` checks between the manifests and the lockfile, in this order.
    """

    name: str
    capabilities: Callable[[Target], Capabilities]
    connect: Callable[[ProviderContext], ConnectedProvider]
    settings: Mapping[str, Any] | None = None
    required_fields: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    unused_fields: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    check_target: Callable[[Mapping[str, Any], Path], Iterable[FieldFinding]] = lambda _spec, _directory: ()
    catalog: Callable[[], ModelCatalog] = ModelCatalog
    endpoint: Callable[[Target], str] = lambda _target: ""
    url: Callable[[Target, str], str] = lambda _target, _remote: ""
    usage: Callable[[Target, Path, str, Mapping[str, Any]], Usage | None] = lambda _target, _root, _remote, _data: None
    token_hosts: tuple[str, ...] = ()
    record: type[Struct] | None = None
    discover: Callable[[Mapping[str, str], Mapping[str, str]], Discovery | None] = lambda _environ, _fields: None
    doctor_checks: Callable[[], Iterable[DoctorCheck]] = tuple
