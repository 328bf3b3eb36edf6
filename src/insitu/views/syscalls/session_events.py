"""A session's calls as the events that its recorder saw, for the printers of live ones."""

from __future__ import annotations

import heapq
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Call, Enter, Event, Exit, Exited, Forked, LostHere, Signal
from insitu.syscalls.decode import Decoder, Piece, call_name
from insitu.syscalls.filters.subject import Process

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["RecordedProcesses", "StoredDecoder", "session_events", "split_arguments"]

_CHUNK_ROWS: Final = 1 << 16
_UNKNOWN_STATUS: Final = -1
_EXITS: Final = ("exit", "exit_group")

_CALLS: Final = """
    select s.ts_ns, s.id, s.dur_ns, s.cpu, t.tid, p.pid, y.abi, y.nr, y.ret, y.args, y.arguments, y.fd, y.path,
           y.lost_before, t.upid
    from syscall y join span s on s.id = y.span_id join thread t on t.utid = s.utid join process p on p.upid = t.upid
    where (s.ts_ns, s.id) > (?, ?) order by s.ts_ns, s.id limit ?
"""
_SIGNALS: Final = """
    select s.ts_ns, t.tid, p.pid, s.number, s.code, s.sender_pid, s.address
    from signal s join thread t on t.utid = s.utid join process p on p.upid = t.upid order by s.ts_ns
"""
_THREADS: Final = """
    select t.start_ns, t.end_ns, t.tid, p.pid, parent.pid as parent
    from thread t join process p on p.upid = t.upid left join process parent on parent.upid = p.parent_upid
    where t.utid > 0
"""
_DESCRIPTORS: Final = "select upid, fd, from_ns, until_ns, path from descriptor"
_PROCESSES: Final = """
    select p.upid, p.pid, parent_upid, exe, cmdline, uid, cgroup,
           (select name from thread t where t.upid = p.upid order by t.tid = p.pid desc limit 1) as name
    from process p order by start_ns
"""


class _Stored:
    """A recorded call's text in place of the memory that it was made from."""

    __slots__ = ("arguments", "cpu", "descriptors", "path")

    def __init__(self, text: str, path: str | None, descriptors: Mapping[int, str], cpu: int | None) -> None:
        self.arguments = split_arguments(text)
        self.path = path
        self.descriptors = descriptors
        self.cpu = cpu

    def read(self, address: int, size: int) -> bytes | None:
        """Returns the call's path: all that a session has of its memory."""
        return None if self.path is None else self.path.encode("utf-8", "surrogateescape")[:size] + b"\0"


class StoredDecoder(Decoder):
    """Shows what the session has as text."""

    def __init__(self) -> None:
        super().__init__(TextOptions())

    def arguments(self, call: Call) -> list[Piece]:
        """See Decoder."""
        stored = call.enter.memory
        return [Piece(text, False) for text in stored.arguments] if isinstance(stored, _Stored) else []


def split_arguments(text: str) -> list[str]:
    """Returns the arguments of a call's text: split at commas that are not within quotes or brackets."""
    if not text:
        return []
    found, depth, start, quoted, at = [], 0, 0, False, 0
    while at < len(text):
        char = text[at]
        if quoted:
            quoted = char != '"'
            at += char == "\\"
        elif char == '"':
            quoted = True
        elif char in "([{<":
            depth += 1
        elif char in ")]}>" and text[at - 1 : at + 1] not in ("->", "=>"):
            depth -= 1
        elif char == "," and depth <= 0 and text.startswith(", ", at):
            found.append(text[start:at])
            start = at + 2
        at += 1
    return [*found, text[start:]]


def session_events(session: Session) -> Iterator[Event]:
    """Yields the session's calls, signals and ends of threads, in order of time. Raises InsituError."""
    tables = set(session.tables)
    others: list[Iterator[tuple[int, int, Event]]] = [_calls(session), _thread_events(session)]
    if "signal" in tables:
        others.append(_signals(session))
    last: dict[int, Enter] = {}
    for _, _, event in heapq.merge(*others, key=lambda each: each[:2]):
        if isinstance(event, Enter):
            last[event.tid] = event
        elif isinstance(event, Exited):
            entered = last.pop(event.tid, None)
            if entered is not None and call_name(entered.abi, entered.nr) in _EXITS:
                event = event._replace(status=(entered.args[0] & 0xFF) << 8)
        yield event


