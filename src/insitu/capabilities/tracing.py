"""Can the kernel and programs be traced here, and with which kinds of probe?"""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from insitu.capabilities import links
from insitu.capabilities.result import (
    CAPABILITIES,
    Probe,
    Result,
    State,
    asked_once,
    error_number,
    has_capability,
    no,
    opened,
    partly,
    refused,
    yes,
)
from insitu.errors import InsituError
from insitu.kernel import bpf, perf_event, procfs
from insitu.kernel.bpf_abi import AttachType, Command, MapCreate, MapType, ProgramType
from insitu.kernel.perf_event import Attr, Type, open_event
from insitu.kernel.tracefs import Tracefs
from insitu.plurals import counted
from insitu.symbols import kernel_btf
from insitu.symbols.btf import Kind

__all__ = [
    "PROBES",
    "Files",
    "KernelTypes",
    "Lockdown",
    "MapTypes",
    "Privileges",
    "ProgramTypes",
    "fentry",
    "function_tracers",
    "histogram_triggers",
    "iterators",
    "kernel_types",
    "kprobe_multi",
    "kprobes",
    "lockdown",
    "maps",
    "privileges",
    "programs",
    "raw_tracepoints",
    "timed_probes",
    "tracefs",
    "tracepoints",
    "uprobe_multi",
    "uprobes",
    "watchpoints",
]

_RETURN_ZERO: Final = bytes.fromhex("b700000000000000 9500000000000000")  # r0 = 0; exit

# A kernel function that exists to be probed in tests (net/bpf/test_run.c): nothing else ever calls it.
_UNUSED_FUNCTION: Final = "bpf_fentry_test1"
_ITERATOR: Final = "bpf_iter_task"
_EVENTS: Final = ("sched/sched_switch", "raw_syscalls/sys_enter")

_INSTEAD: Final = "use tracepoints or raw tracepoints, or a guest: insitu lab"


class Privileges(NamedTuple):
    """The capabilities (capabilities(7)) that this process has and lacks, of those that tracing may need."""

    held: tuple[str, ...]
    missing: tuple[str, ...]


class Lockdown(NamedTuple):
    """The kernel's lockdown mode: "none", "integrity" or "confidentiality"."""

    mode: str


class ProgramTypes(NamedTuple):
    """Types of BPF programs that load."""

    supported: tuple[ProgramType, ...]


class MapTypes(NamedTuple):
    """Types of BPF maps that can be made."""

    supported: tuple[MapType, ...]


class KernelTypes(NamedTuple):
    """Size in bytes of the kernel's BTF, and how many loaded modules have BTF."""

    bytes: int
    modules: int


class Files(NamedTuple):
    """Of tracefs: where it is mounted ("" where not), tracers, ids of well-known tracepoints, optional files."""

    mounted_at: str
    tracers: tuple[str, ...]
    tracepoint_ids: dict[str, int]
    files: tuple[str, ...]


@asked_once
def privileges() -> Result[Privileges]:
    """Does this process have the capabilities that tracing needs?"""
    held = tuple(f"CAP_{name}" for name in CAPABILITIES if has_capability(name))
    missing = tuple(f"CAP_{name}" for name in CAPABILITIES if not has_capability(name))
    details = Privileges(held, missing)
    if "CAP_SYS_ADMIN" in held or {"CAP_BPF", "CAP_PERFMON"} <= set(held):
        return partly(f"without {', '.join(missing)}", details=details) if missing else yes("all", details)
    interpreter = os.path.realpath(sys.executable)
    remedy = f"run as root, or: setcap cap_bpf,cap_perfmon=ep {interpreter} (for all programs that it runs)"
    return no(f"{', '.join(missing)} missing", remedy, details=details)


@asked_once
def lockdown() -> Result[Lockdown]:
    """Is the kernel locked down?"""
    text = procfs.text("/sys/kernel/security/lockdown")
    mode = text.partition("[")[2].partition("]")[0] if text else "none"
    if mode == "none":
        return yes("not locked down", Lockdown(mode))
    remedy = "boot without Secure Boot, or with lockdown=none"
    return no(f"kernel lockdown is on ({mode})", remedy, details=Lockdown(mode))


@asked_once
def kernel_types() -> Result[KernelTypes]:
    """Does the kernel describe its types (BTF)?"""
    try:
        size = Path("/sys/kernel/btf/vmlinux").stat().st_size
    except OSError as error:
        remedy = "a kernel with CONFIG_DEBUG_INFO_BTF"
        return no("no /sys/kernel/btf/vmlinux: kernel types are unknown", remedy, error.errno or 0)
    modules = len(kernel_btf.modules())
    return yes(
        f"of the kernel ({size / 1e6:.1f} MB) and {counted(modules, 'module')}",
        KernelTypes(size, modules),
    )


def _program(kind: ProgramType, attach_type: int = 0, function: str = "") -> int:
    btf_id = 0
    if function:
        found = kernel_btf.vmlinux().find(function, Kind.FUNC)
        if found is None:
            raise InsituError(f"the kernel's BTF has no function {function}")
        btf_id = found.id
    return bpf.load_program(_RETURN_ZERO, kind, name="insitu_probe", attach_type=attach_type, attach_btf_id=btf_id)[0]


