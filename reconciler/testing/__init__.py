"""Tests for the authors of providers: subclass ``ProviderContract``, see docs/providers.md."""

from reconciler.testing.contract import ProviderContract
from reconciler.testing.service import EXAMPLES, ServiceUnderTest, create_request, raises

__all__ = ["EXAMPLES", "ProviderContract", "ServiceUnderTest", "create_request", "raises"]
