"""Wall time: the maps of record/sources/wall_script.py to the table ``wall``."""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from insitu.convert.addresses import Addresses
from insitu.convert.off_cpu import already_waiting
from insitu.convert.probe_source import decoded_events, stack_nodes
from insitu.convert.sources import RawSource, raw_bytes
from insitu.convert.wall_causes import KINDS, WAITING, cause_of, frame_kind, socket_text, waiting_threads
from insitu.convert.wall_maps import PLACE, SAMPLE, TASK, U64, Maps
from insitu.convert.wall_python import PYTHON_WAITS, divided, python_waits, with_python
from insitu.convert.wall_stacks import Frames, faulted, is_idle, waited_for, with_waker, without_ours, without_start
from insitu.probe.runtime.capture import STACKS
from insitu.probe.runtime.event_columns import StackColumn
from insitu.probe.runtime.stack_records import StackContents
from insitu.session.distinct import offsets_of
from insitu.session.special_tables import WALL
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame
from insitu.syscalls.call_word import ABI_SHIFT, NUMBER_MASK, UNKNOWN, abis_of
from insitu.syscalls.decode import call_name
from insitu.syscalls.descriptors import open_on

__all__ = ["convert_source"]


# States of record/sources/wall_script.py.
_RUNNING, _PREEMPTED, _THROTTLED, _BLOCKED, _WOKEN, _WOKEN_THROTTLED, _STARTED = range(1, 8)
_STATE: Final = {
    _RUNNING: "running",
    _PREEMPTED: "runnable",
    _THROTTLED: "throttled",
    _BLOCKED: "blocked",
    _WOKEN: "runnable",
    _WOKEN_THROTTLED: "throttled",
    _STARTED: "blocked",
}
# In these a thread is where it was when it was read.
_WAITS: Final = frozenset({_BLOCKED, _WOKEN, _WOKEN_THROTTLED, _STARTED})
_TID: Final = 0xFFFFFF
_STOPPED, _TRACED = 1 << 20, 1 << 21
_TASK_STOPPED, _TASK_TRACED = 4, 8  # include/linux/sched.h
_TASK_AT_REST: Final = frozenset({0x1, 0x80})  # interruptible; idle, as report_states of sched.h has it


class _Place(NamedTuple):
    """A call, what it was about, and the stacks; of one that woke a thread, the stacks count."""

    what: int
    object: int
    holder: int
    kernel: Frames
    user: Frames


