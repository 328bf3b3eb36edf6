"""The program, as ``insitu`` and as ``python -m insitu``."""

# The built-in module behind `signal`, which would first import enum: until all is imported, Ctrl-C ends the process
# without a traceback. Before this line only Python itself has run (site, .pth files), where it prints one.
import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import atexit
import os
import sys

from insitu.quick_imports import QuickImports

with QuickImports():
    from insitu import cli

__all__ = ["main"]

_ended: list[int] = []


def main() -> int:
    """Run the command line of this process; returns the exit status."""
    status = cli.main()
    _ended.append(status)
    return status


def _leave() -> None:
    """Exit without finalizing the interpreter, which would take a sixth of a short run."""
    if _ended:
        sys.stderr.flush()  # standard output is flushed by now, and its errors are reported
        os._exit(_ended[0])


# What is registered first is called last: after everything else that happens at exit.
atexit.register(_leave)

if __name__ == "__main__":
    sys.exit(main())
