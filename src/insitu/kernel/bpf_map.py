"""BPF maps: make, look up, update, and read whole maps with as few system calls as the kernel allows."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Iterator, Mapping
from functools import cache

from insitu.kernel.bpf import BpfError, address, bpf, object_name, refusal
from insitu.kernel.bpf_abi import Command, MapBatch, MapCreate, MapElement, MapType

__all__ = ["MMAPABLE", "NO_PREALLOC", "OLD_MAX_KEY_BYTES", "Map", "possible_cpus", "takes_long_keys"]

NO_PREALLOC = 1 << 0  # BPF_F_NO_PREALLOC
MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
OLD_MAX_KEY_BYTES = 512  # MAX_BPF_STACK, which kernel/bpf/hashtab.c once compared keys with

_PER_CPU = {MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH}
_ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}
_BATCH = 4096  # elements per call
_BATCH_TOKEN_BYTES = 8  # hash maps resume at a u32 bucket number, arrays at a u32 index
_ENOTSUPP = 524
_NO_BATCH = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, _ENOTSUPP}


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map holds for each key (/sys/devices/system/cpu/possible, as in "0-3,8")."""
    with open("/sys/devices/system/cpu/possible") as file:  # noqa: PTH123 - pathlib alone would be a tenth of a start
        ranges = file.read().strip()
    return 1 + max(int(part.rpartition("-")[2]) for part in ranges.split(","))


def takes_long_keys() -> bool:
    """Whether the kernel has hash maps with keys of more than 512 bytes (here at least: 5.10 has not, 6.1 has)."""
    try:
        Map(MapType.HASH, OLD_MAX_KEY_BYTES + 8, 8, 1, name="long_key", flags=NO_PREALLOC).close()
    except BpfError as error:
        return error.errno != errno.E2BIG
    return True