_NOWHERE: Final = _Place(UNKNOWN, 0, 0, (), ())


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "wall" to the table ``wall``."""
    wall = _Wall(source, writer, addresses)
    wall.add_waits()
    wall.add_last_states()
    wall.add_running()
    wall.write()


class _Wall:
    """The rows of the table, added up as they are found."""

    def __init__(self, source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
        self._source, self._writer, self._addresses = source, writer, addresses
        self._abis = abis_of(str(source.layout["machine"]))
        self._maps = Maps(source)
        ended = self._maps.values("@cpu", 2)[:, 0].tolist()
        self._ran = dict(zip(self._maps.words("@cpu"), ended, strict=True))
        self._rows: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
        self._known: dict[int, Frames] = {0: ()}
        self._stack_ids: dict[Frames, int] = {}
        self._descriptions: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        stacks, waiting = source.directory / STACKS, source.directory / WAITING
        data = bytes(raw_bytes(stacks)[:]) if stacks.exists() else b""
        self._contents = StackContents.of([data], source.layout["stack_maps"])
        self._waiting: dict[int, tuple[int, str, int]] = {}
        if waiting.exists():
            self._waiting = waiting_threads(bytes(raw_bytes(waiting)[:]))
        read = source.directory / PYTHON_WAITS
        self._python = python_waits(bytes(raw_bytes(read)[:])) if read.exists() else {}
        asleep = already_waiting(source, writer, addresses)
        self._asleep = dict(zip(asleep["tid"].tolist(), asleep["stack"].tolist(), strict=True))
        self._objects: dict[int, tuple[str, str]] = {}
        self._copies: dict[tuple[int, int], int] = {}
        for tables in decoded_events(source, writer):
            if "object" in tables:
                self._add_objects(tables["object"])
            if "copy" in tables:
                self._add_copies(tables["copy"])
        self._places = self._find_places()

    def _add_objects(self, columns: Mapping[str, Any]) -> None:
        names = ("id", "mode", "inode", "path", "family", "port", "local", "address")
        for identity, mode, inode, path, *peer in zip(*(list(columns[name]) for name in names), strict=True):
            text = open_on(int(mode), int(inode), path if isinstance(path, str) else path.decode(errors="replace"))
            if stat.S_ISSOCK(int(mode)):
                text = socket_text(text, *map(int, peer))
            self._objects[int(identity)] = (KINDS.get(stat.S_IFMT(int(mode)), "file"), text)

    def _add_copies(self, columns: Mapping[str, Any]) -> None:
        ts_ns = np.asarray(columns["ts_ns"]).astype(np.int64)
        found, whole = (stack_nodes(columns[name], self._addresses, ts_ns).tolist() for name in ("found", "user"))
        for sp, short, unwound in zip(np.asarray(columns["sp"]).tolist(), found, whole, strict=True):
            if unwound:
                self._copies.setdefault((sp, short), unwound)

    # States

    def add_waits(self) -> None:
        """Add the time off the CPU that has ended."""
        keys = self._maps.keys("@wall", ("who", "by"))
        values = self._maps.values("@wall", 2).tolist()
        for who, by, (count, ns) in zip(keys["who"].tolist(), keys["by"].tolist(), values, strict=True):
            self._add_wait(who, by, ns, count)
        for task in self._maps.values("@task", len(TASK)).tolist():
            found = dict(zip(TASK, task, strict=True))
            self._add_wait(found["wait"], found["wait_by"], found["wait_ns"], found["wait_times"])
            for each in ("woken", "cut"):
                self._add_wait(found[each], 0, found[f"{each}_ns"], found[f"{each}_times"])

    def _add_wait(self, who: int, by: int, ns: int, count: int) -> None:
        if who:
            self._add(who & _TID, who >> 24 & 7, who >> 32, by & _TID, by >> 32, ns, count)

    def add_last_states(self) -> None:
        """Add the states that threads were in at the end."""
        sampled = set(self._maps.keys("@samples", SAMPLE)["tid"].tolist())
        tids = self._maps.keys("@task", ("tid",))["tid"].tolist()
        tasks = self._maps.values("@task", len(TASK))[:, [TASK.index(name) for name in ("word", "place", "ran")]]
        for tid, (word, number, ran) in zip(tids, tasks.tolist(), strict=True):
            state, ns = word & 7, max(0, self._maps.end_ns - (word >> 3))
            if not tid or not word:
                continue
            # One that was on a CPU all the time has had no event.
            if state == _RUNNING or (state == _STARTED and tid in sampled and tid not in self._waiting):
                ran += ns
            else:
                self._add(tid, state, number, 0, 0, ns, 1)
            if ran:
                self._ran[tid] = self._ran.get(tid, 0) + ran

    def _find_places(self) -> dict[int, _Place]:
        """Where threads left the CPU, and from where they were woken, by number."""
        values = self._maps.values("@places", len(PLACE))
        words = {word: values[:, at] for at, word in enumerate(PLACE)}
        kernel = self._stacks("kstack32", words["kernel"])
        user = self._stacks("ustack64", words["user"], words["user_pid"], words["sp"])
        columns = [words[name].tolist() for name in ("what", "object", "holder")]
        numbers = self._maps.words("@places")
        return {
            number: _Place(*each)
            for number, each in zip(numbers, zip(*columns, kernel, user, strict=True), strict=True)
        }

    def _add(self, tid: int, code: int, number: int, waker: int, woken: int, ns: int, count: int) -> None:
        """Add time in a state at a place; ``waker`` and the place ``woken`` that it was in ended it, 0 is neither."""
        seen = self._python.get(-tid if code == _STARTED else number) if code in _WAITS else None
        seen = seen or [((), 1)]
        weights = [weight for _, weight in seen]
        times = count if len(seen) == 1 else 0  # samples say how much time, not how often
        for (python, _), part_ns in zip(seen, divided(ns, weights), strict=True):
            key = code, number, woken, tid if code == _STARTED else 0, python
            if key not in self._descriptions:
                self._descriptions[key] = self._described(
                    tid, code, self._places.get(number, _NOWHERE), self._places.get(woken), python
                )
            *words, interrupt, stack = self._descriptions[key]
            self._count((tid, *words, 0 if interrupt else waker, stack), part_ns, times)

    def _described(self, tid: int, code: int, place: _Place, woken: _Place | None, python: Frames) -> tuple[Any, ...]:
        """State, cause, call, object and holder; whether an interrupt ended it, and the stack."""
        state = _STATE[code]
        cause = call = text = ""
        interrupt = False
        if code == _STARTED:
            inside: Frames = ()
            outside = self._frames(self._asleep.get(tid, 0))
            cause, call, text = self._at_start(tid, outside)
        else:
            inside, outside = place.kernel, place.user
            if code == _BLOCKED:
                cause, call, text = self._blocked(place)
        kind = frame_kind(state, cause)
        label = " ".join(each for each in (call or cause or state, text) if each)
        kernel = (frame._replace(kind=kind) for frame in inside)
        frames: Frames = (Frame(f"[{label}]", kind=kind), *kernel, *with_python(outside, python))
        if woken:
            interrupt, frames = with_waker(woken.kernel, woken.user, frames)
        holder = place.holder if code == _BLOCKED else 0
        return state, cause, call, text, holder, interrupt, self._interned(frames)

    def _interned(self, frames: Frames) -> int:
        if frames not in self._stack_ids:
            self._stack_ids[frames] = self._writer.intern_stack(frames)
        return self._stack_ids[frames]

    def _count(self, key: tuple[Any, ...], ns: int, count: int) -> None:
        row = self._rows[key]
        row[0] += ns
        row[1] += count

    def _blocked(self, place: _Place) -> tuple[str, str, str]:
        """Cause, call and object."""
        what, thing = place.what, place.object
        number, abi = what & NUMBER_MASK, self._abis[what >> ABI_SHIFT & 3]
        call = "" if number == UNKNOWN or not abi else call_name(abi, number)
        if what & (_STOPPED | _TRACED):
            return ("stopped" if what & _STOPPED else "traced"), call, ""
        if faulted(place.kernel):
            return "page fault", call, ""
        cause = cause_of(call)
        if cause == "lock":
            cause = waited_for(place.user)
            return cause, call, "" if cause == "join" else f"{thing:#x}"  # a thread is not a lock
        kind, text = self._objects.get(thing, ("", "")) if thing else ("", "")
        if not (cause or kind or call):
            cause = "idle" if is_idle(place.kernel) else "other"
        return cause or kind or "call", call, text

    def _at_start(self, tid: int, asleep: Frames) -> tuple[str, str, str]:
        """The same of a thread that was asleep when the recording started, by /proc."""
        number, path, state = self._waiting.get(tid, (-1, "", 0))
        call = call_name(self._abis[0], number) if number >= 0 else ""
        if state in (_TASK_STOPPED, _TASK_TRACED):
            return ("stopped" if state == _TASK_STOPPED else "traced"), call, ""
        if number < 0:
            # Of kernel threads there is no user stack, and of the kernel's the innermost function only.
            in_kernel = all(frame.kind == KERNEL for frame in asleep)
            return ("idle" if in_kernel and state in _TASK_AT_REST else "other"), "", ""
        cause = cause_of(call)
        kind = (
            "pipe" if path.startswith("pipe:") else "socket" if path.startswith("socket:") else "file" if path else ""
        )
        if cause == "lock":
            cause = waited_for(asleep)
        return cause or kind or "call", call, "" if cause else path

    def add_running(self) -> None:
        """Add the time on a CPU, divided by the samples of each thread."""
        samples = self._maps.keys("@samples", SAMPLE)
        kernel = self._stacks("kstack32", samples["kernel"])
        user = self._stacks("ustack64", samples["user"], samples["user_pid"], samples["sp"])
        counts = self._maps.values("@samples", 1)[:, 0].tolist()
        found: dict[int, list[tuple[str, Frames, int]]] = defaultdict(list)
        for tid, mode, inside, outside, count in zip(
            samples["tid"].tolist(), samples["usermode"].tolist(), kernel, user, counts, strict=True
        ):
            frames = outside if mode else (*inside, *outside)
            found[tid].append(("user" if mode else "kernel", frames, count))
        for tid, ns in self._ran.items():
            if not tid:
                continue
            parts = found.get(tid, [("running", (Frame("[on a CPU, not sampled]", kind=KERNEL),), 0)])
            for (state, frames, count), share in zip(
                parts, divided(ns, [each[2] or 1 for each in parts]), strict=True
            ):
                self._count((tid, state, "", "", "", 0, 0, self._interned(frames)), share, count)

    # Stacks

    def _stacks(self, name: str, ids: U64, pids: U64 | None = None, pointers: U64 | None = None) -> list[Frames]:
        """Stacks by their ids; those of user code unwound, where a copy with that stack pointer was taken."""
        lengths, address = self._contents.find(name, ids.astype(np.int64))
        pid = np.zeros(len(ids), np.int32) if pids is None else pids.astype(np.int32)
        column = StackColumn(offsets_of(lengths), address, pid)
        nodes = stack_nodes(column, self._addresses, np.full(len(ids), self._maps.end_ns, np.int64)).tolist()
        if pointers is None:
            return [without_ours(self._frames(node)) for node in nodes]
        keys = zip(pointers.tolist(), nodes, strict=True)
        return [without_start(self._frames(self._copies.get(key, key[1]))) for key in keys]

    def _frames(self, node: int) -> Frames:
        """The frames of a stack."""
        if node not in self._known:
            parent, frame = int(self._writer.stacks.parent[node]), int(self._writer.stacks.frame[node])
            self._known[node] = (self._writer.frames.frames[frame], *self._frames(parent))
        return self._known[node]

    # The table

    def write(self) -> None:
        """Write the table."""
        self._writer.append(WALL, {})
        if not self._rows:
            return
        utid, state, cause, call, thing, holder, waker, stack = map(list, zip(*self._rows, strict=True))
        totals = np.array(list(self._rows.values()), np.int64)
        self._writer.append(
            WALL,
            {
                "utid": self._utids(utid),
                "state": state,
                "cause": cause,
                "call": call,
                "object": thing,
                "holder": np.ma.masked_array(self._utids(holder), np.array(holder) == 0),
                "waker": np.ma.masked_array(self._utids(waker), np.array(waker) == 0),
                "dur_ns": totals[:, 0],
                "count": totals[:, 1],
                "stack": np.array(stack, np.int32),
            },
        )

    def _utids(self, tids: Sequence[int]) -> Any:
        """Threads by the tid that they had at the end."""
        when = np.full(len(tids), self._maps.end_ns, np.int64)
        return self._writer.processes.utids(np.array(tids, np.int32), when)
