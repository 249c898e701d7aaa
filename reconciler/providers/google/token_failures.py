"""Why there is no access token, and what to do about it: the variables, the file, and the refusals of token services.

No message quotes the content of a file or of a variable that does not look like a path: both may be secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from reconciler.domain.errors import AccessError
from reconciler.domain.text import sanitize, terminal_safe
from reconciler.providers.google.errors import (
    CLOUD_PLATFORM,
    LOG_IN,
    SET_CLOCK,
    ErrorResponse,
    ServiceDescription,
    clock_skew,
    find_reason,
    project_facts,
)
from reconciler.redaction import is_existing, is_path

VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_EXPECTED = "expected the path of a credentials file"
_WRITE = f"write the content to a file, set {VARIABLE} to its path"
_UNSET = f"or unset {VARIABLE} to use the login of gcloud or the account of this machine"
_MAX_BYTES = 2**20


Finding = tuple[str, str]
"""A problem, as the rest of a sentence about the variable, and its remedy."""


def variable_problem(value: str, environ: Mapping[str, str]) -> AccessError | None:
    """Return why GOOGLE_APPLICATION_CREDENTIALS does not name a readable file of credentials; ``None`` if it does."""
    path = Path(value)
    is_file = is_existing(path) and path.is_file()
    message, remedy = next(_file_problems(path) if is_file else _value_problems(value, environ), ("", ""))
    return AccessError(f"{VARIABLE} {message}", remedy) if message else None


def _value_problems(value: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the problems with a value that is not the path of a file; the first is the most specific."""
    text = value.strip()
    if _is_json(text) or _is_json(_decode(text)):
        yield f"contains the content of a credentials file: {_EXPECTED}", f"{_WRITE}, {_UNSET}"
    if not text:
        yield f"is blank: {_EXPECTED}", f"set it to a path, {_UNSET}"
        return
    if meant := _meant(text, environ):
        cause, file = meant
        command = f"export {VARIABLE}={shlex.quote(sanitize(file))}"
        yield f"{cause}: {_EXPECTED}", f"set it to the path itself: `{command}`"
    if not is_path(value):
        yield f"does not name a file: {_EXPECTED}, not its content (the value is not shown)", f"{_WRITE}, {_UNSET}"
    path, shown = Path(value), terminal_safe(value)
    if is_existing(path):
        yield f"names {shown}, which is not a file: {_EXPECTED}", f"set it to a file, such as one in {shown}, {_UNSET}"
    place = "" if path.is_absolute() else " in the working directory"
    yield f"names {shown}, and there is no such file{place}", f"fix the path, {_UNSET}"


