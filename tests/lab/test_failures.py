"""What is reported when a guest panics, hangs or runs out of memory, and what is left after its owner has exited."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.lab import Guest, guest
from insitu.lab.guests.failures import CommandTimeoutError, GuestError
from insitu.lab.guests.machine import Options
from insitu.lab.guests.running_guests import running_guests
from insitu.lab.guests.snapshot import start_fast
from insitu.lab.kernels.find_kernel import find_kernel
from insitu.lab.kernels.kernel import Kernel

INSITU = [sys.executable, "-m", "insitu", "lab"]


def fast_guest(**options: object) -> Guest:
    running = Guest(find_kernel("6.1"), Options(**options))  # type: ignore[arg-type]
    start_fast(running)
    return running


def test_a_panic_is_reported_with_its_message_and_status_125(kernel_6_1: Kernel) -> None:
    done = subprocess.run(
        [*INSITU, "run", "-k", "6.1", "--", "sh", "-c", "echo before; echo c >/proc/sysrq-trigger"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert done.stdout == "before\n"
    assert "insitu: the guest's kernel panicked: sysrq triggered crash" in done.stderr
    assert "console: Kernel panic - not syncing: sysrq triggered crash" in done.stderr


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_a_kernel_that_changes_its_code_under_load_lives(fetched: Callable[[str], Kernel], kernel: str) -> None:
    # Emulated with a thread for each CPU, 6.12 dies of this within seconds ("Oops: int3"), and 6.1 hangs.
    script = """
        cd /sys/kernel/tracing
        (while :; do cat /proc/self/maps /proc/stat >/dev/null; done) &
        (while :; do ls -lR /usr/lib/python3 >/dev/null; done) &
        for round in {1..20}; do
            for on in 1 0; do
                for group in syscalls sched; do echo $on >events/$group/enable; done
                for switch in bpf_stats_enabled sched_schedstats; do echo $on >/proc/sys/kernel/$switch; done
            done
        done
        kill %1 %2
        echo alive
    """
    running = Guest(fetched(kernel), Options())
    start_fast(running)
    try:
        assert running.run(["bash", "-c", script]).stdout.decode() == "alive\n"
    finally:
        running.stop()


def test_a_hang_is_distinguished_from_a_slow_command(kernel_6_1: Kernel) -> None:
    running = fast_guest()
    try:
        running.run(["true"]).check()
        running.qmp.execute("stop")  # the guest's CPUs stand still, as they do with interrupts off and a lock held
        with pytest.raises(GuestError, match=r"the guest hangs.*CPUs at") as caught:
            running.run(["true"], timeout=1)
        assert (caught.value.kind, caught.value.status) == ("hang", 125)
    finally:
        running.stop()


def test_a_hang_shows_what_the_cpu_does(kernel_6_1: Kernel) -> None:
    # On each CPU a real-time process that never lets go: nothing else runs any more, the agent neither.
    hog = "taskset -c $cpu chrt -f 99 sh -c 'while :; do :; done'"
    script = "echo -1 >/proc/sys/kernel/sched_rt_runtime_us; for cpu in 0 1; do HOG & done; wait"
    running = fast_guest()
    try:
        with pytest.raises(GuestError, match="the guest hangs") as caught:
            for seconds in (3, 30, 300):  # a loaded machine may need longer to start them
                with contextlib.suppress(CommandTimeoutError):
                    running.run(["sh", "-c", script.replace("HOG", hog)], timeout=seconds)
        assert any(" Comm: sh " in line for line in caught.value.tail), caught.value.tail
        assert any(line.strip() == "Call Trace:" for line in caught.value.tail)
    finally:
        running.stop()


def test_a_process_killed_for_lack_of_memory_is_named(kernel_6_1: Kernel) -> None:
    running = fast_guest(memory="256M")
    try:
        result = running.run(["/usr/bin/python3", "-c", "x = []\nwhile True: x.append(b'x' * (1 << 20))"])
        assert result.status == 128 + signal.SIGKILL
        assert any("python3" in kill for kill in result.oom_kills)
    finally:
        running.stop()


def test_a_guest_that_powers_itself_off_is_reported(kernel_6_1: Kernel) -> None:
    running = fast_guest()
    try:
        with pytest.raises(GuestError, match="ended by itself"):
            running.run(["sh", "-c", "echo o >/proc/sysrq-trigger; sleep 60"], timeout=300)
    finally:
        running.stop()


def test_a_kernel_that_does_not_find_its_modules_names_the_module(kernel_6_1: Kernel, tmp_path: Path) -> None:
    bare = tmp_path / "modules"
    bare.mkdir()
    (bare / "modules.dep").write_text("")
    (bare / "modules.builtin").write_text("")
    kernel = Kernel("bare", "6.1", kernel_6_1.image, modules=bare)
    with pytest.raises(InsituError, match="lacks the module virtio_pci"):
        Guest(kernel, Options()).start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_qemu_and_no_file_outlives_its_owner(kernel_6_1: Kernel, number: signal.Signals) -> None:
    name = f"doomed-{os.getpid()}-{number:d}"
    owner = subprocess.Popen(
        [*INSITU, "run", "-k", "6.1", "--name", name, "--", "sh", "-c", "echo up; sleep 1000"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    mine = next(running for running in running_guests() if running.name == name)
    owner.send_signal(number)
    owner.wait()
    # The watchdog, whose arguments have the name too, exits after it has removed the directory.
    while mine.directory.exists() or _processes(name):  # pytest's own time limit ends a wait in vain
        time.sleep(0.05)


def _processes(name: str) -> bytes:
    return subprocess.run(["pgrep", "-f", name], capture_output=True, check=False).stdout


def test_lab_stop_ends_a_guest_by_name(kernel_6_1: Kernel) -> None:
    with guest(kernel="6.1", name=f"stopped-{os.getpid()}") as running:
        directory = running.directory
        subprocess.run([*INSITU, "stop", running.name], check=False, timeout=120, capture_output=True)
        with pytest.raises(GuestError, match="the guest was stopped by insitu lab stop"):
            running.run(["true"])
    assert not directory.exists()


def test_a_writable_directory_keeps_what_the_guest_writes(kernel_6_1: Kernel, tmp_path: Path) -> None:
    done = subprocess.run(
        [*INSITU, "run", "-k", "6.1", "--rw", tmp_path, "--", "sh", "-c", 'uname -r >"$0/release"', tmp_path],
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0
    assert (tmp_path / "release").read_text().strip() == kernel_6_1.release
