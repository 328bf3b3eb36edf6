"""Function lookup against perf: the same name at every address of real files."""

import sys
from pathlib import Path

import numpy as np

from insitu.symbols.debug_files import find_debug_file
from insitu.symbols.demangle import demangle
from insitu.symbols.elf import NO_ADDRESS, Elf
from insitu.symbols.functions import FunctionTable

from .symbols_peer import INLINES_CPP, compiled, needs, perf_names


def our_names(path: Path, file_offsets: list[int]) -> list[str]:
    elf = Elf(path)
    debug = None if elf.section(".symtab") else find_debug_file(elf, path)
    table = FunctionTable(debug or elf, elf, demangle)
    found = table.find(elf.vaddrs_of(np.array(file_offsets, np.uint64))).tolist()
    return [table.name(function) if function >= 0 else "[unknown]" for function in found]


def text_offsets(path: Path, count: int) -> list[int]:
    """Evenly spread offsets of the file's .text, where perf's answer does not hang on the shape of its tree."""
    section = Elf(path).section(".text")
    assert section is not None
    return np.unique(np.linspace(section.offset, section.offset + section.size - 1, count).astype(int)).tolist()


@needs("perf")
def test_names_of_a_cpp_program_are_those_of_perf(tmp_path: Path) -> None:
    program = compiled(tmp_path, INLINES_CPP, "-g", "-O2")
    offsets = text_offsets(program, 3000)
    names = our_names(program, offsets)
    assert names == perf_names(tmp_path, program, offsets)
    assert {"main", "outer::top", "outer::Box<long>::spin", "outer::Box<unsigned int>::spin"} <= set(names)


def _libraries() -> list[Path]:
    """Files that this process has mapped: the C library, libstdc++ where it is, and the interpreter's own."""
    import ctypes

    ctypes.CDLL("libstdc++.so.6")
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "r-xp" in line}
    wanted = ("libc.so", "libm.so", "libstdc++", "libpython", "ld-linux")
    return [Path(path) for path in sorted(paths) if Path(path).name.startswith(wanted)]


@needs("perf")
def test_names_in_the_libraries_of_this_process_are_those_of_perf(tmp_path: Path) -> None:
    libraries = [*_libraries(), Path(sys.executable).resolve()]
    assert len(libraries) > 2
    for path in libraries:
        offsets = text_offsets(path, 3000)
        assert our_names(path, offsets) == perf_names(tmp_path, path, offsets), path


PREFERENCES_C = r"""
int shared(void) { return 1; }
int __shared_hidden_longer(void) __attribute__((alias("shared")));
int weaker_but_longer_name(void) __attribute__((weak, alias("shared")));
static int local_alias(void) __attribute__((alias("shared"), used));
__asm__(".text\n.globl sizeless\n.type sizeless,@function\nsizeless:\n nop\n nop\n ret\n"
        "plain_label:\n nop\n nop\n ret\n"
        ".globl outer\n.type outer,@function\nouter:\n nop\n nop\nouter_end: .size outer, 3\n");
int odd(void) __asm__("\"<script>alert(1)</script>\"");
int odd(void) { return shared(); }
int main(void) { return odd(); }
"""


@needs("perf")
def test_aliases_labels_and_sizeless_symbols_are_chosen_as_perf_chooses(tmp_path: Path) -> None:
    program = compiled(tmp_path, PREFERENCES_C, "-O0")
    section = Elf(program).section(".text")
    assert section is not None
    offsets = list(range(section.offset, section.offset + section.size))
    names = our_names(program, offsets)
    assert names == perf_names(tmp_path, program, offsets)
    assert {"shared", "sizeless", "plain_label", "<script>alert(1)</script>"} <= set(names)


def test_stubs_of_the_linkage_table_are_named_for_what_they_call(tmp_path: Path) -> None:
    source = 'int puts(const char *); int main(void) { return puts("x"); }\n'
    program = compiled(tmp_path, source, "-O0", "-Wl,-z,lazy")
    section = Elf(program).section(".plt")
    assert section is not None
    names = our_names(program, list(range(section.offset + 16, section.offset + section.size)))
    assert set(names) == {"puts@plt"}


def test_an_enclosing_function_holds_after_a_smaller_one_in_it_has_ended(tmp_path: Path) -> None:
    code = "\\n ".join(["nop"] * 8)
    source = (
        f'__asm__(".text\\n.globl wide\\n.type wide,@function\\nwide: {code}\\n.globl narrow\\n'
        f'.type narrow,@function\\nnarrow: nop\\n .size narrow, 1\\n {code}\\n .size wide, 17\\n");\n'
        "int main(void) { return 0; }\n"
    )
    program = compiled(tmp_path, source)
    elf = Elf(program)
    table = FunctionTable(elf, elf, demangle)
    symbols = elf.symbols(".symtab")
    assert symbols is not None
    at = next(int(e["value"]) for e in symbols.entries if symbols.name(int(e["name"])) == b"wide")
    found = table.find(np.array([at, at + 8, at + 9, at + 16, NO_ADDRESS], np.uint64)).tolist()
    assert [table.name(f) if f >= 0 else "" for f in found] == ["wide", "narrow", "wide", "wide", ""]


def test_a_file_without_symbols_names_nothing(tmp_path: Path) -> None:
    header = bytearray(compiled(tmp_path, "int main(void) { return 0; }\n").read_bytes())
    header[40:48] = bytes(8)  # e_shoff
    elf = Elf(bytes(header))
    assert FunctionTable(elf, elf, demangle).find(np.array([0x1000], np.uint64)).tolist() == [-1]