def _meant(text: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what a shell would have done to a value, and the path that it would have become."""
    if not is_path(text.strip("\"'").removeprefix("file://")):
        return None
    if text[0] in "\"'":
        return "has quotes around the path", text.strip("\"'")
    if text.startswith("file://"):
        return "is a URL", text.removeprefix("file://")
    if text.startswith("~"):
        home = environ.get("HOME") or environ.get("USERPROFILE") or "~"
        return "begins with ~, which only a shell replaces", os.path.normpath(text.replace("~", home, 1))
    names = re.findall(r"\$\{?(\w+)\}?|%(\w+)%", text)
    for name in (first or second for first, second in names):
        if not is_existing(Path(text)):
            expanded = re.sub(rf"\$\{{?{name}\}}?|%{name}%", lambda _found: environ.get(name, ""), text)  # noqa: B023 - used at once
            return f"contains the variable {name}, which only a shell replaces", expanded
    return None


def _is_json(text: str) -> bool:
    return text.startswith(("{", "[")) and '"' in text


def _decode(text: str) -> str:
    """Return the text in base64; empty for any other."""
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8").strip()
    except (binascii.Error, ValueError):
        return ""


_CLIENT = (
    f"log in with it: `gcloud auth application-default login --client-id-file={{path}} --scopes={CLOUD_PLATFORM}`, and"
    f" unset {VARIABLE}"
)
_CONTENTS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"\s*\Z"), "is empty", f"write the credentials again, {_UNSET}"),
    (re.compile(rb"version https://git-lfs"), "is a Git LFS pointer", "run `git lfs pull`"),
    (re.compile(rb"\xff\xfe|\xfe\xff"), "is UTF-16, as PowerShell writes it", "save it as UTF-8"),
    (re.compile(rb"\xef\xbb\xbf"), "begins with a byte order mark", "save it as UTF-8 without a byte order mark"),
    (
        re.compile(rb"-----BEGIN|\x30\x82"),
        "is a private key, not a JSON file",
        "download the key of the account as JSON",
    ),
    (re.compile(rb"AIza"), "is an API key, which cannot tune", f"use a login or a service account, {_UNSET}"),
    (re.compile(rb"(ya29\.|eyJ[\w-]+\.)"), "is a token", f"set RECONCILE_ACCESS_TOKEN to the token, {_UNSET}"),
)
"""Beginnings of files without credentials, what they are, and what to do."""


def _file_problems(path: Path) -> Iterator[Finding]:
    """Yield the problems with a file that exists; google-auth checks the fields of each kind of credentials."""
    shown, again = sanitize(str(path)), f"write the credentials again, {_UNSET}"
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
    except OSError as error:
        allow = f"run as its owner, or `chmod u+r {shlex.quote(shown)}`"
        yield f"names {shown}, which cannot be read: {error.strerror}", allow
        return
    for pattern, cause, remedy in _CONTENTS:
        if pattern.match(content):
            yield f"names {shown}, which {cause}", remedy
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if document is None and _is_json(_decode(content.decode("utf-8", "replace"))):
        decode = f"base64 --decode {shlex.quote(shown)} > credentials.json"
        yield f"names {shown}, which is encoded in base64", f"decode it: `{decode}`, and set {VARIABLE} to the result"
    if not isinstance(document, dict):
        yield f"names {shown}, which is not a JSON object", again
    elif "type" not in document:
        if document.keys() & {"installed", "web"}:
            yield (
                f"names {shown}, which is an OAuth client, not credentials",
                _CLIENT.format(path=shlex.quote(shown)),
            )
        yield f'names {shown}, which has no "type": {_EXPECTED}', again


def nothing_found(environ: Mapping[str, str]) -> AccessError:
    """Return the error for an environment without any credentials, with what is missing in a job of a CI system."""
    empty = [name for name in ("RECONCILE_ACCESS_TOKEN", VARIABLE) if environ.get(name) == ""]
    message = "no credentials found"
    if empty:
        message += f": {' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty"
    if environ.get("GITHUB_ACTIONS") == "true":
        if "ACTIONS_ID_TOKEN_REQUEST_URL" not in environ:
            return AccessError(
                f"{message}, and the job may not request an ID token (ACTIONS_ID_TOKEN_REQUEST_URL is not set)",
                f"{_GITHUB_JOB} before; pull requests from forks get no ID token",
            )
        return AccessError(message, "run google-github-actions/auth in this job before, as a step of its own")
    if environ.get("GITLAB_CI") == "true":
        return AccessError(
            message,
            f"add `id_tokens` to the job, and set {VARIABLE} to a credentials file of workload identity federation",
        )
    return AccessError(message, LOG_IN)


class Origin(Struct, frozen=True):
    """Where credentials come from: their file, empty for the metadata server, and what it declares.

    ``kind`` is the ``type`` in the file, that of the source for an impersonated account. ``account`` is the service
    account, and ``audience`` the provider of a workload identity pool.
    """

    file: str = ""
    by_variable: bool = False
    kind: str = ""
    account: str = ""
    audience: str = ""
    repository: str = ""

    @property
    def name(self) -> str:
        """The name of the origin in messages."""
        return f"{VARIABLE}={self.file}" if self.by_variable else self.file or "the metadata server"

    @property
    def log_in(self) -> str:
        """How to log in again, past a variable that precedes the login."""
        unset = f", and unset {VARIABLE}, which names {self.file}"
        return f"{LOG_IN.rpartition(', or')[0]}{unset}" if self.by_variable else LOG_IN

    @property
    def renewal(self) -> str:
        """How to get other credentials than those that a service rejects."""
        if self.kind == "authorized_user":
            return self.log_in
        return f"check that the account of the credentials exists and is enabled; they come from {self.name}"


_ACCOUNT = re.compile(r"/serviceAccounts/([^/:]+):")


def read_origin(file: Path | None, environ: Mapping[str, str]) -> Origin:
    """Return the origin of credentials in a file, which may have changed since, or of the metadata server."""
    if file is None:
        return Origin()
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        document = {}
    fields = document if isinstance(document, dict) else {}
    source = fields.get("source_credentials")
    kind = source.get("type") if isinstance(source, dict) else fields.get("type")
    account = _ACCOUNT.search(str(fields.get("service_account_impersonation_url")))
    return Origin(
        file=sanitize(str(file)),
        by_variable=bool(environ.get(VARIABLE)),
        kind=sanitize(str(kind or "")),
        account=sanitize(account[1] if account else str(fields.get("client_email") or "")),
        audience=sanitize(str(fields.get("audience") or "")),
        repository=sanitize(environ.get("GITHUB_REPOSITORY") or environ.get("CI_PROJECT_PATH") or ""),
    )


class TokenRefusal(Struct, frozen=True):
    """The response of a token service to credentials: its texts also in the format of OAuth 2.0, and its date."""

    address: str
    error: ErrorResponse
    texts: tuple[str, ...]
    date: datetime | None


class _Cause(Struct, frozen=True):
    """A refusal that texts identify, and the remedy with the fields of :func:`_fields` in braces."""

    pattern: str
    remedy: str


_PROVIDER = "{provider} --workload-identity-pool={pool} --location=global --project={pool_project}"
_DESCRIBE = f"`gcloud iam workload-identity-pools providers describe {_PROVIDER}`"
_CAUSES = (
    _Cause(
        r"reasonable timeframe|short-lived token|issued in the future|used too early|not yet valid",
        SET_CLOCK,
    ),
    _Cause(
        r"stale to sign-in|id.?token.*expired|subject.token.*expired",
        "get a new ID token: it is valid for minutes only; run the command in the same job as the authentication",
    ),
    _Cause(
        r"attribute condition",
        f"run from a repository, branch and environment that the attribute condition of the provider allows, or change"
        f" the condition: {_DESCRIBE} shows it",
    ),
    _Cause(
        r"invalid_target|pool or provider is disabled",
        f"check the audience {{audience}} in {{origin}}: the pool or the provider does not exist or is disabled;"
        f" {_DESCRIBE} shows it",
    ),
    _Cause(
        r"audience.*(does not match|not match|is not allowed|expected)|invalid.*audience",
        "request the ID token for the audience https:{audience}, or allow its audience: `gcloud iam"
        f" workload-identity-pools providers update-oidc {_PROVIDER} --allowed-audiences=AUDIENCE`",
    ),
    _Cause(
        r"issuer.*(does not match|not match)|connecting to the given credential.s issuer",
        f"set the issuer of the provider to that of the ID token: {_DESCRIBE} shows it",
    ),
    _Cause(
        r"invalid_rapt|reauth",
        "{log_in}: your organization requires a new login after some hours; in CI use workload identity federation",
    ),
    _Cause(
        r"invalid jwt signature|invalid_grant.*no longer valid",
        "the key in {origin} was deleted or disabled: use another key, or workload identity federation; `gcloud iam"
        " service-accounts keys list --iam-account={account}` lists the valid ones",
    ),
    _Cause(
        r"account not found|account.*(deleted|disabled)|invalid email or user id",
        "check that the account exists and is enabled: `gcloud iam service-accounts describe {account}`",
    ),
    _Cause(r"deleted_client|invalid_client|client was (deleted|not found)", "{log_in}: the OAuth client was deleted"),
    _Cause(
        r"admin_policy_enforced|org_internal|access_denied",
        "ask the administrator of your Google Workspace to allow the OAuth client and its scopes",
    ),
    _Cause(r"expired or revoked|invalid_grant", "{log_in}"),
)
"""What token services refuse, by their texts (lower case); the first match counts."""

IAM = ServiceDescription("iamcredentials.googleapis.com", "the credentials", (CLOUD_PLATFORM,), {})
_MAY_IMPERSONATE = "iam.serviceaccounts.getaccesstoken"
_GITHUB_JOB = (
    "add `permissions: {contents: read, id-token: write}` to the job, and run google-github-actions/auth in the same"
    " job"
)
_GITHUB = re.compile(r"(^|\.)actions\.githubusercontent\.com$")


def explain_refusal(refusal: TokenRefusal, origin: Origin, now: datetime) -> tuple[str, str]:
    """Return what the clock adds to the message, and the remedy."""
    if skew := clock_skew(refusal.date, now):
        return f"; {skew}", SET_CLOCK
    if _GITHUB.search(refusal.address.partition("://")[2].partition("/")[0]):
        return "", _GITHUB_JOB
    text = " ".join(refusal.texts).lower()
    fields = _fields(origin)
    if _MAY_IMPERSONATE in text and origin.account:
        return "", _impersonation(origin).format_map(fields)
    if reason := find_reason(refusal.error, IAM):
        return "", IAM.find_remedy("", reason, facts=project_facts(refusal.error))
    for cause in _CAUSES:
        if re.search(cause.pattern, text):
            return "", cause.remedy.format_map(fields)
    return "", origin.renewal


def _impersonation(origin: Origin) -> str:
    role = "roles/iam.serviceAccountTokenCreator"
    member = "MEMBER`, where MEMBER is the account of {origin} as user:EMAIL or serviceAccount:EMAIL"
    if origin.audience:
        role = "roles/iam.workloadIdentityUser"
        attribute = f"attribute.repository/{origin.repository or 'OWNER/REPOSITORY'}"
        member = f"principalSet://iam.googleapis.com/{{pool_name}}/{attribute}`"
    return (
        f"grant {role} on {{account}}: `gcloud iam service-accounts add-iam-policy-binding {{account}} --role={role}"
        f" --member={member}; a new grant takes effect after some minutes"
    )


_AUDIENCE = re.compile(
    r"//iam\.googleapis\.com/(?P<pool_name>projects/(?P<pool_project>[\w-]+)/locations/global/workloadIdentityPools/"
    r"(?P<pool>[\w-]+))/providers/(?P<provider>[\w-]+)"
)


def _fields(origin: Origin) -> Mapping[str, str]:
    named = _AUDIENCE.fullmatch(origin.audience)
    names = ("pool_name", "pool_project", "pool", "provider")
    return {
        **{name: named[name] if named else name.upper() for name in names},
        "audience": origin.audience,
        "origin": origin.name,
        "account": origin.account or "ACCOUNT",
        "log_in": origin.log_in,
    }


def error_texts(body: bytes) -> Iterator[str]:
    """Yield the texts of an OAuth 2.0 error (RFC 6749, 5.2), which can identify its cause."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    for name in ("error", "error_description", "error_subtype"):
        value = document.get(name) if isinstance(document, dict) else None
        if isinstance(value, str):
            yield sanitize(value)
