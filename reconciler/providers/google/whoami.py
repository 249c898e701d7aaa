"""The account behind the credentials: their kind, source, account and scopes. Secrets appear in no message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx
from google.auth import exceptions, external_account, impersonated_credentials
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.text import sanitize
from reconciler.providers.google.auth import AccessToken
from reconciler.providers.google.credentials import (
    ApplicationDefault,
    GoogleAuthRequest,
    MetadataCredentials,
    credentials_file,
    run_in_daemon_thread,
)
from reconciler.providers.google.endpoints import TOKEN_INFO
from reconciler.providers.google.errors import SCOPES
from reconciler.providers.google.retry import TransientError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

USER_LOGIN = "user login"


class CallerIdentity(Struct, frozen=True):
    """The account that requests are sent as; ``account``, ``scopes`` and ``quota_project`` are empty where unknown.

    ``kind`` describes the credentials, and ``source`` is the file, variable or host that they come from.
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
) -> CallerIdentity:
    """Get a token as :func:`reconciler.providers.google.auth.google_auth` does, and return the account behind it.

    Args:
        access_token: The value of ``RECONCILE_ACCESS_TOKEN``, if it is set.
        environ: The process environment.
        project: The quota project.
        ask_google: Whether to send the token to Google for details that only Google has; a failure is ignored.
        transport: A transport that carries requests without the network.

    Raises:
        AccessError: There are no valid credentials.
    """
    request = GoogleAuthRequest(transport)
    if access_token:
        token = await AccessToken(access_token, project).token()
        identity = CallerIdentity("access token", "RECONCILE_ACCESS_TOKEN", quota_project=project or "")
    else:
        source = ApplicationDefault(environ, project, transport)
        try:
            token = await source.token()
        except TransientError as failure:
            raise failure.error from failure
        identity = await run_in_daemon_thread(lambda: _describe_source(source, environ, request))
    if ask_google and not (identity.account and identity.scopes):
        return await run_in_daemon_thread(lambda: _add_token_info(identity, token, request))
    return identity


def _describe_source(
    source: ApplicationDefault, environ: Mapping[str, str], request: GoogleAuthRequest
) -> CallerIdentity:
    file = credentials_file(environ)
    identity = _describe_credentials(source.credentials, request)
    return replace(
        identity,
        source=sanitize(str(file)) if file else identity.source,
        quota_project=source.quota_project or "",
    )


def _describe_credentials(credentials: Credentials | None, request: GoogleAuthRequest) -> CallerIdentity:
    """Return what the credentials themselves contain; service accounts get the scopes that were requested."""
    match credentials:
        case MetadataCredentials():
            email = credentials.email(request)
            return CallerIdentity("service account of this machine", "the metadata server", email)
        case user_credentials.Credentials():
            return CallerIdentity(USER_LOGIN, "", sanitize(credentials.account or ""))
        case service_account.Credentials():
            return _service_account("service account key", credentials.service_account_email)
        case impersonated_credentials.Credentials():
            return _service_account("impersonated service account", credentials.service_account_email)
        case external_account.Credentials():
            principal = credentials.service_account_email or credentials.info.get("audience", "")
            return _service_account("workload identity federation", principal)
        case _:  # google-auth keeps each further kind in a module of its name
            return CallerIdentity(type(credentials).__module__.rpartition(".")[2].replace("_", " "), "")


def _service_account(kind: str, account: str) -> CallerIdentity:
    return CallerIdentity(kind, "", sanitize(account), frozenset(SCOPES))


def _add_token_info(identity: CallerIdentity, token: str, request: GoogleAuthRequest) -> CallerIdentity:
    """Return the identity with Google's details of the token, which is sent in the body because URLs are logged."""
    body = urlencode({"access_token": token})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    try:
        response = request(TOKEN_INFO, method="POST", body=body, headers=headers)
        info = json.loads(response.data) if response.status == httpx.codes.OK else {}
        scopes = frozenset(str(info.get("scope", "")).split())
        account = identity.account or sanitize(str(info.get("email", "")))
    except (exceptions.TransportError, AttributeError, ValueError):
        return identity
    return replace(identity, account=account, scopes=identity.scopes or scopes)
