"""`insitu top --web`: the page and its ticks, for browsers of this machine."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import Final
from urllib.parse import parse_qs

from insitu.record.top.sampler import Sampled
from insitu.record.top.tick import Tick
from insitu.views.page import document_page
from insitu.views.page_server import Answer, PageServer
from insitu.views.top.columns import Shown
from insitu.views.top.text import as_json, look_json

__all__ = ["TopServer"]

_MOST_TICKS: Final = 150
_MOST_PROCESSES: Final = 500  # of a tick
_WAIT_S: Final = 20.0  # for the next tick, before an answer without any
_LOOKED_S: Final = 15.0  # a page that has not asked for so long has been closed
_MOST_FIELDS: Final = 8  # of a query


class TopServer(PageServer):
    """Serves ticks until close()."""

    def __init__(self, port: int, *, title: str, sampler: Sampled) -> None:
        """As PageServer. Raises InsituError, too, if the front end has not been built."""
        self._sampler = sampler
        self._ticks: deque[tuple[int, bytes]] = deque(maxlen=_MOST_TICKS)
        self._came = threading.Condition()
        self._looked_at_s = 0.0
        page = document_page("live.html", ("top",), title=title, connects=True).encode()
        super().__init__(port, page, {"ticks": self._ticks_after, "look": self._look})
        sampler.on_tick = self.show

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
        super().close()

    def _ticks_after(self, query: str) -> Answer | None:
        """The ticks after a number as JSON, once there are any."""
        fields = _fields(query)
        if fields is None:
            return None
        after = _number(fields, "after")

        def found() -> list[bytes]:
            return [data for each, data in self._ticks if each > after]

        with self._came:
            self._came.wait_for(lambda: self._closed or found(), _WAIT_S)
            ticks = found()
        notes = json.dumps(self._sampler.notes).encode()
        return "application/json", b'{"notes": %s, "ticks": [%s]}' % (notes, b",".join(ticks))

    def _look_at(self, pid: int) -> None:
        self._looked_at_s = time.monotonic() if pid else 0.0
        self._sampler.look_at(pid)

    def _look(self, query: str) -> Answer | None:
        """Threads, functions and stacks of a process (0: of the machine) at a tick (0: the latest), as JSON.

        From now on threads and waits of this process are taken.
        """
        fields = _fields(query)
        if fields is None:
            return None
        pid, tid, at = (_number(fields, name) for name in ("pid", "tid", "at"))
        self._look_at(pid)
        through = (fields["function"], fields.get("module", "")) if "function" in fields else None
        ticks = self._sampler.history.until(at or None)
        text = look_json(ticks, self._sampler.functions, pid, tid, through, waits="waits" in fields)
        return "application/json", text.encode()


def _fields(query: str) -> dict[str, str] | None:
    """The fields of a query; None if there are too many, or a number is not one."""
    try:
        fields = {name: values[0] for name, values in parse_qs(query, max_num_fields=_MOST_FIELDS).items()}
    except ValueError:
        return None
    numbers = (text for name, text in fields.items() if name in ("after", "pid", "tid", "at"))
    return fields if all(text.isascii() and text.isdecimal() and len(text) < 16 for text in numbers) else None


def _number(fields: dict[str, str], name: str) -> int:
    return int(fields.get(name, "0"))
