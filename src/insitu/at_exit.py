"""What has to be done before the process ends, also where it ends without Python's own end (os._exit)."""

import atexit
from collections.abc import Callable

__all__ = ["at_exit", "do_now"]

_actions: dict[Callable[[], None], None] = {}


def at_exit(action: Callable[[], None]) -> None:
    """Have ``action`` called once, when the process ends by itself or by an exception."""
    if action not in _actions:
        _actions[action] = None
        atexit.register(action)


def do_now() -> None:
    """Do all of it, before os._exit."""
    for action in reversed(_actions):
        action()
