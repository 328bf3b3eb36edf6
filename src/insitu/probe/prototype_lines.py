"""Arguments of the kernel's functions as lines of a listing.

A kernel has 50,000 functions: they share prototypes, and prototypes parameters, and each of these is written once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.probe.providers.base import OfFunctions

if TYPE_CHECKING:
    from insitu.symbols.btf import Btf

__all__ = ["LinesOfSets", "line"]

_UNUSUAL = "\0"  # in the place of a parameter for which more counts than its name and type


def line(declaration: str, name: str) -> str:
    """One argument in a listing, as the kernel's format files and bpftrace write it: the type, then the name."""
    return f"    {declaration} {name}\n"


class LinesOfSets(dict["Btf", "_PrototypeLines"]):
    """The lines of prototypes, by the set of types that they are in and their number, for one provider."""

    def __init__(self, provider: OfFunctions) -> None:
        super().__init__()
        self._provider = provider

    def __missing__(self, btf: Btf) -> _PrototypeLines:
        found = self[btf] = _PrototypeLines(btf, self._provider)
        return found


class _PrototypeLines(dict[int, "str | None"]):
    """The lines of a set's prototypes, by their numbers; None for those that only arguments() describes."""

    def __init__(self, btf: Btf, provider: OfFunctions) -> None:
        super().__init__()
        self[0] = ""
        self._btf = btf
        self._provider = provider
        self._parameters = _ParameterLines(btf, provider)
        self._results: dict[int, str] = {}  # by the type that is returned

    def __missing__(self, prototype: int) -> str | None:
        try:
            text = self[prototype] = self._written(prototype)
        except InsituError:
            text = self[prototype] = None
        return text

    def _written(self, prototype: int) -> str | None:
        text = ""
        if self._provider.takes_parameters:
            lines = self._parameters
            text = "".join([lines[each] for each in self._btf.parameter_words(prototype)])
            if _UNUSUAL in text:
                return None
        return text + self._result(prototype) if self._provider.takes_result else text

    def _result(self, prototype: int) -> str:
        _, _, type_id = self._btf.head(prototype)
        text = self._results.get(type_id)
        if text is None:
            returned = self._btf.type(type_id)
            text = line(returned.declaration(), "retval") if self._provider.is_result(returned) else ""
            self._results[type_id] = text
        return text


class _ParameterLines(dict[int, str]):
    """Lines by parameters (Btf.parameter_words)."""

    def __init__(self, btf: Btf, provider: OfFunctions) -> None:
        super().__init__()
        self._btf = btf
        self._provider = provider
        self._types: dict[int, str] = {}
        self._names: dict[int, str] = {0: _UNUSUAL}

    def __missing__(self, parameter: int) -> str:
        offset, type_id = parameter & 0xFFFFFFFF, parameter >> 32
        declaration, name = self._types.get(type_id), self._names.get(offset)
        if declaration is None:
            type_ = self._btf.type(type_id)
            declaration = type_.declaration() if self._provider.is_argument(type_) else _UNUSUAL
            self._types[type_id] = declaration
        if name is None:
            name = self._names[offset] = self._btf.string(offset)
        text = self[parameter] = line(declaration, name)
        return text
