"""A map of the script whose keys are in two maps of the kernel's, by the length of their strings."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.kernel.bpf_map import Map
from insitu.probe.layout import SHORT_STRING_BYTES, is_long_string
from insitu.probe.types import Tuple, stored_size

__all__ = ["SplitMap"]


class SplitMap(Map):
    """The map of long keys, which shows those of the map of short ones as its own."""

    def __init__(self, long: Map, short: Map, key: Tuple) -> None:
        """``key`` is the type of the long keys."""
        vars(self).update(vars(long))
        self._short = short
        # What a short key lacks: where it begins in a long one, and how many bytes it has.
        self._cuts = [
            (key.offset(index) + SHORT_STRING_BYTES, stored_size(kind) - SHORT_STRING_BYTES)
            for index, kind in enumerate(key.elements)
            if is_long_string(kind)
        ]

    def _shortened(self, key: bytes) -> bytes | None:
        """The short form of a key; None for one that has none."""
        if any(key[at - 1] for at, _ in self._cuts):
            return None
        for at, size in reversed(self._cuts):
            key = key[:at] + key[at + size :]
        return key

    def _lengthened(self, elements: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        found = []
        for key, value in elements:
            for at, size in self._cuts:
                key = key[:at] + bytes(size) + key[at:]
            found.append((key, value))
        return found

    def lookup(self, key: bytes) -> bytes | None:
        short = self._shortened(key)
        return super().lookup(key) if short is None else self._short.lookup(short)

    def update(self, key: bytes, value: bytes) -> None:
        short = self._shortened(key)
        if short is None:
            super().update(key, value)
        else:
            self._short.update(short, value)

    def update_many(self, elements: Mapping[bytes, bytes]) -> None:
        for key, value in elements.items():
            self.update(key, value)

    def delete(self, key: bytes) -> bool:
        short = self._shortened(key)
        return super().delete(key) if short is None else self._short.delete(short)

    def items(self) -> list[tuple[bytes, bytes]]:
        return super().items() + self._lengthened(self._short.items())

    def take(self) -> list[tuple[bytes, bytes]]:
        return super().take() + self._lengthened(self._short.take())

    def clear(self) -> None:
        self._remove(super().items())
        self._short.clear()
