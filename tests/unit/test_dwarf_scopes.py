"""Variables at an address: which are visible, their types and members, and how a dynamic event fetches them."""

import re
import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel.tracefs import Tracefs
from insitu.record.ftrace import user_code
from insitu.record.ftrace.dynamic_events import definitions
from insitu.record.ftrace.fetch_arguments import Located, fetched, located, part_of, pointed_at
from insitu.record.ftrace.user_code import UserCode
from insitu.symbols import kernel_file
from insitu.symbols.dwarf_c_types import CType
from insitu.symbols.registers import X86_64

SOURCE = r"""
#include <stddef.h>
#include <stdio.h>
struct inner { short a; char tag[4]; };
struct node {
    long id; struct { int left, right; }; struct inner in; struct node *next; unsigned low : 3, high : 7;
    short grid[2][3]; struct inner many[2]; char *names[2]; long big[100];
};
typedef struct node *list;
static int total = 3;
__attribute__((noinline)) int walk(list head, const char *name, unsigned char small)
{
    int sum = 0;
    for (int i = 0; i < small; i++) {
        long sum = i * 2L;
        total += sum + head->id;
    }
    sum += name[0];
    return sum + total;
}
#define AT(f) printf(#f " %zu\n", offsetof(struct node, f))
int main(void)
{
    struct node node = { 1 };
    AT(id); AT(left); AT(right); AT(in); AT(next); AT(grid); AT(many); AT(names); AT(big);
    return walk(&node, "x", 2);
}
"""
INNER, OUTER = 16, 18  # lines


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scopes")
    (directory / "walk.c").write_text(SOURCE)
    subprocess.run(["gcc", request.param, "-O0", "-o", "walk", "walk.c"], cwd=directory, check=True)
    return directory / "walk"


def test_inner_variables_hide_outer_ones_in_their_block_only(program: Path) -> None:
    code = UserCode(str(program))
    ((inner, _),), ((outer, _),) = code.places(f"walk.c:{INNER}"), code.places(f"walk.c:{OUTER}")
    types = {each.name: each.type.name for each in code.scope(inner).variables}
    assert types == {
        "head": "list",
        "name": "const char *",
        "small": "unsigned char",
        "i": "int",
        "sum": "long int",
    }
    types = {each.name: each.type.name for each in code.scope(outer).variables}
    assert types == {"head": "list", "name": "const char *", "small": "unsigned char", "sum": "int"}
    assert [each.name for each in code.scope(outer).variables if each.is_parameter] == ["head", "name", "small"]
    assert code.scope(outer).function == "walk"
    assert code.scope(outer).returns.name == "int"


def test_lines_of_a_function_count_from_the_line_that_declares_it(program: Path) -> None:
    code = UserCode(str(program))
    declared = (
        SOURCE.splitlines().index(
            "__attribute__((noinline)) int walk(list head, const char *name, unsigned char small)"
        )
        + 1
    )
    assert code.scope(code.function("walk")).line == declared
    assert code.places(f"walk+{OUTER - declared}") == code.places(f"walk.c:{OUTER}")
    assert code.places(f"walk:{OUTER - declared}") == code.places(f"walk.c:{OUTER}")
    assert code.places("walk+0x4") == [(code.function("walk") + 4, None)]
    assert code.places("walk+0") == [(code.function("walk"), None)]
    file, lines = code.lines("walk")
    assert file == str(program.parent / "walk.c")
    assert [each.number for each in lines if each.text.strip() == "sum += name[0];"] == [OUTER]


