"""QEMU's machine protocol (QMP), called synchronously: a front to the asyncio library qemu.qmp.

The library's event loop runs in the calling thread, and only while a call waits for QEMU's reply. asyncio is imported
when the first connection is made: `insitu lab --help` and booting a guest need neither.
"""

from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from insitu.errors import InsituError
from insitu.limits import EVENT_LOOP_FILES, refuse_few_descriptors

__all__ = ["Qmp", "QmpError"]

_CLOSE_SECONDS: Final = 1.0


class QmpError(InsituError):
    """QEMU refused a command, did not reply in time, or closed the connection."""


class Qmp:
    """A connection to QEMU's monitor, ready for commands."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        """Connect to the Unix socket ``path``.

        Raises QmpError if QEMU is not ready within ``timeout`` seconds, InsituError if too many files are open.
        """
        refuse_few_descriptors(EVENT_LOOP_FILES)
        import asyncio

        from qemu.qmp import ConnectError, QMPClient

        # Without a factory, a Runner replaces the thread's current event loop, which may be the user's.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._client = QMPClient("insitu")
        try:
            self._wait(self._client.connect(str(path)), timeout)
        except TimeoutError:
            self._close()
            raise QmpError(f"no reply from QEMU on {path} within {timeout:g} s") from None
        except ConnectError as error:
            self._close()
            raise QmpError(f"cannot connect to QEMU on {path}: {_reason(error.exc)}") from None
        except BaseException:
            self._close()
            raise

    def execute(self, command: str, *, timeout: float = 60.0, **arguments: Any) -> Any:
        """Run a command and return its result. Underscores in argument names stand for QMP's hyphens.

        Raises QmpError if QEMU refuses the command (with its reason) or does not reply within ``timeout`` seconds.
        """
        from qemu.qmp import ExecuteError, QMPError

        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return self._wait(self._client.execute(command, named or None), timeout)
        except ExecuteError as error:
            raise QmpError(f"QEMU refused {command}: {error}") from None
        except TimeoutError:
            raise QmpError(f"QEMU did not reply to {command} within {timeout:g} s") from None
        except (QMPError, OSError, EOFError):
            raise QmpError("QEMU has exited or closed its monitor") from None

    def human(self, line: str) -> str:
        """Run a line of the human monitor and return its output."""
        return str(self.execute("human-monitor-command", command_line=line))

    def close(self) -> None:
        """Close the connection; QEMU keeps running."""
        import contextlib

        # What ended the connection before (end of file, a message that is not JSON) is raised here once more.
        with contextlib.suppress(Exception):
            self._wait(self._client.disconnect(), _CLOSE_SECONDS)
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _close(self) -> None:
        _outside_event_loops(self._runner.close)

    def _wait(self, work: Coroutine[Any, Any, Any], timeout: float) -> Any:
        import asyncio

        return _outside_event_loops(lambda: self._runner.run(asyncio.wait_for(work, timeout)))


def _outside_event_loops(work: Callable[[], Any]) -> Any:
    """Call ``work`` in this thread, or in another if this one already runs a loop (in a coroutine, in a notebook)."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as other:
        return other.submit(work).result()


def _reason(error: Exception) -> str:
    return str((isinstance(error, OSError) and error.strerror) or error or type(error).__name__)
