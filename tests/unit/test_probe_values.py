"""Values that lie in memory: layouts and contents against ctypes, text and JSON, what may be done with them."""

import ctypes
import io
import json
import struct
from functools import cache as once
from typing import Any

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.probe import cache
from insitu.probe.compile import lower
from insitu.probe.layout import EVENT_HEAD, Layout, RecordLayout
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.stream import JsonOutput, TextOutput
from insitu.probe.runtime.event_decode import EventDecoder
from insitu.probe.runtime.event_layout import recording_layout
from insitu.probe.runtime.struct_columns import memory_column
from insitu.probe.runtime.struct_decode import reader
from insitu.probe.runtime.symbols import Symbols
from insitu.probe.source import ScriptError
from insitu.probe.types import UINT64, Array, Field, Integer, Members, Pointer, Record, Tuple, Type

from .probe_scripts import checked, compiled


class _Inner(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_uint, 3), ("c", ctypes.c_int, 5), ("d", ctypes.c_uint, 24))


class _Either(ctypes.Union):
    _fields_ = (("small", ctypes.c_short), ("large", ctypes.c_ulonglong))


class _Outer(ctypes.Structure):
    _fields_ = (
        ("x", ctypes.c_byte),
        ("tag", ctypes.c_char * 5),
        ("next", ctypes.c_void_p),
        ("inner", _Inner),
        ("either", _Either),
        ("numbers", ctypes.c_ushort * 3),
        ("inners", _Inner * 2),
        ("grid", (ctypes.c_int * 2) * 3),
        ("last", ctypes.c_ubyte),
    )


_DEFINITIONS = """
struct inner { int a; unsigned b:3; int c:5; unsigned d:24; };
struct outer { int8 x; char tag[5]; struct outer *next; struct inner inner;
    union { short small; unsigned long large; } either; unsigned short numbers[3]; struct inner inners[2];
    int grid[3][2]; unsigned char last; };
"""


@once
def _outer() -> Type:
    """The script's type of what _Outer is."""
    found = checked(f"{_DEFINITIONS} BEGIN {{ $x = *(struct outer *)0; }}").checker
    (variables,) = found._variables.values()
    return variables["$x"]


def _python(value: Any) -> Any:
    """A ctypes value as the reader gives it."""
    if isinstance(value, ctypes.Array):
        return [_python(each) for each in value]
    if isinstance(value, ctypes.Structure | ctypes.Union):
        return {name: _python(getattr(value, name)) for name, *_ in value._fields_}
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return 0 if value is None else value


@given(st.binary(min_size=ctypes.sizeof(_Outer), max_size=ctypes.sizeof(_Outer)))
@settings(max_examples=200, deadline=None)
def test_any_bytes_of_a_record_are_read_as_c_reads_them(data: bytes) -> None:
    kind = _outer()
    assert kind.size == ctypes.sizeof(_Outer)
    assert reader(kind)(data, 0) == _python(_Outer.from_buffer_copy(data))


@given(st.lists(st.binary(min_size=ctypes.sizeof(_Outer), max_size=ctypes.sizeof(_Outer)), max_size=5))
@settings(max_examples=60, deadline=None)
def test_columns_of_records_hold_what_c_reads(values: list[bytes]) -> None:
    size = ctypes.sizeof(_Outer)
    rows = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), size)
    column = memory_column(rows, _outer())
    expected = [_python(_Outer.from_buffer_copy(each)) for each in values]
    for each in expected:
        each["tag"] = each["tag"].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert column.to_list() == expected
    assert column.dtype == memory_column(np.zeros((1, size), np.uint8), _outer()).dtype


def test_a_member_that_lies_outside_of_its_record_is_left_out() -> None:
    members = {"a": Field("a", Integer(4), 0), "b": Field("b", Integer(8), 4), "c": Field("c", Integer(4), 0, 9, 60)}
    assert reader(Record("r", "struct", 8, Members(lambda: members)))(bytes(8), 0) == {"a": 0}


def test_a_record_inside_of_itself_as_in_damaged_types_ends() -> None:
    members: dict[str, Field] = {}
    kind = Record("r", "struct", 8, Members(lambda: members))
    members["again"] = Field("again", kind, 0)
    found = reader(kind)(bytes(8), 0)
    for _ in range(40):
        found = found["again"] if found is not None else None
    assert found is None


# Text

