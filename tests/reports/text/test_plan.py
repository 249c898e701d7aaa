"""The plan as people read it."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.domain.model import Capabilities
from reconciler.domain.plan import Action, BaseWeights, FieldChange, Kind, Plan, Reason, Requirement, TrainingEstimate
from reconciler.domain.text import terminal_safe
from reconciler.reports.documents.plan import plan_report
from reconciler.reports.text.format import ansi
from reconciler.reports.writer import render_text
from support.cases import each_row
from support.render_values import (
    CREATE,
    FAILED,
    IN_SYNC,
    LOCKFILE,
    REAL,
    SIMULATED,
    SPEC,
    TARGET,
    held_to,
    plans,
    uncoloured,
)

HEAD = "Target default: embedded service (simulated training), scope demo\n"


def drawn(*actions: Action, able: Capabilities = SIMULATED, root: str = "specs", width: int | None = None) -> str:
    report = plan_report(Plan(actions), TARGET, able, LOCKFILE, root=root)
    held_to("plan", report)
    return render_text(report, width=width)


def body(*actions: Action, width: int | None = None) -> str:
    """The text without the target's line and the totals."""
    return "\n".join(drawn(*actions, width=width).splitlines()[1:-1])


def lines(text: str) -> str:
    return dedent(text).strip("\n")


def test_a_create() -> None:
    assert drawn(CREATE) == HEAD + lines(
        """
        specs/number-generator.yaml
          + number-generator     create number-generator-3kq7w2ma
              base model         models/gemini-3.5-flash
              data set           datasets/next-number.csv, 15 examples
              training           3 epochs \N{MULTIPLICATION SIGN} batch 2 = 23 steps, about 40 s
        Plan: 1 to create, 0 to update, 0 to delete. 23 training steps.
        """
    )


def test_changed_content_shows_what_changed_and_that_the_old_one_serves_meanwhile() -> None:
    changes = (
        FieldChange("baseModel", "models/a", "models/b"),
        FieldChange("dataset", SPEC, "sha256:" + "c" * 64),
        FieldChange("hyperparameters.epochCount", None, 5),
    )
    changed = replace(CREATE, reason=Reason.CONTENT_CHANGED, changes=changes, dataset=None, training=None, source=None)
    assert "why                the content changed\n" in body(changed), "no generation is serving"
    changed = replace(changed, serving="number-generator-22222222")
    assert body(changed) == lines(
        """
        specs/number-generator.yaml
          + number-generator     create number-generator-3kq7w2ma
              why                the content changed; the current generation keeps serving until this one is ready
              changes            baseModel: models/a → models/b
                                 dataset: sha256:aaaaaaaa… → sha256:cccccccc…
                                 hyperparameters.epochCount: unset → 5
        """
    )


@each_row(
    ("reason", "why"),
    [
        (Reason.MISSING, "the recorded generation no longer exists at the service"),
        (Reason.RETRY_REQUESTED, "attempt 2, requested with --retry"),
        (
            Reason.REPLACE_REQUESTED,
            "attempt 2, requested with --replace",
        ),
    ],
)
def test_every_other_create_says_why(reason: Reason, why: str) -> None:
    again = replace(CREATE, reason=reason, attempt=2)
    assert body(again).splitlines()[2] == f"      why                {why}"


def test_an_update() -> None:
    update = Action(
        name="words",
        file="words.yaml",
        kind=Kind.UPDATE,
        reason=Reason.DRIFTED,
        key="words-22222222",
        remote="tunedModels/words-22222222",
        changes=(FieldChange("description", "", "Says the next word."), FieldChange("sampling.topK", 20, 40)),
    )
    assert drawn(update) == HEAD + lines(
        """
        specs/words.yaml
          ~ words                update words-22222222
              changes            description: "" → "Says the next word."
                                 sampling.topK: 20 → 40
        Plan: 0 to create, 1 to update, 0 to delete.
        """
    )


def test_a_hold_is_folded_to_the_width_and_told_once() -> None:
    second = replace(FAILED, name="numbers", key="")
    assert drawn(FAILED, second, width=60) == lines(
        """
        Target default: embedded service (simulated training), scope
               demo
        specs/words.yaml
          ! letters              held: Failed
              why                the training failed: out of quota;
                                 change the inputs, or train it
                                 again with --retry letters
              generation         letters-22222222
          ! numbers              held: Failed
              why                same as letters
        Plan: 0 to create, 0 to update, 0 to delete. 2 held.
        """
    )


