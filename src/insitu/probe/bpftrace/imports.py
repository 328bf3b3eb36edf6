"""``import "file.bt"``: finds the files that a script imports, each once, and appends their texts to its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from insitu.probe.bpftrace.script_files import directories, read_named
from insitu.probe.source import ScriptError, Source, Span

__all__ = ["Imports"]

_MAX_FILES = 256


class Imports:
    """What a script has imported so far. Names are relative to the file that imports, or else to the script."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._seen = {Path(source.name).resolve()}

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
        homes = directories(self._source, span)
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
            return read_named(path)
        except ValueError as error:
            remedy = "chmod o-w" if "writable" in str(error) else ""
            raise self._error(str(path), str(error), span, remedy=remedy) from None
        except OSError as error:
            raise self._error(str(path), error.strerror or str(error), span) from None

    def _error(self, name: str, why: str, span: Span, *, remedy: str = "") -> ScriptError:
        return ScriptError(f"cannot import {name!r}: {why}", self._source, span, remedy=remedy)
