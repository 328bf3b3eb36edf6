"""Brings a compiled script into the kernel: makes its maps, puts descriptors into its code, loads and attaches it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from msgspec import Struct, field

from insitu.errors import InsituError
from insitu.kernel import bpf, procfs
from insitu.kernel.bpf_abi import MapType
from insitu.kernel.bpf_helpers import knows_helper
from insitu.kernel.bpf_map import NO_PREALLOC, OLD_MAX_KEY_BYTES, Map, possible_cpus
from insitu.kernel.ring_buffer import RingBuffer
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.markers import Marker, Patch
from insitu.probe.compile import Compiled, CompiledProgram
from insitu.probe.layout import HASH, PER_CPU, PERCPU_HASH, PROG_ARRAY, RINGBUF, MapLayout
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import Attachment, AttachPoint, Context, Runnable, Traits
from insitu.probe.providers.support.detach import close_together
from insitu.probe.runtime.cpu_map import CpuMap
from insitu.probe.runtime.joint_map import JointMap
from insitu.probe.runtime.split_map import SplitMap
from insitu.probe.source import ScriptError, Source, Span

__all__ = ["Loaded", "LoadedProgram", "load"]

_INSN = struct.Struct("<BBhI")  # struct bpf_insn: code, dst_reg and src_reg, off, imm (as bits)
_IMMEDIATE = struct.Struct("<I")
_LD_IMM64 = 0x18
# Maps get memory for all their elements at once, which is faster, and does not fail later: while a program runs, the
# kernel has memory at hand for a few large elements only. Maps that would take more are filled as needed.
_MOST_PREALLOCATED_BYTES = 1 << 30  # of all maps
_SMALL_BYTES = 64 << 20
_AVAILABLE_SHARE = 8
_LARGE_CODE_BYTES = 16 << 10  # of a program, which the verifier needs milliseconds for


class LoadedProgram(Struct):
    """A program in the kernel, for all of ``points``."""

    compiled: CompiledProgram
    points: list[AttachPoint]
    fd: int
    log: str
    attachments: list[Attachment] = field(default_factory=list)

    @property
    def traits(self) -> Traits:
        """Those of its probe's kind."""
        return PROVIDERS[self.points[0].kind].traits


class Loaded:
    """All maps, rings and programs of a script. close() gives everything back; so does the end of the process."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.maps: dict[int, Map] = {}
        self.rings: dict[int, RingBuffer] = {}
        self.part_maps: list[Map] = []
        self.programs: list[LoadedProgram] = []
        self.recursion_misses = 0
        self.warnings = list(compiled.warnings)

    def fd_of(self, number: int) -> int:
        """The descriptor of a map or ring by our number."""
        return self.rings[number].fd if number in self.rings else self.maps[number].fd

    def attach(self, context: Context, *, run_by_us: bool) -> int:
        """Attach the programs that the runtime runs itself, or the others: how many points."""
        count = 0
        for program in self._in_order():
            if program.attachments or program.traits.run_by_us != run_by_us:
                continue
            count += self._attach(program, context)
        if not run_by_us and not any(program.attachments for program in self.programs):
            raise InsituError("no probe could be attached", remedy="; ".join(self.warnings))
        return count

    def _in_order(self) -> list[LoadedProgram]:
        """The programs in the order of attaching in which those at one location run in the script's order."""
        reversed_ones = [program for program in self.programs if program.traits.last_first]
        return [program for program in self.programs if not program.traits.last_first] + reversed_ones[::-1]

    def _attach(self, program: LoadedProgram, context: Context) -> int:
        """Attach one program. Of the alternatives that a script lists, those which the kernel lacks are left out."""
        provider = PROVIDERS[program.points[0].kind]
        if not program.compiled.alternative:
            program.attachments = [provider.attach(program.fd, program.points, context)]
            return len(program.points)
        if program.compiled.absent:
            return 0
        try:
            program.attachments = [provider.attach(program.fd, program.points, context)]
        except InsituError:
            for point in program.points:
                try:
                    program.attachments.append(provider.attach(program.fd, [point], context))
                except InsituError as error:
                    if self.compiled.tells_missing:
                        self.warnings.append(f"{point.name} is left out: {error}")
        return len(program.points) if len(program.attachments) == 1 else len(program.attachments)

    def run(self, kind: str) -> None:
        """Run the programs of a kind that the runtime sets off (begin, end)."""
        for program in self.programs:
            if program.points[0].kind == kind:
                for attachment in program.attachments:
                    cast(Runnable, attachment).run()

    def detach(self, *, run_by_us: bool = True, silent: bool = False) -> None:
        """Detach all programs, perhaps except those that the runtime runs. ``silent``: they no longer do anything."""
        attached = [p for p in self.programs if p.attachments and (run_by_us or not p.traits.run_by_us)]
        close_together((each for program in attached for each in program.attachments), silent=silent)
        for program in attached:
            program.attachments = []
            with contextlib.suppress(bpf.BpfError):
                self.recursion_misses += bpf.program_info(program.fd).recursion_misses

    def unwatch(self, address: int) -> None:
        """Detach what watches an address."""
        for program in self.programs:
            if program.points[0].kind == "watchpoint" and any(point.address == address for point in program.points):
                close_together(program.attachments)
                program.attachments = []

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        self.detach()
        for program in self.programs:
            os.close(program.fd)
        self.programs.clear()
        for ring in self.rings.values():
            ring.close()
        for each in (*self.maps.values(), *self.part_maps):
            each.close()


