"""The doctor checks that Google's services share: credentials, the address, the list, and buckets."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from reconciler.domain.errors import AccessError
from reconciler.domain.model import REMOTE_SCHEME, Target
from reconciler.providers.google.auth import TOKEN_VARIABLE
from reconciler.providers.google.credentials import run_in_daemon_thread
from reconciler.providers.google.errors import ServiceDescription
from reconciler.providers.google.network import check_connection
from reconciler.providers.google.storage import Storage
from reconciler.providers.google.whoami import USER_LOGIN, CallerIdentity, whoami
from reconciler.providers.spec import Diagnosis, DoctorCheck, DoctorContext

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
