"""Whose the credentials are: of which kind, of which account, with which scopes. Nothing here shows a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx
from google.auth import exceptions, external_account, impersonated_credentials
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from reconciler.providers.google.auth import AccessToken
from reconciler.providers.google.credentials import (
    ApplicationDefault,
    HttpxRequest,
    MetadataCredentials,
    credentials_file,
    in_daemon,
)
from reconciler.providers.google.errors import SCOPES, TransientError, clean

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

USER_LOGIN = "user login"


_TOKEN_INFO = "https://oauth2.googleapis.com/tokeninfo"  # noqa: S105 - an address, not a token


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. ``account``, ``scopes`` and ``quota_project`` are empty where they are not known.

    ``kind`` is what the credentials are, for people, and ``source`` where they came from: a file, a variable, a host.
    """

    kind: str
    source: str
    account: str = ""
    scopes: frozenset[str] = frozenset()
    quota_project: str = ""


async def whoami(
    *,
    access_token: str | None,
    environ: Mapping[str, str],
    project: str | None,
    ask_google: bool,
    transport: httpx.BaseTransport | None = None,
) -> Identity:
    """Get a token as :func:`reconciler.providers.google.auth.google_auth` would, and say whose it is.

    Args:
        access_token: The value of ``RECONCILE_ACCESS_TOKEN``, if it is set.
        environ: The process environment.
        project: The quota project.
        ask_google: Whether Google may be shown the token, to tell what only it knows. That it does not answer is no
            failure.
        transport: What carries requests instead of the network.

    Raises:
        AccessError: There is no token to be had.
    """
    carrier = HttpxRequest(transport)
    if access_token:
        token = await AccessToken(access_token, project).token()
        identity = Identity("access token", "RECONCILE_ACCESS_TOKEN", quota_project=project or "")
    else:
        source = ApplicationDefault(environ, project, transport)
        token = await _token(source)
        identity = await in_daemon(lambda: _described(source, environ, carrier))
    if ask_google and not (identity.account and identity.scopes):
        return await in_daemon(lambda: _with_token_info(identity, token, carrier))
    return identity


async def _token(source: ApplicationDefault) -> str:
    try:
        return await source.token()
    except TransientError as failure:
        raise failure.error from failure


def _described(source: ApplicationDefault, environ: Mapping[str, str], carrier: HttpxRequest) -> Identity:
    file = credentials_file(environ)
    found = _of(source.credentials, carrier)
    return replace(found, source=clean(str(file)) if file else found.source, quota_project=source.quota_project or "")


def _of(credentials: Credentials | None, carrier: HttpxRequest) -> Identity:
    """What credentials tell of themselves; accounts of ours have the scopes that we ask for."""
    granted = frozenset(SCOPES)
    match credentials:
        case MetadataCredentials():
            return Identity("service account of this machine", "the metadata server", credentials.email(carrier))
        case user_credentials.Credentials():
            return Identity(USER_LOGIN, "", clean(credentials.account or ""))
        case service_account.Credentials():
            return Identity("service account key", "", clean(credentials.service_account_email), granted)
        case impersonated_credentials.Credentials():
            return Identity("impersonated service account", "", clean(credentials.service_account_email), granted)
        case external_account.Credentials():
            principal = credentials.service_account_email or credentials.info.get("audience", "")
            return Identity("workload identity federation", "", clean(principal), granted)
        case _:  # google-auth keeps each further kind in a module of its name
            return Identity(type(credentials).__module__.rpartition(".")[2].replace("_", " "), "")


def _with_token_info(identity: Identity, token: str, carrier: HttpxRequest) -> Identity:
    """The identity with what Google tells of the token, which goes into the body: addresses are logged."""
    body = urlencode({"access_token": token})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    try:
        response = carrier(_TOKEN_INFO, method="POST", body=body, headers=headers)
        told = response.json() if response.status == httpx.codes.OK else {}
        scopes = frozenset(str(told.get("scope", "")).split())
        account = identity.account or clean(str(told.get("email", "")))
    except (exceptions.TransportError, AttributeError, ValueError):
        return identity
    return replace(identity, account=account, scopes=identity.scopes or scopes)
