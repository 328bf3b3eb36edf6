"""The same one-liners by us and by bpftrace: stdout has to be the same, byte for byte.

bpftrace's own name is replaced by ours where a line shows the tracer's. Lines of maps whose order neither defines
(equal values) are avoided.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)
if shutil.which("bpftrace") is None:
    pytest.skip("needs bpftrace, the peer", allow_module_level=True)

_ONE_LINERS = [
    'BEGIN { printf("hello %d\\n", 42); exit(); }',
    'BEGIN { exit(); } END { printf("end %s\\n", probe); }',
    'BEGIN { @a = 1; @b[1] = 2; @b[3] = 1; @c[1, "x"] = 3; @s = "abc"; @t = (1, "a", (2, 3)); exit(); }',
    "BEGIN { @h = hist(5); @h2[1] = hist(1025); @h2[1] = hist(-3); @l = lhist(5, 0, 10, 2); exit(); }",
    "BEGIN { @h = hist(0); @h = hist(1); @h = hist(2); @h = hist(3); @h = hist(1023); @h = hist(1048576); exit(); }",
    "BEGIN { @st = stats(4); @av = avg(5); @av = avg(8); @n = count(); @su = sum(-4); @mi = "
    "min(4); @ma = max(4); exit(); }",
    "BEGIN { exit(); } interval:s:10 { @x = count(); @y[1] = count(); @z = 5; @h = hist(4); @m "
    "= min(3); @s = stats(3); }",
    "BEGIN { @[1] = count(); @[2] = count(); @[2] = count(); print(@); print(@, 1); print(@, "
    "2, 2); clear(@); exit(); }",
    'BEGIN { printf("%d %u %x %p %c %5d|%-5d|%05d %lld %s %r\\n", -1, -1, 255, 4096, 65, 3, 4, 5, 6, "x", '
    'buf("a\\x01b", 3)); exit(); }',
    'BEGIN { printf("%5s|%-5s|%.2s|%c|%X|%10p|%-12p|\\n", "abc", "abc", "abc", 65, 255, 4096, 4096); exit(); }',
    "BEGIN { @neg = -5; @u = (uint64)-1; @i8 = (int8)200; @us = (uint8)300; @lor = (5 || 0) + 0; "
    "@not = !5 + 0; @bn = ~5; exit(); }",
    'BEGIN { print(-5); print((1, "a", (-2, comm))); print("s"); @x = strftime("%Y", nsecs); print(@x); exit(); }',
    'BEGIN { time("%Y\\n"); cat("/proc/version"); print(ntop(0x0100007f)); exit(); }',
    'BEGIN { $x = 5; while ($x > 0) { printf("%d ", $x); $x--; } unroll(3) { printf("u"); } printf("\\n"); exit(); }',
    'BEGIN { $s = "hello"; if ($s == "hello") { printf("eq\\n"); } if (strncmp("hellx", "helly", 4) == 0) '
    '{ printf("same4\\n"); } exit(); }',
    "BEGIN { @x[1] = 5; @x[1]++; ++@x[1]; @y = 3; @y += 4; @z = @x[1] + @y * 2; @w--; delete(@x[1]); exit(); }",
    'BEGIN { printf("%d %d %d %d %d\\n", 7 / 2, 7 % 3, 1 << 4, 256 >> 2, (1 + 2) * 3 - 4); exit(); }',
    "BEGIN { $a = 10; $a += 5; $a -= 3; $a *= 2; $a /= 4; $a %= 4; $a <<= 3; $a |= 1; $a &= "
    "0xf; @ = $a ^ 2; exit(); }",
    # A timer goes on until the tracer has heard of exit(), so it may not count further.
    "interval:ms:10 { if (@ < 5) { @++; } if (@ >= 5) { exit(); } }",
    'BEGIN { printf("%s|%s|%s\\n", str($1), str($1, 3), str($2)); @n = $#; exit(); }',
    'BEGIN { printf("%s|%s\\n", str($1 + 2), str($1 + 6)); exit(); }',
    "BEGIN { @s[1] = stats(100); @s[2] = stats(10); @s[3] = stats(50); @s[3] = stats(52); print(@s); exit(); }",
    "BEGIN { @[1] = sum(100); @[2] = sum(250); @[3] = sum(75); print(@, 2, 10); print(@, 0, 50); exit(); }",
    'BEGIN { @a["x"] = avg(7); @a["y"] = avg(-8); @a["z"] = avg(100); print(@a, 2); print(@a, 0, 5); exit(); }',
    "BEGIN { @h = hist(3); zero(@h); @l = lhist(3, 0, 10, 1); zero(@l); @c = count(); zero(@c); @s = stats(3); "
    "zero(@s); @a = avg(3); zero(@a); @k[1] = hist(3); zero(@k); @m[1] = count(); zero(@m); @x = 3; zero(@x); "
    "@su = sum(3); zero(@su); @mi = min(3); zero(@mi); exit(); }",
    "BEGIN { @h = hist(3); zero(@h); clear(@h); @s = stats(3); zero(@s); clear(@s); @never = hist(3); clear(@never); "
    "zero(@never); print(@h); print(@s); exit(); }",
    "BEGIN { @h[1] = hist(1); @h[2] = hist(100); @h[2] = hist(100); @h[2] = hist(1); print(@h, 2, 2); "
    "print(@h, 0, 2); clear(@h); exit(); }",
    'BEGIN { printf("%p|%8p|%-8p|\\n", 0, 255, 0); @l = lhist(1030, 24, 5024, 500); '
    "@m = lhist(3000, 0, 10240, 1024); exit(); }",
    'BEGIN { $port = (uint16)443; $port = bswap($port); printf("%d\\n", $port); exit(); }',
]
_OF_A_PROGRAM = [
    'uprobe:PROGRAM:work /pid == cpid/ { @[arg1] = sum(arg1); printf("%d %s\\n", arg1, str(arg2)); }',
    'uretprobe:PROGRAM:work /pid == cpid/ { @r = hist(retval); printf("%d\\n", retval); }',
    "uprobe:PROGRAM:work { @a = avg(arg1); @m = max(arg1); @s = stats(arg1); @h[(arg1 > 20) + 0] = "
    "lhist(arg1, 0, 50, 10); }",
    "struct point { int x; char tag[8]; struct point *next; unsigned a:3; unsigned b:5; long y; } "
    "uprobe:PROGRAM:work /pid == cpid/ { $p = (struct point *)arg0; "
    'printf("%d %s %d %d %s %d %d\\n", $p->x, $p->tag, $p->next->x, $p->y, $p->next->tag, $p->a, $p->b); }',
    "uprobe:PROGRAM:work { @[probe] = count(); }",
    'uprobe:PROGRAM:work /arg1 == 20/ { printf("%d\\n", arg1); exit(); }',
    "tracepoint:syscalls:sys_enter_openat /pid == cpid/ { @n[comm] = count(); @f[tid] = args->filename; } "
    'tracepoint:syscalls:sys_exit_openat /@f[tid]/ { printf("%s -> %d\\n", str(@f[tid]), '
    "args->ret); delete(@f[tid]); }",
    'tracepoint:sched:sched_process_exec /pid == cpid/ { printf("%s %d\\n", '
    "str(args->filename), args->pid == cpid); }",
    'tracepoint:sched:sched_process_exit /pid == cpid/ { printf("%s %d\\n", args->comm, '
    "args->prio); @[args->comm] = count(); }",
    "tracepoint:syscalls:sys_enter_execve /pid == cpid/ { join(args->argv); }",
    "tracepoint:raw_syscalls:sys_enter /pid == cpid && args->id == 257/ { @ = count(); }",
]
_SOURCE = """
#include <fcntl.h>
#include <unistd.h>
struct point { int x; char tag[8]; struct point *next; unsigned a:3; unsigned b:5; long y; };
__attribute__((noinline)) long work(struct point *p, int n, const char *name)
{ asm volatile("" :: "r"(p), "r"(name) : "memory"); return n * 2 - 20; }
int main(void)
{
    struct point q = {7, "second", 0, 1, 2, 99}, p = {5, "first", &q, 5, 17, -3};
    for (int i = 0; i < 5; i++) { work(&p, i * 10, "hello"); close(open("/etc/hostname", 0)); }
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("program")
    (directory / "work.c").write_text(_SOURCE)
    subprocess.run(["gcc", "-O1", "-o", directory / "work", directory / "work.c"], check=True)
    return directory / "work"


def _peer(*words: str) -> bytes:
    """bpftrace's stdout. It wants tracefs mounted: in a mount namespace of its own."""
    mounts = 'mount -t debugfs d /sys/kernel/debug; mount -t tracefs t /sys/kernel/tracing; exec bpftrace "$@"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", mounts, "sh", *words], capture_output=True, timeout=300)
    return done.stdout.replace(b"bpftrace", b"insitu")


def _ours(*words: str) -> bytes:
    done = subprocess.run([sys.executable, "-m", "insitu", "trace", *words], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    # The interpreter's name stands where bpftrace shows its own.
    return done.stdout.replace(b"python3", b"insitu").replace(b"python", b"insitu")


@pytest.mark.parametrize("text", _ONE_LINERS)
def test_one_liners_print_what_bpftrace_prints(text: str) -> None:
    words = ["abcdef"] if "$1" in text else []
    assert _ours("-e", text, *words) == _peer("-e", text, *words)


# bpftrace 0.17 escapes buffers (%r) twice in JSON, and writes strftime()'s text without quotes.
@pytest.mark.parametrize("text", [t for t in _ONE_LINERS if not any(w in t for w in ("%r", "strftime", "$1"))])
def test_json_is_bpftraces(text: str) -> None:
    ours = _ours("-f", "json", "-e", text)
    # Newer versions have the count in two places.
    assert re.sub(rb'("attached_probes"), "count": \d+,', rb"\1,", ours) == _peer("-f", "json", "-e", text)


def test_json_of_the_output_of_commands_and_of_join_is_bpftraces(program: Path) -> None:
    system = ["--unsafe", "-f", "json", "-q", "-e", 'BEGIN { system("echo %d b", 6 * 7); exit(); }']
    assert _ours(*system) == _peer(*system)
    text = f"tracepoint:syscalls:sys_enter_execve /pid == cpid/ {{ join(args->argv, {json.dumps(',')}); }}"
    join = ["-f", "json", "-q", "-e", text, "-c", f"{program} {'long' * 200} three"]
    assert _ours(*join) == _peer(*join)


@pytest.mark.parametrize("text", _OF_A_PROGRAM)
def test_programs_seen_through_uprobes_and_tracepoints_are_the_same(text: str, program: Path) -> None:
    text = text.replace("PROGRAM", str(program))
    words = ["-c", str(program), "-e", text]
    assert sorted(_ours(*words).splitlines()) == sorted(_peer(*words).splitlines())
