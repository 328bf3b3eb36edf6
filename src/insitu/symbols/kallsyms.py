"""Kernel symbols, from the text of /proc/kallsyms (fs/proc, kernel/kallsyms.c: "ADDRESS TYPE NAME[\\t[MODULE]]")."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CORE_TEXT", "Kallsyms", "read_kallsyms"]

CORE_TEXT: Final = "[kernel.kallsyms]"
_BPF_PREFIX: Final = b"bpf_prog_"
_HEX_DIGITS: Final = 16
_PAGE_BYTES: Final = 4096

U64 = NDArray[np.uint64]


def read_kallsyms(path: Path = Path("/proc/kallsyms")) -> bytes:
    """The kernel's symbols as text. Raises OSError if they cannot be read."""
    return path.read_bytes()


class Kallsyms:
    """Functions of the kernel, its modules and its BPF programs, by address."""

    def __init__(self, text: bytes) -> None:
        """Index the lines of ``text``; lines of another form are passed over. Names are decoded when asked for."""
        self._text = text
        raw = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(raw == ord("\n"))
        if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
            ends = np.append(ends, len(raw))
        begins = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1]) if len(ends) else ends
        long_enough = ends - begins > _HEX_DIGITS + 3
        begins, ends = begins[long_enough], ends[long_enough]
        # nm(1): t and T are text, w and W weak.
        kind = raw[begins + _HEX_DIGITS + 1] | 0x20
        code = (kind == ord("t")) | (kind == ord("w"))
        begins, ends = begins[code], ends[code]
        digits = raw[begins[:, None] + np.arange(_HEX_DIGITS)]
        value = np.where(digits <= ord("9"), digits - ord("0"), (digits | 0x20) - (ord("a") - 10))
        nibbles = value.astype(np.uint8)
        addresses = ((nibbles[:, 0::2] << 4) | nibbles[:, 1::2]).view(">u8")[:, 0].astype(np.uint64)
        self.hidden = bool(len(addresses)) and not addresses.any()
        """Whether all addresses read zero, as they do for users whom kernel.kptr_restrict keeps out."""
        well_formed = (value < 16).all(axis=1) & (addresses != 0)
        order = np.flatnonzero(well_formed)
        order = order[np.argsort(addresses[order], kind="stable")]
        self._address, self._begin, self._end = addresses[order], begins[order], ends[order]
        self._reach = _reaches(self._address, raw[np.maximum(self._end, 1) - 1] == ord("]"))

    def __len__(self) -> int:
        return len(self._address)

    def find(self, addresses: U64) -> list[tuple[str, str] | None]:
        """Name and module of the function at each address; None where there is none.

        The module is "[kernel.kallsyms]" for the kernel itself, "[ext4]" for a module, "[bpf]" for BPF programs.
        Of several names for one address the last one counts, as with perf.
        """
        row = np.searchsorted(self._address, addresses, side="right") - 1
        if len(self._address):
            row[addresses >= self._reach[row]] = -1
        distinct, inverse = np.unique(row, return_inverse=True)
        names = [self._entry(int(i)) if i >= 0 else None for i in distinct]
        return [names[i] for i in inverse.tolist()]

    def _entry(self, row: int) -> tuple[str, str]:
        begin, end = int(self._begin[row]), int(self._end[row])
        name, _, module = self._text[begin + _HEX_DIGITS + 3 : end].partition(b"\t")
        shown = module.strip().decode(errors="replace")
        if name.startswith(_BPF_PREFIX):
            shown = "[bpf]"
        return name.decode(errors="replace"), shown or CORE_TEXT


def _reaches(address: U64, in_module: NDArray[np.bool_]) -> U64:
    """Where each symbol ends: kallsyms has no sizes, so at the next one, but not across the gap to other code."""
    if not len(address):
        return address
    page = np.uint64(_PAGE_BYTES)
    after = (address + page + page - np.uint64(1)) // page * page
    last = np.append(in_module[1:] != in_module[:-1], True)
    reaches: U64 = np.where(last, after, np.append(address[1:], np.uint64(0)))
    return reaches
