"""The doctor checks of the embedded service. They do not create its store."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.domain.errors import ReconcileError
from reconciler.providers.embedded.service import store_of
from reconciler.providers.generativelanguage import doctor as generativelanguage
from reconciler.providers.google.doctor import tuned_models_listed
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext


async def check_store(doctor: DoctorContext) -> Diagnosis:
    """Check that the models can be kept on this machine."""
    return _store_result(doctor)


def _store_result(doctor: DoctorContext) -> Diagnosis:
    store = store_of(doctor.context)
    directory = store.parent
    if not os.access(directory if directory.exists() else doctor.context.root, os.W_OK | os.X_OK):
        raise ReconcileError(f"the embedded service cannot keep its models in {directory}", "make the folder writable")
    shown = Path(os.path.relpath(store, doctor.env.cwd)).as_posix()
    later = "" if store.is_file() else ", once there are any"
    return Diagnosis(f"the embedded service keeps its models in {shown}{later}")


async def check_list(doctor: DoctorContext) -> Diagnosis:
    """List the models that were trained here."""
    if not store_of(doctor.context).is_file():
        return Diagnosis("nothing was trained here yet", status="skipped")
    doctor.models = await doctor.provider.list(progress=False)
    return Diagnosis(tuned_models_listed(doctor))


async def check_base_models(doctor: DoctorContext) -> Diagnosis:
    """Check that the base models of the manifests can be tuned."""
    if not store_of(doctor.context).is_file():
        return Diagnosis("the embedded service simulates them", status="skipped")
    return await generativelanguage.check_base_models(doctor)


CHECKS = (
    DoctorCheck("service", check_store),
    DoctorCheck("list", check_list, ("service",)),
    DoctorCheck("baseModels", check_base_models, ("list",)),
)
