"""Maps, time series, control groups, paths and packets, against dictionaries, clocks and the kernel."""

import ctypes
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import insitu
from insitu.errors import InsituError
from insitu.probe.source import ScriptError

from .tracing import run_trace, values_at_begin

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)


# Maps


def test_functions_on_maps_do_what_a_dictionary_does() -> None:
    script = """BEGIN {
        @m[1] = 7; @m[2] = 8; let $v;
        print(delete(@m, 1)); print(delete(@m, 1)); print(delete(@m[5]));
        print(has_key(@m, 2)); print(has_key(@m, 1)); print(len(@m));
        print(find(@m, 2, $v)); print($v); print(find(@m, 3, $v)); print($v);
        @c["a"] = count(); @c["a"] = count(); $n = (int64)0;
        exit();
    }"""
    model = {1: 7, 2: 8}
    del model[1]
    expected = [True, False, False, True, False, len(model), True, model[2], False, model[2]]
    assert list(insitu.trace(script).events()) == expected


def test_clear_empties_and_zero_resets() -> None:
    script = (
        "BEGIN { @a[1] = 5; @b[1] = 5; @c[1] = count(); clear(@a); zero(@b); zero(@c); } interval:ms:20 { exit(); }"
    )
    trace = insitu.trace(script).wait()
    maps = trace.maps
    assert len(maps["@a"]) == 0
    assert maps["@b"]["value"].to_list() == [0] and maps["@c"]["value"].to_list() == [0]
    trace.close()


# Variables that each CPU has


def test_a_copy_of_a_variable_is_that_cpus() -> None:
    script = """BEGIN {
        for $i : 0..ncpus { print(((struct rq *)percpu_kaddr("runqueues", $i))->cpu); }
        print(((struct rq *)percpu_kaddr("runqueues"))->cpu == cpu);
        print(percpu_kaddr("runqueues", 100000) == 0 && percpu_kaddr("runqueues", -1) == 0);
        exit();
    }"""
    possible = Path("/sys/devices/system/cpu/possible").read_text().strip().rpartition("-")[2]
    assert list(insitu.trace(script).events()) == [*range(int(possible) + 1), True, True]


def test_a_symbol_without_a_copy_for_each_cpu_is_refused() -> None:
    with pytest.raises(ScriptError, match="no kernel symbol 'nothing_at_all' with a copy for each CPU"):
        insitu.trace('BEGIN { print(percpu_kaddr("nothing_at_all")); }')


# Watchpoints


def test_a_watchpoint_ends_where_the_script_says_so() -> None:
    cell = ctypes.c_long(0)
    place = hex(ctypes.addressof(cell))
    script = f"watchpoint:{place}:8:w {{ print(1); unwatch({place}); }} "
    script += "tracepoint:syscalls:sys_enter_getppid { print(2); exit(); }"
    try:
        trace = insitu.trace(script, pid=os.getpid()).__enter__()
    except InsituError as error:
        pytest.skip(f"this machine has no watchpoints: {error}")
    with trace:
        found = []
        cell.value = 1
        found.append(next(trace.events()))  # looked at: the watchpoint is gone now
        for number in range(5):
            cell.value = number
        os.getppid()
        found += list(trace.events())
    assert found == [1, 2]


# Time series


