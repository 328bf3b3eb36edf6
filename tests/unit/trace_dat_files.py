"""Files of trace-cmd 3.1.6, with what its report prints of them (-R -t: raw fields, nanoseconds).

version_6, version_7 (zstd) and version_7_plain hold the same events; buffers has two instances, one with wall-clock
times (--date). The lists of kernel symbols and, in buffers, of event formats were cut to a few.

release_2.9.1, release_3.3.1 (zlib) and release_3.4 (zstd), as trace-cmd of Debian 11, 13 and of unstable wrote them
in a guest with 6.12, have switches with stacks, and the buffers calls (function) and calls2 (raw_syscalls);
graph_2.9.1 is of function_graph, its report without -R. They were recorded with a short /proc/kallsyms. syscalls is
of 3.1.6.

host and guest are of trace-cmd 3.4 record -A, through a vsock of one kernel to itself; host is cut off after its
options. The report is of both files, its lines are those of guest (-t): the times are of the host's clock.

pair_host and pair_guest are of 3.1.6, recorded in the same way with the switches of sh and sleep in both, pair.report
is of both: guest and host are one kernel, so that each switch is in both.
"""

import gzip
import re
import struct
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent / "trace_dat"
_LINE = re.compile(
    r"\s*(?:(?P<buffer>\w+):)?\s*(?P<comm>.+)-(?P<tid>\d+)\s+\[(?P<cpu>\d+)\](?:-0x\d+)? +(?P<s>\d+)\.(?P<ns>\d{9}): "
    r"(?P<event>\w+):\s+(?P<fields>.*)"
)


class Line(NamedTuple):
    """A line of trace-cmd report -R -t."""

    buffer: str
    comm: str
    tid: int
    cpu: int
    ts_ns: int
    event: str
    fields: dict[str, int | str]


def file(name, directory):
    """A file of trace-cmd in ``directory``."""
    path = directory / f"{name}.dat"
    path.write_bytes(gzip.decompress((HERE / f"{name}.dat.gz").read_bytes()))
    return path


def with_options(path, options):
    """A file of version 7 with more options, which precede its own: {number: bytes}."""
    data = path.read_bytes()
    at = data.index(b"\0", data.index(b"7\0") + 8) + 1  # after the compressor's name
    at = data.index(b"\0", at) + 1
    first = data[at : at + 8]
    body = b"".join(
        struct.pack("<HI", number, len(value)) + value for number, value in [*options.items(), (0, first)]
    )
    path.write_bytes(
        data[:at] + struct.pack("<Q", len(data)) + data[at + 8 :] + struct.pack("<HHIQ", 0, 0, 0, len(body)) + body
    )
    return path


def report(name):
    """The lines of trace-cmd's report."""
    return lines(gzip.decompress((HERE / f"{name}.report.gz").read_bytes()).decode())


def lines(text):
    """The events in the text of trace-cmd report -R -t."""
    found = []
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            words = (word.partition("=") for word in match["fields"].split(" "))
            fields = {name: _value(value) for name, _, value in words}
            ts_ns = int(match["s"]) * 10**9 + int(match["ns"])
            found.append(
                Line(
                    match["buffer"] or "",
                    match["comm"],
                    int(match["tid"]),
                    int(match["cpu"]),
                    ts_ns,
                    match["event"],
                    fields,
                )
            )
    return found


def _value(text):
    try:
        return int(text, 16 if text.startswith("0x") else 10)
    except ValueError:
        return text