def _calls(session: Session) -> Iterator[tuple[int, int, Event]]:
    opened = _Descriptors(session)
    exits: list[tuple[int, int, Event]] = []
    at = (-(1 << 62), -1)
    while True:
        rows = session.sql(_CALLS, [*at, _CHUNK_ROWS]).rows()
        for ts_ns, id_, dur_ns, cpu, tid, pid, abi, nr, ret, args, text, fd, path, lost, upid in rows:
            while exits and exits[0][0] <= ts_ns:
                yield heapq.heappop(exits)
            if lost:
                yield ts_ns, 1, LostHere(ts_ns, lost)
            descriptors = {} if fd is None else opened.at(upid, fd, ts_ns)
            stored = _Stored(text or "", path, descriptors, cpu)
            registers = tuple(int(each) & 0xFFFFFFFFFFFFFFFF for each in args or (0,) * 6)
            yield ts_ns, 2, Enter(ts_ns, pid, tid, abi, nr, registers, stored)
            if dur_ns is not None and ret is not None:
                after = stored if ret < 0 else _Stored("", None, opened.at(upid, ret, ts_ns + dur_ns), cpu)
                heapq.heappush(exits, (ts_ns + dur_ns, id_ + 3, Exit(ts_ns + dur_ns, pid, tid, ret, after)))
        if len(rows) < _CHUNK_ROWS:
            break
        at = rows[-1][:2]
    while exits:
        yield heapq.heappop(exits)


def _signals(session: Session) -> Iterator[tuple[int, int, Event]]:
    for ts_ns, tid, pid, number, code, sender, address in session.sql(_SIGNALS).iter_rows():
        yield ts_ns, 1, Signal(ts_ns, pid, tid, number, code or 0, 0, sender or 0, address=address or 0)


def _thread_events(session: Session) -> Iterator[tuple[int, int, Event]]:
    """Beginnings, where the parent is known, and ends."""
    found: list[tuple[int, int, Event]] = []
    for start_ns, end_ns, tid, pid, parent in session.sql(_THREADS).iter_rows():
        if start_ns and (parent or tid != pid):
            maker = parent if tid == pid else pid
            found.append((start_ns, 0, Forked(start_ns, maker, maker, pid, tid)))
        if end_ns is not None:
            found.append((end_ns, 1 << 62, Exited(end_ns, pid, tid, _UNKNOWN_STATUS)))
    return iter(sorted(found, key=lambda each: each[:2]))


class _Descriptors:
    """What descriptors were open on, and when."""

    def __init__(self, session: Session) -> None:
        self._opened: dict[tuple[int, int], list[tuple[int, int | None, str]]] = {}
        if "descriptor" in session.tables:
            for upid, fd, from_ns, until_ns, path in session.sql(_DESCRIPTORS).iter_rows():
                self._opened.setdefault((upid, fd), []).append((from_ns, until_ns, path))

    def at(self, upid: int, fd: int, ts_ns: int) -> dict[int, str]:
        for from_ns, until_ns, path in self._opened.get((upid, fd), ()):
            if from_ns <= ts_ns and (until_ns is None or ts_ns <= until_ns):
                return {fd: path}
        return {}


class RecordedProcesses:
    """A session's processes, for filter expressions; what they ran when is followed by their calls of execve."""

    def __init__(self, session: Session) -> None:
        by_upid: dict[int, Process] = {}
        self._known: dict[int, Process] = {}
        for upid, pid, parent, exe, cmdline, uid, cgroup, name in session.sql(_PROCESSES).iter_rows():
            above = by_upid.get(parent) if parent is not None and parent != upid else None
            args = _words(cmdline or "")
            process = Process(
                pid,
                above.pid if above else None,
                name or "",
                exe or "",
                args,
                "",
                uid,
                None,
                None,
                cgroup or "",
                above,
            )
            by_upid[upid] = self._known[pid] = process

    def observe(self, event: Event) -> None:
        """Nothing: all that events say is in the tables."""

    def returned(self, call: Call) -> None:
        """Take the program's path and arguments from an execve."""
        stored: Any = call.enter.memory
        if call.exit is None or call.failed or call_name(call.enter.abi, call.enter.nr) != "execve":
            return
        from dataclasses import replace

        known = self._known.get(call.enter.pid, Process(call.enter.pid))
        path = stored.path or ""
        words = (
            tuple(_unquoted(word) for word in _STRING.findall(stored.arguments[1])) if stored.arguments[1:] else ()
        )
        name = path.rpartition("/")[2][:15]
        self._known[call.enter.pid] = replace(known, exe=path, name=name, args=words)

    def process(self, pid: int) -> Process:
        """Returns a process."""
        return self._known.get(pid, Process(pid))


_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


def _words(cmdline: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(cmdline))
    except ValueError:  # not quoted for a shell
        return tuple(cmdline.split())


def _unquoted(text: str) -> str:
    return re.sub(r"\\(\d{1,3}|.)", _character, text)


def _character(found: re.Match[str]) -> str:
    if found[1].isdigit():
        return chr(int(found[1], 8) & 0xFF) if not set(found[1]) & set("89") else found[1]
    return {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f"}.get(found[1], found[1])
