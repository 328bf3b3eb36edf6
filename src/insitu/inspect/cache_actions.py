"""Bring files into the page cache, drop them from it, keep them there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from insitu.errors import InsituError
from insitu.inspect.page_cache import FileCache, Selection, opened
from insitu.kernel import procfs
from insitu.kernel.page_cache import locked

__all__ = ["evict", "lock", "touch"]

_CHUNK_BYTES = 1 << 20

Progress = Callable[[int], None]


def touch(file: FileCache, selection: Selection, progress: Progress = lambda size: None) -> int:
    """Read a file into the page cache; returns the bytes read. Raises OSError."""
    done = 0
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with opened(file) as descriptor:
        first, length = selection.part(os.lseek(descriptor, 0, os.SEEK_END))
        os.posix_fadvise(descriptor, first, length, os.POSIX_FADV_SEQUENTIAL)
        while done < length and (got := os.preadv(descriptor, [buffer[: length - done]], first + done)):
            done += got
            progress(got)
    return done


def evict(file: FileCache, selection: Selection) -> None:
    """Write what is dirty to the disk and drop a file from the page cache; the kernel keeps what is mapped or locked.

    Raises OSError.
    """
    with opened(file) as descriptor:
        first, length = selection.part(os.lseek(descriptor, 0, os.SEEK_END))
        if length:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, first, length, os.POSIX_FADV_DONTNEED)


@contextmanager
def lock(files: Iterable[FileCache]) -> Iterator[int]:
    """Keep files in memory, as long as the context lasts; yields their bytes. Raises InsituError."""
    files = list(files)
    total, free = 0, procfs.available_memory()
    if (wanted := sum(file.size for file in files)) > free:
        # Of root mlock(2) takes all that there is, until the kernel ends processes.
        raise InsituError(f"{wanted:,} bytes cannot be locked: {free:,} are available", remedy="lock less, or a part")
    with ExitStack() as held:
        for file in files:
            try:
                descriptor = held.enter_context(opened(file))
                size = os.lseek(descriptor, 0, os.SEEK_END)
                if size:
                    held.enter_context(locked(descriptor, size))
            except OSError as error:
                why = error.strerror
                if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EPERM):
                    why = "it is larger than what you may lock, or than what fits into memory"
                raise InsituError(
                    f"{file.path} cannot be locked: {why}", remedy="ulimit -l; root has no limit"
                ) from None
            total += size
        yield total
