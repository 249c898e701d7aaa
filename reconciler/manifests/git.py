"""Read files from git objects without fetching, changing the repository, or running hooks or filters."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from shlex import quote
from tempfile import TemporaryFile
from typing import IO, Final

from msgspec import Struct

from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.lock import MAX_LOCKFILE_BYTES
from reconciler.domain.text import decode_unicode, sanitize
from reconciler.paths import repository_of

_TIMEOUT_SECONDS: Final = 60
FETCH_ALL: Final = (
    "fetch it: `git fetch --unshallow origin '+refs/heads/*:refs/remotes/origin/*'` (actions/checkout: fetch-depth: 0)"
)
_CHUNK: Final = 2**20
_SUFFIX: Final = re.compile(r"[~^:]|@\{")
"""Ends the name of a ref in an expression such as ``main~2``."""
_ABBREVIATION: Final = re.compile(r"[0-9a-f]{4,39}", re.IGNORECASE)
_BLOB: Final = re.compile(rb"(?P<name>[0-9a-f]{40,64}) blob (?P<size>\d{1,18})")
_SUBMODULE: Final = b"160000 "
_INHERITED: Final = (
    "PATH",
    "HOME",
    "USERPROFILE",
    "SYSTEMROOT",
    "XDG_CONFIG_HOME",
    "GIT_EXEC_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
)
"""Environment variables that git needs to find itself and its settings, such as ``safe.directory``; no secrets."""
_FIXED: Final = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    # Without this, a partial clone fetches missing objects over any transport that its configuration names.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_REPLACE_OBJECTS": "1",  # what was reviewed counts, not what a reference puts in its place
}
_OPTIONS: Final = (
    "--no-pager",
    "--no-optional-locks",
    "--literal-pathspecs",
    # A pull request could contain a directory that looks like a bare repository, with its own configuration.
    *("-c", "safe.bareRepository=explicit"),
)


_REFUSALS: Final = (
    (
        re.compile(r"dubious ownership in repository at '(?P<path>[^']+)'|unsafe repository \('(?P<old>[^']+)'"),
        "{trust}",
    ),
    (
        re.compile(r"not a git repository"),
        "make the directory that .git names available too: a linked worktree or submodule needs its main repository",
    ),
    (re.compile(r"repo(sitory)? (version|extension)|unknown ref storage"), "install a newer version of git"),
    (re.compile(r"Permission denied"), "run as the owner of the repository, or allow reading .git"),
)
"""Reasons of git for not reading a repository, and what to do; the first match counts."""


class GitError(Exception):
    """Git is not installed, cannot read the repository, does not have an object, or timed out."""

    def __init__(self, reason: str = "git cannot read this repository", remedy: str = "use a complete clone") -> None:
        super().__init__(reason)
        self.remedy = remedy


class IncomparableError(Exception):
    """A base commit that HEAD cannot be compared with: the reason, and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy

    @property
    def advice(self) -> str:
        """The reason and the remedy as one text."""
        return f"{self}; {self.remedy}"


class Blob(Struct, frozen=True):
    """The content of a file at a commit: its object name and its size in bytes."""

    name: str
    size: int


class TreeFile(Struct, frozen=True):
    """A file of a commit or of the index, or a submodule, whose ``blob`` is a commit of another repository."""

    path: str
    blob: str
    is_submodule: bool


