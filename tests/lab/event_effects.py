"""Runs in a guest: sets every kind of filter and trigger in an instance of its own, and prints what they did as JSON.

The events are this process's own lseek(2) calls with the offsets 0 to 9, and openat(2) calls of two files.
"""

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable

from insitu.errors import InsituError
from insitu.kernel.trace_instance import TraceInstance
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_leftovers import remove_dead
from insitu.record.ftrace.dynamic_events import DynamicEvents, definitions
from insitu.record.ftrace.filters import parse_filter
from insitu.record.ftrace.latencies import LatencyTracing, latency_request
from insitu.record.ftrace.triggers import parse_trigger
from insitu.record.source import Target

OURS = f"common_pid == {os.getpid()}"
LSEEK = ("syscalls", "sys_enter_lseek")
OPENAT = ("syscalls", "sys_enter_openat")
GETPPID = ("syscalls", "sys_enter_getppid")
FILTERS = {
    **dict.fromkeys(("offset == 3", "offset != 3", "offset < 3", "offset <= 3", "offset > 3"), LSEEK),
    **dict.fromkeys(("offset >= 3", "offset & 1", "offset == 3 || offset == 5", "comm == 'effects'"), LSEEK),
    **dict.fromkeys(("offset > 3 && !(offset == 5)", "comm ~ 'eff*'", "comm != 'effects'", "cpu == 1"), LSEEK),
    **dict.fromkeys(("cpu & CPUS{1}", "cpu & CPUS{0}", "(offset == 0x3 || offset == 07) && fd >= 0"), LSEEK),
    **dict.fromkeys(("filename.ustring ~ '*host*'", "filename.ustring == '/etc/passwd'"), OPENAT),
}


def main() -> None:
    tracefs = Tracefs.open()
    os.sched_setaffinity(0, {1})
    with open("/proc/self/comm", "w") as file:  # noqa: PTH123
        file.write("effects")
    seen: dict[str, object] = {}
    for text, event in FILTERS.items():
        instance = TraceInstance.create(tracefs)
        try:
            checked = parse_filter(f"({text}) && {OURS}", tracefs.event(*event))
            instance.write(f"events/{event[0]}/{event[1]}/filter", checked.text)
            seen[text] = lines(traced(instance, event))
        except OSError as error:
            seen[text] = error.strerror
        finally:
            instance.close()
    for name, effect in EFFECTS.items():
        instance = TraceInstance.create(tracefs)
        try:
            seen[name] = effect(tracefs, instance)
        except (OSError, InsituError) as error:
            seen[name] = f"{error} {instance.read('error_log')}"
        finally:
            instance.close()
    seen["killed"] = killed(tracefs)
    seen["instances left"] = [name for name in tracefs.names("instances") if name.startswith("insitu")]
    seen["dynamic events left"] = tracefs.read("dynamic_events")
    json.dump(seen, sys.stdout)


def killed(tracefs: Tracefs) -> object:
    """What a killed measurement of latencies leaves, and what the next one removes of it."""
    child = os.fork()
    if not child:
        instance = TraceInstance.create(tracefs)
        pair = "sched:sched_waking -> sched:sched_switch, key pid=next_pid"
        LatencyTracing(latency_request(pair, tracefs.event), tracefs).set_up(instance, Target(whole_system=True))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    left = f"insitu_{child}_" in tracefs.read("dynamic_events")
    return [left, sorted(each.split(" ")[1] for each in remove_dead(tracefs))]


def traced(instance: TraceInstance, *events: tuple[str, str]) -> str:
    """Do what is traced; returns the trace's text."""
    for event in events:
        instance.write(f"events/{event[0]}/{event[1]}/enable", "1")
    instance.write("tracing_on", "1")
    act()
    return instance.read("trace")


def act() -> None:
    with open("/proc/self/status", "rb", 0) as file:  # noqa: PTH123
        for offset in range(10):
            os.lseek(file.fileno(), offset, os.SEEK_SET)
            os.getppid()
    for path in ("/etc/passwd", "/etc/hosts"):
        os.close(os.open(path, os.O_RDONLY))


def lines(text: str, what: str = "(") -> int:
    return sum(what in line and not line.startswith("#") for line in text.splitlines())


def add(tracefs: Tracefs, instance: TraceInstance, event: tuple[str, str], text: str, *variables: str) -> None:
    trigger = parse_trigger(text, tracefs.event(*event), tracefs.event, variables=variables)
    instance.add(f"events/{event[0]}/{event[1]}/trigger", trigger.text)


def effect_of(text: str, *events: tuple[str, str], what: str = "(") -> Callable[[Tracefs, TraceInstance], object]:
    """A trigger of lseek at offset 5, with what was traced then and whether it still traces."""

    def effect(tracefs: Tracefs, instance: TraceInstance) -> object:
        add(tracefs, instance, LSEEK, f"{text} if offset == 5 && {OURS}")
        for category, name in events:
            instance.write(f"events/{category}/{name}/filter", OURS)
        found = traced(instance, *events)
        return [lines(found, what), instance.read("tracing_on").strip()]

    return effect


def traceon(tracefs: Tracefs, instance: TraceInstance) -> object:
    add(tracefs, instance, LSEEK, f"traceon if offset == 5 && {OURS}")
    act()
    return instance.read("tracing_on").strip()


def snapshot(tracefs: Tracefs, instance: TraceInstance) -> object:
    instance.write("events/syscalls/sys_enter_lseek/filter", OURS)
    add(tracefs, instance, LSEEK, f"snapshot:1 if offset == 5 && {OURS}")
    traced(instance, LSEEK)
    return lines(instance.read("snapshot"))


