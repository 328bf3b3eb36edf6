"""Of a map of the kernel's that holds several maps of the script: one of these."""

from __future__ import annotations

from insitu.kernel.bpf_map import Map, possible_cpus

__all__ = ["JointMap"]


class JointMap(Map):
    """A part of the values of another map, one per CPU. It is read only, as elements belong to all parts; clear()
    clears them all."""

    def __init__(self, whole: Map, place: int, size: int) -> None:
        """``size`` bytes of each CPU's value are its own, from ``place`` on."""
        vars(self).update(vars(whole))
        self.fd = -1  # no program refers to it
        self._whole = whole
        stride = -(-whole.value_size // 8) * 8
        self._parts = [slice(at, at + size) for at in range(place, place + stride * possible_cpus(), stride)]

    def _part(self, value: bytes) -> bytes:
        return b"".join(value[part] for part in self._parts)

    def lookup(self, key: bytes) -> bytes | None:
        value = self._whole.lookup(key)
        return None if value is None else self._part(value)

    def items(self) -> list[tuple[bytes, bytes]]:
        return [(key, self._part(value)) for key, value in self._whole.items()]

    def clear(self) -> None:
        self._whole.clear()
