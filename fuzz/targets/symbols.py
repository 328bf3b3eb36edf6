"""Names and tables of symbols: demanglers, JIT maps, kallsyms, BTF."""

from pathlib import Path

import numpy as np

from fuzz.registry import Read
from insitu.symbols import demangle as demangling
from insitu.symbols.btf import Btf, Kind
from insitu.symbols.jit_map import JitMap, python_function
from insitu.symbols.kallsyms import Kallsyms, has_function, symbol_address

__all__ = ["btf", "demangled", "jit_map", "kallsyms"]

_ADDRESSES = np.array(
    [0, 1, 0x1000, 0x7F00_0000_1010, 0xFFFF_FFFF_8100_0010, 0xFFFF_FFFF_C000_0020, 1 << 63, (1 << 64) - 1], np.uint64
)


def demangled(directory: Path) -> Read:
    """A symbol's name on each line."""

    def read(data: bytes) -> None:
        for name in data.split(b"\n")[:4]:
            demangling.demangle.cache_clear()
            assert isinstance(demangling.demangle(name.replace(b"\0", b"")), str)
            demangling.demangle_with_parameters(name.replace(b"\0", b""))

    return read


def jit_map(directory: Path) -> Read:
    """The text of /tmp/perf-PID.map."""

    def read(data: bytes) -> None:
        found = JitMap(data)
        for name in found.find(_ADDRESSES):
            if name is not None:
                python_function(name)
        found.function(0x7F00_0000_1010)

    return read


def kallsyms(directory: Path) -> Read:
    """The text of /proc/kallsyms, of this machine or of a recording."""

    def read(data: bytes) -> None:
        found = Kallsyms(data)
        found.find(_ADDRESSES)
        found.symbol(0xFFFF_FFFF_8100_0010)
        symbol_address("schedule", data)
        has_function("schedule", data)

    return read


def btf(directory: Path) -> Read:
    """The types of the kernel (or of one module, on top of the kernel's)."""
    kernel = Btf((Path(__file__).parent.parent / "corpus/btf/plain").read_bytes())

    def read(data: bytes) -> None:
        for base in (None, kernel):
            found = Btf(data, base=base)
            for number in range(min(found.count, 60)):
                type_ = found.type(number)
                type_.declaration("x")
                type_.definition()
                _ = (
                    type_.size,
                    type_.signed,
                    type_.boolean,
                    type_.character,
                    type_.count,
                    type_.parameters,
                    type_.members,
                )
                for member in type_.fields():
                    type_.member(member.name)
            found.find("pair", Kind.STRUCT)
            found.enumerator("RED")
            found.nearest("pear", Kind.STRUCT)
            list(found.matching("*a*", Kind.STRUCT, Kind.FUNC))

    return read
