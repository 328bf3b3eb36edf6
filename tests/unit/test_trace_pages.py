"""Pages of the kernel's trace buffer: every written record is found, with its time; damage ends in a count."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.trace_page_bytes import HEADER_PAGE, PAGE_BYTES, Written, bytes_of, page

from insitu.convert.event_schema import tables_of
from insitu.convert.trace_events import event_kinds
from insitu.convert.trace_pages import decode_pages, field_values, page_layout, texts
from insitu.errors import InsituError
from insitu.kernel.tracefs import Field, parse_format
from insitu.views.trace_lines import event_line

LAYOUT = page_layout(HEADER_PAGE, PAGE_BYTES)

RECORDS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 5000), st.integers(1 << 26, 1 << 40)),
        st.integers(8, 120),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0, 0, 0, 1, 7]),
    ),
    max_size=25,
)
"""Steps of time, sizes, absolute times, lengths in a word of their own, discarded records before."""


def decoded(*pages: bytes, cpus: list[int] | None = None):
    memory = np.frombuffer(b"".join(pages), np.uint8)
    return decode_pages(memory, np.array(cpus or [0] * len(pages), np.int32), LAYOUT)


def written(steps, start: int) -> list[Written]:
    found, now = [], start
    for number, (step, size, absolute, long, gap) in enumerate(steps):
        now += step + gap
        payload = bytes_of(number % 9 + 1, number).ljust(size, bytes([number]))
        found.append(Written(now, payload, absolute, long, gap))
    return found


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=5), st.integers(0, 1 << 58))
def test_every_record_of_every_page_is_found_in_order_with_its_time_and_its_bytes(pages, start):
    wanted = [written(steps, start) for steps in pages]
    found = decoded(*(page(records, start_ns=start) for records in wanted), cpus=list(range(len(pages))))
    assert found.damaged == 0
    flat = [(cpu, each) for cpu, records in enumerate(wanted) for each in records]
    assert found.ts_ns.tolist() == [each.ts_ns for _, each in flat]
    assert found.cpu.tolist() == [cpu for cpu, _ in flat]
    assert found.event.tolist() == [struct.unpack_from("<H", each.payload)[0] for _, each in flat]
    raw = found.memory.tobytes()
    for at, size, (_, each) in zip(found.at.tolist(), found.size.tolist(), flat, strict=True):
        assert raw[at : at + len(each.payload)] == each.payload
        assert 0 <= size - len(each.payload) < 4


@settings(deadline=None)
@given(st.binary(min_size=64, max_size=600), st.integers(0, 2**32 - 1))
def test_bytes_that_are_no_page_end_in_a_count_of_damage(data, commit):
    records = decoded((data[:8] + struct.pack("<Q", commit) + data[8:]).ljust(PAGE_BYTES, b"\xff")[:PAGE_BYTES])
    assert (records.at >= 16).all()
    assert (records.at + records.size <= PAGE_BYTES).all()
    for field in (
        Field("a", "int", 4, 4, True),
        Field("b", "char", 8, 16, False, 16),
        Field("c", "u64", 12, 8, False),
    ):
        assert len(field_values(records, np.arange(len(records)), field)) == len(records)


def test_overwritten_records_are_counted_by_cpu_as_the_page_says():
    one = Written(5, bytes_of(1, 1))
    found = decoded(
        page([one], missed=17, stored=True),
        page([one]),
        page([one], missed=1),
        page([one], missed=3, stored=True),
        cpus=[0, 0, 1, 0],
    )
    assert found.lost == {0: 20, 1: 1}
    assert len(found) == 4


def test_times_of_a_stamp_keep_the_bits_that_it_has_no_room_for():
    start = (1 << 60) + (1 << 20)
    found = decoded(page([Written(start, bytes_of(1, 1)), Written(start + 9, bytes_of(1, 1), absolute=True)]))
    assert found.ts_ns.tolist() == [start, start + 9]


def test_a_page_that_ends_in_padding_is_not_damaged():
    whole = page([Written(5, bytes_of(3, 1))])
    padding = struct.pack("<I", 29)  # time delta 0: nothing follows
    commit = 12 + 40
    found = decoded(whole[:8] + struct.pack("<Q", commit) + whole[16:28] + padding + whole[32:])
    assert (len(found), found.damaged) == (1, 0)


FORMAT = """\
name: request
ID: 900
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:24;\tsize:4;\tsigned:0;
\tfield:short depth;\toffset:28;\tsize:2;\tsigned:1;
\tfield:u8 flag;\toffset:30;\tsize:1;\tsigned:0;
\tfield:u64 bytes;\toffset:32;\tsize:8;\tsigned:0;
\tfield:__rel_loc char[] tail;\toffset:40;\tsize:4;\tsigned:0;

