"""Pages and what they ask for, served to browsers of this machine that know the token."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, Final
from urllib.parse import urlsplit

from insitu.errors import InsituError

__all__ = ["PageServer"]

_LOOPBACK: Final = "127.0.0.1"
_MOST_CONNECTIONS: Final = 32
_IDLE_S: Final = 30.0  # until a connection that sends nothing is closed
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",  # besides the page's own
}

Answer = tuple[str, bytes]
"""A content type, and the content."""


class PageServer:
    """Serves on the loopback interface until close(). ``address`` is what a browser opens."""

    def __init__(self, port: int, page: bytes, files: Mapping[str, Callable[[str], Answer | None]]) -> None:
        """``files``: what gives the content of a name beside the page, for the query of its address.

        ``port`` 0: a free one. Raises InsituError if it cannot be had.
        """
        self._files: dict[str, Callable[[str], Answer | None]] = {
            "": lambda _: ("text/html; charset=utf-8", page),
            **files,
        }
        self._closed = False
        self._token = secrets.token_urlsafe(24)
        try:
            self._server = _Server((_LOOPBACK, port), self)
        except (OSError, OverflowError) as error:
            raise InsituError(
                f"cannot listen on {_LOOPBACK}:{port}: {error}", remedy="choose another --port"
            ) from None
        self._port = self._server.server_address[1]
        self.address = f"http://{_LOOPBACK}:{self._port}/{self._token}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server. Idempotent."""
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def admits(self, host: str, origin: str | None) -> bool:
        """Whether a request is meant for this server, and not sent by another site's page (DNS rebinding, CSRF)."""
        hosts = (f"{_LOOPBACK}:{self._port}", f"localhost:{self._port}")
        return host in hosts and (origin is None or origin in [f"http://{each}" for each in hosts])

    def answer(self, path: str, query: str) -> Answer | None:
        """Returns the type and content of a path; None for all without the token, and once it is closed."""
        if self._closed:
            return None
        for name, content in self._files.items():
            if hmac.compare_digest(path.encode(errors="replace"), f"/{self._token}/{name}".encode()):
                return content(query)
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False

    def __init__(self, address: tuple[str, int], pages: PageServer) -> None:
        self.pages = pages
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """A connection that breaks off is not this program's failure."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _IDLE_S
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "insitu", ""

    def do_GET(self) -> None:
        """The only method."""
        pages = self.server.pages
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or len(origins) > 1 or not pages.admits(hosts[0], origins[0] if origins else None):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"not for this server\n")
            return
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"no address\n")
            return
        found = pages.answer(parts.path, parts.query)
        if found is None:
            self._send(
                HTTPStatus.NOT_FOUND, "text/plain", b"nothing here: open the address that insitu has printed\n"
            )
        else:
            self._send(HTTPStatus.OK, *found)

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: they hold the token."""
