"""A scope for a folder: who owns its models, as the git remote tells, else as the folder is called."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from urllib.parse import urlsplit

_FALLBACK = "my-models"
_LENGTH = 63
_NOT_ALLOWED = re.compile(r"[^a-z0-9./_-]+")
_SCP_STYLE = re.compile(r"[^/]*?:(?P<path>.*)")


def guess_scope(folder: Path) -> str:
    """``acme/nlp-models`` for a clone of a repository of that name, else the folder's name; always a legal scope."""
    resolved = folder.resolve()
    git = next((one / ".git" for one in (resolved, *resolved.parents) if (one / ".git").is_dir()), None)
    owner = _path(_origin(git / "config")) if git else ""
    return _sanitised(owner) or _sanitised(resolved.name) or _FALLBACK


def _origin(config: Path) -> str:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        parser.read_string(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return ""
    return parser.get('remote "origin"', "url", fallback="") or ""


def _path(url: str) -> str:
    """The last two parts of the path alone: what stands before it may hold credentials."""
    scp = _SCP_STYLE.fullmatch(url)
    path = urlsplit(url).path if "://" in url else scp["path"] if scp else url
    parts = [part for part in path.removesuffix("/").removesuffix(".git").split("/") if part]
    return "/".join(parts[-2:])


def _sanitised(text: str) -> str:
    return _NOT_ALLOWED.sub("-", text.lower())[:_LENGTH].strip("./_-")
