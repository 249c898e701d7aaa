"""The built-in providers, and a fake without chosen ids, keep the contract that plug-ins are tested with."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.testing.contract import ProviderContract
from support.local_world import LocalService
from support.provider_contract import EmbeddedGenerativeLanguage, EmbeddedVertex, Fake


@pytest.mark.slow
class TestGenerativeLanguageV1beta3(ProviderContract):
    """The same provider as of v1beta: what differs by version is tested in ``tests/providers/generativelanguage``."""

    def service(self) -> EmbeddedGenerativeLanguage:
        return EmbeddedGenerativeLanguage("v1beta3")


class TestGenerativeLanguageV1beta(ProviderContract):
    def service(self) -> EmbeddedGenerativeLanguage:
        return EmbeddedGenerativeLanguage("v1beta")


class TestVertex(ProviderContract):
    def service(self) -> EmbeddedVertex:
        return EmbeddedVertex()


class TestFake(ProviderContract):
    def service(self) -> Fake:
        return Fake()


class TestLocal(ProviderContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.path = tmp_path

    def service(self) -> LocalService:
        return LocalService(self.path)


@pytest.mark.parametrize(
    ("test", "features"),
    [
        (TestGenerativeLanguageV1beta3, {"access", "basePrompts", "lineage"}),
        (TestGenerativeLanguageV1beta, {"access", "basePrompts", "projectAccess", "lineage"}),
        (
            TestVertex,
            {"basePrompts", "cancellation", "checkpoints", "cloudStorage", "conversations", "lineage", "preference"},
        ),
        (TestFake, {"cloudStorage", "conversations", "lineage"}),
    ],
)
def test_features_of_each_service(test: type[ProviderContract], features: set[str]) -> None:
    service = test().service()
    assert service.capabilities.features == features
    assert "epochCount" in service.observe(service.train(service.request({}))).hyperparameters
