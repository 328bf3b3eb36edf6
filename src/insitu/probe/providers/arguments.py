"""The arguments of a probe: their types, and how a program gets at their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from insitu.symbols.btf import Type

__all__ = [
    "MAX_OPERANDS",
    "Argument",
    "ContextField",
    "ContextSlot",
    "DataLocation",
    "Load",
    "Operand",
    "Primitive",
    "UserStack",
]

MAX_OPERANDS = 64  # of a USDT probe: what arg0, arg1 ... can name. <sys/sdt.h> makes up to 12, other producers more


class Primitive(Struct, frozen=True):
    """A C type where no BTF describes it: a tracepoint field, a USDT operand, a register.

    ``declaration`` is the C type as the kernel writes it (``struct file *``, ``char``, ``pid_t``): of one
    element where ``count`` is not None (an array of that many; 0 when the length is only known at run time).
    ``size`` is one element's bytes.
    """

    declaration: str
    size: int
    signed: bool = False
    count: int | None = None


class ContextField(Struct, frozen=True):
    """``size`` bytes at ``offset`` of the program's context (a tracepoint record, pt_regs, an iterator's context)."""

    offset: int
    size: int
    signed: bool = False


class ContextSlot(Struct, frozen=True):
    """The ``index``-th u64 of the context: arguments of fentry, fexit and raw tracepoints (trusted BTF pointers).

    Narrower types sit in the low bytes. An argument that is a struct passed by value takes several slots.
    """

    index: int


class DataLocation(Struct, frozen=True):
    """A string or array after the record: a u32 at ``offset`` has its offset (low half) and bytes (high half).

    The offset is from the record's start, or from the end of this u32 when ``relative``
    (include/trace/stages/stage3_trace_output.h: __data_loc and __rel_loc).
    """

    offset: int
    relative: bool = False


class UserStack(Struct, frozen=True):
    """A u64 ``offset`` bytes above the interrupted user (or kernel) stack pointer: arguments past the registers."""

    offset: int


class Operand(Struct, frozen=True):
    """A USDT operand: ``size`` bytes, held in a constant, a register, or memory.

    * constant: ``constant`` is not None
    * register: ``register`` is its byte offset in pt_regs, and ``memory`` is false; ``shift`` drops the low bits
      first (x86's %ah)
    * memory: the user address [register] + [index] * scale + displacement, parts that are None left out
    """

    size: int
    signed: bool
    constant: int | None = None
    register: int | None = None
    shift: int = 0
    memory: bool = False
    index: int | None = None
    scale: int = 1
    displacement: int = 0


Load = ContextField | ContextSlot | DataLocation | UserStack | Operand


class Argument(Struct, frozen=True):
    """One field of ``args``: its name, its type, and how a program gets at its value.

    ``type`` is a BTF type where the kernel has one. An argument that is used by its address
    (a fixed char array of a tracepoint record) has a ContextField load of the whole array's size.
    """

    name: str
    type: Type | Primitive
    load: Load
