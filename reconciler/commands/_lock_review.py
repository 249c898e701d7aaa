"""Compare the lockfile of a project with that of a base commit, and place each change in the file."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from reconciler.commands._project import CommandInput, Project, read_workspace
from reconciler.commands._session import display_path
from reconciler.domain.errors import Place, Problem, ReconcileError, Severity
from reconciler.domain.lock import Lock
from reconciler.domain.model import REMOTE_SCHEME, Manifest
from reconciler.domain.target_option import for_target
from reconciler.domain.text import shorten
from reconciler.manifests.discovery import STDIN, Selection, absolute, target_file_name
from reconciler.manifests.git import (
    BaseFile,
    GitError,
    IncomparableError,
    files_at_base,
    missing_files,
    open_repository,
    resolve_base,
)
from reconciler.manifests.provider_fields import mapping
from reconciler.manifests.yaml_parser import parse
from reconciler.paths import git_repository_of
from reconciler.planning.datasets import with_dataset_versions
from reconciler.planning.events import Withheld
from reconciler.planning.hidden_examples import redact_lock
from reconciler.planning.lock_review import (
    LockChange,
    requested_serving,
    review_lock,
    withheld_in_stages,
    withheld_promotions,
)
from reconciler.reports.documents.plan import DataBase, LockfileChange, PlanReport
from reconciler.state.json_decoder import find_positions, show_path
from reconciler.state.lockfile import LockFile, loads
from reconciler.state.published_pointer import PublishedModel, read_pointer, serving_keys

if TYPE_CHECKING:
    from reconciler.commands._rollout import Publisher

_SHOWN: Final = 120
"""Characters of a value that a message shows."""


class PlacedChange(Struct, frozen=True):
    """A change of the lockfile and its place."""

    change: LockChange
    place: Place


class LockReview(Struct, frozen=True):
    """The changes of a lockfile since the merge base of ``ref`` and HEAD that need an explanation or a review.

    ``serving`` are the generations by manifest that the changed lockfile has as serving, and ``withheld`` those of them
    that a run promotes itself, after their checks.
    """

    ref: str
    commit: str
    changes: tuple[PlacedChange, ...]
    serving: Mapping[str, str]
    withheld: tuple[Withheld, ...]

    def unexplained(self) -> tuple[Problem, ...]:
        """Return a problem for each changed fact that no manifest explains."""
        problems = self.problems(allow_decisions=True)
        return tuple(problem for problem in problems if problem.severity == "error")

    def described(self, report: PlanReport) -> PlanReport:
        """Return the report of a plan with the changes of the lockfile."""
        return replace(report, unexplained=self.rows("fact"), **self.compared)

    @property
    def compared(self) -> dict[str, Any]:
        """The base commit and the changed decisions, as fields of reports."""
        return {"base": DataBase(self.ref, self.commit), "decisions": self.rows("decision")}

    def problems(self, *, allow_decisions: bool) -> Iterator[Problem]:
        """Yield a problem for each change; changed decisions are warnings if they are allowed."""
        for placed in self.changes:
            change = placed.change
            is_fact = change.kind == "fact"
            severity: Severity = "warning" if allow_decisions and not is_fact else "error"
            yield Problem(placed.place, show_path(change.path), change_text(change), self._remedy(change), severity)

    def _remedy(self, change: LockChange) -> str:
        if change.field == _ROOT:
            return "move it back, or pass --allow-decisions after a review"
        if change.field == "pointer":
            return f"restore the file of {self.ref}"
        if change.field == "file":
            return "remove the attribute from .gitattributes, or the link"
        if change.kind == "fact":
            record = for_target("reconcile apply --train-only and reconcile wait")
            return f"restore the value of {self.ref}; {record} record trainings"
        return f"restore the value of {self.ref}, or pass --allow-decisions after a review"

    def rows(self, kind: str) -> tuple[LockfileChange, ...]:
        """Return the changed ``decision``s, or the unexplained ``fact``s, as rows of a plan."""
        return tuple(
            LockfileChange(
                name=change.name,
                field=change.field,
                before=change.before,
                after=change.after,
                key=change.key,
                remote=change.remote,
                reason=change.reason,
                file=placed.place.file,
                line=placed.place.line,
                column=placed.place.column,
            )
            for placed in self.changes
            if (change := placed.change).kind == kind
        )


def change_text(change: LockChange) -> str:
    """Return a change in words: the old and new value, the remote model, and what is wrong."""
    generation = f" (generation {change.key}{f', {change.remote}' if change.remote else ''})" if change.key else ""
    reason = f": {change.reason}" if change.reason else ""
    values = f"{_shown(change.before)} → {_shown(change.after)}"
    return f"changed {change.kind} {change.field}: {values}{generation}{reason}"


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return json.dumps(shorten(value, _SHOWN) if isinstance(value, str) else value, ensure_ascii=False)


def review_project(project: Project, ref: str) -> LockReview:
    """Return how the lockfile of a project differs from that at the merge base of ``ref`` and HEAD.

    Raises:
        UsageError: when git has no commit ``ref``.
        IncomparableError: when the commit or its lockfile cannot be read, or the lockfile is in a bucket.
    """
    session = project.session
    environ = session.environment.environ
    root = _root_at_base(project, ref)
    files = root.files(session.root, (session.lockfile.name, target_file_name(session.target.name)), environ)
    addresses = (*_root_change(project, root), *_address_changes(project, files))
    if project.target.lock and not addresses:
        raise IncomparableError("it is in a bucket", "remove --base")
    if project.target.lock:
        return LockReview(ref, root.commit, addresses, {}, ())
    found = files[session.lockfile.name]
    try:
        base = Lock() if found.content is None else loads(found.content, f"{project.lockfile} at {ref}")
    except ReconcileError as error:
        raise IncomparableError(error.message, "remove --base, or pass a commit with a valid lockfile") from error
    head = project.lock
    if not project.target.show_examples:
        base, head = redact_lock(base), redact_lock(head)
    changes = review_lock(
        base,
        head,
        _all_manifests(project),
        project.target,
        chosen_ids=project.capabilities.caller_chosen_ids,
        now=session.environment.clock(),
    )
    text = LockFile(session.lockfile).read() or "{}"  # a store can return a text without examples, on other lines
    positions = find_positions(text, [change.path for change in changes])
    placed = (PlacedChange(change, Place(project.lockfile, *positions[change.path])) for change in changes)
    return LockReview(
        ref,
        root.commit,
        (*placed, *addresses, *_pointer_changes(project, root), *_disguised_files(project)),
        requested_serving(base, head, project.manifests),
        (
            *withheld_promotions(base, head, project.manifests),
            *withheld_in_stages(base, head, project.manifests, project.target),
        ),
    )


class _Root(Struct, frozen=True):
    """The root of a project at the base commit of a ref and at HEAD, as directories of the repository."""

    ref: str
    commit: str
    base: str
    head: str

    def files(self, folder: Path, names: Iterable[str], environ: Mapping[str, str]) -> dict[str, BaseFile]:
        """Return files of a folder at the base commit, where they were in the root, and at HEAD."""
        return files_at_base(self.ref, self.commit, folder, {name: self.path(name) for name in names}, environ)

    def path(self, relative: str) -> str:
        """Return the path in the repository at the base of a file, whose path is relative to the root."""
        return _joined(self.base, relative)


def _root_at_base(project: Project, ref: str) -> _Root:
    """Return the root that the same command would have had at the merge base; that of HEAD if the target is new.

    Without this, a pull request could move the target file to get a lockfile without a base.
    """
    session = project.session
    environ = session.environment.environ
    git, head = open_repository(session.root, environ)
    commit = resolve_base(git, ref)
    name = target_file_name(session.target.name)
    try:
        files = git.files(commit, ".")
        elsewhere: set[tuple[str, str]] = set()
        for marker in (name, session.lockfile.name):
            found = {posixpath.dirname(file) or "." for file in files if posixpath.basename(file) == marker}
            above = (next(filter(found.__contains__, _upwards(path)), None) for path in (*_directories(project), head))
            nearest = {directory for directory in above if directory}
            if nearest:
                return _Root(ref, commit, min(nearest - {head}, default=head), head)
            elsewhere |= {(directory, marker) for directory in found}
        kept = frozenset(git.files("HEAD", ".")) if elsewhere else frozenset()
    except GitError:
        raise missing_files(ref) from None
    gone = sorted({directory for directory, marker in elsewhere if _joined(directory, marker) not in kept})
    if len(gone) > 1:
        listed = " and ".join(_joined(directory, name) for directory in gone)
        raise IncomparableError(
            f"{_joined(head, name)} is new, and {listed} are gone", "move or remove one of them in each pull request"
        )
    return _Root(ref, commit, gone[0] if gone else head, head)


def _joined(directory: str, relative: str) -> str:
    return posixpath.normpath(posixpath.join(directory, relative))


def _directories(project: Project) -> Iterator[str]:
    """Yield the directories of the paths on the command line, in the repository; links are not followed."""
    cwd = project.session.environment.cwd
    for given in project.input.paths or (STDIN,):
        path = cwd if given == STDIN else absolute(given, cwd)
        directory = path if path.is_dir() else path.parent
        repository = git_repository_of(directory)
        if repository:
            yield directory.relative_to(repository).as_posix()


def _upwards(directory: str) -> Iterator[str]:
    path = PurePosixPath(directory)
    yield from map(str, (path, *path.parents))


def _root_change(project: Project, root: _Root) -> Iterator[PlacedChange]:
    """Yield the move of the target file: decisions can be in another lockfile then."""
    if root.base == root.head:
        return
    name = target_file_name(project.target.name)
    change = LockChange(
        kind="decision",
        name="",
        path=(_ROOT,),
        field=_ROOT,
        before=root.base,
        after=root.head,
        reason=f"the target file moved from {root.path(name)} to {_joined(root.head, name)}",
    )
    yield PlacedChange(change, Place(project.target.file or project.lockfile, 1, 1))


_ROOT: Final = "root"
_ADDRESSES: Final = ("lock", "publish")
"""The fields of a target that say where decisions are recorded and published."""


def _address_changes(project: Project, files: Mapping[str, BaseFile]) -> Iterator[PlacedChange]:
    """Yield the changed addresses of the lockfile and the pointers; those of a new target or stage are not changes."""
    session, target = project.session, project.target
    file = session.root / target_file_name(target.name)
    if not file.is_file():
        return  # the built-in target
    before = _spec_at(files[file.name].content, target.file)
    document = next(iter(parse(file.read_bytes(), target.file).documents), None)
    if before is None or document is None:
        return
    after = mapping(document.value.get("spec"))
    known = {name: stage.get("publish") for name, stage in _stages(before).values()}
    changes: list[tuple[tuple[str | int, ...], str, Any, Any]] = [
        (("spec", field), field, before.get(field), after.get(field)) for field in _ADDRESSES
    ]
    for index, (name, stage) in _stages(after).items():
        new = stage.get("publish")
        changes.append((("spec", "stages", index, "publish"), f"stages.{name}.publish", known.get(name, new), new))
    for path, field, old, new in changes:
        if old != new:
            change = LockChange(kind="decision", name="", path=path, field=field, before=_text(old), after=_text(new))
            yield PlacedChange(change, document.place(path))


def _stages(spec: Mapping[str, Any]) -> dict[int, tuple[str, Mapping[str, Any]]]:
    """Return the stages in the spec of a target file, which can be invalid, by index, with their names."""
    declared = spec.get("stages")
    stages = [*map(mapping, declared)] if isinstance(declared, list) else []
    return {index: (str(stage.get("name")), stage) for index, stage in enumerate(stages)}


def _spec_at(content: bytes | None, shown: str) -> Mapping[str, Any] | None:
    """Return the spec of a target file, ``None`` if there is no valid one."""
    document = next(iter(parse(content, shown).documents), None) if content else None
    spec = document.value.get("spec") if document and isinstance(document.value, dict) else None
    return spec if isinstance(spec, dict) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _pointer_changes(project: Project, root: _Root) -> Iterator[PlacedChange]:
    """Yield the change of each pointer in the repository, unless it is what the lockfile publishes.

    A committed rollback changes both; the changed ``published`` of the lockfile is the decision to review then.
    """
    from reconciler.commands._rollout import publisher_of

    session = project.session
    for publisher in publisher_of(project).each:
        publish = publisher.address
        if not publish or publish.startswith(REMOTE_SCHEME):
            continue
        path = absolute(publish, session.root)
        environ, before = session.environment.environ, {path.name: root.path(publish)}
        found = files_at_base(root.ref, root.commit, path.parent, before, environ)[path.name]
        if found.content == found.head or _is_published(project, publisher, found):
            continue
        change = LockChange(
            kind="fact",
            name="",
            path=("pointer",),
            field="pointer",
            before=_digest(found.content),
            after=_digest(found.head),
            reason="a pull request does not change the published pointer; reconcile apply writes it after the merge",
        )
        yield PlacedChange(change, Place(display_path(path, session.environment.cwd), 1, 1))


def _is_published(project: Project, publisher: Publisher, found: BaseFile) -> bool:
    """Whether the pointer at HEAD is what the lockfile publishes."""
    lock = project.lock.in_stage(publisher.recorded_stage)
    recorded = {name: model.published for name, model in lock.models.items() if model.published}
    if recorded != serving_keys(lock) or found.head is None:
        return False
    published = _published(found.content, project, publisher.stage)
    return found.head == publisher.text(project.lock, published).encode()


def _disguised_files(project: Project) -> Iterator[PlacedChange]:
    """Yield the lockfile, target and manifests whose committed text, which is reviewed, is not the one that is read."""
    session, workspace = project.session, project.workspace
    root, cwd = session.root, session.environment.cwd
    files = [session.lockfile, root / target_file_name(project.target.name)]
    files += [root / manifest.file for manifest in workspace.manifests if manifest.place.file != STDIN]
    git, directory = open_repository(root, session.environment.environ)
    paths = {posixpath.normpath(posixpath.join(directory, file.relative_to(root).as_posix())): file for file in files}
    try:
        found = {paths[path]: attribute for path, attribute in git.conversions(tuple(paths))}
    except GitError as error:
        raise IncomparableError(str(error), error.remedy) from None
    found |= {file: "a symbolic link" for file in files[:2] if file.is_symlink()}
    for file, cause in found.items():
        change = LockChange(
            kind="fact",
            name="",
            path=("file",),
            field="file",
            before=None,
            after=cause,
            reason="reviewers see another text of this file than the one that is read",
        )
        yield PlacedChange(change, Place(display_path(file, cwd), 1, 1))


def _published(content: bytes | None, project: Project, stage: str) -> Mapping[str, PublishedModel]:
    """Return the models of the pointer at the base, from which a publication keeps what no manifest declares."""
    with suppress(ReconcileError, UnicodeDecodeError):
        if content is not None:
            return read_pointer(content.decode(), project.target, "the published pointer", stage)
    return {}


def _digest(content: bytes | None) -> str | None:
    return None if content is None else f"sha256:{sha256(content).hexdigest()}"


def _all_manifests(project: Project) -> tuple[Manifest, ...]:
    """Return all manifests of the root, also those that are not selected; those of the command line come first."""
    workspace = project.workspace
    manifests = {manifest.name: manifest for manifest in workspace.manifests}
    if not workspace.complete:
        whole = CommandInput(paths=(str(workspace.root),), target=project.input.target, selection=Selection())
        others = read_workspace(project.session.environment, whole).manifests
        manifests = {manifest.name: manifest for manifest in others} | manifests
    return with_dataset_versions(tuple(manifests.values()), {}, project.lock)
