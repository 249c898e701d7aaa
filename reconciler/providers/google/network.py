"""Endpoints, proxies and certificates, and a check whether a service can be reached."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from functools import cache
from typing import TypedDict
from urllib.request import getproxies, proxy_bypass

import httpx
from msgspec import Struct

from reconciler.domain.endpoints import is_host, is_loopback
from reconciler.domain.errors import ServiceError, UsageError
from reconciler.domain.text import sanitize
from reconciler.providers.google.errors import ServiceDescription, failure_cause

STORAGE = "https://storage.googleapis.com"
TOKEN_INFO = "https://oauth2.googleapis.com/tokeninfo"  # noqa: S105 - an address, not a token
METADATA_HOST = "metadata.google.internal"
_MAX_PORT = 65_535


def parse_address(address: str) -> httpx.URL:
    """Return an address as a URL; raises httpx.InvalidURL, also for a port out of range, which httpx accepts."""
    url = httpx.URL(address)
    if url.port is not None and url.port > _MAX_PORT:
        raise httpx.InvalidURL(f"Invalid port: {url.port}")
    return url


def parse_endpoint(address: str, service: ServiceDescription) -> httpx.URL:
    """Return the endpoint of a service as a URL; raises UsageError for an invalid one."""
    try:
        url = parse_address(address)
    except httpx.InvalidURL as error:
        raise UsageError(f"invalid endpoint: {sanitize(str(error))}", f"fix {service.fields} of the target") from error
    if not is_host(address.partition("://")[2].partition("/")[0]):
        message = "invalid endpoint: expected a host name in lower case, or an IPv6 address in brackets"
        raise UsageError(message, f"fix {service.fields} of the target")
    return url


_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_CERTIFICATES = "fix or unset SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE"
_PROXIES = (
    "set HTTP_PROXY, HTTPS_PROXY and ALL_PROXY to an http:// or https:// proxy and NO_PROXY to hosts, or unset them"
)


class NetworkOptions(TypedDict):
    """Keyword arguments of an httpx client, synchronous or not."""

    trust_env: bool
    verify: ssl.SSLContext | bool


def client_options(url: httpx.URL, *, direct: bool, in_process: bool) -> NetworkOptions:
    """Return the options of a client of ``url`` that follows the environment's proxy settings and certificates.

    Args:
        url: The address of the requests. A direct client of ``http://`` loads no certificates and trusts none.
        direct: Whether to use no proxy.
        in_process: Whether a transport carries the requests without the network; then the environment is ignored.

    Raises:
        UsageError: The environment's settings are invalid.
    """
    if in_process:
        return {"trust_env": False, "verify": True}
    if direct and url.scheme == "http":
        return {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    context = _load_certificates(tuple(map(os.environ.get, _CERTIFICATE_VARIABLES)))
    if not direct:
        _check_proxies(context)
    return {"trust_env": not direct, "verify": context}


@cache  # loading the certificates takes about 60 ms of CPU
def _load_certificates(_environment: tuple[str | None, ...]) -> ssl.SSLContext:
    """Return the context of the environment's certificates, which httpx reads itself."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # includes ssl.SSLError
        cause = sanitize(error.strerror or type(error).__name__)
        raise UsageError(f"cannot use the certificates in SSL_CERT_FILE: {cause}", _CERTIFICATES) from error


def _check_proxies(context: ssl.SSLContext) -> None:
    """Raise UsageError for settings that httpx rejects; they are not quoted, because they may contain a password."""
    try:
        for scheme, address in getproxies().items():
            if scheme in {"http", "https", "all"}:
                parse_address(address if "://" in address else f"http://{address}")
        httpx.Client(verify=context).close()
    except ImportError:
        cause = "a SOCKS proxy needs the Python package socksio"
    except (httpx.InvalidURL, ValueError):
        cause = "expected the address of a proxy or a host"
    else:
        return
    raise UsageError(f"cannot use the proxy settings of the environment: {cause}", _PROXIES)


_TIMEOUT = 10.0
_NEEDS_PROXY = "set HTTPS_PROXY if this network requires a proxy"
_CAUSES: tuple[tuple[type[BaseException], str, str], ...] = (
    (httpx.ProxyError, "the proxy refused the connection", "check HTTPS_PROXY and NO_PROXY"),
    (
        ssl.SSLCertVerificationError,
        "its certificate cannot be verified",
        "if a proxy or firewall inspects TLS connections, set SSL_CERT_FILE to its certificate",
    ),
    (ssl.SSLError, "it does not support TLS", "check {fields} of the target"),
    (socket.gaierror, "its name cannot be resolved", f"check {{fields}} of the target and DNS; {_NEEDS_PROXY}"),
    (ConnectionRefusedError, "connection refused", "check {fields} of the target, and the proxy settings"),
    (httpx.TimeoutException, "timed out", f"check for a firewall; {_NEEDS_PROXY}"),
)
"""Exceptions at the root of a failure, their descriptions and remedies; the first match counts."""


class ConnectionResult(Struct, frozen=True):
    """The HTTP status of a response, and the ``host:port`` of the proxy that was used, empty for none."""

    status: int
    proxy: str = ""


def check_connection(
    address: str, service: ServiceDescription, transport: httpx.BaseTransport | None = None
) -> ConnectionResult:
    """Request the root of a service once; any HTTP response counts as a connection.

    Args:
        address: The service's endpoint.
        service: The service that remedies are about.
        transport: A transport that carries the request without the network.

    Raises:
        ServiceError: The service cannot be reached.
        UsageError: The address, or the environment's proxy settings or certificates, are invalid.
    """
    url = parse_endpoint(address, service)
    options = client_options(url, direct=is_loopback(url.host), in_process=transport is not None)
    proxy = _find_proxy(url) if options["trust_env"] else ""
    try:
        with (
            httpx.Client(transport=transport, timeout=_TIMEOUT, **options) as client,
            client.stream("GET", url) as response,
        ):
            return ConnectionResult(response.status_code, proxy)
    except httpx.HTTPError as error:
        cause, remedy = _explain(error)
        via = f" through the proxy {sanitize(proxy)}" if proxy else ""
        message = f"cannot reach {sanitize(url.netloc.decode())}{via}: {cause}"
        raise ServiceError(message, remedy.format(fields=service.fields), code="UNREACHABLE") from error


_UNNAMED_PROXY = "of the environment"


def _find_proxy(url: httpx.URL) -> str:
    """Return the environment's proxy for a URL, without its password; empty where none is used.

    A value without a port is not quoted: it may be anything, such as a token.
    """
    if proxy_bypass(url.host):
        return ""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    if not proxy:
        return ""
    address = parse_address(proxy if "://" in proxy else f"http://{proxy}")
    return address.netloc.decode() if address.port else _UNNAMED_PROXY


def _explain(error: httpx.HTTPError) -> tuple[str, str]:
    """Return the cause and the remedy of a failure; braces in the remedy are the service's fields."""
    chain = tuple(_exception_chain(error))
    for kind, description, remedy in _CAUSES:
        if any(isinstance(cause, kind) for cause in chain):
            return f"{description} ({failure_cause(error)})", remedy
    return failure_cause(error), "check {fields} of the target, the network and the proxy settings"


def _exception_chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
