"""Google's own clients and protos, each imported when a test first reads something of it: that takes seconds."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

_IMPORTED = re.compile(r"^from (\.[\w.]+) import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)


class LazyModule:
    """A module that is imported on first use; pytest asks for private attributes only while it collects."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(import_module(self.__name__), attribute)


class LazyPackage(LazyModule):
    """A package of clients and messages, of which only the modules that define what is used are imported.

    A whole package takes seconds. Where a name is defined is read from the imports of the package's ``__init__``, which
    itself does not run. (With Python 3.15 these packages import lazily themselves.)
    """

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(import_module(self._homes[attribute]), attribute)

    @cached_property
    def _homes(self) -> dict[str, str]:
        """The module that defines each name of the package."""
        for name in (self.__name__, f"{self.__name__}.types"):
            spec = importlib.util.find_spec(name)
            assert spec is not None, f"{name} is not installed"
            sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
        init = Path(*sys.modules[self.__name__].__path__, "__init__.py").read_text(encoding="utf-8")
        return {
            name: self.__name__ + module
            for module, several, single in _IMPORTED.findall(init)
            for name in re.findall(r"\w+", several or single)
        }


gemini = LazyPackage("google.ai.generativelanguage_v1beta")
palm = LazyPackage("google.ai.generativelanguage_v1beta3")
vertex = LazyPackage("google.cloud.aiplatform_v1")
vertex_v1beta1 = LazyPackage("google.cloud.aiplatform_v1beta1")
genai = LazyModule("google.genai")
storage = LazyModule("google.cloud.storage")
