"""Endpoints, proxies and certificates, and a check whether a service can be reached."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from shlex import quote
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
_OTHER_PROGRAMS = (
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
)
"""Variables with certificates for other programs, such as Python's requests."""


class NetworkOptions(TypedDict):
    """Keyword arguments of an httpx client, synchronous or not."""

    trust_env: bool
    verify: ssl.SSLContext | bool
    proxy: httpx.Proxy | None


def client_options(url: httpx.URL, *, direct: bool, in_process: bool) -> NetworkOptions:
    """Return the options of a client of ``url`` that follows the environment's proxy settings and certificates.

    The proxy is chosen here, because httpx does not support networks in NO_PROXY.

    Args:
        url: The address of the requests. A direct client of ``http://`` loads no certificates and trusts none.
        direct: Whether to use no proxy.
        in_process: Whether a transport carries the requests without the network; then the environment is ignored.

    Raises:
        UsageError: The environment's settings are invalid.
    """
    if in_process:
        return {"trust_env": False, "verify": True, "proxy": None}
    if direct and url.scheme == "http":
        return {"trust_env": False, "verify": _no_certificates(), "proxy": None}
    context = _load_certificates(tuple(map(os.environ.get, _CERTIFICATE_VARIABLES)))
    return {"trust_env": False, "verify": context, "proxy": None if direct else _find_proxy(url, context)}


@cache
def _no_certificates() -> ssl.SSLContext:
    """Return the context of clients that use no TLS."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache  # loading the certificates takes about 60 ms of CPU
def _load_certificates(_environment: tuple[str | None, ...]) -> ssl.SSLContext:
    """Return the context of the environment's certificates, which httpx reads itself."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # includes ssl.SSLError
        cause = sanitize(error.strerror or type(error).__name__)
        raise UsageError(f"cannot use the certificates in SSL_CERT_FILE: {cause}", _CERTIFICATES) from error


def _find_proxy(url: httpx.URL, context: ssl.SSLContext) -> httpx.Proxy | None:
    """Return the environment's proxy for a URL; raises UsageError for invalid settings, also of another scheme."""
    configured = getproxies()
    proxies = {scheme: _parse_proxy(scheme, configured[scheme], context) for scheme in _SCHEMES & configured.keys()}
    hosts = configured.get("no")
    bypassed = proxy_bypass(url.host) if hosts is None else is_bypassed(url, hosts)
    return None if bypassed else proxies.get(url.scheme) or proxies.get("all")


_SCHEMES = frozenset({"http", "https", "all"})


def _parse_proxy(scheme: str, address: str, context: ssl.SSLContext) -> httpx.Proxy:
    """Return a proxy; raises UsageError, which does not quote the address, because it may contain a password."""
    try:
        proxy = httpx.Proxy(parse_address(address if "://" in address else f"http://{address}"))
        httpx.HTTPTransport(verify=context, proxy=proxy).close()
    except ImportError:
        cause = "a SOCKS proxy needs the Python package socksio"
    except (httpx.InvalidURL, ValueError):
        cause = "expected the address of a proxy"
    else:
        return proxy
    names = (f"{scheme.upper()}_PROXY", f"{scheme}_proxy")
    name = next((name for name in names if name in os.environ), "the system's proxy settings")
    raise UsageError(f"cannot use {name}: {cause}", f"set {name} to an http:// or https:// proxy, or unset it")


def is_bypassed(url: httpx.URL, hosts: str) -> bool:
    """Return whether the value of NO_PROXY contains the host of a URL.

    It lists domains, addresses and networks, each with an optional port, in the notations of curl, Go and Python; other
    entries match nothing.
    """
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    listed = (text.rpartition("://")[2] for text in re.split(r"[\s,]+", hosts.lower()) if text)
    return any(_is_within(url.host, port, pattern) for pattern in listed)


_LISTED_HOST = re.compile(
    r"\[(?P<address>[^]]*)\](?::(?P<port>\d+))?|(?P<name>[^:]*)(?::(?P<its_port>\d+))?|(?P<network>.*)"
)


def _is_within(host: str, port: int | None, pattern: str) -> bool:
    match = _LISTED_HOST.fullmatch(pattern)
    if pattern == "*" or match is None:
        return pattern == "*"
    required = match["port"] or match["its_port"]
    if required and int(required) != port:
        return False
    name = match["address"] or match["name"] or match["network"] or ""
    try:
        address = ip_address(host)
    except ValueError:
        domain = name.lstrip("*").lstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False