@asked_once
def programs() -> Result[ProgramTypes]:
    """Which types of BPF programs load?"""
    kinds = (ProgramType.KPROBE, ProgramType.TRACEPOINT, ProgramType.RAW_TRACEPOINT, ProgramType.PERF_EVENT)
    results: dict[ProgramType, Result[None]] = {kind: opened(lambda kind=kind: _program(kind)) for kind in kinds}  # type: ignore[misc]
    supported = ProgramTypes(tuple(kind for kind in kinds if results[kind].available))
    names = ", ".join(kind.name.lower() for kind in supported.supported)
    first = next((each for each in results.values() if not each.available), None)
    if first is None:
        return yes(names, supported)
    if not names:
        return no(first.reason, first.remedy, first.errno, supported)
    return partly(f"only {names}: {first.reason}", first.remedy, supported)


@asked_once
def maps() -> Result[MapTypes]:
    """Which types of BPF maps can be made?"""
    page = os.sysconf("SC_PAGESIZE")
    kinds = {
        "array": (MapType.ARRAY, 4, 8, 1),
        "hash": (MapType.HASH, 4, 8, 1),
        "per-CPU hash": (MapType.PERCPU_HASH, 4, 8, 1),
        "stacks": (MapType.STACK_TRACE, 4, 8 * 127, 1),
        "ring buffer": (MapType.RINGBUF, 0, 0, page),
    }
    supported: dict[str, MapType] = {}
    first: Result[None] | None = None
    for name, (kind, key, value, entries) in kinds.items():
        attr = MapCreate(map_type=kind, key_size=key, value_size=value, max_entries=entries)
        result: Result[None] = opened(lambda attr=attr: bpf.bpf(Command.MAP_CREATE, attr))  # type: ignore[misc]
        if result.available:
            supported[name] = kind
        else:
            first = first or result
    details, names = MapTypes(tuple(supported.values())), ", ".join(supported)
    if first is None:
        return yes(names, details)
    if not supported:
        return no(first.reason, "run as root, or with CAP_BPF", first.errno, details)
    return partly(f"only {names}: {first.reason}", details=details)


@asked_once
def tracefs() -> Result[Files]:
    """Can tracefs be read, where it is mounted or by a private mount?"""
    tree = Tracefs.open()
    try:
        ids = {name: int(tree.read(f"events/{name}/id")) for name in _EVENTS if tree.exists(f"events/{name}/id")}
        optional = ("kprobe_events", "uprobe_events", "instances", "events/sched/sched_switch/hist")
        files = tuple(name for name in optional if tree.exists(name))
        details = Files(tree.mounted_at, tuple(tree.tracers()), ids, files)
    finally:
        tree.close()
    return yes(details.mounted_at or "not mounted; insitu mounts it for itself alone", details)


def _without_tracefs(result: Result[Files]) -> Result[None]:
    return no(result.reason, result.remedy, result.errno)


@asked_once
def tracepoints() -> Result[None]:
    """Can a tracepoint be opened as a perf event?"""
    found = tracefs()
    if found.details is None:
        return _without_tracefs(found)
    number = next(iter(found.details.tracepoint_ids.values()), None)
    if number is None:
        return no("tracefs has no sched_switch", "a kernel with CONFIG_EVENT_TRACING")
    return opened(lambda: open_event(Attr(type=Type.TRACEPOINT, config=number, sample_period=1, disabled=1)))


@asked_once
def raw_tracepoints() -> Result[None]:
    """Does a program for raw tracepoints load and run?"""
    fd = _program(ProgramType.RAW_TRACEPOINT)
    try:
        bpf.run_raw_tracepoint(fd)
    finally:
        os.close(fd)
    return yes()


@asked_once
def kprobes() -> Result[None]:
    """Can a kernel function be probed?"""
    kind = procfs.pmu_type("kprobe")
    if kind is None:
        return no("this kernel has none (CONFIG_KPROBE_EVENTS)", _INSTEAD)
    name = ctypes.create_string_buffer(_UNUSED_FUNCTION.encode())
    attr = Attr(type=kind, config1=ctypes.addressof(name), sample_period=1, disabled=1)
    return opened(lambda: open_event(attr), remedy=_INSTEAD)


def _attached(kind: ProgramType, attach_type: int, link: Callable[[int], int], function: str = "") -> Result[None]:
    """Whether a program can be loaded for such a place and attached to it; it is detached at once."""
    try:
        program = _program(kind, attach_type, function)
        try:
            os.close(link(program))
        finally:
            os.close(program)
    except InsituError as error:
        code = error_number(error)
        if code and has_capability("SYS_ADMIN"):
            return no(f"not on this kernel: {os.strerror(code).lower()}", _INSTEAD, code)
        return refused(error, _INSTEAD)
    return yes()


