"""What both engines are asked to record."""

from __future__ import annotations

from typing import NamedTuple

from insitu.syscalls.injection import Injection

__all__ = ["EngineOptions"]


class EngineOptions(NamedTuple):
    """What to record of each call. Calls are (abi, number) of facts.Facts: see Enter."""

    calls: frozenset[tuple[str, int]] | None = None
    """The calls to record; None: all."""
    string_limit: int = 32
    """-s: bytes of a string or buffer."""
    verbose: bool = False
    """-v: what structures abbreviate otherwise, such as the strings of an environment."""
    stacks: bool = False
    """-k: user stacks, at entry."""
    descriptors: int = 0
    """-y: 1, what descriptors are open on; -yy: 2, with the addresses of sockets."""
    paths: tuple[str, ...] = ()
    """-P: only calls that have to do with these."""
    slower_ns: int = 0
    """Calls that took less are not recorded; of the BPF engine."""
    inject: tuple[Injection, ...] = ()
    """Of the ptrace engine; a later one replaces an earlier one's calls."""
    seccomp: bool = False
    """Of the ptrace engine, with a command: only ``calls`` stop it. It is killed if this program is."""