def test_members_are_where_the_compiler_put_them(program: Path) -> None:
    code = UserCode(str(program))
    printed = subprocess.run([program], capture_output=True, text=True).stdout.split()
    offsets = dict(zip(printed[::2], map(int, printed[1::2]), strict=True))
    ((address, _),) = code.places(f"walk.c:{OUTER}")
    scope = code.scope(address)
    pointer = code.argument(scope, address, "head").partition(":")[0]
    assert code.argument(scope, address, "head->id") == f"+0({pointer}):s64"
    assert code.argument(scope, address, "head->right") == f"+{offsets['right']}({pointer}):s32"
    assert code.argument(scope, address, "head->in.tag") == f"+{offsets['in'] + 2}({pointer}):string"
    assert (
        code.argument(scope, address, "head->next->next") == f"+{offsets['next']}(+{offsets['next']}({pointer})):x64"
    )
    assert code.argument(scope, address, "head->names") == f"+{offsets['names']}({pointer}):x64[2]"
    assert code.argument(scope, address, "head->names[1]") == f"+0(+{offsets['names'] + 8}({pointer})):string"
    assert code.argument(scope, address, "head->grid[1]") == f"+{offsets['grid'] + 6}({pointer}):s16[3]"
    assert code.argument(scope, address, "head->grid[1][2]") == f"+{offsets['grid'] + 10}({pointer}):s16"
    assert code.argument(scope, address, "head->many[1].a") == f"+{offsets['many'] + 6}({pointer}):s16"
    assert code.argument(scope, address, "name[3]") == code.argument(scope, address, "name").replace(
        "+0(", "+3("
    ).replace(":string", ":s8")
    # Bit fields follow the pointer: the first in bits 0 to 2, the second across a byte's end.
    assert code.argument(scope, address, "head->low") == f"+{offsets['next'] + 8}({pointer}):b3@0/8"
    assert code.argument(scope, address, "head->high") == f"+{offsets['next'] + 8}({pointer}):b7@3/16"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hed", "no variable 'hed' there; did you mean 'head'"),
        ("head->idd", "no member 'idd'"),
        ("head.id", "list is a pointer"),
        ("small->x", "unsigned char is not a pointer"),
        ("head->in", "struct inner. cannot be shown as a whole; its members: a, tag"),
        ("head->grid", r"short int\[2\]\[3\]. cannot be shown as a whole; one element can: head->grid\[0\]"),
        ("head->big", r"at most 64 elements can; one element can: head->big\[0\]"),
        ("head->many[2].a", r"\[2\]: struct inner\[2\] has 2 elements"),
        ("small[1]", "unsigned char is neither an array nor a pointer"),
        ("head->", "not a variable"),
        ("3", "not a variable"),
    ],
)
def test_what_there_is_not_is_an_error_that_says_what_there_is(program: Path, text: str, message: str) -> None:
    code = UserCode(str(program))
    ((address, _),) = code.places(f"walk.c:{OUTER}")
    with pytest.raises(InsituError) as raised:
        code.argument(code.scope(address), address, text)
    assert re.search(message, "; ".join((raised.value.message, raised.value.remedy)))


CPLUSPLUS = """
namespace ns {
struct K { long own; __attribute__((noinline)) int method(int count) { return own += count; } };
__attribute__((noinline)) int once(int a) { return a + 1; }
__attribute__((noinline)) int twice(int a) { return a + 1; }
__attribute__((noinline)) int twice(long a) { return a + 2; }
}
int main() { ns::K k{5}; return k.method(3) + ns::once(4) + ns::twice(1) + ns::twice(2L); }
"""


def test_functions_of_cplusplus_have_their_qualified_names(tmp_path: Path) -> None:
    (tmp_path / "k.cc").write_text(CPLUSPLUS)
    subprocess.run(["g++", "-g", "-O0", "-o", "k", "k.cc"], cwd=tmp_path, check=True)
    code = UserCode(str(tmp_path / "k"))
    symbols = subprocess.run(["nm", tmp_path / "k"], capture_output=True, text=True).stdout
    addresses = {line.split()[-1]: int(line[:16], 16) for line in symbols.splitlines() if line[:1] == "0"}
    assert code.places("ns::once") == [(addresses["_ZN2ns4onceEi"], None)]
    assert code.places("ns::K::method") == [(addresses["_ZN2ns1K6methodEi"], None)]
    scope = code.scope(code.function("ns::K::method"))
    assert [each.name for each in scope.variables] == ["this", "count"]
    with pytest.raises(InsituError, match=r"ambiguous.*ns::twice\((int|long)\), ns::twice\((int|long)\)"):
        code.function("ns::twice")


