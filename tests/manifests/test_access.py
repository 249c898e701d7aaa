"""Who may use a model: what is read, and everything that can be wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.domain.access import EVERYONE, Grant, Grantee
from reconciler.manifests.workspace import Workspace
from support.cases import each_row
from support.files_samples import CAPABILITIES, MANIFEST, TARGET, VERTEX, load_in, messages, sample

_ABLE = replace(CAPABILITIES, features=frozenset({"access", "projectAccess"}))
_AT = "spec.access[0]"
_PUBLIC = "everyone can use the model; grant the role to users or groups if this is not intended"


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


@each_row(
    ("access", "told"),
    [
        (
            "[{role: reader, user: ada}]",
            (f'9:33: {_AT}.user: invalid value "ada"; write an e-mail address, as in ada@example.com'),
        ),
        (
            "[{role: reader, user: ada@localhost}]",
            (f'9:33: {_AT}.user: invalid value "ada@localhost"; write an e-mail address, as in ada@example.com'),
        ),
        (
            "[{role: reader, user: 'user:ada@example.com'}]",
            (f'9:33: {_AT}.user: invalid value "user:ada@example.com"; write an e-mail address, as in ada@example.com'),
        ),
        (
            "[{role: reader, group: 'Ada <a@b.cd>'}]",
            (f'9:34: {_AT}.group: invalid value "Ada <a@b.cd>"; write an e-mail address, as in ada@example.com'),
        ),
        (
            '[{role: reader, group: "a@b.cd\\n"}]',
            (f'9:34: {_AT}.group: invalid value "a@b.cd"; write an e-mail address, as in ada@example.com'),
        ),
        (
            "[{role: reader, group: 'a@b.cd, e@f.gh'}]",
            (f'9:34: {_AT}.group: invalid value "a@b.cd, e@f.gh"; write an e-mail address, as in ada@example.com'),
        ),
        (
            "[{role: reader, projectNumber: 123}]",
            f"9:42: {_AT}.projectNumber: invalid value 123: expected a string; put it in quotes",
        ),
        (
            "[{role: reader, projectNumber: my-project}]",
            f'9:42: {_AT}.projectNumber: invalid value "my-project"; {_NUMBER}',
        ),
        (
            '[{role: writer, projectNumber: "1"}]',
            (f'9:19: {_AT}.role: invalid role "writer" for a project: expected reader; set reader'),
        ),
        (
            "[{role: owner, user: ada@example.com}]",
            f'9:19: {_AT}.role: invalid value "owner": expected reader or writer; set one of these',
        ),
        (
            "[{role: reader}]",
            (f"9:12: {_AT}: missing required field: user, group, everyone or projectNumber; add one of them"),
        ),
        (
            "[{role: reader, user: a@b.cd, group: e@f.gh}]",
            f"9:41: {_AT}.group: user and group are mutually exclusive; keep one of them",
        ),
        ("[{user: a@b.cd}]", f"9:12: {_AT}.role: missing required field; add it"),
        (
            "{user: a@b.cd}",
            ("9:11: spec.access: invalid value: expected a list, not a mapping; write its items as `- value` lines"),
        ),
        (
            "",
            ("9:10: spec.access: empty value: expected a list; write its items as `- value` lines, or delete the line"),
        ),
        (
            "[{role: reader, user: Ada@example.com}, {role: writer, user: ada@example.com}]",
            (
                "9:66: spec.access[1].user: duplicate grant to user:ada@example.com (first defined at"
                " m.yaml:9:27); keep one of them"
            ),
        ),
    ],
)
def test_grants_that_are_none(tmp_path: Path, access: str, told: str) -> None:
    assert messages(_shared(tmp_path, access)) == [f"m.yaml:{told}"]


def test_everyone_twice_is_told_beside_what_everyone_may_do(tmp_path: Path) -> None:
    workspace = _shared(tmp_path, "[{role: reader, everyone: true}, {role: writer, everyone: true}]")
    assert messages(workspace) == [
        f"m.yaml:9:37: {_AT}.everyone: {_PUBLIC}",
        (
            "m.yaml:9:59: spec.access[1].everyone: duplicate grant to everyone (first defined at"
            " m.yaml:9:27); keep one of them"
        ),
        "m.yaml:9:69: spec.access[1].everyone: everyone can change and share the model; set role: reader",
    ]
    assert [problem.severity for problem in workspace.problems] == ["warning", "error", "warning"]


_DENY = TARGET + "  policy: {publicAccess: deny}\n"


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_a_target_can_forbid_models_that_everyone_may_use(tmp_path: Path, role: str) -> None:
    workspace = _shared(tmp_path, f"[{{role: {role}, everyone: true}}]", _DENY)
    assert [str(problem) for problem in workspace.errors] == [
        (
            f"m.yaml:9:37: {_AT}.everyone: the target forbids access for everyone (policy.publicAccess);"
            " grant the role to users or groups"
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
            f"m.yaml:9:42: {_AT}.projectNumber: access for projects is not supported by the test service;"
            " remove it, or set apiVersion: v1beta in the target"
        )
    ]


def test_on_vertex_ai_the_remedy_is_iam(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("models/gemini-3.5-flash", "gemini-3.5-flash")
    access = '  access: [{role: reader, everyone: true}, {role: reader, projectNumber: "1"}]\n'
    assert messages(load_in(sample(tmp_path, manifest=manifest + access), capabilities=VERTEX)) == [
        (
            "m.yaml:9:3: spec.access: not supported by Vertex AI; remove it, and grant"
            " roles/aiplatform.user on the project in IAM"
        )
    ]
