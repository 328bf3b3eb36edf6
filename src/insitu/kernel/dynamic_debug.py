"""Dynamic debug: its sites and their flags (Documentation/admin-guide/dynamic-debug-howto.rst)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from insitu.errors import InsituError

__all__ = ["Site", "parse_control", "read_sites", "restore", "write_query"]

_CONTROLS: Final = ("/proc/dynamic_debug/control", "/sys/kernel/debug/dynamic_debug/control")
# drivers/usb/core/hub.c:1234 [usbcore]hub_port_init =_ "port %d\012"; from 6.x on with ` class:NAME` behind
_LINE: Final = re.compile(
    r'(\S+):(\d{1,9}) \[([^\]]+)\](\S+) =(\w+) "((?:[^"\\]|\\.)*)"(?: class(?: unknown)?:? ?(\S+))?'
)
_MOST_SITES: Final = 1 << 18
_ESCAPE: Final = re.compile(r"\\(\d{3}|.)")


class Site(NamedTuple):
    """A pr_debug() or dev_dbg(). ``flags`` is "_" where none is set; ``format`` is as in the source."""

    file: str
    line: int
    module: str
    function: str
    flags: str
    format: str

    @property
    def place(self) -> str:
        """The site as a source location."""
        return f"{self.file}:{self.line}"

    @property
    def key(self) -> str:
        """What tells it from others, as a query."""
        return f"file {self.file} line {self.line} module {self.module} func {self.function}"


def parse_control(text: str) -> list[Site]:
    """The sites of a control file; lines that are no sites are left out."""
    found = []
    for line in text.splitlines()[:_MOST_SITES]:
        if match := _LINE.fullmatch(line):
            file, number, module, function, flags, format_, _ = match.groups()
            found.append(Site(file, int(number), module, function, flags, _ESCAPE.sub(_unescaped, format_)))
    return found


def _unescaped(match: re.Match[str]) -> str:
    word = match[1]
    return chr(int(word, 8)) if word.isdecimal() and len(word) == 3 else {"n": "\n", "t": "\t"}.get(word, word)


def _control() -> str:
    for path in _CONTROLS:
        if os.path.exists(path):  # noqa: PTH110
            return path
    raise InsituError("this kernel has no dynamic debug", remedy="it needs CONFIG_DYNAMIC_DEBUG=y")


def read_sites() -> list[Site]:
    """All sites of this kernel and its modules. Raises InsituError where there are none, or not for this user."""
    path = _control()
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return parse_control(file.read())
    except OSError as error:
        raise InsituError(f"cannot read {path}: {error.strerror}", remedy="needs root or CAP_DAC_OVERRIDE") from None


def write_query(query: str) -> None:
    """Change flags by a query in the kernel's own language. Raises InsituError where the kernel refuses it."""
    path = _control()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, query.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == 22:
            raise InsituError(
                f"the kernel does not understand the query: {query}",
                remedy="such as: module usbcore func hub_* line 1-200 +p",
                status=2,
            ) from None
        raise InsituError(f"cannot write {path}: {error.strerror}", remedy="needs root or CAP_DAC_OVERRIDE") from None


def restore(before: Iterable[Site]) -> None:
    """Give those of these sites whose flags have changed the flags that they had."""
    flags = {site.key: site.flags for site in read_sites()}
    for site in before:
        if flags.get(site.key, site.flags) != site.flags:
            write_query(f"{site.key} ={site.flags}")
