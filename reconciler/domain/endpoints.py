"""Endpoints of services: host names and addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

HUB: Final = "https://huggingface.co"
HUB_VARIABLE: Final = "HF_ENDPOINT"
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


def hub_of(environ: Mapping[str, str]) -> str:
    """Return the address of the Hugging Face Hub of an environment."""
    return environ.get(HUB_VARIABLE, "").rstrip("/") or HUB


def is_allowed_hub(address: str, allowed: Collection[str]) -> bool:
    """Return whether an address is the hub itself, on this machine, or on a host that the user has allowed."""
    host = urlsplit(address).hostname or ""
    return address == HUB or is_loopback(host) or host in allowed
