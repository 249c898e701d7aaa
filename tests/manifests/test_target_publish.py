"""Where a target publishes what serves, and what it forbids."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.domain.errors import InvalidInput
from support.cases import each_row
from support.files_samples import TARGET, load_in, messages, sample, write

_REMOTE = TARGET.replace("embedded", "generativelanguage")
_OWN_NAME = "use another name, such as serving.json"


def _refused(folder: Path, text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        load_in(sample(folder, target=text))
    (problem,) = caught.value.problems
    return str(problem)


@each_row("path", ["serving.json", "./serving.json", "m/serving.v1.json", "reconcile.json"])
def test_a_file_is_relative_to_the_target_and_need_not_be_there(tmp_path: Path, path: str) -> None:
    (tmp_path / "m").mkdir()
    target = load_in(sample(tmp_path, target=f"{TARGET}  publish: {path}\n")).target
    assert target.publish == path


def test_a_file_that_is_there_is_written_again(tmp_path: Path) -> None:
    write(sample(tmp_path, target=f"{TARGET}  publish: serving.json\n"), {"serving.json": "{}"})
    assert load_in(tmp_path).target.publish == "serving.json"


def test_an_object_in_cloud_storage(tmp_path: Path) -> None:
    lock = "  lock: gs://acme-models/lock.json\n"
    target = f"{_REMOTE}  publish: gs://acme-models/team/serving.json\n{lock}"
    assert load_in(sample(tmp_path, target=target)).target.publish == "gs://acme-models/team/serving.json"


def test_without_it_nothing_is_published_and_everything_allowed(tmp_path: Path) -> None:
    target = load_in(sample(tmp_path)).target
    assert (target.publish, target.public_access) == ("", True)


@each_row(("policy", "allowed"), [("{}", True), ("{publicAccess: allow}", True), ("{publicAccess: deny}", False)])
def test_public_access(tmp_path: Path, *, policy: str, allowed: bool) -> None:
    assert load_in(sample(tmp_path, target=f"{TARGET}  policy: {policy}\n")).target.public_access is allowed


@each_row(
    ("text", "told"),
    [
        (
            f"{TARGET}  policy: {{publicAccess: denied}}\n",
            '8:26: spec.policy.publicAccess: invalid value "denied": expected allow or deny; did you mean deny?',
        ),
        (
            f"{TARGET}  policy: deny\n",
            (
                '8:11: spec.policy: invalid value "deny": expected a mapping; write its fields as indented'
                " `name: value` lines"
            ),
        ),
        (
            f"{TARGET}  policy: {{access: deny}}\n",
            '8:12: spec.policy.access: unknown field "access"; use one of publicAccess, showExamples',
        ),
    ],
)
def test_policies_that_are_none(tmp_path: Path, text: str, told: str) -> None:
    assert _refused(tmp_path, text) == f"reconcile.yaml:{told}"


@each_row(
    ("path", "told"),
    [
        ("''", "empty value; set a value, or delete the line"),
        ("1", "invalid value 1: expected a string; put it in quotes"),
        (
            "/srv/serving.json",
            ('invalid path "/srv/serving.json": expected a relative path; make it relative to this file'),
        ),
        (
            "C:/serving.json",
            ('invalid path "C:/serving.json": expected a relative path; make it relative to this file'),
        ),
        ("../serving.json", "../serving.json: outside the repository; move the file into {}"),
        ("out/serving.json", "out/serving.json: outside the repository; move the file into {}"),
        ("serving.yaml", "serving.yaml: expected a file name that ends in .json; set NAME.json"),
        ("reconcile.yaml", "reconcile.yaml: expected a file name that ends in .json; set NAME.json"),
        ("serving", "serving: expected a file name that ends in .json; set NAME.json"),
        ("folder.json", "folder.json: is a directory; set the path of a file in it"),
        (
            "nowhere/serving.json",
            "nowhere/serving.json: no such directory; create the directory, or fix the path",
        ),
        ("loop.json", "loop.json: loop of symbolic links; set the path of a file"),
        (
            ".reconcile/serving.json",
            ".reconcile/serving.json: directory is reserved for git or reconcile; set a path outside of it",
        ),
        (
            "reconcile.lock.json",
            ("reconcile.lock.json: file name is reserved for lockfiles; use another name, such as serving.json"),
        ),
        (
            "./reconcile.blue.lock.json",
            ("./reconcile.blue.lock.json: file name is reserved for lockfiles; use another name, such as serving.json"),
        ),
        ("world.json", "world.json: same file as spec.embedded.world; use another name, such as serving.json"),
        (
            "gs://bucket/serving.json",
            "Cloud Storage is not supported by provider embedded; set the path of a file",
        ),
    ],
)
def test_files_that_are_no_place_to_publish(tmp_path: Path, path: str, told: str) -> None:
    root = tmp_path / "root"
    for folder in ("folder.json", ".reconcile"):
        (root / folder).mkdir(parents=True)
    (root / "out").symlink_to("..")
    (root / "loop.json").symlink_to("loop.json")
    write(root, {"world.json": "{}"})
    text = f"{TARGET}  embedded: {{world: world.json}}\n  publish: {path}\n"
    assert _refused(root, text) == f"reconcile.yaml:9:12: spec.publish: {told.format('root')}"


def test_a_path_with_a_nul_character(tmp_path: Path) -> None:
    told = _refused(tmp_path, f'{TARGET}  publish: "a\\0.json"\n')
    assert told == "reconcile.yaml:8:12: spec.publish: invalid path: contains a NUL character; remove it"


_OBJECT = "invalid address of a JSON object in Cloud Storage; set gs://BUCKET/NAME.json, or the path of a file"


@each_row(
    ("address", "told"),
    [
        ("gs://bucket", _OBJECT),
        ("gs://bucket/.json", _OBJECT),
        ("gs://bucket/x.yaml", _OBJECT),
        ("gs://bucket/*.json", _OBJECT),
        ("gs://Bucket/x.json", _OBJECT),
        ("gs://bucket/lock.json", f"same object as spec.lock; {_OWN_NAME}"),
    ],
)
def test_objects_that_are_no_place_to_publish(tmp_path: Path, address: str, told: str) -> None:
    text = f"{_REMOTE}  lock: gs://bucket/lock.json\n  publish: '{address}'\n"
    assert _refused(tmp_path, text) == f"reconcile.yaml:9:12: spec.publish: {told}"


_BLUE = _REMOTE.replace("default", "blue").replace("scope: demo", "scope: blue")


@each_row(
    ("ours", "theirs", "told"),
    [
        (
            "  publish: serving.json\n",
            "  publish: ./folder/../serving.json\n",
            "8:12: spec.publish: the target in reconcile.blue.yaml publishes its pointer to this path too",
        ),
        (
            "  publish: gs://bucket/x.json\n",
            "  publish: gs://bucket/x.json\n",
            "8:12: spec.publish: the target in reconcile.blue.yaml publishes its pointer to this path too",
        ),
        (
            "  publish: gs://bucket/x.json\n",
            "  lock: gs://bucket/x.json\n",
            "8:12: spec.publish: the target in reconcile.blue.yaml has its lockfile at this path",
        ),
        (
            "  lock: gs://bucket/x.json\n",
            "  publish: gs://bucket/x.json\n",
            "8:9: spec.lock: the target in reconcile.blue.yaml publishes its pointer to this path",
        ),
    ],
)
def test_two_targets_that_write_to_the_same_place(tmp_path: Path, ours: str, theirs: str, told: str) -> None:
    (tmp_path / "folder").mkdir()
    write(sample(tmp_path, target=_REMOTE + ours), {"reconcile.blue.yaml": _BLUE + theirs})
    assert messages(load_in(tmp_path)) == [f"reconcile.yaml:{told}; set a different path in each target"]


@each_row("theirs", ["", "  publish: other.json\n", "  publish: 1\n", '  publish: "a\\0"\n'])
def test_targets_that_write_elsewhere(tmp_path: Path, theirs: str) -> None:
    write(sample(tmp_path, target=f"{_REMOTE}  publish: serving.json\n"), {"reconcile.blue.yaml": _BLUE + theirs})
    assert not messages(load_in(tmp_path))