def hist(text: str, event: tuple[str, str] = LSEEK) -> Callable[[Tracefs, TraceInstance], object]:
    """A hist trigger, and its text."""

    def effect(tracefs: Tracefs, instance: TraceInstance) -> object:
        add(tracefs, instance, event, f"{text} if {OURS}")
        traced(instance)
        return instance.read(f"events/{event[0]}/{event[1]}/hist")

    return effect


def switched_hist(text: str, state: str) -> Callable[[Tracefs, TraceInstance], object]:
    """A trigger of lseek at offset 3, which pauses or continues a histogram of getppid(2)."""

    def effect(tracefs: Tracefs, instance: TraceInstance) -> object:
        add(tracefs, instance, GETPPID, f"hist:keys=common_pid{state} if {OURS}")
        add(tracefs, instance, LSEEK, f"{text}:syscalls:sys_enter_getppid if offset == 3 && {OURS}")
        traced(instance)
        return instance.read("events/syscalls/sys_enter_getppid/hist")

    return effect


def onmatch(tracefs: Tracefs, instance: TraceInstance) -> object:
    tracefs.append("dynamic_events", "s:effects_lat u64 lat; int pid")
    try:
        add(tracefs, instance, LSEEK, f"hist:keys=common_pid:ts0=common_timestamp if {OURS}")
        match = "hist:keys=common_pid:lat=common_timestamp-$ts0:onmatch(syscalls.sys_enter_lseek)"
        add(tracefs, instance, GETPPID, f"{match}.trace(effects_lat,$lat,common_pid) if {OURS}", "ts0")
        return lines(traced(instance, ("synthetic", "effects_lat")), "effects_lat")
    finally:
        instance.close()
        tracefs.append("dynamic_events", "-:effects_lat")


def latencies(tracefs: Tracefs, instance: TraceInstance) -> object:
    """Of a sleep of 0.2 s, in ns."""
    begin, end = (f"syscalls:sys_{each}_clock_nanosleep" for each in ("enter", "exit"))
    tracing = LatencyTracing(
        latency_request(f"{begin} if {OURS} -> {end} if {OURS}, key common_pid", tracefs.event), tracefs
    )
    try:
        tracing.set_up(instance, Target(whole_system=True))
        instance.write("tracing_on", "1")
        time.sleep(0.2)
        return [int(number) for number in re.findall(r"latency_ns=(\d+)", instance.read("trace"))]
    finally:
        instance.close()
        tracing.close()


def dynamic(*specs: str) -> Callable[[Tracefs, TraceInstance], object]:
    """The fields of the events that dynamic events had, from one open of /etc/passwd and one of a missing file."""

    def effect(tracefs: Tracefs, instance: TraceInstance) -> object:
        wanted = [each for spec in specs for each in definitions(spec, tracefs)]
        with DynamicEvents(tracefs, wanted):
            try:
                for each in wanted:
                    instance.write(f"events/{each.group}/{each.name}/filter", OURS)
                    instance.write(f"events/{each.group}/{each.name}/enable", "1")
                instance.write("tracing_on", "1")
                os.close(os.open("/etc/passwd", os.O_RDONLY))
                with contextlib.suppress(FileNotFoundError):
                    os.open("/no/such", os.O_RDONLY)
                instance.write("tracing_on", "0")
                # The third is of tracing_on.
                return re.findall(r": \([^)]*\) (.*)$", instance.read("trace"), re.MULTILINE)[:2]
            finally:
                instance.close()

    return effect


EFFECTS: dict[str, Callable[[Tracefs, TraceInstance], object]] = {
    "traceon": traceon,
    "traceoff": effect_of("traceoff", GETPPID),
    "traceoff:1": effect_of("traceoff:1", GETPPID),
    "stacktrace": effect_of("stacktrace", LSEEK, what="<stack trace>"),
    "enable_event": effect_of("enable_event:syscalls:sys_enter_getppid"),
    "disable_event": effect_of("disable_event:syscalls:sys_enter_getppid", GETPPID),
    "snapshot": snapshot,
    "hist": hist("hist:keys=whence:vals=offset"),
    "hist sorted": hist("hist:keys=offset.buckets=4:sort=hitcount.descending"),
    "hist of the caller": hist("hist:keys=common_pid.execname,stacktrace"),
    "onmax save": hist("hist:keys=whence:o=offset:onmax($o).save(offset,fd)"),
    "onmax snapshot": hist("hist:keys=whence:o=offset:onmax($o).snapshot()"),
    "onchange save": hist("hist:keys=whence:o=offset:onchange($o).save(fd)"),
    "enable_hist": switched_hist("enable_hist", ":pause"),
    "disable_hist": switched_hist("disable_hist", ""),
    "onmatch": onmatch,
    "latencies": latencies,
    "kprobe": dynamic("kprobe:do_sys_openat2 dfd filename"),
    "kretprobe": dynamic("kretprobe:do_sys_openat2 retval"),
    "kprobe inside": dynamic("kprobe:do_sys_openat2+0x0 sp=%sp:x64"),
    "fprobe": dynamic("fprobe:do_sys_openat2 filename"),
    "fprobe return": dynamic("fprobe:do_sys_openat2%return retval"),
    "eprobe": dynamic("eprobe:syscalls:sys_enter_openat filename flags"),
}

if __name__ == "__main__":
    main()
