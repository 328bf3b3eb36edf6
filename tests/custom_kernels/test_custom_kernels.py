"""Kernels built from Debian's source; run by `make test-custom-kernels` alone, as each compiles for minutes."""

import subprocess
from collections.abc import Iterator

import pytest

from insitu.lab import Guest, guest
from insitu.lab.build import build
from insitu.lab.kernel import Kernel

pytestmark = pytest.mark.timeout(5400)

_BOOT_SECONDS = 240  # kasan and lockdep are slow under software emulation


def _guest_with(feature: str, kgdb: bool = False) -> Guest:
    kernel = build("6.1", [feature], report=print)
    return guest(kernel=kernel.name, cpus=2, numa=2, memory="1G", kgdb=kgdb, boot_timeout=_BOOT_SECONDS)


def _output(running: Guest, script: str) -> str:
    done = running.run(["sh", "-c", script], timeout=120)
    assert done.status == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module")
def irqsoff() -> Iterator[Guest]:
    with _guest_with("irqsoff") as running:
        yield running


def test_the_guest_runs_the_kernel_that_was_built(irqsoff: Guest) -> None:
    assert _output(irqsoff, "uname -r").strip() == irqsoff.kernel.release
    assert irqsoff.kernel.release.endswith("-insitu-irqsoff")


def test_nothing_is_a_module(irqsoff: Guest) -> None:
    assert _output(irqsoff, "cat /proc/modules") == ""
    assert "m" not in irqsoff.kernel.options.values()


def test_both_cpus_and_both_nodes_are_up(irqsoff: Guest) -> None:
    assert _output(irqsoff, "cat /sys/devices/system/cpu/online /sys/devices/system/node/online").split() == [
        "0-1",
        "0-1",
    ]


def test_the_running_kernel_has_the_symbols_of_its_vmlinux(irqsoff: Guest) -> None:
    assert irqsoff.kernel.debuginfo is not None
    listing = subprocess.run(["nm", irqsoff.kernel.debuginfo], capture_output=True, text=True, check=True).stdout
    addresses = {line.split()[2]: line.split()[0] for line in listing.splitlines() if len(line.split()) == 3}
    for name in ("schedule", "vfs_read", "init_task"):
        seen = _output(irqsoff, f"grep -w {name} /proc/kallsyms | head -n 1").split()
        assert seen[0] == addresses[name]


def test_kprobes_function_graph_and_types_are_there(irqsoff: Guest) -> None:
    assert "function_graph" in _output(irqsoff, "cat /sys/kernel/tracing/available_tracers").split()
    assert irqsoff.kernel.options["KPROBE_EVENTS"] == "y"
    if irqsoff.kernel.options.get("DEBUG_INFO_BTF") == "y":
        assert int(_output(irqsoff, "stat -c %s /sys/kernel/btf/vmlinux")) > 0


def test_irqsoff_records_the_longest_time_with_interrupts_off(irqsoff: Guest) -> None:
    tracing = "cd /sys/kernel/tracing"
    assert {"irqsoff", "preemptoff", "preemptirqsoff"} <= set(
        _output(irqsoff, f"{tracing}; cat available_tracers").split()
    )
    script = f"{tracing}; echo irqsoff >current_tracer; echo 0 >tracing_max_latency; ls -R /usr/include >/dev/null"
    _output(irqsoff, script)
    assert int(_output(irqsoff, f"{tracing}; cat tracing_max_latency; echo nop >current_tracer")) > 0


def test_lockdep_counts_classes_and_contention() -> None:
    with _guest_with("lockdep") as running:
        assert "lock-classes" in _output(running, "cat /proc/lockdep_stats")
        assert "lock_stat version" in _output(running, "cat /proc/lock_stat")


def test_kasan_watches_from_the_start() -> None:
    with _guest_with("kasan") as running:
        assert "KernelAddressSanitizer initialized" in _output(running, "dmesg")


def test_gcov_counts_the_lines_of_a_function_that_ran() -> None:
    with _guest_with("gcov") as running:
        counts = _output(running, "find /sys/kernel/debug/gcov -path '*/kernel/fork.gcda' | head -n 1").strip()
        assert int(_output(running, f"cat {counts} | wc -c")) > 0
        notes = _output(running, f"readlink -f {counts.removesuffix('.gcda')}.gcno").strip()
        # The guest sees this machine's files, so gcov(1) works inside as it stands.
        assert _output(running, f"test -s {notes} && echo there") == "there\n"


def test_kgdb_listens_on_the_second_serial_line() -> None:
    with _guest_with("kgdb", kgdb=True) as running:
        assert _output(running, "cat /sys/module/kgdboc/parameters/kgdboc").strip().startswith("ttyS1")


def test_a_kernel_that_was_built_is_not_built_again() -> None:
    told: list[str] = []
    kernel: Kernel = build("6.1", ["irqsoff"], report=told.append)
    assert build("6.1", ["irqsoff"], report=told.append) == kernel
    assert "is in the cache" in told[-1]
