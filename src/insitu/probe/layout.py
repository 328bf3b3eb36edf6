"""What a compiled script needs at run time: its maps, its kinds of records, its texts.

All of it is plain data, which the cache of compiled programs (cache.py) keeps in msgpack.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from insitu.kernel.bpf_map import possible_cpus
from insitu.probe.aggregations import Aggregation
from insitu.probe.types import AnyType, String, Tuple, Type, stored_size

__all__ = [
    "BUILD_ID_FRAME_BYTES",
    "EVENT_HEAD",
    "EVENT_WAKEUP_BYTES",
    "EXIT_ASKED",
    "IN_SECOND",
    "LOST_MAP_FULL",
    "LOST_NO_MEMORY",
    "LOST_RING_FULL",
    "LOST_ROUNDS",
    "LOST_STACKS",
    "MAX_KEY_BYTES",
    "MAX_ROUNDS",
    "MAX_SCRATCH_BYTES",
    "MAX_WHILE_ROUNDS",
    "MOST_COMPARED_STRUCT_BYTES",
    "PER_CPU",
    "PRESENT_BYTES",
    "SECOND",
    "SHORT_STRING_BYTES",
    "STACK_BUILD_ID",
    "Layout",
    "MapLayout",
    "RecordLayout",
    "holds_stacks",
    "is_long_string",
]

# Cells of the map that counts what was lost.
LOST_RING_FULL, LOST_MAP_FULL, LOST_STACKS, LOST_ROUNDS, LOST_NO_MEMORY = 0, 1, 2, 3, 4
LOST_CELLS = 5
MAX_ROUNDS = 1 << 23  # of bpf_loop(): BPF_MAX_LOOPS of include/linux/bpf.h
# Our limit for while loops: more iterations would keep a CPU in the kernel for seconds.
MAX_WHILE_ROUNDS = 1 << 20
EXIT_ASKED = 1 << 32
EVENT_RING_BYTES = 32 << 20
# The reader of events is woken up whenever so many bytes more are waiting.
EVENT_WAKEUP_BYTES = 2 << 20
# What events' own fields follow: CLOCK_MONOTONIC; the thread in the low half, the process in the high one.
EVENT_HEAD = ("ts_ns", "thread")
PAGE_BYTES = 4096

MAX_SCRATCH_BYTES = 4 << 20  # of one program, on each CPU
_CACHE_LINE = 64
MAX_KEY_BYTES = 64 << 10
MOST_COMPARED_STRUCT_BYTES = 2048
SHORT_STRING_BYTES = 64
"""What a long string takes in a key if it fits, with its zero."""
_LONG_STRING_BYTES = 128  # is the largest that is not long
_FEWEST_STACK_KEYS = 4096
_MAX_STACK_MAP_BYTES = 256 << 20
_STACK_OVERHEAD_BYTES = 40  # struct stack_map_bucket of kernel/bpf/stackmap.c, and two pointers to it
HASH, ARRAY, PROG_ARRAY, PERCPU_HASH, PERCPU_ARRAY, STACK_TRACE, RINGBUF = 1, 2, 3, 5, 6, 7, 27
LRU_HASH, LRU_PERCPU_HASH = 9, 10
STACK_BUILD_ID = 1 << 5
SECOND, IN_SECOND = "+", 1 << 30
"""A stack whose bucket is taken goes to a second map, with this after the name of the first; its id has this bit."""
BUILD_ID_FRAME_BYTES = 32  # struct bpf_stack_build_id
PER_CPU = (PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH)
# After the value of a map without a key, or whose keys are CPUs: whether it was ever assigned; of one per CPU,
# whether zero() has emptied it.
PRESENT_BYTES = 8


class MapLayout(Struct):
    """A BPF map. ``key`` is None for a map without a key; ``value`` None for internal maps."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    key: Tuple | None = None
    value: AnyType | None = None
    flags: int = 0  # of include/uapi/linux/bpf.h: BPF_F_STACK_BUILD_ID
    short_keys: int = -1  # the number of the map that has those keys in which no string is long
    within: int = -1  # the number of the map whose values have this one's as a part, and where
    place: int = 0

    @property
    def is_by_cpu(self) -> bool:
        """Whether it is an array with an element for each CPU, by a key that is the CPU's number."""
        return self.type == ARRAY and self.key is not None

    @property
    def is_script_map(self) -> bool:
        """Whether the script named it (and it is printed at the end)."""
        return self.name.startswith("@")


def is_long_string(kind: Type) -> bool:
    """Whether it is a string that takes SHORT_STRING_BYTES where it is short."""
    return isinstance(kind, String) and kind.capacity > _LONG_STRING_BYTES


