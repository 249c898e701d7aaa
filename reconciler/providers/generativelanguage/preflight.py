"""The base models of the Generative Language API: which of them can be tuned, asked before anything is created."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.domain.errors import ForbiddenError, ServiceError
from reconciler.providers.google.errors import clean
from reconciler.providers.google.http import Call, Client, Json
from reconciler.providers.google.proto_json import list_models, resource_name, text

_COLLECTION = "models/"
_TUNE = "createTunedModel"
_PAGE_SIZE = "1000"  # the documented maximum; a server may answer with less
_FIELDS = "name,supportedGenerationMethods"
_UNTOLD = frozenset({"NOT_FOUND", "UNIMPLEMENTED"})
_NAMED = 5

RETIRED = """\
no base model of this service can be tuned: Google retired the last one of this API, gemini-1.5-flash-001, in May 2025
The same manifests can be tuned on Vertex AI, which means training again; put this target beside yours as \
reconcile.vertex.yaml, name base models of Vertex AI in the manifests (spec.vertex.baseModel: gemini-2.5-flash), \
and run `reconcile plan --target vertex`:
    apiVersion: tuning.reconcile/v1alpha1
    kind: Target
    metadata: {name: vertex}
    spec:
      provider: vertex
      scope: SCOPE            # as in this target
      project: PROJECT
      location: us-central1
      bucket: gs://BUCKET     # of that project, for the data sets"""
"""What to say of a service none of whose base models can be tuned; several lines."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model under its full name, ``models/text-bison-001``, and the methods that it offers."""

    remote: str
    methods: frozenset[str]

    @property
    def tunable(self) -> bool:
        """Whether a model can be tuned from it."""
        return _TUNE in self.methods


class BaseModels:
    """What a service tells of its base models; its list is asked for once, however often it is needed.

    Args:
        client: What is asked.
        root: The API's version as a path, ``/v1beta3``.
    """

    def __init__(self, client: Client, root: str) -> None:
        self._client = client
        self._root = root
        self._listed: Mapping[str, BaseModel] | None = None

    async def tunable(self) -> tuple[str, ...] | None:
        """The names of those that can be tuned, sorted; ``None`` when the service does not tell.

        Raises:
            AccessError: nobody is logged in.
            ServiceError: the service cannot be reached.
        """
        listed = await self._catalogue()
        return tuple(sorted(one.remote for one in listed.values() if one.tunable)) if listed else None

    async def untunable(self, wanted: Iterable[str]) -> dict[str, str]:
        """Why some of these cannot be tuned; nothing where the service does not tell. Raises as :meth:`tunable`.

        What the list lacks is asked for by name: services do not list everything.
        """
        listed, tunable = await self._catalogue(), await self.tunable()
        if tunable is None:
            return {}
        found = {name: listed.get(name) or await self._read(name) for name in sorted(wanted)}
        return {name: _why(name, model, tunable) for name, model in found.items() if not (model and model.tunable)}

    async def _catalogue(self) -> Mapping[str, BaseModel]:
        """The list; empty where there is none, or where none of it says what it offers."""
        if self._listed is None:
            models = await self._list()
            self._listed = {one.remote: one for one in models} if any(one.methods for one in models) else {}
        return self._listed

    async def _list(self) -> tuple[BaseModel, ...]:
        params = {"pageSize": _PAGE_SIZE, "fields": f"nextPageToken,models({_FIELDS})"}
        try:
            return await list_models(self._client, Call("GET", f"{self._root}/models", params), _read_page)
        except ForbiddenError:
            return ()
        except ServiceError as error:
            if error.code in _UNTOLD:
                return ()
            raise

    async def _read(self, name: str) -> BaseModel | None:
        call = Call("GET", f"{self._root}/{name}", {"fields": _FIELDS})
        try:
            return self._client.decode(call, _read_model, await self._client.request(call))
        except ForbiddenError:
            return None
        except ServiceError as error:
            if error.code in _UNTOLD:
                return None
            raise


def _read_page(body: Json) -> tuple[tuple[BaseModel, ...], str]:
    return tuple(map(_read_model, body.get("models") or ())), text(body.get("nextPageToken"))


def _read_model(body: Json) -> BaseModel:
    methods = body.get("supportedGenerationMethods") or ()
    return BaseModel(clean(resource_name(body["name"])), frozenset(one for one in methods if isinstance(one, str)))


def _why(name: str, model: BaseModel | None, tunable: tuple[str, ...]) -> str:
    if not tunable:
        return RETIRED
    what = f"{name} cannot be tuned here: it does not offer {_TUNE}" if model else f"the service has no model {name}"
    return f"{what}; {''.join(_suggestion(name, tunable))}"


def _suggestion(name: str, tunable: tuple[str, ...]) -> Iterator[str]:
    bare = {one.removeprefix(_COLLECTION): one for one in tunable}  # what they all share would make them alike
    near = difflib.get_close_matches(name.removeprefix(_COLLECTION), bare, n=1)
    if near:
        yield f"did you mean {bare[near[0]]}? "
    more = f" and {len(tunable) - _NAMED} more" if len(tunable) > _NAMED else ""
    yield f"spec.baseModel may be {', '.join(tunable[:_NAMED])}{more}"
