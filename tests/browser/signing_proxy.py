"""A reverse proxy of the tests that names its user in a header of every request and WebSocket, as proxies that sign people in do."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

HEADER = "X-Remote-User"


@contextlib.contextmanager
def signing_proxy(target: str, user: str) -> Iterator[str]:
    """The address of a proxy in front of `target`, one request per connection, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, urlsplit(target).port, user), daemon=True).start()
    yield f"http://localhost:{listener.getsockname()[1]}"
    listener.close()


def _accept(listener: socket.socket, port: int, user: str) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed
            return
        threading.Thread(target=_serve, args=(client, port, user), daemon=True).start()


def _serve(client: socket.socket, port: int, user: str) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        part = client.recv(65536)
        if not part:
            client.close()
            return
        head += part
    first, _, rest = head.partition(b"\r\n")
    lines, _, body = rest.partition(b"\r\n\r\n")
    kept = [
        line for line in lines.split(b"\r\n") if not line.lower().startswith(HEADER.lower().encode() + b":")
    ]
    if b"upgrade: websocket" not in lines.lower():
        kept = [line for line in kept if not line.lower().startswith(b"connection:")] + [b"Connection: close"]
    server = socket.create_connection(("127.0.0.1", port))
    named = f"{HEADER}: {user}".encode()
    server.sendall(b"\r\n".join([first, *kept, named]) + b"\r\n\r\n" + body)
    threading.Thread(target=_copy, args=(client, server), daemon=True).start()
    _copy(server, client)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
