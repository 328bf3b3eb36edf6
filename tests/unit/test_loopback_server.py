"""The server of live pages and connections that are silent, slow or too long."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from insitu.views.loopback import LoopbackServer


class OnePage:
    """A site with one page, whose path is the token."""

    def admits(self, host: str, origin: str | None) -> bool:
        return True

    def route(self, path: str) -> Callable[[str], tuple[str, bytes] | None] | None:
        return (lambda query: ("text/plain", b"found")) if path == "/token" else None


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with contextlib.closing(LoopbackServer(0, OnePage())) as server:
        server.head_s = 3600.0
        yield server


def connected(server: LoopbackServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=120)


def found(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/token")
    return connection.getresponse().read()


def ends(connection: socket.socket) -> bool:
    """Waits until the server has closed a connection, to which it has sent nothing."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_hundred_silent_connections_keep_nobody_out(server: LoopbackServer) -> None:
    owner = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    assert found(owner) == b"found"
    with contextlib.ExitStack() as held:
        silent = [held.enter_context(connected(server)) for _ in range(100)]
        assert ends(silent[0])
        assert found(owner) == b"found"  # the one that it has
        assert found(http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)) == b"found"
        assert threading.active_count() < 100


def test_a_request_that_trickles_in_ends_at_its_deadline(server: LoopbackServer) -> None:
    server.head_s = 0.3
    with connected(server) as slow:
        slow.settimeout(0.01)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:  # a byte each 10 ms, for as long as it takes them
                slow.sendall(b"G")
                try:
                    if slow.recv(1) == b"":
                        break
                except TimeoutError:
                    continue


@pytest.mark.parametrize("head", [b"GET /" + b"x" * 20_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4000])
def test_a_request_without_an_end_is_not_read_on(server: LoopbackServer, head: bytes) -> None:
    with connected(server) as long:
        long.sendall(head)
        assert ends(long)


def test_a_connection_without_the_token_is_closed_after_its_answer(server: LoopbackServer) -> None:
    with connected(server) as wrong:
        wrong.sendall(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: wrong.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 404 ") and b"found" not in answer
