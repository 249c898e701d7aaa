"""How long a service asks its clients to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from reconciler.providers.errors import Refusal

if TYPE_CHECKING:
    import httpx


def asked_delay(response: httpx.Response, refusal: Refusal, now: datetime) -> float | None:
    """The pause in seconds that the service asked for: the longer one of RetryInfo and Retry-After."""
    asked = (_retry_info(refusal), _retry_after(response.headers.get("retry-after", ""), now))
    return max((delay for delay in asked if delay is not None), default=None)


def _retry_info(refusal: Refusal) -> float | None:
    value = refusal.detail("RetryInfo").get("retryDelay")
    return _seconds(value.removesuffix("s")) if isinstance(value, str) else None


def _retry_after(value: str, now: datetime) -> float | None:
    """Retry-After in seconds or as an HTTP date (RFC 9110, 10.2.3); what cannot be read is as if it were absent."""
    if (seconds := _seconds(value)) is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except (OverflowError, ValueError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(aware - now, timedelta()).total_seconds()


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
