"""An HTTP server for the browsers of this machine, whose connections all end in bounded time.

Every user of the machine can connect. Those that have not shown the token yet are few at a time and short: a new one
takes the place of the oldest, so that nobody keeps the token's owner out by connections that send nothing or slowly.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

__all__ = ["LOOPBACK", "Answer", "LoopbackServer", "Site"]

LOOPBACK: Final = "127.0.0.1"
_MOST_STRANGERS: Final = 32  # connections without the token
_MOST_CONNECTIONS: Final = 64
_ROOM_S: Final = 2.0  # for one that gave way to end
_MOST_HEAD: Final = 16 << 10  # bytes of a request's line and headers
_HEAD_S: Final = 10.0  # from a request's begin to the end of its headers
_SEND_S: Final = 30.0  # for a whole answer
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",  # besides the page's own
}


Answer = tuple[str, bytes]
"""A content type, and the content."""


class Site(Protocol):
    """What is served."""

    def admits(self, host: str, origin: str | None) -> bool:
        """Whether a request is meant for this server, and not sent by another site's page."""

    def route(self, path: str) -> Callable[[str], Answer | None] | None:
        """Returns what gives the content of a path for a query; None for all without the token."""


class LoopbackServer(ThreadingHTTPServer):
    """Serves a site on a port of the loopback interface, in a thread of its own, until close()."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False

    def __init__(self, port: int, site: Site) -> None:
        """``port`` 0: a free one. Raises OSError or OverflowError if it cannot be had."""
        self.site = site
        self.head_s = _HEAD_S
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._strangers: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__((LOOPBACK, port), _Handler)
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.2,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more. Idempotent."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def knows(self, connection: socket.socket) -> None:
        """A connection has shown the token: it gives way to no other."""
        with self._lock:
            self._strangers.pop(connection, None)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._strangers) >= _MOST_STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                with contextlib.suppress(OSError):  # it has ended by itself
                    oldest.shutdown(socket.SHUT_RDWR)
        if not self._room.acquire(timeout=_ROOM_S):
            self.shutdown_request(request)
            return
        with self._lock:
            self._strangers[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread for it
            self._ended(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._ended(request)

    def _ended(self, request: socket.socket) -> None:
        self.knows(request)
        self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks off is not this program's failure."""


class _Handler(BaseHTTPRequestHandler):
    server: LoopbackServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "insitu", ""

    def handle_one_request(self) -> None:
        head = _head(self.connection, self.server.head_s)
        self.rfile = io.BufferedReader(io.BytesIO(head))
        self.connection.settimeout(_SEND_S)
        super().handle_one_request()

    def do_GET(self) -> None:
        """The only method."""
        site = self.server.site
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or len(origins) > 1 or not site.admits(hosts[0], origins[0] if origins else None):
            self._refuse(HTTPStatus.FORBIDDEN, "not for this server")
            return
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "no address")
            return
        content = site.route(parts.path)
        if content is not None:
            self.server.knows(self.connection)
        found = content(parts.query) if content else None
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "nothing here: open the address that insitu has printed")
        else:
            self._send(HTTPStatus.OK, *found)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "text/plain", f"{text}\n".encode(), Connection="close")

    def _send(self, status: HTTPStatus, kind: str, data: bytes, **more: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(data)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: they hold the token."""


def _head(connection: socket.socket, within_s: float) -> bytes:
    """A request's line and headers; nothing if they are too long, too late, or do not come."""
    deadline = time.monotonic() + within_s
    head = b""
    while b"\r\n\r\n" not in head:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or len(head) > _MOST_HEAD:
            return b""
        connection.settimeout(left_s)
        try:
            part = connection.recv(_MOST_HEAD)
        except OSError:
            return b""
        if not part:
            return b""
        head += part
    return head
