"""Addresses of data sets: of the Hugging Face Hub, and of folders; and which files of a data set they stand for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from reconciler.domain.errors import ReconcileError
from reconciler.domain.model import HUB_SCHEME
from reconciler.domain.text import join_names, quote, suggest
from reconciler.manifests.datasets.file_formats import complete_options, names_data_file
from reconciler.manifests.datasets.records import ReadOptions

_ADDRESS: Final = re.compile(
    re.escape(HUB_SCHEME) + r"datasets/([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([^/@\s]+))?(?:/(.*))?", re.ASCII
)
_PAGE: Final = re.compile(
    r"(?i:https?://(?:www\.)?(?:huggingface\.co|hf\.co))/datasets/([\w.-]+/[\w.-]+)"
    r"(?:/(?:tree|blob|resolve|raw)/([^/?#]+)(?:/([^?#]*))?)?",
    re.ASCII,
)
"""The address of a page or a file on the site."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT: Final = re.compile(r"[0-9a-f]{7,39}")
_NOT_IN_NAMES: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_SITE: Final = "https://huggingface.co"
CARD: Final = "README.md"
_DESCRIPTIONS: Final = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""The files beside the data that the library `datasets` writes."""
_TRAIN: Final = "train"
_TRAINING: Final = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
_OTHER_SPLITS: Final = re.compile(r"(?<![a-z])(test(ing)?|valid(ation)?|val|dev|eval(uation)?)(?![a-z])", re.IGNORECASE)
"""The words in the names of files that are not for training, as the library `datasets` has them."""
_WILDCARDS: Final = re.compile(r"(\*\*/|\*\*|\*|\?)")
_WILDCARD_PATTERNS: Final = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_MOST_NAMES: Final = 6


class HubAddress(Struct, frozen=True):
    """A data set, one of its revisions, and a path in it: of a file, a folder or, with wildcards, of several files."""

    repository: str
    revision: str = ""
    path: str = ""

    def __str__(self) -> str:
        """Return the address as it is written in a manifest."""
        revision, path = f"@{self.revision}" if self.revision else "", f"/{self.path}" if self.path else ""
        return f"{HUB_SCHEME}datasets/{self.repository}{revision}{path}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit."""
        return bool(_COMMIT.fullmatch(self.revision))

    @property
    def is_pattern(self) -> bool:
        """Whether the path has wildcards."""
        return has_wildcards(self.path)

    @property
    def name(self) -> str:
        """The name of the data set, without its owner."""
        return self.repository.partition("/")[2]


class FolderAddress(Struct, frozen=True):
    """A folder of this machine, and a path in it: empty or, with wildcards, of several files."""

    folder: str
    path: str = ""

    def __str__(self) -> str:
        """Return the path of the files in messages."""
        return posixpath.normpath(posixpath.join(self.folder, self.path))

    @property
    def is_pattern(self) -> bool:
        """Whether the path has wildcards."""
        return has_wildcards(self.path)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return PurePosixPath(self.folder).name


Address = HubAddress | FolderAddress


def has_wildcards(path: str) -> bool:
    """Return whether a path can stand for several files."""
    return bool(_WILDCARDS.search(path))


def names_hub(text: str) -> bool:
    """Return whether a data file that a user names is an address of the hub.

    Raises ReconcileError, with the address, for that of a page of the hub, or another spelling of the scheme.
    """
    if text.startswith(HUB_SCHEME):
        return True
    if text.lower().startswith(HUB_SCHEME):
        address = f"{HUB_SCHEME}{text[len(HUB_SCHEME) :]}"
    elif page := _PAGE.match(text):
        revision, path = page[2] or "", page[3] or ""
        address = str(HubAddress(page[1], "" if revision == "main" else revision, path.rstrip("/")))
    else:
        return False
    raise ReconcileError(f"{text}: invalid address of a data set of the Hugging Face Hub", f"write {address}")


