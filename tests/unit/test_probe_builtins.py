"""Builtins as the compiler sees them: what they take, what they refuse, and the tables that it makes of wildcards."""

import fnmatch
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.probe.builtins.glob import parse_glob
from insitu.probe.options import Options
from insitu.probe.output.gfp_flags import flag_names
from insitu.probe.output.packet_file import PacketFile
from insitu.probe.source import ScriptError

from .probe_scripts import checked, compiled


def _matches(pattern: str, text: str) -> bool:
    """What the program does with the tables, here in Python."""
    glob = parse_glob(pattern.encode())
    state = 1
    for byte in text.encode():
        accepted = glob.any_byte
        for first, last, places in glob.ranges:
            accepted |= places if first <= byte <= last else 0
        state = (state & accepted) << 1 | state & glob.stars
    return bool(state >> glob.length & 1)


_PIECES = st.sampled_from(["a", "b", "-", "*", "?", "[ab]", "[!a]", "[a-c]", "[]]", "[b-]"])


@settings(deadline=None)
@given(st.lists(_PIECES, max_size=8).map("".join), st.text("abc-]", max_size=8))
def test_wildcards_match_what_fnmatch_matches(pattern: str, text: str) -> None:
    assert _matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


def test_wildcards_that_cannot_be_are_refused() -> None:
    for pattern, message in [("[ab", "unterminated"), ("a" * 63, "at most 62")]:
        with pytest.raises(ValueError, match=message):
            parse_glob(pattern.encode())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("BEGIN { @ = tseries(1, 0, 5); }", "the interval of tseries() must be at least 1"),
        ("BEGIN { @ = tseries(1, 1s, 1001); }", "tseries() keeps 1 to 1000 intervals"),
        ('BEGIN { @ = tseries(1, 1s, 5, "mode"); }', "aggregates by avg, max, min, sum, not 'mode'"),
        ("BEGIN { @ = tseries(1, 1s, 5); @ = tseries(1, 2s, 5); }", "type mismatch"),
        ("BEGIN { $x = tseries(1, 1s, 5); }", "has to be assigned to a map"),
        ("BEGIN { print(pid(here)); }", "pid() takes curr_ns or init"),
        ("BEGIN { print(ppid(1, 2)); }", "ppid() takes 0 or 1 arguments, not 2"),
        ("BEGIN { print(strlen(5)); }", "strlen() takes a string, not int64"),
        ("BEGIN { print(globmatch(comm, comm)); }", "has to be a string literal"),
        ('BEGIN { print(globmatch(comm, "[")); }', "unterminated character class in the pattern"),
        ("BEGIN { print(memcmp(comm, comm, 0)); }", "memcmp() compares 1 to 1024 bytes"),
        ("BEGIN { find(@x, 1, 2); @x[1] = 1; }", "the third argument of find() must be a variable"),
        ("BEGIN { print(len(5)); }", "len() takes a map or a stack"),
        ('BEGIN { signal("SIGFOO"); }', "signal() may change the system"),
        ("BEGIN { print(path(curtask)); }", "path() takes a struct path"),
        ('BEGIN { static_assert(pid > 0, "x"); }', "static_assert() needs a constant condition"),
        ('BEGIN { static_assert(1 == 2, "one is not two"); }', "one is not two"),
        ('BEGIN { fail("%d is %s", 5, "five"); }', "5 is five"),
        ("BEGIN { print(getopt(comm)); }", "has to be a string literal"),
        ("BEGIN { assert_str(5); }", "expected a string"),
        ('BEGIN { printf("%rx", 5); }', "%rx wants a buffer"),
        ('BEGIN { print(uaddr("x")); }', "uaddr() needs a uprobe or usdt probe, this is a begin probe"),
        ('BEGIN { print(reg("ip")); }', "registers are not available in a begin probe"),
        ("BEGIN { tseries; }", "unknown name 'tseries'"),
        ("BEGIN { pcom(); }", "unknown function pcom(); did you mean 'pcomm'?"),
        ("BEGIN { ppids; }", "unknown name 'ppids'; did you mean 'ppid'?"),
    ],
)
def test_wrong_uses_are_one_clear_line(script: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        checked(script)
    assert message in caught.value.plain, caught.value.plain


def test_a_branch_that_is_never_taken_may_fail() -> None:
    assert checked('BEGIN { if ($1 > 2) { fail("too many"); } else { $x = 1; } }', "1")
    assert checked(
        'BEGIN { if (!is_ptr(pid) && $1 == 1) { @x = 1; } else { static_assert(false, "no"); } print(@x); }', "1"
    )
    with pytest.raises(ScriptError, match="too many"):
        checked('BEGIN { if ($1 > 2) { fail("too many"); } }', "3")


@pytest.mark.parametrize(
    "script",
    [
        'BEGIN { @ = tseries(pid, 100ms, 20, "avg"); @k[comm] = tseries(pid, 1s, 1000); }',
        "BEGIN { print(pid() + tid(init) + uid() + cpu() + ncpus()); print(comm()); print(probe()); }",
        'BEGIN { $p = comm(1); print($p); @[$p] = 1; print(cgroup_path(cgroup, "uni*")); }',
        'BEGIN { if (strcontains(comm, "py") && globmatch(comm, "*[a-z]?")) { print(strstr(comm, comm)); } }',
        "BEGIN { @m[1] = 2; let $v; if (delete(@m, 1) || find(@m, 2, $v)) { print($v); } }",
        'interval:s:1 { assert(cpu < ncpus, "cpu"); errorf("%d", 1); unwatch(0x1000); }',
        "profile:hz:9 { @[kstack(5), len(ustack)] = count(); if (usermode) { print(len(kstack)); } }",
    ],
)
def test_what_the_reference_has_compiles(script: str) -> None:
    assert compiled(script).programs


def test_settings_in_all_their_spellings() -> None:
    options = Options()
    options.apply_environment(
        {"BPFTRACE_STRLEN": "100", "BPFTRACE_MAX_CAT_BYTES": "7", "HOME": "x", "BPFTRACE_X": "1"}
    )
    options.apply_config({"MAX_STRLEN": 50, "BPFTRACE_MAX_MAP_KEYS": 9, "stack_mode": "raw", "cpp_demangle": "false"})
    assert (options.max_strlen, options.max_cat_bytes, options.max_map_keys) == (100, 7, 9)
    assert (options.stack_mode, options.cpp_demangle) == ("raw", False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_strlen": 0}, "max_strlen must be 1 to 65536, not 0"),
        ({"max_strlen": "many"}, "needs a number, not 'many'"),
        ({"missing_probes": "maybe"}, "missing_probes is error, warn or ignore, not 'maybe'"),
        ({"missing_probe": "warn"}, "did you mean 'missing_probes'"),
        ({"on_stack_limits": 3}, "did you mean 'on_stack_limit'"),
        ({"xyz": 3}, "unknown setting 'xyz'"),
    ],
)
def test_settings_that_cannot_be_are_refused(config: dict[str, str | int], message: str) -> None:
    with pytest.raises(InsituError, match=message):
        Options().apply_config(config)


