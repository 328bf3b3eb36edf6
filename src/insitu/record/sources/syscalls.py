"""System calls by eBPF: a script (syscalls_script.py) in the kernel, its records to events while they come."""

from __future__ import annotations

import contextlib
import operator
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.kernel import procfs
from insitu.kernel.process_memory import ProcessMemory
from insitu.probe.types import Stack
from insitu.record.delivery import Leaving
from insitu.record.programs import with_program
from insitu.record.source import Target
from insitu.record.sources import syscalls_map_words as map_words
from insitu.record.sources.generated import GeneratedSource
from insitu.record.sources.syscalls_join import Joiner
from insitu.record.sources.syscalls_script import script_text
from insitu.record.sources.syscalls_targets import TargetMaps
from insitu.record.spool import Spool
from insitu.syscalls import call_word
from insitu.syscalls.call import Enter, Event, Executed
from insitu.syscalls.call_word import abis_of
from insitu.syscalls.capture_words import (
    BYTES,
    MOST_WORDS,
    STRING,
    WORD_BITS,
    CallWords,
    call_words,
    chosen_words,
    how,
)
from insitu.syscalls.collect import Collector
from insitu.syscalls.decode import call_name
from insitu.syscalls.descriptor_text import DescriptorText
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.facts import facts_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SyscallsSource"]

