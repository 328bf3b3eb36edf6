"""``import "file.bt"``: finds the files that a script imports, each once, and appends their texts to its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from insitu.probe.source import ScriptError, Source, Span

__all__ = ["Imports"]

_MAX_FILES = 256
_MAX_BYTES = 1 << 20  # of one file


class Imports:
    """What a script has imported so far. Names are relative to the file that imports, or else to the script."""

    def __init__(self, source: Source) -> None:
        self._source = source
        script = Path(source.name)
        self._home = script.parent if script.is_file() else Path()
        self._seen = {script.resolve()}

    def add(self, name: str, span: Span) -> Iterator[int]:
        """Append the files that ``name`` means and that are new, one at a time: where their texts begin.

        :raises ScriptError: for a file that does not exist, cannot be read, or is writable by others.
        """
        for path in self._files(name, span):
            if path.resolve() in self._seen:
                continue
            self._seen.add(path.resolve())
            if len(self._seen) > _MAX_FILES:
                raise ScriptError(f"more than {_MAX_FILES} files are imported", self._source, span)
            yield self._source.add(self._read(path, span), str(path))

    def _files(self, name: str, span: Span) -> list[Path]:
        importer = self._source.name_at(span)
        homes = [self._home if importer == self._source.name else Path(importer).parent, self._home]
        try:
            path = next((home / name for home in homes if (home / name).exists()), None)
            if path is None:
                looked = " and ".join(dict.fromkeys(map(str, homes)))
                raise self._error(name, f"no such file in {looked}", span)
            if path.is_dir():
                files = sorted(path.glob("*.bt"))
                if not files:
                    raise self._error(name, "the directory holds no .bt files", span)
                return files
        except (OSError, ValueError) as error:
            raise self._error(name, getattr(error, "strerror", None) or str(error), span) from None
        if path.suffix != ".bt":
            raise self._error(name, "only .bt files, and directories of them, can be imported", span)
        return [path]

    def _read(self, path: Path, span: Span) -> str:
        try:
            # What runs as root must not come from where anybody puts files.
            file, directory = path.stat(), path.parent.stat()
            sticky = directory.st_mode & stat.S_ISVTX and file.st_uid in (0, os.geteuid())
            if file.st_mode & stat.S_IWOTH or (directory.st_mode & stat.S_IWOTH and not sticky):
                remedy = "chmod o-w"
                raise self._error(str(path), "it is writable by others", span, remedy=remedy)
            if file.st_size > _MAX_BYTES:
                raise self._error(str(path), f"it is larger than {_MAX_BYTES} bytes", span)
            return path.read_text(errors="surrogateescape")
        except OSError as error:
            raise self._error(str(path), error.strerror or str(error), span) from None

    def _error(self, name: str, why: str, span: Span, *, remedy: str = "") -> ScriptError:
        return ScriptError(f"cannot import {name!r}: {why}", self._source, span, remedy=remedy)
