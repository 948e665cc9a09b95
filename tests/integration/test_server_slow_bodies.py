"""Bodies that stop coming, and clients that leave: closed after a while, and no error of ours."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked_server import ForkedServer
from server_process import ServerProcess, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("slow")
    one = ForkedServer(folder, "--log-level", "debug", env={"HEEDLOOP_BODY_IDLE_S": "0.5"}).start()
    yield one
    assert one.stop() == 0
    assert "Traceback" not in (folder / "stderr").read_text()


def begin(server: ServerProcess, path: str, media: str) -> socket.socket:
    """A request whose body has a hundred bytes, of which one is sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\nContent-Type: {media}\r\nContent-Length: 100\r\n\r\n"
    connection.sendall(head.encode() + b"{")
    return connection


PATHS = [
    ("/v1/traces", "application/x-protobuf"),
    ("/v1/logs", "application/json"),
    ("/v1/feedback", "application/json"),
]


@pytest.mark.parametrize(("path", "media"), PATHS)
def test_a_body_without_a_byte_for_long_is_closed(server: ServerProcess, path: str, media: str) -> None:
    with begin(server, path, media) as connection:
        received = b""
        while part := connection.recv(4096):  # ends, because the server closes
            received += part
    assert b" 408 " in received.splitlines()[0], received


@pytest.mark.parametrize(("path", "media"), PATHS)
def test_a_client_that_leaves_is_a_debug_line(server: ServerProcess, path: str, media: str) -> None:
    begin(server, path, media).close()
    if path != "/v1/feedback":  # FastAPI answers nobody there
        said = server.folder / "stderr"
        wait_for(lambda: f"POST {path} left before" in said.read_text(), what="the line")
