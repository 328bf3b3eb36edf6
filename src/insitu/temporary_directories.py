"""Directories that are gone when the process that made them is, even if it was killed.

Each is locked (flock(2)) for as long as it is in use. Whoever makes one of the same kind in the same place removes
those of this user that nobody has locked. Names cannot be guessed, so nobody else can prepare them.
"""

# Reading does without pathlib and shutil where it can.
# ruff: noqa: PTH118, PTH208

import contextlib
import fcntl
import os
from typing import Final

from insitu.files import make_directory

__all__ = ["TemporaryDirectory"]

_RANDOM_BYTES: Final = 6
_DIGITS: Final = frozenset("0123456789abcdef")
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TemporaryDirectory:
    """A new directory in ``home``, for its owner alone; its name is random but for ``prefix`` and ``suffix``."""

    def __init__(self, home: str, prefix: str, suffix: str) -> None:
        """Raises OSError."""
        self._lock = -1
        _remove_abandoned(home, prefix, suffix)
        while True:
            self.path = os.path.join(home, f"{prefix}{os.urandom(_RANDOM_BYTES).hex()}{suffix}")
            try:
                make_directory(self.path)
                if self._locked():
                    return
            except BaseException:
                self.remove()
                raise

    def _locked(self) -> bool:
        """Lock it; returns whether it is still there, which another process may have found not yet locked."""
        try:
            self._lock = os.open(self.path, _OPEN)
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):  # a file system without locks, where nothing abandoned is removed
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        if os.fstat(self._lock).st_nlink:
            return True
        self.release()
        return False

    def release(self) -> None:
        """Unlock it: it has been renamed, and stays. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """Remove it, as far as that is possible. Idempotent."""
        import shutil

        self.release()  # first: there may be no descriptor left to list it with
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_abandoned(home: str, prefix: str, suffix: str) -> None:
    """Remove this user's directories of such names that no process has locked."""
    try:
        names = os.listdir(home)
    except OSError:
        return
    for name in names:
        middle = name[len(prefix) : len(name) - len(suffix)]
        ours = name == f"{prefix}{middle}{suffix}" and len(middle) == 2 * _RANDOM_BYTES and _DIGITS.issuperset(middle)
        if ours:
            with contextlib.suppress(OSError):
                _remove_unlocked(os.path.join(home, name))


def _remove_unlocked(path: str) -> None:
    import shutil

    lock = os.open(path, _OPEN)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