class Map:
    """A map and its descriptor. Keys and values are bytes; a per-CPU value is an array of one per CPU."""

    def __init__(
        self, map_type: MapType, key_size: int, value_size: int, max_entries: int, *, name: str = "", flags: int = 0
    ) -> None:
        """Create it. ``value_size`` is that of one CPU. :raises BpfError:"""
        self.type = map_type
        self.key_size, self.value_size, self.max_entries = key_size, value_size, max_entries
        self.name = name
        self.per_cpu = map_type in _PER_CPU
        # The kernel pads each CPU's value to 8 bytes (kernel/bpf/syscall.c: bpf_map_value_size).
        self._cpu_stride = -(-value_size // 8) * 8
        self._value_bytes = self._cpu_stride * possible_cpus() if self.per_cpu else value_size
        self._key = ctypes.create_string_buffer(max(1, key_size))
        self._value = ctypes.create_string_buffer(max(1, self._value_bytes))
        self._batches = True
        attr = MapCreate(
            map_type=int(map_type),
            key_size=key_size,
            value_size=value_size,
            max_entries=max_entries,
            map_flags=flags,
            map_name=object_name(name),
        )
        self.fd = _create(attr, name)

    def __enter__(self) -> Map:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back; the map lives on while a loaded program uses it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lookup(self, key: bytes) -> bytes | None:
        """The value of ``key`` (a per-CPU map's: all CPUs' values, each padded to 8 bytes), or None."""
        try:
            self._element(Command.MAP_LOOKUP_ELEM, key)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise refusal(f"read map {self.name}", error) from None
        return self._value.raw[: self._value_bytes]

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of ``key`` (a per-CPU map's: as lookup() answers it)."""
        if len(value) != self._value_bytes:
            raise ValueError(f"map {self.name} holds values of {self._value_bytes} bytes, not {len(value)}")
        ctypes.memmove(self._value, value, len(value))
        try:
            self._element(Command.MAP_UPDATE_ELEM, key)
        except OSError as error:
            raise refusal(f"write map {self.name}", error) from None

    def update_many(self, elements: Mapping[bytes, bytes]) -> None:
        """Set the values of many keys, at once where this kernel can (BPF_MAP_UPDATE_BATCH, Linux 5.6)."""
        keys, values = b"".join(elements), b"".join(elements.values())
        if len(keys) != self.key_size * len(elements) or len(values) != self._value_bytes * len(elements):
            raise ValueError(f"map {self.name} has keys of {self.key_size} bytes and values of {self._value_bytes}")
        if not elements:
            return
        attr = MapBatch(keys=address(keys), values=address(values), count=len(elements), map_fd=self.fd)
        try:
            bpf(Command.MAP_UPDATE_BATCH, attr)
        except OSError as error:
            if error.errno not in _NO_BATCH:
                raise refusal(f"write map {self.name}", error) from None
            for key, value in elements.items():
                self.update(key, value)

    def delete(self, key: bytes) -> bool:
        """Remove ``key``; whether it was there."""
        try:
            self._element(Command.MAP_DELETE_ELEM, key)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise refusal(f"delete from map {self.name}", error) from None
        return True

    def _element(self, command: Command, key: bytes) -> None:
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name} has keys of {self.key_size} bytes, not {len(key)}")
        ctypes.memmove(self._key, key, len(key))
        attr = MapElement(map_fd=self.fd, key=address(self._key))
        if command != Command.MAP_DELETE_ELEM:
            attr.value = address(self._value)
        bpf(command, attr)

    def keys(self) -> Iterator[bytes]:
        """Every key, one system call each. A map that changes meanwhile may show a key twice or miss one."""
        following = ctypes.create_string_buffer(max(1, self.key_size))
        attr = MapElement(map_fd=self.fd, value=address(following))
        for _ in range(2 * self.max_entries):  # deletions send the walk back to the start: bound it
            try:
                bpf(Command.MAP_GET_NEXT_KEY, attr)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise refusal(f"walk map {self.name}", error) from None
            key = following.raw[: self.key_size]
            yield key
            ctypes.memmove(self._key, key, self.key_size)
            attr.key = address(self._key)

    def items(self) -> list[tuple[bytes, bytes]]:
        """The whole map: keys and values, a per-CPU map's as lookup() answers them."""
        return (self._batched() if self._batches else None) or self._one_by_one()

    def take(self) -> list[tuple[bytes, bytes]]:
        """The whole map of a hash, which is emptied: what comes meanwhile is in the next call's, or in this one's.

        Before Linux 5.6, what comes between reading and emptying is lost.
        """
        if self._batches and (found := self._batched(Command.MAP_LOOKUP_AND_DELETE_BATCH)) is not None:
            return found
        found = self._one_by_one()
        for key, _ in found:
            self.delete(key)
        return found

    def _batched(self, command: Command = Command.MAP_LOOKUP_BATCH) -> list[tuple[bytes, bytes]] | None:
        """All elements by a batch command; None where this kernel has no such operation for this kind of map."""
        tokens = [ctypes.create_string_buffer(max(_BATCH_TOKEN_BYTES, self.key_size)) for _ in range(2)]
        room = min(_BATCH, self.max_entries)
        found: list[tuple[bytes, bytes]] = []
        resumed = False
        while True:
            keys = ctypes.create_string_buffer(room * self.key_size)
            values = ctypes.create_string_buffer(room * self._value_bytes)
            attr = MapBatch(
                in_batch=address(tokens[0]) if resumed else 0,
                out_batch=address(tokens[1]),
                keys=address(keys),
                values=address(values),
                count=room,
                map_fd=self.fd,
            )
            try:
                bpf(command, attr)
                last = False
            except OSError as error:
                if error.errno in _NO_BATCH and not resumed:
                    self._batches = False
                    return None
                if error.errno == errno.ENOSPC:  # one bucket of the hash holds more elements than there was room for
                    room *= 2
                    continue
                if error.errno != errno.ENOENT:
                    raise refusal(f"read map {self.name}", error) from None
                last = True
            found += zip(
                _pieces(keys, self.key_size, attr.count), _pieces(values, self._value_bytes, attr.count), strict=True
            )
            if last:
                return found
            tokens.reverse()
            resumed = True

    def _one_by_one(self) -> list[tuple[bytes, bytes]]:
        return [(key, value) for key in list(self.keys()) if (value := self.lookup(key)) is not None]

    def clear(self) -> None:
        """Remove every element; an array's are set to zero."""
        if self.type in _ARRAYS:
            zero = bytes(self._value_bytes)
            for index in range(self.max_entries):
                self.update(index.to_bytes(4, "little"), zero)
            return
        self._remove(self.items())

    def _remove(self, elements: list[tuple[bytes, bytes]]) -> None:
        keys = [key for key, _ in elements]
        joined = b"".join(keys)
        attr = MapBatch(keys=address(joined), count=len(keys), map_fd=self.fd)
        try:
            if keys:
                bpf(Command.MAP_DELETE_BATCH, attr)
        except OSError:  # no such operation, or a key has vanished meanwhile and stopped the batch
            for key in keys:
                self.delete(key)

    def mapped(self) -> mmap.mmap:
        """The values of an array made with MMAPABLE, in memory: read and written without system calls."""
        return mmap.mmap(self.fd, -(-self.max_entries * self._cpu_stride // mmap.PAGESIZE) * mmap.PAGESIZE)


def _pieces(buffer: ctypes.Array[ctypes.c_char], size: int, count: int) -> Iterator[bytes]:
    """The first ``count`` pieces of ``size`` bytes."""
    view = memoryview(buffer)
    return (bytes(view[at : at + size]) for at in range(0, count * size, size))


def _create(attr: MapCreate, name: str) -> int:
    try:
        return bpf(Command.MAP_CREATE, attr)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise refusal(f"make map {name or '(unnamed)'} of {attr.max_entries} entries", error) from None
    # Kernels before 5.11 charge maps against the locked-memory limit.
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return bpf(Command.MAP_CREATE, attr)
    except (OSError, ValueError):
        raise refusal(f"make map {name or '(unnamed)'}", OSError(errno.EPERM, os.strerror(errno.EPERM))) from None
