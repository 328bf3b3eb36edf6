"""Preprocessor lines in scripts, against what C's preprocessor makes of the same lines."""

import os
import shutil
import subprocess

import pytest

from insitu.probe.bpftrace.preprocess import preprocess
from insitu.probe.source import ScriptError, Source

_CONDITIONS = (
    *("0", "1", "-1", "A", "B", "EMPTY_NOT", "UNKNOWN", "A == 3", "A == 4", "A && B", "A && ZERO", "A || ZERO"),
    *("ZERO || ZERO", "!A", "!ZERO", "!UNKNOWN", "defined A", "defined(A)", "defined ( A )", "!defined A"),
    *("defined UNKNOWN", "defined(A) && defined(B)", "defined A && B == 2", "defined EMPTY", "defined defined_not"),
    *("A + B * 2 == 7", "(A + B) * 2 == 10", "SUM * 2 == 11", "SUM * 2 == 9", "PAIR == 9", "A % 2", "7 / 2 == 3"),
    *("-7 / 2 == -3", "-7 % 3 == -1", "~0 == -1", "1 << 4 == 16", "-1 >> 1 == -1", "-1 > 0u", "-1 < 0", "-1 < 0u"),
    *(
        "0xff == 255",
        "010 == 8",
        "10L == 10",
        "'A' == 65",
        "A > 2 ? ZERO : B",
        "A < 2 ? ZERO : B",
        "A ? B ? 0 : 1 : 1",
    ),
    *("ZERO && 1 / ZERO", "A || 1 / ZERO", "SELF == 0", "LEFT", "1 /* one */ && 1 // two", "0xffffffffffffffff > 0"),
    *("A & B", "A & 4", "A ^ 3", "A | ZERO", "A != 3", "A >= 3", "A <= 2", "- -1 == 1", "+1", "!!A == 1"),
)
_DEFINES = (
    "#define A 3\n#define B 2\n#define ZERO 0\n#define EMPTY\n#define SUM A + B\n#define PAIR (A + B) + \\\n 4\n"
    "#define SELF SELF\n#define LEFT RIGHT\n#define RIGHT LEFT\n"
)


def _kept(text: str) -> list[str]:
    """The lines that are left of a text."""
    return [line.strip() for line in preprocess(Source(text)).text.splitlines() if line.strip()]


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc's preprocessor is the peer")
def test_conditions_hold_as_in_c() -> None:
    text = _DEFINES + "".join(
        f"#if {condition}\nyes{n}\n#elif {other}\nother{n}\n#else\nno{n}\n#endif\n"
        for n, (condition, other) in enumerate(zip(_CONDITIONS, reversed(_CONDITIONS), strict=True))
    )
    done = subprocess.run(["gcc", "-E", "-P", "-w", "-x", "c", "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert _kept(text) == done.stdout.split()


def test_branches_nest_and_only_what_is_kept_counts() -> None:
    text = """
#ifdef NOTHING
# if 1 / 0
a
# elif also nonsense
# else
b
# endif
# error never
# define SEEN
#elif !defined SEEN
c
# ifndef SEEN
d
# else
e
# endif
#elif 1 / 0
f
#endif
"""
    assert _kept(text) == ["c", "d"]


def test_the_kernels_version_can_be_asked_for() -> None:
    major, minor = os.uname().release.split(".")[:2]
    text = "#if LINUX_VERSION_CODE {} KERNEL_VERSION({}, {}, {})\nyes\n#endif"
    assert _kept(text.format(">=", major, minor, 0)) == ["yes"]
    assert _kept(text.format("<", major, int(minor) + 1, 0)) == ["yes"]
    assert _kept(text.format("<", major, minor, 0)) == []
    assert _kept("#if KERNEL_VERSION(5, 18, 0) == 332288 && KERNEL_VERSION(4, 9, 300) == 264703\nyes\n#endif") == [
        "yes"
    ]


def test_the_architecture_is_this_machines() -> None:
    assert _kept("#ifdef __x86_64__\nx86_64\n#endif\n#ifdef __aarch64__\naarch64\n#endif") == [os.uname().machine]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("#if", "cannot evaluate #if: a condition is missing"),
        ("#if EMPTY", "cannot evaluate #if: EMPTY has no value"),
        ("#if 1 +", "cannot evaluate #if: unexpected end of line, expected an expression"),
        ("#if 1 2", "cannot evaluate #if: unexpected '2'"),
        ("#if NAME(1)", "cannot evaluate #if: NAME() cannot be evaluated"),
        ('#if "text"', "cannot evaluate #if: only numbers, names and operators can be evaluated"),
        ("#if comm == @x", "cannot evaluate #if: only numbers, names and operators can be evaluated"),
        ("#if 1 / 0", "cannot evaluate #if: division by zero"),
        ("#if 1 << 64", "cannot evaluate #if: a number cannot be shifted by 64 bits"),
        ("#if BOMB9", "cannot evaluate #if: it is too long"),
        ("#if 0\n#elif 1 %", "cannot evaluate #elif: unexpected end of line"),
        ("#ifdef", "expected a name after #ifdef"),
        ("#error this needs something", "#error this needs something"),
        ("#unknown", "unknown directive #unknown"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_at_its_line(line: str, message: str) -> None:
    bombs = "".join(f"#define BOMB{n} {' '.join([f'BOMB{n - 1}'] * 9)}\n" for n in range(1, 10))
    text = "#define EMPTY\n" + bombs + line + "\n#endif\nBEGIN { }"
    with pytest.raises(ScriptError) as caught:
        preprocess(Source(text))
    assert message in str(caught.value)
    assert caught.value.source.line_column(caught.value.span.start)[0] == 11 + line.count("\n")


def test_lines_keep_their_places_with_continuations_and_comments() -> None:
    text = '#define A 1 /* a comment\nthat goes on */ x\n#define B "a//b" \\\n\nBEGIN { /*\n#if 0\n*/ }\n'
    result = preprocess(Source(text))
    found, defines = result.text, result.defines
    assert defines == {"A": "1", "B": '"a//b"'}
    assert [len(line) for line in found.splitlines()] == [len(line) for line in text.splitlines()]
    assert found.splitlines()[1].endswith("*/ x")
    assert "#if 0" in found
