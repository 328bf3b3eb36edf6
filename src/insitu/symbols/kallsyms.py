"""Kernel symbols, from the text of /proc/kallsyms (fs/proc, kernel/kallsyms.c: "ADDRESS TYPE NAME[\\t[MODULE]]")."""

# A script that asks for one symbol's address is not to import numpy or pathlib.
# ruff: noqa: PTH123

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from insitu.kernel import procfs
from insitu.symbols.frame import CORE_TEXT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    U64 = NDArray[np.uint64]

__all__ = [
    "ALL",
    "CODE",
    "Kallsyms",
    "are_shown",
    "has_function",
    "read_kallsyms",
    "remedy",
    "symbol_address",
]

CODE: Final = b"tTwW"
"""Types of symbols (nm(1)) that are code."""
ALL: Final = CODE + b"dDbBrRaA"
"""Types of symbols that have an address: code, data, and variables of each CPU."""

_PATH: Final = "/proc/kallsyms"
_BPF_PREFIX: Final = b"bpf_prog_"
_HEX_DIGITS: Final = 16
# How far the last symbol before a gap reaches is perf's choice (symbols__fixup_end), which does not ask for the
# page size.
_PAGE_BYTES: Final = 4096


def read_kallsyms(path: str = _PATH) -> bytes:
    """The kernel's symbols as text. Raises OSError if they cannot be read."""
    with open(path, "rb") as file:
        return file.read()


@cache
def _kept() -> bytes:
    """The text for look-ups of single variables, which do not move: reading it takes the kernel a while."""
    return read_kallsyms()


def are_shown(path: str = _PATH) -> bool:
    """Whether this user sees the addresses: kernel.kptr_restrict makes them all zero. Raises OSError."""
    with open(path, "rb") as file:
        return any(line[:_HEX_DIGITS].strip(b"0") for line in file.read(4096).splitlines()[:-1])


def remedy() -> str:
    """What shows the addresses to this user, by the settings that hide them: kernel/ksyms_common.c."""
    paranoid, hidden = "kernel.perf_event_paranoid", "kernel.kptr_restrict"
    if procfs.sysctl(hidden) == "2":  # from everybody
        return f"sysctl {hidden}=1"
    settings = [] if procfs.sysctl(hidden) == "0" else [f"{hidden}=0"]
    if not _at_most(procfs.sysctl(paranoid), 1):
        settings.append(f"{paranoid}=1")
    return f"run as root or with CAP_SYSLOG, or: sysctl {' '.join(settings)}"


def _at_most(value: str | None, most: int) -> bool:
    return value is not None and value.lstrip("-").isdigit() and int(value) <= most


def symbol_address(name: str, text: bytes | None = None) -> int | None:
    """The address of a kernel symbol; None if there is none of that name, or it cannot be read."""
    try:
        text = _kept() if text is None else text
    except OSError:
        return None
    found = re.search(rb"^([0-9a-fA-F]{16}) [%b] %b[\t\n]" % (ALL, re.escape(name.encode())), text, re.MULTILINE)
    return int(found[1], 16) if found else None


def has_function(name: str, text: bytes | None = None, *, module: str = "") -> bool:
    """Whether the kernel or one of its modules, or only that module, has a function of that name. Raises OSError."""
    text = read_kallsyms() if text is None else text
    end = rb"\t\[%b\]" % re.escape(module.encode()) if module else rb"[\t\n]"
    return re.search(rb" [%b] %b%b" % (CODE, re.escape(name.encode()), end), text) is not None


class Kallsyms:
    """Symbols of the kernel, its modules and its BPF programs, by address."""

    def __init__(self, text: bytes, types: bytes = CODE) -> None:
        """Index the lines of ``text`` whose symbol has one of ``types``; malformed lines are skipped.

        Names are decoded when asked for.
        """
        import numpy as np

        self._text = text
        raw = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(raw == ord("\n"))
        if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
            ends = np.append(ends, len(raw))
        begins = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1]) if len(ends) else ends
        long_enough = ends - begins > _HEX_DIGITS + 3
        begins, ends = begins[long_enough], ends[long_enough]
        wanted = np.isin(raw[begins + _HEX_DIGITS + 1], np.frombuffer(types, np.uint8))
        begins, ends = begins[wanted], ends[wanted]
        of_byte = np.full(256, _HEX_DIGITS, np.uint8)
        of_byte[list(b"0123456789abcdef")] = of_byte[list(b"0123456789ABCDEF")] = np.arange(_HEX_DIGITS)
        fields = np.ndarray(max(len(raw) - _HEX_DIGITS + 1, 0), f"V{_HEX_DIGITS}", raw.data, strides=(1,))
        nibbles = of_byte[fields[begins].view(np.uint8).reshape(-1, _HEX_DIGITS)]
        addresses = ((nibbles[:, 0::2] << 4) | nibbles[:, 1::2]).view(">u8")[:, 0].astype(np.uint64)
        self.hidden = bool(len(addresses)) and not addresses.any()
        """Whether all addresses read zero, as kernel.kptr_restrict makes them for users without privilege."""
        well_formed = (nibbles < 16).all(axis=1) & (addresses != 0)
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
        import numpy as np

        row = np.searchsorted(self._address, addresses, side="right") - 1
        if len(self._address):
            row[addresses >= self._reach[row]] = -1
        distinct, inverse = np.unique(row, return_inverse=True)
        names = [self._entry(int(i)) if i >= 0 else None for i in distinct]
        return [names[i] for i in inverse.tolist()]

    def covers(self, address: int) -> bool:
        """Whether an address is in a function, as find() has it."""
        import numpy as np

        return self.find(np.array([address], np.uint64))[0] is not None

    def symbol(self, address: int) -> tuple[str, int] | None:
        """Name of the symbol at or before an address of the kernel, and the offset of the address in it.

        Of several names for one address the first one counts, as with bpftrace.
        """
        import numpy as np

        row = int(np.searchsorted(self._address, np.uint64(address), side="right")) - 1
        if row < 0 or not address >> 63:
            return None
        start = self._address[row]
        return self._entry(int(np.searchsorted(self._address, start)))[0], address - int(start)

    def _entry(self, row: int) -> tuple[str, str]:
        begin, end = int(self._begin[row]), int(self._end[row])
        name, _, module = self._text[begin + _HEX_DIGITS + 3 : end].partition(b"\t")
        shown = module.strip().decode(errors="replace")
        if name.startswith(_BPF_PREFIX):
            shown = "[bpf]"
        return name.decode(errors="replace"), shown or CORE_TEXT


def _reaches(address: U64, in_module: NDArray[np.bool_]) -> U64:
    """Where each symbol ends: kallsyms has no sizes, so at the next one, but not across the gap to other code."""
    import numpy as np

    if not len(address):
        return address
    page = np.uint64(_PAGE_BYTES)
    after = (address + page + page - np.uint64(1)) // page * page
    last = np.append(in_module[1:] != in_module[:-1], True)
    reaches: U64 = np.where(last, after, np.append(address[1:], np.uint64(0)))
    return reaches
