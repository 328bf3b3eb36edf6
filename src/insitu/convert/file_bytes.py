"""The bytes of a file as they are asked for. Not mapped: a file that is truncated meanwhile would end in SIGBUS."""

import os
from typing import IO, Final

__all__ = ["FileBytes"]

_SMALL_BYTES: Final = 1 << 20


class FileBytes:
    """A range of a file: ``len()`` is what it had when it was opened, ``data[low:high]`` reads a part (pread(2)).

    A part is shorter than asked for where the file has lost bytes since. Small files are read at once.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """``file`` is open for as long as something refers to this. Raises OSError."""
        self._file = file
        self._low, self._high = 0, os.fstat(file.fileno()).st_size
        self._whole = self._read(0, self._high) if self._high <= _SMALL_BYTES else None

    def __len__(self) -> int:
        return self._high - self._low

    def __getitem__(self, part: slice) -> memoryview:
        low, high, _ = part.indices(len(self))
        low, high = self._low + low, self._low + max(low, high)
        return memoryview(self._read(low, high) if self._whole is None else self._whole[low:high])

    def into(self, low: int, buffer: memoryview) -> int:
        """Read the bytes from ``low`` on into ``buffer``; returns their number, see ``data[low:high]``."""
        low = min(self._low + low, self._high)
        buffer, done = buffer[: self._high - low], 0
        if self._whole is not None:
            buffer[:] = self._whole[low : low + len(buffer)]
            return len(buffer)
        while done < len(buffer) and (count := os.preadv(self._file.fileno(), [buffer[done:]], low + done)):
            done += count
        return done

    def part(self, low: int, high: int) -> "FileBytes":
        """The bytes from ``low`` to ``high``, not read yet."""
        found = FileBytes.__new__(FileBytes)
        found._file, found._whole = self._file, self._whole
        found._low = min(self._low + low, self._high)
        found._high = max(found._low, min(self._low + high, self._high))
        return found

    def _read(self, low: int, high: int) -> bytes:
        parts = []
        while low < high and (read := os.pread(self._file.fileno(), high - low, low)):
            parts.append(read)
            low += len(read)
        return parts[0] if len(parts) == 1 else b"".join(parts)
