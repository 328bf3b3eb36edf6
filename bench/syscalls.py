"""System calls: what a traced program pays for strace, perf trace and us, and whether anything is lost.

The program makes four short calls in a loop: open, read, fstat, close. Figures are ns per call, and slow-downs of the
program (times as long as untraced). Records are lost, or not, at a million calls a second. Then seconds: from the
start to the first line, and until all calls are written as text; and of a program that makes a million calls, of
which none is asked for.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench._loads import compiled
from insitu.record.run import Destination, Request, record, run
from insitu.record.sources.syscalls import SyscallsSource
from insitu.record.sources.syscalls_summary import SummarySource
from insitu.syscalls.call import Event
from insitu.syscalls.engine_options import EngineOptions

_CALLS = 800_000
_STRACED = 80_000  # strace takes a minute for all of them
_RATE, _SECONDS = 1_000_000, 10
_AS_TEXT = 100_000
_STARTS = 7  # of which the quickest counts
_OURS = (sys.executable, "-m", "insitu", "syscalls")
_LOAD = """
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
/* CALLS FILE [RATE]: without a rate as fast as can be; with rate 0 as many calls of getppid(). */
int main(int argc, char **argv)
{
    long loops = atol(argv[1]) / 4;
    int others = argc > 3 && !atol(argv[3]);
    double gap = argc > 3 && !others ? 4e9 / atof(argv[3]) : 0, begun = now();
    struct stat about;
    char bytes[512];
    for (long i = 0; others && i < 4 * loops; i++) { getppid(); }
    for (long i = 0; !others && i < loops; i++) {
        int fd = open("/etc/hostname", O_RDONLY);
        if (read(fd, bytes, sizeof bytes) < 0 || fstat(fd, &about) || close(fd)) { return 1; }
        while (gap && now() < begun + i * gap) { }
    }
    FILE *out = fopen(argv[2], "w");
    fprintf(out, "%f\\n", (now() - begun) / loops / 4);
    return fclose(out);
}
"""


class _Load:
    """The program, and where it writes how long a call took."""

    def __init__(self, directory: Path) -> None:
        self._result = directory / "ns"
        self._program = compiled(_LOAD, directory / "calls")

    def command(self, calls: int, *rate: int) -> tuple[str, ...]:
        """The command that makes so many calls, at a rate per second (else as fast as can be; 0: other calls)."""
        return (str(self._program), str(calls), str(self._result), *map(str, rate))

    @property
    def ns(self) -> float:
        """Nanoseconds per call of the last run."""
        return float(self._result.read_text())

    def under(self, tracer: Sequence[str], calls: int, *rate: int) -> float:
        """Nanoseconds per call under a tracer's command."""
        subprocess.run([*tracer, *self.command(calls, *rate)], check=True, stderr=subprocess.DEVNULL)
        return self.ns


def _events_taken(count: list[int], events: Sequence[Event]) -> None:
    count[0] += len(events)


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        load = _Load(directory)
        plain = load.under((), _CALLS)
        print(f"untraced                       {plain:10.0f} ns per call")
        strace = load.under(("strace", "-f", "-o", "/dev/null"), _STRACED)
        _show("strace -f -o /dev/null", strace, plain)
        perf = load.under(("perf", "trace", "-o", "/dev/null"), _STRACED)
        _show("perf trace -o /dev/null", perf, plain)
        outcome = record(Request(load.command(_CALLS)), [SyscallsSource(EngineOptions())], directory / "a.insitu")
        _show("ours, to a session", load.ns, plain, strace, 40, outcome.lost)
        taken = [0]
        source = SyscallsSource(EngineOptions(), lambda events: _events_taken(taken, events))
        outcome = run(Request(load.command(_CALLS)), [source], Destination())
        _show("ours, events as they come", load.ns, plain, strace, 15, outcome.lost)
        outcome = run(Request(load.command(_CALLS)), [SummarySource(EngineOptions())], Destination())
        _show("ours, -c", load.ns, plain, strace, 40, outcome.lost)
        text = (*_OURS, "-f", "-o", "/dev/null", "--")
        _show("insitu syscalls -f -o /dev/null", load.under(text, _CALLS), plain, strace, 15)
        request = Request(load.command(_RATE * _SECONDS, _RATE))
        outcome = record(request, [SyscallsSource(EngineOptions())], directory / "b.insitu")
        rate = 1e9 / load.ns
        size = outcome.bytes_written / (_RATE * _SECONDS)
        print(f"{rate:,.0f} calls a second for {_SECONDS} s: {outcome.lost} records lost, {size:.0f} bytes per call")
        _seconds(load)
        _others(load)


def _seconds(load: _Load) -> None:
    """From the start to the first line, and to the end of the text of many calls."""
    engines = {f"ours, {name}": (*_OURS, "--backend", name) for name in ("bpf", "ptrace")}
    for name, tracer in {"strace": ("strace",), **engines}.items():
        first_s = min(_first_line_s((*tracer, "true")) for _ in range(_STARTS))
        begun = time.monotonic()
        load.under((*tracer, "-f", "-o", "/dev/null"), _AS_TEXT)
        text_s = time.monotonic() - begun
        print(
            f"{name:<31}{first_s:10.3f} s to the first line, {text_s:.1f} s for {_AS_TEXT} calls as text", flush=True
        )


def _first_line_s(command: Sequence[str]) -> float:
    begun = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        took_s = time.monotonic() - begun
        process.stderr.read()
    return took_s


def _others(load: _Load) -> None:
    """A million calls that nobody asked for, with a seccomp filter."""
    words = ("--seccomp-bpf", "-f", "-e", "trace=openat", "-o", "/dev/null")
    plain = load.under((), _RATE, 0)
    print(f"untraced, {_RATE} x getppid      {plain:10.1f} ns per call")
    for name, tracer in (("strace", ("strace",)), ("ours", _OURS)):
        ns = load.under((*tracer, *words), _RATE, 0)
        print(f"{name} --seccomp-bpf -e openat".ljust(31) + f"{ns:10.1f} ns per call", flush=True)


def _show(what: str, ns: float, plain: float, strace: float = 0, aim: int = 0, lost: int = 0) -> None:
    line = f"{what:<31}{ns:10.0f} ns per call   {ns / plain:7.1f} times as long"
    if strace:
        line += f"   1/{(strace - plain) / (ns - plain):.0f} of strace's slow-down (aim: 1/{aim})"
    print(re.sub(r"$", f"   LOST {lost}" if lost else "", line), flush=True)


if __name__ == "__main__":
    main()
