"""What a workload costs inside a guest: the times and counts of each run, and its system calls."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from insitu.errors import InsituError
from insitu.lab.guests.guest import Guest

__all__ = ["Call", "Run", "measure", "system_calls"]

# For the guest's Python, which is this machine's; wait4(2) returns the usage of the command and its children.
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
# Until the workload starts, only kthreadd (2) is counted, which makes no system calls.
_COUNT_CALLS: Final = r"""
cd /sys/kernel/tracing && echo 1 >options/event-fork && echo 2 >set_event_pid &&
echo 'insitu_call long id; u64 lat' >>synthetic_events &&
echo 'hist:keys=id.syscall:vals=lat:size=1024' >events/synthetic/insitu_call/trigger &&
echo 'hist:keys=common_pid:ts0=common_timestamp.usecs' >events/raw_syscalls/sys_enter/trigger &&
match='onmatch(raw_syscalls.sys_enter).trace(insitu_call,id,$lat)' &&
echo 'hist:keys=common_pid:lat=common_timestamp.usecs-$ts0:'"$match" \
    >events/raw_syscalls/sys_exit/trigger
"""
# From here on, only events of this process and its children are counted.
_COUNTED: Final = 'echo $$ >/sys/kernel/tracing/set_event_pid && exec "$@"'
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
_IN_SECONDS: Final = {"unit": "s"}
_CALL: Final = re.compile(r"\{ id: (?:sys_)?(\w+) +\[ *\d+\] \} hitcount: +(\d+) +lat: +(\d+)")


@dataclass(frozen=True)
class Run:
    """One run: seconds of wall, user and system time, counts, and seconds of vCPU steal.

    vCPU steal is how long the guest's CPUs waited for a host CPU, summed. Fields in seconds have "unit": "s" in their
    metadata.
    """

    wall: float = field(metadata=_IN_SECONDS)
    user: float = field(metadata=_IN_SECONDS)
    sys: float = field(metadata=_IN_SECONDS)
    minor_faults: int
    major_faults: int
    voluntary_switches: int
    involuntary_switches: int
    vcpu_steal: float = field(default=0.0, metadata=_IN_SECONDS)


@dataclass(frozen=True)
class Call:
    """How often one run called a system call, and the seconds spent in it, including child processes."""

    name: str
    calls: int
    seconds: float


def measure(guest: Guest, argv: Sequence[str], timeout: float | None = None) -> Run:
    """Run the workload once and measure it. Raises InsituError if it fails."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or "python3"
    steal = guest.vcpu_steal()
    result = guest.run([python, "-I", "-S", "-c", _WRAPPER, *argv], timeout=timeout).check()
    steal = guest.vcpu_steal() - steal
    fields = json.loads(result.stdout)
    status = fields.pop("status")
    if status:
        error = (result.stderr.decode(errors="replace").strip().splitlines() or ["no error output"])[-1]
        raise InsituError(f"the workload exited with status {status} under {guest.kernel.name}: {error}")
    return Run(**fields, vcpu_steal=steal)


def system_calls(guest: Guest, argv: Sequence[str]) -> list[Call]:
    """The system calls of one run of the workload, the longest first; empty if the kernel has no hist triggers.

    The guest kernel's histograms count them (Documentation/trace/histogram.rst): under software emulation, strace's
    two stops per call would take minutes.
    """
    if guest.run(["sh", "-c", _COUNT_CALLS]).status:
        return []
    guest.run(["sh", "-c", _COUNTED, "sh", *argv], stdout=_ignore)
    table = guest.run(["sh", "-c", _READ_CALLS]).stdout.decode(errors="replace")
    calls = [Call(name, int(count), int(usecs) / 1e6) for name, count, usecs in _CALL.findall(table)]
    return sorted(calls, key=lambda call: -call.seconds)


def _ignore(data: bytes) -> None:
    """Discard the workload's own output."""
