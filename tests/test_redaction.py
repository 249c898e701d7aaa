"""What is found of a secret, and what is left as it is."""

from __future__ import annotations

import base64
import json
import posixpath
import random
import re
from html import escape
from time import process_time
from urllib.parse import quote, quote_plus
from xml.etree import ElementTree as ET

import markupsafe

from reconciler.redaction import Secrets, redact, redact_free_texts, remember, remember_members, secrets_of
from support.cases import each_row

SECRET = "1//\"0gPz'4Vt8mWq+Xy<AbCd>EfGh-IjKl_MnOp"


@each_row(
    "form",
    [
        SECRET,
        SECRET.lower(),
        SECRET[:30],
        posixpath.normpath(SECRET),
        quote(SECRET),
        quote(SECRET, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
        quote(SECRET, safe="").replace("%", "%25"),
        quote_plus(SECRET),
        escape(SECRET),
        escape(SECRET, quote=False),
        markupsafe.escape(SECRET),
        ET.tostring(ET.Element("a", b=SECRET), encoding="unicode")[6:-4],
        json.dumps(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_form_of_a_secret_is_removed(form: str) -> None:
    assert Secrets([SECRET]).redact(f"before {form} after {form}") == "before [secret] after [secret]"


@each_row("before", ["", "u", "us", "user:"])
def test_a_secret_within_a_text_in_base64_is_removed(before: str) -> None:
    text = base64.b64encode(f"{before}{SECRET}".encode()).decode()
    shown = Secrets([SECRET]).redact(text)
    assert shown.endswith("[secret]")
    assert len(shown) <= len("[secret]") + 4 * len(before)


@each_row(
    ("environ", "text"),
    [
        ({"RECONCILE_ACCESS_TOKEN": "any"}, "any model"),
        ({"CI_TOKEN_URL": "https://example.com/token"}, "https://example.com/token"),
        ({"HOME": "/var/lib/somebody-else"}, "/var/lib/somebody-else"),
        ({"RECONCILE_VAR_PROJECT": "my-project-name-1"}, "my-project-name-1"),
        ({"SECRETS_FOLDER": "/usr/bin"}, "/usr/bin/env"),
        ({"GITHUB_REPOSITORY": "acme/helpdesk-assistant"}, "tunedModels/helpdesk-assistant-rzsa47uz"),
        ({"PATH": "/srv/task-scheduler/bin:/srv/helpdesk-assistant/bin"}, "helpdesk-assistant"),
        ({"MY_CREDENTIALS": "/srv/no/such/folder/key.json"}, "/srv/no/such/folder/manifest.yaml"),
    ],
)
def test_ordinary_values_are_shown(environ: dict[str, str], text: str) -> None:
    with secrets_of(environ):
        assert redact(text) == text


@each_row(
    ("environ", "secret"),
    [
        ({"CI_JOB_TOKEN": "abcdefgh"}, "abcdefgh"),
        ({"CI_JOB_TOKEN": "not-utf-8-\udcff"}, "not-utf-8-\udcff"),
        ({"SOME_VARIABLE": "ghp_0123456789abcdefghij"}, "ghp_0123456789abcdefghij"),
        ({"HTTPS_PROXY": "http://me:hunter2hunter2@proxy:3128"}, "hunter2hunter2"),
        ({"RECONCILE_ACCESS_TOKEN": ' "ya29.SECRET-SECRET"\n'}, "ya29.SECRET-SECRET"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": json.dumps({"refresh_token": SECRET})}, SECRET),
        ({"GOOGLE_APPLICATION_CREDENTIALS": '{"refresh_token": "' + SECRET}, SECRET),
        ({"A": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----"}, "MIIEvQIBADANBgkqhkiG9w0B"),
    ],
)
def test_secrets_of_the_environment_are_removed(environ: dict[str, str], secret: str) -> None:
    with secrets_of(environ):
        assert secret not in redact(f"{secret} {secret}")
    assert redact(secret) == secret


def test_json_stays_json_where_a_secret_is_next_to_an_escape() -> None:
    with secrets_of({"A_TOKEN": "nabcdefgh-1234567\n-----BEGIN"}):
        text = json.dumps({"prompt": 'a\nabcdefgh-1234567 "quoted" nabcdefgh-1234567\n"'})
        assert "nabcdefgh" not in json.loads(redact(text))["prompt"]


def test_only_free_texts_of_a_document_that_is_read_again_are_redacted() -> None:
    with secrets_of({"DB_PASSWORD": "embedded"}):
        document = {"target": {"provider": "embedded"}, "error": {"message": "embedded"}, "notices": ["embedded"]}
        shown = {"target": {"provider": "embedded"}, "error": {"message": "[secret]"}, "notices": ["[secret]"]}
        assert redact_free_texts(document) == shown


def test_members_of_an_answer_are_secret_by_their_names() -> None:
    with secrets_of({}):
        remember_members(json.dumps({"access_token": SECRET, "token_type": "Bearer-Token", "scope": "cloud-platform"}))
        remember_members("robot@project.iam.gserviceaccount.com")
        assert redact(f"{SECRET} Bearer-Token cloud-platform robot@project.iam.gserviceaccount.com") == (
            "[secret] Bearer-Token cloud-platform robot@project.iam.gserviceaccount.com"
        )
        remember("another-secret")
        assert redact("another-secret") == "[secret]"


@each_row(
    ("name", "value"),
    [
        ("Authorization", f"Bearer {SECRET}"),
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("Proxy-Authorization", "Bearer abcdefgh1"),
        ("X-IDENTITY-HEADER", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"),
        ("Cookie", "session-5bfa4b22a3f3"),
    ],
)
def test_headers_of_an_external_account_are_secret(name: str, value: str) -> None:
    """Workload identity federation reads its subject token with the headers in the credentials file."""
    source = {"url": "http://127.0.0.1/token", "headers": {name: value, "Metadata": "True"}}
    with secrets_of({}):
        remember_members(json.dumps({"type": "external_account", "credential_source": source}))
        for text in (value, value.rpartition(" ")[2]):
            assert (
                redact(f"GET http://127.0.0.1/token: {text} refused") == "GET http://127.0.0.1/token: [secret] refused"
            )


def test_a_key_file_costs_little_however_long_the_text_is() -> None:
    rng = random.Random(5)  # noqa: S311 - reproducible, and no secret
    lines = [base64.b64encode(rng.randbytes(48)).decode() for _ in range(26)]
    key = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"])
    secrets = Secrets([json.dumps({"private_key": key})])
    text = json.dumps([f"adder-{number:08x}: nothing changed, see specs/adder.yaml:3:5" for number in range(20_000)])
    assert secrets.redact(f"ä\ud800{lines[3]}") == "ä\ud800[secret]"
    began = process_time()
    assert secrets.redact(text) == text
    assert process_time() - began < 0.2  # seconds of CPU for 1.2 MB
