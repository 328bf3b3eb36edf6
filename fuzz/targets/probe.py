"""The probe language, and its cache of compiled programs."""

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from fuzz.bundle import is_bundle, write_files
from fuzz.registry import Read
from insitu.errors import InsituError
from insitu.probe import cache
from insitu.probe.options import Options
from insitu.probe.passes import Unit, run_passes
from insitu.probe.providers.base import Context
from insitu.probe.source import Source

__all__ = ["cache_entry", "script", "script_files"]


class _NoKernel(Context):
    """A kernel that describes no types, so that a script means the same everywhere."""

    @cached_property
    def btf(self) -> Any:
        raise InsituError("no BTF here")


def _checked(text: str, name: str) -> None:
    run_passes(Unit(Source(text, name), Options(parameters=["5", "word"]), _NoKernel()))


def script(directory: Path) -> Read:
    """A script, up to the last check before code is made of it."""

    def read(data: bytes) -> None:
        _checked(data.decode(errors="surrogateescape"), "stdin")

    return read


def script_files(directory: Path) -> Read:
    """A script "main.bt" and what it imports."""
    directory.chmod(0o755)

    def read(data: bytes) -> None:
        home = directory / "scripts"
        try:
            write_files(data if is_bundle(data) else b"FUZZBNDL", home)
            main = home / "main.bt"
            text = main.read_text(errors="surrogateescape") if main.is_file() else ""
            _checked(text, str(main))
        finally:
            shutil.rmtree(home, ignore_errors=True)

    return read


def cache_entry(directory: Path) -> Read:
    """An entry of the cache without its checksum, which damage does not get past."""
    path = directory / "entry"
    cache.entry_path = lambda key: str(path)

    def read(data: bytes) -> None:
        path.write_bytes(cache.checksum(data) + data)
        entry = cache.load_entry("key")
        if entry is not None:
            repr(entry)

    return read
