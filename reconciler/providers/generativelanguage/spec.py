"""The spec of the Generative Language API: what a target declares for it, how to connect, and the doctor checks."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from reconciler.domain.text import join_names
from reconciler.providers.generativelanguage.capabilities import VERSIONS, endpoint_of
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext, ProviderContext, ProviderSpec

if TYPE_CHECKING:
    from reconciler.providers.generativelanguage.provider import GenerativeLanguage


_MOST_NAMES = 5


def _connect(context: ProviderContext) -> GenerativeLanguage:
    from reconciler.providers.generativelanguage.provider import connect
    from reconciler.providers.google.auth import authorize
    from reconciler.providers.google.http import ClientSettings

    env, target = context.env, context.target
    auth = authorize(env, target, context.allow_endpoints, SPEC.token_hosts)
    limit = target.limits.requests_per_minute
    settings = ClientSettings(env.clock, env.sleeper, env.rng.random, auth, limit)
    return connect(endpoint_of(target), target.api_version, settings)


async def check_base_models(doctor: DoctorContext) -> Diagnosis:
    """Check that the base models of the manifests can be tuned."""
    from reconciler.providers.generativelanguage.provider import GenerativeLanguage
    from reconciler.providers.generativelanguage.wire import NO_TUNABLE_MODELS

    service = doctor.provider
    if not isinstance(service, GenerativeLanguage):
        raise TypeError("only the Generative Language API lists the base models that can be tuned")
    tunable = await service.tunable()
    if tunable is None:
        return Diagnosis("the service does not show which base models can be tuned", status="skipped")
    if not tunable:
        message, _, remedy = NO_TUNABLE_MODELS.partition("\n")
        return Diagnosis(message, remedy, "failed")
    obstacles = await service.preflight(doctor.base_models)
    if obstacles:
        names = ", ".join(sorted(obstacles))
        remedy = "\n".join(obstacles.values())
        return Diagnosis(f"manifests name what cannot be tuned: {names}", remedy, "failed")
    return Diagnosis(f"{join_names(tunable, _MOST_NAMES)} can be tuned")


def _doctor_checks() -> tuple[DoctorCheck, ...]:
    from reconciler.providers.generativelanguage.wire import SERVICE
    from reconciler.providers.google.doctor import connection_checks, tuned_models_listed

    return (
        *connection_checks(SERVICE, endpoint_of, tuned_models_listed),
        DoctorCheck("baseModels", check_base_models, ("list",)),
    )


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
