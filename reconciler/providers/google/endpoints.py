"""Hosts and endpoints: the addresses of Google's shared services, and which hosts may receive a token."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from fnmatch import fnmatchcase

import httpx

from reconciler.domain.errors import UsageError
from reconciler.domain.text import sanitize
from reconciler.providers.google.errors import ServiceDescription

STORAGE = "https://storage.googleapis.com"
GOOGLE_HOSTS = ("*.googleapis.com",)
"""The hosts of Google's APIs, which may receive a token over TLS."""
TOKEN_INFO = "https://oauth2.googleapis.com/tokeninfo"  # noqa: S105 - an address, not a token
METADATA_HOST = "metadata.google.internal"
_MAX_PORT = 65_535


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, ``localhost`` or a loopback address; such a host needs no proxy."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_receive_token(url: httpx.URL, allowed: Collection[str], hosts: Collection[str] = GOOGLE_HOSTS) -> bool:
    """Return whether a URL may receive a token: one of the hosts over TLS, loopback, or an allowed ``host[:port]``."""
    known = url.scheme == "https" and any(fnmatchcase(url.host, host) for host in hosts)
    return known or is_loopback(url.host) or url.host in allowed or f"{url.host}:{url.port}" in allowed


def parse_address(address: str) -> httpx.URL:
    """Return an address as a URL; raises httpx.InvalidURL, also for a port out of range, which httpx accepts."""
    url = httpx.URL(address)
    if url.port is not None and url.port > _MAX_PORT:
        raise httpx.InvalidURL(f"Invalid port: {url.port}")
    return url


def parse_endpoint(address: str, service: ServiceDescription) -> httpx.URL:
    """Return the endpoint of a service as a URL; raises UsageError for an invalid one."""
    try:
        return parse_address(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"invalid endpoint: {sanitize(str(error))}", f"fix {service.fields} of the target") from error
