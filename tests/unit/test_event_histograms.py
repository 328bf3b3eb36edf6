"""The kernel's hist files, as Debian's 6.1 and 6.12 have printed them, and programs that count the same."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.event_formats import KMALLOC, OPENAT, SWITCH

from insitu.errors import InsituError
from insitu.record.ftrace.histogram_script import histogram_of, histogram_script
from insitu.record.ftrace.histograms import Row, added_since, histogram_request, parse_hist, trigger_text
from insitu.views.histogram import sorted_entries

_TOTALS = "\nTotals:\n    Hits: {}\n    Entries: {}\n    Dropped: {}\n"
_HEAD = "# event histogram\n#\n# trigger info: hist:keys=node:vals=hitcount:sort=hitcount [active]\n#\n\n"
_SYMBOLS = """\
{ call_site: [ffffffffc022d974] alloc_buf.constprop.0 [virtio_console]       } hitcount:         1  bytes_req:      72
{ call_site: [ffffffff8139a910] seq_read_iter                                } hitcount:         2  bytes_req:    8192
"""
_STACKS = """\
{ stacktrace:
         seq_read_iter+0x370/0x450
         proc_reg_read_iter+0x4d/0x90
} hitcount:          1  bytes_req:       4096
{ stacktrace:
} hitcount:          3  bytes_req:         12
"""
_PROGRAMS = """\
{ common_pid: sh              [       144], bytes_req: ~ 2^6  } hitcount:          1
{ common_pid: ls, [x]         [       172], bytes_req: ~ 2^19 } hitcount:          4
"""
_NUMBERS = """\
{ ptr: ffff888006e3a800, common_cpu:          1, node: 18446744073709551615 } hitcount:          1
{ ptr: ffff888006f10000, cpu:          0, node:          3 } hitcount:          2
"""
_NAMES = """\
{ next_comm: kworker/0:3                                       , next_prio:        120 } hitcount:          1
\tmax:        120  prio:        120  comm: kworker/1:1
"""
_BUCKETS = "{ bytes_req: ~ 511900-511999 } hitcount:          1  bytes_req:     511992\n"
_CASES = [
    (KMALLOC, ["call_site.sym"], ["bytes_req"], _SYMBOLS, [(("alloc_buf.constprop.0 [virtio_console]",), 1, (72,))]),
    (
        KMALLOC,
        ["stacktrace"],
        ["bytes_req"],
        _STACKS,
        [((("seq_read_iter+0x370/0x450", "proc_reg_read_iter+0x4d/0x90"),), 1, (4096,)), (((),), 3, (12,))],
    ),
    (KMALLOC, ["stacktrace"], ["bytes_req"], _STACKS.replace("stacktrace", "common_stacktrace"), [(((),), 3, (12,))]),
    (
        KMALLOC,
        ["common_pid.execname,bytes_req.log2"],
        [],
        _PROGRAMS,
        [(("sh [144]", "2^6"), 1, ()), (("ls, [x] [172]", "2^19"), 4, ())],
    ),
    (
        KMALLOC,
        ["ptr.hex", "cpu", "node"],
        [],
        _NUMBERS,
        [(("0xffff888006e3a800", 1, -1), 1, ()), (("0xffff888006f10000", 0, 3), 2, ())],
    ),
    (SWITCH, ["next_comm", "next_prio"], [], _NAMES, [(("kworker/0:3", 120), 1, ())]),
    (KMALLOC, ["bytes_req.buckets=100"], ["bytes_req"], _BUCKETS, [((511900,), 1, (511992,))]),
]


@pytest.mark.parametrize(("event", "keys", "values", "text", "expected"), _CASES)
def test_what_the_kernel_prints_is_read_back(event, keys, values, text, expected) -> None:  # type: ignore[no-untyped-def]
    request = histogram_request(event, keys, values)
    entries = text.count("hitcount:")
    found = parse_hist(_HEAD + text + _TOTALS.format(17, entries, 2), request)
    assert (found.hits, found.dropped, found.damaged) == (17, 2, 0)
    assert len(found.rows) == entries
    for keys_of, hits, sums in expected:
        assert Row(keys_of, hits, sums) in found.rows


def test_entries_that_cannot_be_read_are_counted() -> None:
    request = histogram_request(KMALLOC, ["call_site.sym"], ["bytes_req"])
    found = parse_hist(_HEAD + _SYMBOLS.replace("[ffffffff8139a910]", "[?]") + _TOTALS.format(3, 2, 0), request)
    assert len(found.rows) == 1
    assert found.damaged == 1


def test_a_text_without_totals_is_refused() -> None:
    with pytest.raises(InsituError, match="no totals"):
        parse_hist(_HEAD + _SYMBOLS, histogram_request(KMALLOC, ["call_site.sym"]))


@given(cut=st.integers(0, len(_STACKS)), noise=st.text(max_size=12))
def test_a_damaged_text_ends_in_an_error_or_fewer_entries(cut: int, noise: str) -> None:
    request = histogram_request(KMALLOC, ["stacktrace"], ["bytes_req"])
    text = _HEAD + _STACKS + _TOTALS.format(4, 2, 0)
    with suppress(InsituError):
        parse_hist(text[:cut] + noise + text[cut + len(noise) :], request)


def test_the_trigger_has_what_was_asked_for_and_a_power_of_two_of_entries() -> None:
    request = histogram_request(KMALLOC, ["call_site.sym,stacktrace"], ["bytes_req"], "bytes_req>64", 5000)
    assert trigger_text(request, command="pause") == (
        "hist:keys=call_site.sym,stacktrace:vals=hitcount,bytes_req:size=8192:pause if bytes_req > 64"
    )


@pytest.mark.parametrize(
    ("keys", "values", "message"),
    [
        ([], [], "needs a key"),
        (["call_sit"], [], "did you mean 'call_site'"),
        (["call_site,ptr,node,bytes_req"], [], "at most 3"),
        (["node"], ["ptr,bytes_req,bytes_alloc"], "at most 2"),
        (["node"], ["bytes_req.hex"], "shown as numbers"),
        (["node,node"], [], "given twice"),
    ],
)
def test_what_the_event_does_not_have_is_refused(keys: list[str], values: list[str], message: str) -> None:
    with pytest.raises(InsituError, match=message):
        histogram_request(KMALLOC, keys, values)


def test_a_program_counts_by_the_same_keys() -> None:
    request = histogram_request(
        OPENAT, ["filename,common_pid.execname"], ["flags"], "filename ~ '/etc/*' && flags & 1"
    )
    text = histogram_script(request, follows=True)
    assert "@hits[str(args.filename), comm, tid] = count();" in text
    assert '(strncmp(str(args.filename), "/etc/", 5) == 0) && ((args.flags & 1) != 0)' in text


def test_a_filter_that_a_program_cannot_have_is_refused() -> None:
    request = histogram_request(SWITCH, ["next_pid"], [], "next_comm ~ 'a*b'")
    with pytest.raises(InsituError, match="pattern"):
        histogram_script(request)


def test_the_maps_of_a_program_become_the_same_rows() -> None:
    request = histogram_request(KMALLOC, ["common_pid.execname", "bytes_req.log2"], ["bytes_req"])
    key = {"key0": ["sh", "ls"], "key1": [5, 7], "key2": [6, 3]}
    maps = {
        "@hits": {**key, "value": [2, 1]},
        "@v0": {**key, "value": [128, 8]},
    }
    found = histogram_of(request, maps, 3)
    assert found.rows == (Row(("sh [5]", "2^6"), 2, (128,)), Row(("ls [7]", "2^3"), 1, (8,)))
    assert (found.hits, found.dropped) == (6, 3)


def test_entries_are_sorted_by_any_field_and_by_the_value_first() -> None:
    rows = [Row((1,), 3, (5,)), Row((2,), 9, (1,)), Row((3,), 1, (7,))]

    def order(sort: str | None) -> list[object]:
        return [row.keys[0] for row in sorted_entries(rows, ["node"], ["bytes_req"], sort)]

    assert order(None) == [3, 1, 2]
    assert order("hitcount") == [2, 1, 3]
    assert order("hitcount.ascending") == [3, 1, 2]
    assert order("node") == [1, 2, 3]
    assert order("node.descending") == [3, 2, 1]
    with pytest.raises(InsituError, match="did you mean 'node'"):
        order("nod")


def test_an_interval_has_what_was_added_in_it() -> None:
    request = histogram_request(KMALLOC, ["node"], ["bytes_req"])
    line = "{{ node: {:>10} }} hitcount: {:>10}  bytes_req: {:>10}\n"
    first = parse_hist(line.format(0, 2, 64) + line.format(1, 1, 8) + _TOTALS.format(4, 2, 1), request)
    second = parse_hist(
        line.format(0, 5, 96) + line.format(1, 1, 8) + line.format(2, 7, 70) + _TOTALS.format(16, 3, 3), request
    )
    assert added_since(None, first) == first
    found = added_since(first, second)
    assert found.rows == (Row((0,), 3, (32,)), Row((2,), 7, (70,)))
    assert (found.hits, found.dropped) == (12, 2)
    assert added_since(second, second).rows == ()
