"""Endpoints of services: host names, addresses and regions."""

from __future__ import annotations

import ipaddress
import re

TUNING_REGIONS = frozenset(
    {
        *("asia-east1", "asia-east2", "asia-northeast1", "asia-northeast3", "asia-south1", "asia-southeast1"),
        *("australia-southeast1", "europe-central2", "europe-north1", "europe-southwest1", "europe-west1"),
        *("europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8", "europe-west9"),
        *("me-central1", "me-central2", "me-west1", "northamerica-northeast1", "southamerica-east1"),
        *("us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west4"),
    }
)
"""The regions that Google documents for supervised tuning; there may be newer ones, and none has every model
(https://cloud.google.com/vertex-ai/generative-ai/docs/models/gemini-supervised-tuning-region-settings)."""


_NAME = re.compile(r"[a-z0-9.-]+")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, ``localhost`` or a loopback address; such a host needs no proxy."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_host(netloc: str) -> bool:
    """Return whether the part of a URL between ``//`` and the path is a plain host, with or without a port.

    A host has lower-case letters, digits, dots and hyphens, or is an IPv6 address in brackets. Other characters, such
    as ``@``, ``%`` and backslashes, are read differently by different programs.
    """
    host, bracket, rest = netloc.rpartition("]")
    if bracket:
        return _is_ipv6(host) and re.fullmatch(r"(:[0-9]{1,5})?", rest) is not None
    name, _, port = netloc.partition(":")
    return _NAME.fullmatch(name) is not None and (port.isdecimal() or ":" not in netloc) and port.isascii()


def _is_ipv6(text: str) -> bool:
    try:
        return text.startswith("[") and "%" not in text and bool(ipaddress.IPv6Address(text[1:]))
    except ValueError:
        return False
