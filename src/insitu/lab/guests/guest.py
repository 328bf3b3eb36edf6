"""A guest: it boots, runs commands and is always stopped, also on errors and signals."""

import contextlib
import math
import os
import re
import secrets
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from insitu.errors import InsituError
from insitu.lab.guests import machine
from insitu.lab.guests.accelerator import accelerator
from insitu.lab.guests.bounded_logs import CONSOLE, KEPT_BYTES
from insitu.lab.guests.failures import CommandTimeoutError, GuestError, console_tail, death, hang, oom_kills
from insitu.lab.guests.machine import Options
from insitu.lab.guests.migration import restore
from insitu.lab.guests.port_streams import (
    Completed,
    Control,
    GuestSilentError,
    MarkedStream,
    StdinFeed,
    connect,
    exchange,
)
from insitu.lab.guests.qemu_process import QemuProcess
from insitu.lab.guests.shared_directories import SharedFiles
from insitu.lab.kernels import initramfs
from insitu.lab.kernels.find_kernel import find_kernel
from insitu.lab.kernels.kernel import Kernel
from insitu.lab.qmp import Qmp, QmpError

__all__ = ["Guest", "guest"]

_ANSWER_SECONDS: Final = 3.0
_BOOT_SECONDS: Final = 60.0
_CHECKED_BOOT_SECONDS: Final = 300.0
_KILL_SECONDS: Final = 5.0
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)

Sink = Callable[[bytes], object]


def guest(kernel: str = "6.1", *, name: str = "", **options: Any) -> "Guest":
    """A guest, used as a context manager: ``with insitu.lab.guest(kernel="6.1", numa=2) as g: g.run([...])``.

    ``kernel`` is a name or path as for ``insitu lab run -k``; ``options`` are the fields of insitu.lab.Options.
    """
    return Guest(find_kernel(kernel), Options(**options), name=name)


