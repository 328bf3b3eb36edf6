"""Source lines of a binary: where the code of a line begins, once for each function or copy of one it is in."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from insitu.errors import InsituError
from insitu.probe.providers.base import AbsentError
from insitu.symbols.debug_files import find_debug_file
from insitu.symbols.elf import Elf
from insitu.symbols.function_addresses import FunctionAddresses
from insitu.symbols.line_table import LineTable
from insitu.symbols.symcache import Row

__all__ = ["CodeOfLine", "code_of_line", "line_table"]


class CodeOfLine(Struct, frozen=True):
    """The first instruction of a line: its address, and the function of the symbol table that it is in.

    ``depth``: how many functions are inlined into one another up to the one that the line is in.
    """

    address: int
    function: str
    start: int
    depth: int


def line_table(elf: Elf, path: str) -> LineTable:
    """The source lines of a binary, or of its separate debug file.

    :raises AbsentError: without debug information.
    """
    table = LineTable.of(elf, root=elf.root)
    if table is None:
        debug = find_debug_file(elf, elf.path, elf.root)
        table = LineTable.of(debug, beside=[(elf.path, elf.root)], root=elf.root) if debug is not None else None
    if table is None:
        raise AbsentError(f"{path} has no debug information", remedy="compile it with -g, or install its debug file")
    return table


def code_of_line(elf: Elf, path: str, source: str, line: int, table: LineTable | None = None) -> list[CodeOfLine]:
    """Where the code of a line begins; ``source`` is a source file's path or the end of it.

    ``table`` is what ``line_table`` returns, where it is known.

    :raises AbsentError: without debug information, for an unknown or ambiguous file, and a line without code.
    """
    if table is None:
        table = line_table(elf, path)

    def is_wanted(file: str) -> bool:
        return file == source if source.startswith("/") else f"/{file}".endswith(f"/{source}")

    rows = table.rows(is_wanted)
    files = sorted({at.file for row in rows for at in row.chain if is_wanted(at.file)})
    if not files:
        raise AbsentError(f"{path} has no code of a source file {source}")
    if len(files) > 1:
        raise InsituError(f"{source} is ambiguous in {path}: {', '.join(files)}", remedy="write more of the path")
    (file,) = files
    # What a line calls inlined is code of the line, too: its own may be only what is done when the call has failed.
    found = [row for row in rows if any(at[1:] == (file, line) for at in row.chain)]
    if not found:
        lines = {at.line for row in rows for at in row.chain if at.file == file and at.line}
        nearest = min(lines, key=lambda other: (abs(other - line), -other), default=0)
        message = f"{path} has no code of {source}:{line}"
        raise AbsentError(message, remedy=f"the nearest line with code is {nearest}" if nearest else "")
    return list(_first_of_each(elf, found, file, line))


def _first_of_each(elf: Elf, rows: list[Row], file: str, line: int) -> Iterator[CodeOfLine]:
    """A line's code may be in pieces: the first of them, for each function and each place that it is inlined at."""
    functions = FunctionAddresses(elf)
    seen = set()
    for row in rows:
        called = row.chain[-1].function.decode(errors="replace")
        function, start = functions.around(row.address) or (called, row.address)
        depth = next(index for index, at in enumerate(row.chain) if at[1:] == (file, line))
        instance = (start, row.chain[depth + 1 :])
        if instance not in seen:
            seen.add(instance)
            yield CodeOfLine(row.address, function, start, len(row.chain) - 1 - depth)