class Git:
    """The repository in this directory; paths are relative to it, with forward slashes.

    Only plumbing commands are used: no setting makes them start pagers, hooks, filters or diff tools. All methods raise
    GitError.
    """

    def __init__(self, repository: Path, environ: Mapping[str, str]) -> None:
        self.repository = repository
        self._command = ("git", "-C", str(repository), *_OPTIONS)
        inherited = {name: environ[name] for name in _INHERITED if name in environ}
        self._environ = {**inherited, **_FIXED, "GIT_CEILING_DIRECTORIES": str(repository.parent)}

    def commits(self, paths: Sequence[str], limit: int) -> tuple[str, ...]:
        """Return up to ``limit`` ancestors of HEAD that change one of these paths, newest first."""
        output = self._run("rev-list", "--full-history", f"--max-count={limit}", "HEAD", "--", *paths)
        return tuple(output.decode().split())

    def first_parents(self, limit: int) -> tuple[tuple[str, int], ...]:
        """Return HEAD and up to ``limit`` of its first ancestors with the seconds of their commit, newest first."""
        output = self._run("rev-list", "--first-parent", "--timestamp", f"--max-count={limit}", "HEAD").decode()
        pairs = (line.split() for line in output.splitlines())
        return tuple((name, int(seconds)) for seconds, name in pairs)

    def has_file(self, commit: str, path: str) -> bool:
        """Return whether a commit lists this path, even if the clone does not contain the content."""
        return bool(self._run("ls-tree", "-z", "--full-tree", commit, "--", path))

    def blobs(self, commits: Sequence[str], paths: Sequence[str]) -> Iterator[Mapping[str, Blob]]:
        """Yield for each commit which of these paths, without line breaks, are files in it."""
        names = "".join(f"{commit}:{path}\n" for commit in commits for path in paths)
        lines = self._run("cat-file", "--batch-check", stdin=names.encode()).splitlines()
        if len(lines) != len(commits) * len(paths):
            raise GitError
        matches = map(_BLOB.fullmatch, lines)
        for _ in commits:
            found = zip(paths, matches, strict=False)
            yield {path: Blob(match["name"].decode(), int(match["size"])) for path, match in found if match}

    def is_shallow(self) -> bool:
        """Return whether the repository is a shallow clone."""
        return self._run("rev-parse", "--is-shallow-repository").strip() == b"true"

    def head(self) -> str:
        """Return the content that HEAD has where references are files: a reference to a branch, or a commit."""
        try:
            return f"ref: {self._run('symbolic-ref', '--quiet', 'HEAD').decode().strip()}"
        except GitError:
            return self.commit("HEAD")

    def user_name(self) -> str:
        """Return the name of the user in git's settings, empty if there is none."""
        try:
            return self._run("config", "--get", "user.name").decode(errors="replace").strip()
        except GitError:
            return ""

    def commit(self, ref: str) -> str:
        """Return the commit of a branch, a tag or another revision."""
        if ref.startswith("-"):
            raise GitError
        return self._run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()

    def names(self, ref: str) -> tuple[str, ...]:
        """Return the full names that a short name can mean, as in gitrevisions(7); git takes the first of them.

        An abbreviated hash that is a name, too, also means the objects with this hash.
        """
        name = _SUFFIX.split(ref, maxsplit=1)[0]
        if name.startswith("refs/"):
            return (name,)
        places = ("", "tags/", "heads/", "remotes/")
        names = [*(f"refs/{place}{name}" for place in places), f"refs/remotes/{name}/HEAD"]
        existing = self._run("for-each-ref", "--format=%(refname)", *names).decode().splitlines()
        found = [full_name for full_name in names if full_name in existing]
        if found and _ABBREVIATION.fullmatch(name):
            found += self._run("rev-parse", f"--disambiguate={name}").decode().split()
        return tuple(found)

    def conversions(self, paths: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return the paths that git converts when it checks them out, each with the attribute that asks for it.

        Line ends are not among them: they mean the same in every format that is read.
        """
        output = self._run("check-attr", "-z", "filter", "working-tree-encoding", "ident", "--", *paths)
        fields = [os.fsdecode(value) for value in output.split(b"\0")[:-1]]
        triples = zip(fields[::3], fields[1::3], fields[2::3], strict=True)
        return tuple((path, attribute) for path, attribute, value in triples if value not in {"unspecified", "unset"})

    def merge_base(self, ref: str, other: str) -> str:
        """Return the best common ancestor of two revisions."""
        if ref.startswith("-"):
            raise GitError
        return self._run("merge-base", f"{ref}^{{commit}}", other).decode().split()[0]

    def files(self, commit: str, directory: str) -> tuple[str, ...]:
        """Return the paths of all files in a directory of a commit; ``.`` is the top."""
        pathspec = () if directory == "." else (f"{directory}/",)
        output = self._run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "--", *pathspec)
        return tuple(os.fsdecode(name) for name in output.split(b"\0") if name)

    def submodules(self, commit: str, paths: Collection[str]) -> frozenset[str]:
        """Return which of these paths are submodules in a commit."""
        if not paths:
            return frozenset()
        output = self._run("ls-tree", "-z", "--full-tree", commit, "--", *sorted(paths))
        return frozenset(file.path for file in _tree_files(output, blob=2) if file.is_submodule)

    def common_directory(self) -> Path:
        """Return git's directory, which linked worktrees share."""
        return self.repository / os.fsdecode(self._run("rev-parse", "--git-common-dir").rstrip(b"\n"))

    def head_files(self) -> tuple[TreeFile, ...]:
        """Return all files and submodules of HEAD; none before the first commit."""
        try:
            return _tree_files(self._run("ls-tree", "-r", "-z", "--full-tree", "HEAD"), blob=2)
        except GitError:
            self.is_shallow()  # distinguishes a repository without commits from one that cannot be read
            try:
                self.commit("HEAD")
            except GitError:
                return ()
            raise

    def index_files(self) -> tuple[TreeFile, ...]:
        """Return all files and submodules of the index."""
        return _tree_files(self._run("ls-files", "--stage", "-z"), blob=1)

    def texts(self, blobs: Collection[str], max_bytes: int, total: int) -> dict[str, str | None]:
        """Return the texts of blobs, ``None`` for those over ``max_bytes``; missing blobs have no entry.

        Raises GitError, before anything is read, if all together are over ``total``.
        """
        names = "".join(f"{blob}\n" for blob in sorted(blobs))
        lines = self._run("cat-file", "--batch-check", stdin=names.encode()).splitlines()
        found = [match for match in map(_BLOB.fullmatch, lines) if match]
        sizes = {match["name"].decode(): int(match["size"]) for match in found}
        small = {blob: size for blob, size in sizes.items() if size <= max_bytes}
        if sum(small.values()) > total:
            raise GitError
        texts: dict[str, str | None] = dict.fromkeys(sizes)
        for blob, content in self.contents([Blob(name, size) for name, size in small.items()]):
            texts[blob.name] = decode_unicode(content)
        return texts

    def save_all(self, blobs: Mapping[Path, Blob]) -> None:
        """Write each blob to a new file, with one call of git."""
        for (file, blob), stream in zip(blobs.items(), self._streams(blobs.values()), strict=True):
            with file.open("xb") as saved:
                _copy(stream, saved, blob.size)

    def contents(self, blobs: Collection[Blob]) -> Iterator[tuple[Blob, bytes]]:
        """Yield the blobs with their contents, with one call of git."""
        for blob, stream in zip(blobs, self._streams(blobs), strict=True):
            yield blob, stream.read(blob.size)

    def _streams(self, blobs: Collection[Blob]) -> Iterator[IO[bytes]]:
        """Yield a stream at the begin of each blob, which must be read to its end."""
        if not blobs:
            return
        names = "".join(f"{blob.name}\n" for blob in blobs)
        with TemporaryFile() as stream:
            self._run("cat-file", "--batch", stdin=names.encode(), stdout=stream)
            stream.seek(0)
            for blob in blobs:
                header = _BLOB.fullmatch(stream.readline().rstrip(b"\n"))
                if header is None or int(header["size"]) != blob.size:
                    raise GitError
                yield stream
                stream.read(1)

    def content(self, blob: Blob) -> bytes:
        """Return the content of the blob."""
        return self._run("cat-file", "blob", blob.name)

    def save(self, blob: Blob, file: Path) -> None:
        """Write the blob to a new file."""
        with file.open("xb") as stream:
            self._run("cat-file", "blob", blob.name, stdout=stream)

    def _run(self, *arguments: str, stdin: bytes = b"", stdout: IO[bytes] | int = subprocess.PIPE) -> bytes:
        try:
            completed = subprocess.run(  # noqa: S603 - no shell; untrusted values are after -- or in the input
                [*self._command, *arguments],
                input=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=self._environ,
                timeout=_TIMEOUT_SECONDS,
                check=True,
            )
        except FileNotFoundError:
            raise GitError("git is not installed", "install git") from None
        except subprocess.CalledProcessError as error:
            raise self._refusal(error.stderr.decode("utf-8", "replace")) from error
        except subprocess.TimeoutExpired as error:
            raise GitError(f"git did not end within {_TIMEOUT_SECONDS} s", "run the command again") from error
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise GitError from error
        return completed.stdout or b""

    def _refusal(self, output: str) -> GitError:
        """Return git's own reason, with what to do."""
        lines = [line for line in output.splitlines() if line.startswith(("fatal: ", "error: "))]
        if not lines:
            return GitError()
        reason = f"git cannot read this repository: {sanitize(lines[-1].partition(' ')[2])}"
        for pattern, remedy in _REFUSALS:
            if found := pattern.search(output):
                named = found.groupdict()
                return GitError(reason, remedy.format(trust=self._trust(named.get("path") or named.get("old") or "")))
        return GitError(reason, f"run `git -C {quote(str(self.repository))} status` and fix what git reports")

    def _trust(self, repository: str) -> str:
        """Return how to trust a repository of another user; without a home directory, only the system's file counts."""
        home = self._environ.get("GIT_CONFIG_GLOBAL") or self._environ.get("HOME") or self._environ.get("USERPROFILE")
        scope = "--global" if home and Path(home).exists() else "--system"
        command = f"git config {scope} --add safe.directory {quote(repository)}"
        return f"if you trust its owner, run `{command}`"


def _tree_files(output: bytes, blob: int) -> tuple[TreeFile, ...]:
    """Parse entries of ls-tree or ls-files; ``blob`` is the position of the object name before the path."""
    lines = (line.partition(b"\t") for line in output.split(b"\0") if line)
    return tuple(
        TreeFile(os.fsdecode(path), head.split()[blob].decode(), head.startswith(_SUBMODULE)) for head, _, path in lines
    )


def _copy(source: IO[bytes], destination: IO[bytes], size: int) -> None:
    while size:
        chunk = source.read(min(size, _CHUNK))
        if not chunk:
            raise GitError
        destination.write(chunk)
        size -= len(chunk)


class BaseFile(Struct, frozen=True):
    """A file at a base commit, and at HEAD; ``None`` where it did not exist."""

    content: bytes | None
    head: bytes | None


def files_at_base(
    ref: str, commit: str, folder: Path, files: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, BaseFile]:
    """Return files of a folder, by name, as they were at ``commit``, the base of ``ref``, and as committed at HEAD.

    ``files`` has for each name its path in the repository at the base. Raises IncomparableError if git, the repository
    or a content is missing, or a file is too large.
    """
    git, directory = open_repository(folder, environ)
    paths = {name: posixpath.normpath(posixpath.join(directory, name)) for name in files}
    try:
        at_base, at_head = git.blobs((commit, "HEAD"), (*files.values(), *paths.values()))
        found = {name: (at_base.get(before), at_head.get(paths[name])) for name, before in files.items()}
        for name, blobs in found.items():
            if any(blob and blob.size > MAX_LOCKFILE_BYTES for blob in blobs):
                raise IncomparableError(
                    f"{name} is larger than {MAX_LOCKFILE_BYTES} bytes at {ref} or at HEAD", "remove --base"
                )
        contents = dict(git.contents({blob for blobs in found.values() for blob in blobs if blob}))
        return {
            name: BaseFile(contents[base] if base else None, contents[head] if head else None)
            for name, (base, head) in found.items()
        }
    except GitError:
        raise missing_files(ref) from None


def open_repository(root: Path, environ: Mapping[str, str]) -> tuple[Git, str]:
    """Return the repository of a directory, and the path of the directory in it; raises IncomparableError."""
    repository = repository_of(root)
    if not (repository / ".git").exists():
        raise IncomparableError(f"{root} is not in a git repository", "use a clone, or remove --base")
    real = Path(os.path.realpath(root))
    if not real.is_relative_to(repository):
        raise IncomparableError(f"{root} is outside its git repository", "remove the symbolic link")
    return Git(repository, environ), real.relative_to(repository).as_posix()


def missing_files(ref: str) -> IncomparableError:
    """Return the error for a clone without the files of a commit."""
    return IncomparableError(
        f"this clone does not contain all files of {ref}",
        "fetch them, in a partial clone with `git fetch --refetch --no-filter`",
    )


def resolve_base(git: Git, ref: str) -> str:
    """Return the merge base of a ref and HEAD: a pull request is compared with the state from which it branched.

    Raises:
        UsageError: if the commit does not exist, has no ancestor in common with HEAD, or a tag has its name.
        IncomparableError: if git or the commit is missing.
    """
    if not ref.strip():
        unshallow = f"; `git merge-base` prints nothing in a shallow clone: {FETCH_ALL}" if _is_shallow(git) else ""
        raise UsageError("--base is empty", f"pass a branch, a tag or a commit{unshallow}")
    try:
        base = git.merge_base(ref, "HEAD")
    except GitError:
        base = ""
        _require_commit(git, ref)
    if len(names := git.names(ref)) > 1:
        raise UsageError(
            f"--base {ref}: ambiguous: {' and '.join(names)} exist", f"pass a full name or hash, such as {names[-1]}"
        )
    if base:
        return base
    if _is_shallow(git):
        raise IncomparableError(
            f"this clone is shallow and does not contain the common ancestor of {ref} and HEAD", FETCH_ALL
        )
    raise UsageError(
        f"--base {ref}: no ancestor in common with HEAD", "pass the branch that this one will be merged into"
    )


def _require_commit(git: Git, ref: str) -> None:
    try:
        git.commit(ref)
    except GitError:
        if _is_shallow(git):
            raise IncomparableError(f"this clone is shallow and does not contain {ref}", FETCH_ALL) from None
        raise UsageError(
            f"--base {ref}: no such commit in this repository", "pass a branch, a tag or a commit, and fetch it first"
        ) from None


def _is_shallow(git: Git) -> bool:
    try:
        return git.is_shallow()
    except GitError as error:
        raise IncomparableError(str(error), error.remedy) from None


_MOST_VERSIONS: Final = 100


def last_version(file: Path, environ: Mapping[str, str], is_valid: Callable[[bytes], bool]) -> str | None:
    """Return the newest commit in which a file is valid, ``HEAD`` or an ancestor; ``None`` without one or git."""
    try:
        git, folder = open_repository(file.parent, environ)
        path = (PurePosixPath(folder) / file.name).as_posix()
        commits = ("HEAD", *git.commits((path,), _MOST_VERSIONS))
        for commit, blobs in zip(commits, git.blobs(commits, (path,)), strict=True):
            if (blob := blobs.get(path)) and blob.size <= MAX_LOCKFILE_BYTES and is_valid(git.content(blob)):
                return commit
    except (GitError, IncomparableError):
        return None
    return None


_STAGES: Final = (":1", ":2", ":3")
"""The common ancestor, our side and their side; see gitrevisions(7)."""


class Unmerged(Struct, frozen=True):
    """Both sides of a conflict as they were committed; ``base`` is ``None`` without a common ancestor."""

    base: str | None
    ours: str
    theirs: str


def unmerged(file: Path, environ: Mapping[str, str]) -> Unmerged | None:
    """Return both sides of a file with a merge conflict; ``None`` if there is none, or one side has no such file.

    Also ``None`` if git is missing or the file is not UTF-8.
    """
    real = Path(os.path.realpath(file))
    repository = repository_of(real.parent)
    path = real.relative_to(repository).as_posix()
    if not (repository / ".git").exists() or "\n" in path:
        return None
    git = Git(repository, environ)
    try:
        found = [blobs.get(path) for blobs in git.blobs(_STAGES, (path,))]
        if any(blob and blob.size > MAX_LOCKFILE_BYTES for blob in found):
            raise ReconcileError(
                f"{file}: one side of the merge is larger than {MAX_LOCKFILE_BYTES} bytes, the limit for lockfiles",
                f"choose one side with git, git add {file}, then run reconcile refresh",
            )
        contents = {blob: content.decode() for blob, content in git.contents(list(filter(None, found)))}
        base, ours, theirs = (contents[blob] if blob else None for blob in found)
    except (GitError, UnicodeDecodeError):
        return None
    return None if ours is None or theirs is None else Unmerged(base, ours, theirs)
