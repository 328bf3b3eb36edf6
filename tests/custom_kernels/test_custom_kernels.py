"""A kernel built from Debian's source with all features; for `make test-custom-kernels` alone: it takes long."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from insitu.lab import Guest, guest
from insitu.lab.build.build_kernel import build
from insitu.lab.kernels.kernel import Kernel

pytestmark = pytest.mark.timeout(5400)

_FEATURES = ["kgdb", "irqsoff", "latency", "lockdep", "kasan", "gcov"]


def _output(running: Guest, script: str) -> str:
    done = running.run(["sh", "-c", script], timeout=240)
    assert done.status == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return build("6.1", _FEATURES, report=print)


@pytest.fixture(scope="module")
def built(kernel: Kernel) -> Iterator[Guest]:
    with guest(kernel=kernel.name, cpus=2, numa=2, memory="2G", kgdb=True) as running:
        yield running


def test_the_guest_runs_the_kernel_that_was_built(built: Guest) -> None:
    assert _output(built, "uname -r").strip() == built.kernel.release
    assert built.kernel.release.endswith("-insitu-gcov-irqsoff-kasan-kgdb-latency-lockdep")


def test_nothing_is_a_module(built: Guest) -> None:
    assert _output(built, "cat /proc/modules") == ""
    assert "m" not in built.kernel.options.values()


def test_both_cpus_and_both_nodes_are_up(built: Guest) -> None:
    listed = _output(built, "cat /sys/devices/system/cpu/online /sys/devices/system/node/online")
    assert listed.split() == ["0-1", "0-1"]


def test_the_running_kernel_has_the_symbols_of_its_vmlinux(built: Guest) -> None:
    assert built.kernel.debuginfo is not None
    listing = subprocess.run(["nm", built.kernel.debuginfo], capture_output=True, text=True, check=True).stdout
    addresses = {line.split()[2]: line.split()[0] for line in listing.splitlines() if len(line.split()) == 3}
    for name in ("schedule", "vfs_read", "init_task"):
        seen = _output(built, f"grep -w {name} /proc/kallsyms | head -n 1").split()
        assert seen[0] == addresses[name]


def test_kprobes_function_graph_and_types_are_there(built: Guest) -> None:
    assert "function_graph" in _output(built, "cat /sys/kernel/tracing/available_tracers").split()
    assert built.kernel.options["KPROBE_EVENTS"] == "y"
    if built.kernel.options.get("DEBUG_INFO_BTF") == "y":
        assert int(_output(built, "stat -c %s /sys/kernel/btf/vmlinux")) > 0


def test_irqsoff_records_the_longest_time_with_interrupts_off(built: Guest) -> None:
    tracing = "cd /sys/kernel/tracing"
    available = _output(built, f"{tracing}; cat available_tracers").split()
    assert {"irqsoff", "preemptoff", "preemptirqsoff"} <= set(available)
    _output(
        built, f"{tracing}; echo irqsoff >current_tracer; echo 0 >tracing_max_latency; ls /usr/include >/dev/null"
    )
    assert int(_output(built, f"{tracing}; cat tracing_max_latency; echo nop >current_tracer")) > 0


def test_the_longest_section_without_interrupts_is_shown_with_its_stack(built: Guest) -> None:
    command = [sys.executable, "-m", "insitu", "latency", "irqsoff", "--json", "--"]
    done = built.run([*command, "sh", "-c", "echo l > /proc/sysrq-trigger"], timeout=240)  # CPUs print their stacks
    assert done.status == 0, done.stderr.decode()
    found = json.loads(done.stdout)["section"]
    assert found["latency_ns"] > 0
    assert found["started"] and found["ended"] and found["stacks"][-1]


def test_lockdep_counts_classes_and_contention(built: Guest) -> None:
    assert "lock-classes" in _output(built, "cat /proc/lockdep_stats")
    assert "lock_stat version" in _output(built, "cat /proc/lock_stat")


def test_kasan_watches_from_the_start(built: Guest) -> None:
    assert "KernelAddressSanitizer initialized" in _output(built, "dmesg")


def test_gcov_counts_the_lines_of_a_function_that_ran(built: Guest) -> None:
    counts = _output(built, "find /sys/kernel/debug/gcov -path '*/kernel/fork.gcda' | head -n 1").strip()
    notes = counts.removesuffix(".gcda") + ".gcno"
    # gcov(1) wants both in one place; the guest sees this machine's files, so the notes' link leads somewhere.
    script = (
        f"cd $(mktemp -d) && cat {counts} >fork.gcda && cat {notes} >fork.gcno && "
        "gcov -i -t fork.gcda >fork.json 2>gcov.error || cat gcov.error; cat fork.json"
    )
    report = _output(built, script)
    assert '"name": "kernel_clone"' in report
    [line] = [part for part in report.split('{"blocks') if '"name": "kernel_clone"' in part][:1]
    assert '"execution_count": 0' not in line


def test_kgdb_listens_on_the_second_serial_line(built: Guest) -> None:
    assert _output(built, "cat /sys/module/kgdboc/parameters/kgdboc").strip().startswith("ttyS1")


def test_gdb_reaches_the_kernels_own_debugger_with_source_lines(built: Guest) -> None:
    built.run(["sh", "-c", "(sleep 1; echo g >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &"])
    time.sleep(10)
    words = ["lab", "gdb", built.name, "--kgdb", "--batch", "--ex", "print init_task.comm", "--ex", "bt 3"]
    done = subprocess.run(
        [sys.executable, "-m", "insitu", *words], capture_output=True, text=True, check=False, timeout=240
    )
    assert '"swapper/0' in done.stdout, done.stderr
    assert "sysrq_handle_dbg" in done.stdout
    assert "kernel/debug/debug_core.c:" in done.stdout
    assert built.run(["true"], timeout=120).status == 0, "the guest goes on"


def test_a_probe_overrides_what_a_function_answers(built: Guest) -> None:
    script = 'kprobe:__x64_sys_getuid /comm == "id"/ { override(12345); }'
    words = [sys.executable, "-m", "insitu", "trace", "-q", "--unsafe", "-e", script, "-c", "id -ru"]
    done = built.run(words, timeout=600)
    assert done.stdout.split() == [b"12345"], done.stderr.decode(errors="replace")


def test_a_kernel_that_was_built_is_not_built_again(kernel: Kernel) -> None:
    told: list[str] = []
    assert build("6.1", _FEATURES, report=told.append) == kernel
    assert "is in the cache" in told[-1]
