"""Scripts by name: files, and the built-in programs, each described in the comment that it begins with.

The comment: the question that the program answers, what it prints and how to use it, then lines ``Group:``,
``Columns:``, ``Events:``, ``Like:`` and perhaps ``Scope:``, each of which may continue on the lines below.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from insitu.errors import InsituError
from insitu.probe.source import Source

__all__ = ["GROUPS", "PROGRAMS", "Program", "built_in", "listed", "read_script", "script_text"]

_MOST_BYTES: Final = 16 << 20

PROGRAMS = Path(__file__).parents[2] / "programs"
GROUPS = ("Processes", "CPU", "Locks", "Files", "Block", "Network", "Memory", "Virtual machines", "Runtimes")

_COMMENT = re.compile(r"\s*/\*(.*?)\*/", re.DOTALL)
_FIELD = re.compile(r"(Group|Columns|Events|Like|Scope): +(.*)")


class Program(Struct, frozen=True):
    """What a program says of itself.

    ``columns``: what each that it prints means, and each map (``@us``). ``events``: the attach points, as
    ``kind:category:name``. ``like``: other tools with the same purpose. ``scope``: which processes it can be about:
    "" any, and a command with its descendants; "process": one, without its children; "tree": one and its
    descendants, also with -p; "machine, since ...": only all, for that reason.
    """

    name: str
    question: str
    description: str
    group: str
    columns: dict[str, str]
    events: tuple[str, ...]
    like: str
    scope: str = ""


def described(name: str, text: str) -> Program:
    """What the comment at the beginning of a program says; what it leaves out is empty."""
    comment = _COMMENT.match(text)
    lines = [line.strip(" *\t") for line in comment[1].strip().splitlines()] if comment else []
    fields: dict[str, str] = {}
    prose: list[str] = []
    field = ""
    for line in lines[1:]:
        if found := _FIELD.match(line):
            field = found[1]
            fields[field] = found[2]
        elif field:
            fields[field] += f" {line}"
        else:
            prose.append(line)
    columns = (each.strip().partition(" ") for each in fields.get("Columns", "").split(";"))
    return Program(
        name,
        lines[0] if lines else "",
        "\n".join(prose).strip(),
        fields.get("Group", ""),
        {column: meaning.strip() for column, _, meaning in columns if column},
        tuple(each.strip() for each in fields.get("Events", "").split(",") if each.strip()),
        fields.get("Like", ""),
        fields.get("Scope", ""),
    )


def built_in() -> list[Program]:
    """The built-in programs, by group and name."""
    found = [described(path.stem, path.read_text()) for path in PROGRAMS.glob("*.bt")]
    return sorted(found, key=lambda each: (GROUPS.index(each.group) if each.group in GROUPS else -1, each.name))


def listed() -> str:
    """The built-in programs as text: a line for each group, and below it one for each program."""
    programs = built_in()
    width = max(len(each.name) for each in programs)
    lines: list[str] = []
    group = ""
    for each in programs:
        if each.group != group:
            group = each.group
            lines += [*([""] if lines else []), group]
        lines.append(f"  {each.name:<{width}}  {each.question}")
    return "\n".join(lines)


def read_script(name: str) -> Source:
    """The file of that name, or the built-in program.

    :raises InsituError: without either, or when it is unreadable.
    """
    if not name:
        raise InsituError("the name of the script is empty", status=2)
    path = Path(name)
    is_ours = path.parent == PROGRAMS
    if not path.exists() and "/" not in name:
        own = PROGRAMS / f"{name.removesuffix('.bt')}.bt"
        if not own.exists():
            from insitu.errors import nearest

            close = nearest(name, [path.stem for path in PROGRAMS.glob("*.bt")])
            remedy = "insitu trace -l programs lists the built-in ones"
            raise InsituError(f"no script {name!r}{close}", remedy=remedy, status=2)
        path, is_ours = own, True
    try:
        with path.open("rb") as file:  # a FIFO, too: <(...) of a shell
            text = script_text(file, name)
        if text.startswith("\x7fELF"):
            ready = PROGRAMS / f"{path.stem}.bt"
            remedy = f"the ready program is {ready}" if ready.exists() else f"a command: -- {name}"
            raise InsituError(f"{name} is a program, not a script", remedy=remedy, status=2)
        return Source(text, name, built_in=is_ours, scope=described(name, text).scope if is_ours else "")
    except OSError as error:
        raise InsituError(f"cannot read {name}: {error.strerror}", status=2) from None


def script_text(file: BinaryIO, name: str) -> str:
    """The text of a script. Raises InsituError for one that does not end."""
    data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InsituError(f"{name} is larger than {_MOST_BYTES >> 20} MiB: no script", status=2)
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
