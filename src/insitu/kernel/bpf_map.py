"""BPF maps: make, look up, update, and drain whole maps into arrays with as few system calls as the kernel allows."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from insitu.kernel.bpf import address, bpf, object_name, refusal
from insitu.kernel.bpf_abi import Command, MapBatch, MapCreate, MapElement, MapType

__all__ = ["MMAPABLE", "NO_PREALLOC", "Map", "possible_cpus"]

Bytes = npt.NDArray[np.uint8]

NO_PREALLOC = 1 << 0  # BPF_F_NO_PREALLOC
MMAPABLE = 1 << 10  # BPF_F_MMAPABLE

_PER_CPU = {MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH}
_ARRAYS = {MapType.ARRAY, MapType.PERCPU_ARRAY}
_BATCH = 4096  # elements per call
_BATCH_TOKEN_BYTES = 8  # hash maps resume at a u32 bucket number, arrays at a u32 index
_ENOTSUPP = 524
_NO_BATCH = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, _ENOTSUPP}


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map holds for each key (/sys/devices/system/cpu/possible, as in "0-3,8")."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return 1 + max(int(part.rpartition("-")[2]) for part in ranges.split(","))


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

    def items(self) -> tuple[Bytes, Bytes]:
        """The whole map: keys (n, key_size) and values (n, value_size), per-CPU ones (n, CPUs, value_size)."""
        keys, values = (self._batched() if self._batches else None) or self._one_by_one()
        if self.per_cpu:
            values = values.reshape(len(values), possible_cpus(), self._cpu_stride)[:, :, : self.value_size]
        return keys, values

    def _batched(self) -> tuple[Bytes, Bytes] | None:
        """All elements by BPF_MAP_LOOKUP_BATCH; None where this kernel has no such operation for this kind of map."""
        tokens = [ctypes.create_string_buffer(max(_BATCH_TOKEN_BYTES, self.key_size)) for _ in range(2)]
        room = min(_BATCH, self.max_entries)
        found: list[tuple[Bytes, Bytes]] = []
        resumed = False
        while True:
            keys = np.empty((room, self.key_size), np.uint8)
            values = np.empty((room, self._value_bytes), np.uint8)
            attr = MapBatch(
                in_batch=address(tokens[0]) if resumed else 0,
                out_batch=address(tokens[1]),
                keys=keys.ctypes.data,
                values=values.ctypes.data,
                count=room,
                map_fd=self.fd,
            )
            try:
                bpf(Command.MAP_LOOKUP_BATCH, attr)
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
            found.append((keys[: attr.count], values[: attr.count]))
            if last:
                return np.concatenate([k for k, _ in found]), np.concatenate([v for _, v in found])
            tokens.reverse()
            resumed = True

    def _one_by_one(self) -> tuple[Bytes, Bytes]:
        pairs = [(key, value) for key in list(self.keys()) if (value := self.lookup(key)) is not None]
        keys = np.frombuffer(b"".join(key for key, _ in pairs), np.uint8).reshape(len(pairs), self.key_size)
        values = np.frombuffer(b"".join(value for _, value in pairs), np.uint8)
        return keys, values.reshape(len(pairs), self._value_bytes)

    def clear(self) -> None:
        """Remove every element; an array's are set to zero."""
        if self.type in _ARRAYS:
            zero = bytes(self._value_bytes)
            for index in range(self.max_entries):
                self.update(index.to_bytes(4, "little"), zero)
            return
        keys, _ = self.items()
        attr = MapBatch(keys=keys.ctypes.data, count=len(keys), map_fd=self.fd)
        try:
            if len(keys):
                bpf(Command.MAP_DELETE_BATCH, attr)
        except OSError:  # no such operation, or a key has vanished meanwhile and stopped the batch
            for key in keys:
                self.delete(key.tobytes())

    def mapped(self) -> mmap.mmap:
        """The values of an array made with MMAPABLE, in memory: read and written without system calls."""
        return mmap.mmap(self.fd, -(-self.max_entries * self._cpu_stride // mmap.PAGESIZE) * mmap.PAGESIZE)


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
