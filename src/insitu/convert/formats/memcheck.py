"""What valgrind's memcheck has found: the XML of ``valgrind --xml=yes --xml-file=FILE``, protocol 4 and newer.

Source: docs/internals/xml-output-protocol4.txt of valgrind. Of the XML only elements and text are read: a document
type, which alone could define entities, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

from insitu.convert.formats.registry import ImportOptions
from insitu.convert.formats.source_file import opened
from insitu.errors import InsituError
from insitu.session.special_tables import MEMCHECK_ERROR, MEMCHECK_LEAK
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame

__all__ = ["import_memcheck", "is_memcheck"]

_HEAD: Final = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<valgrindoutput>")
_CLASSES: Final = {
    "Leak_DefinitelyLost": "definitely lost",
    "Leak_IndirectlyLost": "indirectly lost",
    "Leak_PossiblyLost": "possibly lost",
    "Leak_StillReachable": "still reachable",
}
_PARTS: Final = re.compile(r"[\d,]+ \(([\d,]+) direct, ([\d,]+) indirect\) bytes")
_PIECE_BYTES: Final = 1 << 20
_MOST_DEPTH: Final = 32
_MOST_TEXT: Final = 1 << 16  # of an element
_MOST_FRAMES: Final = 8192
_MOST_ERRORS: Final = 1 << 22


def is_memcheck(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is valgrind's XML."""
    return bool(_HEAD.match(head))


def import_memcheck(path: Path, writer: SessionWriter, options: ImportOptions) -> None:
    """Read leak records and errors. A file that ends early, as of a killed program, is read as far as it goes.

    Raises InsituError for what is not well-formed, or goes beyond what valgrind writes.
    """
    reader = _Reader(str(path))
    with opened(path) as file:
        while piece := file.read(_PIECE_BYTES):
            reader.feed(piece)
    notes = reader.finish()
    writer.notes += notes
    _write(reader, writer)


