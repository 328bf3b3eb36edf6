"""Functions on text, bytes and addresses, against what Python and the C library answer."""

import fnmatch
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import insitu
from insitu.kernel.tracefs import Tracefs
from insitu.probe.source import ScriptError

from .tracing import known_program, run_trace, values_at_begin

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return known_program(tmp_path_factory.mktemp("program"))


# Text


_TEXTS = ["", "a", "hello.c", "abcabc", "x" * 40, "[a]", "ab-c", "hello world, hello"]


def test_strings_have_the_lengths_that_python_says() -> None:
    spelled, expected = [], []
    for text in _TEXTS:
        spelled += [f'strlen("{text}")', f'strlen(str("{text}", 4))']
        expected += [len(text), min(len(text), 4)]
    assert values_at_begin(*spelled) == expected


@pytest.mark.parametrize("needle", ["", "a", "hello", "bc", "lo w", "x" * 41, "hello world, hello!"])
def test_strings_are_found_where_python_finds_them(needle: str) -> None:
    assert values_at_begin(*(f'strstr("{text}", "{needle}")' for text in _TEXTS)) == [t.find(needle) for t in _TEXTS]


def test_one_string_contains_another_as_in_python() -> None:
    found = values_at_begin(*(f'strcontains("{text}", "ab")' for text in _TEXTS))
    assert found == ["ab" in text for text in _TEXTS]


