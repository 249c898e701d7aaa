"""Everything that can be wrong with a target file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.domain.errors import InvalidInput, UsageError
from reconciler.domain.model import Target
from support.cases import each_row
from support.files_samples import MANIFEST, TARGET, load_in, messages, sample, write

VERTEX = (
    TARGET.replace("embedded", "vertex")
    + "  project: my-project-id\n  location: europe-west4\n  bucket: gs://acme-tuning-data\n"
)
REMOTE = TARGET.replace("embedded", "generativelanguage")
_ENDPOINT = "set https://HOST, or http:// with a loopback address, without a path"


def _problems(folder: Path, target: str, **environ: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load_in(sample(folder, target=target), environ=environ)
    return [str(problem) for problem in caught.value.problems]


@each_row(
    ("text", "message"),
    [
        ("", "1:1: contains no Target; add one, or delete the file and run `reconcile init`"),
        ("a: [\n", "2:1: missing value; add a value, or close the bracket before it"),
        (
            "- a\n",
            (
                "1:1: invalid document: expected a mapping, not a list; start it with apiVersion:"
                " tuning.reconcile/v1alpha1"
            ),
        ),
        (MANIFEST, '2:7: kind: invalid value "TunedModel": expected Target in a target file; rename the file'),
        (
            TARGET + "---\n" + MANIFEST,
            "9:1: unexpected document: expected only the Target in this file; move this document to another file",
        ),
        (
            TARGET + "  scop: demo\n",
            '8:3: spec.scop: unknown field "scop"; remove it',
        ),
        (
            TARGET.replace("demo", "Acme"),
            (
                '7:10: spec.scope: invalid value "Acme"; use at most 63 lower-case letters, digits, dots,'
                " slashes, underscores and hyphens, beginning with a letter or digit"
            ),
        ),
        (
            TARGET + "  limits: {maxSteps: -1}\n",
            ("8:22: spec.limits.maxSteps: invalid value -1: expected at least 0; increase it"),
        ),
        (
            TARGET + "  limits: {maxCost: 50 EUR}\n",
            '8:21: spec.limits.maxCost: invalid value "50 EUR"; write an amount in US dollars, as in 50 USD',
        ),
        (
            TARGET + "  embedded: {stepSeconds: 0}\n",
            "8:27: spec.embedded.stepSeconds: invalid value 0: expected more than 0; increase it",
        ),
        (
            TARGET.replace("default", "blue"),
            (
                '4:9: metadata.name: invalid value "blue": expected default, as in the name of the file; set'
                " default, or rename the file"
            ),
        ),
        (
            TARGET.replace("embedded", "vertx"),
            '6:13: spec.provider: provider "vertx" is not installed; did you mean vertex?',
        ),
        (
            TARGET.replace("embedded", "together-gpu"),
            (
                '6:13: spec.provider: provider "together-gpu" is not installed; install the package that provides it,'
                " or use one of embedded, generativelanguage, local, vertex"
            ),
        ),
        (
            TARGET + "  embedded: {world: nowhere.json}\n",
            "8:21: spec.embedded.world: nowhere.json: no such file; fix the path, or add the file",
        ),
        (
            TARGET + "  embedded: {world: /etc/passwd}\n",
            (
                '8:21: spec.embedded.world: invalid path "/etc/passwd": expected a relative path; make it'
                " relative to this file"
            ),
        ),
        (
            TARGET + "  project: ${HOME}\n",
            (
                "8:12: spec.project: unsupported variable ${HOME}; use a variable whose name starts with"
                " RECONCILE_VAR_, or write the value out"
            ),
        ),
        (
            TARGET + "  project: ${RECONCILE_VAR_P}\n",
            "8:12: spec.project: variable RECONCILE_VAR_P is not set; set it, or write the value out",
        ),
    ],
)
def test_what_is_wrong_with_a_target(tmp_path: Path, text: str, message: str) -> None:
    problems = [problem for problem in _problems(tmp_path, text, HOME="/root") if "m.yaml" not in problem]
    assert problems[0] == f"reconcile.yaml:{message}"


@each_row(
    "endpoint",
    [
        "http://example.com",
        "ftp://example.com",
        "example.com",
        "https://",
        "https://user:secret@example.com",
        "https://token@example.com",
        "https://example.com/v1",
        "https://example.com?x=1",
        "https://example.com?",
        "https://example.com#x",
        "https://example.com:port",
        "https://exa mple.com",
        "https://Example.com",
        "https://example_com",
        "https://example%2ecom",
        "https://evil.example\\\\.example.com",
        "https://example.com:4_4",
        "https://[::1%25eth0]",
        "https://[example.com]",
        "https://ex\u00e4mple.com",
        "http://127.0.0.1.example.com",
        "http://[::1",
    ],
)
def test_endpoints_that_may_not_be_used(tmp_path: Path, endpoint: str) -> None:
    (problem,) = _problems(tmp_path, f'{REMOTE}  endpoint: "{endpoint}"\n')
    assert problem == (
        "reconcile.yaml:8:13: spec.endpoint: unsupported address; set https://HOST, or http://"
        " with a loopback address, without a path"
    )


@each_row(
    "endpoint",
    ["https://example.com", "https://example.com:8443", "http://localhost:80", "http://127.8.9.1", "http://[::1]:8080"],
)
def test_endpoints_that_may_be_used(tmp_path: Path, endpoint: str) -> None:
    assert load_in(sample(tmp_path, target=f'{REMOTE}  endpoint: "{endpoint}/"\n')).target.endpoint == endpoint


def test_the_address_of_cloud_storage_is_held_to_the_same_rule(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, VERTEX + "  storageEndpoint: http://example.com\n")
    assert problem == (
        "reconcile.yaml:11:20: spec.storageEndpoint: unsupported address; set https://HOST, or"
        " http:// with a loopback address, without a path"
    )


@each_row(
    ("more", "expected"),
    [
        ("", ""),
        ("  endpoint: https://example.com\n", ""),
        ("  endpoint: http://127.0.0.1:80/\n", "http://127.0.0.1:80"),
        ("  endpoint: http://127.0.0.1:80\n  storageEndpoint: https://example.com/\n", "https://example.com"),
        ("  storageEndpoint: http://[::1]:80\n", "http://[::1]:80"),
    ],
)
def test_cloud_storage_on_a_loopback_is_where_the_service_is(tmp_path: Path, more: str, expected: str) -> None:
    assert load_in(sample(tmp_path, target=VERTEX + more)).target.storage_endpoint == expected


def test_a_target_of_vertex_ai(tmp_path: Path) -> None:
    key = "projects/p-1/locations/europe-west4/keyRings/ring/cryptoKeys/key"
    more = (
        "  lock: gs://acme-locks/team/production.lock.json\n"
        f"  vertex: {{serviceAccount: tuner@my-project-id.iam.gserviceaccount.com, kmsKeyName: {key}}}\n"
    )
    text = VERTEX.replace("tuning-data", "tuning-data/some/prefix/") + more
    assert load_in(sample(tmp_path, target=text)).target == Target(
        name="default",
        file="reconcile.yaml",
        provider="vertex",
        scope="demo",
        project="my-project-id",
        location="europe-west4",
        bucket="gs://acme-tuning-data/some/prefix",
        lock="gs://acme-locks/team/production.lock.json",
        settings={"serviceAccount": "tuner@my-project-id.iam.gserviceaccount.com", "kmsKeyName": key},
    )


def test_what_vertex_ai_needs(tmp_path: Path) -> None:
    assert _problems(tmp_path, TARGET.replace("embedded", "vertex")) == [
        (
            "reconcile.yaml:5:1: spec.bucket: missing field that provider vertex requires; add the bucket"
            " for the upload of data sets, such as gs://acme-tuning-data"
        ),
        (
            "reconcile.yaml:5:1: spec.location: missing field that provider vertex requires; add the"
            " region for tuning, such as europe-west4"
        ),
        (
            "reconcile.yaml:5:1: spec.project: missing field that provider vertex requires; add the ID of"
            " the Google Cloud project for the models"
        ),
    ]


_BUCKET = "write gs://BUCKET or gs://BUCKET/PREFIX, as in gs://acme-tuning-data"
_LOCK = "write gs://BUCKET/NAME.json, as in gs://acme-tuning-data/production.lock.json"


@each_row(
    ("text", "message"),
    [
        (
            VERTEX.replace("gs://", ""),
            f'10:11: spec.bucket: invalid value "acme-tuning-data"; {_BUCKET}',
        ),
        (
            VERTEX.replace("gs://acme-tuning-data", "gs://Acme/*"),
            f'10:11: spec.bucket: invalid value "gs://Acme/*"; {_BUCKET}',
        ),
        (
            VERTEX + "  apiVersion: v1beta\n",
            (
                "11:15: spec.apiVersion: not supported by provider vertex: it selects a version of the"
                " Generative Language API; remove it"
            ),
        ),
        (
            VERTEX + "  vertex: {serviceAccount: tuner}\n",
            (
                '11:28: spec.vertex.serviceAccount: invalid value "tuner"; write an email address, as in'
                " tuner@my-project-id.iam.gserviceaccount.com"
            ),
        ),
        (
            VERTEX + "  vertex: {kmsKeyName: key}\n",
            (
                '11:24: spec.vertex.kmsKeyName: invalid value "key"; write'
                " projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
            ),
        ),
        (
            VERTEX + "  lock: reconcile.lock.json\n",
            f'11:9: spec.lock: invalid value "reconcile.lock.json"; {_LOCK}',
        ),
        (VERTEX + "  lock: gs://bucket\n", f'11:9: spec.lock: invalid value "gs://bucket"; {_LOCK}'),
        (
            TARGET + "  lock: gs://bucket/x.json\n",
            ("8:9: spec.lock: not supported by provider embedded: the lockfile is always a local file; remove it"),
        ),
        (
            TARGET + "  endpoint: http://127.0.0.1:80\n",
            (
                "8:13: spec.endpoint: not supported by provider embedded: the service runs in the process of"
                " the command; remove it"
            ),
        ),
        (
            TARGET + "  storageEndpoint: http://127.0.0.1:80\n",
            ("8:20: spec.storageEndpoint: not supported by provider embedded: Cloud Storage is not used; remove it"),
        ),
        (
            REMOTE + "  bucket: gs://bucket\n",
            (
                "8:11: spec.bucket: not supported by provider generativelanguage: data sets are sent in"
                " requests; remove it"
            ),
        ),
        (
            REMOTE + "  vertex: {}\n",
            (
                "8:11: spec.vertex: not supported by provider generativelanguage: it contains settings of"
                " Vertex AI; remove it"
            ),
        ),
    ],
)
def test_what_does_not_fit_the_provider(tmp_path: Path, text: str, message: str) -> None:
    assert _problems(tmp_path, text) == [f"reconcile.yaml:{message}"]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    more = (
        "  apiVersion: v1beta\n  endpoint: http://example.com\n  location: ${RECONCILE_VAR_L}\n"
        "  limits: {maxSteps: -1}\n"
        "  embedded: {world: 1}\n  colour: red\n"
    )
    text = TARGET.replace("embedded", "vertex").replace("default", "blue") + more
    assert [
        problem.removeprefix("reconcile.yaml:").partition(": ")[2].partition(": ")[0]
        for problem in _problems(tmp_path, text)
    ] == [
        "metadata.name",
        "spec.bucket",
        "spec.project",
        "spec.apiVersion",
        "spec.endpoint",
        "spec.location",
        "spec.limits.maxSteps",
        "spec.embedded.world",
        "spec.colour",
    ]


@each_row(
    ("wrong", "path"),
    [
        ("metadata: {name: 1}", "metadata.name"),
        ("metadata: 1", "metadata"),
        ("metadata: {name: default}\nspec: 1", "spec"),
        ("metadata: {name: default}\nspec: {provider: [vertex], scope: demo}", "spec.provider"),
        ("metadata: {name: default}\nspec: {provider: vertex, scope: demo, endpoint: 1}", "spec.endpoint"),
        ("metadata: {name: default}\nspec: {provider: embedded, scope: demo, embedded: 1}", "spec.embedded"),
        (
            "metadata: {name: default}\nspec: {provider: embedded, scope: demo, embedded: {world: 1}}",
            "spec.embedded.world",
        ),
    ],
)
def test_what_has_the_wrong_type_is_told_once(tmp_path: Path, wrong: str, path: str) -> None:
    problems = _problems(tmp_path, f"apiVersion: tuning.reconcile/v1alpha1\nkind: Target\n{wrong}\n")
    assert [f" {path}: invalid value" in problem for problem in problems].count(True) == 1
    assert [f" {path}: " in problem for problem in problems].count(True) == 1


def test_a_target_of_the_generative_language_api_may_have_a_location_and_a_lockfile_in_a_bucket(tmp_path: Path) -> None:
    more = "  project: my-project-id\n  location: europe-west4\n  lock: gs://bucket/x.json\n"
    target = load_in(sample(tmp_path, target=REMOTE + more)).target
    assert (target.project, target.location, target.lock) == ("my-project-id", "europe-west4", "gs://bucket/x.json")


def test_two_targets_with_the_same_lockfile(tmp_path: Path) -> None:
    ours = VERTEX + "  lock: gs://bucket/x.json\n"
    other = ours.replace("default", "blue").replace("scope: demo", "scope: blue")
    write(
        sample(tmp_path, target=ours),
        {
            "reconcile.blue.yaml": other,
            "reconcile.red.yaml": "apiVersion: tuning.reconcile/v1alpha1\nkind: Target\nspec: 1\n",
        },
    )
    assert messages(load_in(tmp_path)) == [
        (
            "reconcile.yaml:11:9: spec.lock: the target in reconcile.blue.yaml has the same lockfile; set"
            " a different lockfile in each target"
        )
    ]


def test_variables_are_expanded_in_the_texts_of_a_target(tmp_path: Path) -> None:
    sample(tmp_path, target=TARGET.replace("demo", "${RECONCILE_VAR_TEAM}/${RECONCILE_VAR_NAME}-x"))
    target = load_in(tmp_path, environ={"RECONCILE_VAR_TEAM": "acme", "RECONCILE_VAR_NAME": "nlp"}).target
    assert target.scope == "acme/nlp-x"


def test_what_a_variable_holds_is_not_expanded_again(tmp_path: Path) -> None:
    text = TARGET.replace("demo", "${RECONCILE_VAR_A}")
    (problem,) = _problems(tmp_path, text, RECONCILE_VAR_A="${RECONCILE_VAR_B}", RECONCILE_VAR_B="b")
    assert 'invalid value "${RECONCILE_VAR_B}"' in problem


def test_a_manifest_has_no_environment_variables(tmp_path: Path) -> None:
    sample(tmp_path, manifest=MANIFEST + "  description: ${RECONCILE_VAR_A}\n")
    found = load_in(tmp_path, environ={"RECONCILE_VAR_A": "x"})
    assert not found.manifests
    assert messages(found) == [
        (
            "m.yaml:9:16: spec.description: undefined variable ${RECONCILE_VAR_A}; define it in spec.variables of"
            " reconcile.yaml, or write $${RECONCILE_VAR_A} for the text itself"
        )
    ]


def test_two_targets_for_the_same_models(tmp_path: Path) -> None:
    write(sample(tmp_path), {"reconcile.blue.yaml": TARGET.replace("default", "blue")})
    (message,) = messages(load_in(tmp_path))
    assert message == (
        "reconcile.yaml:7:10: spec.scope: the target in reconcile.blue.yaml has the same provider,"
        " project, location and scope; set a different scope in each target"
    )


@each_row("other", ["broken: [", TARGET.replace("demo", "other"), TARGET + "  project: my-project\n", "a: 1\n"])
def test_other_targets_that_are_no_rivals(tmp_path: Path, other: str) -> None:
    write(sample(tmp_path), {"reconcile.blue.yaml": other.replace("default", "blue")})
    assert not messages(load_in(tmp_path))


def _staged(*stages: str, other: str = "") -> str:
    return f"{TARGET}{other}  stages: [{', '.join(f'{{{stage}}}' for stage in stages)}]\n"


_STAGING, _PRODUCTION = "name: staging", "name: production, after: staging"


@each_row(
    ("target", "expected"),
    [
        (_staged(other="  publish: a.json\n"), ["8:12: spec.publish: not supported together", "stages: empty list"]),
        (_staged("name: A"), ['invalid value "A"; use at most 31 lower-case letters, digits and hyphens']),
        (_staged("after: x"), ["spec.stages[0].name: missing required field", "[0].after: the first stage follows no"]),
        (_staged("name: a, soak: 1h"), ["spec.stages[0].soak: the first stage has no stage before it to wait for"]),
        (_staged("name: a, soek: 1h"), ['spec.stages[0].soek: unknown field "soek"; did you mean soak?']),
        (
            _staged(_STAGING, "name: b, after: staging, soak: 1d"),
            ['[1].soak: invalid value "1d"; write hours, minutes'],
        ),
        (
            _staged(_STAGING, "name: b"),
            ["[1].after: missing required field: only the first stage", "add after: staging"],
        ),
        (_staged(_STAGING, "name: b, after: stagin"), ['no stage is named "stagin"; did you mean staging?']),
        (_staged(_STAGING, "name: b, after: b"), ["[1].after: a stage cannot follow itself"]),
        (_staged(_STAGING, "name: b, after: c", "name: c, after: b"), ['[1].after: "c" is declared below this stage']),
        (
            _staged(_STAGING, "name: staging, after: staging"),
            ['[1].name: duplicate name "staging" (first used by spec.stages[0])', "a stage cannot follow itself"],
        ),
        (
            _staged("name: staging, publish: a.json", f"{_PRODUCTION}, publish: ./a.json"),
            ["[1].publish: spec.stages[0] publishes its pointer to this path too; set a different path in each stage"],
        ),
        (_staged("name: a, publish: a.txt"), ["[0].publish: a.txt: expected a file name that ends in .json"]),
        (_staged(*[f"name: s{number}" for number in range(11)])[:-1] + "\n", ["11 items exceed the limit of 10"]),
        (_staged("name: a, checks: [{name: c, prompt: p}]"), ["checks[0]: missing required field: expect or assert"]),
        (
            _staged("name: a, checks: [{name: c, prompt: p, expect: {matches: '('}}]"),
            ["spec.stages[0].checks[0].expect.matches: invalid regular expression"],
        ),
        (
            _staged("name: a, checks: [{name: c, prompt: p, assert: [{type: llm-rubric, value: polite}]}]"),
            ["checks[0].judge: missing field that llm-rubric requires; add judge: {model: NAME} to the check, or"],
        ),
        (
            _staged("name: a, checks: [{name: c, dataset: {path: d.csv}}]"),
            ['checks[0].dataset: unknown field "dataset"'],
        ),
        (
            _staged(f"name: a, checks: [{', '.join(2 * ['{name: c, prompt: p, expect: {equals: x}}'])}]"),
            ['checks[1].name: duplicate name "c"'],
        ),
        (
            _staged("name: a, checks: [{name: c, prompt: p}, {name: c, prompt: p}]"),
            ["checks[0]: missing required field: expect or assert", 'checks[1].name: duplicate name "c"'],
        ),
    ],
)
def test_errors_in_stages(tmp_path: Path, target: str, expected: list[str]) -> None:
    found = _problems(tmp_path, target)
    for part in expected:
        assert [problem for problem in found if part in problem], found


def test_stages_are_read_in_their_order(tmp_path: Path) -> None:
    check = "checks: [{name: polite, prompt: hi, expect: {contains: hello}}], publish: production.json"
    stages = (
        "name: staging, publish: staging.json",
        f"{_PRODUCTION}, soak: 1h30m, {check}",
        "name: eu, after: production",
    )
    target = load_in(sample(tmp_path, target=_staged(*stages))).target
    assert [(stage.name, stage.after) for stage in target.stages] == [
        ("staging", ""),
        ("production", "staging"),
        ("eu", "production"),
    ]
    assert target.stages[1].soak == timedelta(hours=1, minutes=30)
    assert [check.name for check in target.stages[1].checks] == ["polite"]
    assert target.first_stage == "staging"
    assert [stage.name for stage in target.stages_after("staging")] == ["production", "eu"]
    assert [stage.name for stage in target.stages_before("eu")] == ["production", "staging"]
    assert [target.destination(name) for name in ("", "production", "eu")] == ["staging.json", "production.json", ""]


def test_two_targets_with_a_common_pointer_of_stages(tmp_path: Path) -> None:
    blue = _staged("name: staging, publish: b.json", f"{_PRODUCTION}, publish: ./a.json").replace("demo", "blue")
    target = _staged("name: staging, publish: c.json", f"{_PRODUCTION}, publish: a.json")
    write(sample(tmp_path, target=target), {"reconcile.blue.yaml": blue.replace("default", "blue")})
    (message,) = messages(load_in(tmp_path))
    assert "spec.stages[1].publish: the target in reconcile.blue.yaml publishes its pointer to this path too" in message


def test_no_target_file(tmp_path: Path) -> None:
    write(tmp_path, {"m.yaml": MANIFEST})
    with pytest.raises(UsageError) as caught:
        load_in(tmp_path, "m.yaml")
    assert str(caught.value) == (
        'target "default" not found: no reconcile.yaml in m.yaml or a directory above it; run `reconcile'
        " init` to create a target, or pass `--target embedded`"
    )
    assert caught.value.exit_status == 64


def test_a_target_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    write(sample(tmp_path), {"reconcile.production.yaml": TARGET})
    with pytest.raises(UsageError) as caught:
        load_in(tmp_path, target="prodution")
    assert str(caught.value) == (
        'target "prodution" not found: no reconcile.prodution.yaml in . or a directory above it; set'
        " --target to one of: production, default (did you mean production?)"
    )


def test_the_working_folder_of_standard_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no reconcile.yaml in the working directory .* pass `--root FOLDER` if the"):
        load_in(tmp_path, "-", stdin="")


@each_row("name", ["../x", "a.b", "", "x" * 64, "a\n"])
def test_names_that_no_target_can_have(tmp_path: Path, name: str) -> None:
    if not name:
        assert load_in(sample(tmp_path), target=name).target.name == "default"
        return
    with pytest.raises(UsageError, match=r"invalid target name .*; use letters, digits, hyphens and underscores$"):
        load_in(sample(tmp_path), target=name)


def test_the_root_is_the_nearest_folder_above(tmp_path: Path) -> None:
    write(sample(tmp_path), {"a/b/m.yaml": MANIFEST.replace("data.csv", "../../data.csv")})
    workspace = load_in(tmp_path / "a", "b/m.yaml")
    assert workspace.root == tmp_path
    assert workspace.target.file == str(Path("..", "reconcile.yaml"))
    assert workspace.manifests[0].file == "a/b/m.yaml"
    assert load_in(tmp_path, str(tmp_path / "a")).target.file == str(tmp_path / "reconcile.yaml")
