"""== and != of structs, against what C makes of their members."""

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

import insitu
from insitu.probe.source import ScriptError

from .tracing import run_trace

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_STRUCTS = """
struct inner { char c; short s; };
struct outer { char tag; int number; struct inner inner[2]; unsigned low : 3; unsigned high : 7; char text[5];
    union { short narrow; int wide; } either; long last; char end; };
"""
_SOURCE = (
    _STRUCTS
    + """
int size(void) { return sizeof(struct outer); }
static int inner(struct inner *a, struct inner *b) { return a->c == b->c && a->s == b->s; }
int same(struct outer *a, struct outer *b)
{
    int text = 1;
    for (int i = 0; i < 5; i++) text &= a->text[i] == b->text[i];
    return a->tag == b->tag && a->number == b->number && inner(a->inner, b->inner)
        && inner(a->inner + 1, b->inner + 1) && a->low == b->low && a->high == b->high && text
        && a->either.wide == b->either.wide && a->last == b->last && a->end == b->end;
}
"""
)


def test_structs_are_equal_if_their_members_are_whatever_their_padding(tmp_path: Path) -> None:
    (tmp_path / "same.c").write_text(_SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "same.so", tmp_path / "same.c"], check=True)
    c = ctypes.CDLL(str(tmp_path / "same.so"))
    size = c.size()
    first = bytes(range(1, size + 1))
    # After the first struct, one for each of its bits, which has that bit flipped.
    others = [(int.from_bytes(first, "little") ^ 1 << bit).to_bytes(size, "little") for bit in range(8 * size)]
    memory = ctypes.create_string_buffer(b"".join([first, *others]))
    begin = ctypes.addressof(memory)
    script = f"""{_STRUCTS} BEGIN {{ $first = (struct outer *)(uint64)$1; $copy = *$first;
        for $i : 1..{len(others) + 1} {{
            $other = *($first + $i);
            print(($i, *$first == $other, $copy != $other, (1, $copy) == (1, $other)));
        }}
        exit(); }}"""
    with insitu.trace(script, parameters=[str(begin)]) as run:
        found = list(run.events())
    expected = [
        bool(c.same(ctypes.c_void_p(begin), ctypes.c_void_p(begin + size * number)))
        for number in range(1, len(others) + 1)
    ]
    assert {True, False} == set(expected)
    assert found == [(number, equal, not equal, equal) for number, equal in enumerate(expected, 1)]


_DERIVED = """
struct base { long first; int second; };
struct derived : base { char third; };
extern "C" __attribute__((noinline)) int work(derived *x, derived *y)
{
    __asm__ volatile("" :: "r"(x), "r"(y) : "memory");
    return 0;
}
int main() { derived x = {}, y = {}; y.second = 3; return work(&x, &y) + work(&x, &x); }
"""


def test_what_a_cpp_class_inherits_is_compared_too(tmp_path: Path) -> None:
    (tmp_path / "it.cc").write_text(_DERIVED)
    subprocess.run(["g++", "-g", "-O1", "-o", tmp_path / "it", tmp_path / "it.cc"], check=True)
    script = f"uprobe:{tmp_path}/it:work {{ print(*args.x == *args.y); }}"
    done = run_trace("-e", script, "-c", str(tmp_path / "it"))
    assert done.stdout.split() == ["false", "true"]


def test_large_structs_are_refused() -> None:
    with pytest.raises(ScriptError, match="at most 2048 bytes, not of 4000"):
        insitu.trace("struct large { char text[4000]; }; BEGIN { $p = (struct large *)0; print(*$p == *$p); }")
