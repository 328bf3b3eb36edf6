"""`insitu top --web`: the page and its ticks, served to browsers of this machine that know the token."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections import deque
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from insitu.errors import InsituError
from insitu.record.top.sampler import Sampled
from insitu.record.top.tick import Tick
from insitu.views.page import document_page
from insitu.views.top.columns import Shown
from insitu.views.top.text import as_json

__all__ = ["TopServer"]

_LOOPBACK: Final = "127.0.0.1"
_MOST_TICKS: Final = 150
_MOST_CONNECTIONS: Final = 32
_MOST_PROCESSES: Final = 500  # of a tick
_WAIT_S: Final = 20.0  # for the next tick, before an answer without any
_IDLE_S: Final = 30.0  # until a connection that sends nothing is closed
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",  # besides the page's own
}


class TopServer:
    """Serves ticks on the loopback interface until close(). ``address`` is what a browser opens."""

    def __init__(self, port: int, *, title: str, sampler: Sampled) -> None:
        """``port`` 0: a free one. Raises InsituError if it cannot be had, or the front end has not been built."""
        self._page = document_page("live.html", ("top",), title=title, connects=True).encode()
        self._sampler = sampler
        sampler.on_tick = self.show
        self._ticks: deque[tuple[int, bytes]] = deque(maxlen=_MOST_TICKS)
        self._came = threading.Condition()
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

    def show(self, tick: Tick) -> None:
        """Send a tick to all who wait for one."""
        data = as_json(tick, Shown(), _MOST_PROCESSES, self._sampler.functions).encode()
        with self._came:
            self._ticks.append((tick.number, data))
            self._came.notify_all()

    def close(self) -> None:
        """End the server, and whoever waits. Idempotent."""
        with self._came:
            self._closed = True
            self._came.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def admits(self, host: str, origin: str | None) -> bool:
        """Whether a request is meant for this server, and not sent by another site's page (DNS rebinding, CSRF)."""
        hosts = (f"{_LOOPBACK}:{self._port}", f"localhost:{self._port}")
        return host in hosts and (origin is None or origin in [f"http://{each}" for each in hosts])

    def answer(self, path: str, query: str) -> tuple[str, bytes] | None:
        """Returns the type and content of a path; None for all without the token, and once it is closed."""
        if self._closed:
            return None
        page, ticks = (
            hmac.compare_digest(path.encode(errors="replace"), f"/{self._token}/{name}".encode())
            for name in ("", "ticks")
        )
        if page:
            return "text/html; charset=utf-8", self._page
        after = parse_qs(query).get("after", ["0"])[0]
        if ticks and after.isascii() and after.isdecimal() and len(after) < 16:
            return "application/json", self._after(int(after))
        return None

    def _after(self, number: int) -> bytes:
        """The ticks after a number as JSON, once there are any."""

        def found() -> list[bytes]:
            return [data for each, data in self._ticks if each > number]

        with self._came:
            self._came.wait_for(lambda: self._closed or found(), _WAIT_S)
            ticks = found()
        return b'{"notes": %s, "ticks": [%s]}' % (json.dumps(self._sampler.notes).encode(), b",".join(ticks))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False

    def __init__(self, address: tuple[str, int], top: TopServer) -> None:
        self.top = top
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
        top = self.server.top
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or len(origins) > 1 or not top.admits(hosts[0], origins[0] if origins else None):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"not for this server\n")
            return
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "text/plain", b"no address\n")
            return
        found = top.answer(parts.path, parts.query)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"nothing here: open the address that insitu top prints\n")
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
