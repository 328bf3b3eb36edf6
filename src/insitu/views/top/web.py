"""`insitu top --web`: the page and its ticks, served to browsers of this machine that know the token."""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from insitu.errors import InsituError
from insitu.record.top.sampler import Sampled
from insitu.record.top.tick import Tick
from insitu.views.page import document_page
from insitu.views.top.columns import Shown
from insitu.views.top.loopback import LOOPBACK, LoopbackServer
from insitu.views.top.text import as_json, look_json

__all__ = ["TopServer"]

_MOST_TICKS: Final = 150
_MOST_PROCESSES: Final = 500  # of a tick
_WAIT_S: Final = 20.0  # for the next tick, before an answer without any
_LOOKED_S: Final = 15.0  # a page that has not asked for so long has been closed
_MOST_FIELDS: Final = 8  # of a query


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
        self._looked_at_s = 0.0
        self._token = secrets.token_urlsafe(24)
        try:
            self._server = LoopbackServer(port, self)
        except (OSError, OverflowError) as error:
            raise InsituError(
                f"cannot listen on {LOOPBACK}:{port}: {error}", remedy="choose another --port"
            ) from None
        self.address = f"http://{LOOPBACK}:{self._server.port}/{self._token}/"

    def show(self, tick: Tick) -> None:
        """Send a tick to all who wait for one."""
        if self._looked_at_s and time.monotonic() - self._looked_at_s > _LOOKED_S:
            self._look_at(0)
        data = as_json(tick, Shown(), _MOST_PROCESSES, self._sampler.functions).encode()
        with self._came:
            self._ticks.append((tick.number, data))
            self._came.notify_all()

    def close(self) -> None:
        """End the server, and whoever waits. Idempotent."""
        with self._came:
            self._closed = True
            self._came.notify_all()
        self._server.close()

    def admits(self, host: str, origin: str | None) -> bool:
        """Whether a request is meant for this server, and not sent by another site's page (DNS rebinding, CSRF)."""
        hosts = (f"{LOOPBACK}:{self._server.port}", f"localhost:{self._server.port}")
        return host in hosts and (origin is None or origin in [f"http://{each}" for each in hosts])

    def route(self, path: str, query: str) -> Callable[[], tuple[str, bytes]] | None:
        """Returns what makes the type and content of a path; None for all without the token, and when closed."""
        page, ticks, look = (
            hmac.compare_digest(path.encode(errors="replace"), f"/{self._token}/{name}".encode())
            for name in ("", "ticks", "look")
        )
        if self._closed:
            return None
        if page:
            return lambda: ("text/html; charset=utf-8", self._page)
        with contextlib.suppress(ValueError):
            fields = {name: values[0] for name, values in parse_qs(query, max_num_fields=_MOST_FIELDS).items()}
            after, pid, tid, at = (_number(fields.get(name, "0")) for name in ("after", "pid", "tid", "at"))
            if ticks:
                return lambda: ("application/json", self._after(after))
            if look:
                return lambda: ("application/json", self._look(pid, tid, at, fields))
        return None

    def _look_at(self, pid: int) -> None:
        self._looked_at_s = time.monotonic() if pid else 0.0
        self._sampler.look_at(pid)

    def _look(self, pid: int, tid: int, at: int, fields: Mapping[str, str]) -> bytes:
        """Threads, functions and stacks of a process (0: of the machine) at a tick (0: the latest), as JSON.

        From now on threads and waits of this process are taken.
        """
        self._look_at(pid)
        function = fields.get("function")
        through = None if function is None else (function, fields.get("module", ""))
        ticks = self._sampler.history.until(at or None)
        return look_json(ticks, self._sampler.functions, pid, tid, through, waits="waits" in fields).encode()

    def _after(self, number: int) -> bytes:
        """The ticks after a number as JSON, once there are any."""

        def found() -> list[bytes]:
            return [data for each, data in self._ticks if each > number]

        with self._came:
            self._came.wait_for(lambda: self._closed or found(), _WAIT_S)
            ticks = found()
        return b'{"notes": %s, "ticks": [%s]}' % (json.dumps(self._sampler.notes).encode(), b",".join(ticks))


def _number(text: str) -> int:
    """A number of a query. Raises ValueError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ValueError(text)
    return int(text)
