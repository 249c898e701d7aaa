"""Every document that a command prints can be drawn again."""

from __future__ import annotations

from reconciler.domain.plan import Plan
from reconciler.manifests.schema_validation import SCHEMA_KINDS
from reconciler.reports.documents.plan import plan_report
from reconciler.reports.writer import KINDS, render_text
from support.render_values import CREATE, IN_SYNC, LOCKFILE, SIMULATED, TARGET

UNPRINTED = {"Events", "Faults", "Lock", "SavedPlan", "Target", "TunedModel"}
"""Documents that no command prints as its result."""


def test_every_kind_that_is_printed_has_a_text() -> None:
    assert set(KINDS) == SCHEMA_KINDS.keys() - UNPRINTED


def test_the_text_is_the_one_of_the_command() -> None:
    document = plan_report(Plan((CREATE, IN_SYNC)), TARGET, SIMULATED, LOCKFILE)
    assert render_text(document, width=60) == render_text(document, width=60)
    assert render_text(document, verbose=True) == render_text(document, verbose=True)
