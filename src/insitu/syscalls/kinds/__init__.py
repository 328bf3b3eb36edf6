"""Kinds of arguments, by name: a module for each family."""

from insitu.syscalls.argument import Kinds
from insitu.syscalls.kinds import files, filters, messages, numbers, sock_options, sockets, strings

__all__ = ["KINDS"]

KINDS: Kinds = {**numbers.KINDS, **strings.KINDS, **files.KINDS, **sockets.KINDS, **messages.KINDS,
    **sock_options.KINDS, **filters.KINDS}