def parse_address(text: str) -> HubAddress:
    """Return the address; raises ReconcileError if it is invalid."""
    found = _ADDRESS.fullmatch(text)
    if not found:
        raise ReconcileError(
            "invalid address of a data set of the Hugging Face Hub", "write hf://datasets/OWNER/NAME@COMMIT/FILE"
        )
    repository, revision, path = found[1], found[2] or "", (found[3] or "").rstrip("/")
    if path and not _is_plain(path):
        raise ReconcileError(
            f"invalid path {quote(path)} in a data set", "write the path as the data set's page has it"
        )
    return HubAddress(repository, revision, path)


def require_commit(address: HubAddress) -> None:
    """Raise ReconcileError, with the command that finds the commit, if the address is not pinned to one."""
    if address.is_pinned:
        return
    pinned, url = replace(address, revision="COMMIT"), f"{_SITE}/datasets/{address.repository}"
    if _SHORT_COMMIT.fullmatch(address.revision):
        message = f"the commit {address.revision} is abbreviated: expected 40 digits"
        raise ReconcileError(message, f"write {pinned} with all digits of the commit, from {url}/commits/main")
    message = "is not pinned to a commit, so its data would change"
    if address.revision:
        message = f"{quote(address.revision)} is a branch or tag, not a commit, so its data would change"
    find = f"git ls-remote {url} {unquote(address.revision) or 'HEAD'}"
    raise ReconcileError(message, f"write {pinned} with the commit that `{find}` prints")


def select_files(address: Address, listed: Sequence[str], read_card: Callable[[], str]) -> list[str]:
    """Return the data files that an address stands for, in the order of their names.

    These are the file, the files in the folder or those that the wildcards match. Without a path, the README declares
    them, in its default configuration. Of files that no pattern names, those for training count, by their names;
    without any, those that have no other split in their names.

    Raises ReconcileError if there are none, or files of several formats.
    """
    data = data_files(listed)
    if address.path in listed:
        return [address.path]
    patterns = [address.path if address.is_pattern else f"{address.path}/"]
    if not address.path:
        patterns = (_declared_patterns(address, read_card()) if CARD in listed else []) or [""]
    chosen = _chosen(data, patterns)
    if not chosen:
        shown = str(replace(address, path="")) if address.path else str(address)
        message = f"no data file {quote(address.path)} in {shown}" if address.path else f"no data file in {shown}"
        similar = () if address.is_pattern else data
        remedy = suggest(address.path, similar, otherwise=f"choose one of {join_names(data, _MOST_NAMES)}")
        raise ReconcileError(message, remedy)
    return _of_one_format(address, chosen)


def data_files(listed: Iterable[str]) -> list[str]:
    """Return the names of data files that are neither hidden nor descriptions of a data set, sorted."""
    return sorted(
        name
        for name in listed
        if names_data_file(name)
        and PurePosixPath(name).name not in _DESCRIPTIONS
        and _is_plain(name)
        and not _is_hidden(name)
    )


def _of_one_format(address: Address, names: list[str]) -> list[str]:
    found: dict[tuple[str, str], str] = {}
    for name in names:
        options = complete_options(name, ReadOptions())
        found.setdefault((options.format, options.compression), name)
    if len(found) > 1:
        shown = join_names([str(replace(address, path=name)) for name in found.values()])
        raise ReconcileError(f"{address} has files of several formats", f"name one of them, such as {shown}")
    return names


