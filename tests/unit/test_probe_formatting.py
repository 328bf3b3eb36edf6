"""Text of values and maps: printf against the C library's, histograms against what bpftrace prints."""

import ctypes
from itertools import pairwise

import numpy as np
import pytest

from insitu.probe.aggregations import Average, Count, Histogram, LinearHistogram, Statistics
from insitu.probe.layout import MapLayout, RecordLayout
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.map_text import bounds, map_json, map_text
from insitu.probe.output.printf_formats import parse_format
from insitu.probe.runtime.decode import code, decoder, piece_count
from insitu.probe.runtime.drain import FIELDS
from insitu.probe.runtime.map_content import MapContent
from insitu.probe.runtime.symbols import Symbols
from insitu.probe.types import Buffer, Inet, Integer, MacAddress, String, Tuple, Type

_libc = ctypes.CDLL(None)
_SIGNED = Integer(8, True)


def _formatter() -> Formatter:
    return Formatter(Symbols({}))


def _printf(text: str, kinds: list[Type], *values: object) -> str:
    layout = RecordLayout("printf", text, Tuple(tuple(kinds)))
    return _formatter().printf(layout)((*bytes(FIELDS), *values))


def _c_printf(text: str, *values: object) -> str:
    buffer = ctypes.create_string_buffer(512)
    _libc.snprintf(buffer, 512, text.encode(), *values)
    return buffer.value.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("text", ["%d", "%5d|", "%-5d|", "%05d", "%+d", "% d", "%ld", "%lld", "%.3d", "%hd", "%hhd"])
@pytest.mark.parametrize("value", [0, 1, -1, 255, -300, 65537, 2**31 - 1, -(2**31)])
def test_signed_conversions_are_the_c_librarys(text: str, value: int) -> None:
    assert _printf(text, [_SIGNED], value) == _c_printf(text, ctypes.c_int64(value))


@pytest.mark.parametrize("text", ["%u", "%x", "%X", "%#x", "%o", "%08x", "%-8x|", "%lx", "%llu", "%hhx", "%hu"])
@pytest.mark.parametrize("value", [0, 1, -1, 255, 65537, 48879, 2**31, 2**32 - 1])
def test_unsigned_conversions_are_the_c_librarys(text: str, value: int) -> None:
    assert _printf(text, [_SIGNED], value) == _c_printf(text, ctypes.c_int64(value))


@pytest.mark.parametrize("text", ["%s", "%5s|", "%-5s|", "%.2s", "%c%%"])
def test_text_conversions_are_the_c_librarys(text: str) -> None:
    if "c" in text:
        assert _printf(text, [_SIGNED], 65) == _c_printf(text, 65)
    else:
        assert _printf(text, [String(8)], b"abc\0junk") == _c_printf(text, b"abc")


@pytest.mark.parametrize("flags", ["", "-", "+", " ", "#", "0", "-+", "+0", " 0", "#0", "-#", "0-#", "#+"])
@pytest.mark.parametrize("width", ["", "3", "9"])
@pytest.mark.parametrize("precision", ["", ".", ".0", ".3", ".6"])
def test_flags_width_and_precision_are_the_c_librarys(flags: str, width: str, precision: str) -> None:
    for letter in ("d", "i", "u", "x", "X", "o", "hd", "hhu", "hx", "lo", "llX", "p", "c"):
        text = f"{flags}{width}{precision}{letter}"
        for value in (0, 5, -5, 65, 255, 70000, 2**31 - 1, 2**40 + 7, -(2**40)):
            if letter == "c" and not 0 < value < 128:
                continue  # bytes that C's strings, or text, do not have
            if letter in "diuxXo" and not -(2**31) <= value < 2**31:
                continue  # shown whole: see below
            shown, expected = _printf(f"%{text}|", [_SIGNED], value), _c_printf(f"%{text}|", ctypes.c_int64(value))
            assert shown == expected, (text, value)


def test_a_number_that_does_not_fit_the_conversion_is_shown_whole() -> None:
    assert _printf("%d %u", [_SIGNED, _SIGNED], 1 << 40, 1 << 40) == "1099511627776 1099511627776"


@pytest.mark.parametrize("text", ["%", "%5", "%q", "%*d"])
def test_conversions_that_do_not_exist_are_errors(text: str) -> None:
    with pytest.raises(ValueError):
        parse_format(text)


