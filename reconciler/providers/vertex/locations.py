"""The locations of Vertex AI: the host of each, and the paths of resources, whose names have their location.

Hosts: https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/locations . A job is in the location of
the target. What it creates can be elsewhere: models that are tuned in a region are served in the multi-region around
it. Whether the names of these endpoints have the region or the multi-region is not documented, so both are accepted.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from reconciler.domain.errors import ServiceError
from reconciler.domain.model import REMOTE_SCHEME, Target
from reconciler.domain.text import sanitize

_JOBS: Final = "tuningJobs"
_PLACE = r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
JOB_NAME: Final = re.compile(_PLACE + r"/tuningJobs/[A-Za-z0-9_-]+")
ENDPOINT_NAME: Final = re.compile(_PLACE + r"/endpoints/[A-Za-z0-9_-]+")
RESOURCE_NAME: Final = re.compile(
    _PLACE + r"(/(endpoints|models)/[A-Za-z0-9_-]+(@[A-Za-z0-9_-]+)?)?(/operations/[A-Za-z0-9_-]+)?"
)
"""The names of the models and endpoints that a job creates, and of the operations that delete them."""
_BASE_MODEL: Final = re.compile(_PLACE + r"/publishers/google/models/[A-Za-z0-9][A-Za-z0-9._-]*")
GLOBAL: Final = "global"
MULTI_REGIONS: Final = MappingProxyType({"us": "us", "eu": "europe"})
"""The multi-regions, and how the names of their regions begin."""
_VERSION: Final = "v1"
_JOB_VERSION: Final = "v1beta1"
"""The version for jobs, as in google-genai: only its jobs have ``tuningJobState`` and ``tuningJobMetadata``."""
_REGION: Final = r"[a-z]{2,20}-[a-z]{2,20}[0-9]{1,2}"
LOCATION: Final = rf"(?:{GLOBAL}|{'|'.join(MULTI_REGIONS)}|{_REGION})"
"""A location in a name from a service or a lockfile; it becomes a part of a host name."""


_EXPERIMENT: Final = re.compile(
    rf"projects/[^/]+/locations/(?P<location>{LOCATION})/metadataStores/[^/]+/contexts/(?P<id>[A-Za-z0-9_-]+)"
)


def host_of(location: str) -> str:
    """Return the host of a location."""
    if location == GLOBAL:
        return "aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def multi_region_of(location: str) -> str:
    """Return the multi-region around a region; empty if there is none."""
    return next((area for area, prefix in MULTI_REGIONS.items() if location.startswith(f"{prefix}-")), "")


def serving_pattern(target: Target) -> str:
    """Return a pattern of the locations in which the models and endpoints of a target's jobs can be.

    These are the location of the target, the multi-region around it, and ``spec.servingLocation``. Around a
    multi-region they are its regions, and around ``global`` all locations.
    """
    location = target.location or ""
    around = multi_region_of(location)
    if location == GLOBAL:
        around = LOCATION
    elif location in MULTI_REGIONS:
        around = rf"(?={MULTI_REGIONS[location]}-){_REGION}"
    return "|".join(filter(None, (re.escape(location), around, re.escape(target.serving_location))))


def address_of(target: Target, location: str) -> str:
    """Return the address of a location for a target; the target's own endpoint, such as an emulator, has all."""
    return target.endpoint or f"https://{host_of(location)}"


def url_of(target: Target, remote: str) -> str:
    """Return the address of an endpoint, at the host of its location; empty for weights."""
    if remote.startswith(REMOTE_SCHEME):
        return ""  # the weights of an open model, which is not deployed
    match = ENDPOINT_NAME.fullmatch(remote)
    location = match["location"] if match else target.location or ""
    return f"{address_of(target, location)}/{_VERSION}/{remote}"


class ExperimentPages(Struct, frozen=True):
    """The pages of a project's experiments in Google's console, as google-genai links them."""

    project: str

    def __call__(self, name: str) -> str:
        """Return the page of an experiment by its resource name; empty for another name.

        The name is from a lockfile or a service: the address has nothing of it except the location and the last part.
        """
        match = _EXPERIMENT.fullmatch(name)
        if match is None:
            return ""
        place, query = f"{match['location']}/experiments/{match['id']}", f"project={quote(self.project, safe='')}"
        return f"https://console.cloud.google.com/vertex-ai/experiments/locations/{place}/runs?{query}"


