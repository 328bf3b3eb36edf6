"""Whether a file system has room for what is about to be written."""

import shutil
from pathlib import Path

from insitu.errors import InsituError

__all__ = ["need_space"]


def need_space(directory: Path, needed: int) -> None:
    """Raise InsituError unless ``directory``'s file system has ``needed`` bytes free."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise InsituError(
            f"no space: {directory} has {free >> 20} MB free, and this needs about {needed >> 20} MB",
            remedy="free some, or set XDG_CACHE_HOME",
        )
