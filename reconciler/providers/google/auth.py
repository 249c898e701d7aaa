"""Access tokens: where they come from, and which hosts may be sent one. Nothing here shows a secret."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

import httpx

from reconciler.domain.errors import AccessError
from reconciler.providers.google.errors import LOG_IN, clean
from reconciler.providers.google.network import is_loopback


class TokenSource(Protocol):
    """Where access tokens come from."""

    @property
    def quota_project(self) -> str | None:
        """The project that quota and billing are counted on; known once a token is."""
        ...

    async def token(self) -> str:
        """A token that is valid now."""
        ...

    async def renew(self, rejected: str) -> str | None:
        """Another token than the one that a service rejected, or ``None`` when there is no way to get one."""
        ...


class AccessToken:
    """A token that was handed over as it is, such as the one in ``RECONCILE_ACCESS_TOKEN``; it cannot be renewed."""

    def __init__(self, token: str, project: str | None) -> None:
        self._token = token.strip()
        self._project = project
        if not _is_token(self._token):
            raise AccessError("RECONCILE_ACCESS_TOKEN holds characters that no access token has", LOG_IN)

    @property
    def quota_project(self) -> str | None:
        """The project that was handed in."""
        return self._project

    async def token(self) -> str:
        """The token."""
        return self._token

    async def renew(self, rejected: str) -> str | None:  # noqa: ARG002 - the port names it; there is no other token
        """Nothing: there is no other token."""
        return None


class BearerAuth(httpx.Auth):
    """Puts a token on every request, and once more a renewed one after a 401; to hosts that may see it alone.

    Tokens go to ``*.googleapis.com`` over TLS and to loopback addresses. ``allow_endpoints`` holds further hosts, as
    ``host`` or ``host:port``; they are the user's own word, since a target file may come from a pull request.
    """

    def __init__(self, source: TokenSource, allow_endpoints: frozenset[str] = frozenset()) -> None:
        self._source = source
        self._allowed = frozenset(endpoint.lower() for endpoint in allow_endpoints)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See :class:`httpx.Auth`; raises AccessError before anything is sent."""
        self._guard(request.url)
        token = await self._source.token()
        self._authorise(request, token)
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        renewed = await self._source.renew(token)
        if renewed:
            self._authorise(request, renewed)
            yield request

    def _authorise(self, request: httpx.Request, token: str) -> None:
        if not _is_token(token):  # the transport would quote it in its complaint
            raise AccessError("the access token that was issued holds characters that no access token has", LOG_IN)
        request.headers["authorization"] = f"Bearer {token}"
        if project := self._source.quota_project:
            request.headers["x-goog-user-project"] = project

    def _guard(self, url: httpx.URL) -> None:
        host = url.host
        if is_google(url) or is_loopback(host) or not self._allowed.isdisjoint({host, f"{host}:{url.port}"}):
            return
        raise AccessError(
            f"no token is sent to {url.scheme}://{clean(host)}: it is neither *.googleapis.com over TLS nor loopback",
            f"if that host may have your token, allow it with --allow-endpoint {clean(host)}",
        )


def is_google(url: httpx.URL) -> bool:
    """Whether a token sent there goes to Google and to nobody else."""
    return url.scheme == "https" and url.host.endswith(".googleapis.com")


def _is_token(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def google_auth(
    *,
    access_token: str | None,
    environ: Mapping[str, str],
    project: str | None,
    allow_endpoints: frozenset[str] = frozenset(),
    transport: httpx.BaseTransport | None = None,
) -> BearerAuth:
    """Authorisation by the access token, or, without one, by Application Default Credentials.

    Args:
        access_token: The value of ``RECONCILE_ACCESS_TOKEN``, if it is set.
        environ: The process environment; it says where the Application Default Credentials are.
        project: The quota project.
        allow_endpoints: Further hosts that may be sent a token.
        transport: What carries requests for tokens instead of the network.
    """
    if access_token:
        return BearerAuth(AccessToken(access_token, project), allow_endpoints)
    from reconciler.providers.google.credentials import ApplicationDefault  # google-auth loads slowly

    return BearerAuth(ApplicationDefault(environ, project, transport), allow_endpoints)
