"""The kernel's "print fmt": C's values, printf's text; what nobody can know is a question mark."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.convert.print_format import printer

ENUM = {"TWO": 2, "SIX": 6}


def shown(text: str, **values) -> str:
    made = printer(text, lambda address: f"symbol+{address - 0xFFFF000000000000:#x}", ENUM.get)
    assert made is not None
    return made(values)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ('"%d %u %x %#x", REC->a, REC->a, REC->a, REC->a', {"a": -1}, "-1 4294967295 ffffffff 0xffffffff"),
        ('"%lld %llu", REC->a, REC->a', {"a": -1}, "-1 18446744073709551615"),
        ('"%5d|%-5d|%05d|%3s|%-3s|", REC->a, REC->a, REC->a, "x", "y"', {"a": 42}, "   42|42   |00042|  x|y  |"),
        ('"%.2s %.*s %s", "abc", 1, "abc", (char *)"d"', {}, "ab a d"),
        ('"%d", 2 + 3 * 4 - (1 << 2) % 3', {}, "13"),
        ('"%d", -7 / 2', {}, "-3"),
        ('"%d %d", (int)REC->a, (u8)REC->a', {"a": 0x1_FFFF_FFFE}, "-2 254"),
        ('"%s", REC->a & 1 ? "odd" : REC->a ? "even" : "none"', {"a": 6}, "even"),
        ('"%s", __print_flags(REC->a, "|", { 1, "A" }, { TWO, "B" }, {4, "C"})', {"a": 0x13}, "A|B|0x10"),
        ('"%s", __print_flags(REC->a, "|", { 1, "A" }, {0, ((void *)0)})', {"a": 0}, ""),
        ('"%s %s", __print_symbolic(REC->a, {SIX, "six"}), __print_symbolic(7, {6, "six"})', {"a": 6}, "six 0x7"),
        ('"%s", __print_array(REC->a, 2, 4)', {"a": [1, 255, 3]}, "{0x1,0xff}"),
        ('"%s|%s", __print_hex(REC->a, 3), __print_hex_str(REC->a, 2)', {"a": b"\x01\xab\xff"}, "01 ab ff|01ab"),
        ('"%s %d", __get_str(n), __get_dynamic_array_len(b)', {"n": "name", "b": b"12345"}, "name 5"),
        ('"%x", REC->a[1]', {"a": [1, 0xAB]}, "ab"),
        ('"%pS %ps", (void *)REC->a, REC->a', {"a": 0xFFFF000000000012}, "symbol+0x12 symbol"),
        ('"%pI4 %pI6c", REC->a, REC->b', {"a": bytes([127, 0, 0, 1]), "b": bytes(15) + b"\1"}, "127.0.0.1 ::1"),
        ("\"%c%c%%\", REC->a, 'y'", {"a": 120}, "xy%"),
        ('"a=%s b=%d", secret_table[REC->a], REC->a', {"a": 3}, "a=? b=3"),
        ('"%s", __get_cpumask(m)', {"m": bytes([0b10111, 1])}, "0-2,4,8"),
        ('"%s", !(REC->a == 3 && REC->b != 4 || 0) ? "no" : "yes"', {"a": 3, "b": 5}, "yes"),
        ('"%lx", ~0x0fUL & 0xff', {}, "f0"),
        ('"%d", REC->a ? 1 : "x" + 1', {"a": 1}, "1"),
    ],
)
def test_a_format_is_printed_as_c_would(text, values, expected):
    assert shown(text, **values) == expected


@pytest.mark.parametrize(
    "text", ["", "1", '"%d"', '"%d", (', '"%99999d", 1', '"x" "y', '"%d",' + "(" * 5000, '"%d", ' + "-" * 50000]
)
def test_what_is_no_format_has_no_printer(text):
    assert printer(text) is None


@settings(deadline=None)
@given(st.text(alphabet="\"%ds ,()REC->ab{}[]?:+-*/<&|!~0129\\'x_", max_size=80))
def test_any_text_is_a_printer_or_none_and_a_printer_prints(text):
    made = printer('"%d %s", ' + text)
    if made is not None:
        assert isinstance(made({"a": 1, "b": "x"}), str)


@pytest.mark.parametrize(
    "text",
    [
        '"%s", "a" * 3000000000',
        '"%s", "%2000000000d" % 5',
        '"%d", ' + "*".join(["REC->a"] * 400),
        '"%d", ' + "+".join(["REC->a"] * 3000),
        '"%x", REC->a' + "[0]" * 3000,
        '"%s", -"x"',
        '"%s", __get_cpumask(m)',
    ],
)
def test_a_format_that_would_take_the_machine_s_memory_or_time_shows_the_fields_instead(text):
    made = printer(text)
    assert made is None or len(made({"a": 2**63, "m": b"\xff" * 4096})) < 40_000


@pytest.mark.parametrize("pair", ['{REC->b, "x"}', '{-"x", "x"}', '{1 / 0.5, "x"}', "{9, ((void *)0)}"])
def test_a_name_for_what_is_no_constant_is_no_traceback(pair):
    made = printer(f'"%s", __print_symbolic(REC->a, {pair})')
    assert made is None or isinstance(made({"a": 9}), str)