def load(compiled: Compiled, source: Source, patches: dict[Patch, int], *, log_level: int = 0) -> Loaded:
    """Make the maps and load the programs; nothing is attached yet.

    :raises ScriptError: when the verifier refuses a program: the script's line, and the verifier's reason.
    :raises BpfError: when a map cannot be made.
    """
    loaded = Loaded(compiled)
    try:
        _make_maps(loaded)
        btf_fd = _load_btf(compiled)
        try:
            jobs = [
                (program, points)
                for program in compiled.programs
                for points in ([[point] for point in program.points] if program.per_point else [program.points])
            ]

            def made(program: CompiledProgram, points: list[AttachPoint]) -> LoadedProgram:
                place = {**patches, Patch.PROBE: points[0].cookie}
                parts_log = _load_parts(loaded, program, source, place, btf_fd, log_level)
                fd, log = _load_program(loaded, program, source, place, btf_fd, log_level)
                return LoadedProgram(program, points, fd, log + parts_log)

            if _worth_threads(compiled):
                _load_at_once(loaded, jobs, made)
            else:
                for job in jobs:
                    loaded.programs.append(made(*job))
        finally:
            if btf_fd:
                os.close(btf_fd)
    except BaseException:
        loaded.close()
        raise
    return loaded


def _worth_threads(compiled: Compiled) -> bool:
    """Whether the verifier takes longer than threads do to start; it checks several programs at once."""
    large = [each for each in compiled.programs if len(each.code) > _LARGE_CODE_BYTES]
    return len(large) > 1 and not any(each.further for each in compiled.programs)


