"""Find manifests that a run does not read: a model whose manifest was not found may still be wanted.

Every file that may be a manifest counts: renamed, hidden, disabled or commented out, and what git records at HEAD or in
its index. The content is searched and not parsed, in time that is linear in the bounded number of bytes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from reconciler.domain.identity import NAME_PATTERN
from reconciler.domain.model import API_GROUP
from reconciler.domain.plan import Unread
from reconciler.domain.text import decode_unicode, sanitize
from reconciler.manifests.discovery import STDIN
from reconciler.manifests.git import Git, GitError, TreeFile
from reconciler.manifests.workspace import Workspace
from reconciler.manifests.yaml_parser import parse
from reconciler.paths import file_problem, git_repository_of, repository_of

MAX_BYTES: Final = 2**20
"""How much of a file is searched; a manifest is much smaller."""
MAX_TOTAL_BYTES: Final = 2**28
MAX_PATHS: Final = 200_000
"""Limits of one search; beyond them every model without a manifest is kept."""
_CANDIDATE: Final = re.compile(r".+\.(ya?ml|json)(\.(bak|orig|disabled|txt)|~)*", re.IGNORECASE | re.DOTALL)
_DECLARATION: Final = re.compile(r".+\.(ya?ml|json)", re.IGNORECASE | re.DOTALL)
_GIT_FOLDER: Final = ".git"
_NEXT_DOCUMENT: Final = re.compile(r"^[# \t]*---[ \t]*\r?$", re.MULTILINE)
_COMMENT: Final = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_API_VERSION: Final = re.compile(rf"""\bapiVersion["']?[ \t]*:[ \t]*["']?({re.escape(API_GROUP)}/|\{{[{{%])""")
_KIND: Final = re.compile(r"""\bkind["']?[ \t]*:[ \t]*["']?(\w+)""")
_WHOLE_NAME: Final = re.compile(
    rf"""(?<![\w-])(?P<quote>["']?)name(?P=quote)[ \t]*:[ \t]*(?P<open>["']?)(?P<name>{NAME_PATTERN})(?P=open)"""
    r"""(?=[ \t]*(?:[,}\]#\r\n]|\Z))"""
)
_EXPRESSION: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")
_TEMPLATED_NAME: Final = re.compile(
    rf"""(?<![\w-])name["']?[ \t]*:[ \t]*["']?(?P<name>[a-z0-9-]*(?:(?:{_EXPRESSION.pattern})[a-z0-9-]*)+)"""
    r"""(?P<whole>["']?[ \t]*(?:[,}\]#\r\n]|\Z))?"""
)
_FORMERLY: Final = re.compile(
    r"""\bformerly["']?[ \t]*:(?:[ \t]*\[[^\]]{0,1000}\]|(?:[ \t]*\r?\n[ \t#]*-[ \t]*[^\r\n]*)+)"""
)
_WORD: Final = re.compile(rf"""(?<![\w-]){NAME_PATTERN}(?![\w-])""")
_TUNED_MODEL: Final = "TunedModel"
_CONTENT: Final = re.compile(r"^[ \t]*(?!---)[^\s#]", re.MULTILINE)
"""A line that is neither empty nor a comment nor the start of a document."""
_MAX_PARSED: Final = 2**17


def find_unread(
    workspace: Workspace,
    recorded: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    shown_root: str = "",
    max_paths: int = MAX_PATHS,
) -> Unread:
    """Return the manifests below the root, and in git, that were not read, and the names that they may declare.

    ``recorded`` are the names in the lockfile, with the manifest's path relative to the root, which messages call
    ``shown_root``. No message quotes the content of a file. Files outside the repository are not searched.
    """
    search = _Search(workspace, shown_root)
    search.add_working_directory(max_paths)
    search.add_recorded(recorded)
    search.add_git(recorded, environ)
    return Unread(tuple(sorted(search.files)), search.names, search.unknown, templates=search.templates)


def declared_in(text: str) -> frozenset[str]:
    """Return the names, present and former, that the manifests in a text may declare; comment signs are ignored.

    Documents of other kinds, such as the reports of this project, declare none.
    """
    names: set[str] = set()
    for document in _NEXT_DOCUMENT.split(text) if API_GROUP in text or _TUNED_MODEL in text else ():
        kinds = {found[1] for found in _KIND.finditer(document)}
        if _API_VERSION.search(document) and (not kinds or _TUNED_MODEL in kinds):
            names |= {found["name"] for found in _WHOLE_NAME.finditer(document)}
            for formerly in _FORMERLY.finditer(document):
                names |= {word[0] for word in _WORD.finditer(formerly[0].partition(":")[2])}
    return frozenset(names)


def templates_in(text: str) -> frozenset[str]:
    """Return shell patterns of the names that templates of manifests in a text, such as Helm's, may declare."""
    patterns: set[str] = set()
    for document in _NEXT_DOCUMENT.split(text) if _TUNED_MODEL in text else ():
        if _API_VERSION.search(document):
            for found in _TEMPLATED_NAME.finditer(document):
                whole = found["whole"] is not None
                patterns.add("*".join(_EXPRESSION.split(found["name"])) if whole else "*")
    return frozenset(patterns)


def _declared_in_json(text: str) -> frozenset[str]:
    """Return the names that a JSON document declares; text in its values, such as examples, declares none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return declared_in(text)
    return frozenset(_declared_by(value))


def _declared_by(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        document = pending.pop()
        if isinstance(document, list):
            pending += document
            continue
        if not isinstance(document, dict):
            continue
        if document.get("kind") == "List":
            pending.append(document.get("items"))
        managed = str(document.get("apiVersion", "")).startswith(f"{API_GROUP}/")
        metadata = document.get("metadata")
        if managed and document.get("kind", _TUNED_MODEL) == _TUNED_MODEL and isinstance(metadata, dict):
            formerly = metadata.get("formerly")
            names = [metadata.get("name"), *(formerly if isinstance(formerly, list) else ())]
            yield from (name for name in names if isinstance(name, str))


class _Search:
    """Collects the names that unread files may declare, each with the reason for keeping its models."""

    def __init__(self, workspace: Workspace, shown_root: str) -> None:
        self.names: dict[str, str] = {}
        self.templates: dict[str, str] = {}
        self.files: set[str] = set()
        self.unknown = ""
        self._root = workspace.root
        self._shown_root = Path(shown_root)
        self._read = workspace.read_files
        self._declared = {name for manifest in workspace.manifests for name in manifest.names}
        self._repository = repository_of(workspace.root)
        self._bytes_left = MAX_TOTAL_BYTES

    def add_working_directory(self, max_paths: int) -> None:
        """Search every file below the root that may be a manifest, and the comments of those that were read."""
        for number, path in enumerate(_walk(self._root, self._repository)):
            if number == max_paths or self._bytes_left <= 0:
                self.unknown = f"{self._root} has too many files to search for its manifest"
                return
            if _CANDIDATE.fullmatch(path.name):
                self._add_file(path)

    def add_recorded(self, recorded: Mapping[str, str]) -> None:
        """Keep the names whose recorded file exists and does not show that the manifest was removed."""
        for name, file in recorded.items():
            path = self._root / file
            if file == STDIN:
                self._keep(name, "its manifest was read from standard input, which cannot be read again")
            if name in self.names or not os.path.lexists(path):
                continue
            text, shown = self._text(path), self._shown(file)
            if text is None:
                self._keep(name, f"{shown} cannot be read")
            elif name in declared_in(text):
                self._keep(name, f"{shown} is not read")
            elif not _CONTENT.search(text):
                self._keep(name, f"{shown} is empty")
            elif os.path.realpath(path) not in self._read:
                self._keep(name, f"{shown} {'has no manifest' if _is_parsed(text, file) else 'cannot be parsed'}")

    def add_git(self, recorded: Mapping[str, str], environ: Mapping[str, str]) -> None:
        """Keep the names that HEAD declares, and those in files that the index has and the disk does not."""
        repository = git_repository_of(self._root)
        if repository is None:
            return
        git = Git(repository.resolve(), environ)
        try:
            self._add_tree(git, recorded)
        except GitError as error:
            self.unknown = self.unknown or f"git cannot read HEAD, which may declare it ({error}; {error.remedy})"

    def _add_tree(self, git: Git, recorded: Mapping[str, str]) -> None:
        head = [file for file in git.head_files() if file.is_submodule or _DECLARATION.fullmatch(file.path)]
        index = [
            file
            for file in git.index_files()
            if (file.is_submodule or _CANDIDATE.fullmatch(file.path)) and self._is_absent(file)
        ]
        wanted = [(file, "{} is in git's index, and not on disk") for file in index if not file.is_submodule]
        wanted += [(file, "HEAD declares it in {}") for file in head if not file.is_submodule]
        texts = git.texts({file.blob for file, _ in wanted}, MAX_BYTES, self._bytes_left)
        inside = f"{os.path.relpath(os.path.realpath(self._root), self._repository)}/".removeprefix("./")
        for file, reason in wanted:
            text = texts.get(file.blob)
            if text is None and file.blob in texts:
                continue  # too large for a manifest
            path = file.path.removeprefix(inside)
            shown = self._shown(path) if file.path.startswith(inside) else path
            if text is None:
                unknown = f"git does not have the content of {shown}, which may declare it"
                self._keep_recorded(recorded, path, unknown)
                if file.path.startswith(inside) and self._is_absent(file):
                    self.unknown = self.unknown or unknown
                continue
            for name in _declared_in_file(file.path, text):
                self._keep(name, reason.format(shown))
        for file in {file.path: file for file in (*head, *index) if file.is_submodule}.values():
            if self._is_absent(file):
                path = file.path.removeprefix(inside)
                shown = self._shown(path) if file.path.startswith(inside) else path
                self._keep_recorded(recorded, path, f"the submodule {shown} is not on disk")

    def _is_absent(self, file: TreeFile) -> bool:
        path = self._repository / file.path
        return not (path / _GIT_FOLDER).exists() if file.is_submodule else not os.path.lexists(path)

    def _keep_recorded(self, recorded: Mapping[str, str], path: str, reason: str) -> None:
        """Keep the names whose manifest was at this path, or below it."""
        for name, file in recorded.items():
            normal = os.path.normpath(file)
            if normal == path or normal.startswith(f"{path}/"):
                self._keep(name, reason)

    def _add_file(self, path: Path) -> None:
        text = self._text(path)
        if text is None or not (API_GROUP in text or _TUNED_MODEL in text):
            return
        shown = self._shown(str(path.relative_to(self._root)))
        if os.path.realpath(path) in self._read:
            comments = "\n".join(found[0] for found in _COMMENT.finditer(text))
            names, reason = declared_in(comments), f"{shown} declares it in a comment"
        else:
            names, reason = _declared_in_file(path.name, text), f"{shown} is not read"
            for pattern in (templates := templates_in(text)):
                self.templates.setdefault(pattern, f"{shown} is a template, which may declare it")
            if templates:
                self.files.add(shown)
        for name in names:
            self._keep(name, reason)
        if names - self._declared:  # a copy of a manifest that is read is of no interest
            self.files.add(shown)

    def _shown(self, path: str) -> str:
        """Return a path below the root as messages show it."""
        return sanitize((self._shown_root / path).as_posix())

    def _keep(self, name: str, reason: str) -> None:
        self.names.setdefault(name, reason)

    def _text(self, path: Path) -> str | None:
        """Return the beginning of a file of the repository as text; ``None`` if it cannot be read."""
        try:
            if file_problem(path, self._repository):
                return None
            with path.open("rb") as stream:
                data = stream.read(MAX_BYTES)
        except OSError:
            return None
        self._bytes_left -= len(data)
        return decode_unicode(data)


def _declared_in_file(path: str, text: str) -> frozenset[str]:
    return _declared_in_json(text) if ".json" in path.lower() else declared_in(text)


def _is_parsed(text: str, file: str) -> bool:
    """Return whether a text is YAML; a large one is not parsed, and does not count as YAML."""
    return len(text) <= _MAX_PARSED and not parse(text.encode("utf-8", "replace"), file).problems


def _walk(root: Path, repository: Path) -> Iterator[Path]:
    """Yield the files below a folder, also hidden ones and those behind links inside the repository."""
    pending, seen = [(root, os.path.realpath(root))], {os.path.realpath(root)}
    while pending:
        folder, real = pending.pop()
        try:
            children = sorted(os.scandir(folder), key=lambda found: found.name)
        except OSError:
            continue
        for child in children:
            if child.name == _GIT_FOLDER:
                continue
            path = folder / child.name
            if not child.is_dir():
                yield path
                continue
            target = os.path.realpath(path) if child.is_symlink() else f"{real}/{child.name}"
            if target not in seen and Path(target).is_relative_to(repository):
                seen.add(target)
                pending.append((path, target))
