from __future__ import annotations

import signal
import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from reconciler.domain.endpoints import is_loopback
from reconciler.providers.google.network import is_bypassed
from support.cases import each_row
from support.provider_google import Google, KeyPair, authorized_user, google_on_loopback, key_pair, service_account
from support.provider_process import Proxy, ask_alone, proxy_on_loopback, start_asking

GOOGLE = "https://generativelanguage.googleapis.com"
TOKEN = {"RECONCILE_ACCESS_TOKEN": "ya29.SECRET"}


def proxy_remedy(name: str) -> str:
    return f"set {name} to an http:// or https:// proxy, or unset it"


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


def odd_proxy(name: str) -> str:
    return f"UsageError: cannot use {name}: expected the address of a proxy; {proxy_remedy(name)}"


@each_row(
    "environ",
    [
        {"HTTPS_PROXY": "foo:bar://x"},
        {"https_proxy": "ftp://127.0.0.1"},
        {"ALL_PROXY": "http://127.0.0.1:99999"},
        {"HTTP_PROXY": "me:SECRET:word@h:port"},
    ],
)
def test_proxy_settings_that_are_none_are_usage_errors(environ: Mapping[str, str]) -> None:
    (name,) = environ
    assert ask_alone(GOOGLE, {**TOKEN, **environ}) == odd_proxy(name)


@pytest.mark.skipif(find_spec("socksio") is not None, reason="with socksio, httpx speaks SOCKS")
def test_a_socks_proxy_says_what_it_needs() -> None:
    assert ask_alone(GOOGLE, {**TOKEN, "ALL_PROXY": "socks5://127.0.0.1:1"}) == (
        "UsageError: cannot use ALL_PROXY: a SOCKS proxy needs the Python package socksio; " + proxy_remedy("ALL_PROXY")
    )


@pytest.mark.parametrize(
    "hosts",
    ["localhost,127.0.0.1,[::1]", "localhost,127.0.0.1,::1,10.0.0.0/8,fd00::/8", "example.com:port", "[", "a b:c:d,,;"],
)
def test_no_value_of_no_proxy_stops_a_run(proxy: Proxy, hosts: str) -> None:
    said = ask_alone(GOOGLE, {**TOKEN, **through(proxy), "NO_PROXY": hosts})
    assert said.startswith("ServiceError: GET /v1beta3/tunedModels got no response from generativelanguage.googleapis")
    assert set(proxy.lines) == {"CONNECT generativelanguage.googleapis.com:443 HTTP/1.1"}


@each_row(
    ("host", "hosts"),
    [
        ("[fd00::5]", "fd00::/8"),
        ("[fd00::5]", "[fd00::]/8, [fd00::5]"),
        ("[2001:db8::1]:8443", "10.0.0.0/8 [2001:db8::1]:8443"),
        ("[2001:DB8::1]", "2001:db8:0:0::1"),
        ("10.1.2.3", "192.168.0.0/16,10.0.0.0/8"),
        ("10.1.2.3:8080", "10.1.2.3:8080"),
        ("a.example.com", "example.com"),
        ("a.example.com", ".Example.com"),
        ("a.example.com", "*.example.com"),
        ("example.com", "https://example.com:443"),
        ("example.com", "*"),
    ],
)
def test_hosts_that_no_proxy_contains(host: str, hosts: str) -> None:
    assert is_bypassed(httpx.URL(f"https://{host}"), hosts)


@each_row(
    ("host", "hosts"),
    [
        ("[fe80::5]", "fd00::/8"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:443"),
        ("11.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "fd00::/8,::1"),
        ("badexample.com", "example.com"),
        ("example.com:8443", "example.com:443"),
        ("example.com", ""),
        ("example.com", ", ,.,*."),
        ("example.com", "10.0.0.0/8,fd00::/8,[::1]"),
    ],
)
def test_hosts_that_no_proxy_does_not_contain(host: str, hosts: str) -> None:
    assert not is_bypassed(httpx.URL(f"https://{host}"), hosts)


def test_proxy_settings_do_not_concern_a_service_on_loopback(google: Google) -> None:
    assert ask_alone(google.url, {**TOKEN, "HTTPS_PROXY": "foo:bar://x"}) == "answered"


def test_proxy_settings_concern_the_token_for_a_service_on_loopback(google: Google, tmp_path: Path) -> None:
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(authorized_user(tmp_path)), "HTTPS_PROXY": "foo:bar://x"}
    assert ask_alone(google.url, environ) == odd_proxy("HTTPS_PROXY")


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
