"""Questions as SQL over a session's tables. stdlib/ has views that users may use, one to a file.

A file begins with comment lines: what a row is, then ``question:``, ``inputs:``, perhaps ``uses:`` (other views of
stdlib, which are made first), then a line ``name: what it says`` for each column.
"""

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Header", "header", "stdlib_headers"]

_STDLIB: Final = Path(__file__).parent / "stdlib"
_WORDS: Final = ("question", "inputs", "uses")


class Header(NamedTuple):
    """The comment of a file: what a row of the view is, the question that it answers, its inputs and columns."""

    doc: str
    question: str
    inputs: tuple[str, ...]
    columns: dict[str, str]


def header(text: str) -> Header:
    """The header of an analysis. Raises ValueError where a comment line has another form."""
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
    inputs = tuple(each.strip() for each in entries.get("inputs", "").split(",") if each.strip())
    columns = {name: said for name, said in entries.items() if name not in _WORDS}
    return Header(doc, entries.get("question", ""), inputs, columns)


@cache
def stdlib_headers() -> dict[str, Header]:
    """The headers of the views that users may use, by the view's name."""
    return {file.stem: header(file.read_text(encoding="utf-8")) for file in sorted(_STDLIB.glob("*.sql"))}