class _Error:
    """One ``<error>``, as far as it has been read."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.about: list[str] = []
        self.stacks: list[list[Frame]] = []


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._path: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._error: _Error | None = None
        self._frame: dict[str, str] = {}
        self._pair: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self.pid = 0
        self.program = ""
        self.errors: list[_Error] = []
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        self._parser = parser

    def feed(self, data: bytes) -> None:
        self._parsed(lambda: self._parser.Parse(data, False))

    def finish(self) -> list[str]:
        """To be called at the end of the file; returns notes. Raises InsituError."""
        if self._path:
            return [f"{self._name} was cut off: what comes after line {self._parser.CurrentLineNumber:,} is missing"]
        self._parsed(lambda: self._parser.Parse(b"", True))
        return []

    def _parsed(self, parse: Callable[[], Any]) -> None:
        try:
            parse()
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise InsituError(f"{self._name}: line {error.lineno}: not well-formed XML: {what}") from None

    def _bad(self, what: str) -> InsituError:
        return InsituError(f"{self._name}: line {self._parser.CurrentLineNumber}: {what}")

    def _refuse(self, *_: object) -> None:
        raise self._bad("a document type is not of valgrind's XML")

    def _start(self, name: str, _: object) -> None:
        self._path.append(name)
        if len(self._path) > _MOST_DEPTH:
            raise self._bad(f"elements {_MOST_DEPTH} deep")
        self._text, self._length = [], 0
        if len(self._path) == 2 and name == "error":
            if len(self.errors) >= _MOST_ERRORS:
                raise self._bad(f"more than {_MOST_ERRORS:,} errors")
            self._error = _Error()
        elif self._error is not None and name == "stack":
            self._error.stacks.append([])

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length > _MOST_TEXT:
            raise self._bad(f"a text longer than {_MOST_TEXT:,} characters")
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._path.pop()
        text = "".join(self._text).strip()
        self._text, self._length = [], 0
        depth = len(self._path)
        if self._error is not None:
            self._end_in_error(self._error, name, text, depth)
        elif depth == 1 and name == "pid":
            self.pid = self.parsed(text)
        elif self._path[1:] == ["args", "argv"] and name == "exe":
            self.program = text
        elif self._path[1:2] == ["errorcounts"] and name in ("count", "unique"):
            self._pair[name] = text
        elif self._path[1:] == ["errorcounts"] and name == "pair":
            self._counts[self._pair.get("unique", "")] = self.parsed(self._pair.get("count", ""))
            self._pair = {}

    def _end_in_error(self, error: _Error, name: str, text: str, depth: int) -> None:
        if depth == 1:
            self.errors.append(error)
            self._error = None
        elif self._path[-1] == "frame":
            self._frame[name] = text
        elif name == "frame":
            self._end_of_frame(error)
        elif name in ("auxwhat", "text") and (name == "auxwhat" or self._path[-1] == "xauxwhat"):
            error.about.append(text)
        elif depth == 2 or self._path[-1] == "xwhat":
            error.texts[name] = text

    def _end_of_frame(self, error: _Error) -> None:
        found, self._frame = self._frame, {}
        if not error.stacks:
            raise self._bad("a frame without a stack")
        if len(error.stacks[-1]) >= _MOST_FRAMES:
            raise self._bad(f"a stack of more than {_MOST_FRAMES} frames")
        directory, file = found.get("dir", ""), found.get("file", "")
        path = f"{directory}/{file}" if directory and file else file
        address = found.get("ip", "")
        name = found.get("fn", "")
        line = self.parsed(found["line"]) if found.get("line") else 0
        frame = Frame(name or address, found.get("obj", ""), path, min(line, (1 << 31) - 1), symbolized=bool(name))
        error.stacks[-1].append(frame)

    def number(self, error: _Error, name: str) -> int:
        """A number of an error. Raises InsituError."""
        return self.parsed(error.texts.get(name, ""))

    def count(self, error: _Error) -> int:
        """How often an error occurred; once, if the file ends before it says so."""
        return self._counts.get(error.texts.get("unique", ""), 1)

    def parsed(self, text: str) -> int:
        """The number that a text is, with commas or not. Raises InsituError."""
        digits = text.replace(",", "")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
            raise self._bad(f"{text[:24]!r} is not a number")
        return int(digits)


def _write(reader: _Reader, writer: SessionWriter) -> None:
    upid = writer.processes.process(reader.pid, 0)
    name = reader.program.rpartition("/")[2]
    threads: dict[int, int] = {}
    leaks: list[tuple[object, ...]] = []
    errors: list[tuple[object, ...]] = []
    for error in reader.errors:
        number = reader.number(error, "tid")
        # valgrind numbers threads from 1 on; the first has the process's id.
        tid = reader.pid if number == 1 else min(number, (1 << 31) - 1)
        if tid not in threads:
            threads[tid] = writer.processes.thread(tid, upid, name=name)
        head = (0, threads[tid])
        stacks = [writer.intern_stack(stack) for stack in error.stacks]
        kind = error.texts.get("kind", "")
        if kind in _CLASSES:
            size, indirect = reader.number(error, "leakedbytes"), 0
            if parts := _PARTS.match(error.texts.get("text", "")):
                size, indirect = (reader.parsed(part) for part in parts.groups())
            blocks = reader.number(error, "leakedblocks")
            leaks.append((*head, _CLASSES[kind], size, indirect, blocks, stacks[0] if stacks else 0))
        else:
            what = error.texts.get("what") or error.texts.get("text", "")
            more = [*stacks, 0, 0][:2]
            errors.append((*head, kind, what, "\n".join(error.about), reader.count(error), *more))
    writer.append_rows(MEMCHECK_LEAK, leaks)
    writer.append_rows(MEMCHECK_ERROR, errors)
    writer.manifest = writer.manifest.changed(
        sources=[{"id": "memcheck", "kind": "memcheck"}],
        default_table=MEMCHECK_ERROR.name if errors and not leaks else MEMCHECK_LEAK.name,
    )
