"""Where Google credentials are on this machine, and the project and location that they belong to."""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from reconciler.domain.errors import AccessError
from reconciler.providers.google.token_failures import VARIABLE, variable_problem
from reconciler.providers.spec import Discovery
from reconciler.redaction import is_existing

_TOKEN_VARIABLE: Final = "RECONCILE_ACCESS_TOKEN"  # noqa: S105 - the name of the variable, not a token
_PROJECT_VARIABLES: Final = ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT")
_LOCATION_VARIABLES: Final = ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION", "CLOUDSDK_COMPUTE_REGION")
_CREATE_BUCKET: Final = "gcloud storage buckets create {bucket} --project={project} --location={location}"


def credentials_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file in GOOGLE_APPLICATION_CREDENTIALS, or the one that ``gcloud auth application-default`` wrote.

    Raises:
        AccessError: The variable does not name a file of credentials.
    """
    if path := environ.get(VARIABLE):
        if problem := variable_problem(path, environ):
            raise problem
        return Path(path)
    folder = _gcloud_folder(environ)
    file = folder / "application_default_credentials.json" if folder else None
    return file if file and is_existing(file) and file.is_file() else None


def _gcloud_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder of gcloud's settings; ``None`` for a user without a home directory, as in some containers."""
    if configured := environ.get("CLOUDSDK_CONFIG"):
        return Path(configured)
    if roaming := environ.get("APPDATA"):
        return Path(roaming) / "gcloud"
    try:
        home = Path(environ["HOME"]) if "HOME" in environ else Path.home()
    except RuntimeError:
        return None
    return home / ".config" / "gcloud"


def discover(environ: Mapping[str, str], fields: Mapping[str, str]) -> Discovery | None:
    """Return the credentials for Vertex AI that the environment has, with project, location and bucket if known."""
    try:
        file = credentials_file(environ)
    except AccessError:
        file = None
    if not file and not environ.get(_TOKEN_VARIABLE):
        return None
    project = fields.get("project") or _first(environ, _PROJECT_VARIABLES) or _project_of(file, environ)
    location = _first(environ, _LOCATION_VARIABLES)
    found = {"project": project, "location": location, "bucket": f"gs://{project}-tuning" if project else ""}
    credentials = f"Application Default Credentials in {file}" if file else _TOKEN_VARIABLE
    return Discovery(credentials, {name: value for name, value in found.items() if value}, _CREATE_BUCKET)


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def _project_of(file: Path | None, environ: Mapping[str, str]) -> str:
    """Return the project of a credentials file, else that of gcloud's configuration; empty if neither has one."""
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads(file.read_text(encoding="utf-8")) if file else {}
        if project := content.get("project_id") or content.get("quota_project_id"):
            return str(project)
    folder = _gcloud_folder(environ)
    settings = configparser.ConfigParser(interpolation=None)
    with suppress(OSError, ValueError, configparser.Error):
        if folder:
            active = folder / "active_config"
            name = active.read_text(encoding="utf-8").strip() if active.is_file() else "default"
            settings.read(folder / "configurations" / f"config_{name}", encoding="utf-8")
    return settings.get("core", "project", fallback="")
