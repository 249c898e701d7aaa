"""The pull-request flow as files for GitHub and GitLab, filled with where target, manifests and lockfile are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from importlib import resources
from pathlib import Path
from typing import Final, Literal

from reconciler.domain.errors import UsageError
from reconciler.domain.model import REMOTE_SCHEME, Target
from reconciler.manifests.discovery import DEFAULT, Root, target_file_name
from reconciler.paths import repository_of, require_inside
from reconciler.providers.registry import capabilities_of

Platform = Literal["github", "gitlab"]

_GITHUB: Final = {
    **{
        f".github/workflows/reconcile-{name}@SUFFIX@.yml": f"github/{name}.yml"
        for name in ("pull-request", "locked", "settle", "merged", "drift")
    },
    ".github/reconcile.txt": "requirements.txt",
}
_GITLAB: Final = {
    ".gitlab/reconcile@SUFFIX@.yml": "gitlab/reconcile.yml",
    ".gitlab/reconcile.txt": "requirements.txt",
}
_FILES: Final[Mapping[Platform, Mapping[str, str]]] = {"github": _GITHUB, "gitlab": _GITLAB}
"""What is written for a platform: paths in the repository, and the templates they are made from."""
_SHARED: Final = frozenset({".github/reconcile.txt", ".gitlab/reconcile.txt"})
"""What all targets of a repository share, so that it may be there already."""
_NEXT: Final[Mapping[Platform, tuple[str, ...]]] = {
    "github": (
        "Write into .github/reconcile.txt what pip is to install reconcile from, pinned.",
        "Make the environment reconcile-train, with the reviewers who approve spending.",
        "Make the environment reconcile, for the branch {branch} alone.",
        "Add a deploy key that may write; its private half is both environments' secret RECONCILE_DEPLOY_KEY.",
        "Let Google Cloud trust the repository: variables WORKLOAD_IDENTITY_PROVIDER, PLAN_ACCOUNT, APPLY_ACCOUNT.",
        "Have a ruleset of {branch} require the check reconcile-locked{suffix}; deploy keys bypass the ruleset.",
        "Switch the merge queue on, if you want one.",
    ),
    "gitlab": (
        "Include the file in .gitlab-ci.yml: include: [{{local: .gitlab/reconcile{suffix}.yml}}].",
        "Write into .gitlab/reconcile.txt what pip is to install reconcile from, pinned.",
        "Protect the environment reconcile-train, for those who approve spending.",
        "Protect the environment reconcile, for maintainers.",
        "Set the variable RECONCILE_TOKEN of both environments: a masked access token that may push.",
        "Set the variable RECONCILE_COMMENT_TOKEN: a masked access token that may comment.",
        "Let Google Cloud trust the project: variables WORKLOAD_IDENTITY_PROVIDER, PLAN_ACCOUNT, APPLY_ACCOUNT.",
        "Schedule pipelines of {branch}: RECONCILE_JOB=settle every 20 minutes, RECONCILE_JOB=drift every day.",
        "Require pipelines to succeed before a merge; switch merge trains on, if you want them.",
    ),
}
_SIMULATED: Final = "Choose a service that jobs share: this target simulates, and what one job trains, no other sees."
_BRANCH: Final = re.compile(r"ref: refs/remotes/origin/([A-Za-z0-9._/-]+)\s*")


@dataclass(frozen=True, slots=True)
class Workflows:
    """Files to write, by path in the repository, and what people have to set up for them, in order."""

    repository: Path
    files: Mapping[str, bytes]
    steps: tuple[str, ...]


def workflows(platform: Platform, root: Root, target: Target, folder: Path, specs: str) -> Workflows:
    """The flow for one target, in the repository of ``folder``, for the manifests in the folder ``specs`` there.

    Files that several targets share are left out when they are there. Raises ReconcileError when the root lies outside
    the repository, and UsageError for a target whose lockfile is in a bucket, or a path with a ``$``.
    """
    if target.lock.startswith(REMOTE_SCHEME):
        raise UsageError(
            f"the lockfile of target {target.name} is in a bucket, where no pull request can carry it",
            "leave spec.lock out, or merge first and train then, as docs/ci.md shows",
        )
    repository = repository_of(folder)
    require_inside(root.folder, repository)
    suffix = "" if target.name == DEFAULT else f"-{target.name}"
    branch = _default_branch(repository)
    values = _values(root, target, (folder / specs).resolve(), repository) | {"SUFFIX": suffix, "REF": f"'{branch}'"}
    values["BRANCH"] = _quoted(branch)
    files = {
        filled(path, {"SUFFIX": suffix}): filled(_template(name), values).encode()
        for path, name in _FILES[platform].items()
        if path not in _SHARED or not (repository / path).exists()
    }
    steps = tuple(step.format(branch=branch, suffix=suffix) for step in _NEXT[platform])
    return Workflows(repository, files, (*steps, _SIMULATED) if capabilities_of(target).simulated else steps)


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with ``@NAME@`` replaced by the value of that name."""
    return reduce(lambda text, item: text.replace(f"@{item[0]}@", item[1]), values.items(), template)


def _values(root: Root, target: Target, specs: Path, repository: Path) -> dict[str, str]:
    def path(file: Path) -> str:
        return Path(os.path.relpath(file, repository)).as_posix()

    folder = root.folder.resolve()
    lockfile = (folder / target_file_name(target.name)).with_suffix(".lock.json")
    in_files = target.publish and not target.publish.startswith(REMOTE_SCHEME)
    paths = {
        "SPECS": path(specs),
        "LOCKFILE": path(lockfile),
        "POINTER": path(folder / target.publish) if in_files else "",
    }
    for one in paths.values():
        if "$" in one:
            raise UsageError(f"{one} has a $, which CI takes for a variable", "rename that file or folder")
    return {name: _quoted(value) for name, value in {**paths, "TARGET": target.name}.items()}


def _quoted(text: str) -> str:
    """The text as a scalar of YAML, which takes those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _template(name: str) -> str:
    return resources.files("reconciler.manifests").joinpath("ci", name).read_text(encoding="utf-8")


def _default_branch(repository: Path) -> str:
    """The default branch of the repository's origin as the clone found it, else ``main``."""
    try:
        found = _BRANCH.fullmatch((repository / ".git/refs/remotes/origin/HEAD").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        found = None
    return found[1] if found else "main"
