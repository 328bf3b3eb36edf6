"""Records as text or JSON on a stream, in bpftrace's form."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec.structs import replace

from insitu.plurals import counted
from insitu.probe.layout import EVENT_HEAD, MapLayout, RecordLayout
from insitu.probe.output.formatting import Formatter, Members
from insitu.probe.runtime.decode import decoder
from insitu.probe.runtime.drain import FIELDS, Handler
from insitu.probe.runtime.loader import Loaded
from insitu.probe.runtime.map_content import MapContent, read_map, zero_map
from insitu.probe.types import Variable
from insitu.terminal_text import UNENCODABLE, TerminalStream, printable_lines
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    from insitu.probe.output.packet_file import PacketFile

__all__ = ["JsonOutput", "Output", "TerminalJsonOutput", "TextOutput"]

_FLUSH_BYTES = 1 << 16
# Kinds of records that may take long to handle. When somebody asks to stop, those that wait get so many seconds.
_SLOW = ("system", "cat", "print_map", "print_element")
_GRACE_S = 1.0
_POLL_S = 0.2


class Output:
    """Dispatches records to what each kind asks for. ``exit_status`` is set by exit()."""

    def __init__(self, loaded: Loaded, formatter: Formatter, stream: BinaryIO) -> None:
        self.loaded = loaded
        self.formatter = formatter
        self.exit_status: int | None = None
        # A terminal of another encoding could take bytes of UTF-8 for control characters.
        self._coding = (sys.stdout.encoding, UNENCODABLE) if stream.isatty() else ("utf-8", "surrogateescape")
        self._stream = stream
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._packet_files: dict[str, PacketFile] = {}
        self.interrupted: Callable[[], bool] = bool
        """Returns whether somebody has asked to stop."""
        self.hurries = True  # whether that counts: what end probes do is always done
        self.skipped = 0
        """How many calls that may take long were left undone, since somebody had asked to stop."""
        self._deadline_s = 0.0
        self._silent = False

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Print nothing meanwhile; what else records ask for is done."""
        self.flush()
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def discard(self) -> None:
        """Print nothing more: nobody reads it."""
        self._pending.clear()
        self._stream = open(os.devnull, "wb")  # noqa: SIM115, PTH123 - until the process ends

    def handler(self, layout: RecordLayout) -> Handler:
        """The function for one kind of record."""
        makers: dict[str, Callable[[RecordLayout], Handler]] = {
            "printf": self._printf,
            "errorf": self._complaint,
            "warnf": self._complaint,
            "print": self._print,
            "event": self._event,
            "print_map": self._print_map,
            "print_element": self._print_element,
            "time": self._time,
            "join": self._join,
            "cat": self._cat,
            "system": self._system,
            "exit": lambda _: self._exit,
            "unwatch": lambda _: lambda pieces: self.loaded.unwatch(pieces[FIELDS]),
            "skboutput": self._packet,
            "clear": lambda record: lambda _: self.loaded.maps[record.numbers[0]].clear(),
            "zero": lambda record: lambda _: self._zero(record.numbers[0]),
        }
        handle = makers[layout.kind](layout)
        return self._interruptible(handle) if layout.kind in _SLOW else handle

    def _interruptible(self, handle: Handler) -> Handler:
        def unless_late(pieces: tuple[Any, ...]) -> bool:
            if self._is_late():
                self.skipped += 1
            else:
                handle(pieces)
            return True

        return unless_late

    def _is_late(self) -> bool:
        """Whether somebody has asked to stop, and the time for what still waited then is over."""
        if not (self.hurries and self.interrupted()):
            return False
        self._deadline_s = self._deadline_s or time.monotonic() + _GRACE_S
        return time.monotonic() > self._deadline_s

    def _exit(self, pieces: tuple[Any, ...]) -> None:
        if self.exit_status is None:
            self.exit_status = int(pieces[FIELDS]) & 0xFF

    def _zero(self, number: int) -> None:
        zero_map(self._layout(number), self.loaded.maps[number])

    def _layout(self, number: int) -> MapLayout:
        return self.loaded.compiled.layout.maps[number]

    # Writing

    def write(self, text: str) -> None:
        """Append text; it reaches the stream in large pieces, at flush() at the latest."""
        if self._silent:
            return
        self._pending.append(text)
        self._pending_bytes += len(text)
        if self._pending_bytes > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending. :raises BrokenPipeError: when the reader has exited."""
        if self._pending:
            self._stream.write("".join(self._pending).encode(*self._coding))
            self._pending.clear()
            self._pending_bytes = 0
        self._stream.flush()

    def _complaint(self, layout: RecordLayout) -> Handler:
        make = self._values(on_terminal=isinstance(sys.stderr, TerminalStream)).printf(layout)
        return lambda pieces: self.complaint(layout.kind, layout.names[0], make(pieces))

    def _values(self, *, on_terminal: bool = False) -> Formatter:
        """The formatter for text that does not go to the stream, but for example names a file."""
        return replace(self.formatter, on_terminal=on_terminal)

    # What the two forms differ in

    @property
    def before_maps(self) -> str:
        """What separates the maps from what was printed before."""
        return "\n\n"

    def attaching(self, count: int) -> None:
        """So many probes are about to be attached."""

    def attached(self, count: int) -> None:
        """So many probes are attached."""

    def text(self, kind: str, text: str) -> None:
        """Text of a kind: printf, time, cat."""
        raise NotImplementedError

    def line(self, kind: str, text: str) -> None:
        """Text of a kind that is a line of its own: join."""
        raise NotImplementedError

    def printed(self, text: str) -> None:
        """What the command of system() has printed."""
        raise NotImplementedError

    def complaint(self, kind: str, where: str, text: str) -> None:
        """What errorf() or warnf() (``kind``) says, and its FILE:LINE:COLUMNS in the script."""
        if self._silent:
            return
        self.flush()
        label = "ERROR" if kind == "errorf" else "WARNING"
        print(f"{where}: {label}: {text}", file=sys.stderr, flush=True)

    def value(self, kind: Any, value: Any) -> None:
        """What print() was given."""
        raise NotImplementedError

    def event(self, label: str, fields: dict[str, Any]) -> None:
        """An event of emit(), where those are printed: its fields, ready for JSON."""
        raise NotImplementedError

    def map(self, number: int, top: int = 0, div: int = 0) -> None:
        """A whole map."""
        self.show_map(self._layout(number), self.content(number), top, div)

    def show_map(self, layout: MapLayout, content: MapContent, top: int = 0, div: int = 0) -> None:
        """What a map holds."""
        raise NotImplementedError

    def content(self, number: int) -> MapContent:
        """What a map holds now."""
        return read_map(self._layout(number), self.loaded.maps[number])

    def end(self, *, maps: bool, empty: bool = True) -> None:
        """Show what the script leaves: every map that it named, in the order of their names.

        Without ``empty`` those that are empty are left out, and where all are, nothing is written.
        """
        named = sorted((layout.name, n) for n, layout in enumerate(self.loaded.compiled.layout.maps) if maps)
        shown = [n for name, n in named if name.startswith("@") and (empty or self.content(n).rows)]
        if empty or shown:
            self.write(self.before_maps)
        for number in shown:
            self.map(number)

    def _printf(self, layout: RecordLayout) -> Handler:
        make = self.formatter.printf(layout)
        return lambda pieces: self.text("printf", make(pieces))

    def _print(self, layout: RecordLayout) -> Handler:
        (kind,) = layout.fields.elements
        value = decoder(kind, FIELDS)
        kind = kind.element if isinstance(kind, Variable) else kind
        return lambda pieces: self.value(kind, value(pieces))

    def _event(self, layout: RecordLayout) -> Handler:
        values = decoder(layout.fields, FIELDS)
        kinds = [kind.element if isinstance(kind, Variable) else kind for kind in layout.fields.elements]

        def handle(pieces: tuple[Any, ...]) -> None:
            ts_ns, thread, *fields = values(pieces)
            head = {"ts_ns": ts_ns, "pid": thread >> 32, "tid": thread & 0xFFFFFFFF}
            shown = map(self.formatter.json, kinds[len(EVENT_HEAD) :], fields)
            self.event(layout.text, {**head, **dict(zip(layout.names[len(EVENT_HEAD) :], shown, strict=True))})

        return handle

    def _print_map(self, layout: RecordLayout) -> Handler:
        number, top, div = layout.numbers
        return lambda pieces: self.map(number, top, div)

    def _print_element(self, layout: RecordLayout) -> Handler:
        (number,) = layout.numbers
        whole_key = decoder(layout.fields.elements[0], FIELDS)

        def handle(pieces: tuple[Any, ...]) -> None:
            wanted = whole_key(pieces)
            content = self.content(number)
            rows = [row for row in content.rows if row[0] == wanted]
            self.show_map(self._layout(number), MapContent(content.kind, rows))

        return handle

    def _time(self, layout: RecordLayout) -> Handler:
        return lambda pieces: self.text("time", self.formatter.clock(layout.text, time.time_ns()))

    def _join(self, layout: RecordLayout) -> Handler:
        words = decoder(layout.fields, FIELDS)

        def handle(pieces: tuple[Any, ...]) -> None:
            given = words(pieces)
            end = next((i for i, word in enumerate(given) if not word), len(given))
            self.line("join", layout.text.join(map(self.formatter.shown, given[:end])))

        return handle

    def _packet(self, layout: RecordLayout) -> Handler:
        from insitu.probe.output.packet_file import PacketFile

        if layout.text not in self._packet_files:
            self._packet_files[layout.text] = PacketFile(layout.text)
        file = self._packet_files[layout.text]
        fields = decoder(layout.fields, FIELDS)

        def handle(pieces: tuple[Any, ...]) -> None:
            stamp, length, data = fields(pieces)
            file.write(stamp + self.formatter.boot_offset_ns, length, data)

        return handle

    def _cat(self, layout: RecordLayout) -> Handler:
        make = self._values().printf(layout)
        (limit,) = layout.numbers

        def handle(pieces: tuple[Any, ...]) -> None:
            path = make(pieces)
            try:
                text = _first_bytes(path, limit).decode("utf-8", "surrogateescape")
                self.text("cat", printable_lines(text) if self.formatter.on_terminal else text)
            except OSError as error:
                self.flush()
                print(f"ERROR: failed to open file '{path}': {os.strerror(error.errno or 0)}", file=sys.stderr)

        return handle

    def _system(self, layout: RecordLayout) -> Handler:
        import subprocess

        make = self._values().printf(layout)

        def handle(pieces: tuple[Any, ...]) -> None:
            self.flush()
            with subprocess.Popen(make(pieces), shell=True, stdout=subprocess.PIPE) as shell:
                printed = None
                while printed is None:
                    try:
                        printed, _ = shell.communicate(timeout=_POLL_S)
                    except subprocess.TimeoutExpired:
                        if self._is_late():
                            shell.terminate()
            self.printed(printed.decode("utf-8", "surrogateescape"))

        return handle


class TextOutput(Output):
    """bpftrace's text."""

    newer_heading = False
    """Whether the number of probes is printed as bpftrace 0.24 does, whatever form the rest has."""

    def handler(self, layout: RecordLayout) -> Handler:
        if layout.kind == "printf":  # the hot one: no call in between
            make = self.formatter.printf(layout)
            write = self.write
            return lambda pieces: write(make(pieces))
        return super().handler(layout)

    def attaching(self, count: int) -> None:
        if not (self.newer_heading or self.formatter.newer_form):
            self.write(f"Attaching {counted(count, 'probe')}...\n")

    def attached(self, count: int) -> None:
        if self.newer_heading or self.formatter.newer_form:
            self.write(f"Attached {counted(count, 'probe')}\n")

    def text(self, kind: str, text: str) -> None:
        self.write(text)

    def line(self, kind: str, text: str) -> None:
        self.write(f"{text}\n")

    def printed(self, text: str) -> None:
        self.write(f"{text}\n" if self.formatter.newer_form else text)

    def value(self, kind: Any, value: Any) -> None:
        self.write(self.formatter.text(kind, value) + "\n")

    def show_map(self, layout: MapLayout, content: MapContent, top: int = 0, div: int = 0) -> None:
        from insitu.probe.output.map_text import map_text

        self.write(map_text(self.formatter, layout, content, top, div))


