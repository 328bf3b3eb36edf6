"""Kinds of arguments, by name: a module for each family."""

from insitu.syscalls.argument import Kinds
from insitu.syscalls.kinds import (
    arrays,
    files,
    filters,
    memory,
    messages,
    mounts,
    numbers,
    poll,
    process,
    signals,
    sock_options,
    sockets,
    strings,
    time,
)

__all__ = ["KINDS"]

KINDS: Kinds = {
    **numbers.KINDS,
    **strings.KINDS,
    **arrays.KINDS,
    **files.KINDS,
    **mounts.KINDS,
    **memory.KINDS,
    **process.KINDS,
    **signals.KINDS,
    **time.KINDS,
    **poll.KINDS,
    **sockets.KINDS,
    **messages.KINDS,
    **sock_options.KINDS,
    **filters.KINDS,
}
