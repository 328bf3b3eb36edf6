"""Writes LLVM IR as text: functions, registers, blocks, BPF helper calls, source locations.

The text form is built here rather than by llvmlite's object model: it is several times faster, and lets every
instruction carry its location in the script, from which LLVM makes the table that maps instructions back to lines.
"""

from __future__ import annotations

from insitu.probe.codegen.helpers import SAME_THROUGHOUT
from insitu.probe.codegen.markers import Marker, Patch

__all__ = ["Function", "Module"]


_HEADER = """target datalayout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
target triple = "bpf"
declare i64 @llvm.bpf.pseudo(i64, i64)
declare ptr @llvm.preserve.static.offset(ptr)
declare i64 @llvm.bswap.i64(i64)
declare i32 @llvm.bswap.i32(i32)
declare i16 @llvm.bswap.i16(i16)
attributes #0 = { nounwind willreturn memory(none) }
"""


# LLVM quotes the script's lines to the verifier, in time that grows with the square of their number.
_MOST_QUOTED_LINES = 2_000


class Module:
    """A whole LLVM module. ``functions`` are rendered in the order they were made."""

    def __init__(self, file_name: str, text: str = "") -> None:
        """``text``: the script's. Without it LLVM would open a file of that name, be it a FIFO or another one."""
        self.functions: list[Function] = []
        self.lines = 0  # of all functions
        source = _escaped(text) if text.count("\n") <= _MOST_QUOTED_LINES else ""
        self._metadata: list[str] = [
            "distinct !DICompileUnit(language: DW_LANG_C99, file: !1, producer: "
            '"insitu", isOptimized: true, runtimeVersion: 0, emissionKind: FullDebug)',
            f'!DIFile(filename: "{_quoted(file_name)}", directory: "", source: "{source}")',
            '!{i32 2, !"Debug Info Version", i32 3}',
            "!DISubroutineType(types: !4)",
            "!{null}",
        ]

    def metadata(self, text: str) -> str:
        """Add a metadata node: its reference."""
        self._metadata.append(text)
        return f"!{len(self._metadata) - 1}"

    def render(self) -> str:
        """The module's text."""
        parts = [_HEADER, *(function.render() for function in self.functions)]
        parts.append("!llvm.dbg.cu = !{!0}\n!llvm.module.flags = !{!2}\n")
        parts.extend(f"!{number} = {text}\n" for number, text in enumerate(self._metadata))
        return "".join(parts)


