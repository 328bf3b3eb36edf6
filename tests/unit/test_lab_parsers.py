"""What the lab reads from elsewhere: kernel images, package names, consoles, QEMU's and guests' words."""

import gzip
import io
import lzma
import socket
import struct
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.lab.guests.failures import death, oom_kills
from insitu.lab.guests.machine import Options, parse_size, qemu_program
from insitu.lab.guests.port_streams import MarkedStream
from insitu.lab.kernels import initramfs
from insitu.lab.kernels.find_kernel import find_kernel
from insitu.lab.kernels.kernel import Kernel, release_order, short_name
from insitu.lab.kernels.vmlinux import unpack_bzimage
from insitu.lab.qemu_trace import TraceEvent, parse_trace

# EI_CLASS 64-bit, EI_DATA little-endian; e_type ET_EXEC, e_machine EM_X86_64 (elf.h).
ELF = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<HH", 2, 62) + bytes(1000)


def bzimage(payload: bytes) -> bytes:
    """An image with one setup sector after the boot sector, and the payload right after those."""
    data = bytearray(1024)
    data[0x1F1] = 1
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", data, 0x248, 0, len(payload))
    return bytes(data) + payload


def _zstd(data: bytes) -> bytes:
    """As a kernel's build compresses it: a frame without its size, which follows it (size_append of Makefile.lib)."""
    compressed = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    return compressed + struct.pack("<I", len(data))


@pytest.mark.parametrize("compress", [lambda data: lzma.compress(data, lzma.FORMAT_XZ), gzip.compress, _zstd])
def test_a_bzimage_gives_up_its_elf_image(tmp_path: Path, compress: object) -> None:
    assert callable(compress)
    image = tmp_path / "vmlinuz"
    image.write_bytes(bzimage(compress(ELF)))
    assert unpack_bzimage(image) == ELF


def test_a_bzimages_release_is_read_from_its_header(tmp_path: Path) -> None:
    data = bytearray(bzimage(b"payload"))
    struct.pack_into("<H", data, 0x20E, 0x100)  # a pointer less 0x200
    data[0x300:0x330] = b"5.10.0-9-test (someone@somewhere) #1 SMP".ljust(0x30, b"\0")
    image = tmp_path / "vmlinuz"
    image.write_bytes(data)
    assert find_kernel(str(image)).release == "5.10.0-9-test"


def test_a_vmlinuxs_release_is_read_from_its_banner(tmp_path: Path) -> None:
    image = tmp_path / "vmlinux"
    image.write_bytes(ELF + b"Linux version 6.9.0-rc1+ (someone@somewhere) (gcc 12) #1 SMP")
    assert find_kernel(str(image)).release == "6.9.0-rc1+"


def test_a_file_that_is_not_a_kernel_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(InsituError, match="neither a bzImage nor an ELF kernel"):
        find_kernel(str(image))


def test_an_unknown_compression_is_left_to_the_kernels_own_loader(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(bzimage(b"something else entirely"))
    assert unpack_bzimage(image) is None


@settings(max_examples=60)
@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 255))
def test_a_damaged_image_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, cut: int, at: int, byte: int
) -> None:
    data = bytearray(bzimage(lzma.compress(ELF, lzma.FORMAT_XZ))[: 2000 - cut])
    if at < len(data):
        data[at] = byte
    image = tmp_path_factory.mktemp("image") / "vmlinuz"
    image.write_bytes(data)
    try:
        unpack_bzimage(image)
    except InsituError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("6.1.0-56-amd64", "6.1"),
        ("6.1.0-56-cloud-amd64", "6.1-cloud"),
        ("6.1.0-56-rt-amd64", "6.1-rt"),
        ("6.12.117+deb12-amd64", "6.12"),
    ],
)
def test_short_names_of_releases(release: str, name: str) -> None:
    assert short_name(release) == name


def test_later_releases_sort_later() -> None:
    releases = ["6.12.117+deb12-amd64", "6.1.0-56-amd64", "6.12.107+deb12-amd64", "6.1.0-9-amd64"]
    assert sorted(releases, key=release_order) == [releases[place] for place in (3, 1, 2, 0)]


def test_a_kernel_that_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(InsituError, match=r"insitu lab fetch 9\.9"):
        find_kernel("9.9")


