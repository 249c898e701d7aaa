"""The base models of tests; ``tests/test_repository.py`` fails when they are retired."""

from __future__ import annotations

from typing import Final

VERTEX: Final = "gemini-3.5-flash"
GEMINI_API: Final = f"models/{VERTEX}"
