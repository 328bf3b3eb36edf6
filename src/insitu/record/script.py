"""insitu.trace(): run a script from Python; maps are frames, events an iterator."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from insitu.errors import InsituError
from insitu.probe.compile import compile_script
from insitu.probe.layout import RecordLayout
from insitu.probe.options import Options
from insitu.probe.output.stream import TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.runtime.decode import decoder
from insitu.probe.runtime.drain import FIELDS, Handler
from insitu.probe.runtime.frames import map_frame, plain
from insitu.probe.runtime.map_content import read_map
from insitu.probe.runtime.run import Runtime
from insitu.probe.source import Source
from insitu.record.run import Destination, Request, Run, processes_of
from insitu.record.sources.probe import ProbeSource

if TYPE_CHECKING:
    import polars

    from insitu.probe.runtime.events import Events

__all__ = ["Trace", "trace"]


def trace(
    program: str | Path,
    *,
    seconds: float | None = None,
    command: str | None = None,
    pid: int | None = None,
    whole_system: bool = False,
    parameters: Sequence[str] = (),
    unsafe: bool = False,
) -> Trace:
    """Run a script: ``program`` is its text, or a Path of a file.

    It runs while the ``with`` block that it is used in does, at most ``seconds``; with ``command`` or ``pid``, no
    longer than that process, and its probes see that process only. With ``whole_system`` they see all processes while
    the command runs. Leaving the block ends it.

    :raises ScriptError: when the script is wrong, before anything is attached.
    """
    if isinstance(program, Path):
        source = Source(program.read_text(errors="surrogateescape"), str(program))
    else:
        source = Source(program, "program")
    options = Options.given(parameters, unsafe=unsafe)
    options.apply_environment()
    if pid is not None:
        (pid,) = processes_of((pid,))  # of a thread, that which it belongs to
    target = Context(pid=pid, runs_command=command is not None, whole_system=whole_system)
    return Trace(source, options, target, seconds=seconds, command=command)


class _Collected(TextOutput):
    """Gathers text, and values of print() as Python values."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.loaded, runtime.formatter(), io.BytesIO())
        self.values: list[Any] = []
        self.text_parts: list[str] = []

    def write(self, text: str) -> None:
        self.text_parts.append(text)

    def flush(self) -> None:
        pass

    def end(self, *, maps: bool, empty: bool = True) -> None:
        pass

    def handler(self, layout: RecordLayout) -> Handler:
        if layout.kind == "print":
            (kind,) = layout.fields.elements
            value = decoder(kind, FIELDS)
            return lambda pieces: self.values.append(plain(self.formatter.text, kind, value(pieces)))
        return super().handler(layout)


class Trace:
    """A running script. ``maps["@name"]`` are frames; events() and ``tables`` are filled as events arrive."""

    def __init__(
        self, source: Source, options: Options, context: Context, *, seconds: float | None, command: str | None
    ) -> None:
        self._context = context
        compiled = compile_script(source, options, self._context, cached=True)
        probe = ProbeSource(compiled, source, self._context, _Collected)
        words = tuple(shlex.split(command)) if command is not None else ()
        pids = (context.pid,) if context.pid is not None else ()
        request = Request(words, pids, whole_system=context.whole_system or not (words or pids), seconds=seconds)
        self._run = Run(request, [probe], Destination())
        self._waits = bool(words or pids) or seconds is not None
        try:
            self._run.open()
        except BaseException:
            self.close()
            raise
        self._runtime = probe.runtime
        assert isinstance(probe.output, _Collected)
        self._output = probe.output
        self._events: Events | None = None
        if compiled.layout.labels:
            from insitu.probe.runtime.events import Events

            self._events = Events(
                self._runtime.recording_layout(), self._runtime.stack_reader(), self._output.formatter
            )
            self._runtime.take_events = self._events.log.append
        self._started = self._finished = self._closed = False
        self._in_block = False  # of with, whose end closes it

    def __enter__(self) -> Trace:
        self._in_block = True
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            try:
                self._run.start()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Detach everything and free it. Idempotent."""
        self._closed = True
        self._run.close()
        self._context.close()

    def wait(self) -> Trace:
        """Run until exit(), the target's end, or the end of ``seconds``; then run the end probes and detach."""
        while self._turn():
            pass
        return self

    def _turn(self) -> bool:
        """Handle what has come; at the end, run the end probes and detach. Returns whether it goes on."""
        self._start()
        if not self._finished and not self._run.turn():
            self._finished = True
            self._run.finish()
        return not self._finished

    def events(self) -> Iterator[Any]:
        """Yields the values of print() as they arrive, until the script ends. Typed: numbers, text, tuples."""
        try:
            while not self._finished:
                self._turn()
                values, self._output.values = self._output.values, []
                yield from values
        finally:
            if self._finished and not self._in_block:
                self.close()

    def _drain(self) -> None:
        """Handle the records that have arrived."""
        if not self._closed:
            self._runtime.drain()

    def _open_runtime(self) -> Runtime:
        """The runtime, with its maps. :raises InsituError: when it is closed."""
        if self._closed:
            raise InsituError(
                "this trace is closed, and its maps with it", remedy="read them inside of the with block"
            )
        self._runtime.drain()
        return self._runtime

    @property
    def text(self) -> str:
        """The text that printf() and similar functions have written so far."""
        self._drain()
        return "".join(self._output.text_parts)

    @property
    def maps(self) -> Mapping[str, polars.DataFrame]:
        """All maps as frames. With ``seconds``, a command or a pid, waits for the script's end."""
        if self._waits:
            self.wait()
        runtime = self._open_runtime()
        layouts = runtime.compiled.layout.maps
        return {
            layout.name: map_frame(layout, read_map(layout, runtime.loaded.maps[number]), self._output.formatter)
            for number, layout in enumerate(layouts)
            if layout.is_script_map
        }

    @property
    def tables(self) -> Mapping[str, polars.DataFrame]:
        """What emit() sent, a frame for each label: ts_ns (CLOCK_MONOTONIC), cpu, pid, tid and its own fields."""
        self._drain()
        return self._events.frames() if self._events is not None else {}

    @property
    def lost(self) -> list[tuple[int, str]]:
        """Losses: counts, and what they count."""
        return self._open_runtime().lost()
