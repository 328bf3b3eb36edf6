"""Which tools are measured beside which ready programs: those of bpftrace and, of Debian's libbpf-tools, bcc's."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAIRS", "Pair", "Peer", "complaint", "started"]

# What keeps bpftrace's tools from running here: a header that it cannot read (for one constant), and where glibc has
# its threads since 2.34.
_MENDED = {"#include <linux/sched.h>": "#define TASK_RUNNING 0", "uprobe:libpthread:": "uprobe:libc:"}

# What those of our programs show that show more than their peers, in bpftrace's language.
_SAME = {
    "syscalls": """
tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; @calls[comm, args->id] = count(); }
tracepoint:raw_syscalls:sys_exit /@start[tid]/ {
    $ns = nsecs - @start[tid];
    @us[comm] = hist($ns / 1000);
    @total_ns[comm, args->id] = sum($ns);
    delete(@start[tid]);
}
""",
    "bitesize": """
tracepoint:block:block_getrq { @who[args->dev, args->sector] = comm; }
tracepoint:block:block_rq_issue {
    $who = @who[args->dev, args->sector];
    if ($who == "") { @bytes[args->comm, args->dev, args->rwbs] = hist(args->bytes); }
    else { @bytes[$who, args->dev, args->rwbs] = hist(args->bytes); delete(@who[args->dev, args->sector]); }
}
""",
}


class Peer(NamedTuple):
    """A tool: of bpftrace, with its script's name or a script of _SAME, or else the words of one of libbpf-tools."""

    words: tuple[str, ...]
    kind: str

    @property
    def name(self) -> str:
        """What it is called in a line."""
        return {"script": f"{self.words[0]}.bt", "same": "same columns"}.get(self.kind, " ".join(self.words))


class Pair(NamedTuple):
    """Words of ours, the tools beside it, and what an event is (a key of LOADS)."""

    ours: tuple[str, ...]
    peers: tuple[Peer, ...]
    event: str


def _pair(ours: str, event: str, *, bpftrace: str = "", bcc: tuple[str, ...] = ()) -> Pair:
    words = tuple(ours.split())
    peers = [Peer((bpftrace,), "script")] if bpftrace else []
    peers += [Peer((words[0],), "same")] if words[0] in _SAME else []
    return Pair(words, (*peers, *(Peer(tuple(each.split()), "binary") for each in bcc)), event)


PAIRS = {
    pair.ours[0]: pair
    for pair in (
        _pair("capable", "check", bpftrace="capable", bcc=("capable",)),
        _pair("execs", "exec", bpftrace="execsnoop", bcc=("execsnoop",)),
        _pair("exits", "exec", bcc=("exitsnoop",)),
        _pair("forks", "thread", bpftrace="threadsnoop"),
        _pair("signals", "signal", bpftrace="killsnoop", bcc=("sigsnoop",)),
        _pair("syscalls", "system call", bpftrace="syscount", bcc=("syscount", "syscount -L")),
        _pair("runqlat", "switch", bpftrace="runqlat", bcc=("runqlat",)),
        _pair("cpudist", "switch", bcc=("cpudist",)),
        _pair("runqlen", "sample", bpftrace="runqlen", bcc=("runqlen",)),
        _pair("dcstat", "name looked up", bpftrace="dcsnoop"),
        _pair("fileslow 0 xfs", "read or write", bpftrace="xfsdist", bcc=("fsslower -t xfs -m 0",)),
        _pair("filetop", "read or write", bcc=("filetop",)),
        _pair("cachestat", "read or write", bcc=("cachestat",)),
        _pair("opens", "open", bpftrace="opensnoop", bcc=("opensnoop",)),
        _pair("kmallocs", "open", bcc=("slabratetop",)),
        _pair("writeback", "pass of a flusher", bpftrace="writeback"),
        _pair("biolatency", "request", bcc=("biolatency -D -F",)),
        _pair("biosnoop", "request", bcc=("biosnoop -Q",)),
        _pair("bitesize", "request", bpftrace="bitesize", bcc=("bitesize",)),
        _pair("biotop", "request", bcc=("biotop",)),
        _pair("biopattern", "request", bcc=("biopattern",)),
        _pair("hardirqs", "request", bcc=("hardirqs -d",)),
        _pair("softirqs", "request", bcc=("softirqs -d",)),
        _pair("gethostlatency", "host name", bpftrace="gethostlatency", bcc=("gethostlatency",)),
        _pair("tcpaccept", "connection", bpftrace="tcpaccept"),
        _pair("tcpconnect", "connection", bpftrace="tcpconnect", bcc=("tcpconnect", "tcpconnlat")),
        _pair("tcpdrop", "packet sent again"),
        _pair("tcplife", "connection", bpftrace="tcplife", bcc=("tcplife",)),
        _pair("tcpretrans", "packet sent again", bpftrace="tcpretrans"),
        _pair("tcpsynbl", "connection", bpftrace="tcpsynbl", bcc=("tcpsynbl",)),
        _pair("oomkills", "kill", bpftrace="oomkill", bcc=("oomkill",)),
    )
}
"""By the name of ours."""


def started(peer: Peer) -> int | None:
    """A process that is this tool, tracing; None where it is not installed."""
    if peer.kind == "binary":
        words = [f"/usr/sbin/{peer.words[0]}", *peer.words[1:]]
        if not Path(words[0]).exists():
            return None
    else:
        words = ["bpftrace", "-e", _SAME[peer.words[0]] if peer.kind == "same" else _mended(peer.words[0])]
    with open(os.devnull, "wb") as sink, _errors(peer).open("wb") as errors:  # noqa: PTH123
        return subprocess.Popen(words, stdout=sink, stderr=errors).pid


def complaint(peer: Peer) -> str:
    """The last line that a tool has written to its standard error."""
    lines = _errors(peer).read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it says nothing")


def _errors(peer: Peer) -> Path:
    return Path("/run", f"errors-{peer.kind}-{peer.words[0]}")


def _mended(tool: str) -> str:
    """A script of bpftrace's."""
    script = Path(f"/usr/sbin/{tool}.bt").read_text()
    for old, new in _MENDED.items():
        script = script.replace(old, new)
    return script
