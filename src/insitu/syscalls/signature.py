"""Reads the tables of arguments (table/*.table): what the kernel's own headers do not say about each call."""

from __future__ import annotations

import functools
import os
import re
from typing import NamedTuple

__all__ = ["Parameter", "Signature", "signatures"]

_WORD = re.compile(r"([<>+!]{0,3})([a-z_0-9]+)(?:\(([^)]*)\))?(?:\[([^\]]*)\])?(\?)?$")


class Parameter(NamedTuple):
    """One argument: how it is shown, and what it points to.

    ``reads`` and ``writes``: whether the kernel reads, and writes, the memory it points to.
    """

    kind: str
    given: tuple[str, ...] = ()
    """In parentheses: parameters of the kind, such as the set of flags."""
    size: str = ""
    """In brackets: how many elements it points to: a number, an argument's position (``$2``; ``$2/8``: eight to an
    element, rounded up), what a pointer points to (``*$2``), or ``=`` for what the call returned."""
    reads: bool = True
    writes: bool = False
    aside: bool = False
    """Whether what the kernel wrote is not shown here: the result's text has it (select's sets)."""
    on_failure: bool = False
    """Whether the kernel writes it even where the call fails (nanosleep's remaining time)."""
    optional: bool = False
    """Whether it is shown only where its kind says so (the mode of open() without O_CREAT)."""


class Signature(NamedTuple):
    """A call's parameters, and the kind of what it returns."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: Parameter
    groups: tuple[str, ...] = ()
    """The sets of ``-e trace=%SET`` that have it."""


def parse_parameter(word: str) -> Parameter:
    """Returns the parameter that a word of the table describes: ``>stat``, ``<buffer[$2]``, ``flags(open)``.

    ``<`` is memory that the kernel reads (also without a mark), ``>`` that it writes, ``<>`` both, shown as
    ``before => after``; ``<+`` both, but what was written is shown in the result;
    ``!`` after these: written by failed calls too.
    Raises ValueError.
    """
    found = _WORD.match(word)
    if found is None:
        raise ValueError(f"invalid argument {word!r} in the table of calls")
    marks, kind, given, size, optional = found.groups()
    return Parameter(
        kind,
        tuple(each.strip() for each in given.split(",")) if given else (),
        size or "",
        reads=not marks.startswith(">"),
        writes=">" in marks or "+" in marks,
        aside="+" in marks,
        on_failure="!" in marks,
        optional=bool(optional),
    )


def parse_table(text: str) -> dict[str, Signature]:
    """Returns the calls of a table by name. A line is: name, arguments, ``= what it returns``, ``%groups``; ``#``
    begins a comment. A name ``a|b`` stands for several calls; ``a.i386``: of this ABI only.

    Raises ValueError.
    """
    found: dict[str, Signature] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        groups = tuple(word[1:] for word in words if word.startswith("%"))
        words = [word for word in words if not word.startswith("%")]
        returns = Parameter("int")
        if "=" in words:
            at = words.index("=")
            (returned,) = words[at + 1 :]
            returns, words = parse_parameter(returned), words[:at]
        parameters = tuple(parse_parameter(word) for word in words[1:])
        if len(parameters) > 6:
            raise ValueError(f"{words[0]}: more than six arguments")
        for name in words[0].split("|"):
            if name in found:
                raise ValueError(f"{name} is in the table of calls twice")
            found[name] = Signature(name, parameters, returns, groups)
    return found


@functools.cache
def signatures() -> dict[str, Signature]:
    """Returns every call of the tables, by name."""
    # Plain calls, as facts/ has them: importlib.resources and pathlib take as long to import as all tables to read.
    folder = os.path.join(os.path.dirname(__file__), "table")  # noqa: PTH118, PTH120
    texts = []
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        with open(os.path.join(folder, name), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            texts.append(file.read())
    return parse_table("\n".join(texts))