def holds_stacks(layout: MapLayout) -> bool:
    """Whether it is a map of stacks as addresses, by id."""
    return layout.type == STACK_TRACE and not layout.flags & STACK_BUILD_ID


class RecordLayout(Struct):
    """A kind of record in the ring: ``kind`` says what is to be done, ``text`` is its format or label.

    A record begins with the number of its kind, a u64; of an event (``kind`` emit), a u32 that the CPU's follows.
    Fields of type Variable have their bytes after all fields, in order, each padded to a multiple of 8.
    """

    kind: str
    text: str
    fields: Tuple
    numbers: tuple[int, ...] = ()  # map number and the like, known when compiling
    names: tuple[str, ...] = ()
    ring: int = 0  # number of the ring's map

    @property
    def size(self) -> int:
        """Bytes of a record, or of its fixed part: the number of its kind, then the fields."""
        return 8 + self.fields.size


class Layout(Struct):
    """All maps and records of a script, numbered in the order they were asked for."""

    max_keys: int = 4096
    ring_bytes: int = 1 << 22
    maps: list[MapLayout] = field(default_factory=list)
    records: list[RecordLayout] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    drops_events: bool = False  # the script has emit(), which was asked to do nothing
    _numbers: dict[str, int] = field(default_factory=dict)
    _zeros: int = 0

    def _own(self, name: str, type_: int, key_size: int, value_size: int, entries: int) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.maps)
            self.maps.append(MapLayout(name, type_, key_size, value_size, entries))
        return self._numbers[name]

    def script_map(
        self,
        name: str,
        key: Tuple | None,
        value: Type,
        *,
        evicts: bool = False,
        entries: int = 0,
        may_split: bool = False,
    ) -> int:
        """The number of the script's map ``name``.

        ``may_split``: short keys may be in a map of their own.
        ``evicts``: a new key takes the place of one that was not used lately, where the map is full of ``entries``.
        """
        if name not in self._numbers:
            self._numbers[name] = len(self.maps)
            per_cpu = isinstance(value, Aggregation)
            size = stored_size(value)
            if key is None:
                type_, key_size, entries = (PERCPU_ARRAY if per_cpu else ARRAY), 4, 1
                size += PRESENT_BYTES
            else:
                type_ = (LRU_PERCPU_HASH if per_cpu else LRU_HASH) if evicts else PERCPU_HASH if per_cpu else HASH
                key_size, entries = key.size, entries or self.max_keys
            self.maps.append(MapLayout(name, type_, key_size, size, entries, key, value))
            if may_split and key is not None and any(map(is_long_string, key.elements)):
                self._split(name, self.maps[-1], key)
        return self._numbers[name]

    def _split(self, name: str, whole: MapLayout, key: Tuple) -> None:
        kinds = [String(SHORT_STRING_BYTES) if is_long_string(kind) else kind for kind in key.elements]
        short = replace(key, elements=tuple(kinds))
        whole.short_keys = self._own(f"short {name}", whole.type, short.size, whole.value_size, whole.max_entries)
        self.maps[whole.short_keys].key = short

    def joint_map(self, parts: Mapping[str, Type], key: Tuple) -> None:
        """Lay out maps of the script that are always added to together, at one key: one map of the kernel's."""
        names = ", ".join(parts)
        size = sum(map(stored_size, parts.values()))
        holder = self._own(f"joint {names}", PERCPU_HASH, key.size, size, self.max_keys)
        self.maps[holder].key = key
        if any(map(is_long_string, key.elements)):
            self._split(names, self.maps[holder], key)
        place = 0
        for name, kind in parts.items():
            self._numbers[name] = len(self.maps)
            own = MapLayout(name, PERCPU_HASH, key.size, stored_size(kind), self.max_keys, key, kind)
            own.within, own.place = holder, place
            self.maps.append(own)
            place += own.value_size

    def cpu_map(self, name: str, key: Tuple, value: Type) -> None:
        """Lay out a map of the script whose only keys are CPUs: an array, whose elements do not share cache lines."""
        size = stored_size(value)
        padded = -(-(size + PRESENT_BYTES) // _CACHE_LINE) * _CACHE_LINE
        holder = self._own(f"each CPU's {name}", ARRAY, 4, padded, possible_cpus())
        self.maps[holder].key = key
        self._numbers[name] = len(self.maps)
        self.maps.append(MapLayout(name, HASH, key.size, size, possible_cpus(), key, value, within=holder))

    def holder(self, name: str) -> int:
        """The number of the map that has the values of the script's map ``name``."""
        number = self._numbers[name]
        within = self.maps[number].within
        return number if within < 0 else within

    def number(self, name: str) -> int:
        """The number of a script's map that is laid out already."""
        return self._numbers[name]

    def ring_map(self) -> int:
        """The ring that records for the runtime go through."""
        return self._own("ring", RINGBUF, 0, 0, self.ring_bytes)

    def event_ring(self) -> int:
        """The ring that the events of all labels go through."""
        return self._own("events", RINGBUF, 0, 0, max(self.ring_bytes, EVENT_RING_BYTES))

    def event_kind(self, event: RecordLayout) -> int:
        """The number of an event's kind: events that look alike share it."""
        return self.records.index(event) if event in self.records else self.record(event)

    @property
    def labels(self) -> list[str]:
        """The labels of the events, in the order in which they were first seen."""
        return list(dict.fromkeys(record.text for record in self.records if record.kind == "emit"))

    def lost_events_map(self) -> int:
        """Counts events that found the ring full, by number of their label, per CPU."""
        number = self._own("lost events", PERCPU_ARRAY, 4, 8, 1)
        self.maps[number].max_entries = max(1, len(self.labels))
        return number

    def fit_ring(self) -> None:
        """Make the ring as small as it may be when nothing but exit() writes into it."""
        if all(record.kind in ("exit", "emit") for record in self.records) and "ring" in self._numbers:
            self.maps[self._numbers["ring"]].max_entries = PAGE_BYTES

    def lost_map(self) -> int:
        """Counts what was lost, per CPU: LOST_RING_FULL and so on."""
        return self._own("lost", PERCPU_ARRAY, 4, 8, LOST_CELLS)

    def exit_map(self) -> int:
        """Set by exit() and when the run ends: EXIT_ASKED, and the status in the bits below."""
        return self._own("exit", ARRAY, 4, 8, 1)

    def scratch_map(self) -> int:
        """Memory for what the stack has no room for: an element for each CPU, in which each program has its own part.

        A map per CPU would be limited to 32 KiB (PCPU_MIN_UNIT_SIZE of include/linux/percpu.h).
        """
        return self._own("scratch", ARRAY, 4, 0, possible_cpus())

    def scratch_bytes(self) -> int:
        """How much of the scratch memory of a CPU is taken."""
        return self.maps[self._numbers["scratch"]].value_size if "scratch" in self._numbers else 0

    def take_scratch(self, size: int) -> None:
        """The program that is lowered now has so many bytes of it; the next one's follow."""
        if size:
            self.maps[self.scratch_map()].value_size += -(-size // _CACHE_LINE) * _CACHE_LINE

    def stack_map(self, name: str, depth: int, *, build_ids: bool = False, second: bool = False) -> int:
        """Stacks by id; deeper frames than ``depth`` are cut. ``build_ids``: see types.Stack.

        The kernel hashes a stack to a bucket, which keeps the first that comes: another one goes to the map's
        ``second``, and is lost if its bucket there is taken, too. Of n stacks in b buckets n * n / 2b collide, about.
        There are 16 buckets for each key of a map, as far as memory allows, and 2 in the second map.
        """
        entries = (1 if second else 8) << (max(self.max_keys, _FEWEST_STACK_KEYS) - 1).bit_length()
        frame_bytes = BUILD_ID_FRAME_BYTES if build_ids else 8
        while entries * (frame_bytes * depth + _STACK_OVERHEAD_BYTES) > _MAX_STACK_MAP_BYTES:
            entries //= 2
        # The kernel makes memory for this many stacks, and their buckets a power of two: twice as many for one more.
        number = self._own(name + SECOND * second, STACK_TRACE, 4, frame_bytes * depth, entries + 1)
        self.maps[number].flags = STACK_BUILD_ID if build_ids else 0
        return number

    def parts_map(self, program: int) -> int:
        """Leads to the parts of a program that is too long for one."""
        return self._own(f"parts {program}", PROG_ARRAY, 4, 4, 1)

    def zeros_map(self, size: int) -> int:
        """At least ``size`` zero bytes."""
        number = self._own("zeros", ARRAY, 4, size, 1)
        self.maps[number].value_size = max(size, self.maps[number].value_size)
        return number

    def point_names_map(self, kind: str, capacity: int) -> int:
        """The texts of attach points ("probe": their names, "func": their functions) by number of the point."""
        return self._own(f"names: {kind}", ARRAY, 4, capacity, 1)

    def fit_point_names(self, points: int) -> None:
        """Give the maps of names room for that many points, which are numbered from 1."""
        for each in self.maps:
            if each.name.startswith("names: "):
                each.max_entries = points + 1

    def record(self, record: RecordLayout) -> int:
        """The number of this kind of record."""
        self.records.append(record)
        return len(self.records) - 1

    def text(self, text: str) -> int:
        """The number of a text that user space shows for a number."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)
