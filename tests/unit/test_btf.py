"""BTF: against gcc's own idea of the same C (offsetof, sizeof), and under damage."""

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.symbols.btf import Btf, Kind

SOURCE = r"""
#include <stdio.h>
#include <stddef.h>
typedef unsigned int u32;
typedef const volatile u32 fixed_u32;
enum colour { RED = 3, GREEN, BLUE = 7 };
struct inner { short a; union { int number; char letters[4]; }; };
struct outer {
    char tag;
    struct inner nested[3];
    unsigned low : 3, high : 7;
    signed int small : 5;
    struct { u32 deep; struct { long deeper; }; };
    int (*callback)(struct outer *self, const char *name, ...);
    enum colour colour;
    fixed_u32 *pointer;
    _Bool flag;
    double real;
    int grid[7];
};
struct outer instance;
int entry(struct outer *o, u32 n) { return o->tag + n; }
#define AT(f) printf(#f " %zu\n", offsetof(struct outer, f))
int main(void) {
    AT(tag); AT(nested); AT(deep); AT(deeper); AT(callback); AT(colour); AT(pointer); AT(flag); AT(real); AT(grid);
    printf("sizeof %zu\n", sizeof(struct outer));
    return entry(&instance, 1);
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, int]]:
    """The .BTF section that gcc makes of SOURCE, and the offsets that the compiled program prints."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    directory = tmp_path_factory.mktemp("btf")
    (directory / "t.c").write_text(SOURCE)
    subprocess.run(["gcc", "-gbtf", "-c", "t.c", "-o", "t.o"], cwd=directory, check=True)
    subprocess.run(["objcopy", "--dump-section", ".BTF=t.btf", "t.o"], cwd=directory, check=True)
    subprocess.run(["gcc", "t.c", "-o", "t"], cwd=directory, check=True)
    lines = subprocess.run([directory / "t"], capture_output=True, text=True, check=False).stdout.split("\n")
    return (directory / "t.btf").read_bytes(), {
        name: int(at) for name, at in (line.split() for line in lines if line)
    }


@pytest.fixture(scope="module")
def btf(compiled: tuple[bytes, dict[str, int]]) -> Btf:
    return Btf(compiled[0], "t.btf")


def test_members_lie_where_the_compiler_put_them(btf: Btf, compiled: tuple[bytes, dict[str, int]]) -> None:
    outer = btf.find("outer", Kind.STRUCT)
    assert outer is not None
    offsets = dict(compiled[1])
    assert outer.size == offsets.pop("sizeof")
    for name, offset in offsets.items():
        member = outer.member(name)
        assert member is not None
        assert member.bit_offset == 8 * offset, name


def test_bit_fields_have_their_width_and_follow_each_other(btf: Btf) -> None:
    outer = btf.find("outer", Kind.STRUCT)
    assert outer is not None
    low, high, small = outer.member("low"), outer.member("high"), outer.member("small")
    assert low and high and small
    assert (low.bit_size, high.bit_size, small.bit_size) == (3, 7, 5)
    assert high.bit_offset == low.bit_offset + 3
    assert small.bit_offset == high.bit_offset + 7
    assert small.type.signed and not low.type.signed


def test_types_are_rendered_as_c(btf: Btf) -> None:
    outer = btf.find("outer", Kind.STRUCT)
    assert outer is not None
    shown = {member.name: member.type.declaration(member.name) for member in outer.fields()}
    assert shown["callback"] == "int (*callback)(struct outer *, const char *, ...)"
    assert shown["grid"] == "int grid[7]"
    assert shown["nested"] == "struct inner nested[3]"
    assert shown["pointer"] == "fixed_u32 *pointer"


def test_a_rendered_definition_compiles_to_the_same_layout(
    btf: Btf, compiled: tuple[bytes, dict[str, int]], tmp_path: Path
) -> None:
    inner, outer, colour = btf.find("inner"), btf.find("outer"), btf.find("colour")
    assert inner and outer and colour
    size = compiled[1]["sizeof"]
    (tmp_path / "again.c").write_text(
        "typedef unsigned int u32; typedef const volatile u32 fixed_u32;\n"
        + "\n".join(type_.definition() for type_ in (colour, inner, outer))
        + f'\n_Static_assert(sizeof(struct outer) == {size}, "size");\n'
    )
    subprocess.run(["gcc", "-std=gnu11", "-fsyntax-only", "again.c"], cwd=tmp_path, check=True)


def test_enumerators_are_found_by_name(btf: Btf) -> None:
    found = btf.enumerator("RED")
    assert found is not None
    assert found[0].name == "colour"
    assert found[0].enumerators == {"RED": 3, "GREEN": 4, "BLUE": 7}
    assert btf.enumerator("PURPLE") is None


def test_typedef_chains_resolve_and_sizes_multiply(btf: Btf) -> None:
    fixed = btf.find("fixed_u32", Kind.TYPEDEF)
    grid = btf.find("outer").member("grid")  # type: ignore[union-attr]
    assert fixed and grid
    assert fixed.strip().kind == Kind.INT
    assert fixed.strip().size == 4
    assert grid.type.size == 7 * ctypes.sizeof(ctypes.c_int)


def test_a_misspelt_name_gets_the_nearest_ones(btf: Btf) -> None:
    assert btf.nearest("outter", Kind.STRUCT) == ["outer"]


