"""Where functions begin in binaries that an earlier run has read, so that a start from the cache reads no symbols.

What is kept of a binary is valid for that state of that file alone: its identity and its beginning, in which linkers
put the build id, are in the key. Only functions that were found by their exact raw name are kept: what else a name
could match depends on debug files, too.
"""

from __future__ import annotations

import os
from typing import Protocol

from msgspec import Struct

from insitu.errors import InsituError
from insitu.foreign_files import file_identity, open_foreign, open_kernel_link
from insitu.kernel import procfs
from insitu.probe.providers.support.archives import archived

__all__ = ["KnownPlaces"]

_BEGINNING_BYTES = 4096


class _Binary(Struct):
    """An open binary: its identity when it was opened, the key of what is kept of it, offsets by function."""

    descriptor: int
    identity: str
    key: str
    offsets: dict[str, int]
    changed: bool = False


class Store(Protocol):
    """Where places are kept: insitu.probe.cache."""

    def places_key(self, identity: str, beginning: bytes) -> str:
        """What identifies a state of a binary."""

    def load_places(self, key: str) -> dict[str, int]:
        """File offsets by function."""

    def store_places(self, key: str, offsets: dict[str, int]) -> None:
        """Keep them."""


class KnownPlaces:
    """File offsets of functions, by the path under which the kernel finds the binary (Place.path)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._binaries: dict[str, _Binary | None] = {}

    def offset(self, path: str, function: str) -> int | None:
        """Where that function begins in the file; None where that is not known."""
        found = self._binary(path)
        return found.offsets.get(function) if found is not None else None

    def descriptor(self, path: str) -> int | None:
        """The open file of which offset() spoke; None for one of which nothing is known."""
        found = self._binaries.get(path)
        return found.descriptor if found is not None and found.offsets else None

    def add(self, path: str, identity: str, function: str, offset: int) -> None:
        """Note where a function is that was read from a file of that identity, which is what it was afterwards."""
        found = self._binary(path)
        if found is not None and found.identity == identity:
            found.offsets[function] = offset
            found.changed = True

    def keep(self) -> None:
        """Write what was added to the cache."""
        for each in self._binaries.values():
            if each is not None and each.changed:
                self._store.store_places(each.key, each.offsets)
                each.changed = False

    def close(self) -> None:
        """Close the files."""
        while self._binaries:
            found = self._binaries.popitem()[1]
            if found is not None:
                os.close(found.descriptor)

    def _binary(self, path: str) -> _Binary | None:
        if path not in self._binaries:
            self._binaries[path] = _opened(path, self._store)
        return self._binaries[path]


def _opened(path: str, store: Store) -> _Binary | None:
    """None for what is in an archive, or cannot be opened: reading it will say why."""
    if archived(path)[1]:
        return None
    root, inner = procfs.split_root(path)
    try:
        # As in Context.elf().
        descriptor = open_kernel_link(path) if root == "/" else open_foreign(inner, root=root)
    except (OSError, InsituError):
        return None
    try:
        identity = file_identity(descriptor)
        key = store.places_key(identity, os.pread(descriptor, _BEGINNING_BYTES, 0))
        return _Binary(descriptor, identity, key, store.load_places(key))
    except OSError:
        os.close(descriptor)
        return None
