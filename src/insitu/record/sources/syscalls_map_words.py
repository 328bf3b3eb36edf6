"""What stands in the maps of the script for system calls (syscalls_script.py), beside the words of capture_words."""

from __future__ import annotations

import os
from typing import Final

from insitu.syscalls import capture_words as words

__all__ = [
    "EXECVE",
    "FOUR_ARGUMENTS",
    "MOST_STRING",
    "MOVES",
    "ON_FAILURE",
    "ON_SOCKET",
    "OPENS",
    "OPENS_BY_FCNTL",
    "OPENS_PAIR",
    "OPENS_PAIR_AT_3",
    "READS_MORE",
    "WANTED",
    "WORDS",
    "WORD_MASK",
    "WORKING_DIRECTORY",
    "WRITES",
    "WRITES_MORE",
]

MOST_STRING: Final = 4096

# Bits of a call's word in @call. Above them are the word of what its entry reads, and of its exit.
WORDS: Final = 12
WORD_MASK: Final = (1 << words.WORD_BITS) - 1
WANTED: Final = 1
READS_MORE: Final = 2
FOUR_ARGUMENTS: Final = 4
"""More than three."""
WRITES: Final = 8
WRITES_MORE: Final = 16
ON_FAILURE: Final = 256
"""It writes even where it fails."""

# Bits of the word in @opens of calls that make descriptors, recorded or not.
OPENS: Final = 1
OPENS_PAIR: Final = 2
"""It writes two of them to where the first argument points, with OPENS_PAIR_AT_3 the fourth."""
OPENS_PAIR_AT_3: Final = 4
OPENS_BY_FCNTL: Final = 32
"""It does so with F_DUPFD and F_DUPFD_CLOEXEC only."""
MOVES: Final = 8
"""It changes the working directory."""
ON_SOCKET: Final = 16
"""Its first argument may be a socket, which may have other addresses afterwards."""

EXECVE: Final = (59, 322) if os.uname().machine == "x86_64" else (221, 281)
"""Numbers of execve() and execveat()."""
WORKING_DIRECTORY: Final = 0xFFFFFF9C
"""AT_FDCWD, as an unsigned int: the descriptor of the working directory."""
