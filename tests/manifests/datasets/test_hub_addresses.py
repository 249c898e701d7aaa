"""Addresses of the Hugging Face Hub, and the files that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from reconciler.domain.errors import ReconcileError
from reconciler.manifests.datasets.hub_addresses import (
    common_pattern,
    names_hub,
    parse_address,
    require_commit,
    select_files,
)
from support.cases import each_row
from support.dataset_hub import COMMIT

BASE = f"hf://datasets/acme/faq@{COMMIT}"


def refused(call: Callable[[], object]) -> str:
    """The error, as a user reads it."""
    with pytest.raises(ReconcileError) as error:
        call()
    return str(error.value)


@each_row(
    "text",
    [
        "hf://acme/faq",
        "hf://models/acme/faq",
        "hf://datasets/faq",
        "hf://datasets/acme/faq@",
        f"hf://datasets/acme/../x@{COMMIT}",
        "hf://datasets/acme/faq@a b",
        "hf://datasets/-acme/faq",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert refused(lambda: parse_address(text)) == (
        "invalid address of a data set of the Hugging Face Hub; write hf://datasets/OWNER/NAME@COMMIT/FILE"
    )


@each_row("path", ["../a.csv", "data/../../a.csv", "a\\b.csv", "./a.csv", "a//b.csv", "/etc/a.csv", "a\tb"])
def test_a_path_does_not_lead_out_of_the_data_set(path: str) -> None:
    assert "in a data set; write the path as the data set's page has it" in refused(
        lambda: parse_address(f"{BASE}/{path}")
    )


@each_row(
    ("name", "address"),
    [
        ("HF://datasets/acme/faq@v1/a.csv", "hf://datasets/acme/faq@v1/a.csv"),
        ("https://huggingface.co/datasets/acme/faq", "hf://datasets/acme/faq"),
        ("http://www.huggingface.co/datasets/acme/faq/viewer/default/train", "hf://datasets/acme/faq"),
        ("https://hf.co/datasets/acme/faq/tree/main/", "hf://datasets/acme/faq"),
        (
            "https://huggingface.co/datasets/acme/faq/blob/v1/data/a.csv?download=true",
            "hf://datasets/acme/faq@v1/data/a.csv",
        ),
    ],
)
def test_a_page_of_the_hub_is_answered_with_its_address(name: str, address: str) -> None:
    assert refused(lambda: names_hub(name)) == (
        f"{name}: invalid address of a data set of the Hugging Face Hub; write {address}"
    )
    assert names_hub(address)
    assert not names_hub("data/faq.csv")


PAGE = "https://huggingface.co/datasets/acme/faq"
ALL_DIGITS = f"write hf://datasets/acme/faq@COMMIT/a.csv with all digits of the commit, from {PAGE}/commits/main"
FIND = "write hf://datasets/acme/faq@COMMIT/a.csv with the commit that `git ls-remote {} {}` prints"


@each_row(
    ("revision", "message"),
    [
        ("", f"is not pinned to a commit, so its data would change; {FIND.format(PAGE, 'HEAD')}"),
        (
            "@v1%2F2",
            f'"v1%2F2" is a branch or tag, not a commit, so its data would change; {FIND.format(PAGE, "v1/2")}',
        ),
        (
            "@0123abc",
            f"the commit 0123abc is abbreviated: expected 40 digits; {ALL_DIGITS}",
        ),
    ],
)
def test_only_a_commit_pins_the_data(revision: str, message: str) -> None:
    assert refused(lambda: require_commit(parse_address(f"hf://datasets/acme/faq{revision}/a.csv"))) == message


def card(*lines: str) -> str:
    """A README with configurations."""
    return "\n".join(["---", "license: mit", "configs:", *lines, "---", "# FAQ"])


SHARDS = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
SPLITS = [*SHARDS, "data/test-00000-of-00001.parquet", "README.md", ".gitattributes"]
TRAIN_TEST = card(
    "- config_name: default",
    "  data_files:",
    "  - {split: train, path: data/train-*}",
    "  - {split: test, path: data/test-*}",
)
TWO = card("- {config_name: en, data_files: en.csv}", "- {config_name: de, data_files: de.csv, default: true}")
FOLDERS = ["a/train.jsonl.gz", "a/test.jsonl.gz", "b/train.jsonl.gz"]


@each_row(
    ("path", "listed", "readme", "expected"),
    [
        ("notes.txt", ["notes.txt", "a.csv"], "", ["notes.txt"]),
        ("", ["data.csv", "README.md", "LICENSE", "script.py"], "", ["data.csv"]),
        ("", SPLITS, "", SHARDS),
        ("", SPLITS, TRAIN_TEST, SHARDS),
        ("", SPLITS, card("- config_name: x", "  data_files: 'data/*.parquet'"), [SPLITS[2], *SHARDS]),
        ("", SPLITS, card("- data_files: [{split: all, path: [data/test-*]}]"), [SPLITS[2]]),
        ("", SPLITS, card("- data_files: {train: data/train-00001*}"), [SHARDS[1]]),
        ("", FOLDERS, card("- data_dir: ./b"), ["b/train.jsonl.gz"]),
        ("", FOLDERS, card("- {data_dir: a, data_files: t*st.jsonl.gz}"), ["a/test.jsonl.gz"]),
        ("", FOLDERS, card("- {data_dir: a/}"), ["a/train.jsonl.gz"]),
        ("", FOLDERS[:2], card("- {data_dir: 7, data_files: {train: [a/t*n.jsonl.gz, 7]}}"), ["a/train.jsonl.gz"]),
        ("", ["en.csv", "de.csv"], TWO, ["de.csv"]),
        ("", ["constraints.csv", "latest.csv"], "", ["constraints.csv", "latest.csv"]),
        ("", ["faq.csv", "faq_test.csv", "faq-dev.csv", "_draft.csv", ".cache/x.csv"], "", ["faq.csv"]),
        ("", ["a.csv"], "no metadata", ["a.csv"]),
        ("", ["a.csv"], "---\nconfigs: none\n---\n", ["a.csv"]),
        ("a", FOLDERS, "", ["a/train.jsonl.gz"]),
        ("**/train.jsonl.gz", FOLDERS, "", ["a/train.jsonl.gz", "b/train.jsonl.gz"]),
        ("*/t?st.jsonl.gz", FOLDERS, "", ["a/test.jsonl.gz"]),
        ("data/train-*", ["data/train-0.csv", "data/train-x/1.csv", "data/train-0.md"], "", ["data/train-0.csv"]),
    ],
)  # fmt: skip
def test_the_files_for_training(path: str, listed: Sequence[str], readme: str, expected: Sequence[str]) -> None:
    address = parse_address(f"{BASE}/{path}")
    listed = [*listed, "README.md"] if readme else listed
    assert select_files(address, listed, lambda: readme) == expected


@each_row(
    ("path", "listed", "readme", "message"),
    [
        ("", ["a.csv", "a.parquet"], "", f"several formats; name one of them, such as {BASE}/a.csv, {BASE}/a.parquet"),
        ("", ["a.csv", "b.csv.gz"], "", "has files of several formats"),
        ("", ["model.bin"], "", f"no data file in {BASE}"),
        ("trian.csv", ["train.csv"], "", f'no data file "trian.csv" in {BASE}; did you mean train.csv?'),
        ("x/*.csv", ["train.csv", "y.csv"], "", f'no data file "x/*.csv" in {BASE}; choose one of train.csv, y.csv'),
        ("", ["a.csv"], card("- {config_name: a, data_files: a.csv}", "- {config_name: b, data_files: b.csv}"),
         f'declares the configurations "a", "b"; name the files of one of them, such as {BASE}/a.csv'),
        ("", ["a.csv"], card("- data_files: [{split: en, path: a.csv}, {split: de, path: b.csv}]"),
         f"declares no split train, but en, de; name the files of a split, such as {BASE}/a.csv"),
        ("", ["a.csv"], card("- [unclosed"), f"the README.md of {BASE} has invalid metadata; name the files"),
        ("", ["../a.csv", "x/../../a.csv", "/etc/a.csv"], "", f"no data file in {BASE}"),
        ("", ["../a.csv", "a.csv"], card("- data_files: ../*.csv"), f"no data file in {BASE}"),
    ],
)  # fmt: skip
def test_files_that_are_refused(path: str, listed: Sequence[str], readme: str, message: str) -> None:
    address = parse_address(f"{BASE}/{path}")
    listed = [*listed, "README.md"] if readme else listed
    assert message in refused(lambda: select_files(address, listed, lambda: readme))


@each_row(
    ("names", "others", "pattern"),
    [
        (["data/x.csv"], ["data/y.csv"], "data/x.csv"),
        (SHARDS, SPLITS, "data/train-0000*-of-00002.parquet"),
        (["a/train.jsonl.gz", "b/train.jsonl.gz"], FOLDERS, "*/train.jsonl.gz"),
        (["a.csv", "c.csv"], ["b.csv"], ""),
        (["a", "aa"], [], ""),
        (["x-1.csv", "x-11.csv"], [], "x-1*.csv"),
    ],
)
def test_a_pattern_stands_for_the_files_and_no_others(names: list[str], others: list[str], pattern: str) -> None:
    assert common_pattern(names, {*names, *others}) == pattern


def test_a_hostile_pattern_is_matched_in_linear_time() -> None:
    address = parse_address(f"{BASE}/{'*a' * 200}.csv")
    assert "no data file" in refused(lambda: select_files(address, [f"{'a' * 5000}b.csv"], str))
