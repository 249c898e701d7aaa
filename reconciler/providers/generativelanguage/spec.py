"""The spec of the Generative Language API: what each version can do, how to connect, and the doctor checks."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec.structs import replace

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.model import MUTABLE_FIELDS, Capabilities, Target
from reconciler.domain.text import join_names
from reconciler.providers.spec import Diagnosis, Discovery, DoctorCheck, DoctorContext, ProviderContext, ProviderSpec

if TYPE_CHECKING:
    from reconciler.providers.generativelanguage.provider import GenerativeLanguage


ENDPOINT = "https://generativelanguage.googleapis.com"

_TUNED_MODEL = r"tunedModels/[a-z0-9-]{1,40}"
_EXAMPLE = "tunedModels/number-generator-3kq7w2ma"

# The limits are those that Google documents for tuning Gemini 1.5 Flash; "4 MB" is read as the smaller, decimal one.
# Defaults are the first of the documented values: they differ by base model, and are used for estimates only.
_PALM = Capabilities(
    label="Generative Language API v1beta3",
    hyperparameters=frozenset({"epochCount", "batchSize", "learningRate"}),
    mutable=frozenset(field.group for field in MUTABLE_FIELDS),
    defaults=MappingProxyType({"epochCount": 10, "batchSize": 16}),
    max_input_characters=40_000,
    max_output_characters=5_000,
    features=frozenset({"access", "basePrompts", "lineage"}),
    max_dataset_bytes=4_000_000,
    recommended_examples=20,
    max_display_name=40,
    tuned_model_pattern=_TUNED_MODEL,
    tuned_model_example=_EXAMPLE,
    remote_pattern=_TUNED_MODEL,
    remote_example=_EXAMPLE,
    base_model_prefix="models/",
    base_model_example="models/gemini-3.5-flash",
)
VERSIONS: Mapping[str, Capabilities] = MappingProxyType(
    {
        "v1beta3": _PALM,
        "v1beta": replace(
            _PALM,
            label="Generative Language API v1beta",
            hyperparameters=_PALM.hyperparameters | {"learningRateMultiplier"},
            features=_PALM.features | {"projectAccess"},
            defaults=MappingProxyType({"epochCount": 5, "batchSize": 4}),
        ),
    }
)
"""What each API version can do, by its name in the path."""


def endpoint_of(target: Target) -> str:
    """Return the address of the service of a target."""
    return target.endpoint or ENDPOINT


_MOST_NAMES = 5


def _connect(context: ProviderContext) -> GenerativeLanguage:
    from reconciler.providers.generativelanguage.provider import connect
    from reconciler.providers.google.auth import authorize
    from reconciler.providers.google.http import ClientSettings

    env, target = context.env, context.target
    auth = authorize(env, target, context.allow_endpoints, SPEC.token_hosts)
    limit = target.limits.requests_per_minute
    settings = ClientSettings(env.clock, env.sleeper, env.rng.random, auth, limit)
    return connect(endpoint_of(target), target.api_version, settings, VERSIONS[target.api_version])


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


def _discover(environ: Mapping[str, str], _fields: Mapping[str, str]) -> Discovery | None:
    name = next((name for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY") if environ.get(name)), None)
    return Discovery(name) if name else None


def _catalog() -> ModelCatalog:
    from reconciler.providers.catalog import built_in

    return built_in(__file__)


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
    catalog=_catalog,
    endpoint=endpoint_of,
    url=lambda target, remote: f"{endpoint_of(target)}/{target.api_version}/{remote}",
    token_hosts=("*.googleapis.com",),
    discover=_discover,
    doctor_checks=_doctor_checks,
)