def _or_one_by_one(result: Result[None], possible: bool, remedy: str) -> Result[None]:
    """The result for probes of many places at once, where each place can be attached by itself if that fails."""
    if result.state is State.NO and possible and has_capability("SYS_ADMIN"):
        return partly("one by one, which attaches more slowly", remedy)
    return result


@asked_once
def kprobe_multi() -> Result[None]:
    """Can many kernel functions be probed at once?"""
    known = links.kprobe_multi()
    result = known
    if known.available:
        result = _attached(
            ProgramType.KPROBE,
            AttachType.TRACE_KPROBE_MULTI,
            lambda program: bpf.link_kprobe_multi(program, [_UNUSED_FUNCTION], [0]),
        )
    return _or_one_by_one(result, procfs.pmu_type("kprobe") is not None, "Linux 5.18 with CONFIG_FPROBE")


@asked_once
def fentry() -> Result[None]:
    """Can the entry and exit of kernel functions be probed with typed arguments?"""
    return _attached(
        ProgramType.TRACING,
        AttachType.TRACE_FENTRY,
        lambda program: bpf.raw_tracepoint_open(program, None),
        _UNUSED_FUNCTION,
    )


@asked_once
def iterators() -> Result[None]:
    """Can programs walk the kernel's objects?"""
    return _attached(ProgramType.TRACING, AttachType.TRACE_ITER, bpf.link_iter, _ITERATOR)


def _own_function() -> tuple[str, int]:
    """A file and an offset in it where a function of this process begins that is not called: abort(3)."""
    address = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0
    for area in procfs.areas(os.getpid()):
        if area.start <= address < area.end:
            return os.fsdecode(area.path), address - area.start + area.offset
    raise InsituError("the C library is not in this process's mappings")


@asked_once
def uprobes() -> Result[None]:
    """Can a function of a program be probed?"""
    kind = procfs.pmu_type("uprobe")
    if kind is None:
        return no("this kernel has none", "a kernel with CONFIG_UPROBE_EVENTS")
    path, offset = _own_function()
    name = ctypes.create_string_buffer(os.fsencode(path))
    attr = Attr(type=kind, config1=ctypes.addressof(name), config2=offset, sample_period=1, disabled=1)
    return opened(lambda: open_event(attr))


@asked_once
def uprobe_multi() -> Result[None]:
    """Can many functions of a program be probed at once?"""
    known = links.uprobe_multi()
    result = known
    if known.available:
        path, offset = _own_function()
        result = _attached(
            ProgramType.KPROBE,
            AttachType.TRACE_UPROBE_MULTI,
            lambda program: bpf.link_uprobe_multi(program, path, [offset], [0], pid=os.getpid()),
        )
    return _or_one_by_one(result, procfs.pmu_type("uprobe") is not None, "Linux 6.6")


@asked_once
def watchpoints() -> Result[None]:
    """Can reads and writes of an address be watched?"""
    cell = ctypes.c_uint64()
    attr = Attr(type=Type.BREAKPOINT, config1=ctypes.addressof(cell), config2=8, sample_period=1, disabled=1)
    attr.bp_type = 3  # HW_BREAKPOINT_R | HW_BREAKPOINT_W, include/uapi/linux/hw_breakpoint.h
    attr.exclude_kernel = attr.exclude_hv = 1
    return opened(lambda: open_event(attr))


@asked_once
def function_tracers() -> Result[None]:
    """Does the kernel have ftrace's function tracers?"""
    found = tracefs()
    if found.details is None:
        return _without_tracefs(found)
    wanted = ("function", "function_graph")
    missing = [name for name in wanted if name not in found.details.tracers]
    if not missing:
        return yes(", ".join(wanted))
    remedy = "a kernel with CONFIG_FUNCTION_GRAPH_TRACER, or a guest: insitu lab"
    if len(missing) < len(wanted):
        return partly(f"no {missing[0]} tracer", remedy)
    return no(f"no {' and no '.join(missing)} tracer", remedy)


@asked_once
def histogram_triggers() -> Result[None]:
    """Does tracefs have hist triggers?"""
    found = tracefs()
    if found.details is None:
        return _without_tracefs(found)
    if "events/sched/sched_switch/hist" in found.details.files:
        return yes()
    return no("tracefs has no hist files", "a kernel with CONFIG_HIST_TRIGGERS; probe programs count as well")


@asked_once
def timed_probes() -> Result[None]:
    """Can a program run on a timer?"""
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
    ("capabilities", privileges),
    ("lockdown", lockdown),
    ("probe programs", programs),
    ("maps", maps),
    ("kernel types (BTF)", kernel_types),
    ("tracefs", tracefs),
    ("tracepoints", tracepoints),
    ("raw tracepoints", raw_tracepoints),
    ("kprobes", kprobes),
    ("kprobes, many at once", kprobe_multi),
    ("function entry and exit", fentry),
    ("uprobes", uprobes),
    ("uprobes, many at once", uprobe_multi),
    ("timed probes", timed_probes),
    ("watchpoints", watchpoints),
    ("iterators", iterators),
    ("function tracers", function_tracers),
    ("histogram triggers", histogram_triggers),
)
