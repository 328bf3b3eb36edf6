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
from insitu.record.delivery import Delivery, Leaving
from insitu.record.sources.generated import GeneratedSource
from insitu.symbols.argument_places import REGISTERS
from insitu.symbols.prototypes import BLOCKS, CAPTURE_BITS, PUT_SHIFT, STACK, TEXTS, captures
from insitu.symbols.shape_text import BLOCK_BYTES, TEXT_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.source import Target
    from insitu.record.user_functions import Traced

__all__ = ["UserCallsSource"]

_TURN_S: Final = 0.05
"""For how long records are delivered before the ring is drained again."""

# Where the kernel's page is that functions with return probes return to: as high as there is room
# (xol_add_vma(), kernel/events/uprobes.c). A function that finds its return address there was called by a tail call.
_TRAMPOLINE: Final = 0x7FFF_FFFE_0000 if MACHINE.stack_offset else (1 << 48) - 0x20000

_AT_CALL: Final = 1 << 32
"""Of the cookies of entries, whose numbers are those of functions: the program is about to call it."""

# What is at places of the third program: the low bits of their cookies, above which are the numbers of functions.
_RETURN, _JUMP, _SITE = 0, 1, 2
_PLACE_BITS: Final = 2

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
    if ($what != 0) {
        %(texts)s
        // A page that is not in memory yet cannot be read here; at the return the function has read it.
        if ($t0 != 0 && !user_readable($t0)) { @late[tid, $sp] = $t0; }
        $n = $what >> %(put_shift)d;
        if ($n != 0) { @put[tid, $sp] = %(base)s; }
        if (($what >> %(block_bits)d & %(block_mask)d) != 0) {
            %(blocks)s
            emit("enter_deep", (f = $f, sp = $sp, tail = $tail, %(arguments)s, %(strings)s, %(read)s));
        } else {
            emit("enter_text", (f = $f, sp = $sp, tail = $tail, %(arguments)s, %(strings)s));
        }
    } else {
        emit("enter", (f = $f, sp = $sp, tail = $tail, %(arguments)s));
    }
}
uretprobe:libc:malloc, uretprobe:libc:free /@target[pid]/ {
    $sp = reg("sp") - %(pushed)d;
    $what = @result[(uint64)probe];
    $seen = (uint64)1;
    %(returned)s
}
uprobe:libc:malloc, uprobe:libc:free /@target[pid]/ {
    $at = (uint64)probe & %(place)d;
    $sp = reg("sp");
    if ($at == %(site)d) { $sp = $sp - %(pushed)d; }
    $what = $at == %(jump)d ? (uint64)0 : @result[(uint64)probe >> %(place_bits)d];
    $seen = (uint64)($at != %(jump)d);
    %(returned)s
}
tracepoint:sched:sched_process_fork /@target[pid]/ { @target[args.child_pid] = (uint64)1; }
tracepoint:sched:sched_process_exec /@target[pid]/ { emit("ended", (exec = 1)); }
tracepoint:sched:sched_process_exit /@target[pid]/ { emit("ended", (exec = 0)); }
// So that the script has the types of what is written from outside only.
BEGIN {
    @late[(uint32)0, (uint64)0] = (uint64)0; @put[(uint32)0, (uint64)0] = (uint64)0;
    @target[(uint64)0] = (uint64)0; @what[(uint64)0xffffffff] = (uint64)0;
    @result[(uint64)0xffffffff] = (uint64)0;
}
"""
_RETURNED: Final = """$value = reg("%(result)s");
    $more = reg("%(second)s");
    $late = @late[tid, $sp];
    $put = @put[tid, $sp];
    if ($what != 0 || $late != 0 || $put != 0) {
        if ($late != 0) { delete(@late[tid, $sp]); }
        if ($put != 0) { delete(@put[tid, $sp]); }
        %(texts)s
        if ($what >> %(block_bits)d != 0) {
            %(blocks)s
            emit("exit_deep", (sp = $sp, seen = $seen, value = $value, more = $more, text = %(text)s,
                %(after)s, %(read)s));
        } else {
            emit("exit_text", (sp = $sp, seen = $seen, value = $value, more = $more, text = %(text)s,
                %(after)s));
        }
    } else {
        emit("exit", (sp = $sp, seen = $seen, value = $value, more = $more));
    }"""
# What prototypes.captures() says: the address of one of its texts or blocks.
_ADDRESS: Final = """$c = $what >> %(shift)d & %(mask)d;
        $n = $c & 7;
        $%(name)s = %(base)s;
        if ($n != 0) {
            $%(name)s = $%(name)s + (($c >> 4) << 3);
            if (($c & 8) != 0) { $%(name)s = *(uint64 *)uptr($%(name)s); }
        }
        """


def _texts(count: int, base: str) -> str:
    """Finds the addresses $t0 and so on of texts."""
    return "".join(
        _ADDRESS % {"shift": CAPTURE_BITS * at, "mask": (1 << CAPTURE_BITS) - 1, "name": f"t{at}", "base": base}
        for at in range(count)
    )


def _string(address: str) -> str:
    """The text at an address with its zero; nothing where it cannot be read."""
    return f"user_string({address}, {address} == 0 ? 0 : {TEXT_BYTES})"


def _blocks(count: int, base: str) -> str:
    """Finds the addresses $b0 and so on of blocks."""
    return "".join(
        _ADDRESS
        % {"shift": CAPTURE_BITS * (TEXTS + at), "mask": (1 << CAPTURE_BITS) - 1, "name": f"b{at}", "base": base}
        for at in range(count)
    )


def _read(count: int) -> str:
    """The fields of what is in blocks."""
    return ", ".join(f"b{at} = user_bytes($b{at}, $b{at} == 0 ? 0 : {BLOCK_BYTES})" for at in range(count))


class UserCallsSource(GeneratedSource):
    """Calls of one program's functions, in a command, its children and threads, or in running processes."""

    id = "calls"

    def __init__(
        self,
        path: str,
        traced: Traced,
        *,
        deliver: Callable[[bytes], object] | None = None,
    ) -> None:
        """``path`` leads to the program. ``deliver`` gets the bytes of records, whole ones at a time; without it, a
        session is recorded."""
        super().__init__()
        self._path, self._traced = path, traced
        self._delivery = Delivery(deliver) if deliver is not None else None
        self._target: Target | None = None

    @property
    def notes(self) -> Sequence[str]:
        """What is not traced as asked."""
        return self._traced.notes

    @property
    def options(self) -> Mapping[str, Any]:
        """The program, and how much of it."""
        return {"program": self._path, "functions": len(self._traced.functions)}

    def open(self, target: Target) -> None:
        """Compile and load the script. Raises InsituError if BPF is not available."""
        self._target = target
        arguments = [f"arg{n}" for n in range(len(MACHINE.arguments[:REGISTERS]))]
        base = " : ".join(f"$n == {n + 1} ? {each}" for n, each in enumerate(arguments))
        base += f" : $n == {STACK} ? $sp : (uint64)0"
        result = "$n != 0 ? $value : (uint64)0"
        shared = {"block_bits": CAPTURE_BITS * TEXTS}
        returned = _RETURNED % {
            **shared,
            "result": MACHINE.result,
            "second": MACHINE.second_result,
            "texts": _texts(1, result),
            "blocks": _blocks(BLOCKS - 1, result),
            "read": _read(BLOCKS - 1),
            "after": f"s0 = {_string('$late')}, put = {_string('$put')}",
            "text": _string("$t0"),
        }
        text = _SCRIPT % {
            **shared,
            "texts": _texts(TEXTS, base),
            "blocks": _blocks(BLOCKS, base),
            "read": _read(BLOCKS),
            "strings": ", ".join(f"s{at} = {_string(f'$t{at}')}" for at in range(TEXTS)),
            "put_shift": PUT_SHIFT,
            "block_mask": (1 << PUT_SHIFT - CAPTURE_BITS * TEXTS) - 1,
            "base": base,
            "arguments": ", ".join(f"a{n} = {each}" for n, each in enumerate(arguments)),
            "back": '*(uint64 *)uptr(reg("sp"))' if MACHINE.stack_offset else 'reg("lr")',
            "trampoline": _TRAMPOLINE,
            "returned": returned,
            "pushed": MACHINE.stack_offset,
            "site": _SITE,
            "jump": _JUMP,
            "place": (1 << _PLACE_BITS) - 1,
            "place_bits": _PLACE_BITS,
        }
        self.open_script(text, target, "cannot trace user functions")

    def place(self, compiled: Compiled) -> None:
        """Attach to the target's functions. Programs without any place go."""
        functions = self._traced.functions
        ends = {at: number << _PLACE_BITS | _RETURN for number, each in enumerate(functions) for at in each.exits}
        ends |= {at: number << _PLACE_BITS | _JUMP for number, each in enumerate(functions) for at in each.jumps}
        ends |= {at: number << _PLACE_BITS | _SITE for at, number in self._traced.sites}
        places = iter(
            (
                [(each.entry, number) for number, each in enumerate(functions) if not each.calls]
                + [(at, number | _AT_CALL) for number, each in enumerate(functions) for at in each.calls],
                [(each.entry, number) for number, each in enumerate(functions) if each.returns],
                list(ends.items()),
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
            (each.name, each.prototype.as_json() if each.prototype else None) for each in self._traced.functions
        ]
        return {
            **super().layout(),
            "kind": "user_calls",
            "points": {},
            "functions": functions,
            "module": self._path,
            "libraries": [number for number, each in enumerate(self._traced.functions) if each.library],
        }

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach, then let the programs know the target."""
        for number, function in enumerate(self._traced.functions):
            if function.prototype is not None:
                for name, word in zip(("@what", "@result"), captures(function.prototype), strict=True):
                    if word:
                        self.map(name).update(struct.pack("<Q", number), struct.pack("<Q", word))
        super().start(directory, start_ns)
        if self._delivery is not None:
            self.runtime.take_events = self._delivery.take
        target = self._target
        assert target is not None
        self.follow_threads(target.roots)

    @property
    def wait_s(self) -> float:
        """No time, while records wait."""
        return 0.0 if self._delivery else super().wait_s

    def drain(self) -> int:
        """Take the ring's records, then deliver some; returns the number of bytes recorded."""
        taken = super().drain()
        if self._delivery is not None:
            self._delivery.some(time.monotonic() + _TURN_S)
        return taken

    def stop(self, end_ns: int) -> None:
        """Detach, and deliver everything that is left; some seconds of it where the run did not end by itself."""
        super().stop(end_ns)
        if self._delivery is not None:
            self._delivery.rest(Leaving(self._target.interrupts if self._target else None))

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        if self._delivery is not None:
            self._delivery.close()
        super().close()
