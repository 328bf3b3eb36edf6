"""Stacks with counts as tracers print them: maps of bpftrace (and of insitu trace), aggregations of DTrace.

bpftrace prints an entry as "@name[", a line for each frame, leaf first, other keys, and "]: count". DTrace prints the
other keys, the frames and the count, all indented, and an empty line.
"""

import io
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
from insitu.symbols.frame import Frame

__all__ = ["import_bpftrace", "import_dtrace", "is_bpftrace", "is_dtrace"]

_BEGIN: Final = re.compile(r"(?P<map>@\w*)\[(?P<rest>.*)", re.ASCII)
_END: Final = re.compile(r"(?P<keys>.*)\]: (?P<count>\d{1,18})", re.ASCII)
_FRAME: Final = re.compile(r"    (?P<frame>\S.*)")
_NUMBER: Final = re.compile(r"-?\d+")
_OFFSET: Final = re.compile(r"\+(?:0x[0-9a-fA-F]+|\d+)$")
_MODULE: Final = re.compile(r"(?P<name>\S.*) \((?P<module>/[^()]*|\[[^()]*)\)")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]+")

_BPFTRACE_HEAD: Final = re.compile(rb"^@\w*\[[^\n]*\n    \S", re.MULTILINE)
_DTRACE_HEAD: Final = re.compile(rb"^[ \t]+\S+`\S[^\n]*\n(?:[ \t]+\S[^\n]*\n){0,256}?[ \t]+\d+[ \t]*$", re.MULTILINE)
_DTRACE_FRAME: Final = re.compile(r"(?P<module>[^`\s]*)`(?P<name>\S.*)")


class _Entry(NamedTuple):
    map: str
    comm: str
    frames: list[Frame]  # leaf first
    weight: int


def is_bpftrace(head: bytes) -> bool:
    """Whether a text that begins with ``head`` has map entries of bpftrace with stacks."""
    return b"\0" not in head and bool(_BPFTRACE_HEAD.search(head))


def is_dtrace(head: bytes) -> bool:
    """Whether a text that begins with ``head`` has aggregations of DTrace with stacks (module`function frames)."""
    return b"\0" not in head and bool(_DTRACE_HEAD.search(head))


def import_bpftrace(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read maps keyed by stacks, one event for each map; the first key that is text names the command.

    Other output of the script is ignored. Raises InsituError, with its number, for a line within an entry that
    is neither a frame nor a key; with ``skip_bad_lines`` such entries are left out and the notes say how many.
    """
    bad = BadLines(str(path), skip=options.skip_bad_lines)
    _write(_bpftrace_entries(_lines(path), bad), writer, bad, "bpftrace")


def import_dtrace(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read aggregations keyed by stacks; a line above the frames names the command. Other lines are ignored."""
    bad = BadLines(str(path), skip=options.skip_bad_lines)
    _write(_dtrace_entries(_lines(path)), writer, bad, "dtrace")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with io.TextIOWrapper(opened(path), encoding="utf-8", errors="backslashreplace") as file:
        for number, line in enumerate(file, 1):
            yield number, line.rstrip("\r\n")


def _bpftrace_entries(lines: Iterator[tuple[int, str]], bad: BadLines) -> Iterator[_Entry]:
    name: str | None = None
    frames: list[Frame] = []
    keys: list[str] = []
    for number, line in lines:
        begin = _BEGIN.fullmatch(line)
        if begin:
            if name is not None:
                bad.add(number, f"an entry of {name} without a count before it")
            name, frames, keys = begin["map"], [], []
            line = begin["rest"]
        elif name is None:
            continue
        frame = _FRAME.fullmatch(line)
        end = _END.fullmatch(line)
        if frame:
            frames.append(_bpftrace_frame(frame["frame"]))
        elif end:
            keys += _keys(end["keys"])
            comm = next((key for key in keys if not _NUMBER.fullmatch(key)), "")
            # A key that is an empty stack leaves only its comma; other maps have no stacks.
            if frames or line.startswith(","):
                yield _Entry(name, comm, frames, int(end["count"]))
            name = None
        elif line.strip(", ") == "" or begin or line.startswith(","):
            keys += _keys(line)
        else:
            bad.add(number, f"neither a frame nor a key of {name}")
            name = None


def _keys(text: str) -> list[str]:
    return [key.strip() for key in text.split(", ") if key.strip(", ")]


def _bpftrace_frame(text: str) -> Frame:
    module = _MODULE.fullmatch(text)
    name = _OFFSET.sub("", module["name"] if module else text)
    return Frame(name, module["module"] if module else "", symbolized=not _ADDRESS.fullmatch(name))


def _dtrace_entries(lines: Iterator[tuple[int, str]]) -> Iterator[_Entry]:
    comm, frames = "", list[Frame]()
    for _, line in lines:
        text = line.strip()
        match = _DTRACE_FRAME.fullmatch(text)
        if match:
            frames.append(Frame(_OFFSET.sub("", match["name"]), match["module"]))
        elif _ADDRESS.fullmatch(text):
            frames.append(Frame(text, symbolized=False))
        elif frames and text.isdecimal() and len(text) <= 18:
            yield _Entry("stacks", comm, frames, int(text))
            comm, frames = "", []
        elif text and not frames and line[0].isspace():
            comm = text
        elif not text:
            comm, frames = "", []


def _write(entries: Iterator[_Entry], writer: SessionWriter, bad: BadLines, source: str) -> None:
    threads: dict[str, int] = {}
    rows: list[tuple[int, int, int, int]] = []
    who = writer.processes
    for entry in entries:
        comm = entry.comm or bad.name.rpartition("/")[2]
        if comm not in threads:
            number = len(threads) + 1
            threads[comm] = who.thread(number, who.process(number), name=comm)
        event = writer.event_type(entry.map, "samples", source=source)
        rows.append((threads[comm], event, writer.intern_stack(entry.frames), entry.weight))
    if not rows:
        raise InsituError(f"{bad.name}: no stacks with counts in this output of {source}")
    utid, event_type, stack, weight = np.array(rows, np.int64).T
    columns = {"utid": utid, "event_type": event_type, "stack": stack, "weight": weight}
    writer.append(SAMPLE, {"ts_ns": np.zeros(len(rows), np.int64), **columns})
    # A row stands for as many events as it counts: what is added up is the weight.
    writer.manifest = writer.manifest.changed(sources=[{"id": source, "kind": source, "value": "weight"}])
    writer.notes += bad.notes()