def test_a_line_of_the_kernel_is_an_offset_in_its_function(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = program.parent / "notes"
    notes.write_bytes(b"another")
    monkeypatch.setattr(kernel_file, "_NOTES", notes)
    with pytest.raises(InsituError, match="not of the running kernel"):
        user_code.kernel_code(str(program))

    code = UserCode(str(program))
    notes.write_bytes(b"GNU\0" + bytes.fromhex(code.elf.build_id))
    (found,) = definitions(f"kprobe:walk.c:{OUTER} sum head->id", Tracefs(-1), vmlinux=str(program))
    ((address, _),) = code.places(f"walk.c:{OUTER}")
    scope, offset = code.scope(address), address - code.function("walk")
    arguments = f"sum={code.argument(scope, address, 'sum')} head_id={code.argument(scope, address, 'head->id')}"
    assert found.text == f"p:{found.group}/{found.name} walk+{offset:#x} {arguments}"


_INT, _UNSIGNED, _TEXT = CType("int", 4, "signed"), CType("int", 4, "unsigned"), CType("char *", 8, "pointer", True)
_FRAME = b"\x9c"  # DW_OP_call_frame_cfa


@pytest.mark.parametrize(
    ("expression", "frame_base", "kind", "expected"),
    [
        ("55", b"", _INT, "%di:s32"),  # DW_OP_reg5
        ("7708", b"", _INT, "+8(%sp):s32"),  # DW_OP_breg7 8
        ("9168", _FRAME, _INT, "-8(%sp):s32"),  # DW_OP_fbreg -24; CFA is sp + 16
        ("9168", b"\x56", _INT, "-24(%bp):s32"),  # frame base DW_OP_reg6
        ("309f", b"", _INT, "\\0:s32"),  # DW_OP_lit0, DW_OP_stack_value
        ("117f9f", b"", _INT, "\\-1:s32"),  # DW_OP_consts -1, DW_OP_stack_value
        ("70009f", b"", _INT, "%ax:s32"),  # DW_OP_breg0 0, DW_OP_stack_value
        ("0310400000000000", b"", _INT, None),  # DW_OP_addr, cut short
        ("031040000000000000", b"", _INT, "@+7:s32"),  # DW_OP_addr
        ("54", b"", _TEXT, "+0(%si):string"),
        ("9168", _FRAME, _TEXT, "+0(-8(%sp)):string"),
        ("9168", _FRAME, CType("char[]", 0, "array", True), "-8(%sp):string"),
        ("9168", _FRAME, CType("struct x", 8, "aggregate"), None),
        ("707f121e9f", b"", _INT, None),  # computed
        ("9168069f", _FRAME, _INT, "-8(%sp):s32"),  # DW_OP_fbreg, DW_OP_deref, DW_OP_stack_value: what is read there
        ("916806", _FRAME, _INT, "+0(-8(%sp)):s32"),  # at the address that is read there
        ("700806230c06", b"", _INT, "+0(+12(+8(%ax))):s32"),  # DW_OP_breg0 8, deref, plus_uconst 12, deref
        ("70109f", b"", _INT, None),  # DW_OP_breg0 16, DW_OP_stack_value: computed
        ("70109f", b"", _TEXT, "+16(%ax):string"),
        ("9e0405000000", b"", _INT, "\\5:s32"),  # DW_OP_implicit_value of 4 bytes
        ("a301519f", b"", _INT, None),  # DW_OP_entry_value
        ("5093045193", b"", _INT, None),  # pieces, cut short
        ("509304519304", b"", _INT, None),  # DW_OP_reg0, DW_OP_piece 4, DW_OP_reg1, DW_OP_piece 4
        ("60", b"", _INT, None),  # DW_OP_reg16: no register of the kernel's table
        ("", b"", _INT, None),
    ],
)
def test_a_location_becomes_what_the_kernel_fetches(
    expression: str, frame_base: bytes, kind: CType, expected: str | None
) -> None:
    place = located(bytes.fromhex(expression), frame_base, (7, 16))
    assert (None if place is None else fetched(place, kind, X86_64, static=lambda _: "@+7")) == expected


def test_a_member_of_what_a_register_points_to_is_fetched_from_memory() -> None:
    place = located(b"\x55", b"", None)
    assert place is not None
    there = pointed_at(place, 8)
    assert there is not None
    within = part_of(there, 4, 4)
    assert within is not None
    assert fetched(within, _INT, X86_64) == "+12(%di):s32"


def _shown(place: Located | None, kind: CType = _UNSIGNED, bits: tuple[int, int] | None = None) -> str | None:
    return None if place is None else fetched(place, kind, X86_64, bits=bits)


def test_a_struct_in_a_register_is_shown_in_parts() -> None:
    whole = located(b"\x55", b"", None)
    assert whole is not None
    assert _shown(part_of(whole, 0, 4)) == "%di:u32"
    assert _shown(part_of(whole, 4, 4)) == "%di:b32@32/64"
    assert _shown(part_of(whole, 4, 4), bits=(3, 2)) == "%di:b2@35/64"
    assert _shown(part_of(whole, 4, 4), _INT) is None, "the kernel would show it without its sign"
    assert part_of(whole, 8, 4) is None


def test_a_struct_in_pieces_is_shown_in_those_that_are_known() -> None:
    # DW_OP_reg5, DW_OP_piece 8; DW_OP_piece 4; DW_OP_breg7 16, DW_OP_piece 4
    whole = located(bytes.fromhex("559308 9304 771093 04"), b"", None)
    assert whole is not None
    assert _shown(part_of(whole, 0, 8), _TEXT) == "+0(%di):string"
    assert _shown(part_of(whole, 8, 4)) is None
    assert _shown(part_of(whole, 12, 4)) == "+16(%sp):u32"
    assert _shown(part_of(whole, 6, 4)) is None, "in two pieces"
    assert _shown(part_of(whole, 16, 4)) is None


def test_what_a_computed_pointer_points_to_is_fetched() -> None:
    # DW_OP_breg5 16, DW_OP_stack_value: as container_of() and the address of a member make
    pointer = located(bytes.fromhex("75109f"), b"", None)
    assert pointer is not None
    assert _shown(pointer) is None
    assert _shown(pointed_at(pointer, 4)) == "+20(%di):u32"
    # DW_OP_breg5 8, DW_OP_deref, DW_OP_plus_uconst 4, DW_OP_stack_value
    pointer = located(bytes.fromhex("7508062304 9f"), b"", None)
    assert pointer is not None
    assert _shown(pointed_at(pointer, 4)) == "+8(+8(%di)):u32"


INLINED = r"""
int get(int);
__attribute__((noipa)) int get(int a) { return a + 1; }
static inline __attribute__((always_inline)) int inner(int *at)
{
    int n = get(*at);
    return get(n);
}
__attribute__((noipa)) int outer(int n, int *at)
{
    int r = get(n);
    r += inner(at);
    return get(r) + r;
}
int main(void) { int three = 3; return outer(2, &three); }
"""


def test_a_line_has_the_variables_of_its_function_not_of_what_is_inlined_there(tmp_path: Path) -> None:
    (tmp_path / "nested.c").write_text(INLINED)
    subprocess.run(["gcc", "-g", "-O2", "-o", "nested", "nested.c"], cwd=tmp_path, check=True)
    code = UserCode(str(tmp_path / "nested"))
    lines = INLINED.splitlines()
    (in_inner,) = code.places(f"nested.c:{lines.index('    return get(n);') + 1}")
    (in_outer,) = code.places(f"nested.c:{lines.index('    return get(r) + r;') + 1}")
    assert in_inner.depth == 1
    assert in_outer.depth == 0
    both = code.scope(*in_inner)
    assert both.function == "inner < outer"
    assert {each.name: each.is_parameter for each in both.variables} == {"n": False, "at": True, "r": False}
    # The same address, seen from the function that the line is inlined into.
    outside = code.scope(in_inner.address, 0)
    assert outside.function == "outer"
    assert {each.name: each.is_parameter for each in outside.variables} == {"n": True, "at": True, "r": False}


def test_what_is_optimized_out_is_refused_with_the_lines_where_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "nested.c").write_text(INLINED)
    subprocess.run(["gcc", "-g", "-O2", "-o", "nested", "nested.c"], cwd=tmp_path, check=True)
    code = UserCode(str(tmp_path / "nested"))
    start = code.function("outer")
    with pytest.raises(InsituError) as raised:
        code.argument(code.scope(start), start, "r")
    assert re.fullmatch(r"r \(int\) is optimized out at nested\.c:\d+", raised.value.message)
    known = re.fullmatch(r"it is known at line (\d+).*", raised.value.remedy)
    assert known is not None
    assert int(known[1]) > INLINED.splitlines().index("    int r = get(n);")
