from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import pytest

from reconciler.domain.errors import ReconcileError
from reconciler.emulator.app import serve
from reconciler.emulator.errors import SERVER
from support.emulator_process import running
from support.emulator_world import World


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_it_tells_its_url_answers_and_ends_when_asked_to(tmp_path: Path, number: int, status: int) -> None:
    with running(tmp_path) as service, httpx.Client(verify=False, timeout=60) as client:  # noqa: S501 - loopback
        response = client.get(f"{service.url}/v1beta3/tunedModels")
        assert (response.status_code, response.json()) == (200, {})
        assert response.headers.get_list("server") == [SERVER]
        code, out, err = service.end(number)
    assert service.url.startswith("http://127.0.0.1:")
    assert (code, out) == (status, "")
    assert "INFO" not in err


def test_a_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ReconcileError) as caught:
            serve(World().app, host="127.0.0.1", port=port, started=pytest.fail)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another host or port; port 0 selects a free one"
    )


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(ReconcileError, match=r"cannot listen on host\.invalid port 0: .+; choose another host or port"):
        serve(World().app, host="host.invalid", port=0, started=pytest.fail)


def _has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6_loopback(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_told_in_brackets(tmp_path: Path) -> None:
    with running(tmp_path, host="::1") as service, httpx.Client(verify=False, timeout=60) as client:  # noqa: S501 - loopback
        assert service.url.startswith("http://[::1]:")
        assert client.get(f"{service.url}/v1beta3/tunedModels").status_code == 200
