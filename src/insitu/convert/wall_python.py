"""Python functions that threads were blocked in, as record/sources/wall_python.py has read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from insitu.convert.wall_stacks import Frames
from insitu.symbols.frame import PYTHON, Frame

__all__ = ["PYTHON_WAITS", "divided", "python_frames", "python_waits", "with_python"]

PYTHON_WAITS: Final = "python.json"
"""Of places: the Python stacks that threads had there, and how often each was seen."""

_MOST_TEXT: Final = 4096
_MOST_FRAMES: Final = 256
_EVALUATES: Final = re.compile(r"_PyEval_EvalFrame|_PyEval_Vector$|PyEval_EvalCode$")
_INTERPRETER: Final = re.compile(r"(lib)?python[\d.]*[a-z]*(\.so[.\d]*)?$")


class _Waits(msgspec.Struct):
    stacks: list[list[tuple[str, str, int]]]
    waits: list[tuple[int, int, int]]


def python_waits(data: bytes) -> dict[int, list[tuple[Frames, int]]]:
    """Stacks and how often each was seen by the number of a place, or for waits since before by -tid.

    Raises ValueError.
    """
    try:
        found = msgspec.json.decode(data, type=_Waits)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{PYTHON_WAITS}: {error}") from None
    stacks = [python_frames(stack[:_MOST_FRAMES]) for stack in found.stacks]
    waits: dict[int, list[tuple[Frames, int]]] = {}
    for place, stack, count in found.waits:
        if 0 <= stack < len(stacks) and count > 0:
            waits.setdefault(place, []).append((stacks[stack], count))
    return waits


def python_frames(stack: Iterable[tuple[str, str, int]]) -> Frames:
    """Functions with their files and lines, as the interpreter knows them, as frames."""
    return tuple(
        Frame(function[:_MOST_TEXT], file[:_MOST_TEXT], file[:_MOST_TEXT], max(0, line), kind=PYTHON)
        for function, file, line in stack
    )


def divided(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` in parts as large as their weights, which add up to it."""
    whole, seen, given, parts = sum(weights), 0, 0, []
    for weight in weights:
        seen += weight
        parts.append(total * seen // whole - given)
        given += parts[-1]
    return parts


def with_python(user: Frames, python: Frames) -> Frames:
    """A user stack with the functions of Python in place of those of the interpreter that run them."""
    if not python:
        return user
    evaluating = [at for at, frame in enumerate(user) if _EVALUATES.match(frame.function)]
    inside = [at for at, frame in enumerate(user) if _INTERPRETER.match(frame.module.rpartition("/")[2])]
    end = next(iter(evaluating or inside), len(user))
    return (*user[:end], *python)