_TIMEOUT = 10.0
_NEEDS_PROXY = "set HTTPS_PROXY if this network requires a proxy"


class ConnectionFailure(Struct, frozen=True):
    """Why a service cannot be reached, and what to do; ``permanent`` where a repeated request would fail as well."""

    cause: str
    remedy: str
    permanent: bool = False


class _Cause(Struct, frozen=True):
    """An exception at the root of a failure; braces in the remedy is where the address is set."""

    kind: type[BaseException]
    description: str
    remedy: str
    permanent: bool = False
    pattern: str = ""


_CAUSES = (
    _Cause(
        httpx.ProxyError,
        "the proxy requires a password",
        "set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT",
        permanent=True,
        pattern="^407",
    ),
    _Cause(
        httpx.ProxyError,
        "the proxy does not allow the connection",
        "ask the administrator of the proxy to allow the host, or add it to NO_PROXY if it can be reached directly",
        permanent=True,
        pattern="^403",
    ),
    _Cause(httpx.ProxyError, "the proxy refused the connection", "check HTTPS_PROXY and NO_PROXY"),
    _Cause(
        ssl.SSLCertVerificationError,
        "its certificate is not valid at the time of this machine",
        "set the clock of this machine, or renew the certificate of the server",
        permanent=True,
        pattern="has expired|not yet valid",
    ),
    _Cause(
        ssl.SSLCertVerificationError,
        "its certificate is for another host",
        "check {place}, and the proxy settings",
        permanent=True,
        pattern="ostname mismatch|IP address mismatch",
    ),
    _Cause(ssl.SSLCertVerificationError, "its certificate cannot be verified", "{certificates}", permanent=True),
    _Cause(ssl.SSLError, "it does not support TLS", "check {place}"),
    _Cause(socket.gaierror, "its name cannot be resolved", f"check {{place}} and DNS; {_NEEDS_PROXY}"),
    _Cause(ConnectionRefusedError, "connection refused", "check {place}, and the proxy settings"),
    _Cause(httpx.ConnectTimeout, "timed out", f"check for a firewall; {_NEEDS_PROXY}"),
)
"""Causes of failures; the first match counts."""


def explain_failure(error: httpx.HTTPError, place: str) -> ConnectionFailure:
    """Return the cause and the remedy of a request without a response.

    Args:
        error: The failure.
        place: Where the address is set, such as ``spec.endpoint of the target``.
    """
    chain = tuple(_exception_chain(error))
    for cause in _CAUSES:
        if any(isinstance(root, cause.kind) and re.search(cause.pattern, str(root)) for root in chain):
            remedy = cause.remedy.format(place=place, certificates=_trust_remedy())
            return ConnectionFailure(f"{cause.description} ({failure_cause(error)})", remedy, cause.permanent)
    permanent = isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
    return ConnectionFailure(failure_cause(error), f"check {place}, the network and the proxy settings", permanent)


def _trust_remedy() -> str:
    """Return how to trust another certificate authority, by the variables that are set."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if os.environ.get(name):
            return f"add the certificate authority of the server, or of a proxy that inspects TLS, to {name}"
    for name in _OTHER_PROGRAMS:
        if path := os.environ.get(name):
            variable = "SSL_CERT_DIR" if Path(path).is_dir() else "SSL_CERT_FILE"
            command = f"export {variable}={quote(sanitize(path))}"
            return f"set {variable} as well: `{command}`; only other programs use {name}"
    return "if a proxy or firewall inspects TLS connections, set SSL_CERT_FILE to its certificate"


def _exception_chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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
    proxy = _describe_proxy(options["proxy"])
    try:
        with (
            httpx.Client(transport=transport, timeout=_TIMEOUT, **options) as client,
            client.stream("GET", url) as response,
        ):
            return ConnectionResult(response.status_code, proxy)
    except httpx.HTTPError as error:
        failure = explain_failure(error, f"{service.fields} of the target")
        via = f" through the proxy {sanitize(proxy)}" if proxy else ""
        message = f"cannot reach {sanitize(url.netloc.decode())}{via}: {failure.cause}"
        raise ServiceError(message, failure.remedy, code="UNREACHABLE") from error


def _describe_proxy(proxy: httpx.Proxy | None) -> str:
    """Return a proxy's host and port, empty for none; without a port, the value may be anything, such as a token."""
    if proxy is None:
        return ""
    return proxy.url.netloc.decode() if proxy.url.port else "of the environment"
