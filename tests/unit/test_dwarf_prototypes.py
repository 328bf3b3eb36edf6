"""Prototypes by DWARF: the same whatever form it has, and where the calling convention says."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from insitu.symbols.demangle import demangle
from insitu.symbols.dwarf_prototypes import prototypes_at
from insitu.symbols.elf import Elf
from insitu.symbols.function_addresses import FunctionAddresses
from insitu.symbols.prototypes import Prototype

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 calling convention")

SOURCE = Path(__file__).parents[1] / "live" / "call_programs" / "values.cpp"
# By the System V ABI, 3.2.3, and the Itanium C++ ABI: @ is an address, m a word of the stack, x a vector register.
PLACES = {
    "shop::byref": [("r0",), ("r1",)],
    "shop::byval": [("r0",), ("m1", "m2", "m3", "m4"), ("r1",)],
    "shop::line": [("r0", "r1"), ("r2",)],
    "shop::mix": [("x0", "r0"), ("x1",), ("x2",), ("r1",)],
    "shop::flag": [("r0",), ("r1",), ("r2",), ("r3",)],
    "shop::str": [("@r1",), ("r2",)],  # r0: where the result is put
    "shop::vec": [("r1",), ("@r2",)],
    "shop::big": [("r1",)],
    "shop::many": [*((f"r{n}",) for n in range(6)), ("m1",), ("m2",)],
    "shop::sv": [("r0", "r1")],
    "shop::up": [("@r0",), ("@r1",)],
}
RESULTS = {"shop::str": ("@r0",), "shop::big": ("@r0",), "shop::ret": ("r0",), "shop::mix": ("x0",)}
FORMS = (
    "-gdwarf-5",
    "-gdwarf-4",
    "-gsplit-dwarf",
    "-gsplit-dwarf -gdwarf-4",
    "-gz",
    "-O2",
    "-flto",
    "separate",
)


def _prototypes(program: Path) -> dict[str, list[Prototype]]:
    elf = Elf(program)
    names = {address: name for name, (address, size) in FunctionAddresses(elf).sized.items() if size}
    found: dict[str, list[Prototype]] = {}
    for address, prototype in prototypes_at(elf, names, time.monotonic() + 600).items():
        found.setdefault(demangle(names[address].encode()), []).append(prototype)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_arguments_are_where_the_abi_puts_them_in_every_form_of_debug_information(form: str, tmp_path: Path) -> None:
    flags = [] if form == "separate" else form.split()
    program = tmp_path / "values"
    subprocess.run(["g++", "-std=c++17", "-g", "-O1", *flags, "-o", program, SOURCE], check=True, cwd=tmp_path)
    if form == "separate":
        objcopy = ["objcopy", "--strip-debug", "--add-gnu-debuglink=values.debug", "values"]
        subprocess.run(["objcopy", "--only-keep-debug", "values", "values.debug"], check=True, cwd=tmp_path)
        subprocess.run(objcopy, check=True, cwd=tmp_path)
    found = _prototypes(program)
    assert {name: [each.places for each in found[name][0].parameters] for name in PLACES} == PLACES
    assert {name: found[name][0].result.places for name in RESULTS} == RESULTS
    # Of one name: told apart by their addresses.
    assert sorted(each.parameters[0].shape.kind for each in found["shop::over"]) == ["i4", "s"]


def test_types_that_are_elsewhere_leave_the_places_of_what_follows_unknown(tmp_path: Path) -> None:
    program = tmp_path / "values"
    subprocess.run(["g++", "-std=c++17", "-g", "-O1", "-fdebug-types-section", "-o", program, SOURCE], check=True)
    found = _prototypes(program)
    assert [each.places for each in found["shop::byval"][0].parameters] == [("?",)] * 3
    assert [each.places for each in found["shop::big"][0].parameters] == [("?",)]  # the result may be in memory


def test_parameters_that_a_clone_does_not_have_are_not_shown_as_others(tmp_path: Path) -> None:
    source, program = tmp_path / "clone.c", tmp_path / "clone"
    source.write_text(
        "struct big { int unused, used; };\n"
        "static __attribute__((noinline)) int part(struct big *b, int gone, int kept) { return b->used + kept; }\n"
        "int main(int argc, char **argv) { struct big b = {1, argc}; return part(&b, 5, argc) + part(&b, 6, 9); }\n"
    )
    subprocess.run(["gcc", "-g", "-O2", "-o", program, source], check=True)
    ((name, (found,)),) = ((name, each) for name, each in _prototypes(program).items() if name.startswith("part"))
    assert ".isra" in name or ".constprop" in name
    assert found.parameters[1].places == ("?",)
    assert found.parameters[2].places == ("r1",)  # DWARF says so: the parameter before it is gone
