"""Where this user's programs keep what they can make anew (XDG Base Directory Specification)."""

# Text, not paths: every start of a program asks, and importing pathlib takes long.
# ruff: noqa: PTH102, PTH111, PTH116, PTH118, PTH120

import contextlib
import os
import stat

__all__ = ["cache_home", "own_cache", "own_directory"]

_ROOT = 0
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_home() -> str:
    """``${XDG_CACHE_HOME:-~/.cache}``, in which ours is "insitu"."""
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def own_cache(kind: str) -> str | None:
    """Our directory for one kind of thing, made if it is not there; None where it is not ours.

    Whoever can write there decides what we do: a directory of another user (as with sudo -E), one that others may
    write to and a symbolic link are neither read nor written.
    """
    home = cache_home()
    try:
        found = _made(home, follow=True)
        if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
            return None
    except OSError:
        return None
    ours = own_directory(os.path.join(home, "insitu"))
    return ours and own_directory(os.path.join(ours, kind))


def own_directory(path: str) -> str | None:
    """``path``, a directory that nobody else may write to, made if nothing is there; None where it is not ours."""
    try:
        found = _made(path)
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
    return path if is_ours else None


def _made(path: str, *, follow: bool = False) -> os.stat_result:
    """What is at ``path``; a directory is made where nothing is, but not inside another user's. Raises OSError."""
    try:
        return os.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        if os.stat(os.path.dirname(path)).st_uid not in (_ROOT, os.geteuid()):
            raise
    with contextlib.suppress(FileExistsError):  # another process made it meanwhile
        os.mkdir(path, 0o700)
    return os.stat(path, follow_symlinks=follow)
