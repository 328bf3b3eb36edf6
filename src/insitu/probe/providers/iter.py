"""iter:OBJECT: a walk over the kernel's tasks, files, mappings and so on, one run of the program for each."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from insitu.errors import InsituError
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import AttachType, ProgramType
from insitu.probe.providers.arguments import Argument, ContextField
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.matching import missing, parts, select
from insitu.symbols.btf import Kind, Type

__all__ = ["PROVIDERS", "Walk"]

_PREFIX = "bpf_iter_"  # the function by which a kernel describes each of its iterators
_CONTEXT = "bpf_iter__"  # the struct that its programs get
_READ_BYTES = 1 << 16
_PER_TASK = {"task", "task_file", "task_vma"}


class Walk:
    """An iterator's link. Each run() is a walk from the start."""

    def __init__(self, link_fd: int) -> None:
        self._link_fd = link_fd

    def run(self) -> bytes:
        """Walk once, in the calling thread: what the program wrote. :raises InsituError:"""
        descriptor = bpf.iter_create(self._link_fd)
        try:
            chunks: list[bytes] = []
            while True:
                try:
                    chunk = os.read(descriptor, _READ_BYTES)
                except BlockingIOError:  # a million objects and nothing written: the kernel pauses
                    continue
                if not chunk:
                    return b"".join(chunks)
                chunks.append(chunk)
        except OSError as error:
            raise InsituError(f"an iterator stopped: {error.strerror}") from None
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Detach. Idempotent."""
        if self._link_fd >= 0:
            os.close(self._link_fd)
            self._link_fd = -1


class Iter:
    """The kernel's BPF iterators, their context as ``ctx``'s fields in ``args``."""

    names = ("iter", "it")
    traits = Traits(finite=True)

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        name, pin = parts(spec, "iter:OBJECT", 1, 2)
        if pin:
            raise InsituError(f"{spec}: pinning an iterator is not supported", remedy=f"use iter:{name}")
        found = self.listing(spec, context)
        if not found:
            names = self._names(context)
            raise missing("iterator", name, names, f"this kernel has {', '.join(names)}")
        return found

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        found = context.btf.find(_CONTEXT + point.function, Kind.STRUCT)
        if found is None:
            return None
        return [
            Argument(each.name, each.type, ContextField(each.bit_offset // 8, each.type.size, each.type.signed))
            for each in found.fields()
        ]

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        return ProgramKind(
            ProgramType.TRACING,
            "iterator",
            attach_type=AttachType.TRACE_ITER,
            attach_btf_id=_described(point, context).id,
        )

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Walk:
        target = b""
        if context.pid is not None and points[0].function in _PER_TASK:
            target = struct.pack("<II4x", 0, context.pid)  # union bpf_iter_link_info: task.tid, task.pid (Linux 6.1)
        return Walk(bpf.link_iter(program_fd, target))

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        name = pattern.parts[0] if pattern.parts else "*"
        return [AttachPoint("iter", f"iter:{each}", function=each) for each in select(name, self._names(context))]

    def _names(self, context: Context) -> list[str]:
        contexts = context.btf.names(Kind.STRUCT)
        functions = context.btf.names(Kind.FUNC)
        names = (name.removeprefix(_PREFIX) for name in functions if name.startswith(_PREFIX))
        return sorted(name for name in names if _CONTEXT + name in contexts)


def _described(point: AttachPoint, context: Context) -> Type:
    found = context.btf.find(_PREFIX + point.function, Kind.FUNC)
    if found is None:
        raise InsituError(f"this kernel has no iterator {point.function}")
    return found


PROVIDERS = (Iter(),)
