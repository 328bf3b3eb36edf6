"""The Python functions that a thread of CPython is in, read from the memory of its process (3.11 to 3.13).

The interpreter links its frames in memory: _PyRuntime leads to interpreters, these to thread states, each of which
has the operating system's thread id and its innermost frame. Offsets of 3.11 and 3.12 are those of its headers
(Include/internal/pycore_*.h); 3.13 gives them itself (struct _Py_DebugOffsets).

What is read is exact for a thread that does not run meanwhile: the caller sees to that. Nothing in that memory is
trusted: every length and every chain is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

__all__ = ["Interpreter", "PythonFrame", "Read", "interpreter_at"]

Read = Callable[[int, int], bytes]
"""Reads memory: address and size to bytes, fewer where it is not mapped."""

_MOST_FRAMES: Final = 256
_MOST_THREADS: Final = 10_000
_MOST_INTERPRETERS: Final = 16
_MOST_TEXT: Final = 1024  # characters of a name or path
_MOST_LINES: Final = 1 << 16  # bytes of a table of lines
_MOST_KEPT: Final = 10_000  # code objects
_OWNED_BY_C: Final = 3  # FRAME_OWNED_BY_CSTACK: an entry of the interpreter, no function
_BYTES_SIZE, _BYTES_DATA = 16, 32  # PyBytesObject
_TEXT_HEAD: Final = 40  # sizeof(PyASCIIObject), without wstr
_CODE_UNIT: Final = 2


class PythonFrame(NamedTuple):
    """A Python function: its qualified name, its file as the interpreter knows it, and the line; 0 if unknown."""

    function: str
    file: str
    line: int


class _Layout(NamedTuple):
    """Offsets in bytes. ``frame`` is in PyThreadState; where ``inner`` is not -1, in what it leads to."""

    interpreters: int  # _PyRuntimeState
    next_interpreter: int  # PyInterpreterState
    threads: int
    next_thread: int  # PyThreadState
    native_id: int
    frame: int
    inner: int
    code: int  # _PyInterpreterFrame
    previous: int
    instruction: int
    owner: int
    filename: int  # PyCodeObject
    qualname: int
    linetable: int
    firstlineno: int
    bytecode: int
    ascii: int  # where the characters are in str objects of ASCII, and in others
    compact: int


_LAYOUTS: Final = {
    (3, 11): _Layout(40, 0, 16, 8, 160, 56, 8, 32, 48, 56, 69, 112, 128, 136, 72, 184, 48, 72),
    (3, 12): _Layout(40, 0, 72, 8, 144, 56, 0, 0, 8, 56, 70, 112, 128, 136, 68, 192, 40, 56),
}
# struct _Py_DebugOffsets of 3.13: a cookie, version and whether it is free-threaded, then groups of u64.
_COOKIE: Final = b"xdebugpy"
_DEBUG_OFFSETS: Final = struct.Struct("<8sQQ" + "3Q13Q9Q6Q10Q")
_LARGEST_OFFSET: Final = 1 << 20


class _Code(NamedTuple):
    function: str
    file: str
    first_line: int
    lines: bytes


class Interpreter:
    """The interpreters of a process, whose memory ``read`` reads."""

    def __init__(self, read: Read, runtime: int, layout: _Layout) -> None:
        self._read, self._runtime, self._layout = read, runtime, layout
        self._codes: dict[tuple[int, bytes], _Code] = {}
        self._code_bytes = max(layout.filename, layout.qualname, layout.linetable, layout.bytecode) + 8
        self._frame_bytes = max(layout.code, layout.previous, layout.instruction, layout.owner) + 8
        self._thread_bytes = max(layout.next_thread, layout.native_id, layout.frame) + 8

    def threads(self) -> dict[int, int]:
        """The thread states of threads, by their ids."""
        layout, found = self._layout, dict[int, int]()
        for interpreter in self._chain(
            self._runtime + layout.interpreters, layout.next_interpreter, _MOST_INTERPRETERS
        ):
            for thread in self._chain(interpreter + layout.threads, layout.next_thread, _MOST_THREADS):
                found[self._word(thread + layout.native_id)] = thread
        return found

    def _chain(self, head: int, following: int, most: int) -> Iterator[int]:
        """A linked list, whose first member is where ``head`` leads, up to a member that was there already."""
        seen: set[int] = set()
        at = self._word(head)
        while at and at not in seen and len(seen) < most:
            yield at
            seen.add(at)
            at = self._word(at + following)

    def frames(self, thread: int) -> tuple[PythonFrame, ...]:
        """The functions that a thread is in, innermost first, by its thread state."""
        layout = self._layout
        at = self._word(thread + layout.frame)
        if layout.inner >= 0 and at:
            at = self._word(at + layout.inner)
        found: list[PythonFrame] = []
        for _ in range(_MOST_FRAMES):
            frame = self._bytes(at, self._frame_bytes)
            if not frame:
                break
            if frame[layout.owner] != _OWNED_BY_C:
                code, instruction = _word(frame, layout.code), _word(frame, layout.instruction)
                if (function := self._function(code, instruction)) is not None:
                    found.append(function)
            at = _word(frame, layout.previous)
        return tuple(found)

    def _function(self, code: int, instruction: int) -> PythonFrame | None:
        layout = self._layout
        head = self._bytes(code, self._code_bytes)
        if not head:
            return None
        key = code, head[layout.firstlineno : layout.linetable + 8]  # an address is used again when code is freed
        if key not in self._codes:
            if len(self._codes) >= _MOST_KEPT:
                self._codes.clear()
            lines = _word(head, layout.linetable)
            size = _word(self._bytes(lines + _BYTES_SIZE, 8), 0)
            self._codes[key] = _Code(
                self._text(_word(head, layout.qualname)),
                self._text(_word(head, layout.filename)),
                int.from_bytes(head[layout.firstlineno : layout.firstlineno + 4], "little", signed=True),
                self._bytes(lines + _BYTES_DATA, size) if 0 < size <= _MOST_LINES else b"",
            )
        known = self._codes[key]
        if not known.function:
            return None
        line = line_at(known.lines, known.first_line, instruction - code - layout.bytecode)
        return PythonFrame(known.function, known.file, line)

    def _text(self, address: int) -> str:
        """A str object; "" for what is none."""
        head = self._bytes(address, _TEXT_HEAD)
        if not head:
            return ""
        length, state = _word(head, 16), int.from_bytes(head[32:36], "little")
        # Bit fields: interned:2, kind:3 (bytes of a character), compact:1, ascii:1.
        width, compact, is_ascii = state >> 2 & 7, state >> 5 & 1, state >> 6 & 1
        if width not in (1, 2, 4) or not compact or not 0 < length <= _MOST_TEXT:
            return ""
        place = address + (self._layout.ascii if is_ascii else self._layout.compact)
        data = self._bytes(place, length * width)
        return data.decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width], "replace")

    def _word(self, address: int) -> int:
        return _word(self._bytes(address, 8), 0)

    def _bytes(self, address: int, size: int) -> bytes:
        """Exactly ``size`` bytes, or none."""
        if not 0 < address < 1 << 63:
            return b""
        found = self._read(address, size)
        return found if len(found) == size else b""


def interpreter_at(read: Read, runtime: int, version: int) -> Interpreter | None:
    """The interpreters of a process with _PyRuntime at an address; None for versions whose memory we cannot read.

    ``version`` is Py_Version, as sys.hexversion has it.
    """
    layout = _LAYOUTS.get((version >> 24, version >> 16 & 0xFF))
    if layout is None and version >> 16 == 0x030D:
        layout = _own_layout(read(runtime, _DEBUG_OFFSETS.size))
    return Interpreter(read, runtime, layout) if layout else None


def _own_layout(data: bytes) -> _Layout | None:
    """What the interpreter itself says; None for one without the global lock, or if it cannot be true."""
    if len(data) != _DEBUG_OFFSETS.size:
        return None
    cookie, _, free_threaded, *offsets = _DEBUG_OFFSETS.unpack(data)
    if cookie != _COOKIE or free_threaded or max(offsets) >= _LARGEST_OFFSET:
        return None
    runtime, interpreter, thread, frame, code = (
        offsets[start:end] for start, end in ((0, 3), (3, 16), (16, 25), (25, 31), (31, 41))
    )
    return _Layout(
        interpreters=runtime[2],
        next_interpreter=interpreter[2],
        threads=interpreter[3],
        next_thread=thread[2],
        native_id=thread[6],
        frame=thread[4],
        inner=-1,
        code=frame[2],
        previous=frame[1],
        instruction=frame[3],
        owner=frame[5],
        filename=code[1],
        qualname=code[3],
        linetable=code[4],
        firstlineno=code[5],
        bytecode=code[9],
        ascii=40,
        compact=56,
    )


def line_at(table: bytes, first_line: int, offset: int) -> int:
    """The line of the instruction ``offset`` bytes into a function; 0 if it has none (Objects/locations.md)."""
    line, at, end, size = first_line, 0, 0, len(table)
    while at < size and offset >= 0:
        head = table[at]
        at += 1
        end += _CODE_UNIT * ((head & 7) + 1)
        code = head >> 3 & 15
        has_line = code != 15
        if code in (13, 14):
            value = shift = 0
            while at < size:
                byte = table[at]
                at += 1
                value |= (byte & 63) << shift
                shift += 6
                if not byte & 64 or shift > 30:
                    break
            line += -(value >> 1) if value & 1 else value >> 1
        elif 10 <= code <= 12:
            line += code - 10
        if offset < end:
            return line if has_line and line > 0 else 0
        while at < size and not table[at] & 128:  # columns: only a first byte has its highest bit set
            at += 1
    return 0


def _word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")
