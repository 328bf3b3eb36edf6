"""The script's own functions, run: results against arithmetic and what the kernel says of this process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)


def _trace(script: str) -> str:
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_functions_take_and_answer_numbers() -> None:
    script = """fn add($a : int64, $b : int64) : int64 { return $a + $b; }
        BEGIN { printf("%d %d\\n", add(1, 2), add(add(3, 4), -10)); exit(); }"""
    assert "3 -3\n" in _trace(script)


def test_numbers_are_cut_to_the_declared_types_as_in_c() -> None:
    script = """fn cut($a : uint8) : int8 { return $a; }
        BEGIN { printf("%d %d\\n", cut(300), cut(200)); exit(); }"""
    assert "44 -56\n" in _trace(script)


def test_functions_take_and_answer_strings() -> None:
    script = """fn sign($n : int64) : string {
            if ($n < 0) { return "negative"; } else if ($n == 0) { return "0"; }
            return comm;
        }
        fn show($s : string) : void { printf("<%s>", $s); @last = $s; }
        BEGIN { show(sign(-5)); show(sign(0)); show(sign(1)); exit(); }"""
    output = _trace(script)
    assert "<negative><0><" in output
    assert "@last: python" in output  # the command that runs BEGIN is our own


def test_return_leaves_the_function_from_within_its_loops() -> None:
    script = """fn find($value : int64) : int64 {
            for ($kv : @x) { for ($i : 0..1000) { if ($kv.1 == $value && $i == 500) { return $kv.0; } } }
            return -1;
        }
        BEGIN { @x[1] = 10; @x[2] = 20; printf("%d %d %d\\n", find(20), find(30), find(10)); exit(); }"""
    assert "2 -1 1\n" in _trace(script)


def test_each_call_begins_anew() -> None:
    script = """fn sum($n : int64) : int64 { let $s; for ($i : 0..$n) { $s += $i; } return $s; }
        fn nothing() : int64 { $unused = 1; }
        BEGIN { for ($i : 0..5) { @s[$i] = sum($i * 100); } printf("%d\\n", nothing()); exit(); }"""
    output = _trace(script)
    for i in range(5):
        assert f"@s[{i}]: {sum(range(i * 100))}\n" in output
    assert "0\n" in output


def test_exit_in_a_function_ends_the_probe() -> None:
    script = """fn once($n : int64) : void { printf("%d ", $n); if ($n == 2) { exit(); } }
        BEGIN { once(1); once(2); once(3); }"""
    assert "1 2 \n" in _trace(script)


def test_a_function_walks_the_kernels_structures() -> None:
    script = """fn parent($task : struct task_struct *) : int32 { return $task->real_parent->tgid; }
        BEGIN { printf("parent %d\\n", parent(curtask)); exit(); }"""
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate(timeout=300)
    assert f"parent {os.getpid()}\n" in output


def test_an_imported_file_runs_first_and_its_definitions_serve_the_script(tmp_path: Path) -> None:
    (tmp_path / "lib.bt").write_text('macro twice(x) { x + x } BEGIN { printf("library first, "); }')
    (tmp_path / "main.bt").write_text('import "lib.bt"; BEGIN { printf("then %d\\n", twice(21)); exit(); }')
    command = [sys.executable, "-m", "insitu", "trace", "-q", str(tmp_path / "main.bt")]
    environment = os.environ | {"HOME": str(tmp_path)}
    for _ in range(2):  # the second run is from the cache
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.stdout.startswith("library first, then 42\n"), done.stderr
