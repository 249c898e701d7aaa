"""Base models on the command line: the list, and the warnings of the catalog in every command and report."""

from __future__ import annotations

from datetime import UTC, datetime
from html import unescape
from pathlib import Path

from support.cli_world import TARGET, Cli
from support.render_values import held_to
from support.vertex_world import World

NAME = "models/gemini-3.5-flash"
RETIRING = f"the retirement date of {NAME} is 2026-02-11, in 41 days, according to the model catalog of 2025-12-01"


def known(reconcile: Cli, facts: str) -> None:
    """Let the target add a base model to the catalog."""
    (reconcile.specs / "reconcile.yaml").write_text(f"{TARGET}  models: models.toml\n")
    (reconcile.specs / "models.toml").write_text(f'date = 2025-12-01\n[models."{NAME}"]\n{facts}\n')


def test_retirement_is_shown_by_every_command_and_report(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    known(reconcile, 'retirement = 2026-02-11\nsuccessor = "models/next"')
    place = "specs/adder.yaml:5:3: "
    warning = f"spec.baseModel: {RETIRING}; set spec.baseModel to models/next"

    validated = reconcile("validate")
    assert (validated.status, validated.out.count(place)) == (0, 1)
    assert f"{place}warning: {warning}" in validated.out
    reconcile.environ["GITHUB_ACTIONS"] = "true"
    annotated = reconcile("validate")
    del reconcile.environ["GITHUB_ACTIONS"]
    assert "::warning file=specs/adder.yaml,line=5,col=3,title=" in annotated.err
    assert f"::{RETIRING}; set spec.baseModel to models/next\n" in annotated.err
    reports = {suffix: reconcile.folder / f"plan.{suffix}" for suffix in ("md", "html", "xml", "json")}
    options = [option for file in reports.values() for option in ("--report", str(file))]
    planned = reconcile("plan", *options)
    assert planned.status == 0
    assert f"Note: {place}{warning}" in planned.out
    for file in reports.values():
        assert RETIRING in unescape(file.read_text().replace("`", "")), file
    assert reconcile("apply", "--yes").status == 0

    noted = reconcile("drift", "--format", "json")
    (finding,) = (one for one in held_to("drift", noted.document)["findings"] if one["class"] == "BaseModelRetiring")
    assert (noted.status, finding["severity"]) == (0, "note")
    facts = {"baseModel": NAME, "date": "2026-02-11", "daysLeft": 41, "successor": "models/next"}
    assert finding["retirement"] == facts
    page = reconcile.folder / "drift.html"
    failed = reconcile("drift", "--fail-on", "BaseModelRetiring", "--report", str(page))
    assert failed.status == 2
    assert "Drift: 1 BaseModelRetiring" in failed.out
    timeline = page.read_text().partition('class="timeline"')[2].partition("</ol>")[0]
    assert all(text in timeline for text in ("2026-02-11", "in 41 days", NAME, "adder", "models/next"))

    reconcile.clock.now = datetime(2026, 2, 11, tzinfo=UTC)
    (retired,) = (one for one in reconcile("validate", "--format", "json").document["problems"])
    assert retired["message"].startswith(f"{NAME} was retired on 2026-02-11")
    # The embedded service still lists it as tunable, and its word counts.
    assert "BaseModelRetired" not in reconcile("drift").out


def test_errors_in_the_file_of_a_target_have_their_place(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    known(reconcile, "adapterSize = [1]")
    answer = reconcile("plan")
    assert answer.status == 1
    assert answer.err.startswith(
        f'specs/models.toml:3:1: models."{NAME}".adapterSize: unknown field "adapterSize"; did you mean adapterSizes?'
    )
    (reconcile.specs / "models.toml").unlink()
    (reconcile.specs / "models.toml").symlink_to(Path("/etc/hostname"))
    assert reconcile("validate").out.startswith("specs/reconcile.yaml:7:11: spec.models: models.toml: outside the repo")


def test_a_wrong_location_warns_and_the_service_decides(reconcile: Cli, world: World) -> None:
    assert world.url
    file = reconcile.manifest(
        "adder", more="  vertex: {baseModel: gemini-3.5-flash, hyperparameters: {adapterSize: 32}}\n"
    )
    target = reconcile.specs / "reconcile.vertex.yaml"
    target.write_text(target.read_text().replace("location: europe-west4", "location: asia-east1"))
    answer = reconcile("apply", "--yes", "--target", "vertex")
    catalog = "according to the model catalog of 2026-11-29"
    places = "set spec.location of the target to one of europe-west4, us-central1"
    assert (
        f"{file.name}:8:12: spec.vertex.baseModel: gemini-3.5-flash cannot be tuned in asia-east1, {catalog}; {places}"
        in (answer.err + answer.out)
    )
    assert f"spec.vertex.hyperparameters.adapterSize: gemini-3.5-flash has no adapter size 32, {catalog}" in (
        answer.err + answer.out
    )
    assert (answer.status, "Models: 1 refused" in answer.out) == (1, True)


def test_the_list_of_the_catalog_and_of_the_service(reconcile: Cli) -> None:
    known(reconcile, "retirement = 2026-02-11")
    document = held_to("models", reconcile("models", "--format", "json").document)
    models = {one["name"]: one for one in document["models"]}
    assert (document["asOf"], document["verified"]) == ("2025-12-01", True)
    assert (models[NAME]["state"], models[NAME]["listed"], models[NAME]["daysLeft"]) == ("retiring", True, 41)
    offline = reconcile("models", "--offline")
    assert offline.out.startswith("Target default: embedded service (simulated training), scope demo\nBASE MODEL ")
    assert f"{NAME} " in offline.out
    assert "models/gemini-3.5-flash " in offline.out


def test_the_list_without_credentials_is_that_of_the_catalog(reconcile: Cli, world: World) -> None:
    assert world.url
    del reconcile.environ["RECONCILE_ACCESS_TOKEN"]
    listed = reconcile("models", "--target", "gl")
    assert listed.status == 0
    assert "was not queried for its base models: " in listed.out
    assert "No base model can be tuned." in listed.out
    vertex = reconcile("models", "--target", "vertex", "-v")
    assert "Note: Vertex AI does not list which base models can be tuned" in vertex.out
    assert all(
        name in vertex.out
        for name in ("gemini-3.5-flash ", "gemini-3.1-flash-lite ", "2026-10-20", "2027-05-19 or later")
    )


def test_manifests_migrate_all_or_none(reconcile: Cli) -> None:
    """What is due, what is named, what is refused; the diff, the JSON, the report, and no other byte changed."""
    known(reconcile, 'retirement = 2026-02-11\nsuccessor = "models/next"\n[models."models/next"]\nmaxEpochs = 1')
    files = {name: reconcile.manifest(name) for name in ("adder", "other")}
    child = reconcile.manifest("child")
    child.write_text(child.read_text().replace(f"baseModel: {NAME}", "source: {tunedModel: adder}"))
    block = files["other"].read_text().replace(f"baseModel: {NAME}", f"baseModel: >-\n    {NAME}")
    files["other"].write_bytes(block.replace("\n", "\r\n").encode())
    before = {name: file.read_bytes() for name, file in files.items()}

    reports = [reconcile.folder / f"migration.{suffix}" for suffix in ("md", "html", "xml", "json")]
    refused = reconcile("migrate", *(option for file in reports for option in ("--report", str(file))))
    place = "specs/other.yaml:5:14: spec.baseModel: its value spans several lines; write it on the line of its key"
    assert (refused.status, place in refused.out) == (1, True)
    assert "1 manifest cannot be changed; nothing was written." in refused.out
    assert all("its value spans several lines" in file.read_text() for file in reports)
    assert {name: file.read_bytes() for name, file in files.items()} == before

    planned = reconcile("migrate", "--dry-run", "adder", "child", "--format", "json")
    document = held_to("migration", planned.document)
    outcomes = {model["name"]: model["outcome"] for model in document["models"]}
    assert (planned.status, document["written"], outcomes) == (0, False, {"adder": "changed", "child": "unchanged"})
    (change,) = document["changes"]
    assert (change["names"], change["baseModel"], change["successor"]) == (["adder"], NAME, "models/next")
    assert "\n-  baseModel: models/gemini-3.5-flash\n+  baseModel: models/next\n" in document["files"][0]["diff"]
    assert files["adder"].read_bytes() == before["adder"]

    written = reconcile("migrate", "adder")
    assert (written.status, "1 file written. Nothing was trained: run reconcile plan." in written.out) == (0, True)
    expected = before["adder"].replace(NAME.encode(), b"models/next").replace(b"epochCount: 2", b"epochCount: 1")
    assert files["adder"].read_bytes() == expected
    again = reconcile("migrate", "--only", "adder", "--format", "json")
    message = "the model catalog of 2025-12-01 names no successor of models/next"
    assert (again.status, again.document["models"][0]["message"].split("; ")[0]) == (0, message)
    unknown = reconcile("migrate", "addr")
    assert (unknown.status, unknown.err.strip()) == (
        64,
        "Error: migrate addr: no manifest of that name; did you mean adder?",
    )


def test_a_file_that_cannot_be_written_leaves_the_others_as_they_were(reconcile: Cli) -> None:
    known(reconcile, 'retirement = 2026-02-11\nsuccessor = "models/next"')
    _add_hidden_examples(reconcile)
    files = [reconcile.manifest(name) for name in ("adder", "zeta")]
    real = reconcile.specs / ".zeta.yaml"
    files[1].rename(real)
    files[1].symlink_to(real)
    before = [file.read_bytes() for file in files]

    answer = reconcile("migrate")

    assert (answer.status, "specs/zeta.yaml cannot be written: it is a symbolic link" in answer.err) == (1, True)
    assert [file.read_bytes() for file in files] == before
    shown = reconcile("migrate", "--dry-run", "--format", "json").document
    assert [file.get("diff", "") for file in shown["files"]] == ["", ""], "it could contain examples"


def _add_hidden_examples(reconcile: Cli) -> None:
    target = reconcile.specs / "reconcile.yaml"
    target.write_text(f"{target.read_text()}  policy: {{showExamples: false}}\n")
