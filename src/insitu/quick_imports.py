"""Imports of a start that is to be quick: half of what the interpreter would do besides is left out."""

from __future__ import annotations

import gc
import sys
from types import TracebackType

__all__ = ["QuickImports"]


class QuickImports:
    """In this context imports are quicker; for starts in the only thread.

    The garbage collector rests: what modules are made of stays, and it would be walked again and again. And msgspec
    does without typing_extensions, of which it takes what Python's own typing has: that imports inspect, ast and
    tokenize, which takes longer than msgspec itself.
    """

    def __enter__(self) -> None:
        gc.disable()
        self._hides = not sys.modules.keys() & {"msgspec", "typing_extensions"}
        if self._hides:
            sys.modules["typing_extensions"] = None  # type: ignore[assignment]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hides:
            del sys.modules["typing_extensions"]
        gc.freeze()
        gc.enable()