def _chosen(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match a pattern; a folder, which ends in a slash or is empty, has files for training."""
    if not all(pattern.endswith("/") or not pattern for pattern in patterns):
        return matching(names, patterns)
    inside = [name for name in names if name.startswith(tuple(patterns))]
    training = [name for name in inside if _TRAINING.search(name)]
    return training or [name for name in inside if not _OTHER_SPLITS.search(name)]


def common_pattern(names: Sequence[str], listed: Iterable[str]) -> str:
    """Return the path of one file, or a pattern that matches several and no other; empty if they have none."""
    if len(names) == 1:
        return names[0]
    first = _common_start(names)
    last = _common_start([name[len(first) :][::-1] for name in names])[::-1]
    pattern = f"{first}*{last}"
    return pattern if matching(data_files(listed), [pattern]) == names else ""


def _common_start(texts: Sequence[str]) -> str:
    least, greatest = min(texts), max(texts)  # the others begin like both
    pairs = enumerate(zip(least, greatest, strict=False))
    return least[: next((index for index, (first, other) in pairs if first != other), len(least))]


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Return the names that match a pattern with ``*``, ``**`` and ``?``; the patterns may be hostile."""
    import re2  # type: ignore[import-untyped]  # linear in the length of a name

    parts = [_WILDCARDS.split(pattern) for pattern in patterns]
    expressions = [
        re2.compile("".join(_WILDCARD_PATTERNS.get(part) or re2.escape(part) for part in split)) for split in parts
    ]
    return [name for name in names if any(expression.fullmatch(name) for expression in expressions)]


def _declared_patterns(address: Address, card: str) -> list[str]:
    """Return the patterns of the files for training in the default configuration of a README; empty without one."""
    configurations = _configurations(address, card)
    default = [
        found for found in configurations if found.get("default") is True or found.get("config_name") == "default"
    ]
    if not configurations:
        return []
    if len(configurations) > 1 and len(default) != 1:
        declared = [split for found in configurations for split in _splits(found).values()]
        names = [quote(str(found.get("config_name"))) for found in configurations]
        message = f"the {CARD} of {address} declares the configurations {join_names(names, _MOST_NAMES)}"
        raise ReconcileError(message, f"name the files of one of them, such as {_example(address, declared)}")
    splits = _splits((default or configurations)[0])
    if _TRAIN not in splits and len(splits) > 1:
        message = f"the {CARD} of {address} declares no split {_TRAIN}, but {join_names(list(splits), _MOST_NAMES)}"
        raise ReconcileError(message, f"name the files of a split, such as {_example(address, splits.values())}")
    return splits.get(_TRAIN) or next(iter(splits.values()), [])


def _example(address: Address, splits: Iterable[Sequence[str]]) -> Address:
    return replace(address, path=next(filter(_is_plain, chain.from_iterable(splits)), "FILE"))


def card_metadata(card: str) -> Mapping[str, Any] | None:
    """Return the metadata at the beginning of a README, empty without any; ``None`` if they are invalid."""
    import yaml

    head = re.match(r"---\r?\n(.*?)^---\s*$", card, re.DOTALL | re.MULTILINE)
    try:
        metadata = yaml.load(head[1], getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if head else {}  # noqa: S506 - safe
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return metadata if isinstance(metadata, dict) else {}


def _configurations(address: Address, card: str) -> list[Mapping[str, Any]]:
    metadata = card_metadata(card)
    if metadata is None:
        message = f"the {CARD} of {address} has invalid metadata"
        raise ReconcileError(message, f"name the files, such as {replace(address, path='FILE')}")
    declared = metadata.get("configs")
    return [found for found in declared if isinstance(found, dict)] if isinstance(declared, list) else []


def _splits(configuration: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the patterns of each split of a configuration, in the forms that the documentation of the hub has."""
    declared, folder = configuration.get("data_files"), configuration.get("data_dir")
    folder = f"{folder.strip('./')}/" if isinstance(folder, str) and folder.strip("./") else ""
    if declared is None and folder:
        declared = ""
    if isinstance(declared, dict):
        declared = [{"split": split, "path": path} for split, path in declared.items()]
    found: dict[str, list[str]] = {}
    for files in declared if isinstance(declared, list) else [declared]:
        split, paths = (files.get("split", _TRAIN), files.get("path")) if isinstance(files, dict) else (_TRAIN, files)
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str):
                found.setdefault(str(split), []).append(folder + path.removeprefix("./"))
    return found


def _is_plain(name: str) -> bool:
    """Return whether the name is a relative path without detours and characters that no file should have."""
    return not _NOT_IN_NAMES.search(name) and not {"", ".", ".."}.intersection(name.split("/"))


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
