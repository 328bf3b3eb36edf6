"""The text of tracefs's ``trace`` and ``trace_pipe``, and of trace-cmd report: events, functions, function graphs.

Events become ``event.NAME`` tables with the fields that the text shows as NAME=VALUE; what the kernel prints in
another way is kept as ``text``. Times are as precise as the text (microseconds, mostly).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from insitu.convert.formats.bad_lines import BadLines
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.source_file import opened
from insitu.errors import InsituError
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import CORE_TEXT, KERNEL, Frame

__all__ = ["import_ftrace_text", "is_ftrace_text"]

_LONGEST: Final = 1 << 16  # characters of a line
_MOST_FRAMES: Final = 1024

_WHO: Final = r"\s*(?:(?P<buffer>[\w-]+):\s+)?(?P<comm>\S.{0,62}?)-(?P<tid>\d{1,10})\s+"
_EVENT: Final = re.compile(
    _WHO + r"(?:\(\s*(?P<tgid>\d{1,10}|-+)\)\s+)?\[(?P<cpu>\d{1,5})\]\s+(?:[\w.#]{4,6}\s+)?"
    r"(?P<s>\d{1,10})\.(?P<fraction>\d{6}|\d{9}):\s+(?P<rest>\S.*)",
    re.ASCII,
)
# The latency format: CPU and flags in one word, microseconds since the start of the trace.
_LATENCY: Final = re.compile(
    _WHO + r"(?P<cpu>\d{1,5})[a-zA-Z.#]\S{3,4}\s+(?P<us>\d{1,15})us[ +!#*@$]?\s?:\s+(?P<rest>\S.*)", re.ASCII
)
_NAMED: Final = re.compile(r"(?P<event>[A-Za-z_]\w{0,99}): ?\s*(?P<text>.*)", re.ASCII)
_SYSCALL: Final = re.compile(r"sys_(?P<name>\w{1,60})(?:\((?P<args>.*)\)| -> (?P<ret>\S+))", re.ASCII)
_FUNCTION: Final = re.compile(r"(?P<function>\S{1,200})\s+<-(?P<caller>\S{1,200})", re.ASCII)
_GRAPH: Final = ("funcgraph_entry", "funcgraph_exit")
_STACK: Final = re.compile(r"(?:kernel_stack:\s+)?<stack trace ?>", re.ASCII)
_FRAME: Final = re.compile(r"\s*=> (?P<function>\S{1,200}?)(?:\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)?(?: .*)?", re.ASCII)
_LOST: Final = re.compile(r"CPU:\s?(?P<cpu>\d{1,5}) \[(?:LOST )?(?P<count>\d{1,18} )?EVENTS(?: DROPPED)?\]", re.ASCII)
_WRITTEN: Final = re.compile(r"# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})\s+#P:(\d{1,5})", re.ASCII)

_SNIFF: Final = re.compile(
    rb"\A\s*+(?:# tracer: \w{1,40}|cpus=\d{1,5})[ \t]*+$"
    rb"|^[ \t]{0,40}+(?:[\w-]{1,40}:[ \t]{1,9})?\S[^\n]{0,62}?-\d{1,10}[ \t]{1,40}(?:\([ \d-]{1,12}\)[ \t]{1,9})?"
    rb"\[\d{3,5}\][ \t]{1,9}(?:[\w.#]{4,6}[ \t]{1,9})?\d{1,12}\.\d{6,9}: {1,9}\S",
    re.MULTILINE,
)


def is_ftrace_text(head: bytes) -> bool:
    """Whether a text that begins with ``head`` is what tracefs prints."""
    return b"\0" not in head and bool(_SNIFF.search(head))


def import_ftrace_text(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read the text of a trace.

    Raises InsituError, with its number, for a line that tracefs does not print; with ``skip_bad_lines`` such lines
    are left out and the notes say how many.
    """
    bad = BadLines(str(path), skip=options.skip_bad_lines)
    reader = _Reader(bad, writer)
    for number, line in enumerate(_lines(path), 1):
        if not reader.read(line):
            bad.add(number, "not a line of a trace")
    reader.finish()


