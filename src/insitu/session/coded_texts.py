"""A column of texts of which few are distinct, as names of threads are: no object for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CodedTexts", "joined_texts"]


class CodedTexts:
    """n texts: ``codes`` (n) are indices into ``values``, in which a text may occur more than once."""

    __slots__ = ("codes", "values")

    def __init__(self, codes: NDArray[Any], values: Sequence[str]) -> None:
        self.codes: NDArray[np.int32] = codes.astype(np.int32, copy=False)
        self.values: Sequence[str] = values

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:
        return self.values[int(self.codes[row])]

    def __iter__(self) -> Iterator[str]:
        return map(self.values.__getitem__, self.codes.tolist())

    @property
    def nbytes(self) -> int:
        """About the memory that it takes."""
        return int(self.codes.nbytes) + 64 * len(self.values)

    def tolist(self) -> list[str]:
        """The texts."""
        return [*self]


def joined_texts(parts: Sequence[CodedTexts]) -> CodedTexts:
    """Columns one after another, as one in which every text occurs once."""
    index: dict[str, int] = {}
    codes = []
    for part in parts:
        code = np.array([index.setdefault(value, len(index)) for value in part.values], np.int32)
        codes.append(code[part.codes] if len(code) else part.codes)
    return CodedTexts(np.concatenate(codes), [*index])
