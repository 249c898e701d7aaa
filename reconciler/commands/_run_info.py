"""Which command runs, since when, at which commit and by which user; reports and decisions have the same value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Final

from reconciler.domain.text import shorten, terminal_safe
from reconciler.domain.version import __version__
from reconciler.redaction import redact, redact_arguments

if TYPE_CHECKING:
    from datetime import datetime

    from reconciler.domain.document import RunInfo
    from reconciler.environment import Environment

# The imports in functions are slow: --help and --version begin no run, and most text shows none.

_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")
_MOST_COMMAND: Final = 500
_MOST_NAME: Final = 200
_CI_VARIABLES: Final[tuple[tuple[str, *tuple[tuple[str, ...], ...]], ...]] = (
    (
        "GITHUB_ACTIONS",
        ("GITHUB_SHA",),
        ("GITHUB_HEAD_REF", "GITHUB_REF_NAME"),
        ("GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"),
    ),
    (
        "GITLAB_CI",
        ("CI_COMMIT_SHA",),
        ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_REF_NAME"),
        ("GITLAB_USER_LOGIN",),
    ),
)
"""The variable that is true in the jobs of a CI system, and those with commit, branch and actor."""
_USER_VARIABLES: Final = ("LOGNAME", "USER", "USERNAME")


class Run:
    """One run of a command. Commit and branch are those of its start, also if the checkout moves during a long run."""

    def __init__(self, environment: Environment, arguments: Sequence[str] = ()) -> None:
        self._environment = environment
        self._arguments = arguments
        self._started: datetime = environment.clock()
        self._commit, self._branch, self._actor = _of_ci(environment.environ)
        if not self._commit:
            from reconciler.state.checkout import head_of

            self._commit, branch = head_of(environment.cwd, environment.environ)
            self._branch = self._branch or branch

    @cached_property
    def info(self) -> RunInfo:
        """The value that reports show."""
        import shlex

        from reconciler.domain.document import RunInfo
        from reconciler.domain.lock import format_time

        actor = self._actor or _user(self._environment)
        shown = map(redact, redact_arguments(self._arguments))
        command = shlex.join(("reconcile", *shown)) if self._arguments else ""
        return RunInfo(
            time=format_time(self._started),
            command=_line(command, _MOST_COMMAND),
            reconciler=__version__,
            commit=self._commit if _COMMIT.fullmatch(self._commit) else "",
            branch=_line(redact(self._branch), _MOST_NAME),
            actor=_line(redact(actor), _MOST_NAME),
        )


def _line(text: str, most: int) -> str:
    """Return a text that others can choose on one line, without characters that steer a terminal or are invisible."""
    return terminal_safe(shorten(text, most))[:most]


def _of_ci(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the commit, the branch and the actor of a CI job, empty outside of one.

    For a pull request GitHub names the merge commit that it checked out, and the branch of the pull request.
    """
    for flag, *names in _CI_VARIABLES:
        if environ.get(flag) == "true":
            commit, branch, actor = (next(filter(None, map(environ.get, variables)), "") for variables in names)
            return commit, branch, actor
    return "", "", ""


def _user(environment: Environment) -> str:
    """Return the name of the user in the settings of the repository's git, or else that of the operating system."""
    from reconciler.paths import git_repository_of

    environ, name = environment.environ, ""
    if repository := git_repository_of(environment.cwd):
        from reconciler.manifests.git import Git

        name = Git(repository, environ).user_name()
    return name or next(filter(None, map(environ.get, _USER_VARIABLES)), "")


class _Command:
    """A command line with the environment that it was given, and its run once it has begun."""

    def __init__(self, arguments: Sequence[str], environment: Environment | None) -> None:
        self.arguments = arguments
        self.environment = environment
        self.run: Run | None = None


_CURRENT: ContextVar[_Command | None] = ContextVar("command", default=None)


@contextmanager
def command_line(arguments: Sequence[str], environment: Environment | None) -> Iterator[None]:
    """Make this the command of the run that begins inside."""
    token = _CURRENT.set(_Command(arguments, environment))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def begin_run(environment: Environment | None = None) -> Run:
    """Return the run of the current command, which begins with the first call; without a command line a new one."""
    from reconciler.environment import Environment

    command = _CURRENT.get()
    if command is None:
        return Run(environment or Environment())
    if command.run is None:
        command.run = Run(environment or command.environment or Environment(), command.arguments)
    return command.run