def _blob(types: list[tuple[int, int, int, bytes]], strings: bytes) -> bytes:
    """BTF from (name offset, info, size or type, entries)."""
    body = b"".join(struct.pack("<III", name, info, size) + more for name, info, size, more in types)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def test_a_modules_types_build_on_its_kernels() -> None:
    integer = (1, Kind.INT << 24, 4, struct.pack("<I", 1 << 24 | 32))
    kernel = Btf(_blob([integer], b"\0int\0"), "kernel")
    member = struct.pack("<III", 9, 1, 0)  # name in the module's strings, type in the kernel's
    module = Btf(_blob([(5, Kind.STRUCT << 24 | 1, 4, member)], b"own\0field\0"), "module", kernel)
    own = module.find("own", Kind.STRUCT)
    assert own is not None
    assert own.id == 2
    assert [(m.name, m.type.name) for m in own.members] == [("field", "int")]
    found = module.find("int")
    assert found is not None
    assert found.btf is kernel


def test_a_variable_lies_where_its_section_says() -> None:
    names = b"\0int\0one\0two\0.data..percpu\0lost\0"
    integer = (1, Kind.INT << 24, 4, struct.pack("<I", 1 << 24 | 32))
    one, two, lost = ((names.index(name), Kind.VAR << 24, 1, bytes(4)) for name in (b"one", b"two", b"lost"))
    entries = struct.pack("<IIIIII", 2, 64, 4, 3, 4096, 4)
    section = (names.index(b".data"), Kind.DATASEC << 24 | 2, 8192, entries)
    btf = Btf(_blob([integer, one, two, section, lost], names))
    found = [btf.section_offset(name) for name in ("one", "two", "lost", "int", "none")]
    assert found == [64, 4096, None, None, None]


def test_64_bit_enumerators_keep_all_bits() -> None:
    entries = struct.pack("<III", 1, 0xDDCCBBAA, 0x80000000)
    btf = Btf(_blob([(0, Kind.ENUM64 << 24 | 1, 8, entries)], b"\0HUGE\0"))
    assert btf.enumerator("HUGE") == (btf.type(1), 0x80000000_DDCCBBAA)


def test_a_flagged_enum_is_signed() -> None:
    entries = struct.pack("<Ii", 1, -3)
    type_ = Btf(_blob([(0, 1 << 31 | Kind.ENUM << 24 | 1, 4, entries)], b"\0RED\0")).type(1)
    assert type_.signed
    assert type_.enumerators == {"RED": -3}


def test_an_array_of_arrays_is_declared_outermost_first() -> None:
    # gcc 12 writes the dimensions of nested arrays in the wrong order, so these are written by hand.
    integer = (1, Kind.INT << 24, 4, struct.pack("<I", 1 << 24 | 32))
    row, grid = struct.pack("<III", 1, 1, 5), struct.pack("<III", 2, 1, 2)
    btf = Btf(_blob([integer, (0, Kind.ARRAY << 24, 0, row), (0, Kind.ARRAY << 24, 0, grid)], b"\0int\0"))
    assert btf.type(3).declaration("grid") == "int grid[2][5]"
    assert btf.type(3).size == 2 * 5 * 4


def test_a_typedef_of_itself_ends_in_an_error() -> None:
    with pytest.raises(InsituError, match="without an end"):
        Btf(_blob([(1, Kind.TYPEDEF << 24, 1, b"")], b"\0loop\0")).type(1).strip()


def test_a_struct_that_contains_itself_twice_ends() -> None:
    members = struct.pack("<IIIIII", 0, 1, 0, 0, 1, 0)
    type_ = Btf(_blob([(0, Kind.STRUCT << 24 | 2, 8, members)], b"\0")).type(1)
    with pytest.raises(InsituError, match="without an end"):
        type_.member("x")
    assert "..." in type_.definition()


def test_a_prototype_that_takes_itself_twice_ends() -> None:
    parameters = struct.pack("<IIII", 0, 1, 0, 1)
    btf = Btf(_blob([(0, Kind.FUNC_PROTO << 24 | 2, 0, parameters)], b"\0"))
    assert "..." in btf.type(1).declaration()


def test_a_type_that_runs_over_the_end_is_named_with_its_offset() -> None:
    with pytest.raises(InsituError, match="type 1 at offset 24 is broken"):
        Btf(_blob([(1, Kind.STRUCT << 24 | 200, 1, b"")], b"\0s\0"))


def _use_everything(btf: Btf) -> None:
    btf.section_offset("instance")
    for type_id in range(1, btf.count + 1):
        try:
            type_ = btf.type(type_id)
            _ = type_.name, type_.strip(), type_.size, type_.signed, list(type_.fields()), type_.enumerators
            _ = type_.parameters, type_.declaration("x"), type_.definition()
        except InsituError:
            continue
    btf.names(*Kind)
    btf.enumerator("RED")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_btf_ends_in_an_error_or_a_partial_answer(
    compiled: tuple[bytes, dict[str, int]], data: st.DataObject
) -> None:
    blob = bytearray(compiled[0])
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        _use_everything(Btf(bytes(blob[: data.draw(st.integers(0, len(blob)))])))
        _use_everything(Btf(bytes(blob)))
    except InsituError:
        pass
