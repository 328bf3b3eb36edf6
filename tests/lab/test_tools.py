"""A running guest from outside: its memory dumped, its kernel under gdb, QEMU's own events recorded."""

import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import insitu
from insitu.lab import Guest, guest
from insitu.lab.kernels.fetch import fetch_debuginfo
from insitu.lab.kernels.kernel import Kernel

INSITU = [sys.executable, "-m", "insitu", "lab"]


@pytest.fixture(scope="module")
def debuggable(fetched: Callable[[str], Kernel]) -> Kernel:
    """The cloud flavour: its debug information is a third of the full kernel's to fetch."""
    return fetch_debuginfo(fetched("6.1-cloud"))


@pytest.fixture(scope="module")
def cloud_guest(debuggable: Kernel) -> Iterator[Guest]:
    with guest(kernel="6.1-cloud", memory="512M", boot_timeout=300) as running:
        yield running


@pytest.mark.parametrize("kind", ["elf", "kdump"])
def test_a_dump_opens_in_drgn_and_shows_the_process_that_was_started(
    cloud_guest: Guest, debuggable: Kernel, tmp_path: Path, kind: str
) -> None:
    drgn = pytest.importorskip("drgn", reason="needs drgn")
    linux = pytest.importorskip("drgn.helpers.linux.pid", reason="needs drgn")
    start = f"cp /bin/sleep /tmp/insitu-{kind}; /tmp/insitu-{kind} 1000 </dev/null >/dev/null 2>&1 & "
    started = f"until [ $(cat /proc/$!/comm) = insitu-{kind} ]; do :; done"
    cloud_guest.run(["sh", "-c", start + started]).check()
    core = tmp_path / "core.vmcore"
    (tmp_path / "other").write_text("other")
    core.symlink_to("other")
    subprocess.run([*INSITU, "dump", cloud_guest.name, "--format", kind, "-o", core], check=True, timeout=300)
    # A guest's memory is for this user alone, and a link that another user left there is not followed.
    assert stat.S_IMODE(core.lstat().st_mode) == 0o600
    assert (tmp_path / "other").read_text() == "other"
    assert {path.name for path in tmp_path.iterdir()} == {"core.vmcore", "other"}
    program = drgn.Program()
    program.set_core_dump(core)
    program.load_debug_info([debuggable.debuginfo])
    names = {task.comm.string_().decode() for task in linux.for_each_task(program)}
    assert f"insitu-{kind}" in names
    assert cloud_guest.run(["true"]).status == 0, "the guest goes on"


def test_gdb_sees_the_guests_kernel_with_symbols(cloud_guest: Guest) -> None:
    done = subprocess.run(
        [*INSITU, "gdb", cloud_guest.name, "--batch", "--ex", "print init_task.comm"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert '"swapper' in done.stdout, done.stderr
    assert cloud_guest.run(["true"]).status == 0, "the guest goes on"


def test_qemus_events_become_a_table(cloud_guest: Guest, tmp_path: Path) -> None:
    recording = subprocess.Popen(
        [*INSITU, "trace", cloud_guest.name, "--events", "virtio_console_*", "-d", "3", "-o", tmp_path / "q.insitu"]
    )
    while recording.poll() is None:
        cloud_guest.run(["echo", "traced"])
    assert recording.returncode == 0
    rows = insitu.open(tmp_path / "q.insitu").sql("select distinct name from event.qemu").rows()
    assert rows
    assert all(name.startswith("virtio_console_") for (name,) in rows)


def test_qemus_log_items_become_rows_too(cloud_guest: Guest, tmp_path: Path) -> None:
    recording = subprocess.Popen(
        [*INSITU, "trace", cloud_guest.name, "--log", "int", "-d", "3", "-o", tmp_path / "q.insitu"]
    )
    while recording.poll() is None:
        cloud_guest.run(["true"])
    assert recording.returncode == 0
    rows = insitu.open(tmp_path / "q.insitu").sql("select * from event.qemu").rows()
    # A guest's timer interrupt, vector 0xec on x86 (arch/x86/include/asm/irq_vectors.h: LOCAL_TIMER_VECTOR).
    assert any("v=ec" in str(row) or "INT=0xec" in str(row) for row in rows)


def test_a_log_item_that_qemu_does_not_have_is_refused(cloud_guest: Guest, tmp_path: Path) -> None:
    done = subprocess.run(
        [*INSITU, "trace", cloud_guest.name, "--log", "nonesuch", "-o", tmp_path / "q.insitu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "QEMU cannot log nonesuch" in done.stderr


def test_a_dump_that_does_not_fit_leaves_nothing(cloud_guest: Guest, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", tmp_path], check=True)
    try:
        done = subprocess.run(
            [*INSITU, "dump", cloud_guest.name, "-o", tmp_path / "core"], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "is there room for up to 512 MB" in done.stderr
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert cloud_guest.run(["true"]).status == 0, "the guest goes on"


def test_an_event_that_qemu_does_not_have_is_refused(cloud_guest: Guest, tmp_path: Path) -> None:
    done = subprocess.run(
        [*INSITU, "trace", cloud_guest.name, "--events", "nonesuch_*", "-o", tmp_path / "q.insitu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no trace event 'nonesuch_*'" in done.stderr