class JsonOutput(Output):
    """One JSON object a line."""

    def _object(self, kind: str, data: Any, **more: Any) -> None:
        members = "".join(f', "{name}": {_json(value)}' for name, value in more.items())
        self.write(f'{{"type": "{kind}"{members}, "data": {_json(data)}}}\n')

    def attached(self, count: int) -> None:
        self._object("attached_probes", {"probes": count}, count=count)

    def text(self, kind: str, text: str) -> None:
        self._object(kind, text)

    def line(self, kind: str, text: str) -> None:
        self._object(kind, text)

    def printed(self, text: str) -> None:
        self._object("syscall", text)

    def complaint(self, kind: str, where: str, text: str) -> None:
        file, line, columns = where.rsplit(":", 2)
        place = {"filename": file, "line": int(line), "col": int(columns.partition("-")[0])}
        members = {"type": kind, "msg": text, **place}
        self.write(_json(members) + "\n")

    @property
    def before_maps(self) -> str:
        """Nothing, in bpftrace's newer form."""
        return "" if self.formatter.newer_form else "\n\n"

    def value(self, kind: Any, value: Any) -> None:
        self._object("value", self.formatter.json(kind, value))

    def event(self, label: str, fields: dict[str, Any]) -> None:
        self._object("event", fields, label=label)

    def show_map(self, layout: MapLayout, content: MapContent, top: int = 0, div: int = 0) -> None:
        from insitu.probe.output.map_text import map_json

        found = map_json(self.formatter, layout, content, top, div)
        if found is not None:
            self._object(*found)


class TerminalJsonOutput(JsonOutput):
    """The same for a terminal: control characters that JSON allows are escaped."""

    def write(self, text: str) -> None:
        super().write(printable_lines(text))


def _json(value: Any) -> str:
    """JSON with bpftrace's spacing: tuples (our lists) have no space after their commas."""
    if isinstance(value, Members):
        return "{ " + ", ".join(f"{_json(name)}: {_json(item)}" for name, item in value.items()) + " }"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json(str(key))}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    import json

    return json.dumps(valid_text(value) if isinstance(value, str) else value, ensure_ascii=False)


def _first_bytes(path: str, limit: int) -> bytes:
    """The first bytes of a file that the observed may have chosen: a FIFO or the kernel's log is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = b""
        with contextlib.suppress(BlockingIOError):
            while len(found) < limit and (part := os.read(descriptor, limit - len(found))):
                found += part
        return found
    finally:
        os.close(descriptor)
