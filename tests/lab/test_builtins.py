"""Builtins that want kprobes, fentry or the kernel's per-CPU data, on distribution kernels."""

import json
import os
import sys
from typing import Any

import pytest

from insitu.lab import Guest

# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}

# Runs in the guest, in one process: it does what the probes see, and knows what they have to say of it.
_SEEN = r"""
import json, os, socket, struct, subprocess
from pathlib import Path
import insitu
from insitu.probe.source import ScriptError

found = {}
me = os.getpid()
folder = Path("/tmp/folder"); folder.mkdir(); file = folder / "file"; file.write_text("text")
inner = Path("/tmp/mounted"); inner.mkdir(); subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
below = inner / "below"; below.write_text("text")

script = f"kprobe:vfs_read /pid == {me}/ {{ print((0, path((struct file *)arg0))); }} "
script += f"fentry:vfs_read /pid == {me}/ {{ print((1, path(args.file->f_path))); }} "
script += f"kprobe:__x64_sys_getppid /pid == {me}/ {{ exit(); }}"
with insitu.trace(script) as trace:
    for each in (file, below):
        each.read_text()
    reader, writer = os.pipe()
    os.write(writer, b"x"); os.read(reader, 1)
    os.getppid()
    events = list(trace.events())
    # Attaching reads some files of /sys.
    seen = [(which, name) for which, name in events if not name.startswith("/sys")]
    found["paths"] = [sorted({name for which, name in seen if which == wanted}) for wanted in (0, 1)]
found["wanted_paths"] = sorted([str(file), str(below), "pipefs"])

sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
receiver.bind(("127.0.0.1", 0))
script = f'fentry:__dev_queue_xmit /pid == {me}/ {{ $s = args.skb; print((skboutput("/tmp/f.pcap", $s, $s.len, 14), '
script += f'socket_cookie($s.sk))); }} kprobe:ip_output /pid == {me}/ {{ $s = (struct sk_buff *)arg2; '
script += 'print((skboutput("/tmp/k.pcap", $s, 1000, 0), socket_cookie($s.sk))); } '
script += f"fentry:udp_sendmsg /pid == {me}/ {{ print((0, socket_cookie(args.sk))); }}"  # made here, on demand
with insitu.trace(script) as trace:
    sender.sendto(b"seen by the probe", receiver.getsockname())
    receiver.recv(100)
    events = trace.events()
    found["sent"] = [next(events) for _ in range(3)]
found["cookie"] = struct.unpack("<Q", sender.getsockopt(socket.SOL_SOCKET, 57, 8))[0]
found["packets"] = [Path(name).read_bytes()[40:].hex() for name in ("/tmp/f.pcap", "/tmp/k.pcap")]
found["ports"] = [sender.getsockname()[1], receiver.getsockname()[1]]

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname()); served, _ = listener.accept()
sent = bytes(range(256)) * 12
script = f"kprobe:ip_output /pid == {me}/ {{ $s = (struct sk_buff *)arg2; "
script += 'print((skboutput("/tmp/t.pcap", $s, $s->len, 0), (uint64)$s->data_len)); }'
with insitu.trace(script) as trace:
    client.sendall(sent)
    got = b""
    while len(got) < len(sent):
        got += served.recv(10000)
    found["tcp_events"] = [next(trace.events())]
found["tcp_in_file"] = sent in Path("/tmp/t.pcap").read_bytes()

Path("/tmp/it.c").write_text(
    "#include <unistd.h>\n__attribute__((noinline)) void inner(void) { getppid(); __asm__ volatile(\"\"); }\n"
    "__attribute__((noinline)) void outer(void) { inner(); __asm__ volatile(\"\"); }\n"
    "int main(void) { outer(); return 0; }"
)
subprocess.run(["gcc", "-O1", "-fno-omit-frame-pointer", "-o", "/tmp/it", "/tmp/it.c"], check=True)
with insitu.trace("uprobe:/tmp/it:inner { print(ustack(3)); }") as trace:
    subprocess.run(["/tmp/it"], check=True)
    found["ended"] = next(trace.events())

script = 'BEGIN { for $i : 0..2 { print(((struct rq *)percpu_kaddr("runqueues", $i))->cpu); } '
script += 'print(((struct rq *)percpu_kaddr("runqueues"))->cpu == cpu); '
script += 'print(percpu_kaddr("runqueues", 1000) == 0); exit(); }'
found["queues"] = list(insitu.trace(script).events())

try:
    with insitu.trace(f"kprobe:__x64_sys_getuid /pid == {me}/ {{ override(12345); }}", unsafe=True):
        found["uid"] = os.getuid()
except ScriptError as error:
    found["uid"] = error.plain

script = f'fentry:vfs_read /pid == {me}/ {{ print((len(kstack), len(kstack(2)), func, probetype)); }}'
with insitu.trace(script) as trace:
    file.read_text()
    found["stack"] = next(trace.events())
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=["6.1", "6.12"])
def seen(request: pytest.FixtureRequest, guests: Any) -> dict[str, Any]:
    """What a shared guest found out."""
    return _found(guests.running(request.param))


def _found(guest: Guest) -> dict[str, Any]:
    done = guest.run([sys.executable, "-c", _SEEN], env=_ENVIRONMENT)
    assert done.status == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_files_have_their_paths_across_mounts_and_in_every_probe(seen: dict[str, Any]) -> None:
    assert seen["paths"] == [seen["wanted_paths"]] * 2


def test_packets_are_written_from_kprobes_and_fentry_and_sockets_known_by_their_cookie(seen: dict[str, Any]) -> None:
    assert seen["sent"] == [[0, seen["cookie"]]] * 3 and seen["cookie"]
    for packet in map(bytes.fromhex, seen["packets"]):
        assert packet.endswith(b"seen by the probe") and len(packet) == 20 + 8 + 17 and packet[0] == 0x45
        assert [int.from_bytes(packet[at : at + 2], "big") for at in (20, 22)] == seen["ports"]


def test_each_cpu_has_its_own_variables(seen: dict[str, Any]) -> None:
    assert seen["queues"] == [0, 1, 1, 1]


def test_where_functions_can_be_made_to_answer_otherwise_they_are_and_where_not_that_is_said(
    seen: dict[str, Any],
) -> None:
    # Debian builds its kernels without CONFIG_BPF_KPROBE_OVERRIDE.
    assert seen["uid"] == 12345 or "it has no bpf_override_return() for kprobe probes" in seen["uid"]


def test_stacks_have_lengths(seen: dict[str, Any]) -> None:
    deep, cut, function, kind = seen["stack"]
    assert deep > cut == 2 and (function, kind) == ("vfs_read", "fentry")


def test_bytes_of_a_packet_that_lie_in_pages_of_their_own_are_written_too(seen: dict[str, Any]) -> None:
    ((status, paged),) = seen["tcp_events"]
    assert status == 0 and paged > 0 and seen["tcp_in_file"]


def test_functions_of_any_process_that_has_ended_have_names(seen: dict[str, Any]) -> None:
    assert [line.split("+")[0] for line in seen["ended"].split()] == ["inner", "outer", "main"]
