"""A program's types: DWARF converted to BTF, against what the compiler itself says of the same source."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.symbols import dwarf_types
from insitu.symbols.btf import Kind
from insitu.symbols.dwarf_types import BinaryTypes
from insitu.symbols.elf import Elf
from insitu.symbols.reader_limits import ReaderLimits

SOURCE = r"""
#include <stddef.h>
#include <stdio.h>
enum class Colour : long { Red = -3, Huge = 1L << 40 };
struct Node { Node *next; union { int number; char letters[8]; }; unsigned low : 3, high : 7; };
typedef Node *List;
namespace ns {
struct Tree { List list; Colour colour; const char *const *names; int grid[2][5]; double weight; bool leaf; };
struct Klass { long own; int method(const Tree *tree, unsigned short count); };
__attribute__((noinline)) int Klass::method(const Tree *tree, unsigned short count) {
    return own + tree->leaf + count;
}
}
extern "C" __attribute__((noinline)) double scale(int (*callback)(List, ...), float factor, long times) {
    return factor * times + (callback != 0);
}
#define AT(type, f) printf(#f " %zu\n", offsetof(type, f))
int main(void) {
    using ns::Tree;
    Tree tree = {};
    ns::Klass klass = {};
    AT(Tree, list); AT(Tree, colour); AT(Tree, names); AT(Tree, grid); AT(Tree, weight); AT(Tree, leaf);
    printf("sizeof %zu\n", sizeof(Tree));
    return klass.method(&tree, 1) + scale(0, 1, 2);
}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[BinaryTypes, dict[str, int]]:
    directory = tmp_path_factory.mktemp("dwarf")
    (directory / "t.cc").write_text(SOURCE)
    subprocess.run(["g++", "-g", "-O1", "-Wno-invalid-offsetof", "t.cc", "-o", "t"], cwd=directory, check=True)
    lines = subprocess.run([directory / "t"], capture_output=True, text=True, check=False).stdout.splitlines()
    path = str(directory / "t")
    return BinaryTypes(Elf(path)), {name: int(at) for name, at in (line.split() for line in lines)}


def test_members_lie_where_the_compiler_put_them(built: tuple[BinaryTypes, dict[str, int]]) -> None:
    types, offsets = built
    tree = types.find("ns::Tree", "struct")
    assert tree is not None
    expected = dict(offsets)
    assert tree.size == expected.pop("sizeof")
    for name, offset in expected.items():
        member = tree.member(name)
        assert member is not None
        assert member.bit_offset == 8 * offset, name


def test_types_keep_their_shape(built: tuple[BinaryTypes, dict[str, int]]) -> None:
    tree = built[0].find("ns::Tree", "struct")
    assert tree is not None
    shown = {member.name: member.type.declaration(member.name) for member in tree.fields()}
    assert shown["list"] == "List list"
    assert shown["names"] == "const char *const *names"
    assert shown["grid"] == "int grid[2][5]"
    assert shown["weight"] == "double weight"
    colour = tree.member("colour")
    assert colour is not None
    assert colour.type.enumerators == {"Red": -3, "Huge": 1 << 40}


def test_a_typedef_leads_through_pointers_to_anonymous_members_and_bit_fields(
    built: tuple[BinaryTypes, dict[str, int]],
) -> None:
    node_list = built[0].find("List")
    assert node_list is not None
    node = node_list.strip().target
    assert node.kind == Kind.STRUCT
    assert [member.name for member in node.fields()] == ["next", "number", "letters", "low", "high"]
    low, high = node.member("low"), node.member("high")
    assert low and high
    assert (low.bit_size, high.bit_size) == (3, 7)
    assert high.bit_offset == low.bit_offset + 3
    following = node.member("next")
    assert following is not None
    assert following.type.strip().target == node


def test_functions_have_their_parameters(built: tuple[BinaryTypes, dict[str, int]]) -> None:
    method = built[0].function("ns::Klass::method")
    assert method is not None
    assert [(p.name, p.type.declaration()) for p in method.parameters][1:] == [
        ("tree", "const struct Tree *"),
        ("count", "unsigned short"),
    ]
    assert method.parameters[0].name == "this"
    scale = built[0].function("scale")
    assert scale is not None
    assert scale.declaration() == "double scale(int (*callback)(List, ...), float factor, long times)"


def test_what_is_not_there_is_none(built: tuple[BinaryTypes, dict[str, int]], tmp_path: Path) -> None:
    assert built[0].function("no_such_function") is None
    assert built[0].find("no_such_type", "struct") is None
    (tmp_path / "plain.c").write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "plain.c", "-o", "plain"], cwd=tmp_path, check=True)
    plain = str(tmp_path / "plain")
    assert BinaryTypes(Elf(plain)).function("main") is None


