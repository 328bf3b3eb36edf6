"""Stacks with counts as bpftrace 0.17 and DTrace print them."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.convert.formats.registry import importer_of
from insitu.errors import InsituError
from insitu.symbols.frame import Frame

from .imported import Imported, imported

BPFTRACE = """\
Attaching 1 probe...
hello world


@[
    kfn_leaf+12
    do_sys+0x4
,\x20
    operator new(unsigned long)+16 (/usr/lib/libc.so.6)
    0x7f001122
    main+20
, my prog, 77]: 5
@[,\x20
    single+1
, cat]: 7
@[, , idle]: 2
@named[cat,\x20
    a+1
]: 3
@plain[cat]: 9
@count: 12
"""
DTRACE = """\
dtrace: description 'profile-997 ' matched 1 probe
CPU     ID                    FUNCTION:NAME

  postgres
              genunix`kmem_cache_free+0xdb
              libstdc++.so.6`operator new(unsigned long)+0x1d
              0xfffffd7fff
                5


              unix`hat_free+0x10
               12
"""


def read(tmp_path: Path, text: str, **options) -> Imported:
    (tmp_path / "out.txt").write_text(text)
    return imported(tmp_path / "out.txt", **options)


def test_maps_of_bpftrace_become_an_event_each(tmp_path: Path):
    found = read(tmp_path, BPFTRACE)
    assert importer_of(tmp_path / "out.txt").name == "bpftrace"
    assert list(zip(found.events(), found.comms(), found.functions(), found.column("weight"), strict=True)) == [
        ("@", "my prog", ["main", "0x7f001122", "operator new(unsigned long)", "do_sys", "kfn_leaf"], 5),
        ("@", "cat", ["single"], 7),
        ("@", "idle", [], 2),
        ("@named", "cat", ["a"], 3),
    ]
    assert Frame("operator new(unsigned long)", "/usr/lib/libc.so.6") in found.frames()[0]
    assert found.stacks().preferred == "weight"


def test_a_damaged_entry_is_reported_with_its_line_or_left_out(tmp_path: Path):
    text = BPFTRACE.replace("    0x7f001122", "?? torn ??")
    with pytest.raises(InsituError, match="line 10: neither a frame nor a key of @"):
        read(tmp_path, text)
    found = read(tmp_path, text, skip_bad_lines=True)
    assert found.column("weight") == [7, 2, 3]
    assert "1 bad line" in found.notes[0]


def test_aggregations_of_dtrace_are_read(tmp_path: Path):
    found = read(tmp_path, DTRACE)
    assert importer_of(tmp_path / "out.txt").name == "dtrace"
    assert list(zip(found.comms(), found.frames(), found.column("weight"), strict=True)) == [
        (
            "postgres",
            [
                Frame("0xfffffd7fff", symbolized=False),
                Frame("operator new(unsigned long)", "libstdc++.so.6"),
                Frame("kmem_cache_free", "genunix"),
            ],
            5,
        ),
        ("out.txt", [Frame("hat_free", "unix")], 12),
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), text=st.sampled_from([BPFTRACE, DTRACE]))
def test_damaged_text_is_stacks_or_one_line_of_error(tmp_path: Path, data: st.DataObject, text: str):
    damaged = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    (tmp_path / "out.txt").write_bytes(damaged)
    try:
        imported(tmp_path / "out.txt").stacks()
    except InsituError as error:
        assert "\n" not in str(error)
