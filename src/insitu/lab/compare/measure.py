"""What a workload costs inside a guest: times and counts of each run, system calls, and where the CPU time goes."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from insitu.errors import InsituError
from insitu.lab.guests.failures import CommandTimeoutError
from insitu.lab.guests.guest import Guest

__all__ = ["Call", "Run", "folded_profile", "measure", "system_calls"]

# Runs with the guest's Python, which is this machine's; wait4(2) gives the numbers of the command and its children.
_WRAPPER: Final = """
import json, os, sys, time
out = os.dup(1)
null = os.open(os.devnull, os.O_WRONLY)
begin = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, usage = os.wait4(pid, 0)
wall = time.monotonic() - begin
os.write(out, json.dumps({
    "wall": wall, "user": usage.ru_utime, "sys": usage.ru_stime, "minor_faults": usage.ru_minflt,
    "major_faults": usage.ru_majflt, "voluntary_switches": usage.ru_nvcsw,
    "involuntary_switches": usage.ru_nivcsw, "status": os.waitstatus_to_exitcode(status)}).encode())
"""
# To begin with, events of kthreadd (2) are counted: it makes no system calls.
_COUNT_CALLS: Final = r"""
cd /sys/kernel/tracing && echo 1 >options/event-fork && echo 2 >set_event_pid &&
echo 'insitu_call long id; u64 lat' >>synthetic_events &&
echo 'hist:keys=id.syscall:vals=lat:size=1024' >events/synthetic/insitu_call/trigger &&
echo 'hist:keys=common_pid:ts0=common_timestamp.usecs' >events/raw_syscalls/sys_enter/trigger &&
match='onmatch(raw_syscalls.sys_enter).trace(insitu_call,id,$lat)' &&
echo 'hist:keys=common_pid:lat=common_timestamp.usecs-$ts0:'"$match" \
    >events/raw_syscalls/sys_exit/trigger
"""
# From here on, events of this process and its children alone are counted.
_WATCHED: Final = 'echo $$ >/sys/kernel/tracing/set_event_pid && exec "$@"'
_READ_CALLS: Final = r"""
cd /sys/kernel/tracing/events/
cat synthetic/insitu_call/hist
for event in raw_syscalls/sys_exit raw_syscalls/sys_enter synthetic/insitu_call; do
    sed 's/^hist/!hist/; /^#/d; s/ .*//' $event/trigger >/run/insitu-lab/trigger
    cat /run/insitu-lab/trigger >$event/trigger
done
echo '!insitu_call' >>/sys/kernel/tracing/synthetic_events
echo >/sys/kernel/tracing/set_event_pid
echo 0 >/sys/kernel/tracing/options/event-fork
"""
_CALL: Final = re.compile(r"\{ id: (?:sys_)?(\w+) +\[ *\d+\] \} hitcount: +(\d+) +lat: +(\d+)")
_SAMPLE_HZ: Final = 499
_PROFILE_SECONDS: Final = 90.0
_FRAME: Final = re.compile(r"\s+[0-9a-f]+ (.+) \((.*)\)$")


@dataclass(frozen=True)
class Run:
    """One run: seconds of wall, user and system time, and counts.

    ``host_wait`` is for how many seconds the guest's CPUs waited for one of this machine's, which others had.
    """

    wall: float
    user: float
    sys: float
    minor_faults: int
    major_faults: int
    voluntary_switches: int
    involuntary_switches: int
    host_wait: float = 0.0


@dataclass(frozen=True)
class Call:
    """A system call's number of calls and seconds in one run, by the workload and the processes it starts."""

    name: str
    calls: int
    seconds: float


def measure(guest: Guest, argv: Sequence[str], timeout: float | None = None) -> Run:
    """Run the workload once. Raises InsituError when it fails: a failing workload's times say nothing."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or "python3"
    waited = guest.host_wait()
    result = guest.run([python, "-I", "-S", "-c", _WRAPPER, *argv], timeout=timeout).check()
    waited = guest.host_wait() - waited
    fields = json.loads(result.stdout)
    status = fields.pop("status")
    if status:
        error = (result.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        raise InsituError(f"the workload ends with status {status} under {guest.kernel.name}: {error}")
    return Run(**fields, host_wait=waited)


def system_calls(guest: Guest, argv: Sequence[str]) -> list[Call]:
    """System calls of one run of the workload, the longest first; empty where the kernel has no hist triggers.

    The guest's own histograms count (Documentation/trace/histogram.rst): strace's two stops per call would make a
    workload under software emulation minutes long.
    """
    if guest.run(["sh", "-c", _COUNT_CALLS]).status:
        return []
    guest.run(["sh", "-c", _WATCHED, "sh", *argv], stdout=_ignore)
    table = guest.run(["sh", "-c", _READ_CALLS]).stdout.decode(errors="replace")
    calls = [Call(name, int(count), int(usecs) / 1e6) for name, count, usecs in _CALL.findall(table)]
    return sorted(calls, key=lambda call: -call.seconds)


def folded_profile(guest: Guest, argv: Sequence[str]) -> str:
    """The workload's CPU time as folded stacks, sampled by perf inside the guest; empty where perf cannot."""
    if not shutil.which("perf"):
        return ""
    data = "/run/insitu-lab/perf.data"
    record = ["perf", "record", "-q", "-g", "-e", "cpu-clock", "-F", str(_SAMPLE_HZ), "-o", data]
    quick = ["--no-buildid", "--no-buildid-cache", "--no-bpf-event", "--"]
    try:
        if guest.run([*record, *quick, *argv], stdout=_ignore, timeout=_PROFILE_SECONDS).status:
            return ""
        script = guest.run(["perf", "script", "-i", data, "-F", "comm,ip,sym,dso"], timeout=_PROFILE_SECONDS)
    except CommandTimeoutError:
        return ""
    return _fold(script.stdout.decode(errors="replace"))


def _fold(script: str) -> str:
    """perf script's paragraphs (a command, then frames, leaf first) as ``comm;outer;inner count`` lines."""
    counts: Counter[str] = Counter()
    for paragraph in script.split("\n\n"):
        lines = paragraph.strip("\n").splitlines()
        if not lines:
            continue
        frames = [lines[0].strip().replace(";", ":")]
        for line in reversed(lines[1:]):
            match = _FRAME.match(line)
            if match:
                kernel = match[2].startswith("[") and match[2] != "[unknown]" and match[2] != "[vdso]"
                frames.append(match[1].replace(";", ":") + ("_[k]" if kernel else ""))
        counts[";".join(frames)] += 1
    return "".join(f"{stack} {count}\n" for stack, count in sorted(counts.items()))


def _ignore(data: bytes) -> None:
    """A workload's own output is of no interest here."""
