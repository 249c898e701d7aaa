"""Whether a service can be reached at all: its name, the way there, TLS, HTTP. No credentials are sent."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypedDict
from urllib.request import getproxies, proxy_bypass

import httpx

from reconciler.domain.errors import ServiceError, UsageError
from reconciler.providers.google.errors import Service, cause_of, clean

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


class Closing(ABC):
    """An async context manager that closes itself."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @abstractmethod
    async def aclose(self) -> None:
        """Give back the connections."""


_TIMEOUT = 10.0
_OUTSIDE = "where only a proxy leads outside, name it in HTTPS_PROXY"
_CAUSES: tuple[tuple[type[BaseException], str, str], ...] = (
    (httpx.ProxyError, "the proxy refuses", "check HTTPS_PROXY and NO_PROXY"),
    (
        ssl.SSLCertVerificationError,
        "its certificate cannot be verified",
        "where something on the way opens TLS connections, name its certificate in SSL_CERT_FILE",
    ),
    (ssl.SSLError, "it does not speak TLS", "check {address} of the target"),
    (socket.gaierror, "its name is not known", f"check {{address}} of the target and the name service; {_OUTSIDE}"),
    (ConnectionRefusedError, "nothing listens there", "check {address} of the target, and the proxy settings"),
    (httpx.TimeoutException, "no answer came in time", f"see whether a firewall is in the way; {_OUTSIDE}"),
)
"""What may be at the bottom of a failure, what to say of it, and what to do."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What answered: with which HTTP status, and through which proxy, as ``host:port`` (empty for none)."""

    status: int
    proxy: str = ""


def reach(address: str, service: Service, transport: httpx.BaseTransport | None = None) -> Reached:
    """Ask for the root of a service once; any answer in HTTP will do.

    Args:
        address: The service's address.
        service: What remedies say of the service.
        transport: What carries the request instead of the network.

    Raises:
        ServiceError: There is no way there.
        UsageError: The address is none, or the proxy settings or certificates of the environment cannot be used.
    """
    url = parse_endpoint(address, service)
    direct = is_loopback(url.host)
    options = client_options(direct=direct, carried=transport is not None)
    proxy = _proxy(url) if options["trust_env"] else ""
    try:
        with (
            httpx.Client(transport=transport, timeout=_TIMEOUT, **options) as client,
            client.stream("GET", url) as response,
        ):
            return Reached(response.status_code, proxy)
    except httpx.HTTPError as error:
        raise _unreachable(url, proxy, error, service) from error


def _proxy(url: httpx.URL) -> str:
    """The proxy on the way, as the environment names it, without its password."""
    if proxy_bypass(url.host):
        return ""
    proxies = getproxies()
    named = proxies.get(url.scheme) or proxies.get("all") or ""
    return parse_address(named if "://" in named else f"http://{named}").netloc.decode() if named else ""


def _unreachable(url: httpx.URL, proxy: str, error: httpx.HTTPError, service: Service) -> ServiceError:
    way = f" through the proxy {clean(proxy)}" if proxy else ""
    what, remedy = _explained(error)
    message = f"{clean(url.netloc.decode())} cannot be reached{way}: {what}"
    return ServiceError(message, remedy.format(address=service.address), code="UNREACHABLE")


def _explained(error: httpx.HTTPError) -> tuple[str, str]:
    causes = tuple(_chain(error))
    for kind, what, remedy in _CAUSES:
        if any(isinstance(cause, kind) for cause in causes):
            return f"{what} ({cause_of(error)})", remedy
    return cause_of(error), "check {address} of the target, the network and the proxy settings"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
