"""Symbols that are text: /proc/kallsyms and the maps of run-time compilers; and the vdso."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.kernel import procfs
from insitu.symbols.elf import Elf
from insitu.symbols.frame import JIT, KERNEL, PYTHON, USER, Frame
from insitu.symbols.jit_map import JitMap
from insitu.symbols.kallsyms import ALL, Kallsyms, are_shown, has_function, symbol_address
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import JIT_MODULE, Symbolizer
from insitu.symbols.vdso import VDSO, read_vdso

KALLSYMS = b"""\
ffffffff81000000 T _stext
ffffffff81000000 T first_alias
ffffffff81000100 t do_work
ffffffff81000180 D some_data
ffffffff81000200 W weak_one
ffffffff81fff000 T last_of_the_core
ffffffffc0100000 t ext4_read\t[ext4]
ffffffffc0100040 t ext4_write\t[ext4]
ffffffffc0200000 t bpf_prog_0123456789abcdef_count\t[bpf]
"""


def u64(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return np.array(values, np.uint64)


def test_kernel_functions_reach_to_the_next_one_of_the_same_module() -> None:
    found = Kallsyms(KALLSYMS).find(
        u64(0xFFFFFFFF81000010, 0xFFFFFFFF810001FF, 0xFFFFFFFF81000200, 0xFFFFFFFFC010003F, 0xFFFFFFFFC0100040)
    )
    assert found == [
        ("first_alias", "[kernel.kallsyms]"),
        ("do_work", "[kernel.kallsyms]"),
        ("weak_one", "[kernel.kallsyms]"),
        ("ext4_read", "[ext4]"),
        ("ext4_write", "[ext4]"),
    ]


def test_addresses_outside_of_all_kernel_code_have_no_name() -> None:
    found = Kallsyms(KALLSYMS).find(u64(0, 0xFFFFFFFF80FFFFFF, 0xFFFFFFFFA0000000, 0xFFFFFFFFFFFFFFFF))
    assert found == [None] * 4


def test_kernel_frames_name_their_module() -> None:
    frames = Symbolizer(kallsyms=KALLSYMS).kernel(u64(0xFFFFFFFFC0100001, 0xFFFFFFFFC0200001, 0x1234))
    assert frames == [
        (Frame("ext4_read", "[ext4]", kind=KERNEL),),
        (Frame("bpf_prog_0123456789abcdef_count", "[bpf]", kind=KERNEL),),
        (Frame("0x1234", kind=KERNEL, symbolized=False),),
    ]


@pytest.mark.parametrize(
    ("hidden_by", "paranoid", "remedy"),
    [
        ("0", "2", "run as root or with CAP_SYSLOG, or: sysctl kernel.perf_event_paranoid=1"),
        ("1", "1", "run as root or with CAP_SYSLOG, or: sysctl kernel.kptr_restrict=0"),
        ("1", "-1", "run as root or with CAP_SYSLOG, or: sysctl kernel.kptr_restrict=0"),
        ("1", "4", "run as root or with CAP_SYSLOG, or: sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1"),
        ("2", "2", "sysctl kernel.kptr_restrict=1"),
    ],
)
def test_hidden_kernel_addresses_are_reported_with_the_remedy_for_what_hides_them(
    monkeypatch: pytest.MonkeyPatch, hidden_by: str, paranoid: str, remedy: str
) -> None:
    settings = {"kernel.kptr_restrict": hidden_by, "kernel.perf_event_paranoid": paranoid}
    monkeypatch.setattr(procfs, "sysctl", settings.get)
    hidden = b"".join(b"0" * 16 + line[16:] + b"\n" for line in KALLSYMS.splitlines())
    symbolizer = Symbolizer(kallsyms=hidden)
    assert symbolizer.kernel(u64(0xFFFFFFFF81000010)) == [
        (Frame("0xffffffff81000010", kind=KERNEL, symbolized=False),)
    ]
    (note,) = symbolizer.notes
    assert note == f"kernel functions have no names: /proc/kallsyms shows no addresses to this user ({remedy})"


def test_single_symbols_are_those_of_bpftrace_data_and_first_aliases_too() -> None:
    kallsyms = Kallsyms(KALLSYMS, ALL)
    assert kallsyms.symbol(0xFFFFFFFF81000010) == ("_stext", 0x10)
    assert kallsyms.symbol(0xFFFFFFFF81000184) == ("some_data", 4)
    assert kallsyms.symbol(0xFFFFFFFFA0000000) == ("last_of_the_core", 0xFFFFFFFFA0000000 - 0xFFFFFFFF81FFF000)
    assert kallsyms.symbol(0xFFFFFFFF80FFFFFF) is None
    assert kallsyms.symbol(0x1234) is None


def test_symbols_are_found_by_their_whole_name() -> None:
    assert symbol_address("do_work", KALLSYMS) == 0xFFFFFFFF81000100
    assert symbol_address("some_data", KALLSYMS) == 0xFFFFFFFF81000180
    assert symbol_address("ext4_read", KALLSYMS) == 0xFFFFFFFFC0100000
    assert symbol_address("do_wor", KALLSYMS) is None
    assert has_function("ext4_write", KALLSYMS) and has_function("weak_one", KALLSYMS)
    assert not has_function("some_data", KALLSYMS) and not has_function("write", KALLSYMS)


def test_hidden_addresses_are_seen_from_the_first_lines(tmp_path: Path) -> None:
    (tmp_path / "shown").write_bytes(KALLSYMS)
    (tmp_path / "hidden").write_bytes(b"".join(b"0" * 16 + line[16:] + b"\n" for line in KALLSYMS.splitlines()))
    assert are_shown(str(tmp_path / "shown")) and not are_shown(str(tmp_path / "hidden"))


@given(st.binary(max_size=200) | st.lists(st.sampled_from(KALLSYMS.split(b"\n"))).map(b"\n".join))
def test_any_text_makes_a_kernel_table(text: bytes) -> None:
    kallsyms = Kallsyms(text)
    assert len(kallsyms.find(u64(0, 0xFFFFFFFF81000010))) == 2


def test_the_line_written_last_holds_where_compiled_code_overlaps() -> None:
    text = b"1000 100 old\n2000 10 LazyCompile:*other file.js:1:2\nnonsense\n"
    text += b"1040 40 new\n0x3000 0x10 with prefix\n5000 0 empty\n"
    found = JitMap(text).find(
        u64(0x0FFF, 0x1000, 0x103F, 0x1040, 0x107F, 0x1080, 0x1100, 0x2005, 0x300F, 0x3010, 0x5000)
    )
    other = "LazyCompile:*other file.js:1:2"
    assert found == [None, "old", "old", "new", "new", "old", None, other, "with prefix", None, None]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=25))
def test_overlapping_ranges_resolve_as_a_walk_over_the_lines_does(ranges: list[tuple[int, int]]) -> None:
    text = b"".join(b"%x %x f%d\n" % (begin, size, i) for i, (begin, size) in enumerate(ranges))
    expected = [
        next((f"f{i}" for i in range(len(ranges) - 1, -1, -1) if 0 <= at - ranges[i][0] < ranges[i][1]), None)
        for at in range(90)
    ]
    assert JitMap(text).find(np.arange(90, dtype=np.uint64)) == expected


@given(st.binary(max_size=200))
def test_any_text_makes_a_jit_map(text: bytes) -> None:
    assert len(JitMap(text).find(u64(0, 2**64 - 1))) == 2


@pytest.fixture
def own_map() -> Iterator[Path]:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    if path.exists():
        pytest.skip("this interpreter writes its own perf map")
    path.touch()
    yield path
    path.unlink()


def test_compiled_functions_are_of_kind_jit_and_python_ones_carry_their_file(own_map: Path) -> None:
    own_map.write_text("7f0000001000 80 LazyCompile:~<script> a.js\n7f0000002000 80 py::work:/srv/app.py\n")
    chains = Symbolizer().anonymous(os.getpid(), u64(0x7F0000001010, 0x7F0000002000, 0x7F0000003000))
    assert chains == [
        (Frame("LazyCompile:~<script> a.js", JIT_MODULE, kind=JIT),),
        (Frame("py::work:/srv/app.py", JIT_MODULE, "/srv/app.py", kind=PYTHON),),
        (Frame("0x7f0000003000", kind=JIT, symbolized=False),),
    ]
    anonymous = Module("//anon", pid=os.getpid())
    assert Symbolizer().user(anonymous, u64(0x7F0000001010)) == chains[:1]


def test_a_recording_from_elsewhere_does_not_read_maps_of_processes_here(own_map: Path) -> None:
    own_map.write_text("1000 80 mine\n")
    assert Symbolizer(live=False).anonymous(os.getpid(), u64(0x1000)) == [
        (Frame("0x1000", kind=USER, symbolized=False),)
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file that belongs to somebody else")
def test_a_map_that_belongs_to_somebody_else_is_not_believed(own_map: Path) -> None:
    own_map.write_text("1000 80 forged\n")
    os.chown(own_map, 12345, 12345)
    assert Symbolizer().anonymous(os.getpid(), u64(0x1000)) == [(Frame("0x1000", kind=USER, symbolized=False),)]


def test_vdso_functions_are_named_at_the_address_that_the_linker_gives_them() -> None:
    elf = read_vdso()
    if elf is None:
        pytest.skip("this process has no vdso")
    libc = ctypes.CDLL(None)
    libc.dlopen.restype = libc.dlsym.restype = ctypes.c_void_p
    libc.dlsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    rtld_noload_lazy = 4 | 1
    address = libc.dlsym(libc.dlopen(b"linux-vdso.so.1", rtld_noload_lazy), b"__vdso_clock_gettime")
    start = int(
        next(line for line in Path("/proc/self/maps").read_text().splitlines() if VDSO in line).split("-")[0], 16
    )
    chains = Symbolizer().user(Module(VDSO, elf.build_id), u64(address - start))
    assert [chain[-1] for chain in chains] == [Frame("__vdso_clock_gettime", VDSO)]
    assert Symbolizer(live=False).user(Module(VDSO), u64(address - start)) != chains
    assert isinstance(elf, Elf)
