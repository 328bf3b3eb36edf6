"""LLVM IR to BPF instructions: LLVM makes an ELF object, of which we read the code, the line table and the BTF.

Formats: ELF64 little endian; .BTF.ext as in Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import re
import struct

from msgspec import Struct

from insitu.probe.codegen.llvm import Module

__all__ = ["ObjectCode", "Section", "compile_ir", "optimized_ir"]

_SHT_SYMTAB, _SHT_REL = 2, 9
_R_BPF_64_64, _R_BPF_64_32 = 1, 10
# Bytes of IR. Time in LLVM's full pipeline grows with the square of a function's size; larger ones get the passes
# which do most of the good in linear time.
_LARGE_FUNCTION = 200_000
_KEPT_OFFSET = r"call ptr @llvm\.preserve\.static\.offset\(ptr (%\w+)\)"
_PSEUDO_FUNC = 4  # BPF_PSEUDO_FUNC: the address of a function of this program


class Section(Struct, frozen=True):
    """One program: its instructions, and for each line change (instruction number, line, column).

    ``functions`` are (first instruction, BTF type id); ``line_info`` struct bpf_line_info entries.
    """

    code: bytes
    lines: tuple[tuple[int, int, int], ...]
    functions: tuple[tuple[int, int], ...]
    line_info: bytes


class ObjectCode(Struct, frozen=True):
    """All programs by section name, and the BTF that their functions and lines refer to."""

    sections: dict[str, Section]
    btf: bytes


def _optimized(text: str) -> Module:
    large = _largest_function(text) >= _LARGE_FUNCTION
    if large:
        # Of the full pipeline's passes that move loads from the context, none is run; nor the one that removes this.
        text = re.sub(
            r"call ptr @llvm\.preserve\.static\.offset\(ptr (%\w+)\)", r"getelementptr i8, ptr \1, i64 0", text
        )
    module = Module(text)
    module.optimize(in_linear_time=large)
    return module


def _largest_function(text: str) -> int:
    return max(map(len, text.split("\ndefine ")))


def optimized_ir(text: str) -> str:
    """The module as LLVM has optimized it."""
    with _optimized(text) as module:
        return str(module)


def compile_ir(text: str) -> ObjectCode:
    """Compile a module.

    :raises InsituError: when LLVM cannot, such as when a program needs more than 512 bytes of stack.
    """
    with _optimized(text) as module:
        return _read(module.object_code())


def _read(data: bytes) -> ObjectCode:
    (table_offset,) = struct.unpack_from("<Q", data, 40)
    entry_size, count, names_index = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table_offset + i * entry_size) for i in range(count)]

    def content(index: int) -> bytes:
        return data[headers[index][4] : headers[index][4] + headers[index][5]]

    names = content(names_index)

    def name(offset: int) -> str:
        return names[offset : names.index(b"\0", offset)].decode()

    by_name = {name(header[0]): index for index, header in enumerate(headers)}
    symbols = next((content(i) for i, header in enumerate(headers) if header[1] == _SHT_SYMTAB), b"")
    codes: dict[str, bytearray] = {}
    for section, index in by_name.items():
        if section.startswith("p") and headers[index][5]:
            codes[section] = bytearray(content(index))
    for index, header in enumerate(headers):
        if header[1] == _SHT_REL:
            section = name(headers[header[7]][0])
            if section in codes:
                _relocate(codes[section], content(index), symbols)
    extra = content(by_name[".BTF.ext"]) if ".BTF.ext" in by_name else b""
    btf = content(by_name[".BTF"]) if ".BTF" in by_name else b""
    functions, lines = _read_ext(extra, btf)
    return ObjectCode(
        {
            section: Section(
                bytes(code),
                tuple((at // 8, word >> 10, word & 1023) for at, _, _, word in lines.get(section, [])),
                tuple((at // 8, type_id) for at, type_id in functions.get(section, [])),
                b"".join(struct.pack("<IIII", at // 8, f, n, word) for at, f, n, word in lines.get(section, [])),
            )
            for section, code in codes.items()
        },
        btf,
    )


def _relocate(code: bytearray, relocations: bytes, symbols: bytes) -> None:
    """Resolve addresses of functions within the section (callbacks), the only relocations in our code."""
    for offset, info in struct.iter_unpack("<QQ", relocations):
        kind, symbol = info & 0xFFFFFFFF, info >> 32
        (value,) = struct.unpack_from("<Q", symbols, symbol * 24 + 8)
        here = offset // 8
        if kind == _R_BPF_64_64:
            (addend,) = struct.unpack_from("<i", code, offset + 4)
            code[offset + 1] = (code[offset + 1] & 0x0F) | _PSEUDO_FUNC << 4
            struct.pack_into("<i", code, offset + 4, (value + addend) // 8 - here - 1)
        elif kind == _R_BPF_64_32:
            (addend,) = struct.unpack_from("<i", code, offset + 4)
            struct.pack_into("<i", code, offset + 4, (value // 8 + addend + 1) - here - 1)


_Table = dict[str, list[tuple[int, ...]]]


def _read_ext(extra: bytes, btf: bytes) -> tuple[_Table, _Table]:
    """func_info and line_info of .BTF.ext by section; the strings are those of .BTF."""
    if not extra or not btf:
        return {}, {}
    (header_size,) = struct.unpack_from("<I", btf, 4)
    string_offset, string_size = struct.unpack_from("<II", btf, 16)
    strings = btf[header_size + string_offset : header_size + string_offset + string_size]
    (ext_header,) = struct.unpack_from("<I", extra, 4)
    func_offset, func_size, line_offset, line_size = struct.unpack_from("<IIII", extra, 8)

    def table(offset: int, size: int, words: int) -> _Table:
        found: _Table = {}
        if not size:
            return found
        at, end = ext_header + offset + 4, ext_header + offset + size
        (record_size,) = struct.unpack_from("<I", extra, at - 4)
        while at < end:
            section_name, count = struct.unpack_from("<II", extra, at)
            at += 8
            section = strings[section_name : strings.index(b"\0", section_name)].decode()
            for _ in range(count):
                found.setdefault(section, []).append(struct.unpack_from(f"<{words}I", extra, at))
                at += record_size
        return found

    return table(func_offset, func_size, 2), table(line_offset, line_size, 4)


def disassembly(text: str) -> str:
    """The module's BPF assembly, as LLVM writes it."""
    with _optimized(text) as module:
        assembly = module.assembly()
    kept = (line for line in assembly.splitlines() if not re.match(r"\s*\.(loc|file|section|cfi|p2align)", line))
    return "\n".join(kept).split("\t.ident")[0]
