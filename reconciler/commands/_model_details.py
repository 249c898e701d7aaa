"""Portraits of the recorded models, put into documents of which somebody wants a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.planning.generations import Observation, find_live_model
from reconciler.reports.documents.model_details import model_details

if TYPE_CHECKING:
    from reconciler.domain.lock import Lock
    from reconciler.domain.model import RemoteModel
    from reconciler.reports.documents.plan_and_result import Document


def add_model_details(document: Document, lock: Lock, scope: str, seen: Observation) -> Document:
    """The document with a portrait of each recorded model."""
    return {**document, "portraits": model_details(lock, recorded_models(lock, scope, seen))}


def recorded_models(lock: Lock, scope: str, seen: Observation) -> dict[str, RemoteModel]:
    """The live models that are the recorded ones; one of the same name may be somebody else's by now."""
    found = (
        find_live_model(one, scope, name, seen) for name, model in lock.models.items() for one in model.generations
    )
    return {model.remote: model for model in found if model}
