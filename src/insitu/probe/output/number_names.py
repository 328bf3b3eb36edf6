"""Names of errors, signals and system calls, which user space looks up by their numbers."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["KINDS", "number_name", "numbers_by_name"]


def _error(number: int) -> str:
    import os

    return os.strerror(number) if 0 <= number < 4096 else str(number)


def _signal(number: int) -> str:
    """strsignal(3); "N/A" beyond the last real-time signal, as in bpftrace."""
    import signal

    if not 0 <= number < signal.NSIG:
        return "N/A"
    return (signal.strsignal(number) if number else None) or f"Unknown signal {number}"


def _system_call(number: int) -> str:
    from insitu.syscalls.native import syscall_name

    return syscall_name(number)


# Kind of a number -> its name, and how many numbers from 0 on may have one.
KINDS: dict[str, tuple[Callable[[int], str], int]] = {
    "errno": (_error, 4096),
    "signal": (_signal, 65),
    "syscall": (_system_call, 1024),
}


def number_name(kind: str, number: int) -> str:
    """The name of a number of one of KINDS."""
    return KINDS[kind][0](number)


def numbers_by_name(kind: str) -> dict[str, int]:
    """The numbers of one of KINDS by their names."""
    name, end = KINDS[kind]
    return {name(number): number for number in range(end)}