class Locations:
    """The paths of a target's resources, which begin with a host where it is not that of the target's location."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._project = quote(target.project or "", safe="")
        self._serving = re.compile(serving_pattern(target))
        self.jobs = self.collection(target.location or "", _JOBS)

    def collection(self, location: str, kind: str) -> str:
        """Return the path of a collection in a location, such as ``endpoints``."""
        return f"{self._parent(location, _JOB_VERSION if kind == _JOBS else _VERSION)}/{kind}"

    def has(self, name: str) -> bool:
        """Return whether the name of a resource has a location in which results of this target's jobs can be."""
        return self._serving.fullmatch(location_of(name)) is not None

    def serving(self, *names: str) -> str:
        """Return where a model is deployed again: ``spec.servingLocation``, or the location of the first name."""
        return self._target.serving_location or next(filter(None, map(location_of, names)), "")

    def path_of(self, name: str) -> str:
        """Return the path of a model, endpoint or operation; raises ServiceError for another name."""
        return self._path(name, RESOURCE_NAME, "model, endpoint or operation", "models")

    def endpoint(self, name: str) -> str:
        """Return the path of an endpoint; raises ServiceError for another name."""
        return self._path(name, ENDPOINT_NAME, "endpoint", "endpoints")

    def job(self, name: str) -> str:
        """Return the path of a job, which is in the target's location; raises ServiceError for another name."""
        return self._path(name, JOB_NAME, "tuning job", _JOBS)

    def base_model(self, name: str) -> str:
        """Return the full name of a base model of Google, for prompts; raises ServiceError for another name.

        Gemini 3 models answer in multi-regions and not in regions, as those that are tuned from them.
        """
        target = self._target
        location = target.serving_location or multi_region_of(target.location or "") or target.location
        full = f"projects/{target.project}/locations/{location}/publishers/google/models/{name}"
        if not is_base_model(full):
            message = f"base model {sanitize(name)!r} does not answer prompts: only models of Google do"
            raise ServiceError(message, "remove base from the comparisons of the check", code="INVALID_ARGUMENT")
        return full

    def base_path(self, full_name: str) -> str:
        """Return the path of a base model; raises ServiceError for one that is not as :meth:`base_model` returns it."""
        if self.base_model(full_name.rpartition("/")[2]) != full_name:
            raise ServiceError(
                f"invalid base model {sanitize(full_name)!r}", "fix the manifest", code="INVALID_ARGUMENT"
            )
        location = location_of(full_name)
        return f"{self._parent(location)}{full_name.partition(f'/locations/{location}')[2]}"

    def _path(self, name: str, pattern: re.Pattern[str], kind: str, collection: str) -> str:
        """Return the path of a resource; its name is from a lockfile or a service.

        The project may be its number, which the service uses in the names of what it creates. The path always has the
        target's project, so that a number of another project reaches nothing there.
        """
        match, target = pattern.fullmatch(name), self._target
        own = match and (match["project"] == target.project or match["project"].isdecimal())
        location = match["location"] if match and own else ""
        if match and own and (location == target.location or (pattern is not JOB_NAME and self.has(name))):
            version = _JOB_VERSION if pattern is JOB_NAME else _VERSION
            return f"{self._parent(location, version)}{name[match.end('location') :]}"
        expected = f"projects/{target.project}/locations/{target.location}/{collection}/1"
        remedy = "fix the lockfile"
        if location and pattern is not JOB_NAME and re.fullmatch(LOCATION, location):
            remedy += f", or set spec.servingLocation of the target to {location} if its models are served there"
        message = f"invalid {kind} {sanitize(name)!r}: expected a name like {expected}"
        raise ServiceError(message, remedy, code="INVALID_ARGUMENT")

    def _parent(self, location: str, version: str = _VERSION) -> str:
        elsewhere = location != self._target.location and not self._target.endpoint
        host = f"https://{host_of(location)}" if elsewhere else ""
        return f"{host}/{version}/projects/{self._project}/locations/{quote(location, safe='')}"


def is_base_model(name: str) -> bool:
    """Return whether it is the full name of a base model of Google."""
    return _BASE_MODEL.fullmatch(name) is not None


def location_of(name: str) -> str:
    """Return the location in the name of a resource; empty if there is none."""
    return name.partition("/locations/")[2].partition("/")[0]
