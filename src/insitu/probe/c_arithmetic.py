"""Arithmetic as C does it, for numbers that user space works out."""

from __future__ import annotations

__all__ = ["quotient"]


def quotient(number: int, divisor: int) -> int:
    """Division towards zero, as the kernel's programs divide; by zero, 0."""
    if not divisor:
        return 0
    whole = abs(number) // abs(divisor)
    return whole if (number < 0) == (divisor < 0) else -whole