def test_the_archive_is_what_cpio_unpacks(tmp_path: Path) -> None:
    entries = [("a", 0o040755, b""), ("a/odd", 0o100644, b"12345"), ("a/link", 0o120777, b"odd")]
    subprocess.run(["/bin/busybox", "cpio", "-idm"], cwd=tmp_path, input=initramfs.archive(entries), check=True)
    assert (tmp_path / "a/odd").read_bytes() == b"12345"
    assert (tmp_path / "a/link").readlink() == Path("odd")


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2G", 2 << 30), ("256", 256 << 20), ("1gb", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "options", [Options(cpus=0), Options(cpus=2, numa=3), Options(memory="64M"), Options(net="x")]
)
def test_a_machine_that_cannot_be_is_refused(options: Options) -> None:
    with pytest.raises(InsituError):
        options.check(Kernel("x", "x", Path("x")))


def test_a_kernel_without_kgdb_says_what_to_do_instead(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("CONFIG_SMP=y\n")
    with pytest.raises(InsituError, match="insitu lab gdb"):
        Options(kgdb=True).check(Kernel("x", "x", Path("x"), config=tmp_path / "config"))


def test_a_panic_is_found_among_other_console_lines(tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.write_bytes(
        b"[    2.1] hello\r\n\x1b[0m[   12.345678] Kernel panic - not syncing: Fatal\x07 exception\r\n[ 13.0] end\r\n"
    )
    failure = death(console)
    assert (failure.kind, str(failure)) == ("panic", "the guest's kernel panicked: Fatal exception")
    assert failure.tail == ["Kernel panic - not syncing: Fatal exception", "end"]


def test_a_panic_after_an_oops_says_which(tmp_path: Path) -> None:
    oops = ["BUG: kernel NULL pointer dereference, address: 0000000000000010", "RIP: 0010:first+0x4/0x10"]
    second = ["Oops: int3: 0000 [#2] PREEMPT SMP NOPTI", "RIP: 0010:second+0x4/0x10"]
    end = "Kernel panic - not syncing: Fatal exception in interrupt"
    console = tmp_path / "console"
    console.write_text("\n".join(["hello", *oops, *second, end]))
    failure = death(console)
    assert str(failure) == f"the guest's kernel panicked: Fatal exception in interrupt ({oops[0]})"
    assert failure.tail == [*oops, *second, end]
    # What a kernel survived before is not why it panicked.
    console.write_text("\n".join([*oops, "Kernel panic - not syncing: sysrq triggered crash"]))
    assert str(death(console)) == "the guest's kernel panicked: sysrq triggered crash"


def test_kills_for_lack_of_memory_are_read_from_the_console() -> None:
    line = "[ 3.2] Out of memory: Killed process 142 (python3) total-vm:1kB, anon-rss:2kB"
    assert oom_kills(f"x\n{line}\ny") == ("python3 (pid 142)",)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=40))
def test_output_is_exact_however_it_is_cut_and_whatever_it_holds(output: bytes, cuts: list[int]) -> None:
    marker = b"0123\n"
    output = output.replace(marker, b"")
    received = io.BytesIO()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = MarkedStream(ours, marker, received.write)
        rest = output + marker
        for size in [*cuts, len(rest)]:
            if rest[:size]:
                theirs.sendall(rest[:size])
                stream.receive()
            rest = rest[size:]
    assert stream.ended
    assert received.getvalue() == output


def test_qemus_trace_lines_become_events_and_its_log_lines_take_their_time() -> None:
    text = "123@1700000000.000005:virtio_notify vdev 0x1 vq 0x2\ncpu_reset: x\n\n9@1700000001.000000:empty\n"
    assert parse_trace(text) == [
        TraceEvent(1_700_000_000_000_005_000, "virtio_notify", "vdev 0x1 vq 0x2"),
        TraceEvent(1_700_000_000_000_005_000, "log", "cpu_reset: x"),
        TraceEvent(1_700_000_001_000_000_000, "empty", ""),
    ]


def test_a_log_line_before_any_event_takes_the_time_of_the_start() -> None:
    assert parse_trace("cpu_reset: x\n", 5) == [TraceEvent(5, "log", "cpu_reset: x")]


def test_a_machine_without_qemu_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InsituError, match=r"needs QEMU.*apt-get install qemu-system-x86"):
        qemu_program()