class Guest:
    """A temporary virtual machine that runs a chosen kernel over this machine's own files.

    Its commands run as the guest's root. They see this machine's files; writes go to memory and are lost with the
    guest, except in the directories of ``Options.rw``.
    """

    def __init__(self, kernel: Kernel, options: Options, name: str = "") -> None:
        options.check(kernel)
        self.kernel = kernel
        self.options = options
        kernel_name = re.sub(r"[^A-Za-z0-9.+-]", "-", kernel.name.rsplit("/", 1)[-1])
        self.name = name or f"{kernel_name}-{os.getpid()}-{secrets.token_hex(2)}".lstrip(".+-")
        if not _NAME.fullmatch(self.name):
            raise InsituError(f"--name {self.name!r}: use letters, digits and . _ + -", status=2)
        self.boot_seconds = 0.0
        self._qemu: QemuProcess | None = None
        self._outputs: dict[str, socket.socket] = {}
        self._control: Control | None = None
        self._files = SharedFiles(kernel, options)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @contextlib.contextmanager
    def started(self, start: Callable[[], object]) -> Iterator[Self]:
        """Call ``start``, which starts this guest; stop the guest at the end of the block."""
        try:
            start()
            yield self
        finally:
            self.stop()

    @property
    def transport(self) -> str:
        """How the guest mounts this machine's files: 9p or virtiofs."""
        return self._files.transport

    @property
    def _boot_timeout(self) -> float:
        """Seconds; the default is longer for a kernel with checks that make it many times slower."""
        return self.options.boot_timeout or (_CHECKED_BOOT_SECONDS if self.kernel.checks else _BOOT_SECONDS)

    @property
    def accelerator(self) -> str:
        """How the guest's code is run: kvm, or tcg (emulated)."""
        return accelerator(self.kernel)

    @property
    def directory(self) -> Path:
        """The directory of the guest's sockets and its console. Raises InsituError if the guest does not run."""
        return self._running_qemu().directory

    def console(self, lines: int = 20) -> list[str]:
        """The console's last lines."""
        return console_tail(self.directory / CONSOLE, lines)

    @property
    def qmp(self) -> Qmp:
        """A connection to QEMU's monitor."""
        return self._running_qemu().qmp

    def start(self, snapshot: Path | None = None) -> None:
        """Boot, mount this machine's files, and wait until commands can run.

        With ``snapshot``, a directory made by insitu.lab.guests.snapshot, restore that state instead of booting.
        Raises InsituError if QEMU or the guest does not start.
        """
        begin = time.monotonic()
        try:
            self._qemu = QemuProcess(self.name)
            if snapshot is None:
                self._boot(machine.boot_memory(self.options, self.transport))
                self._expect("ready", begin + self._boot_timeout)
            else:
                memory = machine.snapshot_memory(self.options, snapshot, share=False)
                self._boot([*memory, "-incoming", "defer"])
                restore(self.qmp, snapshot / "devices", begin + self._boot_timeout)
            self._enter(begin + self._boot_timeout)
        except GuestSilentError as silence:
            failure = self._explain(silence, self._boot_timeout)
            self.stop()
            raise failure from None
        except BaseException:
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - begin

    def boot_only(self, memory: list[str]) -> None:
        """Boot until the agent runs, which has mounted nothing yet: the state that a snapshot saves.

        ``memory`` are QEMU's arguments for the memory.
        """
        try:
            self._qemu = QemuProcess(self.name)
            self._boot(memory)
            self._expect("ready", time.monotonic() + self._boot_timeout)
        except GuestSilentError as silence:
            raise self._explain(silence, self._boot_timeout) from None

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        stdin: bytes | int | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stdout: Sink | None = None,
        stderr: Sink | None = None,
    ) -> Completed:
        """Run a command in the guest and wait for its end.

        ``stdin`` is bytes, a file descriptor, or None for /dev/null. ``cwd`` and ``env`` default to this process's.
        ``stdout`` and ``stderr`` are functions that are called with the output's bytes as they arrive; without them
        the output is collected.

        Raises CommandTimeoutError after ``timeout`` seconds if the guest itself responds, and GuestError,
        with the console's last lines, if its kernel panics, hangs or exits.
        """
        if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
            raise InsituError(f"timeout={timeout}: must be above 0 seconds", status=2)
        command = tuple(os.fspath(word) for word in argv)
        token = secrets.token_hex(16)
        collected: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        marker = f"{token}\n".encode()
        outputs = [
            MarkedStream(self._outputs[port], marker, sink or collected[port].append)
            for port, sink in (("stdout", stdout), ("stderr", stderr))
        ]
        begin = time.monotonic()
        deadline = None if timeout is None else begin + timeout
        console_before = (self.directory / CONSOLE).stat().st_size
        control = self._running_control()
        with contextlib.ExitStack() as stack:
            feed = None
            if stdin is not None:
                port = stack.enter_context(connect(self.directory / "stdin", begin + _ANSWER_SECONDS))
                feed = StdinFeed(port, token, stdin)
            try:
                control.send(self._command("command_run", token, "no" if stdin is None else "yes", command, cwd, env))
                status = exchange(control, outputs, feed, deadline)
            except GuestSilentError as silence:
                raise self._stop_command(silence, timeout or 0.0, outputs) from None
        return Completed(
            command,
            status,
            b"".join(collected["stdout"]),
            b"".join(collected["stderr"]),
            time.monotonic() - begin,
            oom_kills(self._console_since(console_before)),
        )

    def terminal(self, argv: Sequence[str], rows: int, columns: int) -> socket.socket:
        """Start a command on the guest's terminal; returns a socket connected to that terminal.

        The guest's agent sends ``exit STATUS`` on ``self.control`` after the command has ended.
        """
        port = self._running_qemu().connected("terminal", time.monotonic() + _ANSWER_SECONDS)
        self.control.send(self._command("terminal_run", str(rows), str(columns), tuple(argv), None, None))
        return port

    @property
    def control(self) -> Control:
        """The control port, for requests other than commands (a terminal's window size)."""
        return self._running_control()

    def vcpu_steal(self) -> float:
        """vCPU steal time: seconds that the guest's CPUs were runnable and waited for a host CPU, summed.

        Zero if this machine's kernel does not report it (Documentation/scheduler/sched-stats.rst).
        """
        return self._running_qemu().vcpu_steal()

    def stop(self) -> None:
        """Stop the guest at once and remove its files. Does nothing if it is stopped already."""
        self._flush_disks()
        self._control = None
        if self._qemu is not None:
            self._qemu.kill()
        self._files.close()
        if self._qemu is not None:
            self._qemu.release()
            self._qemu = None

    def _boot(self, memory: list[str]) -> None:
        qemu = self._running_qemu()
        directory = qemu.directory
        (directory / "initramfs").write_bytes(
            initramfs.build(self.kernel, machine.features(self.kernel, self.options))
        )
        accel = self.accelerator
        command = machine.command_line(self.kernel, self.options, directory, accel, memory)
        command += self._files.start(directory, qemu.watch)
        qemu.start(command, self._files.before_qemu())
        qemu.describe(
            {
                "name": self.name,
                "kernel": self.kernel.name,
                "release": self.kernel.release,
                "cpus": self.options.cpus,
                "memory": self.options.memory,
                "accelerator": accel,
            }
        )
        ports = {name: qemu.connect(name) for name in ("control", "stdout", "stderr")}
        self._control = Control(ports["control"])
        self._outputs = {name: ports[name] for name in ("stdout", "stderr")}

    def _enter(self, deadline: float) -> None:
        modules = shlex.quote(str(self.kernel.modules)) if self.kernel.modules else ""
        self.control.send(
            f"$busybox date -s @{time.time():.0f} >/dev/null; enter_root {self._files.transport} {modules}"
        )
        self._expect("entered", deadline)
        script = [
            f"share {self._files.transport} {tag} rw {shlex.quote(str(path))}"
            for tag, path, writable in machine.shares(self.options)
            if writable
        ]
        if self.options.net == "user":
            script.append("network_up")
        if script:
            self.control.send("\n".join([*script, "echo shared >&3"]))
            self._expect("shared", deadline)

    def _expect(self, word: str, deadline: float) -> None:
        line = self.control.line(deadline)
        if line != word:
            reason = line.removeprefix("failed ")
            raise GuestError("death", f"the guest cannot start: {reason}", self.console())

    def _command(
        self,
        verb: str,
        first: str,
        second: str,
        argv: tuple[str, ...],
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
    ) -> str:
        directory = os.fspath(cwd) if cwd is not None else str(Path.cwd())
        assignments = [f"{name}={value}" for name, value in (os.environ if env is None else env).items()]
        # Without this, a guest would not see what changed in this machine's files since it last read them.
        fresh = "echo 2 >/proc/sys/vm/drop_caches; "
        return fresh + shlex.join([verb, first, second, directory, *assignments, *argv])

    def _running_qemu(self) -> QemuProcess:
        if self._qemu is None:
            raise InsituError(f"guest {self.name} is not running")
        return self._qemu

    def _running_control(self) -> Control:
        if self._control is None:
            raise InsituError(f"guest {self.name} is not running")
        return self._control

    def _stop_command(self, silence: GuestSilentError, timeout: float, outputs: list[MarkedStream]) -> InsituError:
        """The error after a silence: a timeout, for which the command is killed, or a failure of the guest."""
        if silence.gone:
            return self._explain(silence, timeout)
        try:
            self.control.send("echo alive >&3")
            deadline = time.monotonic() + _ANSWER_SECONDS
            while self.control.line(deadline) != "alive":
                pass
            self.control.send(f"command_signal {signal.SIGKILL:d}")
            exchange(self.control, outputs, None, time.monotonic() + _KILL_SECONDS)
        except GuestSilentError as still_silent:
            return self._explain(still_silent, timeout)
        return CommandTimeoutError(timeout)

    def _explain(self, silence: GuestSilentError, seconds: float) -> InsituError:
        console = self.directory / CONSOLE
        if silence.gone:
            return death(console)
        qmp = None
        with contextlib.suppress(QmpError):
            qmp = self.qmp
        return hang(console, qmp, seconds)

    def _console_since(self, position: int) -> str:
        console = self.directory / CONSOLE
        with contextlib.suppress(OSError), console.open("rb") as file:
            file.seek(max(position, console.stat().st_size - KEPT_BYTES[CONSOLE]))
            return file.read(KEPT_BYTES[CONSOLE]).decode(errors="replace")
        return ""

    def _flush_disks(self) -> None:
        if self._control is None or not (self.options.disks or self.options.rw):
            return
        with contextlib.suppress(GuestSilentError, QmpError):
            self._control.send("$busybox sync; echo synced >&3")
            deadline = time.monotonic() + _KILL_SECONDS
            while self._control.line(deadline) != "synced":
                pass
            if self.options.disks:
                self.qmp.execute("quit", timeout=_KILL_SECONDS)
