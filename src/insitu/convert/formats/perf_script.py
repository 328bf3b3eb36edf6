"""The text that ``perf script`` prints, with its default fields or those of ``-F``.

A sample is a line with the command, ids, CPU, time, period and event, then a line for each frame, leaf first, and an
empty line. Without call stacks the frame is at the end of the sample's line (tools/perf/builtin-script.c).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from insitu.convert.formats.bad_lines import BadLines
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.source_file import opened
from insitu.errors import InsituError
from insitu.session.core_tables import SAMPLE
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import JIT, KERNEL, USER, Frame

__all__ = ["import_perf_script", "is_perf_script"]

_CHUNK: Final = 1 << 24  # bytes of text in memory at once
_ROWS: Final = 1 << 16  # samples gathered before they are written
_LOOK_AHEAD: Final = 1 << 16  # characters that decide whether samples have a line with a time
_MOST_FRAMES: Final = 8192  # of a sample; beyond it the file is taken for damaged

# What most samples begin with: command, ids, perhaps CPU and flags (-F misc), time.
_TIMED: Final = re.compile(
    r"\s*(?P<comm>\S.*?)\s+(?P<pid>-?\d+)(?:/(?P<tid>-?\d+))?\s+(?:\[(?P<cpu>\d+)\]\s+)?(?:[A-Z.]{1,8}\s+)?"
    r"(?P<time>\d{1,10}\.\d{1,9}):(?P<tail>.*)",
    re.ASCII,
)
# Any selection of fields.
_ANY: Final = re.compile(
    r"\s*(?P<comm>\S.*?)??(?:(?:^|\s+)(?P<pid>-?\d+)(?:/(?P<tid>-?\d+))?(?=\s|$))?(?:\s+\[(?P<cpu>\d+)\])?"
    r"(?:\s+(?P<time>\d{1,10}\.\d{1,9}):)?(?P<tail>(?:\s+\d+)?(?:\s*\S+:(?=\s|$))?(?:\s{2,}[0-9a-f]+ .*)?)\s*",
    re.ASCII,
)
_TAIL: Final = re.compile(r"(?:\s+(?P<period>\d{1,18}))?(?:\s*(?P<event>\S+):(?=\s|$))?(?P<rest>.*)", re.ASCII)
_FRAME: Final = re.compile(r"\s+[0-9a-f]{1,16}(?: (?P<name>.*))?", re.ASCII)
_INLINE_FRAME: Final = re.compile(r"\s{2,}[0-9a-f]{1,16}(?: (?P<name>.*))?", re.ASCII)
# A function's name may hold parentheses and blanks, a file's too: "f(int (*)(char))+0x1 (/tmp/a (deleted))".
_DSO: Final = re.compile(r" \((/.*|\[.*|bpf_prog_\w+|inlined)\)$", re.ASCII)
_OFFSET: Final = re.compile(r"\+0x[0-9a-f]+$", re.ASCII)
_SOURCE_LINE: Final = re.compile(r"  (?P<file>\S.*):(?P<line>\d{1,9})(?P<inlined> \(inlined\))?", re.ASCII)
_NO_SOURCE: Final = re.compile(r"  (?:\S.*\[[0-9a-f]+\]|(?:\?\?)?:(?:\d+|\?))(?: \(inlined\))?", re.ASCII)
_LOST: Final = re.compile(r"PERF_RECORD_LOST(?:_SAMPLES)?:? .*?(\d{1,18})")
_HEADER_FIELDS: Final = {"hostname": "host", "os release": "kernel", "arch": "machine"}
_CLOCKS: Final = ("cpu-clock", "task-clock")
_MODIFIERS: Final = re.compile(r"[ukhGHpPSDIWeb]+")
_USER_DSOS: Final = ("[vdso]", "[vsyscall]", "[heap]", "[stack", "[unknown]", "[anon", "[JIT]")
_KERNEL_FILES: Final = (".ko", ".ko.xz", ".ko.gz", ".ko.zst", "/vmlinux")
_NOT_PERF_SCRIPT: Final = "not a line of perf script"

_SNIFF: Final = re.compile(
    rb"^(?!#)[^\n;]*?\s-?\d+(?:/-?\d+)?\s+(?:\[\d+\]\s+)?(?:[A-Z.]{1,8}\s+)?\d+\.\d{6,9}:[ \n]|^\t[ \t]*[0-9a-f]+ \S",
    re.MULTILINE,
)


def is_perf_script(head: bytes) -> bool:
    """Whether a text that begins with ``head`` has samples or frames as perf script prints them."""
    return b"\0" not in head and bool(_SNIFF.search(head))


def import_perf_script(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read perf script's text; lines of other records (--show-mmap-events and the like) are ignored.

    Weights are the periods; an event whose periods are not printed is called "EVENT samples" and weighs 1 a sample,
    but for tracepoints, which count themselves. Frames without a symbol are "[unknown]", with their module.

    Raises InsituError, with its number, for a line that perf script does not print; with ``skip_bad_lines`` such
    lines are left out and the notes say how many.
    """
    reader = _Reader(BadLines(str(path), skip=options.skip_bad_lines), writer)
    number = 1
    for text in _chunks(path):
        if number == 1 and any(map(_TIMED.fullmatch, text[:_LOOK_AHEAD].splitlines())):
            reader.header = _TIMED
        reader.read(text, number)
        number += text.count("\n")
    reader.finish()


