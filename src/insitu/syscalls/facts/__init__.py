"""What the kernel's headers say: calls by number, constants by name, errors, signals.

The data beside this file is generated (tools/syscall_facts.py names its inputs) and committed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["CallFacts", "Constant", "Facts", "facts_of"]


class CallFacts(NamedTuple):
    """A call: its name, and its parameters as (C type, name)."""

    name: str
    parameters: tuple[tuple[str, str], ...]


class Constant(NamedTuple):
    """A named value. ``mask``: the bits that it says something about; other than its own for one of a field's values.

    A name that begins with ``<<`` is a field whose number is shown as it is: ``21<<MAP_HUGE_SHIFT``.
    """

    value: int
    name: str
    mask: int


class Facts:
    """The facts of one ABI: "x86_64", "x32", "i386" or "aarch64". Files are read when first needed."""

    def __init__(self, abi: str) -> None:
        self.abi = abi

    @functools.cached_property
    def calls(self) -> Mapping[int, CallFacts]:
        """Calls by number."""
        found = {}
        for line in _text(f"calls.{self.abi}").splitlines():
            nr, name, *parameters = line.split("\t")
            typed = (each.rpartition(" ") for each in parameters)
            found[int(nr)] = CallFacts(name, tuple((type_, word) for type_, _, word in typed))
        return found

    @functools.cached_property
    def is_known(self) -> bool:
        """Whether there are tables of this ABI."""
        return os.path.exists(_path(f"calls.{self.abi}"))  # noqa: PTH110

    @functools.cached_property
    def numbers(self) -> Mapping[str, int]:
        """Calls' numbers by name."""
        return {call.name: nr for nr, call in self.calls.items()}

    @functools.cached_property
    def _sections(self) -> Mapping[str, str]:
        """The text of each set: those that are not asked for are not read."""
        sections = (each.partition("]\n") for each in _text("constants")[1:].split("\n["))
        return {head: body for head, _, body in sections}

    @functools.cached_property
    def _unknown(self) -> Mapping[str, tuple[str, str]]:
        """Heads of sections by the name of the set, each with what its unknown values are called."""
        return {head.partition(" ")[0]: (head, head.partition(" ")[2]) for head in self._sections}

    def _own(self, name: str) -> str:
        """The set as this ABI has it, where that is another one."""
        own = f"{name}.{self.abi}"
        return own if own in self._unknown else name

    @functools.cache  # noqa: B019  # of a handful of objects that live as long as the process
    def constants(self, name: str) -> tuple[Constant, ...]:
        """Returns a set of constants, in the order in which they are tried and shown.

        Raises KeyError.
        """
        rows = []
        head, _ = self._unknown[self._own(name)]
        for line in self._sections[head].splitlines():
            value, word, *mask = line.split(" ")
            rows.append(Constant(int(value, 16), word, int(mask[0] if mask else value, 16)))
        return tuple(rows)

    def unknown(self, name: str) -> str:
        """Returns what strace(1) calls a value that a set does not have: "SEEK_???"."""
        return self._unknown[self._own(name)][1]

    def constant(self, name: str, value: int) -> str | None:
        """Returns the name of a value of a set (an enumeration), None if it has none."""
        return self._by_value(name).get(value)

    @functools.cache  # noqa: B019
    def _by_value(self, name: str) -> Mapping[int, str]:
        return {each.value: each.name for each in reversed(self.constants(name))}

    @functools.cached_property
    def _requests(self) -> Mapping[int, str]:
        first, _, short = _text("ioctls").partition("[32]\n")
        lines = (first + short if self.abi in ("i386", "x32") else first).splitlines()
        parts = (line.partition(" ") for line in lines)
        return {int(code, 16): words for code, _, words in parts}

    def request(self, code: int) -> str | None:
        """Returns the name of a request of ioctl(): "TCGETS"; where two have its number "A or B"."""
        return self._requests.get(code)

    def error_text(self, code: int) -> str:
        """Returns "-1 ENOENT (No such file or directory)"; "? ERESTARTSYS (To be restarted if SA_RESTART is set)"."""
        name, meaning = self._errors.get(code, (f"(errno {code})", ""))
        return f"{'?' if code in _RESTARTS else '-1'} {name}" + (f" ({meaning})" if meaning else "")

    @functools.cached_property
    def _errors(self) -> Mapping[int, tuple[str, str]]:
        import errno

        found = {code: (name, os.strerror(code)) for code, name in errno.errorcode.items()}
        return found | {code: (name, os.strerror(code)) for code, name in _OTHER_NAMES.items()} | _RESTARTS

    def errno_name(self, code: int) -> str:
        """Returns "ENOENT"."""
        return self._errors.get(code, (str(code), ""))[0]

    def signal_name(self, number: int) -> str:
        """Returns "SIGCHLD", "SIGRT_2"; the number if it has no name."""
        if 34 <= number <= 64:
            return f"SIGRT_{number - 32}"
        if number in (32, 33):
            return "SIGRTMIN" if number == 32 else "SIGRT_1"
        return self.constant("signal", number) or str(number)


# include/linux/errno.h: what a call returns to the kernel's own signal code, never to a program.
_RESTARTS = {
    512: ("ERESTARTSYS", "To be restarted if SA_RESTART is set"),
    513: ("ERESTARTNOINTR", "To be restarted"),
    514: ("ERESTARTNOHAND", "To be restarted if no handler"),
    516: ("ERESTART_RESTARTBLOCK", "Interrupted by signal"),
}
# Names that Python's errno module has otherwise, and the kernel's own (include/linux/errno.h).
_OTHER_NAMES = {35: "EDEADLK", 95: "EOPNOTSUPP", 515: "ENOIOCTLCMD", 524: "ENOTSUPP"}


@functools.cache
def facts_of(abi: str) -> Facts:
    """Returns the facts of an ABI. Raises FileNotFoundError for one without tables, when its calls are asked for."""
    return Facts(abi)


def _path(name: str) -> str:
    # Plain calls: importlib.resources and pathlib alone would double the time of a start.
    return os.path.join(os.path.dirname(__file__), name)  # noqa: PTH118, PTH120


def _text(name: str) -> str:
    with open(_path(name), encoding="utf-8") as file:  # noqa: PTH123
        return file.read()
