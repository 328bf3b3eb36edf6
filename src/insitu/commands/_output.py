"""What a recording says on standard error while it runs, and what it displaces: an earlier one, kept as NAME.old."""

import os

from insitu import messages

__all__ = ["Displaced", "progress"]


class Displaced:
    """Looks at a path before a recording is made there, so that ``report`` can say afterwards what was moved."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path).rstrip("/")
        self._old = f"{self._path}.old"
        self._here, self._before = _inode(self._path), _inode(self._old)

    def report(self) -> None:
        """Print one line if the earlier recording is at NAME.old now, and say so if another had to go for it."""
        if self._here is None or _inode(self._old) != self._here:
            return
        removed = "" if self._before is None else "; the one before that is removed"
        messages.note(f"the previous {self._path} is kept as {self._old}{removed}")


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - --help imports this
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def progress(seconds: float, size: int) -> None:
    """Show how far a recording is; only on a terminal."""
    messages.progress(f"recording, {seconds:.0f} s, {size / 1e6:.1f} MB; Ctrl-C ends it")