@pytest.mark.parametrize(("capacity", "pairs"), [(16, 20), (64, 20), (1024, 2)])
def test_strings_of_any_length_are_found_in_each_other(capacity: int, pairs: int) -> None:
    rng = random.Random(capacity)
    wanted, lines = [], [f"$text = str(0, {capacity}); $part = str(0, {capacity});"]
    for number in range(pairs):
        # Of two letters: what repeats itself is where a search may fall back too far, or not far enough.
        text = "".join(rng.choice("ab") for _ in range(rng.randrange(capacity // 2, capacity)))
        start = rng.randrange(len(text) - 4)
        part = text[start : start + rng.randrange(len(text))] + "a" * (number % 3 == 2)
        lines.append(f'$text = "{text}"; $part = "{part}"; print(strstr($text, $part));')
        lines.append("print(strcontains($text, $part));")
        wanted += [text.find(part), part in text]
    with insitu.trace(f"config = {{ max_strlen = {capacity} }} BEGIN {{ {' '.join(lines)} }}") as run:
        assert list(run.events()) == wanted


_LONG_TEXTS = """
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) void say(const char *a, const char *b) { __asm__ volatile("" ::"r"(a), "r"(b) : "memory"); }
int main(int count, char **word) {
    for (int i = 1; i < count; i++) {
        size_t length = strtoul(word[i], 0, 10);
        char *a = malloc(length + 2), *b = malloc(length + 2);
        for (size_t at = 0; at < length; at++) a[at] = b[at] = 'a' + at % 26;
        strcpy(a + length, "x");
        strcpy(b + length, "y");
        say(a, b);
    }
}
"""


@pytest.mark.parametrize("capacity", [1024, 5000, 65536])
def test_long_strings_are_compared_measured_joined_kept_and_printed(tmp_path: Path, capacity: int) -> None:
    (tmp_path / "it.c").write_text(_LONG_TEXTS)
    subprocess.run(["gcc", "-O1", "-o", tmp_path / "it", tmp_path / "it.c"], check=True)
    lengths = [0, 62, 1022, 1023, 4998, 4999, 40000, 65534, 70000]
    script = f"""config = {{ max_strlen = {capacity} }} uprobe:{tmp_path}/it:say {{
        $a = str(arg0); $b = str(arg1); $copy = str(arg0);
        @kept = $a; @by[$b] = 1; $again = @kept;
        print((strlen($a), $a == $b, $a == $copy, $again == $a, @by[$b], strlen(str_concat($a, $b)),
               strncmp($a, $b, {capacity}) == 0));
        print($a); print(str(arg1)); printf("%s|%d|%s\\n", $a, 7, str(arg1));
    }}"""
    command = " ".join([f"{tmp_path}/it", *map(str, lengths)])
    with insitu.trace(script, command=command) as run:
        values = list(run.events())
    letters = "".join(chr(97 + at % 26) for at in range(70000))
    expected: list[object] = []
    printed = []
    for length in lengths:
        first, second = (f"{letters[:length]}{end}"[: capacity - 1] for end in "xy")
        size, same = len(first), first == second
        expected.append((size, same, True, True, 1, min(2 * size, capacity - 1), same))
        expected += [first, second]
        printed.append(f"{first}|7|{second}")
    assert values == expected
    lines = run_trace("-c", command, "-e", script).stdout.splitlines()
    assert [line for line in lines if "|" in line] == printed


def test_searches_of_long_strings_are_refused_with_a_remedy() -> None:
    with pytest.raises(ScriptError, match="at most 4096 bytes, not 5000") as caught:
        insitu.trace('config = { max_strlen = 5000 } BEGIN { print(strcontains(str(uptr(0)), "a")); }')
    assert caught.value.remedy == "str(x, 4096) cuts one"


def test_strings_that_are_not_literals_are_searched_too() -> None:
    # The name of the process, in itself and in strings around it.
    name = Path("/proc/self/comm").read_text().strip()
    found = values_at_begin(
        f'strstr("<{name}>", comm)', 'strstr("-", comm)', "strstr(comm, comm)", "strlen(comm)", "strcap(comm)"
    )
    assert found == [1, -1, 0, len(name), 16]


@pytest.mark.parametrize(
    "pattern", ["*", "h*.c", "?bc*", "a[b-d]*c", "[!x]*", "x*x", "*hello", "hello*hello", "[[]a]", "ab[-]c", "", "a"]
)
def test_wildcards_match_what_fnmatch_matches(pattern: str) -> None:
    found = values_at_begin(*(f'globmatch("{text}", "{pattern}")' for text in _TEXTS))
    assert found == [fnmatch.fnmatchcase(text, pattern) for text in _TEXTS]


def test_bytes_are_compared_as_memcmp_does() -> None:
    pairs = [(b"abc", b"abd"), (b"abd", b"abc"), (b"abc", b"abc"), (b"12345678x", b"12345678y"), (b"\xff", b"\x01")]
    spelled, expected = [], []
    for left, right in pairs:
        for count in range(1, len(left) + 1):
            written = ["".join(f"\\x{byte:02x}" for byte in text) for text in (left, right)]
            spelled.append(f'memcmp("{written[0]}", "{written[1]}", {count})')
            expected.append((left[:count] > right[:count]) - (left[:count] < right[:count]))
    assert values_at_begin(*spelled) == expected


def test_text_has_the_right_length_and_place() -> None:
    found = values_at_begin('str("abcdef", 3)', 'strncmp("abcd", "abxx", 2) == 0', 'strncmp("abcd", "abxx", 3) == 0')
    assert found == ["abc", True, False] or found == ["abc", 1, 0]
    assert values_at_begin("str($1, 3)", "str($1, 0)", parameters=["abcdef"]) == ["abc", ""]
    assert values_at_begin("$#", "str($1)", "$2", parameters=["word", "42"]) == [2, "word", 42]


def test_a_length_of_text_in_memory_counts_the_zero_at_its_end(tmp_path: Path) -> None:
    program = known_program(tmp_path)
    lengths = (0, 1, 5, 9, 10, 20)
    shown = ", ".join(f"str($p, {n}), str($p, $n + {n}), str($s, {n}), str($s, $n + {n})" for n in lengths)
    body = f'$p = uaddr("text"); $s = str($p); $n = arg0 - arg0; print(({shown})); exit();'
    done = run_trace("-c", str(program), "-e", f"uprobe:{program}:outer {{ {body} }}")
    expected = ["in memory"[: max(0, n - 1)] for n in lengths for _ in range(4)]
    assert done.stdout.strip() == f"({', '.join(expected)})"


def test_buffers_show_bytes_in_three_ways() -> None:
    script = r'BEGIN { $b = buf("a\x01\xff", 3); printf("%r %rx %rh|%-8r|", $b, $b, $b, $b); exit(); }'
    assert run_trace("-e", script).stdout.strip() == r"a\x01\xff \x61\x01\xff 61 01 ff|a\x01\xff|"


def test_allocation_flags_have_the_names_that_the_kernel_gives_them() -> None:
    bits = ["IO", "FS", "DIRECT_RECLAIM", "KSWAPD_RECLAIM"]
    mask = " | ".join(f"(1 << ___GFP_{bit}_BIT)" for bit in bits)
    values = f"{mask}, ({mask}) | (1 << ___GFP_ZERO_BIT), 1 << ___GFP_IO_BIT, 0"
    script = f'BEGIN {{ printf("%gr %gr %gr %gr", {values}); exit(); }}'
    try:
        shown = run_trace("-e", script).stdout
    except AssertionError as error:
        if "___GFP" in str(error):
            pytest.skip("this kernel's type information does not number the bits (Linux 6.10)")
        raise
    # include/linux/gfp_types.h: GFP_KERNEL is __GFP_RECLAIM | __GFP_IO | __GFP_FS.
    assert shown.split() == ["GFP_KERNEL", "GFP_KERNEL|__GFP_ZERO", "__GFP_IO", "none"]


def test_errors_and_system_calls_have_their_names() -> None:
    numbers = [1, 2, 13, 110]
    assert values_at_begin(*(f"strerror({n})" for n in numbers)) == [os.strerror(n) for n in numbers]
    header = Path("/usr/include/asm-generic/unistd.h")
    if os.uname().machine == "x86_64":
        header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    known = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_")]
    names = {int(words[2]): words[1].removeprefix("__NR_") for words in known if words[2].isdigit()}
    asked = sorted(names)[:: max(1, len(names) // 40)]
    assert values_at_begin(*(f"syscall_name({n})" for n in asked)) == [names[n] for n in asked]
    assert values_at_begin(*(f"__NR_{names[n]}" for n in asked)) == asked


def test_signals_have_the_names_that_the_c_library_gives_them() -> None:
    numbers = [1, 2, 9, 11, 15, 31, 34, 64]
    assert values_at_begin(*(f"signal_name({n})" for n in numbers)) == [signal.strsignal(n) for n in numbers]
    assert values_at_begin("signal_name(0)", "signal_name(65)") == ["Unknown signal 0", "N/A"]


def test_names_of_numbers_compare_with_literals() -> None:
    assert values_at_begin(
        '(int64)(strerror(13) == "Permission denied")',
        '{ $e = strerror(2); (int64)($e != "Permission denied") }',
        '(int64)("Killed" == signal_name(9))',
        '(int64)(syscall_name(1000000) == "getppid")',
    ) == [1, 1, 1, 0]


def test_strings_are_joined_as_far_as_there_is_room() -> None:
    name = Path("/proc/self/comm").read_text().strip()
    long = "0123456789" * 5
    cases = {
        'str_concat("hello", " world")': "hello world",
        'str_concat("", "") == ""': True,
        "str_concat(comm, comm)": name + name,
        f'str_concat("{long}", "{long}")': (long + long)[:63],
        'strlen(str_concat("<", str_concat(comm, ">")))': len(name) + 2,
        '{ $s = "a"; $s = str_concat($s, "b"); $s = str_concat("(", $s); $s }': "(ab",
    }
    script = "config = { max_strlen = 64 } BEGIN { " + " ".join(f"print({each});" for each in cases)
    script += ' $i = 0; $s = ""; while ($i < 9) { $s = str_concat($s, "ab"); $i++; } print($s); exit(); }'
    assert list(insitu.trace(script).events()) == [*cases.values(), "ab" * 9]


# What speaks and acts


def test_files_are_shown_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("0123456789" * 10)
    script = f'BEGIN {{ cat("%s/file", "{tmp_path}"); exit(); }}'
    assert run_trace("-e", script).stdout.strip() == file.read_text()
    assert run_trace("-e", script, env={"BPFTRACE_MAX_CAT_BYTES": "15"}).stdout.strip() == file.read_text()[:15]
    assert "failed to open file '/no/file'" in run_trace("-e", 'BEGIN { cat("/no/file"); exit(); }').stderr


def test_complaints_say_where_in_the_script_they_stand() -> None:
    done = run_trace("-e", 'BEGIN { errorf("bad %d", 1); warnf("%s", "worse"); exit(); }')
    assert done.stderr.splitlines() == ["-e:1:9-28: ERROR: bad 1", "-e:1:30-50: WARNING: worse"]


def test_what_changes_the_system_wants_unsafe() -> None:
    assert "allow it with --unsafe" in run_trace("-e", 'BEGIN { system("true"); }', status=1).stderr
    shown = run_trace("--unsafe", "-e", 'BEGIN { system("echo %d", 6 * 7); exit(); }').stdout
    assert shown.strip() == "42"


@pytest.mark.parametrize("name", ["signal", "signal_thread"])
def test_a_signal_reaches_the_process_that_hit_the_probe(program: Path, name: str) -> None:
    victim = subprocess.Popen(["sh", "-c", f"read line; exec {program}"], stdin=subprocess.PIPE)
    script = f'uprobe:{program}:inner /pid == {victim.pid}/ {{ {name}("USR1"); }}'
    with insitu.trace(script, unsafe=True):
        victim.communicate(b"\n")
    assert victim.returncode == -10


# Addresses


def test_network_addresses_are_inet_ntops() -> None:
    six = "2001:db8::8:800:200c:417a"
    found = values_at_begin(
        "ntop(0x0100007f)", f'ntop(pton("{six}"))', 'ntop(pton("10.1.2.3"))', f"ntop({socket.AF_INET}, 1)"
    )
    assert found == ["127.0.0.1", six, "10.1.2.3", "1.0.0.0"]


def test_kernel_symbols_are_those_of_kallsyms() -> None:
    lines = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    known = {words[2]: int(words[0], 16) for words in lines if words[1] == "T" and len(words) == 3}
    name = next((n for n in ("ksys_read", "do_exit", "schedule") if known.get(n)), None)
    if name is None:
        pytest.skip("/proc/kallsyms shows no addresses")
    assert values_at_begin(f'kaddr("{name}")', f"ksym({known[name]})") == [known[name], name]


def test_a_program_is_read_by_its_symbols_registers_and_stack(program: Path) -> None:
    script = (
        f'uprobe:{program}:inner {{ printf("%d %d ", *uaddr("number"), (int16)*uaddr("small"));'
        ' printf("%s|", str(uaddr("text"))); printf("%s %s|", macaddr(arg0), usym(reg("ip"))); join(arg1, "+"); }'
        f'uretprobe:{program}:eight {{ printf("%d %d %d|", retval, *uaddr("number"), usermode); }}'
        f'uprobe:{program}:eight {{ printf("%d %d %d %s|", arg5, sarg0, sarg1, func); }}'
        f'uprobe:{program}:outer,uprobe:{program}:main {{ printf("%s %d|", func, *uaddr("number")); }}'
    )
    shown = run_trace("-e", script, "-c", str(program)).stdout
    assert "77 -5 in memory|02:00:5E:10:00:FF inner|one+two+three\n" in shown
    assert "6 700 800 eight|801 77 1|" in shown
    assert "main 77|outer 77|" in shown


def test_every_kind_of_probe_knows_whether_it_interrupted_user_code(program: Path) -> None:
    script = """BEGIN { print(usermode); } END { print(usermode); }
        uprobe:PROGRAM:main { @user = usermode; }
        tracepoint:raw_syscalls:sys_enter /pid == cpid/ { @kernel = usermode; }
        rawtracepoint:sys_enter /pid == cpid/ { @raw = usermode; } iter:task { @iterator = usermode; }"""
    shown = run_trace("-e", script.replace("PROGRAM", str(program)), "-c", str(program)).stdout.split()
    assert shown == ["1", "1", "@iterator:", "0", "@kernel:", "0", "@raw:", "0", "@user:", "1"]


def test_a_profile_sees_user_code_and_the_kernel() -> None:
    # It computes for most of its time, and then asks the kernel for random numbers.
    source = "import os\nfor _ in range(300): sum(range(20000)); os.getrandom(100000)"
    script = (
        'profile:hz:999 /pid == cpid/ { @[usermode] = count(); @agrees[usermode == (reg("ip") >> 63 == 0)] = 1; }'
    )
    with insitu.trace(script, command=f"{sys.executable} -c '{source}'") as run:
        assert sorted(run.maps["@"]["key"]) == [0, 1]
        assert list(run.maps["@agrees"]["key"]) == [1]


def test_what_a_program_has_not_is_said(program: Path) -> None:
    for script, message in [
        (f'uprobe:{program}:main {{ print(uaddr("nothing")); }}', "has no symbol 'nothing'"),
        ('BEGIN { print(uaddr("x")); }', "needs a uprobe or usdt probe"),
        ('BEGIN { reg("ip") }', "registers are not available"),
    ]:
        with pytest.raises(ScriptError, match=message):
            insitu.trace(script)


def test_debugf_writes_into_the_kernels_trace_buffer() -> None:
    word = f"insitu-{os.getpid()}"
    run_trace("--unsafe", "-e", f'BEGIN {{ debugf("{word} %d %x 100%% %s", 1 - 5, 255, probe); exit(); }}')
    tracefs = Tracefs.open()
    try:
        (line,) = [line for line in tracefs.read("trace").splitlines() if word in line]
    finally:
        tracefs.close()
    assert line.endswith(f"{word} -4 ff 100% BEGIN")


def test_the_bytes_of_text_are_an_array() -> None:
    values = values_at_begin('(int8[])"hello"', '(uint8[3])"hello, world"', "((int8[])comm)[1]", '(uint16[])"ab"')
    assert values == [list(b"hello\0"), list(b"hel"), ord("y"), [ord("a") + 256 * ord("b")]]
    (equal,) = values_at_begin('(uint8[5])"hello, world" == (uint8[5])"hello there" ? 1 : 0')
    assert equal == 1


def test_a_long_text_of_equal_bytes_is_one_like_any_other() -> None:
    text = "y" * 3000
    script = "config = { max_strlen = 4096 } BEGIN { @text[str($1)] = 3; print(str($1)); exit(); }"
    with insitu.trace(script, parameters=[text]) as run:
        assert list(run.events()) == [text]
        assert run.maps["@text"].rows() == [(text, 3)]
