"""Files of other tools: what `insitu import` and the views take."""

import shutil
from pathlib import Path

from fuzz.bundle import is_bundle, write_files
from fuzz.registry import Read
from fuzz.targets.isolation import without_files_here
from insitu.convert.formats.registry import ImportOptions
from insitu.convert.open import load_stacks

__all__ = ["imported", "perf_directory"]


def imported(directory: Path) -> Read:
    """A file of any format, which its first bytes decide."""
    without_files_here()

    def read(data: bytes) -> None:
        path = directory / "input"
        path.write_bytes(data)
        load_stacks(path)
        load_stacks(path, options=ImportOptions(as_perf=True, skip_bad_lines=True))

    return read


def perf_directory(directory: Path) -> Read:
    """The directory that perf record --threads makes."""
    without_files_here()

    def read(data: bytes) -> None:
        path = directory / "perf.data"
        try:
            write_files(data if is_bundle(data) else b"FUZZBNDL", path)
            load_stacks(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    return read
