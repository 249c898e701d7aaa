"""What is said of credentials."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.providers.generativelanguage.wire import SERVICE as GENERATIVE_LANGUAGE
from reconciler.providers.google.doctor import USER_LOGIN, CallerIdentity, describe_credentials
from reconciler.providers.google.errors import SCOPES
from reconciler.providers.spec import Diagnosis
from reconciler.providers.vertex.wire import SERVICE as VERTEX

CLOUD, TUNING = SCOPES
LOGIN = CallerIdentity(USER_LOGIN, "adc.json", "ana@example.com", frozenset(SCOPES), "mine")


def test_good_credentials_are_described_without_a_remedy() -> None:
    assert describe_credentials(LOGIN, GENERATIVE_LANGUAGE) == Diagnosis(
        "user login from adc.json: account ana@example.com; scopes cloud-platform, generative-language.tuning; "
        "quota project mine"
    )


def test_unknown_values_are_called_unknown() -> None:
    message = describe_credentials(CallerIdentity("access token", "RECONCILE_ACCESS_TOKEN"), VERTEX).message
    assert message == "access token from RECONCILE_ACCESS_TOKEN: account unknown; scopes unknown; quota project none"


def test_a_scope_that_the_service_needs_is_missed() -> None:
    narrow = replace(LOGIN, scopes=frozenset({CLOUD}))
    said = describe_credentials(narrow, GENERATIVE_LANGUAGE)
    assert said.status == "warning"
    assert said.remedy.startswith(f"get a token with the scopes {CLOUD} and {TUNING}: log in with `gcloud auth")
    assert describe_credentials(narrow, VERTEX).status == "ok"


@pytest.mark.parametrize(("kind", "status"), [(USER_LOGIN, "warning"), ("service account key", "ok")])
def test_a_login_needs_a_quota_project(kind: str, status: str) -> None:
    said = describe_credentials(replace(LOGIN, kind=kind, quota_project=""), GENERATIVE_LANGUAGE)
    assert said.status == status
    assert bool(said.remedy) == (status == "warning")
