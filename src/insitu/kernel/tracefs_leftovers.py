"""What is left in tracefs: by owners that were killed, and by this process when it ends before it has cleaned up."""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Callable, Iterator
from typing import Final

from insitu.at_exit import at_exit
from insitu.errors import InsituError
from insitu.kernel.shared_settings import restore_left
from insitu.kernel.tracefs import Tracefs
from insitu.kernel.tracefs_owner import owner_is_dead, owner_is_this_process

__all__ = ["leave_nothing", "remove_dead", "remove_instance"]

_BUSY_TRIES: Final = 50


def remove_dead(tracefs: Tracefs) -> list[str]:
    """Remove what owners that have been killed left: instances, dynamic events; put back what they had set.

    Returns what was done, a line each. Without permission: nothing.
    """
    restored = [f"put back {path}" for path in restore_left(tracefs)]
    return [*restored, *_removed(tracefs, owner_is_dead)]


def leave_nothing() -> None:
    """Remove what this process still has in tracefs when it ends: a signal's exception may come between two lines."""
    at_exit(_remove_own)


def _remove_own() -> None:
    with contextlib.suppress(InsituError, OSError), contextlib.closing(Tracefs.open()) as tracefs:
        restore_left(tracefs, own=True)
        _removed(tracefs, owner_is_this_process)


def _removed(tracefs: Tracefs, is_whose: Callable[[str], bool]) -> list[str]:
    removed = [
        f"removed instance {name}"
        for name in _names(tracefs, "instances")
        if is_whose(name) and remove_instance(tracefs, name)
    ]
    for event in _dynamic_events(tracefs):
        path = re.split(r"\s", event.partition(":")[2], maxsplit=1)[0]  # after a synthetic event's there is a tab
        group, _, name = path.partition("/")
        if is_whose(group) or is_whose(name):
            with contextlib.suppress(OSError):
                tracefs.append("dynamic_events", f"-:{path}")
                removed.append(f"removed event {path}")
    return removed


def _names(tracefs: Tracefs, path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return tracefs.names(path)
    return []


def _dynamic_events(tracefs: Tracefs) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from tracefs.read("dynamic_events").splitlines()


def remove_instance(tracefs: Tracefs, name: str) -> bool:
    """Remove an instance: first what would keep it busy. A reader's last descriptor may be closed a moment later.

    Returns whether it was there and has gone.
    """
    prefix = f"instances/{name}"
    for path, text in (("tracing_on", "0"), ("current_tracer", "nop"), ("events/enable", "0")):
        with contextlib.suppress(OSError):
            tracefs.write(f"{prefix}/{path}", text)
    for attempt in range(_BUSY_TRIES):
        try:
            tracefs.remove_directory(prefix)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EBUSY or attempt + 1 == _BUSY_TRIES:
                return False
            if not attempt:
                _clear_triggers(tracefs, prefix)
            time.sleep(0.02)
        else:
            return True
    return False


def _clear_triggers(tracefs: Tracefs, prefix: str) -> None:
    """Remove all triggers of an instance: hist triggers with variables keep it busy, those that use them first."""
    found: list[tuple[bool, str]] = []
    for category in _names(tracefs, f"{prefix}/events"):
        for name in _names(tracefs, f"{prefix}/events/{category}"):
            path = f"{prefix}/events/{category}/{name}/trigger"
            with contextlib.suppress(OSError):
                if not (text := tracefs.read(path)).startswith("#"):
                    found.append(("$" in text, path))
    for _, path in sorted(found, reverse=True):
        with contextlib.suppress(OSError):
            tracefs.write(path, "")
