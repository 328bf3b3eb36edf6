"""Malformed lines of a text: an error, or skipped and counted."""

from typing import Final

from insitu.errors import InsituError

__all__ = ["BadLines"]

_SHOWN: Final = 3


class BadLines:
    """Collects the bad lines of the file ``name`` if they are to be skipped, else raises InsituError at the first."""

    def __init__(self, name: str, *, skip: bool) -> None:
        self.name = name
        self.skip = skip
        self._count = 0
        self._shown: list[str] = []

    def add(self, number: int, reason: str) -> None:
        """Line ``number`` (from 1) is bad."""
        if not self.skip:
            raise InsituError(
                f"{self.name}: line {number}: {reason}", remedy="insitu import --skip-bad-lines leaves it out"
            )
        self._count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(f"line {number}: {reason}")

    def notes(self) -> list[str]:
        """Notes about skipped lines: none, or one sentence."""
        if not self._count:
            return []
        lines = "1 bad line was" if self._count == 1 else f"{self._count} bad lines were"
        more = "; ..." if self._count > _SHOWN else ""
        return [f"{lines} left out ({'; '.join(self._shown)}{more})"]