def test_models_in_sync_are_counted_or_listed() -> None:
    plan = Plan((CREATE, IN_SYNC))
    document = plan_report(plan, TARGET, SIMULATED, LOCKFILE)
    assert "1 model is in sync.\nPlan: 1 to create" in render_text(document)
    assert "words-abcdefgh" not in render_text(document)
    assert "words.yaml\n  = words                in sync\n" in render_text(document, verbose=True)
    soaking = replace(IN_SYNC, kind=Kind.HOLD, reason=Reason.SOAKING, stage="production")
    assert "in sync" not in drawn(IN_SYNC, soaking), "the model waits in a stage"


def test_nothing_to_do() -> None:
    assert drawn(IN_SYNC) == HEAD + "No changes. 1 model matches its manifest."


def test_an_orphan_is_named_and_holds_up_nothing() -> None:
    message = "no manifest declares it; it is kept"
    orphan = Action("old", "old.yaml", Kind.NOOP, Reason.ORPHANED, message=message)
    assert drawn(orphan, IN_SYNC) == HEAD + lines(
        """
        specs/old.yaml
          = old                  kept: Orphaned
              why                no manifest declares it; it is kept
        No changes. 1 model matches its manifest.
        """
    )


def test_what_was_started_before_is_waited_for_adopted_and_promoted() -> None:
    wait = Action("a", "w.yaml", Kind.WAIT, Reason.TRAINING, key="a-22222222")
    adopt = Action("b", "w.yaml", Kind.ADOPT, Reason.FOUND_UNRECORDED, key="b-22222222", message="bears our mark")
    promote = Action("b", "w.yaml", Kind.PROMOTE, Reason.READY, key="b-22222222")
    assert drawn(wait, adopt, promote) == HEAD + lines(
        """
        specs/w.yaml
          … a                    wait for a-22222222: training in progress
          < b                    adopt b-22222222
              why                bears our mark
          > b                    promote b-22222222
              why                the training completed
        Plan: 0 to create, 0 to update, 0 to delete, 1 to adopt, 1 to promote. 1 training in progress.
        """
    )


@pytest.mark.parametrize(
    ("training", "said", "total"),
    [
        (
            TrainingEstimate(examples=15, epochs=10, batch=16, steps=10, estimated=True),
            "10 epochs \N{MULTIPLICATION SIGN} batch 16 = about 10 steps (the service chooses undeclared values)",
            "About 10 training steps.",
        ),
        (
            TrainingEstimate(examples=1, batch=4, estimated=True),
            "the service chooses the number of steps",
            "delete.",
        ),
    ],
)
def test_a_training_that_the_service_sizes(training: TrainingEstimate, said: str, total: str) -> None:
    text = drawn(replace(CREATE, training=training, dataset=None))
    assert f"      training           {said}\n" in text
    assert text.endswith(total)
    assert f"data set           inline, {'1 example' if training.examples == 1 else '15 examples'}\n" in text


def test_what_a_check_found_out_about_a_training_is_shown() -> None:
    training = TrainingEstimate(
        examples=15,
        epochs=3,
        batch=2,
        steps=24,
        estimated=False,
        seconds=40.0,
        tokens=12_000,
        trained_tokens=345,
        longest_tokens=1_024,
        device="cpu",
        memory=Requirement(1_500_000_000, 8_000_000_000),
        disk=Requirement(30_000_000),
        weights=BaseWeights(present=False, source="https://huggingface.co/a/b/tree/c", size=270_000_000),
    )
    text = drawn(replace(CREATE, training=training))
    assert "      tokens             345 of 12,000 tokens are trained; the longest example has 1,024\n" in text
    assert "      memory             about 1.5 GB of 8 GB that are free on cpu\n" in text
    assert "      disk               about 30 MB\n" in text
    assert "      weights            270 MB from https://huggingface.co/a/b/tree/c\n" in text
    present = replace(training, weights=BaseWeights(present=True, source="models/base"))
    assert "      weights            in models/base\n" in drawn(replace(CREATE, training=present))


def test_what_is_declared_is_shown_where_no_steps_can_be_told() -> None:
    unsized = TrainingEstimate(examples=15, epochs=3, estimated=True)
    declared = {"epochCount": 3, "adapterSize": 4, "learningRateMultiplier": 0.5}
    text = drawn(replace(CREATE, training=unsized, hyperparameters=declared, validation="datasets/held-out.csv"))
    assert "      validation         datasets/held-out.csv\n" in text
    shown = "3 epochs; adapterSize 4; learningRateMultiplier 0.5; the service chooses the number of steps"
    assert f"      training           {shown}\n" in text


def test_a_real_service_is_not_called_simulated() -> None:
    document = plan_report(Plan((IN_SYNC,)), replace(TARGET, project="my-project"), REAL, LOCKFILE)
    first = render_text(document).splitlines()[0]
    assert first == "Target default: Generative Language API v1beta3, project my-project, scope demo"