def damaged_by(tmp_path: Path, *options: str, compress: bool = False) -> Path:
    """A program whose debug information objcopy has changed with these options."""
    (tmp_path / "t.c").write_text("struct pair { int first; }; struct pair global; int main(void) { return 0; }")
    gcc = ["gcc", "-g", "-gdwarf-5", *(["-gz=zlib"] if compress else []), "t.c", "-o", "t"]
    subprocess.run(gcc, cwd=tmp_path, check=True)
    subprocess.run(["objcopy", *options, "t", "damaged"], cwd=tmp_path, check=True)
    return tmp_path / "damaged"


def look_ups(path: Path) -> list[Callable[[], object]]:
    types = BinaryTypes(Elf(path))
    return [lambda: types.find("pair", "struct"), lambda: types.function("main"), lambda: types.enumerator("RED")]


def test_damaged_debug_information_is_one_line_with_the_file(tmp_path: Path) -> None:
    # Names of entries are offsets into .debug_str (DWARF 5, 7.5.5, DW_FORM_strp), which is taken away.
    path = damaged_by(tmp_path, "--remove-section", ".debug_str")
    for look_up in look_ups(path):
        with pytest.raises(InsituError, match=f"^{path}: debug information is damaged: [^\n]*$"):
            look_up()


def test_a_section_that_cannot_be_decompressed_is_one_line_with_the_file(tmp_path: Path) -> None:
    path = damaged_by(tmp_path, compress=True)
    image, info = bytearray(path.read_bytes()), Elf(path).section(".debug_info")
    assert info is not None and info.compressed
    image[info.offset + 24 : info.offset + info.size] = bytes(info.size - 24)  # what follows Elf64_Chdr
    path.write_bytes(image)
    for look_up in look_ups(path):
        with pytest.raises(InsituError, match=f"^{path}: debug information is damaged: libelf[^\n]*$"):
            look_up()


def test_a_type_whose_name_is_not_utf_8_is_a_declaration_without_a_name(tmp_path: Path) -> None:
    pair = "struct foreign { int x; }; struct pair { struct foreign *other; int n; } global;"
    (tmp_path / "t.c").write_text(f"{pair} int main(void) {{ return 0; }}")
    subprocess.run(["gcc", "-g", "t.c", "-o", "t"], cwd=tmp_path, check=True)
    path = tmp_path / "t"
    path.write_bytes(path.read_bytes().replace(b"foreign\0", b"\xbforeign\0"))
    found = BinaryTypes(Elf(path)).find("pair", "struct")
    assert found is not None
    assert [member.name for member in found.members] == ["other", "n"]
    assert (found.members[0].type.target.kind, found.members[0].type.target.name) == (Kind.FWD, "")


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (ReaderLimits(1 << 27, 20), "damaged"),  # drgn does not even start
        (f"a file of {10**12} MB", f"a file of {10**12} MB"),
    ],
)
def test_debug_information_that_takes_too_much_is_one_line_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: ReaderLimits | str, why: str
) -> None:
    path = damaged_by(tmp_path)
    tried: list[int] = []
    monkeypatch.setattr(dwarf_types, "reader_limits", lambda size, debug: tried.append(size) or limits)
    for look_up in look_ups(path)[:2] * 2:
        with pytest.raises(InsituError, match=f"^{path}: debug information cannot be read: {why}$"):
            look_up()
    assert tried == [path.stat().st_size]


def test_the_end_of_the_process_that_reads_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = damaged_by(tmp_path)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *words, **named: started.append(popen(*words, **named)) or started[-1]
    )
    types = BinaryTypes(Elf(path))
    assert types.find("pair", "struct") is not None
    os.kill(started[0].pid, signal.SIGSEGV)
    with pytest.raises(InsituError, match=r"cannot be read: its reader ended with SIGSEGV$"):
        types.function("main")
    assert types.find("pair", "struct") is not None
    assert len(started) == 1


def test_what_was_asked_before_is_read_from_the_cache_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = tmp_path / "t"
    build = ["gcc", "-g", "-x", "c", "-", "-o", program]
    subprocess.run(build, input="int f(short a) { return a; } int main(void) { return f(1); }", text=True, check=True)

    def parameters() -> list[int] | None:
        found = BinaryTypes(Elf(str(program))).function("f")
        return found and [each.type.size for each in found.target.parameters]

    def no_process(*words: object) -> None:
        raise AssertionError("asked again")

    assert parameters() == [2]
    with monkeypatch.context() as patch:
        patch.setattr(dwarf_types, "_Process", no_process)
        assert parameters() == [2]
    for stored in (tmp_path / "insitu/types").iterdir():
        stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    assert parameters() == [2]
    program.unlink()
    subprocess.run(build, input="int f(long a) { return a; } int main(void) { return f(1); }", text=True, check=True)
    assert parameters() == [8]
