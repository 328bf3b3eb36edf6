"""Open a recording: a session directory, or a file that another tool recorded."""

from pathlib import Path

from insitu.session.profile import Profile

__all__ = ["load_profile", "open_session"]


def open_session(path: str | Path) -> "object":
    """Open a session directory (see Session)."""
    raise NotImplementedError


def load_profile(path: str | Path) -> Profile:
    """The samples of a recording: a session directory, a perf.data file or folded stacks.

    Raises InsituError when ``path`` is none of these or cannot be read.
    """
    raise NotImplementedError
