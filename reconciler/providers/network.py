"""What the environment says about the network: proxies, certificates, and who is never reached through a proxy."""

from __future__ import annotations

import ipaddress
import ssl
from typing import TypedDict
from urllib.request import getproxies

import httpx

from reconciler.core.problems import UsageError
from reconciler.providers.errors import clean
from reconciler.providers.remedies import Service

_CERTIFICATES = "correct or unset SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE"
_PROXIES = (
    "name an http:// or https:// proxy in HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, and hosts in NO_PROXY, or unset them"
)
_MAX_PORT = 65_535


def is_loopback(host: str) -> bool:
    """Whether this machine itself is meant: ``localhost`` or a loopback address. A proxy would mean another one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(address: str) -> httpx.URL:
    """An address as a URL; raises httpx.InvalidURL, also for a port that does not exist, which httpx lets pass."""
    url = httpx.URL(address)
    if url.port is not None and url.port > _MAX_PORT:
        raise httpx.InvalidURL(f"Invalid port: {url.port}")
    return url


def parse_endpoint(address: str, service: Service) -> httpx.URL:
    """The address of a service as a URL; raises UsageError when it is none."""
    try:
        return parse_address(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"the endpoint is no URL: {clean(str(error))}", f"correct {service.address}") from error


class Options(TypedDict):
    """What an httpx client, synchronous or not, is told of its surroundings."""

    trust_env: bool
    verify: ssl.SSLContext | bool


def client_options(*, direct: bool, carried: bool) -> Options:
    """The options of a client that obeys the proxy settings and certificates of the environment.

    Args:
        direct: Never use a proxy.
        carried: Something else than the network carries the requests; the environment does not matter.

    Raises:
        UsageError: The environment's settings cannot be used.
    """
    if carried:
        return {"trust_env": False, "verify": True}
    context = _certificates()
    if not direct:
        _check_proxies(context)
    return {"trust_env": not direct, "verify": context}


def _certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        cause = clean(error.strerror or type(error).__name__)
        raise UsageError(f"the certificates that SSL_CERT_FILE names cannot be used: {cause}", _CERTIFICATES) from error


def _check_proxies(context: ssl.SSLContext) -> None:
    """Raise UsageError for settings that httpx would stumble over. They are not quoted: they may hold a password."""
    try:
        for scheme, address in getproxies().items():
            if scheme in {"http", "https", "all"}:
                parse_address(address if "://" in address else f"http://{address}")
        httpx.Client(verify=context).close()
    except ImportError:
        cause = "a SOCKS proxy needs the Python package socksio"
    except (httpx.InvalidURL, ValueError):
        cause = "they hold what is no address of a proxy or host"
    else:
        return
    raise UsageError(f"the proxy settings in the environment cannot be used: {cause}", _PROXIES)