def test_stored_forms_are_decoded() -> None:
    kinds: list[Type] = [Integer(4, False), String(10), Buffer(5), Inet(), Tuple((Integer(8, True), String(3)))]
    whole = Tuple(tuple(kinds))
    import struct

    data = (
        struct.pack("<Q16s", 7, b"hi")
        + struct.pack("<q8s", 2, b"abcde")
        + struct.pack("<q16s", 2, bytes([127, 0, 0, 1]))
    )
    data += struct.pack("<q8s", -5, b"ok")
    assert len(data) == whole.size
    pieces = struct.unpack(f"<{code(whole)}", data)
    assert len(pieces) == piece_count(whole)
    number, text, buffer, inet, inner = decoder(whole)(pieces)
    assert (number, text, buffer, inner) == (7, "hi", b"ab", (-5, "ok"))
    assert _formatter().text(Inet(), inet) == "127.0.0.1"


def test_addresses_of_cards_are_shown_in_hexadecimal() -> None:
    value = int.from_bytes(bytes.fromhex("0a1b2c3d4e5f"), "little")
    assert _formatter().text(MacAddress(), value) == "0A:1B:2C:3D:4E:5F"


def _map(
    kind: Type, rows: list[tuple[tuple[object, ...], object]], keys: tuple[Type, ...] = (Integer(8, True),)
) -> str:
    layout = MapLayout("@x", 1, 8, 8, 10, Tuple(keys) if keys else None, kind)
    return map_text(_formatter(), layout, MapContent(kind, rows))


# What bpftrace 0.17 prints for the same values.
_BARS = """@x: 
[0]                    1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[1]                    1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[2, 4)                 2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[4, 8)                 2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

"""  # noqa: W291 - as printed
_LINEAR = """@x: 
(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[0, 1000)              0 |                                                    |
[1000, 2000)           1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|

"""  # noqa: W291 - as printed


def test_histograms_look_as_bpftraces() -> None:
    cells = np.zeros(Histogram().cells, np.int64)
    cells[1:5] = [1, 1, 2, 2]
    assert _map(Histogram(), [((), cells)], ()) == _BARS
    linear = LinearHistogram(0, 10000, 1000)
    cells = np.zeros(linear.cells, np.int64)
    cells[[0, 2]] = 1
    assert _map(linear, [((), cells)], ()) == _LINEAR


@pytest.mark.parametrize("bits", range(6))
def test_cells_of_a_histogram_meet_without_gap_or_overlap(bits: int) -> None:
    kind = Histogram(bits)
    ranges = [bounds(kind, index) for index in range(1, kind.cells - 1)]
    assert ranges[0][0] == 0
    for (_, end), (begin, _) in pairwise(ranges):
        assert end == begin
    end = ranges[-1][1]
    assert end is not None and end >= 2**62


def test_counts_are_ordered_by_value_and_the_rest_by_key() -> None:
    rows: list[tuple[tuple[object, ...], object]] = [((1,), 5), ((2,), 1)]
    assert _map(Count(), rows) == "@x[2]: 1\n@x[1]: 5\n"
    assert _map(String(4), [((2,), "b"), ((1,), "c")]) == "@x[1]: c\n@x[2]: b\n"
    assert _map(Statistics(), [((1,), (2, -7))]) == "@x[1]: count 2, average -3, total -7\n\n"
    assert _map(Average(), [((1,), (2, 7))]) == "@x[1]: 3\n\n"
    assert _map(Count(), []) == "\n"


def test_maps_as_json_are_bpftraces() -> None:
    layout = MapLayout("@x", 1, 16, 8, 10, Tuple((Integer(8, True), String(8))), Count())
    content = MapContent(Count(), [((1, "a"), 3)])
    assert map_json(_formatter(), layout, content) == ("map", {"@x": {"1,a": 3}})


def test_the_last_linear_range_ends_at_the_maximum() -> None:
    """lhist(n, 0, 7, 3) counts 6 in a range that 7 is not in."""
    kind = LinearHistogram(0, 7, 3)
    assert [bounds(kind, index) for index in range(kind.cells)] == [(None, 0), (0, 3), (3, 6), (6, 7), (7, None)]
    labels = [line.partition(")")[0] for line in _map(kind, [((), [1, 1, 1, 1, 1])], ()).splitlines()[1:-1]]
    assert labels == ["(..., 0", "[0, 3", "[3, 6", "[6, 7", "[7, ..."]


def test_bounds_of_linear_ranges_are_shortened_by_kilobytes_also_below_zero() -> None:
    shown = _map(LinearHistogram(-8192, 4 << 30, 1024), [((), [0, 0, 0, 0, 0, 1] + [0] * 8 + [1])], ())
    assert "[-4K, -3K) " in shown and "[5K, 6K) " in shown
    assert "[2048M, 3072M) " in _map(LinearHistogram(0, 4 << 30, 1 << 30), [((), [0, 0, 0, 1, 0, 0])], ())
