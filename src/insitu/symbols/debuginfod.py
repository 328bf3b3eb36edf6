"""Files by build id from the servers in DEBUGINFOD_URLS, which elfutils' client fetches and keeps in its cache."""

import os
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Final, Literal

__all__ = ["advice", "cached", "fetched", "is_asked_for"]

_PROGRAM: Final = "debuginfod-find"
_MAX_FETCH_S: Final = 60
_MAX_WAITED_S: Final = 180
"""For files that no server had, or that did not come: after so long none is asked any more."""

_waited_s = [0.0]


def cached(build_id: str, kind: Literal["executable", "debuginfo"]) -> Path:
    """Where the client keeps a file, whether it is there or not."""
    if chosen := os.environ.get("DEBUGINFOD_CACHE_PATH"):
        return Path(chosen) / build_id / kind
    from insitu.cache_home import cache_home

    return Path(cache_home()) / "debuginfod_client" / build_id / kind


def is_asked_for() -> bool:
    """Whether the user has named servers."""
    return bool(os.environ.get("DEBUGINFOD_URLS", "").strip())


def advice() -> str:
    """What to do for files that are not here."""
    if not is_asked_for():
        return "DEBUGINFOD_URLS=SERVER"
    if shutil.which(_PROGRAM) is None:
        return f"install {_PROGRAM} for DEBUGINFOD_URLS"
    return "a server that has them in DEBUGINFOD_URLS"


@cache
def fetched(build_id: str, kind: Literal["executable", "debuginfo"]) -> Path | None:
    """The file from a server; None if there is none, no server is named, or the client is not installed."""
    program = shutil.which(_PROGRAM) if is_asked_for() and _waited_s[0] < _MAX_WAITED_S else None
    if program is None or not all(digit in "0123456789abcdef" for digit in build_id):
        return None
    begin = time.monotonic()
    try:
        words = [program, kind, build_id]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_MAX_FETCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode:
        _waited_s[0] += time.monotonic() - begin
        return None
    return Path(os.fsdecode(done.stdout.strip()))
