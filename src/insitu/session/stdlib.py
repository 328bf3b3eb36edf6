"""SQL views for users: files in analyses/stdlib, one view each, and their headers.

A file begins with comment lines: what a row is, then ``question:``, ``inputs:``, perhaps ``uses:`` (other views,
which are made first), perhaps ``report: 3 files`` (its place, and its title, in ``insitu report``), perhaps
``spare: NAME, NAME`` (columns that a report leaves out where a terminal is too narrow), then a line ``name: meaning``
for each column.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Header", "header", "stdlib", "stdlib_headers", "tables_in"]

_STDLIB: Final = Path(__file__).parents[1] / "analyses" / "stdlib"
_WORDS: Final = ("question", "inputs", "uses", "report", "spare")


class Header(NamedTuple):
    """The comment of a file: what a row of the view is, its question, inputs and columns."""

    doc: str
    question: str
    inputs: tuple[str, ...]
    columns: dict[str, str]
    report: str = ""
    spare: tuple[str, ...] = ()


def header(text: str) -> Header:
    """The header of an analysis. Raises ValueError for a malformed comment line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    doc, *rest = lines or [""]
    entries: dict[str, str] = {}
    for line in rest:
        name, colon, said = line.partition(": ")
        if not colon or name in entries:
            raise ValueError(f"not a header line of an analysis: {line!r}")
        entries[name] = said
    inputs, spare = (
        tuple(each.strip() for each in entries.get(word, "").split(",") if each.strip())
        for word in ("inputs", "spare")
    )
    columns = {name: said for name, said in entries.items() if name not in _WORDS}
    return Header(doc, entries.get("question", ""), inputs, columns, entries.get("report", ""), spare)


@cache
def stdlib_headers() -> dict[str, Header]:
    """The headers of the views, by the view's name."""
    return {file.stem: header(file.read_text(encoding="utf-8")) for file in sorted(_STDLIB.glob("*.sql"))}


@cache
def stdlib() -> dict[str, str]:
    """The text of the views' SQL files, by the view's name, in the order in which to create them."""
    return {file.stem: file.read_text(encoding="utf-8") for file in _ordered(_STDLIB)}


def _ordered(directory: Path) -> Iterator[Path]:
    """Files ordered so that each comes after those that it uses (line "-- uses: NAME, NAME")."""
    files = {file.stem: file for file in sorted(directory.glob("*.sql"))}
    done: set[str] = set()

    def visit(name: str) -> Iterator[Path]:
        if name in done or name not in files:
            return
        done.add(name)
        for line in files[name].read_text(encoding="utf-8").splitlines():
            if line.startswith("-- uses:"):
                for other in line.removeprefix("-- uses:").split(","):
                    yield from visit(other.strip())
        yield files[name]

    for name in files:
        yield from visit(name)


def tables_in(query: str, names: Iterable[str]) -> list[str]:
    """Those of the tables ``names`` that a query may read, itself or by views: those whose names occur in it."""
    words = _words(query)
    for name, text in reversed(stdlib().items()):  # the views that one uses are before it
        if name in words:
            words |= _words(re.sub("--.*", "", text))
    return [name for name in names if words.issuperset(_words(name.rpartition(".")[2]))]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
