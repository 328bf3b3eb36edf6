"""Declarations in C, in scripts and in headers that they include, against what a C compiler makes of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from insitu.probe.options import Options
from insitu.probe.passes import Unit, run_passes
from insitu.probe.source import ScriptError, Source
from insitu.probe.types import Record, Space

from .probe_scripts import NoKernel

_OWN = """
#ifndef OWN_H
#define OWN_H
#include <stdint.h>
#include "more.h"
#define SIZE 8
#define FLAG_A (1 << 3)
#define FLAG_B (FLAG_A | 1)
#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define WORD unsigned int
#define EMPTY
#define SELF SELF
#if LARGER(3, 7) == 7 && defined LARGER
#define CHOSEN 1
#else
#define CHOSEN 2
#endif
extern int global;
static inline int twice(int x) { if (x) { return 2 * x; } return 0; }
struct later;
struct later *forward(struct later *);
typedef struct point { WORD EMPTY x; int y; } point_t, *point_p;
typedef int (*callback)(void *, int);
typedef unsigned long long big_t, bigs_t[3];
enum { RED = 1, GREEN = RED << 2, BLUE = ~GREEN, WIDTH = sizeof(int) * 8 };
struct whole {
    point_t at[SIZE]; point_p next; callback cb; struct more m; char name[SIZE * 2 + WIDTH / 16];
    enum kind { K1 = 7, K2 } kind; struct { short q; } in[2], *out; int (*call)(int), plain; int (*rows)[4];
    const volatile char * const text; big_t big; bigs_t bigs; uint16_t last
};
struct whole instance = { { 1 } }, other;
static const struct point table[] = { { 1, 2 }, { 3, 4 } };
union either { long l; char c[12]; double d; };
struct later { int there; };
#endif
"""
_MORE = """
#pragma once
#include "own.h"
typedef long deep_t;
struct more {
    deep_t d; int b : 3, : 0, c : 2; int : 5; unsigned char e : 1; long f : 40; long : 0; char g;
    long double h; float i; _Bool j; short k : 9; int : 20; char l;
};
struct unnamed { char a; int : 4; }; struct zero { char a; int : 0; char b; };
struct odd { char a; long : 33; char b; };
"""
_SIZES = (
    *("struct whole", "struct more", "point_t", "point_p", "callback", "bigs_t", "union either", "struct later"),
    *(
        "struct unnamed",
        "struct zero",
        "struct odd",
        "enum kind",
        "struct point[3]",
        "double",
        "long double",
        "float",
    ),
)
_OFFSETS = {
    "struct whole": [
        *[
            "at",
            "next",
            "cb",
            "m",
            "name",
            "kind",
            "in",
            "out",
            "call",
            "plain",
            "rows",
            "text",
            "big",
            "bigs",
            "last",
        ]
    ],
    "struct more": ["d", "g", "h", "i", "j", "l"],
    "struct zero": ["b"],
    "struct odd": ["b"],
}
_VALUES = ("FLAG_B", "GREEN", "BLUE", "WIDTH", "K2", "CHOSEN", "SIZE")


def _passed(text: str, folder: Path, **options: object) -> Unit:
    """A script in a folder after all passes."""
    (folder / "main.bt").write_text(text)
    return run_passes(Unit(Source(text, str(folder / "main.bt")), Options(**options), NoKernel()))  # type: ignore[arg-type]


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is the peer")
def test_types_of_headers_are_laid_out_as_c_does(tmp_path: Path) -> None:
    (tmp_path / "own.h").write_text(_OWN)
    (tmp_path / "more.h").write_text(_MORE)
    expressions = [f"sizeof({each})" for each in _SIZES]
    expressions += [f"offsetof({each}, {member})" for each, members in _OFFSETS.items() for member in members]
    prints = "".join(f'printf("%ld\\n", (long){each});' for each in (*expressions, *_VALUES))
    (tmp_path / "own.c").write_text(
        f'#include "own.h"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {{ {prints} }}'
    )
    subprocess.run(["gcc", "-w", "-o", "own", "own.c"], cwd=tmp_path, check=True)
    values = subprocess.run([tmp_path / "own"], capture_output=True, text=True, check=True).stdout.split()
    claims = "".join(
        f'static_assert({each} == {value}, "{each} is {value} in C");'
        for each, value in zip((*expressions, *_VALUES), values, strict=True)
        if not each.startswith("offsetof")
    )
    unit = _passed(f'#include "own.h"\nBEGIN {{ {claims} $p = (point_p)0; print($p->x); }}', tmp_path)
    assert unit.program.warnings == []
    found = {}
    for name, members in _OFFSETS.items():
        record = unit.checker.structures.lookup(name.split()[1], "struct", Space.ANY)
        assert isinstance(record, Record)
        found |= {f"offsetof({name}, {member})": record.fields()[member].offset for member in members}
    expected = dict(zip((*expressions, *_VALUES), map(int, values), strict=True))
    assert found == {each: expected[each] for each in found}


def test_the_same_declarations_may_stand_in_a_script(tmp_path: Path) -> None:
    text = (
        "struct x; enum e { A = 2, B = A * 3 }; struct x { int a[A + B]; int : 0; long double c; int last }; BEGIN { "
    )
    _passed(text + 'static_assert(sizeof(struct x) == 64 && B == 6, "no"); }', tmp_path)


def test_headers_are_found_beside_the_file_that_includes_them_and_by_option(tmp_path: Path) -> None:
    for name in ("lib", "inc/deep", "first"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lib" / "a.h").write_text('#include "b.h"\n#include <deep/c.h>\n')
    (tmp_path / "lib" / "b.h").write_text("struct b { int x; };\n")
    (tmp_path / "inc" / "deep" / "c.h").write_text("struct c { struct b b[2]; };\n")
    (tmp_path / "first" / "d.h").write_text("#define FIRST 5\n")
    text = '#include "lib/a.h"\n#include <linux/sched.h>\n'
    text += 'BEGIN { static_assert(sizeof(struct c) == 4 + 4, ""); $x = FIRST; }'
    first = [str(tmp_path / "first" / "d.h")]
    unit = _passed(text, tmp_path, include_folders=[str(tmp_path / "inc")], includes=first)
    assert unit.program.warnings == []
    with pytest.raises(ScriptError, match=r"unknown type struct 'c'"):
        _passed(text, tmp_path, includes=first)
    unit = _passed("BEGIN { }", tmp_path, includes=["linux/dcache.h"])
    assert unit.program.warnings == [
        "no header linux/dcache.h beside the script or in a directory given by -I (left out)"
    ]


def test_an_imported_script_has_the_headers_that_it_includes(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("#define N 3\nstruct a { int x[N]; };\n")
    (tmp_path / "lib.bt").write_text('#include "a.h"\nfn size() : uint64 { return sizeof(struct a) + N; }\n')
    unit = _passed('#include "a.h"\nimport "lib.bt";\nBEGIN { $x = size() + N; }', tmp_path)
    assert [each.name for each in unit.program.structures] == ["a"]


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("struct a { int x; } __attribute__((vector_size(8)));", 1, "attribute 'vector_size' is not supported"),
        ("int f(void);\nstruct a { int x; int (y); };\nstruct b { int z; };", 2, "unexpected 'y', expected '*'"),
        ("struct b { int z; };\n\ntypedef struct { int x[unknown()]; } a;", 3, "expected a constant number"),
        (
            "#if f(1)\n#endif\nstruct b { int z; };",
            1,
            "cannot evaluate #if: f() cannot be evaluated (taken as false)",
        ),
    ],
)
def test_what_a_header_has_besides_is_left_out_with_its_line(
    tmp_path: Path, header: str, line: int, message: str
) -> None:
    (tmp_path / "own.h").write_text(header + "\nstruct last { int x[2]; };\n")
    unit = _passed('#include "own.h"\nBEGIN { static_assert(sizeof(struct last) == 8, ""); }', tmp_path)
    (warning,) = unit.program.warnings
    assert warning.startswith(f"{tmp_path}/own.h:{line}:1: {message}")


@pytest.mark.parametrize(
    ("header", "mode", "script", "message"),
    [
        ("", 0o666, '#include "own.h"', r"main.bt:1:1: cannot include 'own.h': it is writable by others"),
        ("x" * (1 << 20 | 1), 0o644, '#include "own.h"', r"main.bt:1:1: cannot include 'own.h': it is larger than"),
        ("", 0o644, '\n#include "other.h"', r"main.bt:2:1: no header 'other.h' beside the script"),
        ('#include "other.h"', 0o644, '#include "own.h"', r"own.h:1:1: no header 'other.h' beside this header"),
        ("#error not here", 0o644, '#include "own.h"', r"own.h:1:1: #error not here"),
        ("\n#if 1", 0o644, '#include "own.h"', r"own.h:2:1: #if without #endif"),
        ("", 0o644, "#include own.h", r"main.bt:1:1: expected a header's name in quotes or angle brackets"),
        ("struct a {\n unknown_t x; };", 0o644, '#include "own.h"', r"own.h:2:2: unknown type 'unknown_t'"),
        ("struct a { int x : 33; };", 0o644, '#include "own.h"', r"own.h:1:12: int32 has 32 bits, not 33"),
    ],
)
def test_a_wrong_header_is_an_error_with_its_place(
    tmp_path: Path, header: str, mode: int, script: str, message: str
) -> None:
    (tmp_path / "own.h").write_text(header)
    (tmp_path / "own.h").chmod(mode)
    with pytest.raises(ScriptError) as caught:
        _passed(f"{script}\nBEGIN {{ $x = sizeof(struct a); }}", tmp_path)
    assert re.match(f"{tmp_path}/{message}", str(caught.value))


def test_headers_that_multiply_are_given_up(tmp_path: Path) -> None:
    bombs = "".join(f"#define B{n} {' '.join([f'B{n - 1}'] * 9)}\n" for n in range(1, 12))
    (tmp_path / "own.h").write_text(bombs + "struct a { B11 x; };\n")
    with pytest.raises(ScriptError, match=r"own.h:12:12: this header is too large"):
        _passed('#include "own.h"\nBEGIN { }', tmp_path)
