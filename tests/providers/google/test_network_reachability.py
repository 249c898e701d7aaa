"""Whether a service can be reached, and what is in the way where it cannot."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.domain.errors import ServiceError, UsageError
from reconciler.providers.generativelanguage.wire import SERVICE
from reconciler.providers.google.network import ConnectionResult, check_connection
from support.provider_process import proxy_on_loopback

HERE = "127.0.0.1"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class _Missing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert "authorization" not in self.headers
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Keep stderr clean."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    with HTTPServer((HERE, 0), _Missing) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # whoever hangs up is what is tested
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def failure(address: str, transport: httpx.BaseTransport | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        check_connection(address, SERVICE, transport)
    assert caught.value.code == "UNREACHABLE"
    return caught.value


def test_any_answer_will_do() -> None:
    with serving() as port:
        assert check_connection(f"http://{HERE}:{port}", SERVICE) == ConnectionResult(404)


def test_a_port_that_no_server_listens_on() -> None:
    with closing(socket.socket()) as taken:
        taken.bind((HERE, 0))
        port = taken.getsockname()[1]
        said = failure(f"http://{HERE}:{port}")
    assert said.message.startswith(f"cannot reach {HERE}:{port}: connection refused (")
    assert said.remedy == "check spec.endpoint of the target, and the proxy settings"


def test_a_name_that_is_unknown() -> None:
    said = failure("https://nowhere.invalid")
    assert said.message.startswith("cannot reach nowhere.invalid: its name cannot be resolved (")
    assert said.remedy.startswith("check spec.endpoint of the target and DNS; set HTTPS_PROXY if this")


def test_a_server_that_speaks_no_tls() -> None:
    with serving() as port:
        said = failure(f"https://{HERE}:{port}")
    assert said.message.startswith(f"cannot reach {HERE}:{port}: it does not support TLS (")


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HERE)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "server.pem"
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_certificate_that_is_untrusted(tmp_path: Path) -> None:
    with serving(self_signed(tmp_path)) as port:
        said = failure(f"https://{HERE}:{port}")
    assert said.message.startswith(f"cannot reach {HERE}:{port}: its certificate cannot be verified (")
    assert said.remedy == "if a proxy or firewall inspects TLS connections, set SSL_CERT_FILE to its certificate"


def test_a_proxy_that_hangs_up_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_on_loopback() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:hush@"))
        said = failure("https://nowhere.invalid")
    assert proxy.lines == ["CONNECT nowhere.invalid:443 HTTP/1.1"]
    assert said.message.startswith(f"cannot reach nowhere.invalid through the proxy {proxy.url[7:]}: ")
    assert "hush" not in str(said)


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:  # it knows no CONNECT
        monkeypatch.setenv("ALL_PROXY", f"{HERE}:{port}")
        said = failure("https://nowhere.invalid")
    assert f"through the proxy {HERE}:{port}: the proxy refused the connection (" in said.message
    assert said.remedy == "check HTTPS_PROXY and NO_PROXY"


def test_what_needs_no_proxy_uses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{HERE}:1")
    monkeypatch.setenv("NO_PROXY", "nowhere.invalid")
    assert "proxy" not in failure("https://nowhere.invalid").message


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ConnectTimeout("timed out"), "timed out (timed out); check for a firewall"),
        (httpx.RemoteProtocolError("odd"), "odd; check spec.endpoint of the target, the network and the proxy"),
    ],
)
def test_what_else_may_be_in_the_way(error: httpx.TransportError, said: str) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    assert said in str(failure("https://tuning.example.com", httpx.MockTransport(answer)))


def test_an_address_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"invalid endpoint: Invalid port: 99999; fix spec\.endpoint of the target"):
        check_connection("https://tuning.example.com:99999", SERVICE)
