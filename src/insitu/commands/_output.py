"""What a recording says on standard error while it runs, and what it displaces: an earlier one, kept as NAME.old."""

import os
from typing import TYPE_CHECKING

from insitu import limits, messages
from insitu.views import quantity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from insitu.record.run import Outcome, Request
    from insitu.record.source import Source
    from insitu.session.manifest import Manifest

__all__ = ["Displaced", "ended", "finished", "progress", "recorded", "status_of"]


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
    messages.progress(f"recording, {seconds:.0f} s, {quantity.size(size)}; Ctrl-C ends it")


def recorded(
    request: "Request", sources: "Sequence[Source]", path: "Path", *, quiet: bool, default_table: str = ""
) -> "tuple[Outcome, Manifest | None]":
    """Record a session and convert it; None where it is left unconverted, or that failed. Both are reported."""
    from insitu.record.run import record

    displaced = Displaced(path)
    outcome = record(request, sources, path, progress=None if quiet else progress, default_table=default_table)
    messages.progress("")
    if not quiet:
        displaced.report()
        for note in outcome.notes:
            messages.note(note)
    if outcome.abandoned:
        messages.note(f"left unconverted: {path} is converted when it is next opened")
        return outcome, None
    if outcome.failure:
        messages.error(outcome.failure)
    return outcome, finished(path)


def status_of(outcome: "Outcome", manifest: "Manifest | None") -> int:
    """The exit status of what was ``recorded``: the command's, else 1 if recording or converting has failed.

    One that was left unconverted because somebody gave up has that signal's.
    """
    return outcome.exit_status or int(manifest is None or bool(outcome.failure))


def ended(outcome: "Outcome", lost: str = "records lost", *, quiet: bool) -> int:
    """Say how a run went; returns the exit status."""
    if not quiet:
        for note in outcome.notes:
            messages.note(note)
    if outcome.lost:
        messages.warning(f"{outcome.lost} {lost}")
    if outcome.failure:
        messages.error(outcome.failure)
    return outcome.exit_status or int(bool(outcome.failure))


def finished(path: "Path") -> "Manifest | None":
    """Convert and symbolize; None where that failed, which is reported and loses nothing."""
    import signal

    # As in cli.py for commands that start no programs: this one's have ended.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from insitu.convert.sources import finish

    # A signal ends the program at once, also inside a library: the raw records stay until all is converted.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {
        number: signal.signal(number, signal.SIG_DFL)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        return finish(path)
    except OSError as error:
        messages.error(
            f"{path} is not converted: {error.strerror}; its raw records are kept", "make room, then open it"
        )
        return None
    except Exception as error:
        if not limits.is_out_of_memory(error):
            raise
        messages.error(
            f"{path} is not converted: out of memory; its raw records are kept", limits.remedy("out of memory")
        )
        return None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
