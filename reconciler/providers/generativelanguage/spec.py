"""The spec of the Generative Language API: what a target declares for it, and how to connect."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from reconciler.providers.generativelanguage.capabilities import VERSIONS, endpoint_of
from reconciler.providers.spec import DoctorCheck, ProviderContext, ProviderSpec

if TYPE_CHECKING:
    from reconciler.providers.generativelanguage.provider import GenerativeLanguage


def _connect(context: ProviderContext) -> GenerativeLanguage:
    from reconciler.providers.generativelanguage.provider import connect
    from reconciler.providers.google.auth import authorize
    from reconciler.providers.google.http import ClientSettings

    env, target = context.env, context.target
    auth = authorize(env, target, context.allow_endpoints, SPEC.token_hosts)
    limit = target.limits.requests_per_minute
    settings = ClientSettings(env.clock, env.sleeper, env.rng.random, auth, limit)
    return connect(endpoint_of(target), target.api_version, settings)


def _doctor_checks() -> tuple[DoctorCheck, ...]:
    from reconciler.providers.generativelanguage.doctor import CHECKS

    return CHECKS


SPEC = ProviderSpec(
    name="generativelanguage",
    capabilities=lambda target: VERSIONS[target.api_version],
    connect=_connect,
    unused_fields=MappingProxyType(
        {"bucket": "data sets are sent in requests", "vertex": "it contains settings of Vertex AI"}
    ),
    endpoint=endpoint_of,
    url=lambda target, remote: f"{endpoint_of(target)}/{target.api_version}/{remote}",
    token_hosts=("*.googleapis.com",),
    doctor_checks=_doctor_checks,
)