def _load_at_once(
    loaded: Loaded,
    jobs: Sequence[tuple[CompiledProgram, list[AttachPoint]]],
    made: Callable[[CompiledProgram, list[AttachPoint]], LoadedProgram],
) -> None:
    """Load programs in threads, large ones first; the result, and of several refusals the one that is raised, is as
    one by one."""
    import threading

    results: list[LoadedProgram | BaseException] = [InsituError("not loaded")] * len(jobs)
    waiting = sorted(range(len(jobs)), key=lambda number: len(jobs[number][0].code))

    def load_some() -> None:
        with contextlib.suppress(IndexError):
            while True:
                number = waiting.pop()
                try:
                    results[number] = made(*jobs[number])
                except BaseException as error:
                    results[number] = error

    threads = [threading.Thread(target=load_some) for _ in range(min(len(jobs), len(os.sched_getaffinity(0))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loaded.programs += [each for each in results if isinstance(each, LoadedProgram)]
    for each in results:
        if isinstance(each, BaseException):
            raise each


class _Preallocation:
    """How much memory maps may still take in advance: at most a part of what is available."""

    def __init__(self) -> None:
        self._left: int | None = None

    def takes(self, bytes_needed: int) -> bool:
        """Whether a map is to have all its elements at once."""
        if bytes_needed <= _SMALL_BYTES:
            return True
        if self._left is None:
            self._left = min(_MOST_PREALLOCATED_BYTES, procfs.available_memory() // _AVAILABLE_SHARE)
        if bytes_needed > self._left:
            return False
        self._left -= bytes_needed
        return True


def _make_maps(loaded: Loaded) -> None:
    preallocation = _Preallocation()
    for number, layout in enumerate(loaded.compiled.layout.maps):
        if number in loaded.maps:  # made together with another
            continue
        if layout.within >= 0:
            whole = loaded.maps[layout.within]
            by_cpu = loaded.compiled.layout.maps[layout.within].is_by_cpu
            joint = CpuMap(whole, layout) if by_cpu else JointMap(whole, layout.place, layout.value_size)
            loaded.maps[number] = joint
            continue
        name = layout.name.lstrip("@") or "map"
        if layout.type == RINGBUF:
            loaded.rings[number] = RingBuffer(layout.max_entries, name=name)
            continue
        if layout.type == PROG_ARRAY:  # made anew for each load of its program
            continue
        copies = possible_cpus() if layout.type in PER_CPU else 1
        bytes_needed = (layout.value_size * copies + layout.key_size) * layout.max_entries
        hashed = layout.type in (HASH, PERCPU_HASH)
        flags = layout.flags
        flags |= NO_PREALLOC if hashed and not preallocation.takes(bytes_needed) else 0
        loaded.maps[number] = _made(layout, name, flags)
        if layout.short_keys >= 0:
            assert layout.key is not None
            short = _made(loaded.compiled.layout.maps[layout.short_keys], name, flags)
            loaded.maps[layout.short_keys] = short
            loaded.maps[number] = SplitMap(loaded.maps[number], short, layout.key)
        if layout.name.startswith("names: "):
            points = [point for program in loaded.compiled.programs for point in program.points]
            _fill_point_names(loaded.maps[number], layout, points)


def _made(layout: MapLayout, name: str, flags: int) -> Map:
    sizes = layout.key_size, max(8, layout.value_size), layout.max_entries
    try:
        return Map(MapType(layout.type), *sizes, name=name, flags=flags)
    except bpf.BpfError as error:
        if error.errno == errno.ENOMEM and layout.type in (HASH, PERCPU_HASH) and not flags & NO_PREALLOC:
            return _made(layout, name, flags | NO_PREALLOC)
        if layout.key_size <= OLD_MAX_KEY_BYTES:
            raise
        what = f"this kernel takes no key of {layout.key_size} bytes, as {layout.name} has"
        remedy = f"old kernels take {OLD_MAX_KEY_BYTES} bytes; BPFTRACE_MAX_STRLEN=64 shortens strings"
        raise InsituError(f"{what}: {error.message}", remedy=remedy) from None


def _fill_point_names(number: Map, layout: MapLayout, points: Iterable[AttachPoint]) -> None:
    for point in points:
        text = point.function if layout.name == "names: func" else point.name
        text_bytes = text.encode("utf-8", "surrogateescape")[: layout.value_size - 1]
        number.update(struct.pack("<I", point.cookie), text_bytes.ljust(layout.value_size, b"\0"))


def _load_btf(compiled: Compiled) -> int:
    """Types of our functions: only callbacks need them. Without, programs load all the same."""
    if not compiled.btf or not any(len(each.functions) > 1 for p in compiled.programs for each in (p, *p.further)):
        return 0
    return bpf.load_btf(compiled.btf)


def _load_parts(
    loaded: Loaded, program: CompiledProgram, source: Source, patches: dict[Patch, int], btf_fd: int, log_level: int
) -> str:
    """Load the parts that a long program goes on in, and put them where it finds them: the verifier's log."""
    if not program.further:
        return ""
    parts = Map(MapType.PROG_ARRAY, 4, 4, len(program.further), name="parts")
    # The kernel empties such a map when its last descriptor is closed.
    loaded.part_maps.append(parts)
    loaded.maps[program.parts_map] = parts
    logs = []
    for number, part in enumerate(program.further):
        fd, log = _load_program(loaded, part, source, patches, btf_fd, log_level)
        try:
            parts.update(struct.pack("<I", number), struct.pack("<I", fd))
        finally:
            os.close(fd)
        logs.append(log)
    return "".join(logs)


def _load_program(
    loaded: Loaded, program: CompiledProgram, source: Source, patches: dict[Patch, int], btf_fd: int, log_level: int
) -> tuple[int, str]:
    """The program's descriptor, and the verifier's log."""
    code = _patched(program.code, loaded, patches)
    needs_btf = btf_fd if len(program.functions) > 1 else 0
    kind = program.kind
    try:
        return bpf.load_program(
            code,
            kind.type,
            name=program.name,
            attach_type=kind.attach_type,
            attach_btf_id=kind.attach_btf_id,
            attach_btf_fd=kind.attach_btf_fd,
            flags=kind.flags,
            btf_fd=needs_btf,
            func_info=b"".join(struct.pack("<II", *entry) for entry in program.functions) if needs_btf else b"",
            line_info=program.line_info if needs_btf else b"",
            log_level=log_level,
        )
    except bpf.BpfError as error:
        if not error.log:
            raise
        raise _refused(error, program, source) from None


def _patched(code: bytes, loaded: Loaded, patches: dict[Patch, int]) -> bytes:
    """The code with descriptors and constants in its ld_imm64 instructions."""
    patched = bytearray(code)
    for at in range(0, len(code), 8):
        opcode, registers, _, number = _INSN.unpack_from(code, at)
        marker = registers >> 4
        if opcode != _LD_IMM64 or not marker:
            continue
        if marker in (Marker.MAP, Marker.MAP_VALUE):
            _IMMEDIATE.pack_into(patched, at + 4, loaded.fd_of(number))
        elif marker == Marker.PATCH:
            value = patches.get(Patch(number), 0)
            patched[at + 1] = registers & 0x0F
            _IMMEDIATE.pack_into(patched, at + 4, value & 0xFFFFFFFF)
            _IMMEDIATE.pack_into(patched, at + 12, value >> 32 & 0xFFFFFFFF)
    return bytes(patched)


_INSTRUCTION = r"(?m)^(\d+): \("
# Older kernels have no names for helpers that came after them: "invalid func unknown#175".
_MISSING_HELPER = r"(?:unknown func|cannot use helper|invalid func) (\w+)#(\d+)"
_WHERE_DWARF = "Linux 5.15 has it; ustack(dwarf) works in uprobes without, and ustack everywhere"
_HELPERS_OF = {
    "bpf_override_return": "CONFIG_BPF_KPROBE_OVERRIDE=y has it, for kprobes of functions that are meant to fail",
    "bpf_ktime_get_tai_ns": "Linux 6.1 has it; use nsecs(sw_tai)",
    "bpf_jiffies64": "Linux 5.12 has it in probes; use nsecs",
    "bpf_map_lookup_percpu_elem": "Linux 5.19 can read count(), sum() and the like in a script",
    "bpf_get_socket_cookie": "Linux 5.12 has it in fentry probes; use a kprobe",
    "bpf_get_current_task_btf": _WHERE_DWARF,
    "bpf_task_pt_regs": _WHERE_DWARF,
}
_NOISE = r"^(processed \d+ insns|\d+: |;|R\d|from |func#|arg#|verification time|stack depth|$|\s)"


# What the verifier says of programs that it has no patience for (kernel/bpf/verifier.c).
_REMEDIES = (
    ("jumps is too complex", "make the loop or function here shorter: the verifier follows 8192 branches in a row"),
    ("program is too large", "make loops shorter, or their bodies: the verifier follows a million instructions"),
    ("combined stack size", "use fewer or smaller variables in loops: a program has 512 bytes of stack"),
)
_ABOUT_LENGTH = {remedy for _, remedy in _REMEDIES[:2]}


def _refused(error: bpf.BpfError, program: CompiledProgram, source: Source) -> ScriptError:
    """The verifier's refusal at the line of the script that made the instruction it stopped at."""
    numbers = [int(number) for number in re.findall(_INSTRUCTION, error.log)]
    span = Span(0, 1)
    reason = next((line for line in reversed(error.log.splitlines()) if not re.match(_NOISE, line)), str(error))
    stopped = numbers[-1] if numbers else 0
    before = [entry for entry in program.lines if entry[0] <= stopped and entry[1] > 0]
    if before:
        _, line, column = before[-1]
        start = sum(len(text) + 1 for text in source.text.split("\n")[: line - 1]) + column - 1
        span = Span(start, start + 1)
    remedy = next((remedy for part, remedy in _REMEDIES if part in reason), "-v shows the whole log")
    if remedy in _ABOUT_LENGTH and not knows_helper(Helper.LOOP):
        remedy += "; Linux 5.17 and later run long loops"
    missing = re.search(_MISSING_HELPER, reason)
    if missing:
        helper = missing[1] if missing[1].startswith("bpf_") else _helper_name(int(missing[2]))
        reason = f"it has no {helper}() for {program.points[0].kind} probes"
        remedy = _HELPERS_OF.get(helper, remedy)
    refusal = ScriptError(
        f"the kernel refuses this program for {program.points[0].name}: {reason}", source, span, remedy=remedy
    )
    refusal.log = error.log
    return refusal


def _helper_name(number: int) -> str:
    """bpf-helpers(7)'s name of a helper that our programs call."""
    return f"bpf_{Helper(number).name.lower()}" if number in set(Helper) else f"helper {number}"
