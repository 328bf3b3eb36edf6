"""A binary with debug information: where its functions and source lines are, and what is visible there.

The kernel is one too, where its debug information is installed.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError, nearest
from insitu.foreign_files import read_foreign
from insitu.probe.providers.support.binary import file_offset
from insitu.probe.providers.support.source_lines import code_of_line, line_table
from insitu.record.ftrace.fetch_arguments import (
    MOST_ELEMENTS,
    Located,
    fetched,
    located,
    part_of,
    pointed_at,
    why_not,
)
from insitu.symbols.cfi import Row
from insitu.symbols.data_symbols import Variables, find_symbol
from insitu.symbols.debug_files import find_debug_file
from insitu.symbols.dwarf_c_types import CType
from insitu.symbols.dwarf_scopes import Scope, Scopes, Variable
from insitu.symbols.eh_frame import CallFrames
from insitu.symbols.elf import Elf
from insitu.symbols.function_addresses import FunctionAddresses
from insitu.symbols.kernel_file import FIRST, find_vmlinux
from insitu.symbols.line_table import LineTable
from insitu.symbols.registers import AARCH64, X86_64

__all__ = ["Place", "SourceLine", "UserCode", "kernel_code"]

_MACHINES: Final = {each.e_machine: each for each in (X86_64, AARCH64)}
_PLACE: Final = re.compile(
    r"(?P<name>(?:[^:+%]|::)+)(?:(?P<sign>[:+])(?P<number>0x[0-9a-fA-F]{1,8}|\d{1,7}))?", re.ASCII
)
_ARGUMENT: Final = re.compile(r"[A-Za-z_]\w*(?:(?:->|\.)[A-Za-z_]\w*|\[\d{1,7}\])*", re.ASCII)
_STEP: Final = re.compile(r"(->|\.|\[)(\w+)", re.ASCII)
_LOWEST_KERNEL: Final = 1 << 63  # addresses
_MOST_SOURCE_BYTES: Final = 16 << 20
_MOST_LINES: Final = 1 << 16  # of a function
_MOST_NAMED: Final = 6  # lines that a message lists


class SourceLine(NamedTuple):
    """A line of a function; ``address`` is None where it has no code."""

    number: int
    text: str
    address: int | None


class Place(NamedTuple):
    """An address, and how many functions are inlined into one another up to the one that is meant (None: all)."""

    address: int
    depth: int | None = None


class UserCode:
    """One binary. Methods raise InsituError for what it does not have."""

    def __init__(self, path: str, *, is_kernel: bool = False) -> None:
        """``is_kernel``: variables outside of frames are not fetched from the file."""
        self._is_kernel = is_kernel
        self.path = str(Path(path).resolve())
        if re.search(r"\s", self.path):
            raise InsituError(f"{self.path!r}: the kernel takes no path with blanks for a dynamic event")
        try:
            self.elf = Elf(self.path)
        except OSError as error:
            raise InsituError(f"cannot open {path}: {error.strerror}") from None
        machine = _MACHINES.get(self.elf.machine)
        if machine is None:
            raise InsituError(
                f"{path}: the registers of its architecture (ELF machine {self.elf.machine}) are unknown"
            )
        self._machine = machine
        self._functions = FunctionAddresses(self.elf)
        self._rows: list[Row] = []  # of call frames
        self._known: dict[tuple[int, int | None], Scope] = {}

    @cached_property
    def _debug(self) -> Elf | None:
        if LineTable.present_in(self.elf):
            return self.elf
        return find_debug_file(self.elf, self.elf.path, self.elf.root)

    @cached_property
    def _lines(self) -> LineTable:
        return line_table(self.elf, self.path)

    @cached_property
    def _scopes(self) -> Scopes | None:
        return Scopes(self._debug) if self._debug is not None else None

    def function(self, name: str) -> int:
        """The address of a function; of C++ and Rust also by its qualified name without parameters."""
        address = self._functions.address(name)
        if address is None:
            readable = self._functions.readable(name.rpartition("::")[2])
            found = {place: whole for plain, whole, place in readable if plain == name}
            if len(found) > 1:
                raise InsituError(f"{name} is ambiguous in {self.path}: {', '.join(found.values())}")
            address = next(iter(found), None)
        if address is None:
            parts = [each for each in self._functions.by_name if each.startswith(f"{name}.")]  # such as f.part.0
            hint = f"; it has {', '.join(parts)}" if parts else nearest(name, self._functions.by_name)
            raise InsituError(f"{self.path} has no function {name!r}{hint}")
        return address

    def around(self, address: int) -> tuple[str, int]:
        """The function that an address is in, and where it begins."""
        found = self._functions.around(address)
        if found is None:
            raise InsituError(f"{self.path} has no function at {address:#x}")
        return found

    def kernel_place(self, address: int) -> str:
        """An address of the kernel as dynamic events have it, for which names of several functions are not enough."""
        function, start = self.around(address)
        first = find_symbol(self.elf, FIRST) if self._functions.defined(function) > 1 else None
        if first is not None:
            function, start = FIRST, first[0]
        return f"{function}+{address - start:#x}"

    def places(self, text: str) -> list[Place]:
        """Where is ``FUNCTION``, ``FUNCTION+LINES``, ``FUNCTION+0xBYTES`` or ``FILE:LINE``?"""
        found = _PLACE.fullmatch(text)
        if not found:
            raise InsituError(f"{text!r} is neither FUNCTION, FUNCTION+LINES, FUNCTION+0xBYTES nor FILE:LINE")
        name, number = found["name"], found["number"]
        if number is None:
            return [Place(self.function(name))]
        if number.startswith("0x"):
            return [Place(self.function(name) + int(number, 16))]
        file, line = name, int(number)
        if found["sign"] == "+" or self._functions.address(name) is not None:
            start = self.function(name)
            file, first = self._declared(start)
            if not line:
                return [Place(start)]
            line += first
        return [
            Place(each.address, each.depth) for each in code_of_line(self.elf, self.path, file, line, self._lines)
        ]

    @staticmethod
    def is_entry(text: str) -> bool:
        """Whether a place is the beginning of a function."""
        found = _PLACE.fullmatch(text)
        return found is not None and found["number"] is None

    def after_prologue(self, function: int) -> int:
        """Where the code of a function's second line begins: its arguments are in memory by then."""
        file, _ = self._source(function)
        rows = sorted(self._lines.rows(lambda each: each == file), key=lambda row: row.address)
        name = self._lines.find(np.array([function], np.uint64))[0][-1].function
        for row in rows:
            if row.address > function and row.chain[-1].function == name:
                return row.address
        return function

    def _source(self, address: int) -> tuple[str, int]:
        chain = self._lines.find(np.array([address], np.uint64))[0]
        if not chain:
            raise InsituError(f"{self.path}: no source line is known at {address:#x}")
        return chain[-1].file, chain[-1].line

    def _declared(self, function: int) -> tuple[str, int]:
        """The file of a function and the line that declares it; lines of functions are counted from there."""
        file, line = self._source(function)
        return file, self.scope(function).line or line

    def scope(self, address: int, depth: int | None = None) -> Scope:
        """What is visible at an address; ``depth`` is that of a Place."""
        if (address, depth) not in self._known:
            found = self._scopes.at(address, depth) if self._scopes is not None else None
            if found is None:
                raise InsituError(
                    f"{self.path} has no debug information at {address:#x}",
                    remedy="compile it with -g (not -gsplit-dwarf), or install its debug file",
                )
            self._known[address, depth] = found
        return self._known[address, depth]

    def offset(self, address: int) -> int:
        """The file offset of an address of code."""
        found = file_offset(self.elf, address)
        if found is None:
            raise InsituError(f"{self.path}: {address:#x} is not in the file")
        return found

    def lines(self, function: str) -> tuple[str, list[SourceLine]]:
        """The source file of a function and its lines, with where the code of each begins. The text of a line is
        empty where the source file cannot be read."""
        return self._code_lines(self.function(function))

    def _code_lines(self, start: int) -> tuple[str, list[SourceLine]]:
        file, first = self._declared(start)
        name = self._lines.find(np.array([start], np.uint64))[0][-1].function
        addresses = {first: start}
        for row in self._lines.rows(lambda each: each == file):
            outer = row.chain[-1]
            if outer.function == name and outer.file == file and outer.line:
                addresses[outer.line] = min(addresses.get(outer.line, row.address), row.address)
        try:
            text = read_foreign(file, _MOST_SOURCE_BYTES).decode(errors="replace").split("\n")
        except OSError:
            text = []
        last = max((each for each in addresses if each < first + _MOST_LINES), default=first)
        return file, [
            SourceLine(number, text[number - 1] if number <= len(text) else "", addresses.get(number))
            for number in range(first, last + 1)
        ]

    def argument(self, scope: Scope, address: int, text: str) -> str:
        """The fetch argument of a variable, a member of one (``at->x``) or an element (``argv[1]``) at an address."""
        if not _ARGUMENT.fullmatch(text):
            raise InsituError(f"{text!r} is not a variable", remedy="such as n, p->next, list[3] or name=%di:s32")
        first = re.split(r"\W", text, maxsplit=1)[0]
        variable = next((each for each in scope.variables if each.name == first), None)
        if variable is None:
            known = [each.name for each in scope.variables]
            what = f"{scope.function} has no variable {first!r} there{nearest(first, known)}"
            raise InsituError(what, remedy=f"it has: {', '.join(known)}" if known else "")
        place, kind, bits = self._located(scope, variable, address), variable.type, None
        for sign, name in _STEP.findall(text, len(first)):
            place, kind, bits = self._step(place, kind, sign, name)
        made = self._fetched(place, kind, bits) if place is not None else None
        if made is None:
            raise self._not_shown(text, variable, kind, address)
        return made

    def _step(
        self, place: Located | None, kind: CType, sign: str, name: str
    ) -> tuple[Located | None, CType, tuple[int, int] | None]:
        """What a member or element of what is there is: where, of which type, and of a bit field its bits."""
        target, offset, bits = kind, 0, None
        if sign == "[":
            if kind.kind not in ("array", "pointer") or kind.target is None or not kind.target.size:
                raise InsituError(f"[{name}]: {kind.name} is neither an array nor a pointer")
            if kind.kind == "array" and int(name) >= kind.length > 0:
                raise InsituError(f"[{name}]: {kind.name} has {kind.length} elements")
            target, offset = kind.target, int(name) * kind.target.size
        else:
            if (sign == "->") != (kind.kind == "pointer"):
                raise InsituError(f"{sign}{name}: {kind.name} is {'not ' * (sign == '->')}a pointer")
            whole = kind.target if kind.kind == "pointer" and kind.target is not None else kind
            members = self._scopes.members(whole) if self._scopes is not None else {}
            if whole.kind == "aggregate" and not members:
                raise InsituError(f"{whole.name} is only declared in the source file, so its members are unknown")
            if name not in members:
                raise InsituError(
                    f"{whole.name} has no member {name!r}{nearest(name, members)}", remedy=", ".join(members)
                )
            offset, target, bits = members[name][1:]
        if place is not None:
            place = pointed_at(place, offset) if kind.kind == "pointer" else part_of(place, offset, target.size)
        return place, target, bits

    def _not_shown(self, text: str, variable: Variable, kind: CType, address: int) -> InsituError:
        """Why a variable or a part of one cannot be shown at an address, and what can."""
        file, line = self._source(address)
        where = f"at {Path(file).name}:{line}"
        shown = f"{text} ({kind.name})"
        if variable.location is None:
            lines = self._lines_that_show(variable.name, address)
            some = ", ".join(map(str, lines[:_MOST_NAMED])) + ", ..." * (len(lines) > _MOST_NAMED)
            return InsituError(
                f"{shown} is optimized out {where}",
                remedy=f"it is known at line {some}"
                if lines
                else f"{variable.name} is known at no line of the function",
            )
        if kind.kind == "aggregate":
            members = self._scopes.members(kind) if self._scopes is not None else {}
            return InsituError(f"{shown} cannot be shown as a whole", remedy=f"its members: {', '.join(members)}")
        if kind.kind == "array" and not kind.is_text and kind.target is not None:
            few = "" if kind.length <= MOST_ELEMENTS else f": at most {MOST_ELEMENTS} elements can"
            return InsituError(f"{shown} cannot be shown as a whole{few}", remedy=f"one element can: {text}[0]")
        return InsituError(f"{shown} cannot be shown {where}: {why_not(variable.location)}")

    def _lines_that_show(self, name: str, address: int) -> list[int]:
        """The lines of the function at an address at whose beginning a variable of that name is somewhere."""
        found = []
        for line in self._code_lines(self.around(address)[1])[1]:
            if line.address is not None:
                variables = self.scope(line.address, 0).variables
                if any(each.name == name and each.location is not None for each in variables):
                    found.append(line.number)
        return found

    def is_visible(self, scope: Scope, variable: Variable, address: int) -> bool:
        """Whether a dynamic event can show a variable there; of a struct, its members."""
        place = self._located(scope, variable, address)
        if place is None:
            return False
        return variable.type.kind == "aggregate" or self._fetched(place, variable.type) is not None

    def in_memory(self, scope: Scope, names: list[str]) -> bool:
        """Whether one of these variables is in the frame, where only the prologue puts it."""
        places = [self._located(scope, each, scope.start) for each in scope.variables if each.name in names]
        return any(place is not None and place.form == "memory" for place in places)

    def _located(self, scope: Scope, variable: Variable, address: int) -> Located | None:
        if variable.location is None:
            return None
        return located(variable.location, scope.frame_base, self._cfa(address))

    def _fetched(self, place: Located, kind: CType, bits: tuple[int, int] | None = None) -> str | None:
        return fetched(place, kind, self._machine, bits=bits, static=self._static)

    def _static(self, address: int) -> str:
        """What stands for an address of data: in the kernel a symbol, in a program an offset in its file."""
        if self._is_kernel:
            variable = self._data.around(address) if address >= _LOWEST_KERNEL else None  # below: of each CPU
            return f"@{variable[0]}+{address - variable[1]}" if variable is not None else ""
        found = file_offset(self.elf, address)
        return "" if found is None else f"@+{found}"

    @cached_property
    def _data(self) -> Variables:
        return Variables(self.elf)

    @cached_property
    def _frames(self) -> CallFrames:
        return CallFrames(self.elf, self._machine.columns)

    def _cfa(self, address: int) -> tuple[int, int] | None:
        def intern(row: Row) -> int:
            self._rows.append(row)
            return len(self._rows) - 1

        number = int(self._frames.rows(np.array([address], np.uint64), intern)[0])
        cfa = self._rows[number].cfa if number >= 0 else None
        return cfa if isinstance(cfa, tuple) else None


def kernel_code(path: str | None = None) -> UserCode:
    """The running kernel with its debug information: the vmlinux at ``path``, else where packages install it.

    Raises InsituError where there is none, and for that of another kernel.
    """
    return UserCode(find_vmlinux(path), is_kernel=True)
