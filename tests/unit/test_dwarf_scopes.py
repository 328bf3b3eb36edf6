"""Variables at an address: which are visible, their types and members, and how a dynamic event fetches them."""

import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel.tracefs import Tracefs
from insitu.record.ftrace import user_code
from insitu.record.ftrace.dynamic_events import definitions
from insitu.record.ftrace.fetch_arguments import fetched, located, member_of
from insitu.record.ftrace.user_code import UserCode
from insitu.symbols.dwarf_scopes import CType
from insitu.symbols.registers import X86_64

SOURCE = r"""
#include <stddef.h>
#include <stdio.h>
struct inner { short a; char tag[4]; };
struct node { long id; struct { int left, right; }; struct inner in; struct node *next; unsigned low : 3; };
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
    AT(id); AT(left); AT(right); AT(in); AT(next);
    return walk(&node, "x", 2);
}
"""
INNER, OUTER = 13, 15  # lines


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scopes")
    (directory / "walk.c").write_text(SOURCE)
    subprocess.run(["gcc", request.param, "-O0", "-o", "walk", "walk.c"], cwd=directory, check=True)
    return directory / "walk"


def test_inner_variables_hide_outer_ones_in_their_block_only(program: Path) -> None:
    code = UserCode(str(program))
    (inner,), (outer,) = code.places(f"walk.c:{INNER}"), code.places(f"walk.c:{OUTER}")
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
    assert code.places("walk+0x4") == [code.function("walk") + 4]
    file, lines = code.lines("walk")
    assert file == str(program.parent / "walk.c")
    assert [each.number for each in lines if each.text.strip() == "sum += name[0];"] == [OUTER]


def test_members_are_where_the_compiler_put_them(program: Path) -> None:
    code = UserCode(str(program))
    printed = subprocess.run([program], capture_output=True, text=True).stdout.split()
    offsets = dict(zip(printed[::2], map(int, printed[1::2]), strict=True))
    (address,) = code.places(f"walk.c:{OUTER}")
    scope = code.scope(address)
    pointer = code.argument(scope, address, "head").partition(":")[0]
    assert code.argument(scope, address, "head->id") == f"+0({pointer}):s64"
    assert code.argument(scope, address, "head->right") == f"+{offsets['right']}({pointer}):s32"
    assert code.argument(scope, address, "head->in.tag") == f"+{offsets['in'] + 2}({pointer}):string"
    assert (
        code.argument(scope, address, "head->next->next") == f"+{offsets['next']}(+{offsets['next']}({pointer})):x64"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hed", "no variable 'hed' there; did you mean 'head'"),
        ("head->idd", "no member 'idd'"),
        ("head.id", "list is a pointer"),
        ("small->x", "unsigned char is not a pointer"),
        ("head->in", "cannot be read"),
        ("head->low", "no member 'low'"),
        ("3", "not a variable"),
    ],
)
def test_what_there_is_not_is_an_error_that_says_what_there_is(program: Path, text: str, message: str) -> None:
    code = UserCode(str(program))
    (address,) = code.places(f"walk.c:{OUTER}")
    with pytest.raises(Exception, match=message):
        code.argument(code.scope(address), address, text)


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
    assert code.places("ns::once") == [addresses["_ZN2ns4onceEi"]]
    assert code.places("ns::K::method") == [addresses["_ZN2ns1K6methodEi"]]
    scope = code.scope(code.function("ns::K::method"))
    assert [each.name for each in scope.variables] == ["this", "count"]
    with pytest.raises(InsituError, match=r"ambiguous.*ns::twice\((int|long)\), ns::twice\((int|long)\)"):
        code.function("ns::twice")


def test_a_line_of_the_kernel_is_an_offset_in_its_function(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = program.parent / "notes"
    notes.write_bytes(b"another")
    monkeypatch.setattr(user_code, "_NOTES", notes)
    with pytest.raises(InsituError, match="not of the running kernel"):
        user_code.kernel_code(str(program))

    code = UserCode(str(program))
    notes.write_bytes(b"GNU\0" + bytes.fromhex(code.elf.build_id))
    (found,) = definitions(f"kprobe:walk.c:{OUTER} sum head->id", Tracefs(-1), vmlinux=str(program))
    (address,) = code.places(f"walk.c:{OUTER}")
    scope, offset = code.scope(address), address - code.function("walk")
    arguments = f"sum={code.argument(scope, address, 'sum')} head_id={code.argument(scope, address, 'head->id')}"
    assert found.text == f"p:{found.group}/{found.name} walk+{offset:#x} {arguments}"


_INT, _TEXT = CType("int", 4, "signed"), CType("char *", 8, "pointer", True)
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
        ("a301519f", b"", _INT, None),  # DW_OP_entry_value
        ("935093", b"", _INT, None),  # pieces
        ("60", b"", _INT, None),  # DW_OP_reg16: no register of the kernel's table
        ("", b"", _INT, None),
    ],
)
def test_a_location_becomes_what_the_kernel_fetches(
    expression: str, frame_base: bytes, kind: CType, expected: str | None
) -> None:
    place = located(bytes.fromhex(expression), frame_base, (7, 16))
    assert (None if place is None else fetched(place, kind, X86_64, file_offset=7)) == expected


def test_a_member_of_what_a_register_points_to_is_fetched_from_memory() -> None:
    place = located(b"\x55", b"", None)
    assert place is not None
    there = member_of(place, 8, pointed=True)
    assert there is not None
    within = member_of(there, 4, pointed=False)
    assert within is not None
    assert fetched(within, _INT, X86_64) == "+12(%di):s32"
    assert member_of(place, 8, pointed=False) is None
