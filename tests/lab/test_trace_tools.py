"""The 38 tools that Debian's bpftrace package installs: each shows the event that a program in the guest provokes.

What a tool has to say is known from the program that provoked it (tools/provoke.py), never from our own output.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.lab.kernels import LONG_TESTS

from insitu.lab import Guest
from insitu.lab import guest as boot

_DIRECTORY = Path("/usr/sbin")
_TRACE_ALL = Path(__file__).parent / "tools" / "trace_all.py"
# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
_KERNELS = ("6.1", "6.12")

Facts = dict[str, Any]


@dataclass(frozen=True)
class Tool:
    """The event that sets a tool off, and what it has to print then.

    ``lines`` are looked for in any order: ``{name}`` is a fact of the event, ``{time}`` a time of day, ``{n}`` any
    number; spaces stand for any number of them. ``holds`` answers whether the whole output is right.
    ``nowhere`` says, for kernels on which the tool can show nothing, what our message has to hold.
    """

    event: str
    lines: tuple[str, ...] = ()
    holds: Callable[[str, Facts], bool] = lambda output, facts: True
    nowhere: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _histogram(output: str, name: str) -> dict[str, int]:
    """A histogram's buckets that are not empty."""
    block = re.search(rf"^{re.escape(name)}: *\n((?:[\[(].*\n)+)", output, re.MULTILINE)
    rows = re.findall(r"^([\[(].*[\])])\s+(\d+) \|", block[1], re.MULTILINE) if block else []
    return {bucket: int(count) for bucket, count in rows if int(count)}


def _total(output: str, name: str) -> int:
    """All counts printed of a map's element, one after the other."""
    return sum(map(int, re.findall(rf"{re.escape(name)}: (\d+)$", output, re.MULTILINE)))


def _shows_loads(output: str, facts: Facts) -> bool:
    """One line has the numbers that /proc/loadavg rounded to two digits."""
    lines = re.findall(r"load averages: (\d.*)", output)
    shown = [list(map(float, line.split())) for line in lines]
    return any(
        all(abs(a - float(b)) < 0.011 for a, b in zip(line, loads, strict=True))
        for line in shown
        for loads in facts["loads"]
    )


# Debian's kernels have it inlined, or among the functions that cannot be traced: bpftrace cannot attach there either.
_UNTRACEABLE = {
    "6.1": ("blk_account_io_start", "tracepoint:block:block_rq_issue"),
    "6.12": ("blk_account_io_start", "tracepoint:block:block_io_start"),
}
# glibc 2.34 moved it.
_IN_LIBC = dict.fromkeys(_KERNELS, ("pthread_create", "libpthread", "uprobe:libc:pthread_create"))

