"""Access tokens: their sources, the hosts that may receive them, and the authorization of requests.

Secrets appear in no message or ``repr``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Protocol

import httpx

from reconciler.domain.endpoints import is_loopback
from reconciler.domain.errors import AccessError
from reconciler.domain.model import Target
from reconciler.domain.ports import Clock
from reconciler.domain.text import sanitize
from reconciler.environment import Environment, utc_now
from reconciler.redaction import remember

TOKEN_VARIABLE = "RECONCILE_ACCESS_TOKEN"  # noqa: S105 - the name of the variable, not a token
GOOGLE_HOSTS = ("*.googleapis.com",)
"""The hosts of Google's APIs, which may receive a token over TLS."""


def may_receive_token(url: httpx.URL, allowed: Collection[str], hosts: Collection[str] = GOOGLE_HOSTS) -> bool:
    """Return whether a URL may receive a token: one of the hosts over TLS, loopback, or an allowed ``host[:port]``."""
    known = url.scheme == "https" and any(fnmatchcase(url.host, host) for host in hosts)
    return known or is_loopback(url.host) or url.host in allowed or f"{url.host}:{url.port}" in allowed


class TokenSource(Protocol):
    """A source of access tokens."""

    @property
    def quota_project(self) -> str | None:
        """The project for quota and billing; known after the first token."""
        ...

    @property
    def renewal(self) -> str:
        """What to do where a service rejects the token."""
        ...

    async def token(self) -> str:
        """Return a token that is valid now."""
        ...

    async def renew(self, rejected: str) -> str | None:
        """Return another token than the one that a service rejected, or ``None`` where there is no other."""
        ...


_NEW_TOKEN = (
    f"set {TOKEN_VARIABLE} to a new access token, as `gcloud auth application-default print-access-token` prints it, or"
    " unset it to use Application Default Credentials"
)


def _token_problem(text: str) -> str:
    """Return why a text is not a token, without quoting it."""
    if text.startswith(("{", "[")):
        return "it contains JSON; the path of a credentials file belongs in GOOGLE_APPLICATION_CREDENTIALS"
    if text[:1] in "\"'" and text:
        return "it contains quotes"
    if text.lower().startswith("bearer "):
        return 'it begins with "Bearer"; the token is what follows'
    return "it contains characters that no token has, such as quotes or spaces" if text else "it is blank"


class AccessToken:
    """A fixed token, such as the value of ``RECONCILE_ACCESS_TOKEN``; it cannot be renewed."""

    def __init__(self, token: str, project: str | None) -> None:
        self._token = token.strip()
        self.quota_project = project
        if not _is_token(self._token):
            raise AccessError(f"invalid {TOKEN_VARIABLE}: {_token_problem(self._token)}", _NEW_TOKEN)

    @property
    def renewal(self) -> str:
        """What to do where a service rejects the token."""
        kind = "the rejected token, which is valid for about an hour"
        if self._token.startswith("eyJ"):
            kind = "a JSON Web Token, and services require an access token"
        if self._token.startswith("AIza"):
            kind = "an API key, which cannot tune"
        return f"{TOKEN_VARIABLE} holds {kind}: {_NEW_TOKEN}"

    async def token(self) -> str:
        """Return the token."""
        return self._token

    async def renew(self, rejected: str) -> str | None:  # noqa: ARG002 - a parameter of the protocol
        """Return ``None``: there is no other token."""
        return None


class BearerAuth(httpx.Auth):
    """Add a token to every request, and a renewed one after a 401, but only to hosts that may receive tokens.

    These are ``hosts`` over TLS and loopback addresses. ``allow_endpoints`` are further hosts, as ``host``
    or ``host:port``; they come from the command line, because a target file may come from a pull request.
    """

    def __init__(
        self,
        source: TokenSource,
        allow_endpoints: frozenset[str] = frozenset(),
        hosts: tuple[str, ...] = GOOGLE_HOSTS,
    ) -> None:
        self._source = source
        self._hosts = hosts
        self._allowed = frozenset(endpoint.lower() for endpoint in allow_endpoints)

    @property
    def renewal(self) -> str:
        """What to do where a service rejects the token."""
        return self._source.renewal

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authorize a request, see :class:`httpx.Auth`; raises AccessError before anything is sent."""
        url, host = request.url, sanitize(request.url.host)
        if not may_receive_token(url, self._allowed, self._hosts):
            known = " nor ".join(self._hosts)
            raise AccessError(
                f"no token is sent to {url.scheme}://{host}: it is neither {known} over TLS nor loopback",
                f"pass --allow-endpoint {host} if you trust this host with your token",
            )
        token = await self._source.token()
        self._authorize(request, token)
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        renewed = await self._source.renew(token)
        if renewed:
            self._authorize(request, renewed)
            yield request

    def _authorize(self, request: httpx.Request, token: str) -> None:
        if not _is_token(token):  # the transport would quote it in its error
            raise AccessError("invalid access token: it contains characters that no token has", self.renewal)
        remember(token)
        request.headers["authorization"] = f"Bearer {token}"
        if project := self._source.quota_project:
            request.headers["x-goog-user-project"] = project


def _is_token(text: str) -> bool:
    """Return whether a text has only the characters of a bearer token (RFC 6750, 2.1)."""
    return re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text) is not None


def authorize(
    env: Environment, target: Target, allow_endpoints: frozenset[str], hosts: tuple[str, ...] = GOOGLE_HOSTS
) -> BearerAuth:
    """Return the authorization of a run: the token of its environment, or Application Default Credentials.

    ``hosts`` and ``allow_endpoints`` may receive a token.
    """
    return google_auth(
        access_token=env.environ.get(TOKEN_VARIABLE),
        environ=env.environ,
        project=target.project,
        allow_endpoints=allow_endpoints,
        hosts=hosts,
        clock=env.clock,
    )


def google_auth(
    *,
    access_token: str | None,
    environ: Mapping[str, str],
    project: str | None,
    allow_endpoints: frozenset[str] = frozenset(),
    hosts: tuple[str, ...] = GOOGLE_HOSTS,
    transport: httpx.BaseTransport | None = None,
    clock: Clock = utc_now,
) -> BearerAuth:
    """Return the authorization by the access token, or, without one, by Application Default Credentials.

    Args:
        access_token: The value of ``RECONCILE_ACCESS_TOKEN``, if it is set.
        environ: The process environment, which names the Application Default Credentials.
        project: The quota project.
        allow_endpoints: Further hosts that may receive a token.
        hosts: The hosts that may receive a token over TLS.
        transport: A transport that carries requests for tokens without the network.
        clock: The clock that times in responses are compared with.
    """
    if access_token:
        return BearerAuth(AccessToken(access_token, project), allow_endpoints, hosts)
    from reconciler.providers.google.credentials import ApplicationDefault  # google-auth loads slowly

    return BearerAuth(ApplicationDefault(environ, project, transport, clock), allow_endpoints, hosts)
