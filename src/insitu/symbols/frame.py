"""A frame: one function at one line of the source, by the name that a person would use."""

import re
from typing import Final, NamedTuple

__all__ = [
    "CORE_TEXT",
    "JIT",
    "KERNEL",
    "PYTHON",
    "ROOT",
    "USER",
    "WAKER",
    "Frame",
    "lasting_label",
    "module_label",
]

USER: Final = "user"
KERNEL: Final = "kernel"
JIT: Final = "jit"
PYTHON: Final = "python"
ROOT: Final = "root"
WAKER: Final = "waker"
"""Of the stack of what ended a wait, drawn upside down above it."""
CORE_TEXT: Final = "[kernel.kallsyms]"
"""The module of the kernel itself."""

_OF_ONE_RUN: Final = re.compile(r" 0x[0-9a-f]+\]$|:\[\d+\]\]$")


class Frame(NamedTuple):
    """One function of a callchain, symbolized.

    ``function`` is demangled; where no symbol covers the address it is ``module+0xoffset`` and, without a
    module, the address itself in hexadecimal. ``module`` is the path of the file ("[kernel.kallsyms]",
    "[vdso]", "[ext4]" for what has none). ``file`` is "" and ``line`` 0 where no line table covers the
    address. ``inlined`` frames have no call of their own: they are part of the next outer frame that is
    not inlined. ``kind`` is one of the constants of this module, or in stacks of wall
    time (convert/wall.py) a thread's state, or ``waker``. ``symbolized`` is False where ``function`` is
    an address or made from the module's name, because no symbol covers the address.
    """

    function: str
    module: str = ""
    file: str = ""
    line: int = 0
    inlined: bool = False
    kind: str = USER
    symbolized: bool = True


def module_label(module: str) -> str:
    """What stands for functions without a symbol: the module's file name in brackets, "[unknown]" without one."""
    return f"[{module.rpartition('/')[2].strip('[]') or 'unknown'}]"


def lasting_label(function: str) -> str:
    """What a wait is called in every run: "[futex]" for "[futex 0x7f1234]", "[read pipe]" for "[read pipe:[5695]]".

    Where locks lie changes with each run (address space layout randomization), as inode numbers of pipes and sockets
    do. Other names are returned as they are.
    """
    return _OF_ONE_RUN.sub("]", function) if function[:1] == "[" else function
