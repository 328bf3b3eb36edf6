"""Stacks that the kernel records after a trace event: ftrace's kernel_stack and user_stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.stacks import Chains
from insitu.convert.trace_pages import TASK, TraceRecords, field_values
from insitu.convert.tracing_frames import without_tracing
from insitu.kernel.tracefs import EventFormat
from insitu.session.coded_texts import CodedTexts
from insitu.session.distinct import distinct, offsets_of, ranges
from insitu.session.writer import SessionWriter

if TYPE_CHECKING:
    from insitu.convert.event_schema import EventKind

__all__ = ["KERNEL_STACK", "USER_STACK", "TraceStacks", "stack_addresses"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

KERNEL_STACK: Final = "ftrace:kernel_stack"
USER_STACK: Final = "ftrace:user_stack"
_STACKS_AFTER: Final = 2  # a kernel stack, a user stack


class TraceStacks:
    """Finds the stacks of records."""

    def __init__(self, kinds: Mapping[int, EventKind], writer: SessionWriter, addresses: Addresses) -> None:
        self._writer = writer
        self._kinds = kinds
        self._numbers = {kind.label: number for number, kind in kinds.items()}
        self._addresses = addresses

    def functions(self, address: NDArray[Any]) -> CodedTexts:
        """The kernel functions of addresses of code."""
        found, inverse = distinct(address.astype(np.uint64))
        names = [frames[-1].function if frames else "" for frames in self._addresses.symbols.kernel(found)]
        return CodedTexts(inverse, names)

    def offsets(self, address: NDArray[Any]) -> I64:
        """The offset of each code address from the start of its function, in bytes."""
        found, inverse = distinct(address.astype(np.uint64))
        symbols = [self._addresses.symbols.kernel_symbol(each) for each in found.tolist()]
        return np.array([0 if each is None else each[1] for each in symbols], np.int64)[inverse]

    def after(self, records: TraceRecords) -> I32 | None:
        """For each record the stack that follows it on its CPU, of the same thread; None: there are no stacks."""
        kernel, user = (self._numbers.get(label, -1) for label in (KERNEL_STACK, USER_STACK))
        is_kernel, is_user = records.event == kernel, records.event == user
        if not (is_kernel.any() or is_user.any()):
            return None
        result = np.zeros(len(records), np.int32)
        tid = field_values(records, np.arange(len(records)), TASK)
        for number, is_stack in ((user, is_user), (kernel, is_kernel)):
            rows = np.flatnonzero(is_stack)
            if not len(rows):
                continue
            nodes = self._nodes(records, rows, self._kinds[number].format, is_kernel=number == kernel)
            owner = rows - 1
            for _ in range(_STACKS_AFTER):
                is_other = (owner >= 0) & (is_kernel | is_user)[owner]
                owner = owner - is_other
            owned = (owner >= 0) & (records.cpu[owner] == records.cpu[rows]) & (tid[owner] == tid[rows])
            owner, nodes = owner[owned], nodes[owned]
            result[owner] = self._addresses.joined(result[owner], nodes) if number == kernel else nodes
        return result

    def _nodes(self, records: TraceRecords, rows: I64, shape: EventFormat, *, is_kernel: bool) -> I32:
        offset, address = stack_addresses(records, rows, shape, is_kernel=is_kernel)
        pid = np.zeros(len(rows), np.int32)
        chains = Chains(offset, address, np.ones(len(address), np.bool_))
        if not is_kernel:
            chains = Chains.from_leaf(offset, address)
            tgid = next((field for field in shape.fields if field.name == "tgid"), None)
            pid = pid if tgid is None else field_values(records, rows, tgid).astype(np.int32)
        nodes = self._addresses.nodes(chains, self._addresses.epochs(pid, records.ts_ns[rows]))
        return without_tracing(self._writer, nodes) if is_kernel else nodes


def stack_addresses(records: TraceRecords, rows: I64, shape: EventFormat, *, is_kernel: bool) -> tuple[I64, U64]:
    """The stacks that records of kernel_stack or user_stack hold: offsets (n + 1) and addresses, innermost first."""
    fields = {field.name: field for field in shape.fields}
    if "caller" not in fields:
        return np.zeros(len(rows) + 1, np.int64), np.zeros(0, np.uint64)
    at = records.at[rows] + fields["caller"].offset
    words = np.maximum(records.size[rows] - fields["caller"].offset, 0) >> 3
    if is_kernel and "size" in fields:  # the format shows eight at most
        words = np.minimum(words, np.maximum(field_values(records, rows, fields["size"]).astype(np.int64), 0))
    memory = records.memory[: len(records.memory) & ~3].view("<u4")
    low = ranges(at >> 2, words << 1)[::2]
    address = memory[low].astype(np.uint64) | memory[low + 1].astype(np.uint64) << np.uint64(32)
    # A user stack ends at the first 0; ~0 marks where the kernel left off.
    owner = np.repeat(np.arange(len(rows)), words)
    is_end = (address == 0) | (address == np.uint64(2**64 - 1))
    before, starts = offsets_of(is_end), offsets_of(words)
    keep = before[1:] == before[starts[:-1]][owner] if len(owner) else np.zeros(0, np.bool_)
    return offsets_of(np.bincount(owner[keep], minlength=len(rows))), address[keep]