print fmt: "%s", REC->comm
"""


def request(comm: bytes, path: bytes, depth: int, flag: int, size: int, tail: bytes) -> bytes:
    fixed = 44
    words = len(path) + 1 << 16 | fixed
    relative = len(tail) + 1 << 16 | len(path) + 1
    rest = struct.pack("<16sIhBxQI", comm, words, depth, flag, size, relative) + path + b"\0" + tail + b"\0"
    return bytes_of(900, 77, rest)


def test_fields_have_the_values_that_were_written():
    rows = [(b"make", b"/etc/x", -3, 255, 2**63 + 1, b"y"), (b"sixteen bytes...", b"", 7, 0, 5, b"longer tail \xff")]
    found = decoded(page([Written(1, request(*row)) for row in rows]))
    fields = {field.name: field for field in parse_format(FORMAT, "test:request").fields}
    values = {name: field_values(found, np.arange(2), field) for name, field in fields.items()}
    assert values["comm"].tolist() == ["make", "sixteen bytes..."]
    assert values["path"].tolist() == ["/etc/x", ""]
    assert values["depth"].tolist() == [-3, 7]
    assert values["flag"].tolist() == [255, 0]
    assert values["bytes"].tolist() == [2**63 + 1, 5]
    assert values["tail"].tolist() == ["y", "longer tail �"]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20), st.integers(0, 30))
def test_texts_of_any_length_end_with_their_location_or_at_a_nul(paths, flag):
    written = [Written(1, request(b"x", path, 0, flag, 0, b"")) for path in paths]
    found = decoded(page(written))
    path = next(field for field in parse_format(FORMAT, "test:request").fields if field.name == "path")
    wanted = [path.split(b"\0")[0].decode("utf-8", "replace") for path in paths]
    assert field_values(found, np.arange(len(paths)), path).tolist() == wanted


def test_a_location_outside_of_its_record_is_empty():
    raw = request(b"x", b"path", 0, 0, 0, b"")
    raw = raw[:24] + struct.pack("<I", 60000 << 16 | 40) + raw[28:]
    found = decoded(page([Written(1, raw)]))
    path = next(field for field in parse_format(FORMAT, "test:request").fields if field.name == "path")
    assert field_values(found, np.arange(1), path).tolist() == [""]


def test_an_array_that_most_records_have_no_room_for_is_refused_before_it_takes_memory():
    found = decoded(page([Written(1, bytes_of(1, 1)) for _ in range(300)]))
    with pytest.raises(InsituError, match="shorter"):
        field_values(found, np.arange(300), Field("a", "char", 8, 60000, False, 60000))


def test_texts_end_at_the_first_nul():
    assert texts(np.frombuffer(b"ab\0dxyz\0", np.uint8).reshape(2, 4)).tolist() == ["ab", "xyz"]


@pytest.mark.parametrize(
    "text", ["", HEADER_PAGE.replace("commit", "x"), HEADER_PAGE.replace("offset:16", "offset:9000")]
)
def test_a_header_page_that_no_kernel_has_is_refused(text):
    with pytest.raises(InsituError, match="header_page"):
        page_layout(text, PAGE_BYTES)


@pytest.mark.parametrize(
    "damage",
    [
        ("ID: 900", "ID: " + "9" * 5000),
        ("offset:24", "offset:" + "9" * 5000),
        ("size:8;", "size:99999999999999999999;"),
        ("short depth", "a" * 200_000),
        ("field:int common_pid;\toffset:4;", "field:char common_pid[4];\toffset:4;"),
        ("unsigned char common_flags", "unsigned char common_flags[1]"),
    ],
    ids=lambda damage: damage[0],
)
def test_a_damaged_format_is_refused_at_once(damage):
    text = FORMAT.replace(*damage)
    assert text != FORMAT
    with pytest.raises(InsituError):
        event_kinds([("test", "request", text)])


def test_names_of_threads_and_files_start_no_line_of_their_own():
    line = event_line(1000, "evil\n1\x1b[2J", 7, 0, "open", "path=a\nb")
    assert "\n" not in line and "\x1b" not in line


def test_tables_of_events_with_one_name_have_the_category_too() -> None:
    events = [("sched", "sched_switch"), ("a", "start"), ("b", "Start")]
    assert tables_of(events) == ["event.sched_switch", "event.a_start", "event.b_Start"]
