"""Where this user's programs keep what they can make anew (XDG Base Directory Specification)."""

import os

__all__ = ["cache_home"]


def cache_home() -> str:
    """``${XDG_CACHE_HOME:-~/.cache}``, in which ours is "insitu". Text: every start asks, and pathlib takes long."""
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
