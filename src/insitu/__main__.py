"""The program, as ``insitu`` and as ``python -m insitu``."""

import signal
import sys

# Until everything is imported Ctrl-C just ends the program, without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from insitu.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
