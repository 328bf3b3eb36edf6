"""Attributes of structs and their members: the layout is the one that the C compiler chooses."""

import subprocess
from pathlib import Path

import pytest

from insitu.probe.source import ScriptError

from .probe_scripts import checked

_TYPES = """
#define PACKED __attribute__((packed))
struct __attribute__((packed)) a { char x; int y; short z; long w; };
struct b { char x; int y; } PACKED;
struct c { char x; int y __attribute__((aligned(8))); char z; } __attribute__((aligned(16)));
struct d { char x; struct b inner; char t; struct c big; };
union e { char x[3]; short y; } __attribute__((packed));
struct f { char x; short y PACKED; long z; __attribute__((aligned(2))) char q; };
struct g { unsigned a:3; unsigned b:13; unsigned c:16; unsigned d:7; char e; } __attribute__((__packed__));
struct h { char x; } __attribute__((aligned));
enum __attribute__((packed)) i { IA, IB = 200 };
enum j { JA = -1, JB = 127 } PACKED;
typedef struct { char x; long y; } PACKED k;
struct l { char c; enum i i; enum j j; k k; struct { char p; int q; } PACKED anon; struct { int m; }; };
struct m { short a; union e e; int b __attribute__((packed, aligned(2))); };
struct n { char c; struct a in[3]; long z __attribute__((unused)); };
"""
_NAMES = [*(f"struct {letter}" for letter in "abcdfghlmn"), "union e", "enum i", "enum j", "k"]
_MEMBERS = ["a, y", "a, z", "a, w", "b, y", "c, y", "c, z", "d, inner", "d, t", "d, big", "f, y", "f, z", "f, q"]
_MEMBERS += ["g, e", "l, i", "l, j", "l, k", "l, anon", "l, m", "m, e", "m, b", "n, in", "n, z"]


def test_sizes_and_offsets_are_those_of_the_c_compiler(tmp_path: Path) -> None:
    asked = [f"sizeof({name})" for name in _NAMES] + [f"offsetof(struct {member})" for member in _MEMBERS]
    prints = "".join(f'printf("%zu\\n", (size_t){each});' for each in asked)
    (tmp_path / "sizes.c").write_text(f"#include <stddef.h>\n#include <stdio.h>\n{_TYPES} int main() {{ {prints} }}")
    subprocess.run(["gcc", "-w", "-o", tmp_path / "sizes", tmp_path / "sizes.c"], check=True)
    sizes = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True).stdout.split()
    expected = dict(zip(asked, map(int, sizes), strict=True))
    checker = checked(_TYPES + f"BEGIN {{ @x = ({', '.join(asked)}); }}").checker
    (assignment,) = checker.clause.probe.body.statements
    found = [checker.constant(each) for each in assignment.value.elements]  # type: ignore[attr-defined]
    assert dict(zip(asked, found, strict=True)) == expected


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("struct a { int x; } __attribute__((aligned(3)));", "an alignment is a power of two up to 4096"),
        (
            "struct a { int x; } __attribute__((pakced));",
            "attribute 'pakced' is not supported; did you mean 'packed'",
        ),
        ("struct a { int x __attribute__((mode(QI))); };", "attribute 'mode' is not supported"),
        ("struct a { int x:7; int y:31; } __attribute__((packed));", "spread over more than the 4 bytes of its type"),
        ("#define P __attribute__((aligned(\nstruct a { int x; } P;", "in #define P: unexpected end of script"),
    ],
)
def test_attributes_that_mean_something_else_are_refused(definition: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(f"{definition}\nBEGIN {{ print(sizeof(struct a)); }}")
    assert message in caught.value.plain
