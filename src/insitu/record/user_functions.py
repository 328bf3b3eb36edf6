"""Which functions of a program are traced, where, how their returns are seen, and their prototypes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError, nearest
from insitu.probe.providers.support.matching import select
from insitu.symbols.code_exits import CALL, CALL_SLOT, MOST_CODE, Exits, call_sites, entry_skip, exits_of
from insitu.symbols.demangle import demangle
from insitu.symbols.dwarf_prototypes import prototypes_at
from insitu.symbols.elf import NO_ADDRESS, Elf
from insitu.symbols.function_addresses import FunctionAddresses
from insitu.symbols.functions import plt_stubs
from insitu.symbols.libc_prototypes import libc_prototype
from insitu.symbols.prototypes import Prototype

__all__ = ["Traced", "TracedFunction", "traced_functions"]

_EVEX: Final = b"\x62"
"""Begins AVX-512 instructions. In place of the first of memset(), a uprobe made the program abort (6.18)."""
_STT_OBJECT: Final = 1
_GLOB_DAT: Final = 6  # R_X86_64_GLOB_DAT
_MOST_DISASSEMBLED: Final = 256 << 20  # bytes of all functions: symbols of damaged files may overlap
_PROTOTYPES_S: Final = 3.0
"""For how long debug information is asked for prototypes; functions beyond that have no arguments."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What the linker and the C runtime put into every program.
_OF_THE_RUNTIME: Final = _words("""
_start _init _fini deregister_tm_clones register_tm_clones __do_global_dtors_aux frame_dummy
_dl_relocate_static_pie __libc_csu_init __libc_csu_fini __libc_start_main __cxa_finalize __gmon_start__
""")
# These keep or change their caller's return address: a return probe, which replaces that, would break the program.
_NO_RETURN_PROBE: Final = _words("""
setjmp _setjmp __setjmp sigsetjmp __sigsetjmp getcontext setcontext swapcontext makecontext vfork __vfork
clone __clone clone3 __clone3 longjmp _longjmp siglongjmp __longjmp __longjmp_chk __libc_siglongjmp
__cxa_throw __cxa_rethrow _Unwind_Resume _Unwind_RaiseException _Unwind_ForcedUnwind _Unwind_Resume_or_Rethrow
_Unwind_Backtrace backtrace pthread_exit exit _exit _Exit quick_exit abort __stack_chk_fail __assert_fail
""")
# Programs that import these unwind their stack, or change to another one.
_UNWINDING: Final = (b"_Unwind_Resume", b"_Unwind_RaiseException", b"_Unwind_Backtrace", b"__cxa_throw")
_SWITCHING: Final = (b"makecontext", b"swapcontext", b"sigaltstack")


class TracedFunction(NamedTuple):
    """A function as it is shown, and the file offsets of its probes.

    ``returns``: there is a return probe at ``entry``; else it returns at ``exits``, or leaves by a jump at ``jumps``.
    ``calls``: it has no entry (-1) in the program; these are instructions that call it. ``library``: of another file.
    """

    name: str
    entry: int
    returns: bool
    exits: tuple[int, ...]
    jumps: tuple[int, ...]
    prototype: Prototype | None
    calls: tuple[int, ...] = ()
    library: bool = False


class Traced(NamedTuple):
    """The functions; ``sites`` are file offsets that calls of stubs return to, where these have no return probes, and
    the functions' numbers.

    ``notes`` are about what is not traced as asked.
    """

    functions: list[TracedFunction]
    sites: list[tuple[int, int]]
    notes: list[str]


