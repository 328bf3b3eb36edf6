"""What fails while a script runs is warned of, at its place in the script: most of it with option -k."""

import errno
import os
from pathlib import Path

import pytest

from .tracing import run_trace

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_FAULT = f"failed: {os.strerror(errno.EFAULT)} (-{errno.EFAULT})"


@pytest.mark.parametrize(
    ("before", "failing", "warning"),
    [
        ("@a[1] = 1;", "@a[2]", "@a has no such key"),
        ('@a["x"] = comm;', '@a["y"]', "@a has no such key"),
        ("@a[1] = 1;", "delete(@a, 2)", "@a has no such key"),
        ("$p = (int32 *)16;", "*$p", f"bpf_probe_read() {_FAULT}"),
        ("", "str(16)", f"bpf_probe_read_str() {_FAULT}"),
        ("", "str(kptr((int8 *)16))", f"bpf_probe_read_str() {_FAULT}"),
        ("struct", "$p->next", f"bpf_probe_read() {_FAULT}"),
    ],
)
def test_what_fails_is_warned_of_at_its_place(before: str, failing: str, warning: str) -> None:
    head = "struct node { struct node *next; } " if before == "struct" else ""
    before = "$p = (struct node *)16;" if head else before
    begin = f"{head}begin {{ {before} print("
    script = f"{begin}{failing}); exit(); }}"
    done = run_trace("-k", "-e", script)
    place, _, told = done.stderr.strip().partition(": WARNING: ")
    assert (place.rpartition("-")[0], told) == (f"-e:1:{len(begin) + 1}", warning)
    assert run_trace("-e", script).stderr == ""


def test_what_does_not_fail_is_not_warned_of() -> None:
    script = """begin {
        @a[1] = 7; $n = 2; @count[1]++; @big[1] = *curtask;
        print(@a[1] / $n); print(has_key(@a, 2)); print(comm); delete(@a, 1);
        print(curtask->comm); print((int64)@big[1].pid);
        printf("%s %s\\n", str(curtask->comm), kstack(1));
        exit();
    }"""
    assert run_trace("-k", "-e", script).stderr == ""


def test_loops_and_events_warn_too(tmp_path: Path) -> None:
    script = """begin {
        for ($i : 0..50) { $x = 10 / ($i - 20); }
        @m[1] = 0;
        for ($kv : @m) { print(7 / $kv.1); }
        emit("x", (text=str(16), n=1));
        exit();
    }"""
    places = [
        line.partition(": WARNING: ")[0].rpartition("-")[0]
        for line in run_trace("-kk", "-o", str(tmp_path / "x.insitu"), "-e", script).stderr.splitlines()
    ]
    assert places == ["-e:2:33", "-e:4:32", "-e:5:25"]


@pytest.mark.parametrize("division", ["5 / $zero", "5 % $zero", "-5 / @zero", "(uint64)5 / $zero"])
@pytest.mark.parametrize("option", [[], ["-k"]])
def test_division_by_zero_is_one_and_always_warned_of(division: str, option: list[str]) -> None:
    begin = "begin { $zero = 0; @zero = 0; print("
    done = run_trace(*option, "-e", f"{begin}{division}); print(7 / 2); exit(); }}")
    assert done.stdout.split()[:2] == ["1", "3"]
    where = f"-e:1:{len(begin) + 1}-{len(begin) + len(division) + 1}"
    assert done.stderr.splitlines() == [f"{where}: WARNING: division by zero; the result is 1"]


def test_compound_division_by_zero_is_one_too() -> None:
    done = run_trace("-e", "begin { $zero = 0; $x = 9; $x /= $zero; print($x); @y = 9; @y %= $zero; exit(); }")
    assert done.stdout.split() == ["1", "@y:", "1", "@zero:", "0"][:3]
    assert done.stderr.count("WARNING: division by zero; the result is 1") == 2


def test_no_warnings_are_printed_where_none_are_wanted() -> None:
    script = """begin { $zero = 0; print(5 / $zero); print(str(16)); warnf("own"); exit(); }
        tracepoint:sched:no_such_one, end { }"""
    done = run_trace("--no-warnings", "-k", "-e", script)
    assert done.stdout.split()[0] == "1"
    assert [line.partition(": WARNING: ")[2] for line in done.stderr.splitlines()] == ["own"]
    assert "no_such_one" in run_trace("-e", script).stderr
