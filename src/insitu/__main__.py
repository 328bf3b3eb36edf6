"""The program, as ``insitu`` and as ``python -m insitu``."""

import atexit
import os
import signal
import sys

# Until everything is imported Ctrl-C just ends the program, without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from insitu import cli

__all__ = ["main"]

_ended: list[int] = []


def main() -> int:
    """Run the command line of this process, which is to end with the status that is returned."""
    status = cli.main()
    _ended.append(status)
    return status


def _leave() -> None:
    """Leave without taking the interpreter apart, which would be a sixth of a short run."""
    if _ended:
        sys.stderr.flush()  # standard output is flushed by now, and its errors are told
        os._exit(_ended[0])


# What is registered first is called last: all else that is to happen at exit has happened then.
atexit.register(_leave)

if __name__ == "__main__":
    sys.exit(main())
