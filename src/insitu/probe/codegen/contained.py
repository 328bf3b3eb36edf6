"""Runs a step of LLVM in a child process: what BPF lacks is an error to LLVM that ends its process."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

__all__ = ["EndedError", "contained"]


class EndedError(Exception):
    """The step ended its process; the message is what it wrote to stderr before."""


def contained(step: Callable[[], bytes]) -> bytes:
    """What ``step`` returns, run in a copy of this process.

    :raises EndedError: when it ended the copy, or raised an error there.
    """
    result, messages = os.memfd_create("result"), os.memfd_create("messages")
    try:
        try:
            child = os.fork()
        except OSError:  # too many processes
            return step()
        if child == 0:
            _run(step, result, messages)
        _wait(child)
        whole = os.pread(result, os.fstat(result).st_size, 0)
        if whole[:1] == _DONE:
            return whole[1:]
        raise EndedError(os.pread(messages, os.fstat(messages).st_size, 0).decode(errors="replace"))
    finally:
        os.close(result)
        os.close(messages)


_DONE = b"\1"


def _run(step: Callable[[], bytes], result: int, messages: int) -> NoReturn:
    """In the child: the step's result after a byte that is set when all of it is there."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(messages, 2)
        rest = memoryview(step())
        at = 1
        while rest:
            written = os.pwrite(result, rest, at)
            rest, at = rest[written:], at + written
        os.pwrite(result, _DONE, 0)
    except BaseException as error:
        os.write(messages, str(error).encode(errors="replace"))
    finally:
        os._exit(0)


def _wait(child: int) -> None:
    try:
        with suppress(ChildProcessError):  # where SIGCHLD is ignored
            os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
