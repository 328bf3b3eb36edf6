"""`insitu top --web`: the page and its ticks, for browsers of this machine."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import Final
from urllib.parse import parse_qs

from insitu.record.top.sampler import Sampled
from insitu.record.top.tick import Tick
from insitu.views.page import document_page
from insitu.views.page_server import Answer, PageServer
from insitu.views.top.columns import Shown
from insitu.views.top.text import as_json

__all__ = ["TopServer"]

_MOST_TICKS: Final = 150
_MOST_PROCESSES: Final = 500  # of a tick
_WAIT_S: Final = 20.0  # for the next tick, before an answer without any


class TopServer(PageServer):
    """Serves ticks until close()."""

    def __init__(self, port: int, *, title: str, sampler: Sampled) -> None:
        """As PageServer. Raises InsituError, too, if the front end has not been built."""
        self._sampler = sampler
        self._ticks: deque[tuple[int, bytes]] = deque(maxlen=_MOST_TICKS)
        self._came = threading.Condition()
        page = document_page("live.html", ("top",), title=title, connects=True).encode()
        super().__init__(port, page, {"ticks": self._ticks_after})
        sampler.on_tick = self.show

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
        super().close()

    def _ticks_after(self, query: str) -> Answer | None:
        """The ticks after a number as JSON, once there are any."""
        after = parse_qs(query).get("after", ["0"])[0]
        if not (after.isascii() and after.isdecimal() and len(after) < 16):
            return None

        def found() -> list[bytes]:
            return [data for each, data in self._ticks if each > int(after)]

        with self._came:
            self._came.wait_for(lambda: self._closed or found(), _WAIT_S)
            ticks = found()
        notes = json.dumps(self._sampler.notes).encode()
        return "application/json", b'{"notes": %s, "ticks": [%s]}' % (notes, b",".join(ticks))
