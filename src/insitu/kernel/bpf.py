"""The bpf(2) door: load and run programs, make links, ask about objects. Numbers and layouts are in bpf_abi.py."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence

from msgspec import Struct

from insitu.errors import InsituError
from insitu.kernel.bpf_abi import (
    NAME_BYTES,
    AttachType,
    BtfInfo,
    BtfLoad,
    Command,
    EnableStats,
    Id,
    Info,
    IterCreate,
    LinkInfo,
    LinkIter,
    LinkKprobeMulti,
    LinkPerfEvent,
    LinkUprobeMulti,
    ProgInfo,
    ProgLoad,
    ProgramType,
    RawTracepoint,
    TestRun,
)
from insitu.kernel.syscalls import syscall

__all__ = [
    "BpfError",
    "ProgramInfo",
    "bpf",
    "enable_stats",
    "iter_create",
    "kernel_btf_fd",
    "link_iter",
    "link_kprobe_multi",
    "link_perf_event",
    "link_program_ids",
    "link_uprobe_multi",
    "load_btf",
    "load_program",
    "object_ids",
    "program_info",
    "raw_tracepoint_open",
    "run_raw_tracepoint",
]


class BpfError(InsituError):
    """What bpf(2) refused. ``errno`` lets a caller try another way; ``log`` is the verifier's, when there is one."""

    def __init__(self, message: str, error: int, *, remedy: str = "", log: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.errno = error
        self.log = log


_ENOTSUPP = 524  # include/linux/errno.h: internal to the kernel, yet bpf(2) answers it


def bpf(command: Command, attr: ctypes.Structure) -> int:
    """bpf(2) itself: the result (a close-on-exec descriptor, for commands that make one).

    :raises OSError: with the kernel's errno, untranslated.
    """
    return syscall("bpf", int(command), ctypes.addressof(attr), ctypes.sizeof(attr))


def refusal(what: str, error: OSError, log: str = "") -> BpfError:
    """The kernel's errno for ``what`` (as in "cannot WHAT"), as an error that says the remedy."""
    number = error.errno or 0
    remedy = ""
    if number in (errno.EPERM, errno.EACCES) and not log:
        if os.geteuid() != 0:
            return BpfError("eBPF needs root, or CAP_BPF and CAP_PERFMON", number)
        remedy = "refused even to root: a container without CAP_BPF and CAP_PERFMON, or kernel lockdown"
    elif number == errno.ENOSYS:
        remedy = "this kernel is built without CONFIG_BPF_SYSCALL"
    elif number == errno.E2BIG and log:
        remedy = "the program is too large for the verifier; split it into smaller probes"
    elif number == errno.ENOMEM:
        remedy = "not enough memory; make maps smaller"
    reason = "not supported by this kernel" if number == _ENOTSUPP else os.strerror(number)
    return BpfError(f"cannot {what}: {reason}", number, remedy=remedy, log=log)


def _call(what: str, command: Command, attr: ctypes.Structure) -> int:
    try:
        return bpf(command, attr)
    except OSError as error:
        raise refusal(what, error) from None


def address(buffer: ctypes.Array[ctypes.c_char] | bytes | None) -> int:
    """Where a buffer lies, for a __aligned_u64 member. The caller keeps the buffer alive during the call."""
    pointer = ctypes.c_char_p(buffer) if isinstance(buffer, bytes) else buffer
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0 if pointer else 0


def object_name(name: str) -> bytes:
    """A name as the kernel takes it: at most 15 of letters, digits, '_' and '.'."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)[: NAME_BYTES - 1].encode()


_FIRST_LOG_BYTES = 1 << 18
_MAX_LOG_BYTES = 1 << 26
_BUSY_RETRIES = 5  # EAGAIN: a signal interrupted verification


def load_program(
    instructions: bytes,
    program_type: ProgramType | int,
    *,
    name: str = "",
    attach_type: int = 0,
    attach_btf_id: int = 0,
    attach_btf_fd: int = 0,
    flags: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    line_info: bytes = b"",
    log_level: int = 0,
) -> tuple[int, str]:
    """Load ``instructions`` (struct bpf_insn, 8 bytes each, map descriptors filled in): (descriptor, verifier log).

    With ``log_level`` 0 the first try asks for no log, which is faster; a refusal is repeated with level 1 so that
    the error carries a log. 2 logs every path, 4 only statistics. ``func_info`` and ``line_info`` are arrays of
    struct bpf_func_info (8 bytes) and bpf_line_info (16 bytes) that refer to the BTF behind ``btf_fd``.

    :raises BpfError: with the verifier's log.
    """
    attr = ProgLoad(
        prog_type=int(program_type),
        insn_cnt=len(instructions) // 8,
        insns=address(instructions),
        license=address(b"GPL"),
        prog_flags=flags,
        prog_name=object_name(name),
        expected_attach_type=attach_type,
        attach_btf_id=attach_btf_id,
        attach_btf_obj_fd=attach_btf_fd,
    )
    if btf_fd:
        attr.prog_btf_fd = btf_fd
        attr.func_info, attr.func_info_rec_size, attr.func_info_cnt = address(func_info), 8, len(func_info) // 8
        attr.line_info, attr.line_info_rec_size, attr.line_info_cnt = address(line_info), 16, len(line_info) // 16
    level, log_bytes, busy = log_level, _FIRST_LOG_BYTES, 0
    while True:
        log = ctypes.create_string_buffer(log_bytes) if level else None
        attr.log_level, attr.log_size, attr.log_buf = level, log_bytes if level else 0, address(log)
        try:
            return bpf(Command.PROG_LOAD, attr), _text(log)
        except OSError as error:
            if error.errno == errno.EAGAIN and busy < _BUSY_RETRIES:
                busy += 1
            elif error.errno == errno.ENOSPC and level and log_bytes < _MAX_LOG_BYTES:
                log_bytes *= 8
            elif not level and error.errno not in (errno.EPERM, errno.ENOSYS, errno.EMFILE):
                level = 1
            else:
                raise refusal(f"load program {name or '(unnamed)'}", error, _text(log)) from None


def _text(log: ctypes.Array[ctypes.c_char] | None) -> str:
    return log.value.decode(errors="replace") if log else ""


def load_btf(data: bytes) -> int:
    """Load BTF (for a program's func_info and line_info): its descriptor.

    :raises BpfError: with the kernel's log.
    """
    attr = BtfLoad(btf=address(data), btf_size=len(data))
    try:
        return bpf(Command.BTF_LOAD, attr)
    except OSError:
        log = ctypes.create_string_buffer(_FIRST_LOG_BYTES)
        attr.btf_log_buf, attr.btf_log_size, attr.btf_log_level = address(log), _FIRST_LOG_BYTES, 1
    try:
        return bpf(Command.BTF_LOAD, attr)
    except OSError as error:
        raise refusal("load type information (BTF)", error, _text(log)) from None


def raw_tracepoint_open(program_fd: int, name: str | None, cookie: int = 0) -> int:
    """Attach to the raw tracepoint ``name``; None for tracing programs, whose load named the place: a link.

    Cookies are known to kernels from 6.10 on; older ones refuse any but 0 (E2BIG).
    """
    text = ctypes.create_string_buffer(name.encode()) if name is not None else None
    attr = RawTracepoint(name=address(text), prog_fd=program_fd, cookie=cookie)
    return _call(f"attach to raw tracepoint {name}" if name else "attach", Command.RAW_TRACEPOINT_OPEN, attr)


def link_perf_event(program_fd: int, event_fd: int, cookie: int = 0) -> int:
    """Attach to a perf event: a link. Kernels from 5.15 on (older: EINVAL, and PERF_EVENT_IOC_SET_BPF instead)."""
    attr = LinkPerfEvent(prog_fd=program_fd, target_fd=event_fd, attach_type=AttachType.PERF_EVENT, bpf_cookie=cookie)
    return _call("attach to a perf event", Command.LINK_CREATE, attr)


_MULTI_RETURN = 1  # BPF_F_KPROBE_MULTI_RETURN and BPF_F_UPROBE_MULTI_RETURN


def link_kprobe_multi(
    program_fd: int, symbols: Sequence[str], cookies: Sequence[int], *, returning: bool = False
) -> int:
    """Attach to the entry (or return) of many kernel functions at once: one link. Kernels from 5.18 on."""
    names = [ctypes.create_string_buffer(symbol.encode()) for symbol in symbols]
    table = (ctypes.c_char_p * len(names))(*(ctypes.cast(name, ctypes.c_char_p) for name in names))
    numbers = (ctypes.c_uint64 * len(cookies))(*cookies)
    attr = LinkKprobeMulti(
        prog_fd=program_fd,
        attach_type=AttachType.TRACE_KPROBE_MULTI,
        multi_flags=_MULTI_RETURN if returning else 0,
        cnt=len(symbols),
        syms=ctypes.addressof(table),
        cookies=ctypes.addressof(numbers),
    )
    return _call(f"attach to {len(symbols)} kernel functions", Command.LINK_CREATE, attr)


def link_uprobe_multi(
    program_fd: int,
    path: str,
    offsets: Sequence[int],
    cookies: Sequence[int],
    *,
    semaphores: Sequence[int] = (),
    returning: bool = False,
    pid: int = 0,
) -> int:
    """Attach to many file offsets of one binary: one link. ``semaphores`` are file offsets too (0: none).

    ``pid`` 0 means every process. Kernels from 6.6 on.
    """
    file = ctypes.create_string_buffer(os.fsencode(path))
    places, numbers = (ctypes.c_uint64 * len(offsets))(*offsets), (ctypes.c_uint64 * len(cookies))(*cookies)
    counters = (ctypes.c_uint64 * len(semaphores))(*semaphores)
    attr = LinkUprobeMulti(
        prog_fd=program_fd,
        attach_type=AttachType.TRACE_UPROBE_MULTI,
        path=address(file),
        offsets=ctypes.addressof(places),
        ref_ctr_offsets=ctypes.addressof(counters) if any(semaphores) else 0,
        cookies=ctypes.addressof(numbers),
        cnt=len(offsets),
        multi_flags=_MULTI_RETURN if returning else 0,
        pid=pid,
    )
    return _call(f"attach to {len(offsets)} places in {path}", Command.LINK_CREATE, attr)


def link_iter(program_fd: int, target: bytes = b"") -> int:
    """Make an iterator's link; ``target`` is a union bpf_iter_link_info (empty: everything)."""
    buffer = ctypes.create_string_buffer(target, len(target)) if target else None
    attr = LinkIter(
        prog_fd=program_fd, attach_type=AttachType.TRACE_ITER, iter_info=address(buffer), iter_info_len=len(target)
    )
    return _call("attach an iterator", Command.LINK_CREATE, attr)


def iter_create(link_fd: int) -> int:
    """A descriptor whose reads run the iterator's program over its objects and answer what it wrote."""
    return _call("start an iterator", Command.ITER_CREATE, IterCreate(link_fd=link_fd))


def run_raw_tracepoint(program_fd: int, arguments: bytes = b"") -> int:
    """Run a RAW_TRACEPOINT program once in this thread (BPF_PROG_TEST_RUN, kernels from 5.10 on): what it returned.

    ``arguments`` is its context, u64 slots.
    """
    buffer = ctypes.create_string_buffer(arguments, len(arguments)) if arguments else None
    attr = TestRun(prog_fd=program_fd, ctx_size_in=len(arguments), ctx_in=address(buffer))
    _call("run a program", Command.PROG_TEST_RUN, attr)
    return int(attr.retval)


def enable_stats() -> int:
    """Count runs and run time of every program (BPF_STATS_RUN_TIME) until the returned descriptor is closed."""
    return _call("count program run time", Command.ENABLE_STATS, EnableStats(type=0))


class ProgramInfo(Struct, frozen=True):
    """A loaded program, as the kernel sees it. Run time and runs are counted while enable_stats() holds."""

    id: int
    type: int
    name: str
    tag: str
    run_time_ns: int
    run_count: int
    recursion_misses: int
    verified_instructions: int
    map_ids: tuple[int, ...]
    translated: bytes
    jited: bytes


def program_info(program_fd: int, *, code: bool = False) -> ProgramInfo:
    """Ask about a loaded program; with ``code``, its instructions after the verifier and the machine code too."""
    sizes = ProgInfo()
    object_info(program_fd, sizes)
    info = ProgInfo(nr_map_ids=sizes.nr_map_ids)
    maps = (ctypes.c_uint32 * max(1, sizes.nr_map_ids))()
    info.map_ids = ctypes.addressof(maps)
    translated = ctypes.create_string_buffer(sizes.xlated_prog_len if code else 0)
    jited = ctypes.create_string_buffer(sizes.jited_prog_len if code else 0)
    if code:
        info.xlated_prog_len, info.xlated_prog_insns = len(translated), address(translated)
        info.jited_prog_len, info.jited_prog_insns = len(jited), address(jited)
    object_info(program_fd, info)
    return ProgramInfo(
        id=info.id,
        type=info.type,
        name=info.name.decode(errors="replace"),
        tag=bytes(info)[8:16].hex(),
        run_time_ns=info.run_time_ns,
        run_count=info.run_cnt,
        recursion_misses=info.recursion_misses,
        verified_instructions=info.verified_insns,
        map_ids=tuple(maps[: info.nr_map_ids]),
        translated=translated.raw,
        jited=jited.raw,
    )


def object_info(object_fd: int, info: ctypes.Structure) -> None:
    """BPF_OBJ_GET_INFO_BY_FD into ``info``, as much of it as this kernel knows."""
    attr = Info(bpf_fd=object_fd, info_len=ctypes.sizeof(info), info=ctypes.addressof(info))
    _call("ask about a BPF object", Command.OBJ_GET_INFO_BY_FD, attr)


def object_ids(command: Command) -> Iterator[int]:
    """The ids of all programs, maps, links or BTFs: ``command`` is one of the GET_NEXT_ID ones."""
    attr = Id()
    while True:
        try:
            bpf(command, attr)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise refusal("list BPF objects", error) from None
        yield attr.next_id
        attr = Id(id=attr.next_id)


def open_id(command: Command, object_id: int) -> int:
    """A descriptor of the object with that id: ``command`` is one of the GET_FD_BY_ID ones."""
    return _call(f"open BPF object {object_id}", command, Id(id=object_id))


def kernel_btf_fd(name: str) -> int:
    """A descriptor of the types of the kernel ("vmlinux") or of a loaded module. :raises InsituError: without any."""
    for btf_id in object_ids(Command.BTF_GET_NEXT_ID):
        try:
            btf_fd = open_id(Command.BTF_GET_FD_BY_ID, btf_id)
        except BpfError:
            continue  # gone since it was listed
        text = ctypes.create_string_buffer(64)  # MODULE_NAME_LEN
        info = BtfInfo(name=address(text), name_len=len(text))
        object_info(btf_fd, info)
        if info.kernel_btf and text.value == name.encode():
            return btf_fd
        os.close(btf_fd)
    raise InsituError(f"the kernel has no type information for module {name}")


def link_program_ids() -> dict[int, int]:
    """Every link of the machine: its id and the id of its program."""
    found = {}
    for link in object_ids(Command.LINK_GET_NEXT_ID):
        try:
            link_fd = open_id(Command.LINK_GET_FD_BY_ID, link)
        except BpfError:
            continue  # gone since it was listed
        try:
            info = LinkInfo()
            object_info(link_fd, info)
            found[link] = int(info.prog_id)
        finally:
            os.close(link_fd)
    return found
