"""The lab's directories: kernels, builds and snapshots in the cache, running guests in the runtime directory."""

import os
import shutil
from pathlib import Path

from insitu.cache_home import cache_home
from insitu.errors import InsituError
from insitu.files import temporary_home

__all__ = ["cache_directory", "guests_directory", "need_space"]


def cache_directory(kind: str) -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/insitu/KIND``; created if it does not exist."""
    path = Path(cache_home()) / "insitu" / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


def guests_directory() -> Path:
    """The directory that has one subdirectory per running guest; accessible to this user only.

    Its name is short because a Unix socket's path has at most 107 bytes (``sun_path``, unix(7)).
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or temporary_home())
    path = base / f"insitu-lab-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InsituError(
            f"{path} belongs to another user or is accessible to others; guests' sockets must not be",
            remedy="remove it, or set XDG_RUNTIME_DIR",
        )
    return path


def need_space(directory: Path, needed_bytes: int) -> None:
    """Raise InsituError unless ``directory``'s file system has ``needed_bytes`` free."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise InsituError(
            f"not enough disk space: {directory} has {free >> 20} MB free, about {needed_bytes >> 20} MB are needed",
            remedy="free some, or set XDG_CACHE_HOME",
        )
