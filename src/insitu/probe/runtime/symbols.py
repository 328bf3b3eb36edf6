"""Names for addresses while a script runs: kernel symbols, functions of processes, stacks."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from insitu.kernel.bpf_map import Map
from insitu.probe.layout import IN_SECOND, SECOND
from insitu.probe.types import Stack

if TYPE_CHECKING:
    from insitu.symbols.elf import Elf
    from insitu.symbols.frame import Frame
    from insitu.symbols.process_listener import ProcessListener
    from insitu.symbols.process_map import Module
    from insitu.symbols.symbolizer import Symbolizer

__all__ = ["Symbols"]

_MOST_SOURCES = 100_000
_BUILD_ID_FRAME = struct.Struct("<i20sQ")  # struct bpf_stack_build_id: status, build_id, offset or ip
_IN_FILE, _ADDRESS = 1, 2  # BPF_STACK_BUILD_ID_VALID, BPF_STACK_BUILD_ID_IP


class Symbols:
    """Looks up and remembers. ``stack_maps`` are the maps that hold stacks, by our name for them."""

    def __init__(self, stack_maps: dict[str, Map], *, demangles: bool = True, lines: bool = False) -> None:
        """``lines``: stacks show source lines and inlined functions, where there is debug information."""
        self._stack_maps = stack_maps
        self._demangles = demangles
        self._shows_lines = lines
        self._to_open: list[Module] = []
        self._sources: dict[tuple[str, str, int], tuple[Frame, ...]] = {}

    @cached_property
    def processes(self) -> ProcessListener:
        """What is mapped where in processes. Most scripts never ask."""
        from insitu.symbols.process_listener import ProcessListener

        return ProcessListener(self._open)

    @cached_property
    def _symbolizer(self) -> Symbolizer:
        from insitu.symbols.symbolizer import Symbolizer

        return Symbolizer(inlines=self._shows_lines, demangles=self._demangles)

    def _open(self, pid: int, module: Module) -> None:
        self._to_open.append(module)

    def open_files(self) -> None:
        """Open the files that processes have newly mapped, which may be gone when the processes are.

        Apart from hearing of them, so that what there is to print need not wait for it.
        """
        while self._to_open:
            self._symbolizer.open_module(self._to_open.pop())

    def kernel(self, address: int) -> tuple[str, int] | None:
        """Symbol and offset of a kernel address."""
        return self._symbolizer.kernel_symbol(address)

    def user(self, address: int, pid: int) -> tuple[str, int, str] | None:
        """Symbol, offset in it and file of an address in a process."""
        place = self.processes.find(pid, address)
        return self._symbolizer.function(place.module, place.offset, address) if place is not None else None

    def source(self, address: int, pid: int) -> tuple[Frame, ...]:
        """The frames that debug information has for an address in a process, innermost first; perhaps none."""
        place = self.processes.find(pid, address) if self._shows_lines else None
        if place is None:
            return ()
        key = (place.module.path, place.module.build_id, place.offset)
        return self._kept(key, lambda: self._symbolizer.source(place.module, place.offset))

    def kernel_source(self, address: int) -> tuple[Frame, ...]:
        """As source(), for an address of the kernel."""
        if not self._shows_lines:
            return ()
        return self._kept(("", "", address), lambda: self._symbolizer.kernel_source(address))

    def _kept(self, key: tuple[str, str, int], find: Callable[[], tuple[Frame, ...]]) -> tuple[Frame, ...]:
        if key not in self._sources:
            if len(self._sources) >= _MOST_SOURCES:
                self._sources.clear()
            self._sources[key] = find()
        return self._sources[key]

    def open_elf(self, module: Module) -> Elf | None:
        """The file of a module, as an unwinder needs it; None if it cannot be had."""
        return self._symbolizer.open_module(module)

    def user_text(self, address: int, pid: int) -> str:
        """The function's name alone, or the address."""
        found = self.user(address, pid)
        return found[0] if found else f"{address:#x}"

    def stack(self, number: int, pid: int, kind: Stack, indent: int, shown: Callable[[str], str] = str) -> str:
        """The frames of a stack that a stack map has; ``shown`` is applied to names."""
        stacks = self._stack_maps.get(kind.map + SECOND * bool(number & IN_SECOND))
        content = (
            stacks.lookup(struct.pack("<I", number & ~IN_SECOND)) if stacks is not None and number >= 0 else None
        )
        if kind.mode == "build_id":
            return "\n" + "".join(f"{' ' * indent}{line}\n" for line in _frames_in_files(content or b""))
        addresses = [address for (address,) in struct.iter_unpack("<Q", content or b"")]
        return self.stack_text(addresses, pid, kind, indent, shown)

    def stack_text(
        self, addresses: Sequence[int], pid: int, kind: Stack, indent: int, shown: Callable[[str], str] = str
    ) -> str:
        """A stack's frames, each on a line of its own, as the stack's mode wants them."""
        lines = []
        margin = "" if kind.mode in ("perf", "raw") else " " * indent
        for number, address in enumerate(addresses):
            if not address:
                break
            # A return address may be in the line after the call.
            source = self._source(address - (number > 0), pid, kind)
            lines += [f"{margin}{line}\n" for line in self._inlined(address, source, kind, shown)]
            lines.append(f"{margin}{self._frame(address, pid, kind, source, shown)}\n")
        return "\n" + "".join(lines)

    def _source(self, address: int, pid: int, kind: Stack) -> tuple[Frame, ...]:
        if kind.mode == "raw":
            return ()
        return self.source(address, pid) if kind.user else self.kernel_source(address)

    @staticmethod
    def _inlined(address: int, source: Sequence[Frame], kind: Stack, shown: Callable[[str], str]) -> list[str]:
        if kind.mode == "perf":
            return [f"\t{address:x} {shown(each.function)} (inlined)" for each in source[:-1]]
        return [f"[inlined] {shown(each.function + _line(each))}" for each in source[:-1]]

    def _frame(
        self, address: int, pid: int, kind: Stack, source: Sequence[Frame], shown: Callable[[str], str]
    ) -> str:
        if kind.mode == "raw":
            return f"{address:x}"
        if kind.user:
            found = self.user(address, pid)
            text = f"{found[0]}+{found[1]}" if found else f"{address:#x}"
            module = f" ({found[2] if found else '[unknown]'})"
        else:
            known = self.kernel(address)
            text = f"{known[0]}+{known[1]}" if known else f"{address:#x}"
            module = ""
        if kind.mode == "perf":
            return f"\t{address:x} {shown(text + module)}"
        return shown(text + (_line(source[-1]) if source else ""))


def _frames_in_files(content: bytes) -> Iterator[str]:
    """The frames of a map of build ids: the file's build id and the offset in it; where it has none, the address."""
    for status, build_id, place in _BUILD_ID_FRAME.iter_unpack(content):
        if status == _IN_FILE:
            yield f"{build_id.hex()} + {place:#x}"
        elif status == _ADDRESS:
            yield f"{place:#x}"
        else:
            return


def _line(frame: Frame) -> str:
    return f"@{frame.file}:{frame.line}" if frame.file else ""
