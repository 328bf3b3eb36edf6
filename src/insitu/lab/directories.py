"""Where the lab keeps things: fetched kernels and snapshots in the cache, running guests in the runtime directory."""

import os
import tempfile
from pathlib import Path

from insitu.cache_home import cache_home
from insitu.errors import InsituError

__all__ = ["cache_directory", "guests_directory"]


def cache_directory(kind: str) -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/insitu/KIND``, made when it is not there."""
    path = Path(cache_home()) / "insitu" / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


def guests_directory() -> Path:
    """The directory that holds one directory per running guest; only this user may enter it.

    The name is short on purpose: a Unix socket's path may have 107 characters (``sun_path``, unix(7)).
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    path = base / f"insitu-lab-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InsituError(
            f"{path} belongs to another user or is open to others, so guests' sockets would be too",
            remedy="remove it, or set XDG_RUNTIME_DIR",
        )
    return path
