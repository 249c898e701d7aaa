"""Whether a service can be reached at all: its name, the way there, TLS, HTTP. No credentials are sent."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import httpx

from reconciler.core.problems import ServiceError
from reconciler.providers.errors import cause_of, clean
from reconciler.providers.network import client_options, is_loopback, parse_address, parse_endpoint
from reconciler.providers.remedies import Service

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