def test_words_after_a_script_are_its_parameters_or_its_options() -> None:
    options = Options.given(["one", "--name=value=x", "--flag", "--", "-5"])
    assert (options.parameters, options.named) == (["one", "--", "-5"], {"name": "value=x", "flag": ""})
    options.check_named({"name", "flag"})
    with pytest.raises(InsituError, match="no option --flag; did you mean '--flags'"):
        options.check_named({"name", "flags"})


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**61), st.integers(0, 9000), st.binary(max_size=60)), max_size=5))
def test_packet_files_are_read_back_as_they_were_written(packets: list[tuple[int, int, bytes]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "packets.pcap"
        file = PacketFile(str(path))
        for packet in packets:
            file.write(*packet)
        data = path.read_bytes()
    # https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html
    assert struct.unpack_from("<IHHiIII", data) == (0xA1B23C4D, 2, 4, 0, 0, 65535, 101)
    at = 24
    for moment, length, content in packets:
        seconds, nanoseconds, kept, whole = struct.unpack_from("<IIII", data, at)
        assert (seconds, nanoseconds) == (moment // 10**9 % 2**32, moment % 10**9)
        assert whole == max(length, len(content)) and data[at + 16 : at + 16 + kept] == content
        at += 16 + kept
    assert at == len(data)


def test_allocation_flags_are_read_from_a_tracepoints_format_as_any_kernel_writes_it() -> None:
    old = '{(unsigned long)((( gfp_t)(0x400u|0x800u)) | (( gfp_t)0x40u)), "GFP_NOFS"}, '
    old += '{(unsigned long)(( gfp_t)0x40u), "__GFP_IO"}'
    new = '{( unsigned long)(((((1UL))) << (10)) & ~(( gfp_t)((((1UL))) << (3)))), "__GFP_X"}, '
    new += '{( unsigned long)(x), "__GFP_Y"}'
    assert flag_names(old) == [(0xC40, "GFP_NOFS"), (0x40, "__GFP_IO")]
    assert flag_names(new) == [(1 << 10, "__GFP_X")]


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_for_allocation_flags(text: str) -> None:
    assert isinstance(flag_names(text + '{1 | (2 << 3), "A"}' + text), list)
