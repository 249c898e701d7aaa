from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from reconciler.domain.endpoints import is_loopback
from support.provider_google import Google, KeyPair, authorized_user, google_on_loopback, key_pair, service_account
from support.provider_process import Proxy, ask_alone, proxy_on_loopback, start_asking

GOOGLE = "https://generativelanguage.googleapis.com"
TOKEN = {"RECONCILE_ACCESS_TOKEN": "ya29.SECRET"}
PROXY_REMEDY = (
    "set HTTP_PROXY, HTTPS_PROXY and ALL_PROXY to an http:// or https:// proxy and NO_PROXY to hosts, or unset them"
)


@pytest.fixture(scope="module")
def keys() -> KeyPair:
    return key_pair()


@pytest.fixture
def google(keys: KeyPair) -> Iterator[Google]:
    with google_on_loopback(keys) as google:
        yield google


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxy_on_loopback() as proxy:
        yield proxy


def through(proxy: Proxy) -> Mapping[str, str]:
    return dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), proxy.url)


def test_loopback_is_this_machine_alone() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("10.0.0.1", "::", "localhost.example", "127.1", "")))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_token_for_loopback_never_meets_a_proxy(google: Google, proxy: Proxy, host: str) -> None:
    assert ask_alone(f"http://{host}:{google.port}", {**TOKEN, **through(proxy)}) == "answered"
    assert google.asked[0].headers["authorization"] == "Bearer ya29.SECRET"
    assert proxy.lines == []


def test_a_loopback_port_where_no_server_listens_is_not_asked_of_a_proxy(proxy: Proxy) -> None:
    said = ask_alone("http://127.0.0.1:1", {**TOKEN, **through(proxy)})
    assert said.startswith("ServiceError: GET /v1beta3/tunedModels got no response from 127.0.0.1:1: ")
    assert proxy.lines == []


def test_other_hosts_are_asked_through_the_proxy_behind_tls(proxy: Proxy) -> None:
    said = ask_alone(GOOGLE, {**TOKEN, **through(proxy)})
    assert said.startswith("ServiceError: GET /v1beta3/tunedModels got no response from generativelanguage.googleapis")
    assert set(proxy.lines) == {"CONNECT generativelanguage.googleapis.com:443 HTTP/1.1"}


def test_a_metadata_server_never_meets_a_proxy(google: Google, proxy: Proxy, tmp_path: Path) -> None:
    host = f"127.0.0.1:{google.port}"
    environ = {"HOME": str(tmp_path), "GCE_METADATA_HOST": host, **through(proxy)}
    assert ask_alone(google.url, environ) == "answered"
    assert google.asked[1].headers["authorization"] == "Bearer token-1"
    assert proxy.lines == []


def test_a_metadata_server_beyond_loopback_does_not_either(google: Google, proxy: Proxy, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "GCE_METADATA_HOST": "0.0.0.0:1", **through(proxy)}
    assert ask_alone(google.url, environ).startswith("AccessError: no credentials found; log in with `gcloud")
    assert proxy.lines == []


def test_a_token_endpoint_on_loopback_never_meets_a_proxy(google: Google, proxy: Proxy, tmp_path: Path) -> None:
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(service_account(tmp_path, google)), **through(proxy)}
    assert ask_alone(google.url, environ) == "answered"
    assert proxy.lines == []


def test_googles_token_endpoint_is_asked_through_the_proxy(google: Google, proxy: Proxy, tmp_path: Path) -> None:
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(authorized_user(tmp_path)), **through(proxy)}
    assert ask_alone(google.url, environ).startswith(
        "ServiceError: cannot get an access token: https://oauth2.googleapis.com/token does not respond: "
    )
    assert set(proxy.lines) == {"CONNECT oauth2.googleapis.com:443 HTTP/1.1"}


ODD_PROXY = f"cannot use the proxy settings of the environment: expected the address of a proxy or a host;\
 {PROXY_REMEDY}"


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTPS_PROXY": "foo:bar://x"},
        {"HTTPS_PROXY": "ftp://127.0.0.1"},
        {"ALL_PROXY": "http://127.0.0.1:99999"},
        {"HTTP_PROXY": "me:SECRET:word@h:port"},
        {"NO_PROXY": "example.com:port"},
    ],
)
def test_proxy_settings_that_are_none_are_usage_errors(environ: Mapping[str, str]) -> None:
    assert ask_alone(GOOGLE, {**TOKEN, **environ}) == f"UsageError: {ODD_PROXY}"


@pytest.mark.skipif(find_spec("socksio") is not None, reason="with socksio, httpx speaks SOCKS")
def test_a_socks_proxy_says_what_it_needs() -> None:
    assert ask_alone(GOOGLE, {**TOKEN, "ALL_PROXY": "socks5://127.0.0.1:1"}) == (
        "UsageError: cannot use the proxy settings of the environment: a SOCKS proxy needs the Python package"
        f" socksio; {PROXY_REMEDY}"
    )


def test_proxy_settings_do_not_concern_a_service_on_loopback(google: Google) -> None:
    assert ask_alone(google.url, {**TOKEN, "HTTPS_PROXY": "foo:bar://x"}) == "answered"


def test_proxy_settings_concern_the_token_for_a_service_on_loopback(google: Google, tmp_path: Path) -> None:
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(authorized_user(tmp_path)), "HTTPS_PROXY": "foo:bar://x"}
    assert ask_alone(google.url, environ) == f"UsageError: {ODD_PROXY}"


@pytest.mark.parametrize(("content", "cause"), [(None, "No such file or directory"), ("text", "no certificate or crl")])
def test_certificates_that_are_none_are_usage_errors(tmp_path: Path, content: str | None, cause: str) -> None:
    path = tmp_path / "authorities.pem"
    if content:
        path.write_text(content, encoding="utf-8")
    said = ask_alone(GOOGLE, {**TOKEN, "SSL_CERT_FILE": str(path)})
    assert said.startswith("UsageError: cannot use the certificates in SSL_CERT_FILE: ")
    assert cause in said
    assert said.endswith("; fix or unset SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE")


def test_certificates_do_not_concern_a_service_on_loopback_without_tls(google: Google, tmp_path: Path) -> None:
    assert ask_alone(google.url, {**TOKEN, "SSL_CERT_FILE": str(tmp_path / "missing.pem")}) == "answered"


def test_an_interruption_does_not_wait_for_a_token(keys: KeyPair, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = f"http://127.0.0.1:{hung.getsockname()[1]}/token"
        credentials = service_account(tmp_path, Google(keys), token_uri=url)
        with start_asking(GOOGLE, {"GOOGLE_APPLICATION_CREDENTIALS": str(credentials)}) as process:
            connection, _ = hung.accept()
            with connection:
                connection.recv(1)  # the token was asked for, and is never answered
                process.send_signal(signal.SIGINT)
                said, _ = process.communicate(timeout=60)
    assert said.strip() == "interrupted"