def _lines(path: Path) -> Iterator[str]:
    """The lines, without their ends; one that is too long comes in pieces."""
    with opened(path) as file:
        while raw := file.readline(_LONGEST):
            yield raw.decode("utf-8", "backslashreplace").rstrip("\r\n")


class _Reader:
    def __init__(self, bad: BadLines, writer: SessionWriter) -> None:
        # Files of other formats come here to be recognised.
        from insitu.convert.formats.ftrace_text_graph import GraphLines
        from insitu.convert.formats.ftrace_text_rows import TextRows

        self._bad = bad
        self._writer = writer
        self._rows = TextRows(writer)
        self._graph = GraphLines(writer, self._rows.add)
        self._frames: list[str] | None = None

    def read(self, line: str) -> bool:
        """Take in a line; whether it is one of a trace."""
        if self._frames is not None:
            if frame := _FRAME.fullmatch(line):
                if len(self._frames) < _MOST_FRAMES:
                    self._frames.append(frame["function"])
                return True
            self._end_stack()
        match = _EVENT.fullmatch(line) or _LATENCY.fullmatch(line)
        if match:
            self._event(match)
            return True
        return self._other(line) or self._graph.read(line)

    def _event(self, match: re.Match[str]) -> None:
        found, rest = match.groupdict(), match["rest"]
        if found.get("us") is not None:
            ts_ns = int(found["us"]) * 1000
        else:
            ts_ns = int(found["s"]) * 1_000_000_000 + int(found["fraction"].ljust(9, "0"))
        if _STACK.match(rest):
            self._frames = []
            return
        head = (ts_ns, self._rows.thread(found), int(found["cpu"]))
        prefix = f"{found['buffer']}." if found["buffer"] else ""
        named = _NAMED.fullmatch(rest)
        if named and named["event"] in _GRAPH and self._graph.event(*head, named["text"]):
            return
        if named:
            self._rows.add(prefix + named["event"], head, named["text"])
        elif call := _SYSCALL.fullmatch(rest):
            kind = "exit" if call["args"] is None else "enter"
            text = f"ret={call['ret']}" if call["args"] is None else (call["args"] or "").replace(": ", "=")
            self._rows.add(f"{prefix}sys_{kind}_{call['name']}", head, text.replace(", ", " "))
        elif function := _FUNCTION.fullmatch(rest):
            values = {"ip_function": function["function"], "parent_ip_function": function["caller"]}
            self._rows.add_values(f"{prefix}function", head, values)
        else:
            self._rows.add(f"{prefix}text", head, rest)

    def _end_stack(self) -> None:
        frames = [Frame(name, CORE_TEXT, kind=KERNEL) for name in self._frames or ()]
        self._frames = None
        if frames:
            self._rows.set_stack(self._writer.intern_stack(frames))

    def _other(self, line: str) -> bool:
        if not line.strip() or line.startswith("cpus="):
            return True
        if lost := _LOST.match(line.strip()):
            count = int(lost["count"] or 1)
            self._writer.lost("events overwritten before they were read", count, cpu=int(lost["cpu"]))
            return True
        if not line.startswith("#"):
            return False
        if written := _WRITTEN.match(line):
            lost_count = int(written[2]) - int(written[1])
            self._writer.lost("events overwritten before they were read", lost_count)
            self._writer.manifest = self._writer.manifest.changed(cpus=int(written[3]))
        return True

    def finish(self) -> None:
        """Write what is left. Raises InsituError if there was no event at all."""
        if self._frames is not None:
            self._end_stack()
        if not self._rows.finish() + self._graph.finish():
            raise InsituError(f"{self._bad.name}: no events in this text of a trace")
        self._writer.notes += self._bad.notes()