REACH = replace(
    TARGET,
    endpoint="http://127.0.0.1:8080",
    storage_endpoint="https://storage.example.com",
    bucket="gs://acme-data/tuning",
    lock="gs://acme-locks/x.json",
    settings={
        "serviceAccount": "tuner@acme.iam.gserviceaccount.com",
        "kmsKeyName": "projects/acme/locations/here/keyRings/ring/cryptoKeys/key",
    },
)


def test_where_data_goes_is_shown_even_when_nothing_is_to_be_done() -> None:
    report = plan_report(Plan((IN_SYNC,)), REACH, REAL, REACH.lock)
    document = held_to("plan", report)
    assert {field: document["target"][field] for field in document["target"].keys() - {"label", "scope", "name"}} == {
        "provider": "embedded",
        "endpoint": "http://127.0.0.1:8080",
        "storageEndpoint": "https://storage.example.com",
        "bucket": "gs://acme-data/tuning",
        "lock": "gs://acme-locks/x.json",
        "serviceAccount": "tuner@acme.iam.gserviceaccount.com",
        "kmsKeyName": "projects/acme/locations/here/keyRings/ring/cryptoKeys/key",
    }
    assert render_text(report, width=80).splitlines()[1:] == [
        "  service endpoint       http://127.0.0.1:8080",
        "  storage endpoint       https://storage.example.com",
        "  data set bucket        gs://acme-data/tuning",
        "  lockfile               gs://acme-locks/x.json",
        "  service account        tuner@acme.iam.gserviceaccount.com",
        "  encryption key",
        "      projects/acme/locations/here/keyRings/ring/cryptoKeys/key",
        "No changes. 1 model matches its manifest.",
    ]


def test_a_storage_that_is_the_service_is_not_told_twice() -> None:
    target = replace(REACH, storage_endpoint=REACH.endpoint)
    assert "Cloud Storage at" not in render_text(plan_report(Plan(()), target, REAL, LOCKFILE))


def test_notices_and_what_is_left_alone() -> None:
    notice = "reconcile.yaml changes limits.maxCreates from 20 to 2000"
    document = plan_report(Plan((), (notice,), unmanaged=5, candidates=1), TARGET, SIMULATED, LOCKFILE)
    assert render_text(document, width=40) == lines(
        """
        Target default: embedded service
               (simulated training), scope demo
        Note: reconcile.yaml changes
              limits.maxCreates from 20 to 2000
        5 unmanaged models are not changed.
        1 candidate is not declared here and not
        changed.
        No changes. 0 models match their
        manifests.
        """
    )


@each_row(
    ("file", "root", "shown"),
    [
        ("a.yaml", "specs/", "specs/a.yaml"),
        ("a.yaml", ".", "a.yaml"),
        ("a.yaml", "", "a.yaml"),
        ("-", "specs", "standard input"),
    ],
)
def test_files_are_shown_as_the_user_would_write_them(file: str, root: str, shown: str) -> None:
    assert drawn(replace(CREATE, file=file), root=root).splitlines()[1] == shown


def test_a_message_of_several_lines_stands_below_its_label() -> None:
    hold = replace(FAILED, key="", message="no base model can be tuned here\n  kind: Target\n  spec: {scope: demo}")
    again = replace(hold, name="numbers")
    assert drawn(hold, again, width=70) == HEAD + lines(
        """
        specs/words.yaml
          ! letters              held: Failed
              why                no base model can be tuned here
                                   kind: Target
                                   spec: {scope: demo}
          ! numbers              held: Failed
              why                same as letters
        Plan: 0 to create, 0 to update, 0 to delete. 2 held.
        """
    )


def test_hostile_text_does_nothing() -> None:
    hold = replace(FAILED, message="\x1b[2Jfine\nPlan: nothing to do\u202e", file="w\x07.yaml")
    assert body(hold) == lines(
        r"""
        specs/w\x07.yaml
          ! letters              held: Failed
              why                \x1b[2Jfine
                                 Plan: nothing to do\u202e
              generation         letters-22222222
        """
    )


def test_colour_adds_nothing_but_colour() -> None:
    document = plan_report(Plan((CREATE, FAILED, IN_SYNC), ("note",)), TARGET, SIMULATED, LOCKFILE)
    coloured = render_text(document, width=60, style=ansi)
    assert "\x1b[32m  + number-generator" in coloured
    assert uncoloured(coloured).split() == render_text(document, width=60).split()


@given(plans, st.none() | st.integers(1, 200), st.booleans())
def test_every_plan_can_be_drawn(plan: Plan, width: int | None, verbose: bool) -> None:  # noqa: FBT001 - drawn by name
    text = render_text(plan_report(plan, TARGET, SIMULATED, LOCKFILE), width=width, verbose=verbose)
    assert text.startswith("Target default: ")
    assert [line for line in text.split("\n") if terminal_safe(line) != line] == []
