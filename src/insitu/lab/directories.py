"""The lab's directories: kernels, builds and snapshots in the cache, running guests in the runtime directory."""

import os
import shutil
from pathlib import Path

from insitu.cache_home import cache_home, own_cache, own_directory
from insitu.errors import InsituError

__all__ = ["cache_directory", "guests_directory", "need_space"]


def cache_directory(kind: str) -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/insitu/KIND``; created if it does not exist. Raises InsituError if not ours."""
    path = own_cache(kind)
    if path is None:
        raise InsituError(
            f"{cache_home()}/insitu cannot be our cache: it must be yours, and no other user may write to it",
            remedy="set XDG_CACHE_HOME to a directory of your own",
        )
    return Path(path)


def guests_directory() -> Path:
    """The directory that has one subdirectory per running guest; accessible to this user only.

    Its name is short because a Unix socket's path has at most 107 bytes (``sun_path``, unix(7)). It lies where no
    other user can make it first.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    bases = [given] * bool(given) + ["/run"] * (os.geteuid() == 0)
    for base in bases:
        path = own_directory(f"{base}/insitu-lab")
        if path is not None:
            return Path(path)
    return cache_directory("guests")


def need_space(directory: Path, needed_bytes: int) -> None:
    """Raise InsituError unless ``directory``'s file system has ``needed_bytes`` free."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise InsituError(
            f"not enough disk space: {directory} has {free >> 20} MB free, about {needed_bytes >> 20} MB are needed",
            remedy="free some, or set XDG_CACHE_HOME",
        )