class Function:
    """One function in its own section. Scalars are i64 registers, named by the strings that methods return.

    Instructions are appended to the current block; ``allocate`` and ``setup`` lines go in front of all of them.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        line: int,
        section: str,
        *,
        parameters: str = "ptr %ctx",
        callback: bool = False,
        result: str = "0",
    ) -> None:
        """``callback``: a function that only this module calls, or passes on to be called back.

        ``result``: what is returned for "0", which is what programs return that have nothing to say.
        """
        self.module = module
        self.result = result
        self.name = name
        self.section = section
        self._parameters = parameters
        self._linkage = "internal " if callback else ""
        self._scope = module.metadata(
            f'distinct !DISubprogram(name: "{name}", scope: !1, file: !1, line: {line}, type: !3, '
            f"spFlags: DISPFlagDefinition{' | DISPFlagLocalToUnit' if callback else ''}, unit: !0)"
        )
        self._places: dict[tuple[int, int], str] = {}
        self._allocations: list[str] = []
        self._areas: dict[str, int] = {}
        self._setup: list[str] = []
        self._body: list[str] = ["body:\n"]
        self._next = 0
        self._suffix = ""
        self.block_name = "body"
        self.terminated = False
        self.branches = 0
        self.at(line, 1)
        module.functions.append(self)

    def at(self, line: int, column: int) -> None:
        """Set the script location of what follows."""
        place = (line, min(column, 1023))
        if place not in self._places:
            self._places[place] = self.module.metadata(
                f"!DILocation(line: {place[0]}, column: {place[1]}, scope: {self._scope})"
            )
        self._suffix = f", !dbg {self._places[place]}\n"

    @property
    def lines(self) -> int:
        """How many lines have been appended."""
        return len(self._body) + len(self._setup)

    def render(self) -> str:
        """The function's text."""
        head = f"define {self._linkage}i64 @{self.name}({self._parameters}) noinline "
        head += f'section "{self.section}" !dbg {self._scope} {{\nentry:\n'
        if not self.terminated:
            self.ret("0")
        areas = (f"  {name} = alloca [{size // 8} x i64], align 8\n" for name, size in self._areas.items())
        return "".join([head, *areas, *self._allocations, *self._setup, "  br label %body\n", *self._body, "}\n"])

    # Registers and blocks

    def name_register(self) -> str:
        """A register name not used yet."""
        self._next += 1
        return f"%v{self._next}"

    def label(self) -> str:
        """A block name not used yet."""
        self._next += 1
        return f"b{self._next}"

    def emit(self, text: str) -> None:
        """Append an instruction without a result; after a terminator it is unreachable and dropped."""
        if not self.terminated:
            self._body.append(f"  {text}{self._suffix}")
            self.module.lines += 1

    def value(self, text: str) -> str:
        """Append an instruction: the register with its result."""
        register = self.name_register()
        self.emit(f"{register} = {text}")
        return register if not self.terminated else "undef"

    def block(self, label: str) -> None:
        """Begin a block; the one before falls into it if it did not end."""
        if not self.terminated:
            self.branch(label)
        self._body.append(f"{label}:\n")
        self.module.lines += 1
        self.block_name = label
        self.terminated = False

    def branch(self, label: str) -> None:
        """End the block with a jump."""
        self.emit(f"br label %{label}")
        self.terminated = True

    def branch_if(self, truth: str, yes: str, no: str) -> None:
        """End the block: to ``yes`` when the i1 register is true, else to ``no``."""
        self.emit(f"br i1 {truth}, label %{yes}, label %{no}")
        self.branches += 1
        self.terminated = True

    def ret(self, value: str) -> None:
        """Leave the function."""
        self.emit(f"ret i64 {self.result if value == '0' else value}")
        self.terminated = True

    def phi(self, kind: str, *incoming: tuple[str, str]) -> str:
        """A value that depends on the block we came from: pairs of value and block name."""
        return self.value(f"phi {kind} " + ", ".join(f"[ {value}, %{block} ]" for value, block in incoming))

    def truth(self, value: str) -> str:
        """i1: whether an i64 is not zero."""
        return self.value(f"icmp ne i64 {value}, 0")

    def is_null(self, pointer: str) -> str:
        """i1: whether a pointer is null."""
        return self.value(f"icmp eq ptr {pointer}, null")

    def compare(self, predicate: str, left: str, right: str) -> str:
        """i64 0 or 1: an icmp of two i64."""
        flag = self.value(f"icmp {predicate} i64 {left}, {right}")
        return self.value(f"zext i1 {flag} to i64")

    def op(self, name: str, left: str, right: str) -> str:
        """An i64 instruction of two operands."""
        return self.value(f"{name} i64 {left}, {right}")

    def select(self, truth: str, yes: str, no: str) -> str:
        """``yes`` if the i1 is true, else ``no``; both i64."""
        return self.value(f"select i1 {truth}, i64 {yes}, i64 {no}")

    def hidden(self, value: str) -> str:
        """The same i64, opaque to LLVM: checks of its bounds stay where the verifier sees them."""
        return self.value(f'call i64 asm sideeffect "", "=r,0"(i64 {value})')

    # Memory

    def allocate(self, size: int) -> str:
        """``size`` bytes of stack, aligned to 8, for the function's whole life: a pointer."""
        register = self.name_register()
        count = -(-size // 8)
        self._allocations.append(f"  {register} = alloca [{count} x i64], align 8\n")
        return register

    def grow(self, area: str, size: int) -> int:
        """Make a part of the stack, named by its register, larger by ``size`` bytes: where in it they begin."""
        at = self._areas.get(area, 0)
        self._areas[area] = at + -(-size // 8) * 8
        return at

    def setup(self, text: str) -> None:
        """Append a line to what runs once, before the body."""
        self._setup.append(text)

    def setup_value(self, text: str) -> str:
        """Append an instruction to what runs once, before the body: the register with its result."""
        register = self.name_register()
        self._setup.append(f"  {register} = {text}\n")
        return register

    def offset(self, pointer: str, offset: int | str) -> str:
        """A pointer ``offset`` bytes on."""
        if offset == 0:
            return pointer
        return self.value(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def load(
        self, pointer: str, size: int = 8, *, signed: bool = False, volatile: bool = False, align: int = 0
    ) -> str:
        """``size`` bytes as an i64, zero- or sign-extended. The address is a multiple of ``align`` (else of size)."""
        word = f"i{8 * size}"
        alignment = "" if volatile else f", align {align or size}"
        raw = self.value(f"load {'volatile ' if volatile else ''}{word}, ptr {pointer}{alignment}")
        return raw if size == 8 else self.value(f"{'sext' if signed else 'zext'} {word} {raw} to i64")

    def store(self, value: str, pointer: str, size: int = 8) -> None:
        """The low ``size`` bytes of an i64."""
        if size != 8:
            value = self.value(f"trunc i64 {value} to i{8 * size}")
        self.emit(f"store i{8 * size} {value}, ptr {pointer}, align {size}")

    def zero(self, pointer: str, size: int) -> None:
        """Clear ``size`` bytes (a multiple of 8)."""
        for at in range(0, size, 8):
            self.store("0", self.offset(pointer, at))

    def copy(self, destination: str, source: str, size: int) -> None:
        """Copy ``size`` bytes (a multiple of 8) between pointers that programs may dereference."""
        for at in range(0, size, 8):
            self.store(self.load(self.offset(source, at)), self.offset(destination, at))

    def address(self, pointer: str) -> str:
        """A pointer as i64."""
        return self.value(f"ptrtoint ptr {pointer} to i64")

    def pointer(self, address: str) -> str:
        """An i64 as a pointer."""
        return self.value(f"inttoptr i64 {address} to ptr")

    # Calls

    def call(self, helper: int, *arguments: str, answers: str = "i64") -> str:
        """Call a BPF helper by number. Arguments carry their LLVM type: "i64 5", "ptr %v3"."""
        attributes = " #0" if helper in SAME_THROUGHOUT else ""
        return self.value(f"call {answers} inttoptr (i64 {int(helper)} to ptr)({', '.join(arguments)}){attributes}")

    def map(self, number: int) -> str:
        """A reference to our map ``number``, as an argument."""
        return "i64 " + self.value(f"call i64 @llvm.bpf.pseudo(i64 {int(Marker.MAP)}, i64 {number})")

    def map_value(self, number: int) -> str:
        """A pointer to the first value of an ARRAY map: no lookup, never null."""
        return self.pointer(self.value(f"call i64 @llvm.bpf.pseudo(i64 {int(Marker.MAP_VALUE)}, i64 {number})"))

    def patched(self, constant: Patch) -> str:
        """A constant that the loader fills in."""
        return self.value(f"call i64 @llvm.bpf.pseudo(i64 {int(Marker.PATCH)}, i64 {int(constant)})")


def _escaped(text: str) -> str:
    """A text as a string of LLVM's language."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:02X}" for c in data)


def _quoted(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in text)
