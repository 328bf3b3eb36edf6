"""Numbers: what operators and literals give, against a C compiler's."""

import ctypes
import os
import subprocess
from itertools import product
from pathlib import Path

import pytest

import insitu

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_TYPES = [("int64", "int64"), ("uint64", "uint64"), ("int64", "uint64"), ("int32", "uint32"), ("int8", "uint8")]
_TYPES += [("uint16", "int64"), ("bool", "int16")]
_OPERATORS = ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "==", "!=", "<", ">", "<=", ">="]
_NUMBERS = [0, 1, -1, 2, 7, -7, 127, 128, 255, 256, 65535, 2**31 - 1, -(2**31), 2**32 + 5, 2**63 - 1, -(2**63)]


def _c(operator: str, left: str, right: str) -> str:
    """The expression in C; what C leaves undefined is what the language says: a division by zero is one."""
    if operator in ("/", "%"):
        rest = f"-{left}" if operator == "/" else "0"
        minus_one = f"({right} < 0 && {right} + 1 == 0)"  # the processor traps on the smallest number by -1
        return f"({right} == 0 ? 1 : {minus_one} ? {rest} : {left} {operator} {right})"
    return f"({left} {operator} ({right} & 63))" if operator in ("<<", ">>") else f"({left} {operator} {right})"


def _wide(name: str, value: str) -> str:
    """A value cut to a type and, as the language does, extended to 64 bits."""
    return f"({'unsigned long' if name == 'uint64' else 'long'})({'bool' if name == 'bool' else name + '_t'}){value}"


def test_arithmetic_is_cs_in_64_bits(tmp_path: Path) -> None:
    rows = [(left, right, operator) for left, right in _TYPES for operator in _OPERATORS]
    in_c = [_c(operator, f"({_wide(left, 'a')})", f"({_wide(right, 'b')})") for left, right, operator in rows]
    source = (
        "#include <stdint.h>\n#include <stdio.h>\n#include <stdbool.h>\n"
        '__attribute__((noinline)) void work(long a, long b) { asm volatile("" :: "r"(a), "r"(b)); }\n'
        "static void expected(long a, long b) {\n"
        + "".join(f'    printf("%ld ", (long){each});\n' for each in in_c)
        + "    putchar(10);\n}\nint main(void) {\n    long numbers[] = {"
        + ", ".join(f"{n}L" if n > -(2**63) else "-9223372036854775807L - 1" for n in _NUMBERS)
        + "};\n    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) "
        "{ expected(numbers[i], numbers[j]); work(numbers[i], numbers[j]); }\n}\n"
    )
    (tmp_path / "program.c").write_text(source)
    built = tmp_path / "program"
    subprocess.run(["gcc", "-O1", "-w", "-fwrapv", "-o", built, tmp_path / "program.c"], check=True)
    shift = {"<<": " & 63", ">>": " & 63"}
    calls = []
    for start in range(0, len(rows), 16):
        part = rows[start : start + 16]
        values = ", ".join(f"(int64)(({a})arg0 {o} (({b})arg1{shift.get(o, '')}))" for a, b, o in part)
        calls.append(f'printf("{"%d " * len(part)}", {values});')
    script = f'uprobe:{built}:work {{ {" ".join(calls)} printf("\\n"); }}'
    done = subprocess.run([built], capture_output=True, text=True, check=True)
    with insitu.trace(script, command=str(built)) as trace:
        trace.wait()
        ours = trace.text.splitlines()
    expected = done.stdout.splitlines()
    assert len(expected) == len(_NUMBERS) ** 2
    for (a, b), mine, cs in zip(product(_NUMBERS, _NUMBERS), ours, expected, strict=True):
        differing = [(a, b, row, m, c) for row, m, c in zip(rows, mine.split(), cs.split(), strict=True) if m != c]
        assert not differing


def test_literals_are_the_numbers_they_spell() -> None:
    spelled = {
        "0x7fffffffffffffff": 2**63 - 1, "18446744073709551615": 2**64 - 1, "0xffffffffffffffff": 2**64 - 1,
        "-9223372036854775808": -(2**63), "-1": -1, "1e6": 10**6, "2e3": 2000, "1_000_000": 10**6, "017": 15,
        "123UL": 123, "123LL": 123, "123U": 123, "1m": 60 * 10**9, "5us": 5000, "0XfF": 255, "1_0e1": 100,
    }  # fmt: skip
    script = f"BEGIN {{ {' '.join(f'print({each});' for each in spelled)} exit(); }}"
    with insitu.trace(script, seconds=100) as trace:
        assert list(trace.events()) == list(spelled.values())


@pytest.fixture(params=[True, False], ids=["fetching atomics", "none, as before Linux 5.12"])
def _fetching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kernels with and without them; what is compiled for one is not to be found by the other."""
    monkeypatch.setattr("insitu.probe.codegen.maps.knows_fetching_atomics", lambda: request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("_fetching")
@pytest.mark.parametrize("place", ["$x", "@x", "@x[1, comm]", '@x["key"]'])
def test_steps_have_the_value_before_or_after_as_in_c(place: str) -> None:
    steps = f'printf("%d %d %d %d", {place}++, ++{place}, {place}--, --{place});'
    with insitu.trace(f'begin {{ {place} = 10; {steps} {place} += 0; printf(" %d", {place}); exit(); }}') as trace:
        trace.wait()
        assert trace.text == "10 12 12 10 10"


@pytest.mark.usefixtures("_fetching")
def test_steps_of_pointers_and_missing_elements_count_too() -> None:
    script = """
        begin {
            @p = (int32 *)1000;
            printf("%d %d ", @p++, --@p);
            printf("%d %d %d ", @a[1]++, @a[1]++, --@a[2]);
            @bare[3]--; --@bare[3];
            while (@i++ < 5) { @rounds++; }
            printf("%d %d %d", @bare[3], @rounds, @i);
            exit();
        }
    """
    with insitu.trace(script) as trace:
        trace.wait()
        assert trace.text == "1000 1000 0 1 -1 -2 5 6"


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_a_declared_integer_holds_what_fits_whatever_is_assigned(name: str) -> None:
    kind = getattr(ctypes, f"c_{name}")
    steps = [70000, -1, 300, 2**40 + 129, 2**31, 127]
    conversion = "%lu " if name.startswith("u") else "%ld "
    shown, size, called = (f'printf("{conversion}", {of})' for of in ("$x", "sizeof($x)", "down(256)"))
    expected, body = [], f"let $x : {name} = 200;"
    expected.append(kind(200).value)
    for number in steps:
        body += f" {shown}; $x = {number}; {shown}; $x++; {shown}; $x -= 1000; {shown}; $x *= 77;"
        values = [kind(number).value, kind(number + 1).value, kind(kind(number + 1).value - 1000).value]
        expected += [*values, kind(values[-1] * 77).value]
    body += f" {shown}; {size}; {called};"
    script = f"fn down($n : {name}) : {name} {{ $n = $n - 1; return $n; }} begin {{ {body} exit(); }}"
    expected += [ctypes.sizeof(kind), kind(kind(256).value - 1).value]
    with insitu.trace(script) as trace:
        trace.wait()
        assert [int(line) for line in trace.text.split()] == expected
