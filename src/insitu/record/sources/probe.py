"""A script as a source: its output is printed, its emit() events and maps are recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from insitu.probe.compile import Compiled
from insitu.probe.output.stream import Output
from insitu.probe.passes.target import finds_target
from insitu.probe.providers.base import Context
from insitu.probe.runtime.run import Runtime
from insitu.probe.source import Source as Script

if TYPE_CHECKING:
    import select
    from pathlib import Path

    from insitu.probe.runtime.capture import Capture
    from insitu.record.source import Loss, Target

__all__ = ["ProbeSource"]

_WAIT_S = 0.1  # exit() on a full ring wakes no reader


class ProbeSource:
    """One compiled script."""

    id = "script"

    def __init__(
        self,
        compiled: Compiled,
        script: Script,
        context: Context,
        make_output: Callable[[Runtime], Output],
        *,
        log_level: int = 0,
    ) -> None:
        """``make_output`` makes the output, once the programs are loaded."""
        self._compiled = compiled
        self._script = script
        self._context = context
        self._make_output = make_output
        self._log_level = log_level
        self._runtime: Runtime | None = None
        self._output: Output | None = None
        self._capture: Capture | None = None
        self._poll: select.epoll | None = None
        self.reader_gone = False
        """Whether nobody reads what is printed any more."""
        self.lost: Sequence[tuple[int, str]] = ()
        """Losses, once it has stopped: counts, and what they count."""

    @property
    def runtime(self) -> Runtime:
        """The loaded script."""
        assert self._runtime is not None, "open() comes first"
        return self._runtime

    @property
    def output(self) -> Output:
        """The output."""
        assert self._output is not None, "open() comes first"
        return self._output

    @property
    def notes(self) -> Sequence[str]:
        """Empty: a script that cannot run is an error, or a warning at attach time."""
        return ()

    @property
    def options(self) -> Mapping[str, Any]:
        """The script itself."""
        return {"script": self._script.text, "name": self._script.name}

    @property
    def wait_s(self) -> float:
        """No time, while there is something to do."""
        return 0.0 if self._runtime is not None and (self._runtime.has_more or self._runtime.is_over) else _WAIT_S

    @property
    def ended(self) -> bool:
        """Whether the script has called exit(), or has no probes left."""
        return self._runtime is not None and self._runtime.ended

    def open(self, target: Target) -> None:
        """Load the programs. Raises ScriptError when the verifier refuses one."""
        child_pid = target.launched.pid if target.launched else 0
        if not child_pid and (self._script.built_in or finds_target(self._script)):
            child_pid = self._context.pid or 0  # to these, -p is as a command
        self._runtime = Runtime(
            self._compiled, self._script, self._context, child_pid=child_pid, log_level=self._log_level
        )
        self._output = self._make_output(self._runtime)
        if target.interrupts is not None:
            self._output.interrupted = target.interrupts.asked
        self._runtime.handle_with(self._output)

    def layout(self) -> Mapping[str, Any]:
        """How to read events and maps."""
        return {"kind": "probe", **self.runtime.recording_layout()}

    @property
    def fds(self) -> Sequence[int]:
        """One epoll descriptor for all rings."""
        if self._poll is None:
            self._poll = self.runtime.waiting_for_records()
        return [self._poll.fileno()]

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach all probes; without a ``directory`` nothing is recorded."""
        if directory is not None:
            from insitu.probe.runtime.capture import Capture

            self._capture = Capture(self.runtime)
            self._capture.start(directory)
        self.runtime.attach()

    def drain(self) -> int:
        """Print output, record events; returns the number of bytes recorded."""
        if self._poll is not None:
            self._poll.poll(0)
        before = self._capture.bytes_written if self._capture else 0
        self._printed(lambda: self.runtime.turn(self.output))
        if self._capture is None:
            return 0
        self._capture.drained()
        return self._capture.bytes_written - before

    def stop(self, end_ns: int) -> None:
        """Run the end probes, detach, and record the maps."""
        self._printed(lambda: self.runtime.finish(self.output))
        self.lost = self.runtime.lost()
        if self.output.skipped:
            self.lost = [*self.lost, (self.output.skipped, "calls of system(), cat() or print(): interrupted")]
        self._printed(self._print_maps)
        if self._capture is not None:
            self._capture.finish()

    def _print_maps(self) -> None:
        self.output.end(maps=self._compiled.print_maps, empty=not self._script.built_in)
        self.output.flush()

    def _printed(self, action: Callable[[], None]) -> None:
        """Do what may print. A reader that has gone (`| head`) ends the script, but not what is recorded of it."""
        if self.reader_gone and self._capture is None:
            return
        try:
            action()
        except BrokenPipeError:
            self.reader_gone = self.runtime.ended = True
            self.output.discard()

    def losses(self) -> Sequence[Loss]:
        """Records that the script's programs could not deliver."""
        from insitu.record.source import Loss

        return [Loss(what, count) for count, what in self.lost]

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        if self._capture is not None:
            self._capture.close()
        if self._runtime is not None:
            self._runtime.close()
        if self._poll is not None:
            self._poll.close()
            self._poll = None
