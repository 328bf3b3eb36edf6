"""perf_event_open(2): struct perf_event_attr (include/uapi/linux/perf_event.h)."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.capture import Bytes
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text

__all__ = ["KINDS"]

_HARDWARE, _SOFTWARE, _TRACEPOINT, _CACHE, _RAW, _BREAKPOINT = range(6)
_BITS: Final = (
    "disabled", "inherit", "pinned", "exclusive", "exclude_user", "exclude_kernel", "exclude_hv", "exclude_idle",
    "mmap", "comm", "freq", "inherit_stat", "enable_on_exec", "task", "watermark", "precise_ip", "", "mmap_data",
    "sample_id_all",
    "exclude_host", "exclude_guest", "exclude_callchain_kernel", "exclude_callchain_user", "mmap2", "comm_exec",
    "use_clockid", "context_switch", "write_backward", "namespaces", "ksymbol", "bpf_event", "aux_output", "cgroup",
    "text_poke", "build_id", "inherit_thread", "remove_on_exec", "sigtrap",
)  # fmt: skip
_PRECISE: Final = ("arbitrary skid", "constant skid", "requested to have 0 skid", "must have 0 skid")
_E2BIG: Final = 7
_BRANCH_STACK, _STACK_USER = 1 << 11, 1 << 13
_FREQ, _WATERMARK, _CLOCK = 1 << 10, 1 << 14, 1 << 25
_SMALLEST, _LARGEST = 64, 4096


def _attributes(argument: Argument) -> str | None:
    call = argument.call
    refused = call.exit is not None and call.exit.ret == -_E2BIG
    if argument.at_exit != refused:
        return None
    before = call.enter.memory.read(argument.value + 4, 4)
    if before is None or len(before) < 4:
        return None
    size = int.from_bytes(before, "little")
    data = call.enter.memory.read(argument.value, min(max(size, _SMALLEST), 136))
    if data is None or len(data) < 48:
        return None

    def number(at: int, length: int = 8) -> int:
        return int.from_bytes(data[at : at + length], "little")

    def has(at: int) -> bool:
        return (size or _SMALLEST) >= at and len(data) >= at

    kind, config, flags = number(0, 4), number(8), number(40)
    words = [f"type={enum_text(argument, 'perf_type', kind)}"]
    words.append(f"size={enum_text(argument, 'perf_attr_size', size)}")
    taken = argument.number(4, 4) if refused else None
    if taken is not None and taken != size:  # the kernel says which size it knows
        words[-1] += f" => {enum_text(argument, 'perf_attr_size', taken)}"
    words.append(f"config={_config(argument, kind, config)}")
    words.append(f"{'sample_freq' if flags & _FREQ else 'sample_period'}={number(16)}")
    words.append(f"sample_type={flags_text(argument, 'perf_sample', number(24))}")
    words.append(f"read_format={flags_text(argument, 'perf_read', number(32))}")
    precise = flags >> 15 & 3
    if not argument.options.verbose:
        bits = [f"{name}=1" for at, name in enumerate(_BITS[:15]) if flags >> at & 1]
        bits.append(f"precise_ip={precise} /* {_PRECISE[precise]} */")
        bits += [f"{name}=1" for at, name in enumerate(_BITS) if at > 16 and flags >> at & 1]
        return "{" + ", ".join([*words, *bits, "..."]) + "}"
    for at, name in enumerate(_BITS):
        if name == "precise_ip":
            words.append(f"precise_ip={precise} /* {_PRECISE[precise]} */")
        elif name:
            words.append(f"{name}={flags >> at & 1}")
    if flags >> len(_BITS):
        words.append(f"__reserved_1={flags >> len(_BITS):#x}")
    words.append(f"{'wakeup_watermark' if flags & _WATERMARK else 'wakeup_events'}={number(48, 4)}")
    if kind == _BREAKPOINT:
        kind_of = number(52, 4)
        words.append(f"bp_type={'HW_BREAKPOINT_RW' if kind_of == 3 else flags_text(argument, 'breakpoint', kind_of)}")
        words.append(f"bp_addr={number(56):#x}")
    else:
        words.append(f"config1={hex_or_0(number(56))}")
    if has(72):
        words.append(f"bp_len={number(64)}" if kind == _BREAKPOINT else f"config2={hex_or_0(number(64))}")
    if has(80) and (number(24) & _BRANCH_STACK):
        words.append(f"branch_sample_type={flags_text(argument, 'perf_branch_sample', number(72))}")
    if has(88):
        words.append(f"sample_regs_user={hex_or_0(number(80))}")
    if has(92) and number(24) & _STACK_USER:
        words.append(f"sample_stack_user={hex_or_0(number(88, 4))}")
    if has(96) and flags & _CLOCK:
        words.append(f"clockid={enum_text(argument, 'clock', number(92, 4))}")
    if has(104):
        words.append(f"sample_regs_intr={hex_or_0(number(96))}")
    if has(108):
        words.append(f"aux_watermark={number(104, 4)}")
    if has(110):
        words.append(f"sample_max_stack={number(108, 2)}")
    if has(116):
        words.append(f"aux_sample_size={number(112, 4)}")
    if has(128):
        words.append(f"sig_data={hex_or_0(number(120))}")
    if size > 136:
        words.append("...")
    return "{" + ", ".join(words) + "}"


def _config(argument: Argument, kind: int, config: int) -> str:
    if kind == _HARDWARE:
        upper, lower = config >> 32, config & 0xFFFFFFFF
        text = enum_text(argument, "perf_hardware", lower)
        return f"{upper:#x}<<32|{text}" if upper else text
    if kind == _SOFTWARE:
        return enum_text(argument, "perf_software", config)
    if kind == _CACHE:
        words = enum_text(argument, "perf_cache", config & 0xFF)
        operation = enum_text(argument, "perf_cache_op", config >> 8 & 0xFF)
        result = enum_text(argument, "perf_cache_result", config >> 16 & 0xFF)
        above = f"{config >> 32:#x}<<32|" if config >> 32 else ""
        return f"{above}{result}<<16|{operation}<<8|{words}"
    return str(config) if kind == _TRACEPOINT else hex_or_0(config)


KINDS: Kinds = {"perf_attr": Kind(_attributes, Bytes(136))}
