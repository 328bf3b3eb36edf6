"""Sysctls as text: value and first sentence, or one with its whole documentation; differences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from insitu.inspect.sysctl import Difference, Sysctl
from insitu.terminal_text import printable
from insitu.views.table import Column, Table
from insitu.views.terminal import Block

__all__ = ["difference_blocks", "sentence", "sysctl_blocks"]

_MOST_VALUE = 60


def sentence(text: str) -> str:
    """The first sentence of a documentation's prose, without its markup."""
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.startswith((".. ", "::", "=", "  ", "\t")) or paragraph.strip() == "::":
            continue
        plain = " ".join(re.sub(r":\w+:`([^`<]*?)(?: <[^>]*>)?`", r"\1", paragraph).replace("``", "").split())
        return re.split(r"(?<=[.:]) (?=[A-Z(])", plain, maxsplit=1)[0].rstrip(":")
    return ""


def sysctl_blocks(found: Sequence[Sysctl], texts: Mapping[str, str], version: str, *, whole: bool) -> Iterator[Block]:
    """Name, value and what it is; with ``whole`` the documentation itself."""
    for number, each in enumerate(found):
        value = each.value if each.value is not None else "(not readable)"
        yield [(each.name, "bold"), (f" = {value}", ""), ("" if each.setting else "  (read-only)", "dim")]
        text = texts.get(each.name, "")
        if whole:
            for line in text.splitlines() or ["(not in the kernel's Documentation/admin-guide/sysctl)"]:
                yield [(f"    {line}".rstrip(), "")]
            if number + 1 < len(found):
                yield [("", "")]
        elif text:
            yield [(f"    {printable(sentence(text))}", "dim")]
    if whole and any(each.name in texts for each in found):
        yield [(f"# documentation of Linux {version}, GPL-2.0", "dim")]


def difference_blocks(rows: Sequence[Difference], here: str, there: str) -> Iterator[Block]:
    """The settings that differ; first those that somebody has set."""
    for by_machine, title in ((False, "settings that differ"), (True, "made from the machine's size and devices")):
        chosen = [row for row in rows if row.by_machine == by_machine]
        if not chosen:
            continue
        yield [(f"# {title}", "bold")]
        columns = [Column("sysctl", "left"), Column(here, "left", most=_MOST_VALUE), Column(there, "left")]
        cells = [[(text if text is not None else "-", "") for text in row[:3]] for row in chosen]
        yield Table(columns, cells)
