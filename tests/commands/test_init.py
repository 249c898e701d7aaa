"""init and add: what they find out, ask and write; init --ci: what it writes, and what is left to do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from support.cli_world import EXAMPLES, TARGET, Cli, Terminal
from support.files_samples import CORPUS


@pytest.fixture
def empty(reconcile: Cli) -> Cli:
    """A folder without any target."""
    (reconcile.specs / "reconcile.yaml").unlink()
    reconcile.specs.rmdir()
    return reconcile


def test_init_leads_to_a_model_in_two_commands(empty: Cli) -> None:
    made = empty("init")

    assert made.status == 0, made.err
    assert "wrote specs/reconcile.yaml" in made.out
    assert "wrote .gitignore" in made.out
    assert made.out.splitlines()[-1] == "Next: reconcile plan specs"
    assert empty("plan", "specs").status == 0
    assert empty("apply", "specs", "--yes").status == 0
    assert (empty.folder / ".gitignore").read_text() == ".reconcile/\n"


def test_init_guesses_the_columns_of_a_data_set(empty: Cli) -> None:
    rows = "\n".join(f"{number},{question},{answer}" for number, (question, answer) in enumerate(EXAMPLES))
    (empty.folder / "tickets.csv").write_text(f"id,question,answer\n{rows}\n")

    made = empty("init", "--from", "tickets.csv", "--name", "support")

    assert made.status == 0, made.err
    manifest = (empty.specs / "support.yaml").read_text()
    assert "inputField: question" in manifest
    assert "outputField: answer" in manifest
    assert empty("validate").status == 0


def test_init_overwrites_nothing(empty: Cli) -> None:
    empty("init")
    before = (empty.specs / "reconcile.yaml").read_text()

    again = empty("init", "--name", "other")

    assert again.status == 1
    assert "specs/reconcile.yaml already exists, so nothing was written" in again.err
    assert (empty.specs / "reconcile.yaml").read_text() == before
    assert not (empty.specs / "other.yaml").exists()


def _files(folder: Path) -> dict[str, bytes]:
    return {os.path.relpath(file, folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_new_project_gets_both(empty: Cli) -> None:
    made = empty("init", "--ci", "github", "--name", "support")

    assert made.status == 0, made.err
    assert "wrote specs/support.yaml\n" in made.out
    assert "wrote .github/workflows/reconcile-pull-request.yml\nwrote" in made.out
    assert "\nNext: reconcile plan specs\n" in made.out
    assert empty("validate").status == 0


def test_a_directory_with_a_target_is_not_changed(empty: Cli) -> None:
    (empty.folder / "reconcile.yaml").write_text("kind: Target\n")
    answer = empty("init")
    assert answer.status == 64
    assert "reconcile.yaml: this directory already has a target" in answer.err
    assert not (empty.folder / "specs").exists()


def test_a_project_that_is_there_gets_the_workflows_alone(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    reconcile.target("", "prod")
    before = _files(reconcile.folder)

    made = reconcile("init", "--ci", "github", "--target", "default")
    more = reconcile("init", "--ci", "github", "--target", "prod")

    assert (made.status, more.status) == (0, 0), made.err + more.err
    added = _files(reconcile.folder).keys() - before.keys()
    names = ("pull-request", "locked", "settle", "merged", "drift")
    workflows = {f".github/workflows/reconcile-{name}{end}.yml" for name in names for end in ("", "-prod")}
    assert added == workflows | {".github/reconcile.txt"}
    assert {name: _files(reconcile.folder)[name] for name in before} == before
    assert made.out.endswith(
        "To set up, see docs/ci.md of reconcile:\n"
        "1. Write the requirements for pip to install reconcile, with hashes, into .github/reconcile.txt.\n"
        "2. Create the environment reconcile-train, with the reviewers who approve spending.\n"
        "3. Create the environment reconcile-decisions, with the reviewers who approve rollbacks.\n"
        "4. Create the environment reconcile, restricted to the branch main.\n"
        "5. Add a deploy key with write access, and set its private key as RECONCILE_DEPLOY_KEY in the environments "
        "reconcile-train and reconcile.\n"
        "6. Set up workload identity federation, and set the variables WORKLOAD_IDENTITY_PROVIDER, PLAN_ACCOUNT and "
        "APPLY_ACCOUNT.\n"
        "7. Require the check reconcile-locked in a ruleset of main that deploy keys bypass.\n"
        "8. Restrict what actions may do in the settings of the repository.\n"
        "9. Set RECONCILE_PULL_REQUEST_TOKEN in the environment reconcile to a token that can open pull requests, "
        "for base models that are retired.\n"
        "10. Optional: enable the merge queue.\n"
        "11. Use a target of a real service: models on the embedded service are not shared between jobs.\n"
    )
    assert "the check reconcile-locked-prod in a ruleset" in more.out
    assert "Next:" not in made.out


def test_several_targets_get_workflows_environments_and_accounts_of_their_own(reconcile: Cli) -> None:
    vertex = "  provider: vertex\n  project: acme-NAME\n  location: europe-west4\n  bucket: gs://acme-data/NAME\n"
    for name in ("stage", "prod"):
        reconcile.target("", name)
        file = reconcile.specs / f"reconcile.{name}.yaml"
        file.write_text(TARGET.replace("default", name).replace("  provider: embedded\n", vertex.replace("NAME", name)))

    made = reconcile("init", "--ci", "github")  # the default target is the embedded service, which jobs do not share

    assert made.status == 0, made.err
    folder = reconcile.folder / ".github" / "workflows"
    assert len(list(folder.iterdir())) == 10
    for name, end in (("stage", "_STAGE"), ("prod", "_PROD")):
        workflow = yaml.safe_load((folder / f"reconcile-pull-request-{name}.yml").read_text(encoding="utf-8"))
        train = workflow["jobs"]["train"]
        assert (workflow["env"]["RECONCILE_TARGET"], train["environment"]) == (name, f"reconcile-train-{name}")
        assert train["concurrency"]["group"].startswith(f"reconcile-train-{name}-")
        accounts = {step["with"]["service_account"] for step in train["steps"] if "google" in step.get("uses", "")}
        assert accounts == {f"${{{{ vars.APPLY_ACCOUNT{end} }}}}"}
        assert f"Create the environment reconcile-train-{name}, with the reviewers who approve spending.\n" in made.out
    assert made.out.count("Restrict what actions may do in the settings of the repository.") == 1
    both = reconcile("init", "--ci", "gitlab", "--target", "all")
    names = {file.name for file in (reconcile.folder / ".gitlab").iterdir()}
    assert (both.status, names) == (
        0,
        {"reconcile.yml", "reconcile-stage.yml", "reconcile-prod.yml", "reconcile.txt"},
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a-b", "a_b"], "targets a-b and a_b would share the variables _A_B of the CI platform; rename one of them"),
        (["Prod", "prod"], "targets Prod and prod would share the variables _PROD of the CI platform"),
        (["train"], "targets default and train would share the environment reconcile-train of the CI platform"),
        (["prod", "train-prod"], "targets prod and train-prod would share the environment reconcile-train-prod of"),
        (["x}} && $(id) #"], 'invalid target name "x}} && $(id) #"; use letters, digits, hyphens and underscores'),
        (["all"], 'metadata.name: reserved name "all"'),
    ],
)
def test_names_of_targets_cannot_reach_what_is_anothers(reconcile: Cli, names: list[str], message: str) -> None:
    for number, name in enumerate(names):
        reconcile.target("", name)
        file = reconcile.specs / f"reconcile.{name}.yaml"
        file.write_text(file.read_text().replace("scope: demo", f"scope: demo{number}"))
    before = _files(reconcile.folder)

    answer = reconcile("init", "--ci", "github")

    assert answer.status in {1, 64}
    assert message in answer.err
    assert _files(reconcile.folder) == before


def test_gitlab(reconcile: Cli) -> None:
    reconcile.manifest("adder")

    made = reconcile("init", "--ci", "gitlab")

    assert made.status == 0, made.err
    assert made.out.startswith("wrote .gitlab/reconcile.txt\nwrote .gitlab/reconcile.yml\n")
    assert "1. Add {local: .gitlab/reconcile.yml} to the list of include in .gitlab-ci.yml.\n" in made.out


def test_the_manifests_may_stand_in_the_working_folder(reconcile: Cli) -> None:
    (reconcile.folder / ".git").mkdir()
    (reconcile.specs / "reconcile.yaml").rename(reconcile.folder / "reconcile.yaml")
    reconcile.specs.rmdir()

    assert reconcile("init", "--ci", "github").status == 0

    text = (reconcile.folder / ".github" / "workflows" / "reconcile-settle.yml").read_text(encoding="utf-8")
    assert 'SPECS: "."\n  LOCKFILE: "reconcile.lock.json"\n' in text


_NO_PROD = 'target "prod" not found: no reconcile.prod.yaml in specs or a directory above it'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ci", "github", "--name", "x"],
            "--from and --name need a new project, but a target exists; remove them",
        ),
        (["--target", "prod"], "--target needs --ci; remove it, or add --ci github or --ci gitlab"),
        (["--ci", "github", "--target", "prod"], f"{_NO_PROD}; set --target to one of: default"),
    ],
)
def test_invalid_arguments_are_usage_errors(reconcile: Cli, arguments: list[str], message: str) -> None:
    before = _files(reconcile.folder)

    answer = reconcile("init", *arguments)

    assert (answer.status, answer.err) == (64, f"Error: {message}\n")
    assert _files(reconcile.folder) == before


def test_a_target_with_problems(reconcile: Cli) -> None:
    reconcile.target("  lcok: x\n")

    answer = reconcile("init", "--ci", "github")

    assert answer.status == 1
    assert answer.err == 'specs/reconcile.yaml:7:3: spec.lcok: unknown field "lcok"; did you mean lock?\n'


SHAPES = {
    "plain": "csv-two-columns.csv",
    "semicolons": "csv-semicolon.csv",
    "bars": "csv-pipe.csv",
    "utf-16": "csv-utf-16.csv",
    "tabs": "tsv-plain.tsv",
    "gzip": "csv-gzip.csv.gz",
    "openai": "openai-messages.jsonl",
    "gemini": "gemini.jsonl",
    "alpaca": "alpaca.jsonl",
    "sharegpt": "sharegpt.jsonl",
    "preference": "csv-preference.csv",
    "transcripts": "preference-transcripts.jsonl",
    "zstd": "csv-zstd.csv.zst",
    "no-header": "csv-no-header.csv",
    "wrapped": "json-wrapped.json",
    "ndjson": "ndjson.ndjson",
}


def test_each_shape_with_single_turns_leads_to_a_serving_model(empty: Cli) -> None:
    for file in SHAPES.values():
        shutil.copy(CORPUS / file, empty.folder / file)
    first, *others = SHAPES

    made = [empty("init", "--from", SHAPES[first], "--name", first)]
    made += [empty("add", name, "--from", SHAPES[name]) for name in others]
    applied = empty("apply", "--yes")

    assert [answer.err for answer in made] == [""] * len(SHAPES)
    assert applied.status == 0, applied.err
    assert {name for name, model in empty.lock.items() if model.get("serving")} == {*SHAPES}


def test_add_shows_how_a_data_set_is_read(reconcile: Cli) -> None:
    (reconcile.folder / ".git").mkdir()
    reconcile.manifest("adder")
    (reconcile.folder / "tickets.csv").write_text(
        "id;date;question;answer\n7;2026-01-02;Why?;Because\n9;2026-01-03;How?;So\n"
    )

    made = reconcile("add", "support", "--from", "tickets.csv")

    assert made.out.splitlines()[:4] == [
        'tickets.csv: 2 examples, one input and one output, delimiter ";"',
        '  input  "question" as in "Why?"',
        '  output "answer" as in "Because"',
        "  not used: id, date",
    ]
    assert made.out.splitlines()[-1] == "Next: reconcile plan specs/support.yaml"
    assert "    path: ../tickets.csv\n" in (reconcile.specs / "support.yaml").read_text()
    assert reconcile("validate").status == 0


def test_add_copies_what_is_outside_the_repository_and_overwrites_nothing(reconcile: Cli) -> None:
    data = reconcile.folder / "a.csv"
    data.write_text("text_input,output\n1,a\n2,b\n")

    first, again = reconcile("add", "one", "--from", "a.csv"), reconcile("add", "two", "--from", "a.csv")
    same = reconcile("add", "one", "--from", "a.csv")
    data.write_text("text_input,output\n1,a\n2,c\n")
    other = reconcile("add", "three", "--from", "a.csv")

    assert f"  copied into specs, because it is outside the repository {reconcile.specs}\n" in first.out
    assert again.status == 0, again.err
    assert same.err == "Error: specs/one.yaml already declares one, so nothing was written; choose another name\n"
    assert f"{reconcile.specs}/datasets/a.csv already exists, so nothing was written" in other.err
    assert not (reconcile.specs / "three.yaml").exists()
    assert (reconcile.specs / "datasets/a.csv").read_text().endswith("2,b\n")


def test_add_writes_beside_the_other_manifests_of_the_target(reconcile: Cli) -> None:
    (reconcile.specs / "models").mkdir()
    reconcile.manifest("adder").rename(reconcile.specs / "models/adder.yaml")
    (reconcile.specs / "adder.csv").rename(reconcile.specs / "models/adder.csv")
    reconcile.target("", "prod")
    (reconcile.specs / "reconcile.yaml").unlink()
    (reconcile.specs / "a.csv").write_text("text_input,output\n1,a\n2,b\n")

    made = reconcile("add", "one", "--from", "specs/a.csv", "--target", "prod")

    assert made.out.splitlines()[-1] == "Next: reconcile plan --target prod specs/models/one.yaml"
    text = (reconcile.specs / "models/one.yaml").read_text()
    assert "    path: ../a.csv\n" in text
    schema = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert json.loads((reconcile.specs / "models" / schema).read_text())["title"]
    assert reconcile("validate", "--target", "prod").status == 0


def test_a_folder_of_the_hugging_face_hub_stands_for_its_training_file(empty: Cli) -> None:
    for split in ("train", "test"):
        file = empty.folder / f"set/data/{split}-00000.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f'{{"question": "{split} {number}", "answer": "{number}"}}\n' for number in range(3)))
    (empty.folder / "set/README.md").write_text("---\nlicense: mit\n---\n")

    made = empty("init", "--from", "set", "--name", "m")
    shutil.copy(empty.folder / "set/data/train-00000.jsonl", empty.folder / "set/data/train-00001.jsonl")
    several = empty("add", "n", "--from", "set")
    shutil.copy(empty.folder / "set/data/train-00000.jsonl", empty.folder / "set/data/training.jsonl")
    unlike = empty("add", "o", "--from", "set")

    assert '  input  "question" as in "train 0"\n' in made.out
    assert several.out.startswith("set/data/train-0000*.jsonl: 6 examples"), several.err
    assert "    path: datasets/set/data/train-0000*.jsonl\n" in (empty.folder / "specs/n.yaml").read_text().replace(
        '"', ""
    )
    assert unlike.err == (
        "Error: set has 3 data files: set/data/train-00000.jsonl, set/data/train-00001.jsonl, set/data/training.jsonl; "
        "name one of them, such as set/data/train-00000.jsonl, or several with wildcards\n"
    )


AMBIGUOUS = "a,b,c\nw,x,y\nv,x2,y2\n"


@pytest.mark.parametrize("command", [["init"], ["add", "m"]])
def test_the_remedy_for_ambiguous_fields_works(empty: Cli, command: list[str]) -> None:
    if command == ["add", "m"]:
        assert empty("init").status == 0
    (empty.folder / "a.csv").write_text(AMBIGUOUS)

    refused = empty(*command, "--from", "a.csv")

    message, _, options = refused.err.removesuffix("\n").partition("such as ")
    assert message == (
        "Error: a.csv has the fields a, b, c; which of them are inputs and outputs is ambiguous; "
        "add the options for them, "
    )
    assert empty(*command, "--from", "a.csv", *options.split()).status == 0
    assert empty("validate").status == 0


def test_a_terminal_is_asked_what_is_open(empty: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty.folder / "a.csv").write_text(AMBIGUOUS)
    monkeypatch.setattr("sys.stdin", Terminal("\ngemini-3.1-flash-lite\nb\nc\n"))

    made = empty("init", "--from", "a.csv", "--name", "m")

    assert made.status == 0, made.err
    assert "Provider (embedded, generativelanguage, local, vertex) [embedded]: " in made.err
    text = (empty.specs / "m.yaml").read_text()
    assert "baseModel: gemini-3.1-flash-lite\n" in text
    assert "    inputField: b\n    outputField: c\n" in text


@pytest.mark.parametrize(
    ("variables", "arguments", "target", "reason"),
    [
        (
            {"GOOGLE_APPLICATION_CREDENTIALS": "adc.json"},
            [],
            {"provider": "vertex", "project": "acme-nlp", "location": "europe-west4", "bucket": "gs://acme-nlp-tuning"},
            "provider vertex: Application Default Credentials in adc.json found",
        ),
        (
            {
                "RECONCILE_ACCESS_TOKEN": "ya29.x",
                "GOOGLE_CLOUD_PROJECT": "acme-models",
                "GOOGLE_CLOUD_LOCATION": "us-central1",
            },
            ["--bucket", "gs://acme-data"],
            {"provider": "vertex", "project": "acme-models", "location": "us-central1", "bucket": "gs://acme-data"},
            "gcloud storage buckets create gs://acme-data --project=acme-models --location=us-central1",
        ),
        (
            {"RECONCILE_ACCESS_TOKEN": "ya29.x"},
            [],
            {"provider": "embedded"},
            "RECONCILE_ACCESS_TOKEN found; to use it, add --provider vertex --project PROJECT --bucket gs://BUCKET",
        ),
        (
            {"GEMINI_API_KEY": "AIza"},
            [],
            {"provider": "embedded"},
            "provider generativelanguage: GEMINI_API_KEY found, but no base model can be tuned there",
        ),
        ({}, [], {"provider": "embedded"}, "no credentials of a service were found"),
    ],
)
def test_init_chooses_the_provider_by_credentials(
    empty: Cli, variables: Mapping[str, str], arguments: list[str], target: Mapping[str, str], reason: str
) -> None:
    file = empty.folder / "adc.json"
    file.write_text('{"type": "service_account", "project_id": "acme-nlp"}')
    home = {"HOME": str(empty.folder), "CLOUDSDK_CONFIG": str(empty.folder / "none")}
    empty.environ = home | {name: value.replace("adc.json", str(file)) for name, value in variables.items()}

    made = empty("init", *arguments)

    assert made.status == 0, made.err
    assert reason.replace("adc.json", str(file)) in made.out
    spec = yaml.safe_load((empty.specs / "reconcile.yaml").read_text())["spec"]
    assert {field: spec.get(field) for field in target} == target
    assert empty("validate").status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--provider", "vertex"],
            "provider vertex needs project, bucket; add --project PROJECT --bucket gs://BUCKET",
        ),
        (
            ["--provider", "embedded", "--bucket", "gs://b"],
            "--bucket does not apply to provider embedded; remove --bucket",
        ),
        (
            ["--provider", "generativelanguage"],
            (
                "no base model can be tuned at Generative Language API v1beta3 today, according to the model catalog of"
                " 2026-11-29; add --base-model NAME if the service tunes it, or use --provider vertex"
            ),
        ),
        (
            ["--provider", "vertex", "--project", "p", "--bucket", "gs://acme-data"],
            (
                'spec.project: invalid value "p"; use a project id: 6 to 30 lower-case letters, digits and hyphens, '
                "beginning with a letter"
            ),
        ),
        (["--input", "a"], "--input, --output and --header describe a data set; add --from FILE"),
    ],
)
def test_options_that_do_not_make_a_project(empty: Cli, arguments: list[str], message: str) -> None:
    answer = empty("init", *arguments)

    assert (answer.status, answer.err) == (64, f"Error: {message}\n")
    assert not empty.specs.exists()


def test_preference_pairs_are_trained_as_pairs_where_that_is_supported(empty: Cli) -> None:
    target = "apiVersion: tuning.reconcile/v1alpha1\nkind: Target\nmetadata: {name: default}\n"
    (empty.folder / "reconcile.yaml").write_text(f"{target}spec: {{provider: local, scope: acme/nlp}}\n")
    pair = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
    (empty.folder / "pairs.jsonl").write_text(f"{json.dumps(pair)}\n")

    made = empty("add", "sums", "--from", "pairs.jsonl", "--base-model", f"acme/tiny@{'a' * 40}")

    assert made.status == 0, made.err
    assert '  output as in "4"\n  rejected as in "5"\n' in made.out
    assert "not used" not in made.out
    assert yaml.safe_load((empty.folder / "sums.yaml").read_text())["spec"]["method"] == "preference"
    assert "method" in empty("plan", "--offline").out