def traced_functions(
    elf: Elf,
    patterns: Sequence[str],
    excluded: Sequence[str],
    *,
    own: bool = True,
    library: bool = False,
    arguments: bool = True,
) -> Traced:
    """Returns the functions that match a pattern (none: all) and no excluded one: the program's ``own``, and with
    ``library`` those of other files that it calls. Prototypes are looked up if ``arguments`` are wanted.

    Raises InsituError where there are none.
    """
    stubs = list(_stubs(elf)) if library else []
    found = [*(_own(elf) if own else ()), *stubs]
    called = _called_through_slots(elf) if library and not stubs else []
    names = [each.name for each in (*found, *called)]
    if not names:
        raise _nothing(elf, library=not own)
    wanted = _wanted(names, patterns, excluded, elf)
    found = [each for each in found if each.name in wanted]
    reason = _no_return_probes(elf)
    known, late = _prototypes(elf, found) if arguments else ({}, 0)
    offsets = elf.offsets_of(np.array([each.address for each in found], np.uint64))
    chosen: list[TracedFunction] = []
    unknown, refused, left = 0, 0, _MOST_DISASSEMBLED
    numbers: dict[int, int] = {}
    for (name, raw, address, size, is_library), at in zip(found, offsets.tolist(), strict=True):
        if at == NO_ADDRESS:
            continue
        code = elf.read(at, min(size, MOST_CODE + 1))
        skipped = entry_skip(code)
        if code[skipped : skipped + 1] == _EVEX:
            refused += 1
            continue
        exits = Exits(known=True)
        if reason and not is_library:
            left -= len(code)
            exits = exits_of(code) if left >= 0 else Exits()
        unknown += not exits.known
        numbers[address] = len(chosen)
        chosen.append(
            TracedFunction(
                name,
                at + skipped,
                not reason and raw not in _NO_RETURN_PROBE,
                tuple(at + each for each in exits.returns),
                tuple(at + each for each in exits.jumps),
                known.get(address),
                library=is_library,
            )
        )
    seen_after = [each.address for each in found if each.library and (reason or each.raw in _NO_RETURN_PROBE)]
    sites = [
        (after, numbers[target])
        for _, after, target in _calls(elf, seen_after, CALL)
        if target in numbers and elf.read(after, 1) != _EVEX
    ]
    for each in called:
        if each.name in wanted:
            sites += [(after, len(chosen)) for after in each.afters]
            prototype = libc_prototype(each.raw) if arguments else None
            chosen.append(TracedFunction(each.name, -1, False, (), (), prototype, each.calls, library=True))
    notes = [f"the program {reason}: returns are seen without return probes, which costs more"] if reason else []
    if called:
        notes.append("the program has no PLT: library calls are seen where they are made; tail calls are not")
    if refused:
        notes.append(
            f"functions that begin with an AVX-512 instruction, which a probe would break: {refused} left out"
        )
    if unknown:
        notes.append(f"functions that could not be disassembled, whose ends are seen late: {unknown}")
    if late:
        notes.append(f"functions without arguments, as reading types takes over {_PROTOTYPES_S:.0f} s: {late}")
    return Traced(chosen, sites, notes)


class _Place(NamedTuple):
    """A function's shown and raw name, its address in the file's own terms, its size; ``library``: it is a stub."""

    name: str
    raw: str
    address: int
    size: int
    library: bool = False


class _Called(NamedTuple):
    """A function of another file that is called through the GOT: the calls, and where those return to that can be
    probed (file offsets)."""

    name: str
    raw: str
    calls: tuple[int, ...]
    afters: tuple[int, ...]


def _own(elf: Elf) -> Iterator[_Place]:
    """Functions in the code of the program; of several names of one address the first."""
    code = [(each.address, each.address + each.size) for each in elf.sections if each.name.startswith(".text")]
    seen: set[int] = set()
    for raw, address, size in FunctionAddresses(elf).all():
        runtime = raw in _OF_THE_RUNTIME or ".cold" in raw
        if size and not runtime and address not in seen and any(low <= address < high for low, high in code):
            seen.add(address)
            yield _Place(demangle(raw.encode()), raw, address, size)


def _stubs(elf: Elf) -> Iterator[_Place]:
    starts, size, names = plt_stubs(elf)
    for address, raw in zip(starts, names, strict=True):
        name = raw.removesuffix(b"@plt")
        text = name.decode(errors="replace")
        if text not in _OF_THE_RUNTIME:
            yield _Place(demangle(name), text, address, size, library=True)


def _wanted(names: list[str], patterns: Sequence[str], excluded: Sequence[str], elf: Elf) -> set[str]:
    wanted = set() if patterns else set(names)
    for pattern in patterns:
        matching = select(pattern, names)
        if not matching:
            raise InsituError(f"{elf.path}: no function matches {pattern}{nearest(pattern, names)}", status=2)
        wanted.update(matching)
    wanted -= {name for pattern in excluded for name in select(pattern, names)}
    if not wanted:
        raise InsituError(f"{elf.path}: -n leaves no function", status=2)
    return wanted


