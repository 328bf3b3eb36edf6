"""Processes: how children end, resources, scheduling, capabilities, identities."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Wide
from insitu.syscalls.kinds.arrays import array_text, integer
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted
from insitu.syscalls.kinds.structures import structure

__all__ = ["KINDS"]

_NGROUPS_MAX: Final = 65536
_ARCH_READS: Final = (0x1003, 0x1004)  # ARCH_GET_FS, ARCH_GET_GS
_ARCH_NO_ARGUMENT: Final = (0x1011,)  # ARCH_GET_CPUID
_KCMP_FILE, _KCMP_EPOLL_TFD = 0, 7
_P_PIDFD: Final = 3
_WORDS_OF_A_CPU_MASK: Final = 4096


def _wait_status(argument: Argument) -> str | None:
    """Returns what wait(2) says of a child: ``[{WIFEXITED(s) && WEXITSTATUS(s) == 7}]``."""
    status = argument.number(4)
    if status is None:
        return None
    if argument.call.exit is not None and argument.call.exit.ret == 0:
        return hexadecimal(argument.value)  # WNOHANG: nothing has been written
    return f"[{_status_text(argument, status)}]"


def _status_text(argument: Argument, status: int) -> str:
    if status & 0xFF == 0x7F:
        event = status >> 16
        words = ["WIFSTOPPED(s)", f"WSTOPSIG(s) == {_stop_signal(argument, status >> 8 & 0xFF)}"]
        rest = status & ~0xFF7F
        text = f"{{{' && '.join(words)}}}"
        if event:
            text += f" | {enum_text(argument, 'ptrace_event', event)}<<16"
        return text + (f" | {rest & 0xFFFF:#x}" if rest & 0xFFFF and not event else "")
    if status == 0xFFFF:
        return "{WIFCONTINUED(s)}"
    if status & 0x7F:
        core = " && WCOREDUMP(s)" if status & 0x80 else ""
        return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {argument.facts.signal_name(status & 0x7F)}{core}}}"
    rest = status & ~0xFF00
    return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}" + (f" | {rest:#x}" if rest else "")


def _stop_signal(argument: Argument, number: int) -> str:
    """With PTRACE_O_TRACESYSGOOD a stop for a call is SIGTRAP with bit 7."""
    return argument.facts.signal_name(number & 0x7F) + (" | 0x80" if number & 0x80 else "")


def _waitid_id(argument: Argument) -> str:
    return descriptor(argument, argument.signed) if argument.other(0) == _P_PIDFD else str(argument.signed)


_RUSAGE_TIME: Final = Struct("tv_sec long; tv_usec long")
_RUSAGE_REST: Final = (
    "maxrss", "ixrss", "idrss", "isrss", "minflt", "majflt", "nswap", "inblock", "oublock", "msgsnd", "msgrcv",
    "nsignals", "nvcsw", "nivcsw",
)  # fmt: skip


def _rusage(argument: Argument) -> str | None:
    """struct rusage: the rest of it with -v."""
    size = argument.long_size
    data = argument.read(18 * size)
    call = argument.call
    if data is None or (call.exit is not None and call.exit.ret == 0 and _waits(call)):
        return None
    times = [
        f"ru_{name}={_RUSAGE_TIME.text(argument, data[at * 2 * size : (at + 1) * 2 * size])}"
        for at, name in enumerate(("utime", "stime"))
    ]
    rest = ["..."]
    if argument.options.verbose:
        rest = [
            f"ru_{name}={int.from_bytes(data[(4 + at) * size : (5 + at) * size], 'little')}"
            for at, name in enumerate(_RUSAGE_REST)
        ]
    return "{" + ", ".join(times + rest) + "}"


def _waits(call: Call) -> bool:
    from insitu.syscalls.facts import facts_of

    facts = facts_of(call.enter.abi).calls.get(call.enter.nr)
    return facts is not None and facts.name == "wait4"


def _limit_text(argument: Argument, value: int, size: int) -> str:
    if value == (1 << 8 * size) - 1:
        word = "RLIM64_INFINITY" if size == 8 else "RLIM_INFINITY"
    elif value > 1024 and value % 1024 == 0:
        word = f"{value // 1024}*1024"
    else:
        return str(value)
    return argument.named(str(value), word)


def _rlimit(argument: Argument, size: int) -> str | None:
    data = argument.read(2 * size)
    if data is None:
        return None
    current, most = (int.from_bytes(data[at : at + size], "little") for at in (0, size))
    return f"{{rlim_cur={_limit_text(argument, current, size)}, rlim_max={_limit_text(argument, most, size)}}}"


def _cpu_mask(argument: Argument) -> str | None:
    """Returns ``[0 1]``: the CPUs of a mask, of whole longs."""
    size = min(argument.count or 0, _WORDS_OF_A_CPU_MASK)
    size = -(-size // argument.long_size) * argument.long_size
    data = argument.read(size) if size else b""
    if data is None:
        return None
    cpus = (8 * at + bit for at, byte in enumerate(data) if byte for bit in range(8) if byte >> bit & 1)
    return f"[{' '.join(map(str, cpus))}]"


def _sched_param(argument: Argument) -> str | None:
    value = argument.number(4, signed=True)
    return None if value is None else f"[{value}]"


_SCHED_ATTR: Final = Struct(
    "size u32; sched_policy enum32(sched_policy); sched_flags flags64(sched_attr); sched_nice i32;"
    " sched_priority u32; sched_runtime u64; sched_deadline u64; sched_period u64;"
    " sched_util_min u32; sched_util_max u32"
)


def _sched_attr(argument: Argument) -> str | None:
    """struct sched_attr says itself how large it is; E2BIG comes with the size that the kernel has."""
    size = argument.number(4)
    if size is None:
        return None
    call = argument.call
    if argument.at_exit and call.failed:
        return f"{{size={size}}}" if call.exit is not None and call.exit.ret == -7 else None
    if 0 < size < 48:
        return f"{{size={size}}}"
    data = argument.read(min(size or 48, 56))
    if data is None:
        return None
    return "{" + ", ".join(_SCHED_ATTR.words(argument, data)) + (", ..." if size > 56 else "") + "}"


def _ioprio_text(argument: Argument, value: int) -> str:
    return f"IOPRIO_PRIO_VALUE({enum_text(argument, 'ioprio_class', value >> 13)}, {value & 0x1FFF})"


def _ioprio_value(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    return argument.named(str(value), _ioprio_text(argument, value))


def _ioprio_returned(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    if argument.options.constants == "raw":
        return str(value)
    return f"{hex_or_0(value)} ({_ioprio_text(argument, value)})"


def _groups(argument: Argument) -> str | None:
    count = argument.count or 0
    asked = argument.other(0) & 0xFFFFFFFF
    if count > _NGROUPS_MAX or asked > _NGROUPS_MAX:
        return None
    size = 2 if argument.call.enter.abi == "i386" and not _wide_groups(argument) else 4
    return array_text(argument, size, count, integer(size))


def _wide_groups(argument: Argument) -> bool:
    call = argument.facts.calls.get(argument.call.enter.nr)
    return call is not None and call.name.endswith("32")


def _version_of(argument: Argument) -> int | None:
    data = argument.memory.read(argument.other(0), 4) or argument.call.enter.memory.read(argument.other(0), 4)
    return int.from_bytes(data, "little") if data is not None and len(data) == 4 else None


_CAP_HEADER: Final = Struct("version enum32(capability_version); pid i32")


def _capabilities(argument: Argument, value: int) -> str:
    """A set in two members of 32 bits, of which strace(1) shows those that have any."""
    halves = []
    for shift in (0, 32):
        bits = value >> shift & 0xFFFFFFFF
        words, rest = [], bits
        for bit in range(32):
            name = argument.facts.constant("capability", shift + bit)
            if name and bits >> bit & 1:
                words.append(f"1<<{name}")
                rest &= ~(1 << bit)
        if words:
            halves.append(argument.named(hex_or_0(bits), "|".join([*words, f"{rest:#x}"] if rest else words)))
        elif rest:
            unknown = "" if argument.options.constants == "raw" else " /* CAP_??? */"
            halves.append(f"{rest:#x}{unknown}")
    return "|".join(halves) or "0"


def _cap_data(argument: Argument) -> str | None:
    version = _version_of(argument)
    elements = 2 if version in (0x20071026, 0x20080522) else 1
    data = argument.read(12 * elements)
    if data is None:
        return None
    words = []
    for at, name in enumerate(("effective", "permitted", "inheritable")):
        value = sum(
            int.from_bytes(data[12 * each + 4 * at : 12 * each + 4 * at + 4], "little") << 32 * each
            for each in range(elements)
        )
        words.append(f"{name}={_capabilities(argument, value)}")
    return "{" + ", ".join(words) + "}"


def _personality_text(argument: Argument, value: int) -> str:
    base = enum_text(argument, "personality", value & 0xFF)
    flags = value & ~0xFF & 0xFFFFFFFF
    return f"{base}|{flags_text(argument, 'personality_flags', flags)}" if flags else base


def _personality(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    if value == 0xFFFFFFFF:
        return hex_or_0(value)
    return _personality_text(argument, value)


def _personality_returned(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    return f"{hex_or_0(value)} ({_personality_text(argument, value)})"


def _sched_policy_returned(argument: Argument) -> str:
    word = argument.facts.constant("sched_policy", argument.signed)
    return f"{hex_or_0(argument.value & 0xFFFFFFFF)} ({word})" if word else str(argument.signed)


def _membarrier_returned(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    if argument.other(0) or not value:
        return str(argument.signed)
    return f"{value:#x} ({flags_text(argument, 'membarrier', value)})"


def _arch_prctl_value(argument: Argument) -> str | None:
    option = argument.other(0) & 0xFFFFFFFF
    if option in _ARCH_READS:
        value = argument.number(8) if argument.at_exit else None
        return None if value is None else f"[{hexadecimal(value)}]"
    return hexadecimal(argument.value) if option in (0x1001, 0x1002) else hex_or_0(argument.value)


def _kcmp_has_value(call: Call) -> bool:
    return call.enter.args[2] & 0xFFFFFFFF in (_KCMP_FILE, _KCMP_EPOLL_TFD)


def _utsname(argument: Argument) -> str | None:
    """struct new_utsname: six names of 65 bytes."""
    data = argument.read(390)
    if data is None:
        return None
    names = ("sysname", "nodename", "release", "version", "machine", "domainname")
    words = []
    for at, name in enumerate(names):
        if at == 2 and not argument.options.verbose:
            words.append("...")
            break
        text = data[65 * at : 65 * at + 65].partition(b"\0")[0]
        words.append(f"{name}={quoted(text, argument.options.strings_in_hex)}")
    return "{" + ", ".join(words) + "}"


def _random_bytes(argument: Argument) -> str | None:
    """Random bytes are shown in hexadecimal, always."""
    count = argument.count or 0
    limit = min(count, argument.options.string_limit)
    data = argument.read(limit) if limit else b""
    return None if data is None else quoted(data, "all") + ("..." if count > limit else "")


KINDS: Kinds = {
    "wait_status": Kind(_wait_status, Bytes(4)),
    "waitid_id": Kind(_waitid_id),
    "rusage": Kind(_rusage, Wide(Bytes(144), Bytes(72))),
    "rlimit": Kind(lambda a: _rlimit(a, a.long_size), Bytes(16)),
    "rlimit64": Kind(lambda a: _rlimit(a, 8), Bytes(16)),
    "cpu_mask": Kind(_cpu_mask, Bytes(1)),
    "sched_param": Kind(_sched_param, Bytes(4)),
    "sched_policy": Kind(_sched_policy_returned),
    "sched_attr": Kind(_sched_attr, Bytes(56)),
    "ioprio_value": Kind(_ioprio_value),
    "ioprio": Kind(_ioprio_returned),
    "groups": Kind(_groups, Bytes(4)),
    "cap_header": Kind(_CAP_HEADER.text, Bytes(8)),
    "cap_data": Kind(_cap_data, Bytes(24)),
    "personality": Kind(_personality),
    "personality_returned": Kind(_personality_returned),
    "membarrier_returned": Kind(_membarrier_returned),
    "arch_prctl_value": Kind(
        _arch_prctl_value,
        Bytes(8),
        skipped=lambda call: call.enter.args[0] & 0xFFFFFFFF in _ARCH_NO_ARGUMENT,
        null=True,
    ),
    "arch_prctl_returned": Kind(lambda a: str(a.signed)),
    "membarrier_cpu": Kind(lambda a: str(a.signed), skipped=lambda call: not call.enter.args[1] & 1),
    "kcmp_value": Kind(lambda a: str(a.value), skipped=lambda call: not _kcmp_has_value(call)),
    "utsname": Kind(_utsname, Bytes(390)),
    "sysinfo": structure(
        "uptime long; loads ulong[3]; totalram ulong; freeram ulong; sharedram ulong; bufferram ulong;"
        " totalswap ulong; freeswap ulong; procs u16; pad2; totalhigh ulong; freehigh ulong; mem_unit u32"
    ),
    "tms": structure("tms_utime ulong; tms_stime ulong; tms_cutime ulong; tms_cstime ulong"),
    "random_bytes": Kind(_random_bytes, Bytes(1, whole=False)),
    "hex_or_0_32": Kind(lambda a: hex_or_0(a.value & 0xFFFFFFFF)),
    "unused": Kind(lambda a: "", skipped=lambda call: True),
}