_POINT = Record(
    "point",
    "struct",
    32,
    Members(
        lambda: {
            "x": Field("x", Integer(4), 0),
            "tag": Field("tag", Array(Integer(1), 2), 4),
            "next": Field("next", Pointer(Integer(4)), 8),
            "on": Field("on", Integer(1, False, "bool"), 16),
            "color": Field("color", Integer(4, False, "color", (("RED", 3), ("BLUE", 4))), 20),
            "in": Field("in", Record("", "struct", 4, Members(lambda: {"y": Field("y", Integer(4), 0)})), 24),
        }
    ),
)
_VALUE = {"x": -1, "tag": [1, 2], "next": 4096, "on": True, "color": 3, "in": {"y": 7}}


def _shown(output: type[TextOutput] | type[JsonOutput], kind: Type, value: Any) -> str:
    stream = io.BytesIO()
    made = output(None, Formatter(Symbols({})), stream)  # type: ignore[arg-type]
    made.value(kind, value)
    made.flush()
    return stream.getvalue().decode()


def test_records_print_their_members_as_bpftrace_does() -> None:
    text = "{ .x = -1, .tag = [1,2], .next = 0x1000, .on = true, .color = RED, .in = { .y = 7 } }\n"
    assert _shown(TextOutput, _POINT, _VALUE) == text


def test_in_json_records_are_objects_and_enumerators_and_addresses_numbers() -> None:
    data = '{ "x": -1, "tag": [1,2], "next": 4096, "on": true, "color": 3, "in": { "y": 7 } }'
    assert _shown(JsonOutput, _POINT, _VALUE) == f'{{"type": "value", "data": {data}}}\n'


def test_named_tuples_print_as_records_do() -> None:
    kind = Tuple((Integer(8), Tuple((Integer(8), Integer(8)))), ("a", "b"))
    assert _shown(TextOutput, kind, (1, (2, 3))) == "{ .a = 1, .b = (2, 3) }\n"
    assert _shown(JsonOutput, kind, (1, (2, 3))) == '{"type": "value", "data": { "a": 1, "b": [2,3] }}\n'


def test_an_enumerator_without_a_name_is_its_number() -> None:
    kind = Integer(4, False, "color", (("RED", 3),))
    assert (_shown(TextOutput, kind, 3), _shown(TextOutput, kind, 9)) == ("RED\n", "9\n")


def test_records_of_typed_events_are_columns_of_structs() -> None:
    fields = Tuple((UINT64, UINT64, _POINT))
    record = RecordLayout("emit", "e", fields, names=(*EVENT_HEAD, "point"))
    layout = json.loads(json.dumps(recording_layout(Layout(records=[record]), points={})))
    raw = b"".join(
        (-n).to_bytes(4, "little", signed=True) + bytes((1, 2, 0, 0)) + (4096).to_bytes(8, "little")
        + bytes((1, 0, 0, 0)) + (3).to_bytes(4, "little") + n.to_bytes(4, "little") + bytes(4)
        for n in (1, 2)
    )  # fmt: skip
    data = b"".join(struct.pack("<IIIIQII", 56, 0, 0, 3, 10, 5, 4) + point for point in (raw[:32], raw[32:]))
    decoder = EventDecoder(layout)
    frame = polars.DataFrame(decoder.decode(data).tables["e"])
    assert frame.select("ts_ns", "cpu", "pid", "tid").rows() == [(10, 3, 4, 5)] * 2
    assert frame["point"].struct.field("x").to_list() == [-1, -2]
    assert frame["point"].struct.field("in").to_list() == [{"y": 1}, {"y": 2}]
    assert frame.schema["point"].to_schema()["x"] == polars.Int32  # type: ignore[attr-defined]
    empty = polars.DataFrame(decoder.empty("e"))
    assert empty.schema == frame.schema


def test_types_of_records_outlive_the_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    layout = Layout()
    found = compiled(f"{_DEFINITIONS} BEGIN {{ @m[1] = *(struct outer *)0; print(*(struct outer *)0); }}")
    kind = next(each for each in found.layout.maps if each.name == "@m").value
    assert kind is not None
    layout.script_map("@m", None, kind)
    cache.store_entry("name", [], layout, b"", True)
    entry = cache.load_entry("name")
    assert entry is not None
    again = entry.layout.maps[0].value
    data = bytes(range(kind.size)) + bytes(8)
    assert reader(again)(data, 0) == reader(kind)(data, 0)


