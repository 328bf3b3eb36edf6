"""Opens the file that a reader was given."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

from insitu.errors import InsituError
from insitu.foreign_files import open_kernel_link

__all__ = ["opened"]


def opened(path: Path) -> BinaryIO:
    """The regular file that the user named, through whatever links (/dev/stdin is one of the kernel's).

    Readers decide by a file's begin and then read it again. Raises InsituError for what they cannot, OSError.
    """
    try:
        return os.fdopen(open_kernel_link(str(path)), "rb")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise InsituError(
            f"{path}: not a regular file", remedy=f"to read a pipe: insitu import - -o RUN < {path}"
        ) from None