_TOOLS = {
    "bashreadline": Tool("bashreadline", ("{time} {child} {command}",)),
    "biolatency": Tool("block_read", nowhere=_UNTRACEABLE),
    "biosnoop": Tool("block_read", nowhere=_UNTRACEABLE),
    "biostacks": Tool("block_read", nowhere=_UNTRACEABLE),
    "bitesize": Tool(
        "block_read", holds=lambda o, f: _histogram(o, f"@[{f['comm']}]") == {"[8K, 16K)": 1, "[128K, 256K)": 1}
    ),
    "capable": Tool("capable", ("{time} {uid} {pid} {comm} 0 CAP_CHOWN 0",)),
    "cpuwalk": Tool("cpuwalk", holds=lambda o, f: {"[1, 2)"} <= {*_histogram(o, "@cpu")} <= {"[0, 1)", "[1, 2)"}),
    "dcsnoop": Tool("dcsnoop", ("{n} {pid} {comm} M {missed}", "{n} {pid} {comm} R run/{found}")),
    "execsnoop": Tool("execsnoop", ("{n} {child} /bin/echo one two words",)),
    "gethostlatency": Tool("gethostlatency", ("{time} {pid} {comm} {n} {host}",)),
    "killsnoop": Tool("killsnoop", ("{time} {pid} {comm} 9 {child} 0", "{time} {pid} {comm} 10 {child} {error}")),
    "loads": Tool("loads", holds=_shows_loads),
    "mdflush": Tool("mdflush", ("{time} {pid} {comm} {device}",)),
    "naptime": Tool("naptime", ("{time} {parent} {parent_comm} {pid} {comm} {seconds}",)),
    "oomkill": Tool(
        "oomkill",
        (
            '{time} Triggered by PID {child} ("{comm}"), OOM kill of PID {child} ("{comm}"), {pages} pages, '
            "loadavg: {n}.{n} {n}.{n} {n}.{n} {n}/{n} {n}",
        ),
    ),
    "opensnoop": Tool("opensnoop", ("{pid} {comm} {fd} 0 {path}", "{pid} {comm} -1 {error} {missing}")),
    "pidpersec": Tool("pidpersec", holds=lambda o, f: _total(o, "@") >= f["forks"]),
    "runqlat": Tool("runqlat", holds=lambda o, f: sum(_histogram(o, "@usecs").values()) >= f["switches"] > 0),
    "runqlen": Tool("runqlen", holds=lambda o, f: _histogram(o, "@runqlen").get("[2, 3)", 0) > 0),
    "setuids": Tool(
        "setuids",
        (
            "{time} {child} {comm} 0 setfsuid uid=1234 (prevuid=0)",
            "{time} {child} {comm} 0 setresuid ruid=0 euid=0 suid=5678 (0)",
            "{time} {child} {comm} 0 setuid uid=4321 (0)",
        ),
    ),
    "ssllatency": Tool(
        "ssl",
        holds=lambda o, f: all(
            sum(_histogram(o, f"@hist[{name}]").values()) >= least
            for name, least in {"SSL_do_handshake": 1, "SSL_read": 2, "SSL_write": 2}.items()
        ),
    ),
    "sslsnoop": Tool(
        "ssl",
        (
            "{n} {server} openssl {n} 1 SSL_do_handshake",
            "{n} {client} openssl {n} {sent} SSL_write",
            "{n} {server} openssl {n} {sent} SSL_read",
            "{n} {server} openssl {n} {answered} SSL_write",
            "{n} {client} openssl {n} {answered} SSL_read",
        ),
    ),
    "statsnoop": Tool(
        "statsnoop", ("{pid} {comm} 0 /run", "{pid} {comm} {error} /run/stat-of-none", "{pid} {comm} 0 /dev/shm")
    ),
    # What comes between the tool's printing and its clearing is lost to it.
    "swapin": Tool(
        "swapin",
        holds=lambda o, f: 0 < _total(o, f"@[{f['comm']}, {f['child']}]") <= f["pages"],
        nowhere={"6.12": ("swap_readpage", "swap_read_folio")},
    ),
    "syncsnoop": Tool(
        "syncsnoop",
        tuple(
            f"{{time}} {{pid}} {{comm}} tracepoint:syscalls:sys_enter_{name}"
            for name in ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs", "sync")
        ),
    ),
    "syscount": Tool(
        "syscount",
        # The kernel's own programs make that call a few times.
        holds=lambda o, f: (
            f["calls"] <= _total(o, f"@syscall[{f['number']}]") < f["calls"] + 100
            and f["calls"] <= _total(o, f"@process[{f['comm']}]")
        ),
    ),
    "tcpaccept": Tool("tcp", ("{time} {pid} {comm} 127.0.0.1 {client_port} 127.0.0.1 {port} 0/{backlog}",)),
    "tcpconnect": Tool("tcp", ("{time} {pid} {comm} 127.0.0.1 {client_port} 127.0.0.1 {port} ",)),
    "tcpdrop": Tool(
        "tcp_lost",
        ("{time} {pid} {comm} 127.0.0.1:{client_port} 127.0.0.1:{port} ESTABLISHED ", " tcp_sendmsg+{n}"),
    ),
    "tcplife": Tool(
        "tcp",
        (
            "{pid} {comm} 127.0.0.1 {client_port} 127.0.0.1 {port} {sent_kib} {received_kib} {n}",
            "{pid} {comm} 127.0.0.1 {port} 127.0.0.1 {client_port} {received_kib} {sent_kib} {n}",
        ),
    ),
    "tcpretrans": Tool("tcp_lost", ("{time} {n} 127.0.0.1:{client_port} 127.0.0.1:{port} ESTABLISHED",)),
    "tcpsynbl": Tool("tcp", holds=lambda o, f: _histogram(o, f"@backlog[{f['backlog']}]").get("[0]", 0) > 0),
    "threadsnoop": Tool("threadsnoop", nowhere=_IN_LIBC),
    "undump": Tool("undump", ("{time} {comm} {pid} {bytes} {data}",)),
    "vfscount": Tool(
        "vfs", holds=lambda o, f: _total(o, "@[vfs_write]") >= f["writes"] and _total(o, "@[vfs_read]") >= f["reads"]
    ),
    "vfsstat": Tool(
        "vfs_each_second",
        holds=lambda o, f: _total(o, "@[vfs_write]") >= f["writes"] and _total(o, "@[vfs_read]") >= f["reads"],
    ),
    "writeback": Tool("writeback", ("{time} {device} {n} sync {n}.{n}",)),
    "xfsdist": Tool(
        "xfsdist",
        holds=lambda o, f: (
            sum(_histogram(o, "@us[xfs_file_write_iter]").values()) >= f["writes"]
            and sum(_histogram(o, "@us[xfs_file_read_iter]").values()) == f["reads"]
            and sum(_histogram(o, "@us[xfs_file_fsync]").values()) == f["fsyncs"]
        ),
    ),
}

