"""Arguments of the kernel's functions as lines of a listing.

A kernel has 50,000 functions: they share prototypes, and prototypes parameters, and each of these is written once.
"""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.probe.providers.base import OfFunctions
from insitu.symbols.btf_c import declaration

if TYPE_CHECKING:
    from insitu.symbols.btf import Btf

__all__ = ["LinesOfSets", "line"]

_UNUSUAL = "\0"  # in the place of a parameter for which more counts than its name and type


def line(type_: str, name: str) -> str:
    """One argument in a listing, as the kernel's format files and bpftrace write it: the type, then the name."""
    return f"    {type_} {name}\n"


class LinesOfSets(dict["Btf", "_PrototypeLines"]):
    """The lines of prototypes, by the set of types that they are in and their number, for one provider."""

    def __init__(self, provider: OfFunctions) -> None:
        super().__init__()
        self._provider = provider

    def __missing__(self, btf: Btf) -> _PrototypeLines:
        found = self[btf] = _PrototypeLines(btf, self._provider)
        return found

    def write(self, prototypes: set[tuple[Btf, int]]) -> None:
        """Write what is missing of these."""
        numbers: dict[Btf, list[int]] = {}
        for btf, number in prototypes:
            if number not in self[btf]:
                numbers.setdefault(btf, []).append(number)
        for btf, missing in numbers.items():
            self[btf].write(missing)


class _PrototypeLines(dict[int, "str | None"]):
    """The lines of a set's prototypes, by their numbers; None for those that only arguments() describes."""

    def __init__(self, btf: Btf, provider: OfFunctions) -> None:
        super().__init__()
        self[0] = ""
        self._btf = btf
        self._provider = provider
        self._declarations = _Declarations(btf, provider)
        self._names = _Names(btf)
        self._results: dict[int, str] = {}  # by the type that is returned

    def write(self, numbers: list[int]) -> None:
        """Write the lines of these."""
        takes_parameters, takes_result = self._provider.takes_parameters, self._provider.takes_result
        declared, named = self._declarations.__getitem__, self._names.__getitem__
        for number, parameters in zip(numbers, self._btf.parameter_words(numbers), strict=True):
            text: str | None = None
            try:
                if parameters is not None:
                    lines = map(add, map(declared, parameters[1::2]), map(named, parameters[::2]))
                    text = "".join(lines) if takes_parameters else ""
                    text = None if _UNUSUAL in text else text + self._result(number) if takes_result else text
            except InsituError:
                text = None
            self[number] = text

    def _result(self, prototype: int) -> str:
        _, _, type_id = self._btf.head(prototype)
        text = self._results.get(type_id)
        if text is None:
            returned = self._btf.type(type_id)
            text = line(returned.declaration(), "retval") if self._provider.is_result(returned) else ""
            self._results[type_id] = text
        return text


class _Declarations(dict[int, str]):
    """What a line has before its argument's name, by the argument's type."""

    def __init__(self, btf: Btf, provider: OfFunctions) -> None:
        super().__init__()
        self._btf = btf
        self._provider = provider

    def __missing__(self, type_id: int) -> str:
        type_ = self._btf.type(type_id)
        is_argument = self._provider.is_argument(type_)
        text = self[type_id] = line(declaration(type_), "")[:-1] if is_argument else _UNUSUAL
        return text


class _Names(dict[int, str]):
    """What a line has of its argument's name on, by the name's offset."""

    def __init__(self, btf: Btf) -> None:
        super().__init__({0: _UNUSUAL})
        self._btf = btf

    def __missing__(self, offset: int) -> str:
        text = self[offset] = f"{self._btf.string(offset)}\n"
        return text
