"""Who may use a model: what is read, and everything that can be wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.domain.access import EVERYONE, Grant, Grantee
from reconciler.manifests.workspace import Workspace
from support.files_samples import CAPABILITIES, MANIFEST, TARGET, VERTEX, load_in, messages, sample

_ABLE = replace(CAPABILITIES, features=frozenset({"access", "projectAccess"}))
_AT = "spec.access[0]"
_PUBLIC = "everyone may use the model; name users and groups if that is not meant"


def _shared(folder: Path, access: str, target: str = TARGET) -> Workspace:
    root = sample(folder, manifest=f"{MANIFEST}  access: {access}\n", target=target)
    return load_in(root, capabilities=_ABLE)


def test_grants_are_read_in_their_order_with_addresses_in_lower_case(tmp_path: Path) -> None:
    workspace = _shared(
        tmp_path,
        "[{role: writer, user: Ada@Example.com}, {group: nlp@example.com, role: reader},"
        ' {role: reader, everyone: true}, {role: reader, projectNumber: "123"}]',
    )
    (manifest,) = workspace.manifests
    assert manifest.access == (
        Grant(Grantee("user", "ada@example.com"), "writer"),
        Grant(Grantee("group", "nlp@example.com"), "reader"),
        Grant(EVERYONE, "reader"),
        Grant(Grantee("project", "123"), "reader"),
    )
    assert messages(workspace) == [f"m.yaml:9:116: spec.access[2].everyone: {_PUBLIC}"]


def test_nobody_is_not_the_same_as_undeclared(tmp_path: Path) -> None:
    assert _shared(tmp_path, "[]").manifests[0].access == ()
    assert load_in(sample(tmp_path)).manifests[0].access is None


_ADDRESS = "is not allowed here; write an e-mail address, as in ada@example.com"
_NUMBER = 'write the number of a project, as in "123456789012"; `gcloud projects describe PROJECT` shows it'


@pytest.mark.parametrize(
    ("access", "told"),
    [
        ("[{role: reader, user: ada}]", f'9:33: {_AT}.user: "ada" {_ADDRESS}'),
        ("[{role: reader, user: ada@localhost}]", f'9:33: {_AT}.user: "ada@localhost" {_ADDRESS}'),
        ("[{role: reader, user: 'user:ada@example.com'}]", f'9:33: {_AT}.user: "user:ada@example.com" {_ADDRESS}'),
        ("[{role: reader, group: 'Ada <a@b.cd>'}]", f'9:34: {_AT}.group: "Ada <a@b.cd>" {_ADDRESS}'),
        ('[{role: reader, group: "a@b.cd\\n"}]', f'9:34: {_AT}.group: "a@b.cd" {_ADDRESS}'),
        ("[{role: reader, group: 'a@b.cd, e@f.gh'}]", f'9:34: {_AT}.group: "a@b.cd, e@f.gh" {_ADDRESS}'),
        (
            "[{role: reader, projectNumber: 123}]",
            f"9:42: {_AT}.projectNumber: must be a text, is the number 123; put it in quotes",
        ),
        (
            "[{role: reader, projectNumber: my-project}]",
            f'9:42: {_AT}.projectNumber: "my-project" is not allowed here; {_NUMBER}',
        ),
        ('[{role: writer, projectNumber: "1"}]', f"9:19: {_AT}.role: a project may be a reader alone; write reader"),
        (
            "[{role: owner, user: ada@example.com}]",
            f'9:19: {_AT}.role: must be reader or writer, is the text "owner"; use one of these',
        ),
        ("[{role: reader}]", f"9:12: {_AT}: needs user, group, everyone or projectNumber; add one of them"),
        (
            "[{role: reader, user: a@b.cd, group: e@f.gh}]",
            f"9:41: {_AT}.group: user and group exclude each other; keep one of them",
        ),
        ("[{user: a@b.cd}]", f"9:12: {_AT}.role: is missing; add it"),
        ("{user: a@b.cd}", "9:11: spec.access: must be a list, is a mapping; write its items as `- item` lines"),
        (
            "",
            "9:10: spec.access: must be a list, is empty; write its items as `- item` lines, or delete the line",
        ),
        (
            "[{role: reader, user: Ada@example.com}, {role: writer, user: ada@example.com}]",
            "9:66: spec.access[1].user: user:ada@example.com has a role already, at m.yaml:9:27; keep one of them",
        ),
    ],
)
def test_grants_that_are_none(tmp_path: Path, access: str, told: str) -> None:
    assert messages(_shared(tmp_path, access)) == [f"m.yaml:{told}"]


def test_everyone_twice_is_told_beside_what_everyone_may_do(tmp_path: Path) -> None:
    workspace = _shared(tmp_path, "[{role: reader, everyone: true}, {role: writer, everyone: true}]")
    assert messages(workspace) == [
        f"m.yaml:9:37: {_AT}.everyone: {_PUBLIC}",
        "m.yaml:9:59: spec.access[1].everyone: everyone has a role already, at m.yaml:9:27; keep one of them",
        "m.yaml:9:69: spec.access[1].everyone: everyone may change the model and share it; write role: reader",
    ]
    assert [problem.severity for problem in workspace.problems] == ["warning", "error", "warning"]


_DENY = TARGET + "  policy: {publicAccess: deny}\n"


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_a_target_can_forbid_models_that_everyone_may_use(tmp_path: Path, role: str) -> None:
    workspace = _shared(tmp_path, f"[{{role: {role}, everyone: true}}]", _DENY)
    assert [str(problem) for problem in workspace.errors] == [
        (
            f"m.yaml:9:37: {_AT}.everyone: the target forbids models that everyone may use, by policy.publicAccess;"
            " name users and groups"
        )
    ]
    assert not workspace.manifests


def test_a_target_that_forbids_it_allows_all_others(tmp_path: Path) -> None:
    assert not _shared(tmp_path, "[{role: reader, user: ada@example.com}]", _DENY).problems


def test_a_service_that_shares_with_no_projects(tmp_path: Path) -> None:
    manifest = f'{MANIFEST}  access: [{{role: writer, projectNumber: "123"}}]\n'
    able = replace(CAPABILITIES, features=frozenset({"access"}))
    assert messages(load_in(sample(tmp_path, manifest=manifest), capabilities=able)) == [
        (
            f"m.yaml:9:42: {_AT}.projectNumber: is not supported with the test service, which shares with no whole"
            " projects; delete it, or set apiVersion: v1beta in the target"
        )
    ]


def test_on_vertex_ai_the_remedy_is_iam(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("models/text-bison-001", "gemini-2.5-flash")
    access = '  access: [{role: reader, everyone: true}, {role: reader, projectNumber: "1"}]\n'
    assert messages(load_in(sample(tmp_path, manifest=manifest + access), capabilities=VERTEX)) == [
        (
            "m.yaml:9:3: spec.access: is not supported with Vertex AI; delete it, and grant roles/aiplatform.user on"
            " the project in IAM"
        )
    ]
