"""A scope from the git remote, or from the folder."""

from __future__ import annotations

from pathlib import Path

from reconciler.manifests.scaffold import guess_scope
from support.cases import each_row
from support.files_samples import write

_CONFIG = '[core]\n\tbare = false\n\tbare\n[remote "origin"]\n\turl = {}\n\tfetch = +refs/*:refs/*\n[remote "origin"]\n'


@each_row(
    ("url", "scope"),
    [
        ("https://github.com/Acme/NLP-models.git", "acme/nlp-models"),
        ("https://github.com/acme/nlp/", "acme/nlp"),
        ("git@github.com:acme/nlp.git", "acme/nlp"),
        ("ssh://git@host:22/group/sub/nlp.git", "sub/nlp"),
        ("https://token@host/nlp.git", "nlp"),
        ("https://user:token@host/acme/n%20l p.git", "acme/n-20l-p"),
        ("token@host:nlp", "nlp"),
        ("/srv/git/acme/nlp.git", "acme/nlp"),
        ("https://host", "folder"),
        ("", "folder"),
        (f"https://host/{'x' * 80}", "x" * 63),
    ],
)
def test_the_remote_names_the_owner(tmp_path: Path, url: str, scope: str) -> None:
    write(tmp_path / "folder", {".git/config": _CONFIG.format(url), "deep/x": ""})
    assert guess_scope(tmp_path / "folder") == scope
    if scope != "folder":
        assert guess_scope(tmp_path / "folder/deep") == scope


@each_row("config", ["[core]\n", "no section\n", b"\xff"])
def test_without_a_remote_the_folder_does(tmp_path: Path, config: str | bytes) -> None:
    assert guess_scope(write(tmp_path / "My Models", {".git/config": config})) == "my-models"


def test_without_git_the_folder_does(tmp_path: Path) -> None:
    (tmp_path / "Models (2)").mkdir()
    assert guess_scope(tmp_path / "Models (2)") == "models-2"


def test_a_folder_without_a_usable_name(tmp_path: Path) -> None:
    (tmp_path / "日本").mkdir()
    assert guess_scope(tmp_path / "日本") == "my-models"
