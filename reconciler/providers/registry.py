"""The providers by name: the built-in ones and those of installed packages. Each is imported when it is first used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from reconciler.domain.base_models import ModelCatalog
from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.model import Capabilities, Target
from reconciler.domain.text import join_names, suggest
from reconciler.providers.spec import ConnectedProvider, ProviderContext, ProviderSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "reconciler.providers"
"""The entry-point group of packages that add providers: ``NAME = "module:ATTRIBUTE"``, the attribute a ProviderSpec."""

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "embedded": "reconciler.providers.embedded:SPEC",
        "generativelanguage": "reconciler.providers.generativelanguage.spec:SPEC",
        "local": "reconciler.providers.local.spec:SPEC",
        "vertex": "reconciler.providers.vertex.spec:SPEC",
    }
)
"""Where the spec of each built-in provider is; a new one is a row."""


def provider_names() -> tuple[str, ...]:
    """Return the names of all providers: the built-in ones, then those of installed packages, sorted."""
    return (*BUILT_IN, *sorted(_installed().keys() - BUILT_IN.keys()))


@cache
def provider_spec(name: str) -> ProviderSpec:
    """Return the spec of a provider. A built-in one is not replaced by a package that uses its name.

    Raises:
        UsageError: if no provider of this name is installed.
        ReconcileError: if several packages provide it, or its package cannot be loaded.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        spec: ProviderSpec = getattr(import_module(module), attribute)
        return spec
    entry_points = _installed().get(name, ())
    if not entry_points:
        names = provider_names()
        install = f"install the package that provides it, or use one of {join_names(names)}"
        raise UsageError(f'provider "{name}" is not installed', suggest(name, names, otherwise=install))
    if len(entry_points) > 1:
        packages = join_names(sorted(map(_distribution, entry_points)))
        raise ReconcileError(f'several packages provide "{name}": {packages}', "uninstall all but one of them")
    return _load(entry_points[0])


@cache
def _installed() -> Mapping[str, tuple[EntryPoint, ...]]:
    """The entry points of installed packages by provider name; importlib.metadata lists a package on the path once."""
    from importlib.metadata import entry_points  # slow, and needed for other names than the built-in ones only

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        found[entry_point.name] = (*found.get(entry_point.name, ()), entry_point)
    return found


def _load(entry_point: EntryPoint) -> ProviderSpec:
    package = _distribution(entry_point)
    try:
        spec = entry_point.load()
    except Exception as error:  # the code of another package can raise anything
        cause = f"{type(error).__name__}: {error}"
        raise ReconcileError(
            f'provider "{entry_point.name}" of package {package} cannot be loaded: {cause}',
            f"update or reinstall {package}",
        ) from error
    if not isinstance(spec, ProviderSpec) or spec.name != entry_point.name:
        found = f'the spec of "{spec.name}"' if isinstance(spec, ProviderSpec) else type(spec).__name__
        raise ReconcileError(
            f'provider "{entry_point.name}" of package {package} is invalid: {entry_point.value} is {found}, expected'
            f' a ProviderSpec named "{entry_point.name}"',
            f"update {package}",
        )
    return spec


def _distribution(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else entry_point.value


def is_installed(name: str) -> bool:
    """Whether there is a provider of this name; its package may fail to load."""
    return name in BUILT_IN or name in _installed()


def recorded_spec(name: str) -> ProviderSpec:
    """Return the spec of a provider, or one without capabilities and with any settings if it is not installed.

    Commands that only read the lockfile work with it; connecting fails with the error of :func:`provider_spec`.
    """
    if is_installed(name):
        return provider_spec(name)
    return ProviderSpec(
        name,
        capabilities=lambda _target: Capabilities(name, frozenset(), endpoint_pattern=r"\S+"),
        connect=lambda context: provider_spec(name).connect(context),
        settings={"type": "object"},
    )


def capabilities_of(target: Target) -> Capabilities:
    """Return what the target's service can do; nothing if its provider is not installed."""
    return recorded_spec(target.provider).capabilities(target)


def catalog_of(target: Target, root: Path) -> ModelCatalog:
    """Return the base models of the target's service, with those of the target's file; ``root`` has the target.

    Raises:
        ReconcileError: if the file that the target names cannot be read.
        InvalidInput: if it is not a catalog.
    """
    catalog = recorded_spec(target.provider).catalog()
    if not target.models:
        return catalog
    from reconciler.providers.catalog import extended

    return extended(catalog, target.models, root, target.file)


def endpoint_of(target: Target) -> str:
    """Return the address of the target's service; empty if it has none."""
    return recorded_spec(target.provider).endpoint(target)


def url_of(target: Target, remote: str) -> str:
    """Return the address that takes prompts for a remote model or its endpoint; empty if there is none."""
    return recorded_spec(target.provider).url(target, remote)


def connect(context: ProviderContext) -> ConnectedProvider:
    """Return a client of the target's service, to be used as an async context manager."""
    return provider_spec(context.target.provider).connect(context)
