"""doctor on the command line: every check, what it says when it fails, and what is skipped then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from reconciler.domain.model import Mark
from reconciler.providers.vertex.wire import write_labels
from support.cli_world import Cli, Result
from support.engine_world import answering
from support.provider_process import proxy_on_loopback
from support.provider_service import Time, error
from support.render_values import held_to
from support.vertex_world import World

if TYPE_CHECKING:
    from starlette.requests import Request

STORE = "specs/.reconcile/default.sqlite3"
TOKEN = "ya29.hush-hush"
Answer = Callable[["Request"], "Response | None"]
Fronted = Callable[..., str]


@pytest.fixture
def service(served: World, tmp_path: Path) -> Fronted:
    """Empty services, some of whose requests a function answers."""

    def start(answer: Answer = lambda _request: None) -> str:
        (tmp_path / "service").mkdir()
        served.begin(tmp_path / "service", Time().clock)
        served.front = answering(answer)
        return served.url

    return start


def aim(reconcile: Cli, endpoint: str, provider: str = "generativelanguage", more: str = "") -> None:
    """Point the target at a service, with a token."""
    target = reconcile.specs / "reconcile.yaml"
    lines = f"{provider}\n  project: my-project\n  endpoint: {endpoint}\n{more}"
    target.write_text(target.read_text().replace("embedded\n", lines))
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN


def answers(*routes: tuple[str, Response]) -> Answer:
    """Answer the paths that end like this."""

    def answer(request: Request) -> Response | None:
        return next((response for end, response in routes if request.url.path.endswith(end)), None)

    return answer


def found(result: Result) -> dict[str, dict[str, Any]]:
    """The findings by their check."""
    assert TOKEN not in result.out + result.err
    document = held_to("doctor", result.document)
    assert document["exitStatus"] == result.status
    return {finding["check"]: finding for finding in document["findings"]}


def statuses(result: Result) -> dict[str, str]:
    return {check: finding["status"] for check, finding in found(result).items()}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_fresh_project_is_ready_and_stays_as_it_is(reconcile: Cli) -> None:
    reconcile.manifest("adder")
    before = everything(reconcile.folder)

    answer = reconcile("doctor")

    assert answer.status == 0, answer.err
    assert answer.out.splitlines() == [
        "Target default: embedded service (simulated training), scope demo",
        "+ ok       target       specs/reconcile.yaml is valid",
        "+ ok       manifests    1 manifest is valid",
        f"+ ok       service      the embedded service keeps its models in {STORE}, once there are any",
        "- skipped  list         nothing was trained here yet",
        "- skipped  base models  the embedded service simulates them",
        "+ ok       lockfile     specs/reconcile.lock.json does not exist yet; the first apply writes it",
        "Ready: 4 ok, 2 skipped.",
    ]
    assert everything(reconcile.folder) == before
    assert not (reconcile.specs / ".reconcile").exists()


def test_after_an_apply_everything_is_in_order(trained: Cli) -> None:

    findings = found(trained("doctor", "--format", "json"))

    assert {finding["status"] for finding in findings.values()} == {"ok"}
    assert findings["list"]["message"] == "1 tuned model is listed, 1 of them of the scope demo"
    # legacy base models: models/text-bison-001
    assert findings["baseModels"]["message"] == (
        "models/gemini-3.1-flash-lite, models/gemini-3.5-flash, models/gemini-3.5-flash-lite, models/text-bison-001"
        " can be tuned"
    )
    assert findings["lockfile"]["message"] == "specs/reconcile.lock.json records 1 model, and can be written"


def test_the_root_is_the_working_folder_or_elsewhere(reconcile: Cli) -> None:
    assert reconcile("doctor", "specs", "--format", "json").document["target"]["root"] == "specs"
    (reconcile.specs / "reconcile.yaml").rename(reconcile.folder / "reconcile.yaml")
    assert "root" not in reconcile("doctor", "--format", "json").document["target"]
    reconcile.folder = reconcile.specs
    assert reconcile("doctor", "--format", "json").document["target"]["root"] == ".."


def test_without_a_target_it_is_wrong_usage(reconcile: Cli) -> None:
    (reconcile.specs / "reconcile.yaml").unlink()

    answer = reconcile("doctor")

    assert answer.status == 64
    assert 'target "default" not found' in answer.err
    assert "reconcile init" in answer.err


def test_a_target_that_cannot_be_read_makes_the_rest_pointless(reconcile: Cli) -> None:
    reconcile.target("  colour: red\n  shape: round\n")
    broken = reconcile.manifest("adder")
    broken.write_text("{")

    answer = reconcile("doctor")

    assert answer.status == 1
    first, second, third, *rest = answer.out.splitlines()
    assert first.startswith("x failed   target       specs/reconcile.yaml:7:3: spec.colour: ")
    assert second.startswith("                        specs/reconcile.yaml:8:3: spec.shape: ")
    assert third == "                        remedy: fix the target file"
    assert rest[0] == "- skipped  manifests    skipped, because target failed"
    assert rest[-1] == "Not ready: 1 failed, 5 skipped."
    assert statuses(reconcile("doctor", "--format", "json"))["lockfile"] == "skipped"


def test_a_conflicting_target_is_reported_and_the_rest_checked(reconcile: Cli) -> None:
    reconcile.target("", name="prod")

    findings = found(reconcile("doctor", "--format", "json"))

    assert findings["target"]["status"] == "failed"
    assert "reconcile.prod.yaml has the same provider" in findings["target"]["message"]
    assert findings["manifests"]["status"] == findings["lockfile"]["status"] == "ok"


def test_wrong_manifests_are_one_warning(reconcile: Cli) -> None:
    for name in ("adder", "doubler"):
        manifest = reconcile.manifest(name)
        manifest.write_text(manifest.read_text().replace("epochCount", "epochs"))

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 0
    assert found(answer)["manifests"] == {
        "check": "manifests",
        "status": "warning",
        "message": "2 problems found",
        "remedy": "run reconcile validate",
    }


def test_a_service_on_a_port_is_ready(reconcile: Cli, service: Fronted) -> None:
    url = service()
    aim(reconcile, url)
    reconcile.manifest("adder")

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 0, answer.out
    findings = found(answer)
    assert list(findings) == ["target", "manifests", "credentials", "service", "list", "baseModels", "lockfile"]
    assert {finding["status"] for finding in findings.values()} == {"ok"}
    assert findings["credentials"]["message"] == (
        "access token from RECONCILE_ACCESS_TOKEN: account unknown; scopes unknown; quota project my-project"
    )
    assert findings["service"]["message"] == f"{url} answers"


def test_without_credentials_it_is_3_and_what_needs_them_is_skipped(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service())
    del reconcile.environ["RECONCILE_ACCESS_TOKEN"]
    reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(reconcile.folder / "nowhere.json")

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 3
    findings = found(answer)
    assert "nowhere.json, and there is no such file" in findings["credentials"]["message"]
    assert findings["credentials"]["remedy"].startswith("fix the path, or unset GOOGLE_APPLICATION_CREDENTIALS")
    assert findings["service"]["status"] == "ok"
    for check in ("list", "baseModels"):
        assert findings[check]["status"] == "skipped"
        assert findings[check]["message"] == "skipped, because credentials failed"


def test_an_invalid_token_is_reported(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service())
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = "two words"

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 3
    assert found(answer)["credentials"]["message"].startswith("invalid RECONCILE_ACCESS_TOKEN: it contains")


def test_an_unreachable_service_is_reported_with_its_cause(reconcile: Cli) -> None:
    aim(reconcile, "http://127.0.0.1:1")

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 1
    findings = found(answer)
    assert findings["service"]["message"].startswith("cannot reach 127.0.0.1:1: connection refused (")
    assert findings["service"]["remedy"] == "check spec.endpoint of the target, and the proxy settings"
    assert findings["list"]["message"] == "skipped, because service failed"
    assert findings["baseModels"]["message"] == "skipped, because service failed"
    assert findings["lockfile"]["status"] == "ok"
    assert reconcile.clock.slept == []


def test_a_service_out_of_order_is_a_warning(reconcile: Cli, service: Fronted) -> None:
    url = service(lambda request: Response(status_code=503) if request.url.path == "/" else None)
    aim(reconcile, url)

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 0
    assert found(answer)["service"]["status"] == "warning"
    assert found(answer)["service"]["message"] == f"{url} answers, but with 503"


def test_a_refusal_is_3_with_the_role_that_is_missing(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service(answers(("/tunedModels", error(403, "PERMISSION_DENIED", "Not for you.")))))

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 3
    findings = found(answer)
    assert "failed with 403 PERMISSION_DENIED: Not for you" in findings["list"]["message"]
    assert "roles/serviceusage.serviceUsageConsumer" in findings["list"]["remedy"]
    assert findings["baseModels"]["message"] == "skipped, because list failed"


def models(*named: dict[str, Any]) -> Answer:
    return answers(("/models", JSONResponse({"models": named})))


UNTUNABLE = {"name": "models/gemini-3.5-flash", "supportedGenerationMethods": ["generateText"]}
TUNABLE = {"name": "models/gemini", "supportedGenerationMethods": ["generateText", "createTunedModel"]}


def test_a_service_that_no_longer_tunes_has_a_remedy(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service(models(UNTUNABLE)))

    answer = reconcile("doctor")

    assert answer.status == 1
    lines = answer.out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("x failed   base models"))
    # legacy base models: gemini-1.5-flash-001
    assert "Google retired the last one of this API, gemini-1.5-flash-001, in May 2025" in lines[first]
    margin = " " * 24
    assert lines[first + 1].startswith(f"{margin}remedy: To train the same manifests on Vertex AI")
    assert f"{margin}           provider: vertex" in "\n".join(lines)


def test_base_models_of_manifests_that_cannot_be_tuned_are_named(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service(answers(("/models", JSONResponse({"models": [UNTUNABLE, TUNABLE]})))))
    reconcile.manifest("adder")

    finding = found(reconcile("doctor", "--format", "json"))["baseModels"]

    assert finding["message"] == "manifests name what cannot be tuned: models/gemini-3.5-flash"
    assert finding["remedy"] == (
        "models/gemini-3.5-flash cannot be tuned: it does not support createTunedModel; set spec.baseModel to one of "
        "models/gemini"
    )


def test_a_service_that_does_not_tell_what_can_be_tuned(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service(answers(("/models", error(404, "NOT_FOUND", "No such method.")))))

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 0
    assert found(answer)["baseModels"]["status"] == "skipped"


def test_many_base_models_are_counted(reconcile: Cli, service: Fronted) -> None:
    many = [{**TUNABLE, "name": f"models/m{number}"} for number in range(7)]
    aim(reconcile, service(models(*many)))

    finding = found(reconcile("doctor", "--format", "json"))["baseModels"]

    assert finding["message"] == "models/m0, models/m1, models/m2, models/m3, models/m4 and 2 more can be tuned"


def test_plan_and_apply_hold_what_cannot_be_tuned_and_show_the_target(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service(models(UNTUNABLE)))
    reconcile.manifest("adder")
    reconcile.manifest("doubler")

    planned = reconcile("plan")

    assert planned.status == 1
    lines = planned.out.splitlines()
    first = lines.index("  ! adder                held: BaseModelUnavailable")
    assert lines[first + 1].startswith(
        "      why                this service has no base model that can be tuned: Google"
    )
    assert "                             apiVersion: tuning.reconcile/v1alpha1" in lines
    assert lines[-3] == "      why                same as adder"
    applied = reconcile("apply", "--yes")
    assert applied.status == 1
    assert "adder    held (BaseModelUnavailable): this service has no base model that can be tuned: " in applied.out
    assert "\n" + " " * len("adder    held (BaseModelUnavailable): ") + "    kind: Target\n" in applied.out
    assert "doubler  held (BaseModelUnavailable): same as adder\n" in applied.out


def test_a_lockfile_of_another_scope_is_reported(trained: Cli) -> None:
    target = trained.specs / "reconcile.yaml"
    target.write_text(target.read_text().replace("scope: demo", "scope: other"))

    answer = trained("doctor", "--format", "json")

    assert answer.status == 1
    lockfile = found(answer)["lockfile"]
    assert lockfile["message"].startswith("specs/reconcile.lock.json belongs to another scope")
    assert lockfile["remedy"].startswith(
        "restore the old scope, or describe the new one in a target file with another name"
    )


def test_an_unreadable_lockfile_is_reported(reconcile: Cli) -> None:
    reconcile.lock_file.mkdir()

    lockfile = found(reconcile("doctor", "--format", "json"))["lockfile"]

    assert (lockfile["status"], lockfile["message"]) == (
        "failed",
        f"{reconcile.lock_file} cannot be read: Is a directory",
    )


def test_an_unwritable_store_is_reported(reconcile: Cli) -> None:
    (reconcile.specs / ".reconcile").write_text("in the way")

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 1
    assert found(answer)["service"]["remedy"] == "make the folder writable"


def test_the_owner_of_a_google_token_is_queried(reconcile: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    target = reconcile.specs / "reconcile.yaml"
    target.write_text(
        target.read_text().replace("provider: embedded", "provider: generativelanguage\n  project: my-project")
    )
    reconcile.environ["RECONCILE_ACCESS_TOKEN"] = TOKEN
    with proxy_on_loopback() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        answer = reconcile("doctor", "--format", "json")

    assert proxy.lines == [
        "CONNECT oauth2.googleapis.com:443 HTTP/1.1",
        "CONNECT generativelanguage.googleapis.com:443 HTTP/1.1",
    ]
    assert answer.status == 1
    findings = found(answer)
    assert findings["credentials"]["status"] == "ok"
    proxied = f"cannot reach generativelanguage.googleapis.com through the proxy {proxy.url[7:]}: "
    assert findings["service"]["message"].startswith(proxied)


BUCKET = "  location: us-central1\n  bucket: gs://acme-data/sets\n"


def held(*permissions: str) -> tuple[str, Response]:
    return "/iam/testPermissions", JSONResponse({"permissions": permissions})


MAY_UPLOAD = held("storage.objects.create", "storage.objects.get")


def vertex(reconcile: Cli, endpoint: str, more: str = BUCKET) -> dict[str, dict[str, Any]]:
    aim(reconcile, endpoint, "vertex", more)
    return found(reconcile("doctor", "--format", "json"))


def location_policy(**values: list[str]) -> tuple[str, Response]:
    path = "/v2/projects/my-project/policies/gcp.resourceLocations:getEffectivePolicy"
    return path, JSONResponse({"name": path[4:], "spec": {"rules": [{"values": values}]}})


def test_vertex_ai_is_ready(reconcile: Cli, service: Fronted) -> None:
    findings = vertex(reconcile, service(answers(MAY_UPLOAD, location_policy(allowedValues=["in:us-locations"]))))

    assert list(findings) == [
        "target",
        "manifests",
        "credentials",
        "service",
        "list",
        "region",
        "locationPolicy",
        "bucket",
        "lockfile",
    ]
    assert {finding["status"] for finding in findings.values()} == {"ok"}
    assert findings["list"]["message"] == "0 tuning jobs of the scope demo listed"
    assert findings["region"]["message"].endswith("of the model catalog of 2026-11-29 can be tuned in us-central1")
    assert findings["locationPolicy"]["message"] == "the organization policy allows resources in us-central1"
    assert findings["bucket"]["message"] == "gs://acme-data is in US; objects may be created there"


@pytest.mark.parametrize(
    ("policy", "status", "message", "remedy"),
    [
        (
            location_policy(allowedValues=["in:eu-locations"]),
            "warning",
            "the organization policy does not allow resources in us-central1: allowed in:eu-locations",
            "set spec.location of the target to europe-west4, which the policy allows",
        ),
        (
            location_policy(deniedValues=["in:low-carbon-locations"]),
            "warning",
            "the organization policy may not allow resources in us-central1: denied in:low-carbon-locations",
            "`gcloud org-policies describe constraints/gcp.resourceLocations --effective --project=my-project` lists",
        ),
        (
            (location_policy()[0], error(403, "PERMISSION_DENIED", "No.")),
            "skipped",
            "the organization policy about locations could not be read: GET /v2/projects/my-project/policies/",
            "ask for roles/orgpolicy.policyViewer",
        ),
        (
            (location_policy()[0], error(503, "UNAVAILABLE", "Busy.")),
            "skipped",
            "the organization policy about locations could not be read: GET /v2/projects/my-project/policies/",
            "run the command again later",
        ),
        (
            (location_policy()[0], error(404, "NOT_FOUND", "No.")),
            "skipped",
            "this endpoint has no organization policies",
            "",
        ),
    ],
)
def test_the_organization_policy_about_locations(
    reconcile: Cli, service: Fronted, policy: tuple[str, Response], status: str, message: str, remedy: str
) -> None:
    finding = vertex(reconcile, service(answers(MAY_UPLOAD, policy)))["locationPolicy"]
    assert reconcile.clock.slept == []
    assert finding["status"] == status
    assert finding["message"].startswith(message)
    assert remedy in finding.get("remedy", "")


@pytest.mark.parametrize("provider", ["generativelanguage", "vertex"])
def test_nothing_but_questions_is_sent(reconcile: Cli, service: Fronted, provider: str) -> None:
    asked: list[Request] = []
    reconcile.manifest("adder")
    storage = "  location: us-central1\n  bucket: gs://acme-tuning\n" if provider == "vertex" else ""
    lock = "  lock: gs://acme-tuning/x.lock.json\n"
    aim(reconcile, service(asked.append), provider, f"{storage}{lock}")
    before = everything(reconcile.folder)

    assert set(statuses(reconcile("doctor", "--format", "json")).values()) <= {"ok", "warning", "skipped"}

    assert asked
    assert {request.method for request in asked} == {"GET"}
    assert everything(reconcile.folder) == before


def test_a_storage_without_permission_tests_is_trusted(reconcile: Cli, service: Fronted) -> None:
    finding = vertex(reconcile, service(answers(("/iam/testPermissions", error(501, "UNIMPLEMENTED", "Later.")))))
    assert (
        finding["bucket"]["message"]
        == "gs://acme-data is in US; the service does not show whether objects may be created there"
    )


def test_a_region_in_which_no_base_model_can_be_tuned_is_a_warning(reconcile: Cli, service: Fronted) -> None:
    finding = vertex(reconcile, service(answers(MAY_UPLOAD)), BUCKET.replace("us-central1", "us-west3"))["region"]
    assert finding["status"] == "warning"
    assert finding["message"] == "no base model of the model catalog of 2026-11-29 can be tuned in us-west3"
    assert finding["remedy"] == "set spec.location of the target to one of europe-west4, global, us-central1"


def test_a_bucket_far_away_is_a_warning(reconcile: Cli, service: Fronted) -> None:
    url = service(answers(MAY_UPLOAD))
    asked = {"name": "acme-data", "location": "europe-west4"}
    httpx.post(f"{url}/storage/v1/b", params={"project": "other"}, json=asked, trust_env=False).raise_for_status()

    finding = vertex(reconcile, url)["bucket"]

    assert finding["status"] == "warning"
    assert finding["message"] == (
        "gs://acme-data is in EUROPE-WEST4; objects may be created there\n"
        "the trainings are in us-central1: their data leaves its region"
    )
    assert finding["remedy"] == "name a bucket of this project, near the target's location, in spec.bucket"


def test_a_bucket_of_another_project_is_a_warning(reconcile: Cli, service: Fronted) -> None:
    bucket = {"name": "acme-data", "location": "US", "projectNumber": "7"}
    digest = f"sha256:{'0' * 64}"
    labels = write_labels(Mark("demo", "adder", digest, digest))
    job = {"name": "projects/42/locations/us-central1/tuningJobs/1", "labels": labels}
    url = service(
        answers(
            MAY_UPLOAD, ("/b/acme-data", JSONResponse(bucket)), ("/tuningJobs", JSONResponse({"tuningJobs": [job]}))
        )
    )
    finding = vertex(reconcile, url)["bucket"]
    assert finding["message"].splitlines()[1:] == ["it belongs to the project number 7, and the jobs to 42"]


def test_a_bucket_that_may_not_be_written_is_3(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service(answers(held("storage.objects.get"))), "vertex", BUCKET)

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 3
    finding = found(answer)["bucket"]
    assert finding["message"] == "the account lacks storage.objects.create on gs://acme-data"
    assert finding["remedy"] == "ask for roles/storage.objectUser on gs://acme-data"


def test_a_bucket_that_can_be_used_but_not_read_is_a_warning(reconcile: Cli, service: Fronted) -> None:
    url = service(answers(MAY_UPLOAD, ("/b/acme-data", error(403, "PERMISSION_DENIED", "No storage.buckets.get."))))
    finding = vertex(reconcile, url)["bucket"]
    assert finding["status"] == "warning"
    assert finding["message"] == "gs://acme-data: objects may be created there; its location and project are unknown"
    assert finding["remedy"].startswith("ask for roles/storage.bucketViewer on gs://acme-data")


def test_a_bucket_that_is_not_there(reconcile: Cli, service: Fronted) -> None:
    missing = error(404, "NOT_FOUND", "The specified bucket does not exist.")
    finding = vertex(reconcile, service(answers(("/iam/testPermissions", missing))))["bucket"]
    assert finding["status"] == "failed"
    assert "gcloud storage buckets create gs://acme-data" in finding["remedy"]


def test_a_lockfile_in_a_bucket_is_checked(reconcile: Cli, service: Fronted) -> None:
    url = service()
    findings = vertex(reconcile, url, f"{BUCKET}  lock: gs://acme-data/lock.json\n")
    assert findings["lockfile"]["message"] == "gs://acme-data/lock.json does not exist yet; the first apply writes it"
    del reconcile.environ["RECONCILE_ACCESS_TOKEN"]
    reconcile.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "nowhere.json"
    skipped = found(reconcile("doctor", "--format", "json"))
    for check in ("bucket", "lockfile"):
        assert skipped[check]["message"] == "skipped, because credentials failed"


def test_a_lockfile_in_a_bucket_that_may_not_be_replaced_is_3(reconcile: Cli, service: Fronted) -> None:
    aim(reconcile, service(answers(MAY_UPLOAD)), "vertex", f"{BUCKET}  lock: gs://acme-data/lock.json\n")

    answer = reconcile("doctor", "--format", "json")

    assert answer.status == 3
    assert found(answer)["bucket"]["status"] == "ok"
    lockfile = found(answer)["lockfile"]
    assert lockfile["message"] == "the account lacks storage.objects.delete on gs://acme-data"
    assert lockfile["remedy"] == "ask for roles/storage.objectUser on gs://acme-data"