# What the checker takes


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("BEGIN { print(&1); }", "& needs an operand in memory"),
        ("BEGIN { print(&pid); }", "& needs an operand in memory"),
        ("BEGIN { print(&@x); }", "undefined map: @x"),
        ("struct A { int a:3; }; BEGIN { print(&((struct A *)0)->a); }", "a bit field has no address"),
        (
            "struct A { int a; }; struct B { int a; }; BEGIN { print(*(struct A *)0 == *(struct B *)1); }",
            "== cannot be applied to struct A and struct B",
        ),
        ('BEGIN { print((1, "a") == (1, 2)); }', "== cannot be applied to"),
        ('BEGIN { print((1, "a") < (1, "b")); }', "< cannot be applied to"),
        ("struct A { int a[2]; int b[3]; }; BEGIN { $p = (struct A *)0; print($p->a == $p->b); }", "== cannot be"),
        ("BEGIN { print((typeof($nope))1); }", "unknown variable $nope"),
        ("BEGIN { print((1, 2)[2]); }", "a constant below 2"),
        ("BEGIN { $i = 1; print((1, 2)[$i]); }", "a constant below 2"),
        ("BEGIN { print((int64[2])5); }", "a number has at most 8 bytes"),
        ("BEGIN { print((int8 *)1 + (int8 *)2); }", "two addresses cannot be added"),
        ("struct A { struct A a; }; BEGIN { print(sizeof(struct A)); }", "this struct contains itself"),
        ("typedef T U; typedef U T; BEGIN { print(sizeof(T)); }", "this typedef contains itself"),
        ("struct A { char a[70000]; }; BEGIN { @x[*(struct A *)0] = 1; }", "the key of @x takes 70000 bytes"),
        ("BEGIN { @h[1] = hist(1); for ($kv : @h) { @x = $kv; } }", "cannot be copied out of its map"),
        ("BEGIN { @h[1] = hist(1); for ($kv : @h) { print($kv.1 + 1); } }", "+ cannot be applied to hist"),
        ("BEGIN { @h[1] = stats(1); for ($kv : @h) { print(($kv.1, 2)); } }", "a tuple cannot hold stats"),
        ("struct A { int a[0]; }; BEGIN { $x = ((struct A *)0)->a; }", "it cannot be copied"),
        ("struct A { int a[0]; }; BEGIN { @x = ((struct A *)0)->a; }", "it cannot be copied"),
        ("struct A { int a[0]; }; BEGIN { @x[((struct A *)0)->a] = 1; }", "it cannot be copied"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(script: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(script)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_offset_beyond_the_end_of_a_parameter_is_refused() -> None:
    with pytest.raises(ScriptError, match="outside the parameter, which has 2 bytes"):
        checked("BEGIN { print(str($1 + 3)); }", "ab")


def test_values_larger_than_the_kernel_has_room_for_are_refused_in_one_line() -> None:
    with pytest.raises(ScriptError, match="4194304 are allowed") as caught:
        compiled("struct A { char a[5000000]; }; BEGIN { $x = *(struct A *)0; print($x.a[1]); }")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "size"),
    [
        ("sizeof(struct outer)", ctypes.sizeof(_Outer)),
        ("sizeof(*((struct outer *)0)->next)", ctypes.sizeof(_Outer)),
        ("sizeof(((struct outer *)0)->inners[1])", ctypes.sizeof(_Inner)),
        ("offsetof(struct outer, either)", _Outer.either.offset),
        ("offsetof(struct outer, grid)", _Outer.grid.offset),
        ("sizeof((uint8[])(uint32)1)", 4),
        ("sizeof((uint16[3])1)", 6),
        ("sizeof(typeof(struct outer))", ctypes.sizeof(_Outer)),
        ("sizeof(typeof(((struct outer *)0)->inners))", 2 * ctypes.sizeof(_Inner)),
        ("sizeof(typeof((int16)1)[5])", 10),
        ("offsetof(typeof(*(struct outer *)0), last)", _Outer.last.offset),
    ],
)
def test_sizes_and_offsets_are_cs(expression: str, size: int) -> None:
    text, _, _ = lower(checked(f"{_DEFINITIONS} BEGIN {{ @x = {expression}; }}"))
    assert f"store i64 {size}, ptr" in text
