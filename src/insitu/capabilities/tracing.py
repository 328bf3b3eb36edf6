"""Can the kernel and programs be traced here, and with which kinds of probe?"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from insitu.capabilities.btf_function import function_ids
from insitu.capabilities.result import (
    CAPABILITIES,
    Answer,
    Probe,
    has_capability,
    no,
    opened,
    partly,
    refused,
    yes,
)
from insitu.capabilities.tracefs_visit import visit
from insitu.errors import InsituError
from insitu.kernel import bpf, perf_event, procfs
from insitu.kernel.bpf_abi import AttachType, Command, MapCreate, MapType, ProgramType
from insitu.kernel.perf_event import Attr, Type, open_event

__all__ = ["PROBES"]

_RETURN_ZERO: Final = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit

# A kernel function that exists to be probed in tests (net/bpf/test_run.c): nothing else ever calls it.
_UNUSED_FUNCTION: Final = "bpf_fentry_test1"
_ITERATOR: Final = "bpf_iter_task"

_OTHER_ROADS: Final = "use tracepoints or raw tracepoints, or a guest: insitu lab"


def _capabilities() -> Answer:
    missing = [f"CAP_{name}" for name in CAPABILITIES if not has_capability(name)]
    if has_capability("SYS_ADMIN") or (has_capability("BPF") and has_capability("PERFMON")):
        return partly(f"without {', '.join(missing)}") if missing else yes("all that tracing needs")
    return no(f"{', '.join(missing)} missing", "run as root, or: setcap cap_bpf,cap_perfmon=ep PROGRAM")


def _lockdown() -> Answer:
    text = procfs.text("/sys/kernel/security/lockdown")
    mode = text.partition("[")[2].partition("]")[0] if text else "none"
    if mode == "none":
        return yes("not locked down")
    return no(f"kernel lockdown is on ({mode})", "boot without Secure Boot, or with lockdown=none")


def _btf() -> Answer:
    try:
        size = Path("/sys/kernel/btf/vmlinux").stat().st_size
    except OSError:
        return no("no /sys/kernel/btf/vmlinux: kernel types are unknown", "a kernel with CONFIG_DEBUG_INFO_BTF")
    modules = len(list(Path("/sys/kernel/btf").iterdir())) - 1
    return yes(f"{size / 1e6:.1f} MB, and {modules} modules'")


def _program(kind: ProgramType, attach_type: int = 0, function: str = "") -> int:
    btf_id = 0
    if function:
        btf_id = function_ids((function,)).get(function, 0)
        if not btf_id:
            raise InsituError(f"the kernel's BTF has no function {function}")
    return bpf.load_program(_RETURN_ZERO, kind, name="insitu_probe", attach_type=attach_type, attach_btf_id=btf_id)[0]


def _programs() -> Answer:
    kinds = (ProgramType.KPROBE, ProgramType.TRACEPOINT, ProgramType.RAW_TRACEPOINT, ProgramType.PERF_EVENT)
    missing: list[str] = []
    first = no("")
    for kind in kinds:
        answer = opened(lambda kind=kind: _program(kind))  # type: ignore[misc]
        if answer.state == "no":
            first = first if missing else answer
            missing.append(kind.name.lower())
    if len(missing) == len(kinds):
        return first
    names = ", ".join(kind.name.lower() for kind in kinds if kind.name.lower() not in missing)
    return partly(f"only {names}: {first.why}", first.remedy) if missing else yes(names)


def _maps() -> Answer:
    page = os.sysconf("SC_PAGESIZE")
    kinds = {
        "array": (MapType.ARRAY, 4, 8, 1),
        "hash": (MapType.HASH, 4, 8, 1),
        "per-CPU hash": (MapType.PERCPU_HASH, 4, 8, 1),
        "stacks": (MapType.STACK_TRACE, 4, 8 * 127, 1),
        "ring buffer": (MapType.RINGBUF, 0, 0, page),
    }
    there: list[str] = []
    why = ""
    for name, (kind, key, value, entries) in kinds.items():
        attr = MapCreate(map_type=kind, key_size=key, value_size=value, max_entries=entries)
        answer = opened(lambda attr=attr: bpf.bpf(Command.MAP_CREATE, attr))  # type: ignore[misc]
        if answer.state == "yes":
            there.append(name)
        why = why or answer.why
    if len(there) == len(kinds):
        return yes(", ".join(there))
    remedy = "" if there else "run as root, or give the program CAP_BPF"
    return partly(f"only {', '.join(there)}: {why}") if there else no(why, remedy)


def _tracefs() -> Answer:
    found = visit()
    if found.problem:
        where = f"mounted at {found.mounted_at}, but: " if found.mounted_at else "not mounted, and cannot be: "
        return no(where + found.problem, "run as root")
    return yes(found.mounted_at or "not mounted; insitu mounts it for itself alone")


def _tracepoints() -> Answer:
    ids = visit().tracepoint_ids
    if not ids:
        return (
            _tracefs() if visit().problem else no("tracefs has no sched_switch", "a kernel with CONFIG_EVENT_TRACING")
        )
    attr = Attr(type=Type.TRACEPOINT, config=next(iter(ids.values())), sample_period=1, disabled=1)
    return opened(lambda: open_event(attr))


def _raw_tracepoints() -> Answer:
    fd = _program(ProgramType.RAW_TRACEPOINT)
    try:
        bpf.run_raw_tracepoint(fd)
    finally:
        os.close(fd)
    return yes()


def _kprobes() -> Answer:
    kind = procfs.pmu_type("kprobe")
    if kind is None:
        return no("this kernel has none (CONFIG_KPROBE_EVENTS)", _OTHER_ROADS)
    name = ctypes.create_string_buffer(_UNUSED_FUNCTION.encode())
    attr = Attr(type=kind, config1=ctypes.addressof(name), sample_period=1, disabled=1)
    return opened(lambda: open_event(attr), remedy=_OTHER_ROADS)


def _attached(kind: ProgramType, attach_type: int, link: Callable[[int], int], function: str = "") -> Answer:
    """Whether a program can be loaded for such a place and attached to it; it is detached at once."""
    try:
        program = _program(kind, attach_type, function)
        try:
            os.close(link(program))
        finally:
            os.close(program)
    except InsituError as error:
        if has_capability("SYS_ADMIN"):
            return no(f"not on this kernel: {Exception.__str__(error).rpartition(': ')[2].lower()}", _OTHER_ROADS)
        return refused(error)
    return yes()


def _kprobe_multi() -> Answer:
    return _or_one_by_one(
        _attached(
            ProgramType.KPROBE,
            AttachType.TRACE_KPROBE_MULTI,
            lambda program: bpf.link_kprobe_multi(program, [_UNUSED_FUNCTION], [0]),
        ),
        procfs.pmu_type("kprobe") is not None,
        "a kernel from 5.18 on with CONFIG_FPROBE",
    )


def _or_one_by_one(answer: Answer, possible: bool, remedy: str) -> Answer:
    """The answer of probes of many places at once, where each place can be attached by itself if that fails."""
    if answer.state == "no" and possible and has_capability("SYS_ADMIN"):
        return partly("one by one, which attaches more slowly", remedy)
    return answer


def _fentry() -> Answer:
    return _attached(
        ProgramType.TRACING,
        AttachType.TRACE_FENTRY,
        lambda program: bpf.raw_tracepoint_open(program, None),
        _UNUSED_FUNCTION,
    )


def _iterators() -> Answer:
    return _attached(ProgramType.TRACING, AttachType.TRACE_ITER, bpf.link_iter, _ITERATOR)


def _own_place() -> tuple[str, int]:
    """A file and an offset in it where a function of this process begins that is not called: abort(3)."""
    address = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0
    for area in procfs.areas(os.getpid()):
        if area.start <= address < area.end:
            return os.fsdecode(area.path), address - area.start + area.offset
    raise InsituError("the C library is not in this process's mappings")


def _uprobes() -> Answer:
    kind = procfs.pmu_type("uprobe")
    if kind is None:
        return no("this kernel has none", "a kernel with CONFIG_UPROBE_EVENTS")
    path, offset = _own_place()
    name = ctypes.create_string_buffer(os.fsencode(path))
    attr = Attr(type=kind, config1=ctypes.addressof(name), config2=offset, sample_period=1, disabled=1)
    return opened(lambda: open_event(attr))


def _uprobe_multi() -> Answer:
    path, offset = _own_place()
    return _or_one_by_one(
        _attached(
            ProgramType.KPROBE,
            AttachType.TRACE_UPROBE_MULTI,
            lambda program: bpf.link_uprobe_multi(program, path, [offset], [0], pid=os.getpid()),
        ),
        procfs.pmu_type("uprobe") is not None,
        "a kernel from 6.6 on",
    )


def _watchpoints() -> Answer:
    cell = ctypes.c_uint64()
    attr = Attr(type=Type.BREAKPOINT, config1=ctypes.addressof(cell), config2=8, sample_period=1, disabled=1)
    attr.bp_type = 3  # HW_BREAKPOINT_R | HW_BREAKPOINT_W, include/uapi/linux/hw_breakpoint.h
    attr.exclude_kernel = attr.exclude_hv = 1
    return opened(lambda: open_event(attr))


def _function_tracers() -> Answer:
    if visit().problem:
        return _tracefs()
    wanted = ("function", "function_graph")
    there = [name for name in wanted if name in visit().tracers]
    if len(there) == len(wanted):
        return yes(", ".join(there))
    missing = ", ".join(name for name in wanted if name not in there)
    remedy = "a kernel with CONFIG_FUNCTION_GRAPH_TRACER, or a guest: insitu lab"
    return partly(f"only {there[0]}", remedy) if there else no(f"no {missing} tracer", remedy)


def _histogram_triggers() -> Answer:
    if visit().problem:
        return _tracefs()
    if "events/sched/sched_switch/hist" in visit().files:
        return yes()
    return no("tracefs has no hist files", "a kernel with CONFIG_HIST_TRIGGERS; probe programs count as well")


def _bpf_clock() -> Answer:
    attr = Attr(type=Type.SOFTWARE, config=perf_event.Software.CPU_CLOCK, sample_period=1_000_000, disabled=1)
    event = open_event(attr)
    try:
        program = _program(ProgramType.PERF_EVENT)
        try:
            perf_event.set_bpf(event, program)
        finally:
            os.close(program)
    finally:
        os.close(event)
    return yes()


PROBES: Final[tuple[tuple[str, Probe], ...]] = (
    ("capabilities", _capabilities),
    ("lockdown", _lockdown),
    ("probe programs", _programs),
    ("maps", _maps),
    ("kernel types (BTF)", _btf),
    ("tracefs", _tracefs),
    ("tracepoints", _tracepoints),
    ("raw tracepoints", _raw_tracepoints),
    ("kprobes", _kprobes),
    ("kprobes, many at once", _kprobe_multi),
    ("function entry and exit", _fentry),
    ("uprobes", _uprobes),
    ("uprobes, many at once", _uprobe_multi),
    ("timed probes", _bpf_clock),
    ("watchpoints", _watchpoints),
    ("iterators", _iterators),
    ("function tracers", _function_tracers),
    ("histogram triggers", _histogram_triggers),
)
