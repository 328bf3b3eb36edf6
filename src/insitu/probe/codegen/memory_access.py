"""Memory of a program: its stack and scratch memory, copies between places, and reads by BPF's probe_read helpers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from insitu.probe.codegen.callback_frame import Link
from insitu.probe.codegen.emitter import Function
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.places import Local, Place, Remote
from insitu.probe.codegen.stack_slots import StackSlots
from insitu.probe.layout import Layout
from insitu.probe.options import Options
from insitu.probe.types import INT64, NamedNumber, Space, Type

__all__ = ["UNROLLED_BYTES", "MemoryAccess"]

# Larger values are copied and cleared by the kernel's helper rather than word by word.
UNROLLED_BYTES = 512


class MemoryAccess(ABC):
    """What lowering.Lowering has for memory. ``outer``: of a callback, the function around it."""

    link: Link

    def __init__(self, emitter: Function, layout: Layout, options: Options, outer: MemoryAccess | None) -> None:
        self.emit, self.layout, self.options, self.outer = emitter, layout, options, outer
        self.scratch_base = ""
        self._slots = StackSlots(emitter.allocate, self.scratch)
        self._scratch_bytes = 0

    @property
    def scratch_bytes(self) -> int:
        """How much scratch memory this program uses."""
        return self._scratch_bytes if self.outer is None else self.outer.scratch_bytes

    @abstractmethod
    def send_warning(self, text: str, values: Sequence[tuple[Type, str]]) -> None:
        """Send a warning that belongs to what is lowered now: a format and its values."""

    # Memory for intermediate values

    def temporary(self, size: int) -> str:
        """``size`` bytes, undefined, until the enclosing ``temporaries()`` block ends: a pointer."""
        return self._slots.temporary(size)

    def temporaries(self) -> AbstractContextManager[None]:
        """Free at the end what temporary() allocated inside."""
        return self._slots.temporaries()

    def permanent(self, size: int) -> str:
        """``size`` bytes for the whole program (a variable): a pointer."""
        return self._slots.permanent(size)

    def scratch(self, size: int) -> str:
        """As permanent(), off the stack: a pointer."""
        return self.scratch_at(size)[1]

    def scratch_at(self, size: int) -> tuple[int, str]:
        """``size`` bytes of this program's scratch memory: where they begin in it, and a pointer."""
        root = self
        while root.outer is not None:
            root = root.outer
        at = root._scratch_bytes
        root._scratch_bytes += size
        return at, self.scratch_pointer(at)

    def scratch_pointer(self, at: int) -> str:
        """A pointer into this program's scratch memory."""
        return self.emit.setup_value(f"getelementptr i8, ptr {self.use_scratch()}, i64 {at}")

    def use_scratch(self) -> str:
        """This program's scratch memory on this CPU, looked up once before the body: a pointer."""
        if self.scratch_base:
            return self.scratch_base
        if self.outer is not None:
            self.scratch_base = self.link.scratch()
            return self.scratch_base
        number = self.layout.scratch_map()
        emit = self.emit
        emit.setup("  %scratch_key = alloca i64, align 8\n")
        emit.setup(f"  %scratch_cpu = call i64 inttoptr (i64 {int(Helper.GET_SMP_PROCESSOR_ID)} to ptr)()\n")
        emit.setup("  store i64 %scratch_cpu, ptr %scratch_key, align 8\n")
        emit.setup(f"  %scratch_map = call i64 @llvm.bpf.pseudo(i64 1, i64 {number})\n")
        emit.setup("  %scratch_all = call ptr inttoptr (i64 1 to ptr)(i64 %scratch_map, ptr %scratch_key)\n")
        emit.setup("  %scratch_null = icmp eq ptr %scratch_all, null\n")
        emit.setup("  br i1 %scratch_null, label %scratch_missing, label %scratch_found\n")
        emit.setup(f"scratch_missing:\n  ret i64 {emit.result}\nscratch_found:\n")
        emit.setup(f"  %scratch = getelementptr i8, ptr %scratch_all, i64 {self.layout.scratch_bytes()}\n")
        self.scratch_base = "%scratch"
        self.link.scratch_found(self.scratch_base)
        return self.scratch_base

    def copy(self, destination: str, source: str, size: int) -> None:
        """Copy ``size`` bytes (a multiple of 8) between pointers that the program may dereference."""
        if size <= UNROLLED_BYTES:
            self.emit.copy(destination, source, size)
        else:
            self.read(destination, size, Remote(self.emit.address(source), Space.KERNEL))

    def zero(self, pointer: str, size: int) -> None:
        """Clear ``size`` bytes (a multiple of 8)."""
        if size <= UNROLLED_BYTES:
            self.emit.zero(pointer, size)
        else:
            # A read that fails clears what it was to fill.
            self.read(pointer, size, Remote("0", Space.KERNEL), may_fail=True)

    # The probe_read helpers

    def read(self, pointer: str, size: int | str, place: Remote, *, may_fail: bool = False) -> str:
        """Copy ``size`` bytes from elsewhere; zeros when that fails: the helper's result.

        ``may_fail``: errors are not warned of.
        """
        helper = {
            Space.KERNEL: Helper.PROBE_READ_KERNEL,
            Space.USER: Helper.PROBE_READ_USER,
            Space.ANY: Helper.PROBE_READ,
        }[place.space]
        result = self.emit.call(helper, f"ptr {pointer}", f"i64 {size}", f"i64 {place.address}")
        return result if may_fail else self.checked(helper, result)

    def read_string(self, pointer: str, capacity: int, place: Remote, limit: int | str) -> None:
        """Copy a string from elsewhere, at most ``limit`` bytes with its zero; the rest of ``capacity`` is zeroed."""
        self.zero(pointer, -(-capacity // 8) * 8)
        self.read_text(pointer, limit, place)

    def read_text(self, pointer: str, limit: int | str, place: Remote) -> str:
        """Copy a string from elsewhere, at most ``limit`` bytes with its zero: how many, or a negative error."""
        helper = {
            Space.KERNEL: Helper.PROBE_READ_KERNEL_STR,
            Space.USER: Helper.PROBE_READ_USER_STR,
            Space.ANY: Helper.PROBE_READ_STR,
        }[place.space]
        return self.checked(helper, self.emit.call(helper, f"ptr {pointer}", f"i64 {limit}", f"i64 {place.address}"))

    def read_characters(self, pointer: str, place: Remote, count: int) -> str:
        """Copy a char array, at most up to its zero: how many characters, or a negative error.

        The helper ends what it copies with a zero. A text as long as the array may lack its last byte then.
        """
        emit = self.emit
        length = self.read_text(pointer, count, place)
        begun, full, end = emit.block_name, emit.label(), emit.label()
        before = emit.op("sub", length, "1")
        emit.branch_if(emit.value(f"icmp eq i64 {length}, {count}"), full, end)
        emit.block(full)
        last = emit.offset(pointer, count - 1)
        self.read(last, 1, Remote(emit.op("add", place.address, str(count - 1)), place.space))
        whole = emit.op("sub", str(count), emit.value(f"select i1 {self._is_zero(last)}, i64 1, i64 0"))
        came_from = emit.block_name
        emit.block(end)
        return emit.phi("i64", (before, begun), (whole, came_from))

    def _is_zero(self, pointer: str) -> str:
        """i1: whether a byte is zero."""
        return self.emit.value(f"icmp eq i64 {self.emit.load(pointer, 1)}, 0")

    def read_scalar(self, place: Place, offset: int, size: int, signed: bool) -> str:
        """``size`` bytes (1, 2, 4 or 8) at a location, as an i64."""
        emit = self.emit
        if isinstance(place, Local):
            # The stack is read at aligned addresses only: packed records need single bytes.
            align = size if offset % size == 0 else 1
            return emit.load(emit.offset(place.pointer, offset), size, signed=signed, align=align)
        address = emit.op("add", place.address, str(offset)) if offset else place.address
        if place.direct:
            return emit.load(emit.value(f"inttoptr i64 {address} to ptr"), size, signed=signed)
        with self.temporaries():
            slot = self.temporary(8)
            self.read(slot, size, Remote(address, place.space))
            return emit.load(slot, size, signed=signed)

    # Warnings at run time

    def checked(self, helper: Helper, result: str) -> str:
        """A helper's result, of which an error is warned of if the options say so."""
        if self.options.warns:
            emit = self.emit
            code = emit.value(f"sext i32 {emit.value(f'trunc i64 {result} to i32')} to i64")
            error = (NamedNumber("errno"), emit.op("sub", "0", code))
            text = f"bpf_{helper.name.lower()}() failed: %s (%d)"
            self.warn_if(emit.value(f"icmp slt i64 {code}, 0"), text, error, (INT64, code))
        return result

    def warn_if(self, truth: str, text: str, *values: tuple[Type, str], always: bool = False) -> None:
        """Where an i1 is true, warn of it if the options say so: a format and its values.

        ``always``: also without -k.
        """
        if not (self.options.warns or (always and not self.options.hides_warnings)):
            return
        yes, end = self.emit.label(), self.emit.label()
        self.emit.branch_if(truth, yes, end)
        self.emit.block(yes)
        self.send_warning(text, values)
        self.emit.block(end)
