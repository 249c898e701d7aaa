"""The doctor checks that Google's services share: the account behind the credentials, the address, the list, buckets.

Secrets appear in no message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import httpx
from google.auth import exceptions, external_account, impersonated_credentials
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from msgspec import Struct
from msgspec.structs import replace

from reconciler.daemon_threads import run_in_daemon_thread
from reconciler.domain.errors import AccessError, ServiceError
from reconciler.domain.model import REMOTE_SCHEME, Target
from reconciler.domain.ports import Clock
from reconciler.domain.text import sanitize
from reconciler.environment import utc_now
from reconciler.providers.google.auth import TOKEN_VARIABLE, AccessToken
from reconciler.providers.google.credentials import ApplicationDefault, GoogleAuthRequest, MetadataCredentials
from reconciler.providers.google.errors import SCOPES, ServiceDescription
from reconciler.providers.google.login import credentials_file
from reconciler.providers.google.network import TOKEN_INFO, check_connection
from reconciler.providers.google.retry import RetryPolicy, TransientError
from reconciler.providers.google.storage import Storage
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


UPLOAD = ("storage.objects.create", "storage.objects.get")
"""The permissions that uploading a data set needs."""
REPLACE = (*UPLOAD, "storage.objects.delete")
"""The permissions that a lockfile in a bucket needs: replacing an object deletes the earlier one."""
_SCOPE_PREFIX = "https://www.googleapis.com/auth/"
_SERVER_ERROR = 500


def connection_checks(
    service: ServiceDescription, endpoint: Callable[[Target], str], listed: Callable[[DoctorContext], str]
) -> tuple[DoctorCheck, ...]:
    """Return the checks of a service that takes Google credentials.

    Args:
        service: The scopes and remedies of the service.
        endpoint: Returns its address.
        listed: Returns a sentence about the models that it listed.
    """

    async def check_credentials(doctor: DoctorContext) -> Diagnosis:
        environ = doctor.env.environ
        identity = await whoami(
            access_token=environ.get(TOKEN_VARIABLE),
            environ=environ,
            project=doctor.target.project,
            clock=doctor.env.clock,
            retry=RetryPolicy(doctor.env.sleeper, doctor.env.rng.random),
            ask_google=(urlsplit(endpoint(doctor.target)).hostname or "").endswith(".googleapis.com"),
        )
        return describe_credentials(identity, service)

    async def check_service(doctor: DoctorContext) -> Diagnosis:
        address = endpoint(doctor.target)
        reached = await run_in_daemon_thread(lambda: check_connection(address, service))
        way = f" through the proxy {reached.proxy}" if reached.proxy else ""
        if reached.status >= _SERVER_ERROR:
            return Diagnosis(f"{address} answers{way}, but with {reached.status}", "try again later", "warning")
        return Diagnosis(f"{address} answers{way}")

    async def check_list(doctor: DoctorContext) -> Diagnosis:
        doctor.models = await doctor.provider.list(progress=False)
        return Diagnosis(listed(doctor))

    return (
        DoctorCheck("credentials", check_credentials),
        DoctorCheck("service", check_service),
        DoctorCheck("list", check_list, ("credentials", "service")),
    )


def tuned_models_listed(doctor: DoctorContext) -> str:
    """Return how many tuned models were listed, and how many of them are of the target's scope."""
    scope, count = doctor.target.scope, len(doctor.models)
    own = sum(1 for model in doctor.models if model.mark and model.mark.scope == scope)
    return f"{count} tuned {'model is' if count == 1 else 'models are'} listed, {own} of them of the scope {scope}"


def describe_credentials(identity: CallerIdentity, service: ServiceDescription) -> Diagnosis:
    """Return whose the credentials are, with a warning if they are not enough for the service."""
    scopes = ", ".join(sorted(scope.removeprefix(_SCOPE_PREFIX) for scope in identity.scopes)) or "unknown"
    message = (
        f"{identity.kind} from {identity.source}: account {identity.account or 'unknown'}; scopes {scopes}; "
        f"quota project {identity.quota_project or 'none'}"
    )
    missing = [scope for scope in service.scopes if identity.scopes and scope not in identity.scopes]
    if missing:
        return Diagnosis(message, service.find_remedy("", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"), "warning")
    if identity.kind == USER_LOGIN and not identity.quota_project:
        remedy = "set spec.project of the target to the project whose quota is used"
        return Diagnosis(message, remedy, "warning")
    return Diagnosis(message)


def bucket_of(address: str) -> str:
    """Return the name of the bucket in a ``gs://`` address."""
    return address.removeprefix(REMOTE_SCHEME).partition("/")[0]


async def require_permissions(storage: Storage, bucket: str, permissions: tuple[str, ...]) -> bool:
    """Return whether the service confirms the permissions on a bucket; some services cannot.

    Raises:
        AccessError: if the account lacks one of them.
    """
    granted = await storage.permissions(bucket, permissions)
    missing = [] if granted is None else [permission for permission in permissions if permission not in granted]
    if missing:
        raise AccessError(
            f"the account lacks {' and '.join(missing)} on gs://{bucket}",
            f"ask for roles/storage.objectUser on gs://{bucket}",
        )
    return granted is not None


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
    retry: RetryPolicy,
    transport: httpx.BaseTransport | None = None,
    clock: Clock = utc_now,
) -> CallerIdentity:
    """Get a token as :func:`reconciler.providers.google.auth.google_auth` does, and return the account behind it.

    Args:
        access_token: The value of ``RECONCILE_ACCESS_TOKEN``, if it is set.
        environ: The process environment.
        project: The quota project.
        ask_google: Whether to send the token to Google for details that only Google has; a failure is ignored.
        retry: The retries of requests for a token.
        transport: A transport that carries requests without the network.
        clock: The clock that times in responses are compared with.

    Raises:
        ServiceError: The credentials' service cannot be reached.
        AccessError: There are no valid credentials.
    """
    request = GoogleAuthRequest(transport)
    if access_token:
        token = await AccessToken(access_token, project).token()
        identity = CallerIdentity("access token", "RECONCILE_ACCESS_TOKEN", quota_project=project or "")
    else:
        source = ApplicationDefault(environ, project, transport, clock)
        token = await retry.run(lambda **_in_doubt: source.token())
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
    except (exceptions.TransportError, ServiceError, TransientError, AttributeError, ValueError):
        return identity
    return replace(identity, account=account, scopes=identity.scopes or scopes)
