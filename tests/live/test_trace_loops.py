"""Loops on the running kernel: their results against arithmetic, how they end, and what they may change."""

import os
import subprocess
import sys

import pytest

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)


def _trace(script: str) -> str:
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("iterations", [1, 32, 33, 1_000_000])
def test_a_range_has_as_many_iterations_as_it_says(iterations: int) -> None:
    output = _trace(f"BEGIN {{ $s = 0; for ($i : 0..{iterations}) {{ $s += $i; }} @s = $s; exit(); }}")
    assert f"@s: {iterations * (iterations - 1) // 2}\n" in output


def test_a_ranges_ends_may_be_variables_below_zero_and_empty() -> None:
    script = """BEGIN { $a = -3; $b = 2;
        for ($i : $a..$b) { printf("%d ", $i); $b = 100; }
        for ($i : 5..$a) { printf("never"); }
        exit(); }"""
    assert "-3 -2 -1 0 1 \n" in _trace(script)


def test_a_condition_may_hold_for_a_million_iterations_with_break_and_continue() -> None:
    script = """BEGIN { $i = 0; $s = 0;
        while ($i < 3000000) { $i++; if ($i % 2) { continue; } if ($i > 1000000) { break; } $s += $i; }
        @s = $s; @i = $i; exit(); }"""
    output = _trace(script)
    assert f"@s: {sum(range(2, 1_000_001, 2))}\n" in output
    assert "@i: 1000002\n" in output


def test_loops_inside_loops_share_variables_at_every_depth() -> None:
    script = """BEGIN { $s = 0; $text = "none";
        for ($i : 0..50) {
            $row = 0;
            for ($j : 0..50) { for ($k : 5..$j) { $s++; $row++; if ($i == 49) { $text = "last"; } } }
            @rows[$i] = $row;
        }
        printf("%d %s\n", $s, $text); exit(); }"""
    per_row = sum(max(0, j - 5) for j in range(50))
    output = _trace(script)
    assert f"{50 * per_row} last\n" in output
    assert f"@rows[17]: {per_row}\n" in output


@pytest.mark.parametrize("loop", ["for ($kv : @x)", "for ($i : 0..1000)", "while (1)", "for ($i : 0..3)"])
def test_return_inside_a_loop_leaves_the_probe(loop: str) -> None:
    script = (
        f"BEGIN {{ @x[1] = 1; @x[2] = 2; {loop} {{ @turns++; return; }} @never = 1; }} interval:ms:1 {{ exit(); }}"
    )
    output = _trace(script)
    assert "@turns: 1\n" in output and "@never" not in output


def test_return_leaves_two_loops_at_once() -> None:
    script = """BEGIN { @x[1] = 1;
        for ($i : 0..100) { for ($kv : @x) { if ($i == 40) { return; } @n++; } }
        @never = 1; }
        interval:ms:1 { exit(); }"""
    output = _trace(script)
    assert "@n: 40\n" in output and "@never" not in output


def test_break_ends_the_inner_loop_only() -> None:
    script = "BEGIN { for ($i : 0..100) { for ($j : 0..100) { if ($j == 7) { break; } @n++; } } exit(); }"
    assert "@n: 700\n" in _trace(script)


def test_what_a_loop_changes_is_seen_after_it_whatever_its_size() -> None:
    script = """BEGIN { $long = str($1, 64); $pair = (1, "x");
        for ($i : 0..100) { if ($i == 99) { $long = "changed"; $pair = ($i, "y"); } }
        printf("%s %d %s\n", $long, $pair.0, $pair.1); exit(); }"""
    assert "changed 99 y\n" in _trace(script)


def test_a_variable_declared_in_a_loop_begins_anew_in_each_round() -> None:
    assert "@most: 1\n" in _trace("BEGIN { for ($i : 0..100) { let $n; $n++; @most = max($n); } exit(); }")


@pytest.mark.parametrize(
    ("loop", "iterations"),
    [("while (1)", 1 << 20), ("for ($i : 0..100000000)", 1 << 23)],  # BPF_MAX_LOOPS of include/linux/bpf.h
)
def test_an_endless_loop_is_stopped_and_reported(loop: str, iterations: int) -> None:
    output = _trace(f"BEGIN {{ $n = 0; {loop} {{ $n++; }} @n = $n; exit(); }}")
    assert f"@n: {iterations}\n" in output
    assert "Lost 1 loops: stopped after 8388608 iterations (1048576 of while)" in output
