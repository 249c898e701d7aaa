"""A declarative, GitOps-style reconciler for tuned language models.

The names in ``__all__`` are the public API (docs/python-api.md). They are imported on first use. All other modules are
private: they may change in any release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.api import (
        Action,
        ExitStatus,
        InvalidInput,
        Kind,
        Problem,
        Project,
        Reason,
        ReconcileError,
        Result,
        StalePlan,
        apply,
        load,
        plan,
        resolve,
    )
    from reconciler.api import ProjectPlan as Plan
    from reconciler.domain.version import __version__

__all__ = [
    "Action",
    "ExitStatus",
    "InvalidInput",
    "Kind",
    "Plan",
    "Problem",
    "Project",
    "Reason",
    "ReconcileError",
    "Result",
    "StalePlan",
    "__version__",
    "apply",
    "load",
    "plan",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = "reconciler.domain.version" if name == "__version__" else "reconciler.api"
    return getattr(import_module(module), "ProjectPlan" if name == "Plan" else name)