def _nothing(elf: Elf, library: bool) -> InsituError:
    if not library:
        return InsituError(
            f"{elf.path} has no symbols of functions", remedy="install its debug symbols, or use --library"
        )
    if elf.section(".dynamic") is None:
        return InsituError(f"{elf.path} is linked statically: it calls no libraries")
    return InsituError(
        f"{elf.path} calls no library functions that can be seen: it has no PLT, and no calls through its GOT"
    )


def _no_return_probes(elf: Elf) -> str:
    """Why the program cannot have return probes, which replace return addresses on the stack; "" if it can."""
    if elf.section(".gopclntab") is not None:
        return "is written in Go, which moves stacks"
    table = elf.symbols(".dynsym")
    names = set(table.names(table.entries["name"].tolist())) if table else set()
    names = {name.partition(b"@")[0] for name in names}
    if elf.section(".dynamic") is None:
        return "is linked statically, with the C library's own jumps"
    if names & set(_UNWINDING):
        return "unwinds its stack (exceptions)"
    return "changes stacks (ucontext)" if names & set(_SWITCHING) else ""


def _calls(elf: Elf, targets: Iterable[int], opcode: bytes) -> Iterator[tuple[int, int, int]]:
    """Calls of these: the file offsets of the instruction and of the one after it, and the target."""
    wanted = list(targets)
    if not wanted:
        return
    functions = sorted({(address, size) for _, address, size in FunctionAddresses(elf).all()})
    for section in elf.sections:
        if section.name.startswith(".text") and section.in_file:
            code = elf.section_bytes(section)
            for at, after, target in call_sites(code, section.address, functions, wanted, opcode):
                yield at - section.address + section.offset, after - section.address + section.offset, target


def _slots(elf: Elf) -> dict[int, bytes]:
    """Of a program without a PLT: the words that addresses of other files' functions are in, and these."""
    relocations, dynamic = elf.section(".rela.dyn"), elf.symbols(".dynsym")
    if relocations is None or dynamic is None:
        return {}
    data = elf.section_bytes(relocations)
    found = np.frombuffer(data, elf.layout.rela, len(data) // elf.layout.rela.itemsize)
    symbol = (found["info"] >> np.uint64(elf.layout.symbol_shift)).astype(np.int64)
    kind = found["info"] & np.uint64(0xFFFFFFFF)
    rows = np.flatnonzero((kind == _GLOB_DAT) & (symbol > 0) & (symbol < len(dynamic.entries)))
    entries = dynamic.entries[symbol[rows]]
    functions = (entries["info"] & 0xF != _STT_OBJECT) & (entries["shndx"] == 0)
    names = dynamic.names(entries["name"][functions].tolist())
    return dict(zip(found["offset"][rows][functions].tolist(), names, strict=True))


def _called_through_slots(elf: Elf) -> list[_Called]:
    """The functions that are called through words of the GOT, where the calls are."""
    slots = {slot: raw.decode(errors="replace") for slot, raw in _slots(elf).items()}
    calls: dict[int, list[tuple[int, int]]] = {}
    for at, after, slot in _calls(elf, [each for each in slots if slots[each] not in _OF_THE_RUNTIME], CALL_SLOT):
        calls.setdefault(slot, []).append((at, after))
    return [
        _Called(
            demangle(slots[slot].encode()),
            slots[slot],
            tuple(at for at, _ in places),
            tuple(after for _, after in places if elf.read(after, 1) != _EVEX),
        )
        for slot, places in calls.items()
    ]


def _prototypes(elf: Elf, places: Sequence[_Place]) -> tuple[dict[int, Prototype], int]:
    """Prototypes by address: by the program's debug information, of libraries' functions the well-known ones; and how
    many functions were not looked up, as time was over."""
    own = {each.address: each.raw for each in places if not each.library}
    until_s = time.monotonic() + _PROTOTYPES_S
    found = prototypes_at(elf, own, until_s)
    late = (len(own) - len(found)) * (time.monotonic() > until_s)
    is_libc = elf.path.name.startswith("libc.so.")
    for each in places:
        if each.address not in found and (each.library or is_libc):
            prototype = libc_prototype(each.raw)
            if prototype is not None:
                found[each.address] = prototype
    return found, late