_RECORDS: Final = 1000
_HELD_S: Final = 0.005
_TURN_S: Final = 0.02
"""For how long records are turned into events before the ring is drained again."""
_TS_NS: Final = operator.itemgetter(0)  # of an event
_SETTLED_NS: Final = 200_000
"""CPUs may be so much apart between taking the time of a record and its place in the ring."""
_AT_FDCWD: Final = -100
_ON_SOCKETS: Final = (
    *("connect", "bind", "listen", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt"),
    *("sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "read", "write", "readv", "writev"),
)
"""Calls after which their socket may have addresses that it had not before: its peer may have accepted meanwhile."""


class SyscallsSource(GeneratedSource):
    """Records calls of a command, of running processes with what they start, or of the whole machine."""

    id = "syscalls"

    def __init__(self, options: EngineOptions, deliver: Callable[[Sequence[Event]], None] | None = None) -> None:
        """``deliver`` gets batches of events, in order of time. Without it, a session is recorded."""
        super().__init__()
        self._asked = options
        self._deliver = deliver
        self._describes = options.descriptors if deliver is not None else 2
        self._memory = ProcessMemory().read
        self._collector = Collector(self._memory, string_limit=options.string_limit, verbose=options.verbose)
        self._spool = Spool()
        self._unread, self._unread_at = b"", 0
        self._joiner: Joiner | None = None
        self._held: list[Event] = []
        self._target = Target()
        self._kinds: dict[str, tuple[int, list[str]]] = {}

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        self._target, asked = target, self._asked
        written = script_text(
            # A recording is unwound afterwards; what is shown at once goes by frame pointers.
            stacks=("ustack(dwarf, 4096)" if self._deliver is None else "ustack") if asked.stacks else "",
            describes=self._describes,
            slower=asked.slower_ns > 0,
            recorded=self._deliver is None,
        )
        self._maps = TargetMaps(self.map)
        # What the calls' arguments point to is found out while the verifier is at work.
        choosing = threading.Thread(target=self._choose, args=(list(self._maps.calls()),))
        choosing.start()
        try:
            self.open_script(written, target, "cannot record system calls")
        finally:
            choosing.join()
        layout = super().layout()
        if self._deliver is not None:
            self._joiner = Joiner(layout, self._memory)
            self._joiner.describes = self._describes
        self._kinds = {
            kind["label"]: (int(number), [each["name"] for each in kind["fields"]])
            for number, kind in layout["kinds"].items()
        }

    def layout(self) -> Mapping[str, Any]:
        """A script's layout, with a converter of its own."""
        return {**super().layout(), "kind": "syscalls", "string_limit": self._asked.string_limit}

    @property
    def options(self) -> Mapping[str, Any]:
        """The engine, and what was asked for."""
        return {"engine": "bpf", "string_limit": self._asked.string_limit}

    @property
    def wait_s(self) -> float:
        """No time, while events wait."""
        if self._unread or self._spool:
            return 0.0
        return _HELD_S if self._held else super().wait_s

    @property
    def follows(self) -> bool:
        """Whether a task of the target is alive."""
        return not self._target.whole_system and TargetMaps(self.map).any_alive()

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach all probes, then let them know the target."""
        super().start(directory, start_ns)
        recorded = self.runtime.take_events
        if self._deliver is None:
            self._name_programs()
        else:
            self.runtime.take_events = self._both(recorded) if directory is not None else self._spool.append
        self._fill()

    def _both(self, record: Callable[[memoryview], object]) -> Callable[[memoryview], None]:
        def take(records: memoryview) -> None:
            record(records)
            self._spool.append(records)

        return take

    def drain(self) -> int:
        """Take the ring's records, then deliver events for a while; returns the number of bytes recorded."""
        taken = super().drain()
        if self._deliver is not None:
            self._deliver_some(time.monotonic() + _TURN_S)
        return taken

    def stop(self, end_ns: int) -> None:
        """Detach, and deliver everything that is left; some seconds of it where the run did not end by itself."""
        super().stop(end_ns)
        if self._deliver is not None:
            leaving = Leaving(self._target.interrupts)
            while self._unread or self._spool:
                if leaving:
                    leaving.say_bytes(len(self._unread) - self._unread_at + self._spool.size_bytes)
                    break
                self._deliver_some(time.monotonic() + _TURN_S)
            if self._joiner is not None:
                self._joiner.flush(end_ns)
                self._held += self._joiner.events
            self._send(self._held)
            self._held = []

    def _deliver_some(self, until_s: float) -> None:
        """Turn records into events up to a time, and deliver those that no later record can precede."""
        joiner = self._joiner
        assert joiner is not None
        now_ns = time.monotonic_ns()  # what is not in the spool by now is later
        while (self._unread or self._spool) and time.monotonic() < until_s:
            if not self._unread:
                self._unread, self._unread_at = self._spool.take(), 0
            self._unread_at = joiner.add(self._unread, self._unread_at, _RECORDS)
            if self._unread_at == len(self._unread):
                self._unread = b""
        if joiner.events or self._held:
            events = sorted(self._held + joiner.events, key=_TS_NS)
            joiner.events = []
            settled_ns = (events[-1][0] if self._unread or self._spool else now_ns) - _SETTLED_NS
            settled = len(events)
            while settled and events[settled - 1][0] > settled_ns:
                settled -= 1
            self._held = events[settled:]
            self._send(events[:settled])

    def stack_frames(self, stack: int) -> str:
        """Returns a stack of an entry as text, a line for each frame, innermost first."""
        if self._joiner is None or not 0 < stack <= len(self._joiner.stacks):
            return ""
        pid, addresses = self._joiner.stacks[stack - 1]
        words = struct.unpack(f"<{len(addresses) // 8}Q", addresses)
        return self.runtime.symbols.stack_text(list(words), pid, Stack(True), 0)

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        self._spool.close()
        super().close()

    def _send(self, events: Sequence[Event]) -> None:
        if events and self._deliver is not None:
            self._deliver(events)

    # What the programs read

    def _fill(self) -> None:
        """The calls that are recorded, then the target."""
        maps = self._maps
        maps.set("@limit", min(self._asked.string_limit, map_words.MOST_STRING - 1))
        maps.set("@slower", self._asked.slower_ns)
        if self._describes:
            launched = (self._target.launched.pid,) if self._target.launched else ()
            self._list_descriptors(*launched, *self._processes())
        maps.fill(
            self._target,
            held=call_word.FIRST | call_word.HELD,
            thread=self._attached,
            may_have_ended=self._deliver is None,  # a session has it as it was
        )

    def _choose(self, calls: Sequence[tuple[int, str, int]]) -> None:
        for key, abi, nr in calls:
            self._fill_call(key, abi, nr)
        for number, wide, value, word in chosen_words(verbose=self._asked.verbose):
            self._maps.put("@chosen", (number << 1 | wide) << 33 | value, word)

    def _fill_call(self, key: int, abi: str, nr: int) -> None:
        """What is done for a call: if it is to be recorded, and if it makes descriptors, recorded or not."""
        wanted = self._asked.calls is None or (abi, nr) in self._asked.calls
        facts = facts_of(abi)
        if not facts.is_known or nr not in facts.calls:
            if wanted:
                self._maps.put("@call", key, map_words.WANTED | map_words.FOUR_ARGUMENTS)
            return
        if not (wanted or self._describes):
            return
        plan = call_words(abi, nr, verbose=self._asked.verbose)
        if self._describes and (word := _descriptor_word(call_name(abi, nr), plan)):
            self._maps.put("@opens", key, word)
        if wanted:
            self._record_call(key, plan)

    def _record_call(self, key: int, plan: CallWords) -> None:
        first_in, more_in = _split(plan.enter)
        first_out, more_out = _split(plan.exit)
        value = map_words.WANTED | first_in << map_words.WORDS | first_out << map_words.WORDS + WORD_BITS
        for bit, has in (
            (map_words.READS_MORE, more_in),
            (map_words.FOUR_ARGUMENTS, plan.arguments > 3),
            (map_words.WRITES, plan.exit),
            (map_words.WRITES_MORE, more_out),
            (map_words.ON_FAILURE, plan.on_failure),
        ):
            value |= bit if has else 0
        self._maps.put("@call", key, value)
        for at_exit, more in enumerate((more_in, more_out)):
            for at in range(0, len(more), 2):
                pair = more[at] | (more[at + 1] << 32 if at + 1 < len(more) else 0)
                self._maps.put("@more", key << 3 | at_exit << 2 | at >> 1, pair)

    def _processes(self) -> Iterable[int]:
        """Those of the target that run already."""
        return procfs.pids() if self._target.whole_system else self._target.pids

    def _name_programs(self) -> None:
        """What runs already."""
        for pid in self._processes():
            known = with_program(Executed(0, pid, pid, pid))
            if known.exe:  # not of kernel threads
                self._craft("executable", pid, pid, data=known.exe)
                self._craft("executed", pid, pid, 0, pid, data=known.arguments)

    def _list_descriptors(self, *pids: int) -> None:
        """What is open already; of a command that waits for its execve(), what that leaves open."""
        texts = DescriptorText(self._describes)
        launched = self._target.launched.pid if self._target.launched else 0
        for pid in pids:
            for fd in _descriptors_of(pid):
                if pid == launched and _is_closed_by_exec(pid, fd):
                    continue
                place = f"/proc/{pid}/fd/{fd}" if fd >= 0 else f"/proc/{pid}/cwd"
                with contextlib.suppress(OSError):
                    path, about = os.readlink(place), os.stat(place)  # noqa: PTH115, PTH116  # names of open files
                    if stat.S_ISSOCK(about.st_mode):
                        path = texts.describe(pid, fd)
                    device = os.major(about.st_rdev) << 20 | os.minor(about.st_rdev)
                    fields = (0, fd & 0xFFFFFFFF, about.st_mode, device, about.st_ino, 0xFFFFFFFF, 0)
                    self._craft("descriptor", pid, pid, *fields, data=os.fsencode(path))

    def _attached(self, pid: int, tid: int) -> int:
        """The word of a thread that runs already, whose call is recorded as if it began now."""
        running = _running_call(pid, tid)
        if running is None:
            return call_word.FIRST
        nr, args = running
        word = call_word.FIRST + call_word.FIRST | call_word.OPEN | call_word.ATTACHED | min(nr, call_word.UNKNOWN)
        abi = abis_of(os.uname().machine)[0]
        for address, data in self._collector.at_enter(Enter(0, pid, tid, abi, nr, args)).pieces:
            self._craft("memory", pid, tid, word, address, len(data), data=data)
        self._craft("enter", pid, tid, nr, word, *args)
        return word

    def _craft(self, label: str, pid: int, tid: int, *fields: int, data: bytes | None = None) -> None:
        """A record as the programs send them."""
        number, names = self._kinds[label]
        padded = b""
        if data is not None:
            fields = (*fields, len(data))
            padded = data.ljust(-(-len(data) // 8) * 8, b"\0")
        assert len(names) == len(fields)
        size = 24 + 8 * len(fields) + len(padded)
        record = struct.pack(f"<I4xIIQII{len(fields)}Q", size, number, 0, time.monotonic_ns(), tid, pid, *fields)
        self.runtime.take_events(memoryview(record + padded))


def _descriptors_of(pid: int) -> list[int]:
    """Of a process, and AT_FDCWD."""
    try:
        return [_AT_FDCWD, *map(int, os.listdir(f"/proc/{pid}/fd"))]  # noqa: PTH208  # numbers, not paths
    except OSError:  # it has ended
        return []


def _is_closed_by_exec(pid: int, fd: int) -> bool:
    """Whether FD_CLOEXEC is set, by proc_pid_fdinfo(5)."""
    words = (procfs.text(f"/proc/{pid}/fdinfo/{fd}") or "").split() if fd >= 0 else []
    return "flags:" in words and bool(int(words[words.index("flags:") + 1], 8) & os.O_CLOEXEC)


def _descriptor_word(name: str, plan: CallWords) -> int:
    """The word of a call in @opens."""
    if name in ("chdir", "fchdir"):
        return map_words.MOVES
    if name in _ON_SOCKETS:
        return map_words.ON_SOCKET
    if plan.pair_at is not None:
        return map_words.OPENS | map_words.OPENS_PAIR | (map_words.OPENS_PAIR_AT_3 if plan.pair_at else 0)
    if name in ("fcntl", "fcntl64"):
        return map_words.OPENS | map_words.OPENS_BY_FCNTL
    return map_words.OPENS if plan.opens else 0


def _split(words: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """The word that goes with the record of the half itself, and those that do not."""
    if words and how(words[0]) in (BYTES, STRING):
        return words[0], tuple(words[1:MOST_WORDS])
    return 0, tuple(words[: MOST_WORDS - 1])


def _running_call(pid: int, tid: int) -> tuple[int, tuple[int, ...]] | None:
    """The call that a thread is in (proc(5): /proc/PID/task/TID/syscall), None if it is in none."""
    try:
        words = (procfs.text(f"/proc/{pid}/task/{tid}/syscall") or "").split()
        nr = int(words[0])
        return (nr, tuple(int(each, 16) for each in words[1:7])) if nr >= 0 else None
    except (ValueError, IndexError):
        return None
