"""The base models of the Generative Language API, and which of them can be tuned."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from reconciler.domain.errors import ForbiddenError, ServiceError
from reconciler.domain.text import join_names, sanitize, suggest
from reconciler.providers.generativelanguage.wire import NO_TUNABLE_MODELS
from reconciler.providers.google.errors import read_name, read_text
from reconciler.providers.google.http import Client, HttpRequest, Json, list_models

T = TypeVar("T")

_COLLECTION = "models/"
_TUNE = "createTunedModel"
_PAGE_SIZE = "1000"  # the documented maximum; a server may return fewer
_FIELDS = "name,supportedGenerationMethods"
_NOT_AVAILABLE = frozenset({"NOT_FOUND", "UNIMPLEMENTED"})
_MAX_NAMES = 5


class BaseModel(Struct, frozen=True):
    """A base model by its full name, ``models/text-bison-001``, and the methods that it supports."""

    remote: str
    methods: frozenset[str]

    @property
    def tunable(self) -> bool:
        """Whether a model can be tuned from it."""
        return _TUNE in self.methods


class BaseModels:
    """The base models of a service; their list is requested once.

    Args:
        client: The client of the service.
        root: The API's version as a path, ``/v1beta3``.
    """

    def __init__(self, client: Client, root: str) -> None:
        self._client = client
        self._root = root
        self._listed: Mapping[str, BaseModel] | None = None

    async def tunable(self) -> tuple[str, ...] | None:
        """Return the sorted names of the base models that can be tuned; ``None`` where the service does not list them.

        Raises:
            AccessError: There are no valid credentials.
            ServiceError: The service cannot be reached.
        """
        listed = await self._list_once()
        return tuple(sorted(model.remote for model in listed.values() if model.tunable)) if listed else None

    async def untunable(self, names: Iterable[str]) -> dict[str, str]:
        """Return an error for each named base model that cannot be tuned; raises as :meth:`tunable`.

        A model that is not listed is requested by name, because lists may be incomplete. Without a list there are no
        errors here, and the create request decides.
        """
        listed, tunable = await self._list_once(), await self.tunable()
        if tunable is None:
            return {}
        models = {name: listed.get(name) or await self._read(name) for name in sorted(names)}
        return {name: _explain(name, model, tunable) for name, model in models.items() if not (model and model.tunable)}

    async def _list_once(self) -> Mapping[str, BaseModel]:
        """Return the list by name; empty where there is none, or where no model names its methods."""
        if self._listed is None:
            params = {"pageSize": _PAGE_SIZE, "fields": f"nextPageToken,models({_FIELDS})"}
            request = HttpRequest("GET", f"{self._root}/models", params)
            models = await _find(list_models(self._client, request, _read_page)) or ()
            self._listed = {model.remote: model for model in models} if any(model.methods for model in models) else {}
        return self._listed

    async def _read(self, name: str) -> BaseModel | None:
        request = HttpRequest("GET", f"{self._root}/{name}", {"fields": _FIELDS})
        return await _find(self._client.fetch(request, _read_model))


async def _find(response: Awaitable[T]) -> T | None:
    """Return a response; ``None`` where it does not exist, or is not visible to the account."""
    try:
        return await response
    except ForbiddenError:
        return None
    except ServiceError as error:
        if error.code in _NOT_AVAILABLE:
            return None
        raise


def _read_page(body: Json) -> tuple[tuple[BaseModel, ...], str]:
    return tuple(map(_read_model, body.get("models") or ())), read_text(body.get("nextPageToken"))


def _read_model(body: Json) -> BaseModel:
    methods = body.get("supportedGenerationMethods") or ()
    supported = frozenset(method for method in methods if isinstance(method, str))
    return BaseModel(sanitize(read_name(body["name"])), supported)


def _explain(name: str, model: BaseModel | None, tunable: tuple[str, ...]) -> str:
    if not tunable:
        return NO_TUNABLE_MODELS
    problem = f"{name} cannot be tuned: it does not support {_TUNE}" if model else f"no such base model: {name}"
    names = {model.removeprefix(_COLLECTION): model for model in tunable}  # the shared prefix would make all similar
    suggestion = suggest(name.removeprefix(_COLLECTION), names)
    hint = suggestion.replace("did you mean ", f"did you mean {_COLLECTION}") + " " if suggestion else ""
    return f"{problem}; {hint}set spec.baseModel to one of {join_names(tunable, _MAX_NAMES)}"
