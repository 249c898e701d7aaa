"""The mark as labels of a Vertex AI tuning job, whose id the service chooses.

A label value has at most 63 lowercase letters, digits, hyphens and underscores
(https://cloud.google.com/resource-manager/docs/labels-overview#requirements). Scopes and digests have others, so they
are written in lowercase base32 without padding.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from reconciler.domain.identity import NAME_PATTERN, key_of
from reconciler.domain.model import Mark

MANAGED_BY = "managed-by"
OWNER = "reconcile"
KEY = "reconcile-key"
SCOPE = "reconcile-scope"
_MORE_SCOPE = "reconcile-scope-2"
_NAME = "reconcile-name"
_SPEC = "reconcile-spec"
_DATA = "reconcile-data"
_ATTEMPT = "reconcile-attempt"

_SCOPE_CHARACTERS = 60
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SHA256_BYTES = 32


def write_labels(mark: Mark) -> dict[str, str]:
    """Return the labels for the job of the generation with this mark."""
    scope = _base32(mark.scope.encode())
    first, more = scope[:_SCOPE_CHARACTERS], scope[_SCOPE_CHARACTERS:]
    return {
        MANAGED_BY: OWNER,
        KEY: key_of(mark),
        SCOPE: first,
        **({_MORE_SCOPE: more} if more else {}),
        _NAME: mark.name,
        _SPEC: _base32(_digest_bytes(mark.spec)),
        _DATA: _base32(_digest_bytes(mark.data)),
        _ATTEMPT: str(mark.attempt),
    }


def scope_label(scope: str) -> str:
    """Return the value of :data:`SCOPE` for a scope; long scopes may share one."""
    return _base32(scope.encode())[:_SCOPE_CHARACTERS]


def read_labels(labels: Any) -> Mark | None:
    """Return the mark in labels, or ``None`` where it is missing or not exactly as :func:`write_labels` writes it."""
    try:
        mark = _decode(labels)
        expected = write_labels(mark)
        return mark if {name: labels.get(name) for name in expected} == expected else None
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def _decode(labels: Any) -> Mark:
    name, attempt = labels[_NAME], labels[_ATTEMPT]
    if not re.fullmatch(NAME_PATTERN, name) or not re.fullmatch(r"[0-9]{1,9}", attempt):
        raise ValueError("invalid name or attempt")
    return Mark(
        scope=_bytes(labels[SCOPE] + labels.get(_MORE_SCOPE, "")).decode(),
        name=name,
        spec=_digest(labels[_SPEC]),
        data=_digest(labels[_DATA]),
        attempt=int(attempt),
    )


def _digest_bytes(digest: str) -> bytes:
    match = _DIGEST.fullmatch(digest)
    if not match:
        raise ValueError("invalid sha256 digest")
    return bytes.fromhex(match[1])


def _digest(label: str) -> str:
    digest = _bytes(label)
    if len(digest) != _SHA256_BYTES:
        raise ValueError("invalid sha256 digest")
    return f"sha256:{digest.hex()}"


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _bytes(label: str) -> bytes:
    return base64.b32decode(label.upper() + "=" * (-len(label) % 8))