def _chunks(path: Path) -> Iterator[str]:
    """The text in pieces that end at an empty line."""
    with opened(path) as file:
        rest = b""
        while data := file.read(_CHUNK):
            data = rest + data.replace(b"\r\n", b"\n")
            # Without call stacks there are no empty lines.
            cut = data.rfind(b"\n\n") + 2 if b"\n\n" in data else data.rfind(b"\n") + 1
            yield data[:cut].decode("utf-8", "backslashreplace")
            rest = data[cut:]
        yield rest.decode("utf-8", "backslashreplace")


class _Tail(NamedTuple):
    """What a sample's line says after the time."""

    event: int
    weight: int
    leaf: int  # of the frame at the end of the line; 0 without one


class _Row(NamedTuple):
    ts_ns: int
    cpu: int
    utid: int
    stack: int
    event_type: int
    weight: int


class _Reader:
    def __init__(self, bad: BadLines, writer: SessionWriter) -> None:
        self.bad = bad
        self.writer = writer
        self.bodies: dict[str, int] = {}  # text of a sample's frames -> stack
        self.frames: dict[tuple[str, str], Frame] = {}  # line, source line -> frame
        self.tails: dict[str, _Tail] = {}
        self.threads: dict[tuple[str, str, str], int] = {}  # comm, pid, tid as printed -> utid, if they are current
        self.names: dict[int, tuple[int, str]] = {}  # tid -> utid, command
        self.rows: list[_Row] = []
        self.samples = 0
        self.header: re.Pattern[str] | None = None  # None: no sample's line seen yet

    def read(self, text: str, number: int) -> None:
        """Take in a piece of text, whose first line has this number."""
        at = 0
        for block in text.split("\n\n"):
            head, _, body = block.partition("\n")
            leaf = self.bodies.get(body) if head else None
            match = self.header.fullmatch(head) if leaf is not None and self.header else None
            if match and "PERF_RECORD_" not in head and head[0] != "#":
                self.add(match, leaf or 0)
            elif block:
                self.read_block(block, number + text.count("\n", 0, at))
            at += len(block) + 2

    def read_block(self, block: str, number: int) -> None:
        """Take in lines without an empty one between them: a sample, samples without call stacks, other records."""
        match: re.Match[str] | None = None
        opened = False
        frames: list[str] = []
        for line in block.split("\n"):
            kind = self.kind_of(line, opened)
            if kind == "frame":
                if opened or self.header is None:
                    opened = True
                    frames.append(line)
                else:
                    self.bad.add(number, "a frame without a sample")
            elif isinstance(kind, re.Match):
                if opened:
                    self.close(match, frames)
                match, opened, frames = kind, True, []
            elif kind == "bad":
                self.bad.add(number, _NOT_PERF_SCRIPT)
            number += 1
        if opened:
            self.close(match, frames)

    def kind_of(self, line: str, opened: bool) -> "str | re.Match[str]":
        """What a line is: "frame", "other" (to be ignored), "bad", or the match of a sample's line."""
        if not line or line.isspace():
            return "other"
        if line[0] == "#":
            self.read_comment(line)
            return "other"
        if "PERF_RECORD_" in line:
            lost = _LOST.search(line)
            if lost:
                self.writer.lost("perf", int(lost[1]))
            return "other"
        if line[0] == "\t" and _FRAME.fullmatch(line):
            return "frame"
        timed = _TIMED.fullmatch(line)
        if timed:
            self.header = self.header or _TIMED
            return timed if self.header is _TIMED else "bad"
        if line[0] in " \t" and opened and (_FRAME.fullmatch(line) or _is_source(line)):
            return "frame"
        if self.header is _TIMED:
            return "bad"
        match = _ANY.fullmatch(line)
        if match:
            self.header = _ANY
        return match or "bad"

    def read_comment(self, line: str) -> None:
        """A line of perf script --header."""
        field, colon, value = line[1:].partition(" : ")
        field, value = field.strip(), value.strip()
        known: dict[str, object] = {}
        if colon and field in _HEADER_FIELDS:
            known[_HEADER_FIELDS[field]] = value
        elif colon and field == "nrcpus online" and value.isdecimal() and len(value) < 7:
            known["cpus"] = int(value)
        elif colon and field == "cmdline":
            known["command"] = value.split()
        if known:
            self.writer.manifest = self.writer.manifest.changed(**known)

    def close(self, match: "re.Match[str] | None", lines: list[str]) -> None:
        """A sample is complete: its line (None without one) and its frames' lines."""
        leaf = self.bodies["\n".join(lines)] = self.stack_of(lines)
        if match is None:
            self.add_row(_Row(0, -1, self.thread("", None, None, 0), leaf, self.event(None, has_period=False), 1))
        else:
            self.add(match, leaf)

    def stack_of(self, lines: list[str]) -> int:
        frames: list[Frame] = []
        for at, line in enumerate(lines):
            if _is_source(line):
                continue
            source = lines[at + 1] if at + 1 < len(lines) and _is_source(lines[at + 1]) else ""
            frame = self.frames.get((line, source))
            if frame is None:
                frame = self.frames[line, source] = _frame(line, source)
            frames.append(frame)
        if len(frames) > _MOST_FRAMES:
            frames = frames[:_MOST_FRAMES]
        module = ""
        for at in range(len(frames) - 1, -1, -1):  # perf prints "(inlined)" instead of the module
            if frames[at].inlined and not frames[at].module:
                frames[at] = frames[at]._replace(module=module, kind=_kind(module))
            module = frames[at].module
        return self.writer.intern_stack(frames)

    def add(self, match: "re.Match[str]", leaf: int) -> None:
        comm, pid, tid, cpu, time, tail = match.group("comm", "pid", "tid", "cpu", "time", "tail")
        known = self.tails.get(tail)
        if known is None:
            known = self.tails[tail] = self.read_tail(tail)
        ts_ns = 0
        if time:
            seconds, _, fraction = time.partition(".")
            ts_ns = min(int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")), 2**63 - 1)
        thread = self.thread(comm or "", pid, tid, ts_ns)
        self.add_row(_Row(ts_ns, int(cpu) if cpu and len(cpu) < 7 else -1, thread, leaf or known.leaf, *known[:2]))

    def thread(self, comm: str, pid: str | None, tid: str | None, ts_ns: int) -> int:
        """The utid of a sample's thread; without ids in the text, one for each command."""
        key = (comm, pid or "", tid or "")
        utid = self.threads.get(key)
        if utid is not None:
            return utid
        who = self.writer.processes
        # Threads without an id get the numbers 1, 2 and so on, kept here as -2, -3, so as not to meet real ones.
        number = _id(tid or pid) if pid else -2 - len(self.names)
        known = self.names.get(number)
        if number == 0:
            utid = 0
        elif known is None:
            shown = number if number >= -1 else -1 - number
            upid = who.process_of(_id(pid) if pid else shown)
            utid = who.thread(shown, upid, name=comm or self.bad.name.rpartition("/")[2])
        else:
            utid = known[0]
            who.renamed(utid, ts_ns, comm)
            # The thread's line under its older name would be a new name again.
            self.threads = {each: one for each, one in self.threads.items() if one != utid}
        self.names[number] = (utid, comm)
        self.threads[key] = utid
        return utid

    def event(self, name: str | None, *, has_period: bool) -> int:
        """The id of an event type."""
        if not name:
            name = unit = "events" if has_period else "samples"
        else:
            plain, _, modifiers = name.partition(":")
            is_tracepoint = bool(modifiers) and not _MODIFIERS.fullmatch(modifiers)
            if has_period:
                unit = "ns" if plain in _CLOCKS else name if is_tracepoint else plain
            elif is_tracepoint:
                unit = name
            else:
                name, unit = f"{plain} samples", "samples"
        return self.writer.event_type(name, unit, source="perf script")

    def add_row(self, row: _Row) -> None:
        self.rows.append(row)
        if len(self.rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows read so far."""
        columns = np.array(self.rows, np.int64).reshape(-1, len(_Row._fields)).T
        self.writer.append(SAMPLE, dict(zip(_Row._fields, columns, strict=True)))
        self.samples += len(self.rows)
        self.rows.clear()

    def read_tail(self, tail: str) -> _Tail:
        match = _TAIL.fullmatch(tail)
        if match is None:
            return _Tail(self.event(None, has_period=False), 1, 0)
        period, event, rest = match.group("period", "event", "rest")
        if not event and rest.strip():
            period, rest = None, tail
        inline = _INLINE_FRAME.fullmatch(rest.rstrip())
        leaf = self.writer.intern_stack([_frame(rest.rstrip(), "")]) if inline else 0
        return _Tail(self.event(event, has_period=period is not None), int(period) if period else 1, leaf)

    def finish(self) -> None:
        """Write what is left. Raises InsituError if there was no sample at all."""
        self.flush()
        if not self.samples:
            raise InsituError(f"{self.bad.name}: no samples in this text of perf script")
        self.writer.notes += self.bad.notes()


def _id(text: str) -> int:
    return int(text) if len(text) < 10 else -1


def _is_source(line: str) -> bool:
    """Whether a line is the source line of the frame above it (-F srcline)."""
    return line[:2] == "  " and bool(_SOURCE_LINE.fullmatch(line) or _NO_SOURCE.fullmatch(line))


def _frame(line: str, source: str) -> Frame:
    """The frame of a line "ADDRESS SYMBOL+OFFSET (MODULE)", of which the last three may be missing."""
    match = _FRAME.fullmatch(line)
    text = (match["name"] if match else None) or ""
    inlined = text.endswith(" (inlined)")
    text = text.removesuffix(" (inlined)")
    dso = _DSO.search(text)
    module = dso[1] if dso else ""
    name = _OFFSET.sub("", text[: dso.start()] if dso else text).strip()
    place = _SOURCE_LINE.fullmatch(source) if source else None
    if place and place["inlined"]:
        inlined = True
    file, number = (place["file"], int(place["line"])) if place and place["file"] != "??" else ("", 0)
    symbolized = bool(name) and name != "[unknown]"
    if not name:
        name = f"0x{line.split()[0]}" if not module else "[unknown]"
    module = "" if module == "[unknown]" else module
    return Frame(name, module, file, number, inlined, _kind(module), symbolized)


def _kind(module: str) -> str:
    if module.startswith("[JIT]") or re.search(r"/perf-\d+\.map$|/jitted-\d+-\d+\.so$", module):
        return JIT
    is_kernel = module.startswith("[") and not module.startswith(_USER_DSOS)
    return KERNEL if is_kernel or module.startswith("bpf_prog_") or module.endswith(_KERNEL_FILES) else USER
