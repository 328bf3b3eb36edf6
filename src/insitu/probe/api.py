"""insitu.trace(): a script run from Python, its maps as frames and its events one by one."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from insitu.probe.aggregates import MapContent, read_map
from insitu.probe.compile import compile_script
from insitu.probe.decode import decoder
from insitu.probe.formatting import Formatter
from insitu.probe.layout import RecordLayout
from insitu.probe.options import Options
from insitu.probe.output import Handler, TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.runtime import Runtime
from insitu.probe.source import Source
from insitu.probe.target import Target
from insitu.probe.types import Average, Histogram, Integer, LinearHistogram, Statistics, Type

if TYPE_CHECKING:
    import polars

__all__ = ["Trace", "trace"]


def trace(
    program: str | Path,
    *,
    seconds: float | None = None,
    command: str | None = None,
    pid: int | None = None,
    parameters: Sequence[str] = (),
    unsafe: bool = False,
) -> Trace:
    """Run a script: ``program`` is its text, or a Path of a file.

    It runs while the ``with`` block that it is used in does, at most ``seconds``; with ``command`` or ``pid``, no
    longer than that process. Leaving the block ends it.

    :raises ScriptError: when the script is wrong, before anything is attached.
    """
    if isinstance(program, Path):
        source = Source(program.read_text(errors="surrogateescape"), str(program))
    else:
        source = Source(program, "program")
    options = Options(parameters=list(parameters), unsafe=unsafe)
    options.apply_environment()
    return Trace(source, options, seconds=seconds, command=command, pid=pid)


class _Collected(TextOutput):
    """Gathers text, and values of print() as Python values."""

    def __init__(self, runtime: Runtime, formatter: Formatter) -> None:
        super().__init__(runtime.loaded, formatter, io.BytesIO())
        self.values: list[Any] = []
        self.text_parts: list[str] = []

    def write(self, text: str) -> None:
        self.text_parts.append(text)

    def flush(self) -> None:
        pass

    def handler(self, layout: RecordLayout) -> Handler:
        if layout.kind == "print":
            (kind,) = layout.fields.elements
            value = decoder(kind, 1)
            return lambda pieces: self.values.append(_plain(self.formatter, kind, value(pieces)))
        return super().handler(layout)


def _plain(formatter: Formatter, kind: Type, value: Any) -> Any:
    """A value as Python has it: numbers stay numbers, tuples tuples (named ones dictionaries), the rest is text."""
    from insitu.probe.types import Array, Buffer, Pointer, Tuple

    if isinstance(kind, Tuple):
        parts = [_plain(formatter, k, v) for k, v in zip(kind.elements, value, strict=True)]
        return dict(zip(kind.names, parts, strict=True)) if kind.names else tuple(parts)
    if isinstance(kind, Integer | Pointer | Buffer | Array):
        return value
    return formatter.text(kind, value)


class Trace:
    """A script in the kernel. ``maps["@name"]`` are frames; events() and tables come as they happen."""

    def __init__(
        self, source: Source, options: Options, *, seconds: float | None, command: str | None, pid: int | None
    ) -> None:
        self._context = Context(pid=pid)
        compiled = compile_script(source, options, self._context, cached=True)
        target = Target.child(command) if command is not None else Target.existing(pid) if pid else Target()
        try:
            self._runtime = Runtime(compiled, source, self._context, target)
        except BaseException:
            target.close()
            raise
        texts = compiled.layout.texts
        formatter = Formatter(self._runtime.symbols, self._runtime.points, texts, self._runtime.boot_offset_ns)
        self._output = _Collected(self._runtime, formatter)
        self._runtime.handle_with(self._output)
        self._seconds = seconds
        self._deadline: float | None = None
        self._attached = self._finished = False

    def __enter__(self) -> Trace:
        self._attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attach(self) -> None:
        if not self._attached:
            self._attached = True
            self._deadline = time.monotonic() + self._seconds if self._seconds is not None else None
            try:
                self._runtime.attach()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Detach everything and free it. Idempotent."""
        self._runtime.close()
        self._context.close()

    def wait(self) -> Trace:
        """Go on until exit(), the target's end, or the end of ``seconds``; then run the end probes and detach."""
        self._attach()
        if not self._finished:
            self._finished = True
            self._runtime.drain_until_end(self._output, lambda: False, self._deadline)
            self._runtime.finish(self._output)
        return self

    def events(self) -> Iterator[Any]:
        """What print() was given, as it happens; ends when the script does. Typed: numbers, text, tuples."""
        self._attach()
        try:
            while not self._finished:
                self._runtime.drain_until_end(self._output, lambda: bool(self._output.values), self._deadline)
                if not self._output.values:
                    self._finished = True
                    self._runtime.finish(self._output)
                values, self._output.values = self._output.values, []
                yield from values
        finally:
            if self._finished:
                self.close()

    @property
    def text(self) -> str:
        """What printf() and its like have written so far."""
        self._runtime.drain()
        return "".join(self._output.text_parts)

    @property
    def maps(self) -> Mapping[str, polars.DataFrame]:
        """All maps as frames. With ``seconds``, a command or a pid, the script is waited for first."""
        if not self._finished and (self._seconds is not None or self._runtime.target.fd >= 0):
            self.wait()
        self._runtime.drain()
        layouts = self._runtime.compiled.layout.maps
        return {layout.name: self._frame(number) for number, layout in enumerate(layouts) if layout.is_script_map}

    @property
    def tables(self) -> Mapping[str, polars.DataFrame]:
        """What emit() sent, a frame for each label."""
        self._runtime.drain()
        return {label: table.frame(self._output.formatter) for label, table in self._runtime.events.items()}

    @property
    def lost(self) -> list[tuple[int, str]]:
        """What was lost: counts, and what they count."""
        return self._runtime.lost()

    def _frame(self, number: int) -> polars.DataFrame:
        """Key columns ``key``, or ``key0`` and so on; then ``value``, or what an aggregation consists of."""
        import polars

        layout = self._runtime.compiled.layout.maps[number]
        content = read_map(layout, self._runtime.loaded.maps[number])
        rows = content.sorted_rows()
        columns: dict[str, list[Any]] = {}
        kinds = layout.key.elements if layout.key else ()
        for index, kind in enumerate(kinds):
            name = "key" if len(kinds) == 1 else f"key{index}"
            columns[name] = [_plain(self._output.formatter, kind, key[index]) for key, _ in rows]
        return polars.DataFrame({**columns, **self._values(content, rows, columns)}, strict=False)

    def _values(
        self, content: MapContent, rows: list[tuple[tuple[Any, ...], Any]], columns: dict[str, list[Any]]
    ) -> dict[str, list[Any]]:
        kind = content.kind
        if isinstance(kind, Histogram | LinearHistogram):
            from insitu.probe.printing import bounds

            cells = [(i, index, int(n)) for i, (_, value) in enumerate(rows) for index, n in enumerate(value) if n]
            for name, column in columns.items():
                columns[name] = [column[i] for i, _, _ in cells]
            ranges = [bounds(kind, index) for _, index, _ in cells]
            return {"low": [r[0] for r in ranges], "high": [r[1] for r in ranges], "count": [n for _, _, n in cells]}
        if isinstance(kind, Average | Statistics):
            counts = [value[0] for _, value in rows]
            totals = [value[1] for _, value in rows]
            return {"value": [t / c if c else 0.0 for c, t in zip(counts, totals, strict=True)]} | {
                "count": counts,
                "total": totals,
            }
        values = [value for _, value in rows]
        if not isinstance(kind, Integer) and type(kind).__name__ not in ("Count", "Sum", "Minimum", "Maximum"):
            values = [_plain(self._output.formatter, kind, value) for value in values]
        return {"value": values}
