"""The doctor checks of the Generative Language API."""

from __future__ import annotations

from reconciler.domain.text import join_names
from reconciler.providers.generativelanguage.capabilities import endpoint_of
from reconciler.providers.generativelanguage.errors import NO_TUNABLE_MODELS, SERVICE
from reconciler.providers.generativelanguage.provider import GenerativeLanguage
from reconciler.providers.google.doctor import connection_checks, tuned_models_listed
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext

_NAMED = 5


async def check_base_models(doctor: DoctorContext) -> Diagnosis:
    """Check that the base models of the manifests can be tuned."""
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
    return Diagnosis(f"{join_names(tunable, _NAMED)} can be tuned")


CHECKS = (
    *connection_checks(SERVICE, endpoint_of, tuned_models_listed),
    DoctorCheck("baseModels", check_base_models, ("list",)),
)