def test_a_time_series_keeps_the_last_value_of_each_interval() -> None:
    script = """interval:ms:20 { @n++; @last = tseries(@n, 100ms, 4); @sum = tseries(1, 100ms, 4, "sum");
        @most = tseries(@n, 100ms, 4, "max"); @least = tseries(@n, 100ms, 4, "min");
        @mean = tseries(@n, 100ms, 4, "avg");
        if (@n == 45) { exit(); } }"""
    trace = insitu.trace(script).wait()
    maps = trace.maps
    frames = {name: maps[f"@{name}"] for name in ("last", "sum", "most", "least", "mean")}
    trace.close()
    starts = frames["last"]["start_ns"].to_list()
    assert len(starts) == 4 and {b - a for a, b in pairwise(starts)} == {10**8}
    assert all(start % 10**8 == 0 for start in starts) and abs(starts[-1] - time.time_ns()) < 10 * 10**9
    values = {name: frame["value"].to_list() for name, frame in frames.items()}
    assert values["last"] == values["most"] and values["last"][-1] == 45
    for last, total, least, mean in zip(*(values[name] for name in ("last", "sum", "least", "mean")), strict=True):
        # A virtual machine's CPU may be away for longer than an interval, which then has no tick.
        assert (total, mean) == ((None, None) if last is None else (last - least + 1, (last + least) // 2))


def test_a_time_series_by_key_is_printed_also_as_json() -> None:
    script = 'BEGIN { @a["x"] = tseries(-3, 1s, 5); @a["y"] = tseries(4, 1s, 5); exit(); }'
    shown = run_trace("-e", script).stdout
    assert "@a[x]:\n         -4 " in shown and "*                         | -3\n" in shown
    told = run_trace("-f", "json", "-e", script).stdout
    assert '"tseries"' in told and '"value": -3' in told and time.strftime('"interval_start": "%Y-%m-%dT') in told


# Control groups, files, packets


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mount = next(
        (w[4] for w in map(str.split, Path("/proc/self/mountinfo").read_text().splitlines()) if "cgroup2" in w), None
    )
    if mount is None:
        pytest.skip("no cgroup2 hierarchy is mounted")
    path = Path(mount) / f"insitu-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    yield path
    path.rmdir()


def test_a_process_is_in_the_control_group_that_it_was_put_into(cgroup: Path) -> None:
    command = f"sh -c 'echo $$ > {cgroup}/cgroup.procs; exec true'"
    script = (
        f'tracepoint:sched:sched_process_exec /comm == "true"/ {{ printf("%d %s|%s|", cgroup == cgroupid("{cgroup}"),'
        ' cgroup_path(cgroup, "unified"), cgroup_path(cgroup, "no*")); }'
    )
    shown = run_trace("-e", script, "-c", command).stdout
    assert shown.strip() == f"1 unified:/{cgroup.name}||"


def test_files_have_the_paths_that_the_process_opened_them_by(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["directory"] * 4)
    deep.mkdir(parents=True)
    os.chdir(deep)
    found = values_at_begin(
        "path(curtask->mm->exe_file)", "path(curtask->fs->pwd)", "path(curtask->fs->root)",
        "path(curtask->fs->pwd, 12)"
    )  # fmt: skip
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    (deleted,) = values_at_begin("path(curtask->fs->pwd)")
    os.chdir("/")
    assert found == [str(Path(sys.executable).resolve()), str(deep), "/", str(deep)[-11:]]
    assert deleted == f"{gone} (deleted)"
    with pytest.raises(ScriptError, match="path\\(\\) takes a struct path"):
        insitu.trace("BEGIN { print(path(pid)); }")


def _packets(path: Path) -> list[tuple[float, int, bytes]]:
    """Time, length on the wire and bytes of each packet of a pcap file."""
    data = path.read_bytes()
    magic, *_, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, link) == (0xA1B23C4D, 101)  # nanoseconds, raw IP
    at, found = 24, []
    while at < len(data):
        seconds, nanoseconds, kept, length = struct.unpack_from("<IIII", data, at)
        found.append((seconds + nanoseconds / 1e9, length, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def test_packets_are_written_to_a_file_that_others_read(tmp_path: Path) -> None:
    file = tmp_path / "packets.pcap"
    payload = b"seen by the probe"
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    script = (
        f"tracepoint:net:net_dev_queue /pid == {os.getpid()}/ {{ $skb = (struct sk_buff *)args.skbaddr;"
        f' print((skboutput("{file}", $skb, $skb->len, 14), socket_cookie($skb->sk))); }}'
    )
    cookie = struct.unpack("<Q", sender.getsockopt(socket.SOL_SOCKET, 57, 8))[0]  # SO_COOKIE
    with insitu.trace(script) as trace, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        before = time.time()
        sender.sendto(payload, receiver.getsockname())
        assert receiver.recv(100) == payload
        after = time.time()
        answers = next(trace.events())
        ports = (sender.getsockname()[1], receiver.getsockname()[1])
    sender.close()
    assert answers == (0, cookie)
    (found,) = [p for p in _packets(file) if p[2].endswith(payload)]
    stamp, length, data = found
    assert before - 0.001 <= stamp <= after + 0.001 and length == len(data) == 20 + 8 + len(payload)
    assert (data[0], data[9]) == (0x45, socket.IPPROTO_UDP)
    assert struct.unpack(">HH", data[20:24]) == ports


def test_a_packet_file_that_cannot_be_made_is_said() -> None:
    script = (
        'tracepoint:net:net_dev_queue { $s = (struct sk_buff *)args.skbaddr; skboutput("/no/x.pcap", $s, 9, 0); }'
    )
    assert "cannot write packets to /no/x.pcap" in run_trace("-d", "0.1", "-e", script, status=1).stderr
