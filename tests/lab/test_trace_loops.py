"""Loops, functions and split bodies on Debian's kernels, with bpf_loop() and as on kernels that lack it."""

import sys
from pathlib import Path

from insitu.lab import Guest

# No process has such an id (PID_MAX_LIMIT of include/linux/threads.h).
_COUNTED = "".join(f"if ($n == {n} || pid == {n + 4_200_000}) {{ @c[{n}] = count(); }}\n" for n in range(500))
_LONG = f"fn f($n : int64) : void {{ {_COUNTED} }} BEGIN {{ for ($n : 0..50) {{ {_COUNTED} }} f(499); }}"
_TEXT = "ab" * 15 + "a"
_LIMITS = f"""
BEGIN {{
    $text = str(0, 64); $part = str(0, 64); $text = "{"b" + _TEXT + "ab" + _TEXT}"; $part = "{_TEXT + "ab"}";
    print((strstr($text, $part), strcontains($part, $text)));
    @m[1] = 1; @m[2] = 2;
    if (len(@m) > 1) {{ print("two"); }}
    while (len(@m) < 5) {{ @m[10 + len(@m)] = 1; }}
    print(len(@m)); clear(@m);
}}
"""
# A driver, since what a kernel lacks is pretended in the compiler.
_WALKED = '''
import sys
from insitu import trace
from insitu.probe.codegen import loops, splitting
loops.knows_helper = lambda number: False
splitting._LONG, splitting._PART = 30, 10
steps = "".join(f"$s += {n}; if ($s % 7 == {n % 7}) {{ $t++; }} " for n in range(20))
script = f"""
fn f($from : int64) : int64 {{
    $s = $from; $t = 0;
    for ($i : 0..5) {{ {steps} if ($i == 3) {{ return $t; }} }}
    return -1;
}}
BEGIN {{
    $s = 0; $t = 0; $k = 0;
    while ($k < 9) {{ $k++; {steps} if ($k == 4) {{ break; }} }}
    print((f(3), $s, $t));
}}"""
with trace(script) as run:
    print(list(run.events()))
'''


def _walked(start: int, rounds: int) -> tuple[int, int]:
    """What the driver's script computes."""
    total, count = start, 0
    for _ in range(rounds):
        for n in range(20):
            total += n
            count += total % 7 == n % 7
    return total, count


def _lines(guest: Guest, path: Path, script: str) -> list[str]:
    path.write_text(script)
    done = guest.run([sys.executable, "-m", "insitu", "trace", "-q", str(path)])
    assert done.status == 0, done.stderr
    return [line for line in done.stdout.decode().splitlines() if line]


def test_500_statements_fit_into_a_loop_and_a_function(guest: Guest, tmp_path: Path) -> None:
    assert sorted(_lines(guest, tmp_path / "long.bt", _LONG)) == sorted(f"@c[{n}]: 1" for n in (*range(50), 499))


def test_long_strings_are_searched_and_elements_counted(guest: Guest, tmp_path: Path) -> None:
    # The part ends in a word that the first 31 bytes of the text's repetition lack.
    found = ("b" + _TEXT + "ab" + _TEXT).find(_TEXT + "ab")
    assert _lines(guest, tmp_path / "limits.bt", _LIMITS) == [f"({found}, false)", "two", "5"]


def test_without_bpf_loop_split_bodies_are_walked(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "walked.py").write_text(_WALKED)
    done = guest.run([sys.executable, str(tmp_path / "walked.py")])
    assert done.status == 0, done.stderr
    assert done.stdout.decode().strip() == str([(_walked(3, 4)[1], *_walked(0, 4))])
