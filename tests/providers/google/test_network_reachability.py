"""Whether a service can be reached, and what is in the way where it cannot."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
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
from reconciler.providers.google.http import Client, HttpRequest
from reconciler.providers.google.network import ConnectionResult, check_connection
from support.provider_process import proxy_on_loopback
from support.provider_service import Time, settings_of

HERE = "127.0.0.1"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
OTHERS = (
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
)


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *OTHERS):
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
def serving(context: ssl.SSLContext | None = None, handler: type[BaseHTTPRequestHandler] = _Missing) -> Iterator[int]:
    with HTTPServer((HERE, 0), handler) as server:
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


def self_signed(folder: Path, host: str = HERE, starts: timedelta = timedelta(days=-1)) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HERE)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + starts + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
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


def listing(port: int) -> tuple[ServiceError, list[float]]:
    """Return the failure of a request of a run, and the pauses before it was repeated."""
    time = Time()
    client = Client(f"https://{HERE}:{port}", SERVICE, settings_of(time, None))
    with pytest.raises(ServiceError) as caught:
        asyncio.run(client.request(HttpRequest("GET", "/v1beta3/tunedModels")))
    return caught.value, time.naps


@pytest.mark.parametrize("name", OTHERS)
def test_an_untrusted_certificate_is_reported_at_once_and_the_remedy_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with serving(self_signed(tmp_path)) as port:
        monkeypatch.setenv(name, str(tmp_path / "server.pem"))
        said, naps = listing(port)
        command = f"export SSL_CERT_FILE={tmp_path}/server.pem"
        assert said.remedy == f"set SSL_CERT_FILE as well: `{command}`; only other programs use {name}"
        assert "its certificate cannot be verified ([SSL: CERTIFICATE_VERIFY_FAILED]" in said.message
        assert naps == []
        assert failure(f"https://{HERE}:{port}").remedy == said.remedy, "doctor has the same"
        monkeypatch.setenv(*command.removeprefix("export ").split("="))
        said, _ = listing(port)
    assert said.code == "NOT_FOUND", "the server responded"


def test_a_folder_of_certificates_is_one_for_openssl_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path))
    with serving(self_signed(tmp_path)) as port:
        assert f"`export SSL_CERT_DIR={tmp_path}`" in listing(port)[0].remedy


def test_a_bundle_without_the_authority_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    self_signed(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other / "server.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "server.pem"))
    with serving(self_signed(tmp_path)) as port:
        remedy = "add the certificate authority of the server, or of a proxy that inspects TLS, to SSL_CERT_FILE"
        assert listing(port)[0].remedy == remedy


@pytest.mark.parametrize(
    ("host", "starts", "cause", "remedy"),
    [
        (HERE, -9, "its certificate is not valid at the time of this machine", "set the clock of this machine"),
        (HERE, 7, "its certificate is not valid at the time of this machine", "set the clock of this machine"),
        ("10.1.1.1", -1, "its certificate is for another host", "check spec.endpoint of the target"),
    ],
)
def test_other_faults_of_a_certificate_have_their_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, starts: int, cause: str, remedy: str
) -> None:
    context = self_signed(tmp_path, host, timedelta(days=starts))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    with serving(context) as port:
        said, naps = listing(port)
    assert cause in said.message
    assert said.remedy.startswith(remedy)
    assert naps == []


@pytest.mark.parametrize(
    ("status", "cause", "remedy"),
    [
        (407, "the proxy requires a password", "set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT"),
        (403, "the proxy does not allow the connection", "ask the administrator of the proxy to allow the host"),
    ],
)
def test_a_refusal_of_a_proxy_has_its_own_remedy(
    monkeypatch: pytest.MonkeyPatch, status: int, cause: str, remedy: str
) -> None:
    class Refusing(_Missing):
        def do_CONNECT(self) -> None:
            self.send_response(status)
            self.end_headers()

    with serving(handler=Refusing) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HERE}:{port}")
        said = failure("https://nowhere.invalid")
    assert cause in said.message
    assert said.remedy.startswith(remedy)


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
