"""What a target changes in manifests: selection, overrides, variables, and the places of errors in them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from reconciler.domain.errors import InvalidInput
from reconciler.manifests.workspace import Workspace
from support.cases import each_row
from support.files_samples import MANIFEST, TARGET, load_in, messages, sample, write

CHECKED = (
    MANIFEST
    + """\
  displayName: a
  hyperparameters: {epochCount: 3, batchSize: 2}
  checks:
  - {name: small, prompt: "8", expect: {equals: "9"}}
  - {name: large, prompt: "80", expect: {equals: "81"}}
"""
)
"""A manifest with a display name, hyperparameters and two checks."""


def _spec(workspace: Workspace, name: str = "number-generator") -> dict[str, object]:
    assert not messages(workspace), messages(workspace)
    spec: dict[str, object] = workspace.documents[name].value["spec"]
    return spec


def _with(folder: Path, target: str, manifest: str = CHECKED) -> Workspace:
    return load_in(sample(folder, target=TARGET + target, manifest=manifest))


@each_row(
    ("patch", "field", "expected"),
    [
        ("{displayName: b}", "displayName", "b"),
        ("{displayName: null}", "displayName", None),
        ("{hyperparameters: {epochCount: 1}}", "hyperparameters", {"epochCount": 1, "batchSize": 2}),
        ("{hyperparameters: {epochCount: null}}", "hyperparameters", {"batchSize": 2}),
        ("{hyperparameters: {$patch: replace, epochCount: 1}}", "hyperparameters", {"epochCount": 1}),
        ("{hyperparameters: {$patch: delete}}", "hyperparameters", None),
        ("{lifecycle: {protect: true, timeout: null}}", "lifecycle", {"protect": True}),
        ("{ignoreDrift: [displayName]}", "ignoreDrift", ["displayName"]),
        (
            '{checks: [{name: large, prompt: "90", expect: {equals: "91"}}]}',
            "checks",
            [
                {"name": "small", "prompt": "8", "expect": {"equals": "9"}},
                {"name": "large", "prompt": "90", "expect": {"equals": "91"}},
            ],
        ),
        (
            "{checks: [{name: small, $patch: delete}]}",
            "checks",
            [{"name": "large", "prompt": "80", "expect": {"equals": "81"}}],
        ),
        (
            '{checks: [{$patch: replace}, {name: new, prompt: "1", expect: {equals: "2"}}]}',
            "checks",
            [{"name": "new", "prompt": "1", "expect": {"equals": "2"}}],
        ),
        ("{checks: null}", "checks", None),
        # an alias in the patch: the values are shared, and never changed
        ("{displayName: &n b, description: *n}", "description", "b"),
    ],
)
def test_an_override_is_a_strategic_merge_patch(tmp_path: Path, patch: str, field: str, expected: object) -> None:
    workspace = _with(tmp_path, f"  overrides: [{{spec: {patch}}}]\n")
    assert _spec(workspace).get(field) == expected


def test_overrides_apply_in_order_to_what_they_select(tmp_path: Path) -> None:
    write(tmp_path, {"other.yaml": CHECKED.replace("number-generator", "other")})
    workspace = _with(
        tmp_path,
        "  overrides:\n"
        "  - spec: {displayName: all}\n"
        "  - selector: {names: [other]}\n    spec: {displayName: one, hyperparameters: {epochCount: 1}}\n",
    )
    assert [_spec(workspace, name)["displayName"] for name in ("number-generator", "other")] == ["all", "one"]
    epochs = [manifest.hyperparameters["epochCount"] for manifest in workspace.manifests]
    assert epochs == [3, 1]


@each_row(
    ("selector", "selected"),
    [
        ("{}", "abc"),
        ("{names: [a, c]}", "ac"),
        ("{matchLabels: {team: nlp}}", "ab"),
        ("{matchLabels: {team: nlp}, names: [b]}", "b"),
        ("{matchExpressions: [{key: team, operator: In, values: [nlp, other]}]}", "ab"),
        ("{matchExpressions: [{key: team, operator: NotIn, values: [nlp]}]}", "c"),
        ("{matchExpressions: [{key: tier, operator: Exists}]}", "b"),
        ("{matchExpressions: [{key: tier, operator: DoesNotExist}]}", "ac"),
    ],
)
def test_a_target_selects_manifests(tmp_path: Path, selector: str, selected: str) -> None:
    labels = {"a": "{team: nlp}", "b": "{team: nlp, tier: gold}", "c": "{}"}
    files = {
        f"{name}.yaml": MANIFEST.replace("name: number-generator", f"name: {name}\n  labels: {text}")
        for name, text in labels.items()
    }
    (sample(tmp_path, target=TARGET + f"  selector: {selector}\n") / "m.yaml").unlink()
    workspace = load_in(write(tmp_path, files))
    assert not messages(workspace)
    assert "".join(manifest.name for manifest in workspace.manifests) == selected
    assert sorted(workspace.unselected) == [name for name in "abc" if name not in selected]


def test_what_is_not_selected_is_not_validated(tmp_path: Path) -> None:
    write(tmp_path, {"broken.yaml": MANIFEST.replace("number-generator", "broken") + "  displayName: ${UNKNOWN}\n"})
    assert len(_with(tmp_path, "  selector: {names: [number-generator]}\n").manifests) == 1


@each_row(
    ("variables", "text", "expected"),
    [
        ("{A: b}", "${A}", "b"),
        ("{A: b}", "x-${A}-${A}", "x-b-b"),
        ("{A: b}", "$${A}", "${A}"),
        ("{A: b}", "$${A} ${A}", "${A} b"),
        ("{A: 1.5}", "v${A}", "v1.5"),
        ("{A: true}", "v${A}", "vtrue"),
        ("{A: b}", "${a} ${A} ${ A } $A", "${a} b ${ A } $A"),  # other texts are no variables
        ("{A: '$'}", "${A}{A}", "${A}"),  # a result is not expanded again
    ],
)
def test_variables_are_replaced(tmp_path: Path, variables: str, text: str, expected: str) -> None:
    workspace = _with(tmp_path, f"  variables: {variables}\n", MANIFEST + f"  description: '{text}'\n")
    found = [message for message in messages(workspace) if "no selected manifest uses" not in message]
    assert not found
    assert workspace.documents["number-generator"].value["spec"]["description"] == expected


def test_a_variable_keeps_its_type_and_works_in_overrides(tmp_path: Path) -> None:
    workspace = _with(
        tmp_path,
        "  variables: {EPOCHS: 2, NAME: n}\n"
        '  overrides: [{spec: {hyperparameters: {epochCount: "${EPOCHS}"}, displayName: "${NAME}"}}]\n',
    )
    spec = _spec(workspace)
    assert (spec["displayName"], spec["hyperparameters"]) == ("n", {"epochCount": 2, "batchSize": 2})


def test_examples_are_data(tmp_path: Path) -> None:
    inline = "    examples:\n" + "".join(f"    - {{input: '${{HOME}} {at}', output: b}}\n" for at in range(2))
    workspace = _with(tmp_path, "", MANIFEST.replace("    path: data.csv\n", inline))
    assert [example.input for example in workspace.training(workspace.manifests[0])] == ["${HOME} 0", "${HOME} 1"]  # type: ignore[union-attr] # examples


@each_row(
    ("target", "message"),
    [
        # an error in a value that the target sets is in the target file
        (
            "  overrides:\n  - spec:\n      hyperparameters:\n        epochCount: three\n",
            (
                'reconcile.yaml:11:21: spec.hyperparameters.epochCount: invalid value "three": expected a whole number;'
                " set a whole number of at least 1"
            ),
        ),
        (
            "  overrides:\n  - spec: {batch: 1}\n",
            (
                'reconcile.yaml:9:12: spec.batch: unknown field "batch"; use one of source, method, description,'
                " sampling, serve, access, lifecycle, adopted, ignoreDrift, local, vertex"
            ),
        ),
        (
            "  overrides:\n  - spec: {dataset: null}\n",
            "reconcile.yaml:9:12: spec.dataset: missing required field; add it",
        ),
        (
            "  overrides:\n  - spec: {checks: [{name: tiny, $patch: delete}]}\n",
            'reconcile.yaml:9:21: spec.checks: no check is named "tiny"; name a check of the manifest, or remove it',
        ),
        (
            "  variables: {EPOCHS: 0}\n  overrides:\n  - spec: {hyperparameters: {epochCount: '${EPOCHS}'}}\n",
            "reconcile.yaml:8:23: spec.hyperparameters.epochCount: invalid value 0: expected at least 1; increase it",
        ),
        (
            "  overrides:\n  - spec: {displayName: '${RECONCILE_VAR_SECRET}'}\n",
            (
                "reconcile.yaml:9:25: spec.displayName: undefined variable ${RECONCILE_VAR_SECRET}; define it in"
                " spec.variables of reconcile.yaml, or write $${RECONCILE_VAR_SECRET} for the text itself"
            ),
        ),
        # names that do not exist, and what has no effect
        (
            "  selector: {names: [number-generater, number-generator]}\n",
            (
                'reconcile.yaml:8:22: spec.selector.names[0]: no manifest is named "number-generater"; did you mean'
                " number-generator?"
            ),
        ),
        (
            f"  selector: {{names: [number-generator, number-generato{', number-generato'.join('abcdefghijk')}]}}\n",
            "\n".join(
                f"reconcile.yaml:8:{40 + 18 * number}: spec.selector.names[{number + 1}]: no manifest is named"
                f' "number-generato{letter}"; {"did you mean number-generator?" if number < 10 else "remove it"}'
                for number, letter in enumerate("abcdefghijk")
            ),
        ),
        (
            "  overrides: [{selector: {matchLabels: {a: b}}, spec: {displayName: b}}]\n",
            (
                "reconcile.yaml:8:15: spec.overrides[0]: no selected manifest matches this override; remove it, or"
                " change its selector"
            ),
        ),
        (
            "  variables: {UNUSED: 1}\n",
            (
                "reconcile.yaml:8:23: spec.variables.UNUSED: no selected manifest uses this variable; remove it, or use"
                " ${UNUSED} in a manifest"
            ),
        ),
        (
            "  selector: {matchLabels: {a: b}}\n",
            (
                "reconcile.yaml:8:13: spec.selector: no manifest matches; change it, or pass the directory that has the"
                " manifests"
            ),
        ),
    ],
)
def test_messages_point_at_the_target(tmp_path: Path, target: str, message: str) -> None:
    try:
        found = messages(_with(tmp_path, target))
    except InvalidInput as error:
        found = [str(problem) for problem in error.problems]
    assert found == message.split("\n")


@each_row(
    ("target", "message"),
    [
        (
            "  overrides: [{metadata: {name: other}, spec: {}}]\n",
            "8:16: spec.overrides[0].metadata: metadata cannot be overridden; remove it; an override patches spec only",
        ),
        (
            "  overrides: [{kind: Target, spec: {}}]\n",
            "8:16: spec.overrides[0].kind: kind cannot be overridden; remove it; an override patches spec only",
        ),
        (
            "  overrides: [{spec: {$retainKeys: [a]}}]\n",
            (
                "8:23: spec.overrides[0].spec.$retainKeys: unsupported directive $retainKeys; use $patch, or write the"
                " whole value"
            ),
        ),
        (
            "  overrides: [{spec: {checks: [{$patch: merge2}]}}]\n",
            (
                "8:33: spec.overrides[0].spec.checks[0].$patch: invalid directive merge2; set one of replace, delete,"
                " merge"
            ),
        ),
        (
            "  variables: {A: '${B}', B: '${A}'}\n",
            "8:15: spec.variables.A: a variable cannot refer to other variables; write the value out",
        ),
        (
            "  variables: {A: '${RECONCILE_VAR_SECRET}'}\n",
            "8:15: spec.variables.A: a variable cannot refer to other variables; write the value out",
        ),
        (
            "  variables: {lower: 1}\n",
            (
                '8:15: spec.variables.lower: invalid key "lower"; use at most 63 upper-case letters, digits and'
                " underscores, beginning with a letter"
            ),
        ),
        (
            "  variables: {A: [1]}\n",
            "8:18: spec.variables.A: invalid value: expected a string or a number or true or false",
        ),
        (
            "  selector: {matchExpressions: [{key: a, operator: In}]}\n",
            "8:33: spec.selector.matchExpressions[0].values: missing field that operator In requires; add the values",
        ),
        (
            "  selector: {matchExpressions: [{key: a, operator: [In]}]}\n",
            "8:52: spec.selector.matchExpressions[0].operator: invalid value",
        ),
        ("  overrides: {spec: {}}\n", "8:14: spec.overrides: invalid value: expected a list"),
        ("  overrides:\n  - &a\n    spec: *a\n", "10:11: spec.overrides[0].spec: alias *a is inside its own anchor"),
        (
            "  overrides:\n  - spec:\n      <<: {displayName: b}\n",
            "10:7: spec.overrides[0].spec: unsupported merge key <<; write the fields out, or use an alias as a value",
        ),
        (
            (
                "  a: &a [1,1,1,1,1,1,1,1,1,1]\n  b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                "  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n  d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                "  overrides: [{spec: {checks: [*d,*d,*d]}}]\n"
            ),
            "12:32: spec.overrides[0].spec.checks[0]: the aliases of this document expand to more than 20,000 values",
        ),
    ],
)
def test_invalid_overlays_are_errors_of_the_target(tmp_path: Path, target: str, message: str) -> None:
    # A manifest that needs the variables is not reported too: it cannot be evaluated.
    with pytest.raises(InvalidInput) as caught:
        _with(tmp_path, target, MANIFEST + "  hyperparameters: {epochCount: '${EPOCHS}'}\n")
    assert str(caught.value.problems[0]).startswith(f"reconcile.yaml:{message}")
    assert {problem.place.file for problem in caught.value.problems} == {"reconcile.yaml"}


@each_row(
    ("before", "after", "message"),
    [
        ("kind: TunedModel", "kind: ${A}", 'm.yaml:2:7: kind: unsupported kind "${A}"'),
        ("v1alpha1", "${A}", "m.yaml:1:13: apiVersion: unsupported apiVersion"),
        (
            "name: number-generator",
            "name: ${A}",
            "m.yaml:4:9: metadata.name: unsupported variable ${A}: variables are replaced in spec only",
        ),
        (
            "name: number-generator",
            "name: number-generator\n  labels: {team: '${A}'}",
            "m.yaml:5:18: metadata.labels.team: unsupported variable ${A}: variables are replaced in spec only",
        ),
    ],
)
def test_variables_are_not_allowed_everywhere(tmp_path: Path, before: str, after: str, message: str) -> None:
    found = messages(_with(tmp_path, "  variables: {A: TunedModel}\n", MANIFEST.replace(before, after)))
    assert found[0].startswith(message)


def test_variables_cannot_fill_the_memory(tmp_path: Path) -> None:
    start = time.process_time()
    text = MANIFEST + f"  description: '{'${A}' * 50_000}'\n"
    workspace = _with(tmp_path, f"  variables: {{A: {'x' * 4096}}}\n", text)
    assert "the variables of this manifest expand to more than 1,048,576 characters" in messages(workspace)[0]
    assert time.process_time() - start < 5
