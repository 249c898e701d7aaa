"""What the inspection of a data set finds, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.domain.errors import ReconcileError, UsageError
from reconciler.domain.inspection import Finding, Inspection
from reconciler.manifests.datasets.data_files import example_index, open_data_file
from reconciler.manifests.datasets.inspection import inspect_dataset
from reconciler.manifests.datasets.near_duplicates import SAMPLE, Sample, SampledText, near_duplicates
from reconciler.manifests.datasets.suspicious_texts import suspicions
from support.cases import each_row
from support.files_samples import CORPUS, EXPECTED


def inspect(
    tmp_path: Path, text: str, *, name: str = "d.csv", held_out: tuple[tuple[str, str], ...] = ()
) -> Inspection:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8", newline="")
    data = open_data_file(file, name)
    return inspect_dataset(data.source, data.shape, held_out)


def found(inspection: Inspection) -> list[tuple[str, int, list[tuple[int, int | None]]]]:
    return [
        (finding.kind, finding.count, [(spot.line, spot.earlier_line) for spot in finding.first])
        for finding in inspection.findings
    ]


@each_row("name", [name for name, expected in EXPECTED.items() if "examples" in expected])
def test_the_examples_of_each_readable_file_are_counted(name: str) -> None:
    data = open_data_file(CORPUS / name, name)
    inspection = inspect_dataset(data.source, data.shape)
    examples = EXPECTED[name]["examples"]
    assert inspection.examples == inspection.turns == len(examples)
    assert inspection.longest_conversation == 1
    declared = EXPECTED[name]["dataset"]
    expected = "preference" if "preference" in name else declared.get("shape", "input-output")
    assert inspection.shape == expected
    assert not any(finding.severity == "error" for finding in inspection.findings)


@each_row("name", [name for name, expected in EXPECTED.items() if "examples" not in expected])
def test_what_cannot_be_read_is_a_finding_or_an_error(name: str) -> None:
    try:
        data = open_data_file(CORPUS / name, name)
        inspection = inspect_dataset(data.source, data.shape)
    except (ReconcileError, UsageError) as error:
        assert name in str(error)  # noqa: PT017 - either of two results
        return
    if "constant" in name:  # `init` asks for its fields, but it can be inspected
        assert [(label.output, label.examples) for label in inspection.labels] == [("yes", inspection.examples)]
        return
    multiple_turns = inspection.longest_conversation > 1 or "tools" in name or "generation-config" in name
    assert multiple_turns or inspection.findings[0].kind == "invalid"


def test_repetitions_name_the_first_example(tmp_path: Path) -> None:
    rows = ["a,1", "b,1", "a,1", '"a",2', "c,1", "b,1"]
    assert found(inspect(tmp_path, "text_input,output\n" + "\n".join(rows) + "\n")) == [
        ("contradiction", 1, [(5, 2)]),
        ("duplicate", 2, [(4, 2), (7, 3)]),
    ]


def test_repetitions_in_one_line_are_named_by_their_example(tmp_path: Path) -> None:
    examples = [{"text_input": text, "output": text} for text in ("a", "b", "a")]
    (finding,) = inspect(tmp_path, json.dumps(examples), name="d.json").findings
    (spot,) = finding.first
    assert (spot.line, spot.column, spot.example, spot.earlier, spot.earlier_line) == (1, 74, 3, 1, 1)


def test_conversations_are_compared_up_to_their_last_answer(tmp_path: Path) -> None:
    def line(*texts: str) -> str:
        roles = ("user", "assistant") * 2
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
        return json.dumps({"messages": messages}) + "\n"

    text = line("a", "b", "c", "d") + line("a", "b", "c", "e") + line("a\n\nb", "c") + line("a", "b", "c", "d")
    inspection = inspect(tmp_path, text, name="d.jsonl")
    assert (inspection.turns, inspection.longest_conversation) == (7, 2)
    assert found(inspection) == [("contradiction", 1, [(2, 1)]), ("duplicate", 1, [(4, 1)])]


def test_only_the_first_places_of_many_are_kept(tmp_path: Path) -> None:
    (finding,) = inspect(tmp_path, "text_input,output\nb,2\n" + "a,1\n" * 2000).findings
    assert (finding.count, [spot.line for spot in finding.first]) == (1999, [4, 5, 6, 7, 8])


def test_leaks_are_found_for_each_check(tmp_path: Path) -> None:
    held_out = (("tone", "b"), ("facts", "c\r\nd"), ("tone", "missing"), ("tone", "b"))
    text = 'text_input,output\na,1\nb,2\n"c\nd",3\n'
    leaks = inspect(tmp_path, text, held_out=held_out).findings
    assert [(leak.message, leak.first[0].line) for leak in leaks] == [
        ('1 example has an input that is held out for the check "facts"', 4),
        ('1 example has an input that is held out for the check "tone"', 3),
    ]


def test_measures(tmp_path: Path) -> None:
    rows = [("a" * 3, "yes"), ("b" * 4, "no"), ("c" * 9, "yes"), ("été", "yes")]
    inspection = inspect(tmp_path, "text_input,output\n" + "".join(f"{given},{wanted}\n" for given, wanted in rows))
    assert inspection.inputs
    assert (inspection.inputs.least, inspection.inputs.most, inspection.inputs.mean) == (3, 9, 4.8)
    assert [(bucket.up_to, bucket.examples) for bucket in inspection.inputs.histogram] == [(4, 3), (8, 0), (16, 1)]
    assert [(label.output, label.examples) for label in inspection.labels] == [("yes", 3), ("no", 1)]
    assert (inspection.tokens, inspection.longest_example) == (12, 5)


@each_row(
    "outputs", [["a", "b", "c", "a"], ["long " * 20, "text " * 20] * 4, [str(number) for number in range(150)] * 2]
)
def test_outputs_that_are_long_or_many_are_not_labels(tmp_path: Path, outputs: list[str]) -> None:
    rows = "".join(f"{number},{output}\n" for number, output in enumerate(outputs))
    assert inspect(tmp_path, f"text_input,output\n{rows}").labels == ()


def test_a_file_with_only_a_header_has_no_examples(tmp_path: Path) -> None:
    inspection = inspect(tmp_path, "text_input,output\n")
    assert (inspection.examples, inspection.inputs, inspection.labels) == (0, None, ())
    assert [finding.message for finding in inspection.findings] == ["the data set has no examples"]


_SIMILAR = "How do I change the delivery address of an order that was shipped?"


@each_row(
    ("other", "similar"),
    [
        ("how do I change the delivery address of an order, that was shipped", True),
        ("How do I change the delivery address of an order that is shipped?", True),
        ("How do I change the billing currency of an account that was closed?", False),
        (f"{_SIMILAR} 7", False),  # numbers distinguish
        ("Hi!", False),
    ],
)
def test_near_duplicates(other: str, *, similar: bool) -> None:
    texts = [SampledText(b"", position, position, text) for position, text in enumerate((_SIMILAR, "Hi", other))]
    pairs = [(later.number, earlier.number) for later, earlier in near_duplicates(texts)]
    assert pairs == ([(2, 0)] if similar else [(2, 1)] if other == "Hi!" else [])


def test_near_duplicates_in_a_script_without_spaces() -> None:
    first = "注文した商品の配送先の住所を変更するにはどうすればよいですか教えてください"
    texts = [SampledText(b"", 1, 1, first), SampledText(b"", 2, 2, first.replace("教えて", "知らせて"))]
    assert [(later.number, earlier.number) for later, earlier in near_duplicates(texts)] == [(2, 1)]


def test_the_sample_depends_on_the_texts_and_not_on_their_order() -> None:
    digests = [number.to_bytes(16) for number in range(SAMPLE + 50)]
    samples = []
    for order in (digests, digests[::-1]):
        sample = Sample()
        for number, digest in enumerate([*order, *order]):
            sample.add(digest, number, number, str(int.from_bytes(digest)))
        assert sample.dropped
        samples.append({text.digest for text in sample.texts()})
    assert samples[0] == samples[1] == set(digests[:SAMPLE])


@each_row(
    ("text", "name"),
    [
        ("key AKIAIOSFODNN7EXAMPLE here", "an AWS access key"),
        ("ghp_" + "a1" * 18, "a GitHub token"),
        ("xoxb-" + "123456789012-abc", "a Slack token"),
        ("sk-proj-" + "abcd1234" * 4, "an API key of OpenAI or Anthropic"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk", "a JSON Web Token"),
        ("postgres://app:s3cret@db/orders", "a URL with a password"),
        ("DB_PASSWORD=tr0ub4dor", "a password or key"),
        ('"api_key": "0123abcdef"', "a password or key"),
        ("password: your_passw0rd", ""),
        ("My password is: forgotten", ""),
        ("write to ada@example.com", "an email address"),
        ("call +49 (151) 2345-6789", "a phone number"),
        ("DE89 3704 0044 0532 0130 00 BIC", "an IBAN"),
        ("DE88 3704 0044 0532 0130 00", ""),
        ("pay with 4111-1111-1111-1111", "a payment card number"),
        ("order 4111111111111112", ""),
        ("a\ufffdb", "the replacement character U+FFFD"),
        ("a\x93quoted\x94 word", "control characters in place of text"),
        ("cafÃ©", "UTF-8 that was read as windows-1252"),
        ("itâ€™s", "UTF-8 that was read as windows-1252"),
        ("РџСЂРёРІРµС‚", "UTF-8 that was read as windows-1251"),  # noqa: RUF001
        ("it‚Äôs", "UTF-8 that was read as Mac Roman"),  # noqa: RUF001
        ("p\u0430ypal", "Latin and Cyrillic letters in one word"),
        ("„CAFÉ…“ É” NÃO à 5 °C, smörgåsbord – naïve", ""),  # noqa: RUF001
        ("Привет, Россия и СССР. 日本語 العربية", ""),  # noqa: RUF001
        ("tabs\tand\r\nlines", ""),
    ],
)
def test_suspicious_texts(text: str, name: str) -> None:
    assert {suspicion.name for suspicion in suspicions(text.encode())} == ({name} if name else set())


def test_findings_never_quote_what_they_find(tmp_path: Path) -> None:
    secret = "AKIAIOSFODNN7EXAMPLE"
    inspection = inspect(tmp_path, f"text_input,output\nmy key {secret},ada@example.com\n")
    assert [finding.kind for finding in inspection.findings] == ["secret", "personalData"]
    assert secret not in str(inspection)
    assert "ada@" not in str([finding.message for finding in inspection.findings])
    assert all(isinstance(finding, Finding) and finding.first[0].line == 2 for finding in inspection.findings)


def test_labels_with_secrets_are_hidden(tmp_path: Path) -> None:
    rows = "".join(f"question {number},{('ada@example.com', 'none')[number % 2]}\n" for number in range(4))
    inspection = inspect(tmp_path, f"text_input,output\n{rows}")
    assert [(label.output, label.examples) for label in inspection.labels] == [("[hidden]", 2), ("none", 2)]


def test_an_index_that_cannot_be_written_is_an_error_with_a_remedy() -> None:
    with (
        pytest.raises(ReconcileError, match=r"temporary file .* cannot be written: .*; free disk space, or set TMPDIR"),
        example_index() as index,
    ):
        list(index.query("SELECT nothing"))
