"""pprof's gzip-compressed profile.proto (https://github.com/google/pprof/blob/main/proto/profile.proto)."""

import gzip
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.protobuf import message, number, packed, varint
from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.stack_text import joined
from insitu.plurals import counted
from insitu.session.distinct import distinct
from insitu.session.weighted_stacks import WeightedStacks
from insitu.symbols.frame import Frame

__all__ = ["export_pprof", "write_pprof"]

I32 = NDArray[np.int32]

# Field numbers of the messages of profile.proto.
_SAMPLE_TYPE, _SAMPLE, _MAPPING, _LOCATION, _FUNCTION, _STRING_TABLE = 1, 2, 3, 4, 5, 6
_TIME_NANOS, _DURATION_NANOS, _PERIOD_TYPE, _PERIOD, _COMMENT, _DEFAULT_SAMPLE_TYPE = 9, 10, 11, 12, 13, 14
_VALUE_TYPE, _VALUE_UNIT = 1, 2
_SAMPLE_LOCATION_ID, _SAMPLE_VALUE, _SAMPLE_LABEL = 1, 2, 3
_LABEL_KEY, _LABEL_STR, _LABEL_NUM = 1, 2, 3
_MAPPING_ID, _MAPPING_FILENAME = 1, 5
_MAPPING_HAS: Final = (7, 8, 9, 10)  # functions, file names, line numbers, inlined frames
_LOCATION_ID, _LOCATION_MAPPING_ID, _LOCATION_LINE = 1, 2, 4
_LINE_FUNCTION_ID, _LINE_LINE = 1, 2
_FUNCTION_ID, _FUNCTION_NAME, _FUNCTION_SYSTEM_NAME, _FUNCTION_FILENAME = 1, 2, 3, 4


