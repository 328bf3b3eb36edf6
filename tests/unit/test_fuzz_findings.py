"""What fuzzing found (docs/fuzzing.md), in the smallest inputs that show it, with the behaviour that is right."""

import json
import shutil
import struct
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from fuzz.registry import CORPUS

from insitu.convert.open import open_session
from insitu.errors import InsituError
from insitu.lab.guests import running_guests
from insitu.lab.kernels import find_kernel
from insitu.lab.kernels.find_kernel import cached_kernels, kernel_at
from insitu.lab.kernels.kernel import INDEX, Kernel
from insitu.lab.kernels.kernel_modules import has_feature
from insitu.lab.kernels.vmlinux import decompress
from insitu.symbols.elf import Elf
from insitu.symbols.elf_join import with_sections

from .sessions import mixed_session


def test_sections_are_not_put_into_a_file_with_section_headers_of_another_size() -> None:
    # e_shentsize 63 instead of 64 (elf(5)); e_shoff 64, e_shnum 2, e_shstrndx 1.
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64, 0, 64, 56, 0, 63, 2, 1
    )
    assert with_sections(Elf(header + bytes(128)), {".debug_info": b"x"}) is None


def test_a_list_of_modules_may_hold_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "modules.order").write_bytes(b"kernel/fs/9p/9p.ko\0\n")
    (tmp_path / "modules.builtin").write_bytes(b"kernel/\xe5\0\xff.ko\nkernel/fs/overlayfs/overlay.ko\n")
    (tmp_path / "modules.dep").write_bytes(b"kernel/\xe5.ko: kernel/\xff.ko\n")
    kernel = Kernel("k", "6.1", tmp_path / "image", modules=tmp_path)
    assert has_feature(kernel, "overlay")
    assert not has_feature(kernel, "9p")


def test_a_list_of_modules_with_zero_bytes_names_files_without_them(tmp_path: Path) -> None:
    (tmp_path / "modules.order").write_bytes(b"kernel/fs/9p/9p.ko\0\n")
    with pytest.raises(FileNotFoundError, match=r"9p\.ko"):
        has_feature(Kernel("k", "6.1", tmp_path / "image", modules=tmp_path), "9p")


def test_a_kernel_cut_within_its_boot_header_is_refused(tmp_path: Path) -> None:
    # The header's magic ends at 0x206, kernel_version at 0x210 (Documentation/arch/x86/boot.rst).
    image = tmp_path / "vmlinuz"
    image.write_bytes(bytes(0x202) + b"HdrS\0\0\0")
    with pytest.raises(InsituError, match="neither a bzImage nor an ELF kernel"):
        kernel_at(image)


def test_a_small_zstd_image_is_decompressed_in_little_memory() -> None:
    payload = zstandard.ZstdCompressor().compress(b"\x7fELF")
    tracemalloc.start()
    try:
        assert decompress(payload) == b"\x7fELF"
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["5", "[]", '{"name": "a", "release": [1]}', '{"name": [], "release": {}, "image": 5}', "\xff"]
)
def test_a_damaged_index_of_a_kernel_counts_as_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = find_kernel.cache_directory("kernels")
    for name, content in (("6.1", '{"name": "6.1", "release": "6.1.0-9", "image": "vmlinuz"}'), ("other", text)):
        (directory / name).mkdir()
        (directory / name / INDEX).write_text(content, encoding="latin-1")
    assert "6.1" in [kernel.name for kernel in cached_kernels()]


def test_a_guests_description_with_numbers_out_of_range_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "guests/one").mkdir(parents=True)
    fields = dict.fromkeys(("name", "kernel", "release", "memory", "accelerator"), "x")
    fields |= dict.fromkeys(("cpus", "pid", "qemu", "qemu_start"), 1) | {"started": 1.5}
    monkeypatch.setattr(running_guests, "guests_directory", lambda: tmp_path / "guests")
    for name in ("cpus", "pid", "qemu", "qemu_start", "started"):
        for number in (float("inf"), 10**400, 10**30):
            (tmp_path / "guests/one/guest.json").write_text(json.dumps(fields | {name: number}))
            assert running_guests.running_guests() == []


def test_a_table_with_a_column_whose_name_is_not_utf_8_is_one_line(tmp_path: Path) -> None:
    path = mixed_session(tmp_path / "sent.insitu")
    file = path / "tables/sample/0.parquet"
    file.write_bytes(file.read_bytes().replace(b"weight", b"weig\xeet"))
    with open_session(path) as session, pytest.raises(InsituError, match=r"^[^\n]*tables/sample[^\n]*$"):
        session.database.relation("sample")


def test_a_track_may_be_called_by_a_lone_surrogate_and_records_of_no_track_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "sent.insitu"
    shutil.copytree(CORPUS / "session_raw/counters", path)
    layout = path / "raw/counters/layout.json"
    content = json.loads(layout.read_text())
    content["tracks"][0]["name"] = "\ud800\x1b[2J"
    del content["tracks"][1:]
    layout.write_text(json.dumps(content))
    with open_session(path) as session:
        assert session.sql("select name from track").rows() == [("\ufffd\x1b[2J",)]
        assert session.manifest.lost == session.sql("select count(*) from counter").item()  # one of two events


def test_the_version_that_a_newer_session_names_stays_on_the_line(tmp_path: Path) -> None:
    path = mixed_session(tmp_path / "s.insitu")
    manifest = json.loads((path / "session.json").read_text())
    text = json.dumps({**manifest, "format": 3, "insitu": "a\nb\x1b[31m" + "x" * 999})
    (path / "session.json").write_text(text)
    with pytest.raises(InsituError) as caught:
        open_session(path)
    assert str(caught.value).startswith(f"{path}: written by a newer insitu (a")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 300
