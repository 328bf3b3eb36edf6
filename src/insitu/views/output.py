"""Bytes to standard output, all of them."""

import sys

__all__ = ["write_stdout"]


def write_stdout(data: bytes) -> None:
    """Write ``data`` to standard output. Raises BrokenPipeError where the reader has gone.

    ``sys.stdout.buffer`` is a raw file when Python runs unbuffered (-u, PYTHONUNBUFFERED): its ``write`` may write
    a part only, and says so in a result that is easily overlooked.
    """
    sys.stdout.flush()
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(data)
