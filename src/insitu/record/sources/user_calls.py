"""Calls of user functions: probes at entries and returns, one program for all of them (uprobe_multi where it exists).

An entry and its return belong together by the stack pointer, so that exceptions, longjmp() and tail calls leave no
wrong nesting (convert/user_frames.py).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.capabilities import links
from insitu.kernel.calling_convention import MACHINE
from insitu.probe.compile import Compiled
from insitu.probe.providers.base import AttachPoint
from insitu.probe.providers.support.binary import Place
from insitu.record.sources.generated import GeneratedSource
from insitu.record.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.source import Target
    from insitu.record.user_functions import Traced

__all__ = ["UserCallsSource"]

_TURN_S: Final = 0.05
"""For how long records are delivered before the ring is drained again."""
_STRING_BYTES: Final = 64
_RESULT: Final = 1 << 16  # of @what: the result is a string. Below, the numbers of two strings among the arguments

# Where the kernel's page is that functions with return probes return to: as high as there is room
# (xol_add_vma(), kernel/events/uprobes.c). A function that finds its return address there was called by a tail call.
_TRAMPOLINE: Final = 0x7FFF_FFFE_0000 if MACHINE.stack_offset else (1 << 48) - 0x20000

_AT_CALL: Final = 1 << 32
"""Of the cookies of entries, whose numbers are those of functions: the program is about to call it."""

# Places of the third program, by their cookies.
_RETURN, _JUMP, _SITE = 0, 1, 2

# In place of the functions that are named here (any two would do), those of the target are attached to, by cookies.
_SCRIPT: Final = """
config = { print_maps_on_exit = false; max_map_keys = 65536; }
uprobe:libc:malloc, uprobe:libc:free /@target[pid]/ {
    $at = (uint64)probe;
    $f = $at & 0xffffffff;
    $sp = reg("sp");
    $tail = (uint64)0;
    if ($at >> 32 != 0) {
        $sp = $sp - %(pushed)d;
    } else if (%(back)s >= %(trampoline)d) {
        $tail = (uint64)1;
    }
    $what = @what[$f];
    if (($what & 0xffff) != 0) {
        $n = $what & 0xff;
        $one = %(chosen)s;
        $n = ($what >> 8) & 0xff;
        $two = $n == 0 ? (uint64)0 : %(chosen)s;
        $s0 = str($one, %(bytes)d);
        // A page that is not in memory yet cannot be read here; at the return the function has read it.
        if ($s0 == "") { @late[tid, $sp] = $one; }
        emit("enter_text", (f = $f, sp = $sp, tail = $tail, %(arguments)s, s0 = $s0, s1 = str($two, %(bytes)d)));
    } else {
        emit("enter", (f = $f, sp = $sp, tail = $tail, %(arguments)s));
    }
}
uretprobe:libc:malloc, uretprobe:libc:free /@target[pid]/ {
    $value = (uint64)retval;
    $sp = reg("sp") - %(pushed)d;
    $late = @late[tid, $sp];
    $text = (@what[(uint64)probe] & %(result)d) != 0 ? $value : (uint64)0;
    %(by_probe)s
}
uprobe:libc:malloc, uprobe:libc:free /@target[pid]/ {
    $at = (uint64)probe;
    $value = reg("%(register)s");
    $sp = reg("sp");
    if ($at == %(site)d) { $sp = $sp - %(pushed)d; }
    $late = @late[tid, $sp];
    $text = (uint64)0;
    %(by_place)s
}
tracepoint:sched:sched_process_fork /@target[pid]/ { @target[args.child_pid] = (uint64)1; }
tracepoint:sched:sched_process_exec /@target[pid]/ { emit("ended", (exec = 1)); }
tracepoint:sched:sched_process_exit /@target[pid]/ { emit("ended", (exec = 0)); }
// So that the script has the types of what is written from outside only.
BEGIN {
    @late[(uint32)0, (uint64)0] = (uint64)0; @target[(uint64)0] = (uint64)0; @what[(uint64)0xffffffff] = (uint64)0;
}
"""
_RETURNED: Final = """if ($text != 0 || $late != 0) {
        if ($late != 0) { delete(@late[tid, $sp]); }
        emit("exit_text", (sp = $sp, seen = %(seen)s, value = $value, text = str($text, %(bytes)d),
            s0 = str($late, %(bytes)d)));
    } else {
        emit("exit", (sp = $sp, seen = %(seen)s, value = $value));
    }"""


class UserCallsSource(GeneratedSource):
    """Calls of one program's functions, in a command, its children and threads, or in running processes."""

    id = "calls"

    def __init__(
        self,
        path: str,
        traced: Traced,
        *,
        library: bool = False,
        deliver: Callable[[bytes], object] | None = None,
    ) -> None:
        """``path`` leads to the program. ``deliver`` gets the bytes of records, whole ones at a time; without it, a
        session is recorded."""
        super().__init__()
        self._path, self._traced = path, traced
        self._library = library
        self._deliver = deliver
        self._spool = Spool()
        self._target: Target | None = None

    @property
    def notes(self) -> Sequence[str]:
        """What is not traced as asked."""
        return self._traced.notes

    @property
    def options(self) -> Mapping[str, Any]:
        """The program, and how much of it."""
        return {"program": self._path, "functions": len(self._traced.functions), "library": self._library}

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        self._target = target
        arguments = [f"arg{n}" for n in range(len(MACHINE.arguments[:6]))]
        *others, last = arguments
        text = _SCRIPT % {
            "chosen": " : ".join(f"$n == {n + 1} ? {each}" for n, each in enumerate(others)) + f" : {last}",
            "arguments": ", ".join(f"a{n} = {each}" for n, each in enumerate(arguments)),
            "bytes": _STRING_BYTES,
            "result": _RESULT,
            "back": '*(uint64 *)uptr(reg("sp"))' if MACHINE.stack_offset else 'reg("lr")',
            "trampoline": _TRAMPOLINE,
            "by_probe": _RETURNED % {"bytes": _STRING_BYTES, "seen": "(uint64)1"},
            "by_place": _RETURNED % {"bytes": _STRING_BYTES, "seen": f"(uint64)($at != {_JUMP})"},
            "pushed": MACHINE.stack_offset,
            "site": _SITE,
            "register": MACHINE.result,
        }
        self.open_script(text, target, "cannot trace user functions")

    def place(self, compiled: Compiled) -> None:
        """Attach to the target's functions. Programs without any place go."""
        functions = self._traced.functions
        ends = [(at, _RETURN) for each in functions for at in each.exits]
        ends += [(at, _JUMP) for each in functions for at in each.jumps]
        ends += [(at, _SITE) for at in self._traced.sites]
        places = iter(
            (
                [(each.entry, number) for number, each in enumerate(functions) if not each.calls]
                + [(at, number | _AT_CALL) for number, each in enumerate(functions) for at in each.calls],
                [(each.entry, number) for number, each in enumerate(functions) if each.returns],
                ends,
            )
        )
        shared = links.uprobe_multi().available
        kept = []
        for program in compiled.programs:
            kind = program.points[0].kind
            if kind in ("uprobe", "uretprobe"):
                program.points = [
                    AttachPoint(kind, kind, self._path, cookie=cookie, detail=Place(self._path, at, shared=shared))
                    for at, cookie in next(places)
                ]
            if program.points:
                kept.append(program)
        compiled.programs = kept

    def layout(self) -> Mapping[str, Any]:
        """A script's layout, with a converter of its own, and the functions with their prototypes."""
        functions = [
            (each.name, each.prototype and [list(each.prototype.parameters), each.prototype.result])
            for each in self._traced.functions
        ]
        return {
            **super().layout(),
            "kind": "user_calls",
            "points": {},
            "functions": functions,
            "module": self._path,
            "library": self._library,
        }

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach, then let the programs know the target."""
        for number, function in enumerate(self._traced.functions):
            if prototype := function.prototype:
                word = sum(at + 1 << 8 * place for place, at in enumerate(prototype.strings()[:2]))
                word |= _RESULT if prototype.result == "s" else 0
                if word:
                    self.map("@what").update(struct.pack("<Q", number), struct.pack("<Q", word))
        super().start(directory, start_ns)
        if self._deliver is not None:
            self.runtime.take_events = self._spool.append
        target = self._target
        assert target is not None
        self.follow_threads(target.roots)

    @property
    def wait_s(self) -> float:
        """No time, while records wait."""
        return 0.0 if self._spool else super().wait_s

    def drain(self) -> int:
        """Take the ring's records, then deliver some; returns the number of bytes recorded."""
        taken = super().drain()
        self._deliver_until(time.monotonic() + _TURN_S)
        return taken

    def stop(self, end_ns: int) -> None:
        """Detach, and deliver everything that is left."""
        super().stop(end_ns)
        self._deliver_until(float("inf"))

    def _deliver_until(self, until_s: float) -> None:
        while self._deliver is not None and self._spool and time.monotonic() < until_s:
            self._deliver(self._spool.take())

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        self._spool.close()
        super().close()
