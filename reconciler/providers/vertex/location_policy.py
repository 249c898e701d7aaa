"""The organization policy about locations of a project: read it, and say whether it allows a location.

The policy is a list constraint (https://docs.cloud.google.com/resource-manager/docs/organization-policy/defining-locations).
Its values are locations and groups of locations that Google curates. The members of few groups are known here, so that
the answer can be unknown. The shape of the policy is that of google.cloud.orgpolicy.v2.Policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from reconciler.domain.model import Target
from reconciler.providers.google.auth import authorize
from reconciler.providers.google.errors import CLOUD_PLATFORM, ServiceDescription
from reconciler.providers.google.http import Client, ClientSettings, HttpRequest
from reconciler.providers.google.retry import TransientError
from reconciler.providers.spec import ProviderContext

CONSTRAINT: Final = "gcp.resourceLocations"
SERVICE: Final = ServiceDescription(
    host="orgpolicy.googleapis.com",
    fields="spec.project and spec.endpoint",
    scopes=(CLOUD_PLATFORM,),
    remedies=MappingProxyType(
        {
            "PERMISSION_DENIED": "ask for roles/orgpolicy.policyViewer, or ask an administrator which locations"
            " the policy constraints/gcp.resourceLocations allows"
        }
    ),
)
_GROUP: Final = re.compile(r"in:([a-z0-9-]+)-locations")
_REGION: Final = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_AREAS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "us": r"us|us-.*",
        "europe": r"eu|europe-.*",
        "eu": r"eu|europe-(?!west2$|west6$).*",  # London and Zurich are outside the European Union
        "asia": r"asia-.*",
        "australia": r"australia-.*",
    }
)
"""The locations of groups, as patterns."""


async def read_policy(context: ProviderContext) -> Mapping[str, Any]:
    """Return the effective policy of the target's project; raises AccessError or ServiceError if it is not shown.

    The request is not repeated, because networks without a route to this API are common, and nothing depends on it.
    """
    env, target = context.env, context.target
    settings = ClientSettings(env.clock, env.sleeper, env.rng.random, authorize(env, target, context.allow_endpoints))
    async with Client(target.endpoint or f"https://{SERVICE.host}", SERVICE, settings) as client:
        try:
            return await client.fetch_once(HttpRequest("GET", _path(target)), lambda body: body)
        except TransientError as error:
            raise error.error from error


def _path(target: Target) -> str:
    return f"/v2/projects/{target.project}/policies/{CONSTRAINT}:getEffectivePolicy"


def is_allowed(policy: Mapping[str, Any], location: str) -> bool | None:
    """Return whether a policy allows a location; ``None`` where a group or a condition of it is not known."""
    rules = list(_rules(policy))
    denied = _contains((value for rule in rules for value in _values(rule, "deniedValues")), location)
    if denied or any(rule.get("denyAll") is True for rule in rules):
        return False
    allowed: bool | None = True
    listed = [value for rule in rules for value in _values(rule, "allowedValues")]
    if listed and not any(rule.get("allowAll") is True for rule in rules):
        allowed = _contains(listed, location)
    conditional = any("condition" in rule for rule in rules)
    return None if denied is None or conditional else allowed


def values_of(policy: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a policy lists, for messages."""
    return tuple(
        f"{label} {value}"
        for label, field in (("allowed", "allowedValues"), ("denied", "deniedValues"))
        for rule in _rules(policy)
        for value in _values(rule, field)
    )


def _rules(policy: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    spec = policy.get("spec")
    rules = spec.get("rules") if isinstance(spec, dict) else None
    yield from (rule for rule in rules or () if isinstance(rule, dict))


def _values(rule: Mapping[str, Any], field: str) -> Iterator[str]:
    values = rule.get("values")
    listed = values.get(field) if isinstance(values, dict) else None
    yield from (value for value in listed or () if isinstance(value, str))


def _contains(values: Iterable[str], location: str) -> bool | None:
    """Return whether one of the values is a location or a group that has it; ``None`` if a group is not known."""
    answers = {_matches(value, location) for value in values}
    return True if True in answers else None if None in answers else False


def _matches(value: str, location: str) -> bool | None:
    group = _GROUP.fullmatch(value)
    if group is None:
        name = value.removeprefix("is:")
        return None if ":" in name else name.lower() == location
    pattern = _AREAS.get(group[1]) or (re.escape(group[1]) if _REGION.fullmatch(group[1]) else "")
    return re.fullmatch(pattern, location) is not None if pattern else None
