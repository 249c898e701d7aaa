"""Draw a document as one self-contained HTML page that loads nothing.

The templates escape everything. A policy in the page allows only its own style sheet and script, so that even a mistake
in escaping cannot load or run anything.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from reconciler.domain.document import VERSION, Document
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.envelope import is_simulated, kind_of, notices_of, target_of
from reconciler.reports.documents.plan import PlanReport
from reconciler.reports.html import loss_chart
from reconciler.reports.html.models import model_sections
from reconciler.reports.html.sections import PageModel, page_model
from reconciler.reports.text.format import Detail, minute, share

_BAR_START: Final = 2
_BAR_LENGTH: Final = 100
_PLOT: Final = {
    "width": loss_chart.WIDTH,
    "height": loss_chart.HEIGHT,
    "left": loss_chart.LEFT,
    "right": loss_chart.RIGHT,
    "bottom": loss_chart.BOTTOM,
}


def page(document: Document) -> str:
    """Return the page of a Plan, Drift, Result, Status, Check or History document.

    Raises:     UsageError: for a document of another kind.
    """
    overview, models = page_model(document), model_sections(document)
    style, script = _asset("page.css"), _asset("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            overview=overview,
            models=models,
            anchors={model.name: model.anchor for model in models},
            target=target_of(document),
            facts=_facts(document, overview),
            notices=notices_of(document),
            simulated=is_simulated(document),
            kind=kind_of(document),
            version=VERSION,
            plot=_PLOT,
            policy=_policy(style, script),
            style=style,
            script=script,
        )
    )


def _facts(document: Document, overview: PageModel) -> tuple[Detail, ...]:
    target = target_of(document)
    if target is None:
        return overview.facts
    facts = {
        "service": target.label,
        "scope": target.scope,
        "project": target.project,
        "location": target.location,
        "lockfile": _local_lockfile(document),
    }
    return (*((label, text) for label, text in facts.items() if text), *overview.facts)


def _local_lockfile(document: Document) -> str:
    """Return the path of the lockfile; empty if it is in a bucket, which the destinations show."""
    return "" if isinstance(document, PlanReport) and document.target.lock else getattr(document, "lockfile", "")


def _policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that allows only this style sheet and script; ``data:`` is the empty icon."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _asset(name: str) -> str:
    return resources.files("reconciler.reports.html").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reconciler.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        minute=minute,
        share=share,
        width=_width,
        along=lambda share: _BAR_START + _width(share),
        shortened=lambda key, name: key.removeprefix(f"{name}-"),
    )
    return environment


def _readable(value: object) -> object:
    """Return text with invisible characters escaped and lines kept; markup of the templates is unchanged."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(terminal_safe(line) for line in value.split("\n"))


def _width(share_of_bar: float) -> float:
    """Return the length of a share in a bar."""
    return round(_BAR_LENGTH * min(max(share_of_bar, 0.0), 1.0), 1)
