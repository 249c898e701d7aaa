"""Google's own clients and protos, each imported when a test first reads something of it: that takes seconds."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class LazyModule:
    """A module that is imported on first use; pytest asks for private attributes only while it collects."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(self.load(), attribute)

    def load(self) -> ModuleType:
        """Import the module, which also registers its messages for `Any`, such as the metadata of operations."""
        return import_module(self.__name__)


gemini = LazyModule("google.ai.generativelanguage_v1beta")
palm = LazyModule("google.ai.generativelanguage_v1beta3")
vertex = LazyModule("google.cloud.aiplatform_v1")
vertex_v1beta1 = LazyModule("google.cloud.aiplatform_v1beta1")
genai = LazyModule("google.genai")
storage = LazyModule("google.cloud.storage")