if not (_DIRECTORY / "execsnoop.bt").exists():
    pytest.skip("needs Debian's bpftrace package, for its tools", allow_module_level=True)


@dataclass(frozen=True)
class Traced:
    """A guest under ``kernel``, and what became of each tool in it."""

    kernel: str
    guest: Guest
    results: dict[str, Any]


@pytest.fixture(scope="module", params=LONG_TESTS)
def traced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fetched: Callable[[str], Any]
) -> Iterator[Traced]:
    """All tools in one guest, two at a time."""
    directory = tmp_path_factory.mktemp("tools")
    disks = tuple(directory / name for name in ("files", "swap"))
    for disk, mib in zip(disks, (512, 96), strict=True):  # XFS wants 300 at least
        with disk.open("wb") as file:
            file.truncate(mib << 20)
    shared = directory / "shared"
    shared.mkdir()
    # threadsnoop with the library that has the function today: the rest of it is to be seen at work.
    today = shared / "threadsnoop-libc.bt"
    today.write_text((_DIRECTORY / "threadsnoop.bt").read_text().replace(":libpthread:", ":libc:"))
    events = {f"-a {_DIRECTORY / name}.bt": tool.event for name, tool in _TOOLS.items()}
    fetched(request.param)
    with boot(kernel=request.param, memory="1G", disks=disks, rw=(shared,), boot_timeout=300) as guest:
        done = guest.run(
            [sys.executable, _TRACE_ALL, "provoke.py", "2", shared / "results.json"],
            stdin=json.dumps({**events, f"-a {today}": "threadsnoop"}).encode(),
            env=_ENVIRONMENT,
        )
        assert done.status == 0, done.stderr.decode()
        results = json.loads((shared / "results.json").read_text())
        yield Traced(request.param, guest, {Path(path).stem: result for path, result in results.items()})


def _pattern(line: str, facts: Facts) -> re.Pattern[str]:
    """What matches a line of the table."""
    # The time is printed apart: when two CPUs have something to show at once, it stands twice in one line and not at
    # all in the other, with bpftrace, too.
    any_of = {"time": r"(?:\d\d:\d\d:\d\d\s+)*", "n": r"\d+"}
    pieces = re.split(r"\{(\w+)\}", line.replace("{time} ", "{time}"))
    texts = [re.escape(text) for text in pieces]
    texts[1::2] = [any_of.get(name) or re.escape(str(facts[name])) for name in pieces[1::2]]
    return re.compile(f"^{''.join(texts)}$".replace(r"\ ", r"\s+").replace(r"\s+$", r"\s*$"), re.MULTILINE)


def test_the_table_names_every_tool_there_is() -> None:
    assert {path.stem for path in _DIRECTORY.glob("*.bt")} == set(_TOOLS)


@pytest.mark.parametrize("name", _TOOLS)
def test_a_tool_shows_the_event_that_was_provoked(traced: Traced, name: str) -> None:
    tool, result = _TOOLS[name], traced.results[name]
    if words := tool.nowhere.get(traced.kernel):
        assert all(word in result["stderr"] for word in words), result["stderr"]
        return
    assert result["status"] == 0 and result["facts"] is not None, result["stderr"]
    for line in tool.lines:
        pattern = _pattern(line, result["facts"])
        assert pattern.search(result["stdout"]), f"nothing matches {pattern.pattern} in\n{result['stdout']}"
    assert tool.holds(result["stdout"], result["facts"]), f"{result['facts']} are not in\n{result['stdout']}"


def test_threadsnoop_shows_a_thread_once_it_looks_into_libc(traced: Traced) -> None:
    result = traced.results["threadsnoop-libc"]
    facts = result["facts"]
    assert re.search(rf"^\d+ +{facts['pid']} +{facts['comm'][:15]} +\S+$", result["stdout"], re.MULTILINE)