@dataclass
class _Tables:
    """What samples refer to, each entry written at its first use; ids begin at 1, strings with ""."""

    strings: dict[str, int] = field(default_factory=lambda: {"": 0})
    functions: dict[tuple[str, str], int] = field(default_factory=dict)
    mappings: dict[str, int] = field(default_factory=dict)
    locations: dict[tuple[int, ...], int] = field(default_factory=dict)
    written: list[bytes] = field(default_factory=list)

    def string(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def function(self, frame: Frame) -> int:
        key = (frame.function, frame.file)
        at = self.functions.get(key)
        if at is None:
            at = self.functions[key] = len(self.functions) + 1
            name = self.string(frame.function)
            body = number(_FUNCTION_ID, at) + number(_FUNCTION_NAME, name) + number(_FUNCTION_SYSTEM_NAME, name)
            self.written.append(message(_FUNCTION, body + number(_FUNCTION_FILENAME, self.string(frame.file))))
        return at

    def mapping(self, module: str) -> int:
        if not module:
            return 0
        at = self.mappings.get(module)
        if at is None:
            at = self.mappings[module] = len(self.mappings) + 1
            # "Has all": a reader that found something missing would look for binaries of its own machine.
            flags = b"".join(number(flag, 1) for flag in _MAPPING_HAS)
            body = number(_MAPPING_ID, at) + number(_MAPPING_FILENAME, self.string(module)) + flags
            self.written.append(message(_MAPPING, body))
        return at

    def location(self, key: tuple[int, ...], frames: list[Frame]) -> int:
        """The location of frames ``key``, the innermost inlined one first, the function they are part of last."""
        at = self.locations.get(key)
        if at is None:
            at = self.locations[key] = len(self.locations) + 1
            outer = frames[key[-1]]
            body = number(_LOCATION_ID, at) + number(_LOCATION_MAPPING_ID, self.mapping(outer.module))
            for frame in (frames[index] for index in key):
                line = number(_LINE_FUNCTION_ID, self.function(frame)) + number(_LINE_LINE, max(frame.line, 0))
                body += message(_LOCATION_LINE, line)
            self.written.append(message(_LOCATION, body))
        return at


def write_pprof(stacks: WeightedStacks, *, compress: bool = True) -> bytes:
    """The file of weighted stacks: their rows' number and weight, by stack and thread.

    Sample types are samples/count and, for CPU time, cpu/nanoseconds, else the event's name with its unit; of sums
    of samples the latter alone.
    Each sample bears its thread's name and id as the labels "comm" and "tid". Frames have no addresses.
    """
    tables = _Tables()
    unit = {"ns": "nanoseconds", "bytes": "bytes"}.get(stacks.unit, "count")
    kind = ("cpu" if stacks.is_cpu_time else stacks.event or stacks.counted, unit)
    types = [_value_type(tables, *kind)]
    if not (is_sum := _is_sum(stacks)):
        types.insert(0, _value_type(tables, stacks.counted, "count"))
    parts = [message(_SAMPLE_TYPE, body) for body in types]
    parts += _samples(stacks, tables, with_count=not is_sum)
    manifest = stacks.manifest
    parts.append(number(_TIME_NANOS, manifest.start_realtime_ns))
    parts.append(number(_DURATION_NANOS, stacks.duration_ns))
    if stacks.frequency_hz > 0 and stacks.is_cpu_time:
        parts.append(message(_PERIOD_TYPE, types[-1]) + number(_PERIOD, 1_000_000_000 // stacks.frequency_hz))
    lost = sum(stacks.losses.values())
    if lost:
        parts.append(packed(_COMMENT, [tables.string(f"{counted(lost, 'record was', 'records were')} lost")]))
    parts.append(number(_DEFAULT_SAMPLE_TYPE, tables.string(kind[0])))
    parts += tables.written
    parts += [message(_STRING_TABLE, text.encode(errors="backslashreplace")) for text in tables.strings]
    data = b"".join(parts)
    return gzip.compress(data, compresslevel=1, mtime=0) if compress else data


def export_pprof(stacks: WeightedStacks, options: ExportOptions) -> bytes:
    """The file of ``write_pprof``."""
    return write_pprof(stacks)


def _value_type(tables: _Tables, kind: str, unit: str) -> bytes:
    return number(_VALUE_TYPE, tables.string(kind)) + number(_VALUE_UNIT, tables.string(unit))


def _is_sum(stacks: WeightedStacks) -> bool:
    """Whether rows are sums of samples, as folded stacks are: then only their weights mean something."""
    return stacks.preferred == "weight" and stacks.unit == stacks.counted


def _samples(stacks: WeightedStacks, tables: _Tables, *, with_count: bool) -> list[bytes]:
    """One message for each distinct thread, its command's name at the time, and stack."""
    nodes = len(stacks.parent)
    keys, of_key = distinct(stacks.thread.astype(np.int64) * nodes + stacks.stack)
    counts = np.bincount(of_key, weights=stacks.count, minlength=len(keys)).astype(np.int64).tolist()
    weights = np.bincount(of_key, weights=stacks.weight, minlength=len(keys)).astype(np.int64).tolist()
    comm_key, tid_key = tables.string("comm"), tables.string("tid")
    labels = []
    for thread in stacks.threads:
        comm_label = number(_LABEL_KEY, comm_key) + number(_LABEL_STR, tables.string(thread.name))
        tid_label = number(_LABEL_KEY, tid_key) + number(_LABEL_NUM, thread.tid)
        labels.append(message(_SAMPLE_LABEL, comm_label) + message(_SAMPLE_LABEL, tid_label))
    used, of_stack = distinct((keys % nodes).astype(np.int32))
    caller, location = _locations(stacks, tables)
    ids = [varint(at) for at in range(len(tables.locations) + 1)]
    chains = joined(caller, location, ids, used, b"", leaf_first=True)
    written = []
    for thread, stack, count, weight in zip(
        (keys // nodes).tolist(), of_stack.tolist(), counts, weights, strict=True
    ):
        body = message(_SAMPLE_LOCATION_ID, chains[stack]) + packed(
            _SAMPLE_VALUE, (count, weight) if with_count else (weight,)
        )
        written.append(message(_SAMPLE, body + labels[thread]))
    return written


def _locations(stacks: WeightedStacks, tables: _Tables) -> tuple[I32, I32]:
    """For each stack the id of its innermost location, and the stack that called this location.

    Inlined frames share the location of the next outer frame that is not inlined; the same outer frame without
    them, or with others, is another location.
    """
    frames = stacks.frames
    inlined = np.array([*(frame.inlined for frame in frames), False])  # the last for the root, whose frame is -1
    caller = stacks.parent.copy()
    location = np.zeros(len(caller), np.int32)
    whole = np.flatnonzero(~inlined[stacks.frame])[1:]
    of_frame = np.zeros(len(frames) + 1, np.int32)
    for frame in np.unique(stacks.frame[whole]).tolist():
        of_frame[frame] = tables.location((frame,), frames)
    location[whole] = of_frame[stacks.frame[whole]]
    lines: dict[int, tuple[int, ...]] = {}
    for at in np.flatnonzero(inlined[stacks.frame]).tolist():
        parent, frame = int(stacks.parent[at]), int(stacks.frame[at])
        lines[at] = (frame, *(lines.get(parent) or (int(stacks.frame[parent]),))) if parent else (frame,)
        location[at] = tables.location(lines[at], frames)
        caller[at] = caller[parent]
    return caller, location
