"""A map of the script whose keys are CPUs: in the kernel an array."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.kernel.bpf_map import Map
from insitu.probe.layout import PRESENT_BYTES, MapLayout

__all__ = ["CpuMap"]

_INDEX_BYTES = 4


class CpuMap(Map):
    """The elements that were assigned, by CPU: a flag after each value in the array says whether it was."""

    def __init__(self, array: Map, layout: MapLayout) -> None:
        """``layout`` is what the script sees: keys of 8 bytes, values as it stores them."""
        vars(self).update(vars(array))
        self.fd = -1  # no program refers to it
        self._array = array
        self._key_bytes, self._size = layout.key_size, layout.value_size

    def _stored(self, value: bytes) -> bytes:
        gap = self._array.value_size - self._size - PRESENT_BYTES
        return value + bytes(gap) + (1).to_bytes(PRESENT_BYTES, "little")

    def lookup(self, key: bytes) -> bytes | None:
        value = self._array.lookup(key[:_INDEX_BYTES])
        return value[: self._size] if value is not None and any(value[-PRESENT_BYTES:]) else None

    def update(self, key: bytes, value: bytes) -> None:
        self._array.update(key[:_INDEX_BYTES], self._stored(value))

    def update_many(self, elements: Mapping[bytes, bytes]) -> None:
        for key, value in elements.items():
            self.update(key, value)

    def delete(self, key: bytes) -> bool:
        there = self.lookup(key) is not None
        self._array.update(key[:_INDEX_BYTES], bytes(self._array.value_size))
        return there

    def items(self) -> list[tuple[bytes, bytes]]:
        return [
            (index.ljust(self._key_bytes, b"\0"), value[: self._size])
            for index, value in self._array.items()
            if any(value[-PRESENT_BYTES:])
        ]

    def take(self) -> list[tuple[bytes, bytes]]:
        found = self.items()
        for key, _ in found:
            self.delete(key)
        return found

    def clear(self) -> None:
        self._array.clear()
