"""What threads waited for: by their calls and files, and by /proc of those that were asleep at the start."""

from __future__ import annotations

import re
import socket
import stat
import struct
from typing import Final

import msgspec

__all__ = ["KINDS", "WAITING", "cause_of", "frame_kind", "socket_text", "waiting_threads"]

WAITING: Final = "waiting.json"
"""Of threads that were asleep at the start: call and file, by tid."""

_MAX_PATH: Final = 4096
KINDS: Final = {stat.S_IFBLK: "device", stat.S_IFCHR: "device", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
_CAUSES: Final = (
    ("lock", r"futex"),
    ("sleep", r"(clock_)?nanosleep"),
    ("child", r"wait4|waitid|waitpid"),
    ("poll", r"p?poll|p?select(6)?|_newselect|epoll_p?wait2?"),
    ("signal", r"pause|(rt_)?sig(suspend|timedwait)"),
    ("i/o queue", r"io_(p?getevents|uring_enter)"),
    ("ipc", r"msg(rcv|snd)|semop|semtimedop|mq_.*"),
)
# Kinds of frames by what a thread is blocked in: what pages colour alike.
_FRAME_KINDS: Final = {
    **dict.fromkeys(("lock", "join", "condition", "barrier", "semaphore", "ipc"), "lock"),
    **dict.fromkeys(("file", "device", "page fault", "i/o queue"), "file"),
    **dict.fromkeys(("socket", "pipe", "poll"), "socket"),
    **dict.fromkeys(("sleep", "idle", "child", "signal", "stopped", "traced"), "sleep"),
}


def frame_kind(state: str, cause: str) -> str:
    """The kind of the frames of a thread's state: that of the cause where it is blocked."""
    return _FRAME_KINDS.get(cause, state) if state == "blocked" else state


def waiting_threads(data: bytes) -> dict[int, tuple[int, str, int]]:
    """The content of WAITING. Raises ValueError."""
    try:
        found = msgspec.json.decode(data, type=dict[int, tuple[int, str, int]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{WAITING}: {error}") from None
    return {tid: (number, path[:_MAX_PATH], state) for tid, (number, path, state) in found.items()}


def cause_of(call: str) -> str:
    return next((cause for cause, pattern in _CAUSES if call and re.fullmatch(pattern, call)), "")


def socket_text(text: str, family: int, port: int, local: int, address: int) -> str:
    """What a socket is: its peer, where it has one."""
    if family == socket.AF_INET:
        if port:
            return f"{socket.inet_ntoa(struct.pack('<I', address))}:{port}"
        return f"port {local}" if local else text
    if family == socket.AF_INET6:
        return f"[...]:{port}" if port else f"port {local}" if local else text
    return f"unix {text}" if family == socket.AF_UNIX else text
