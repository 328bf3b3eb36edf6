"""What a recorder left in raw/, turned into the session's tables: one converter for each kind of source.

raw/SOURCE/layout.json says how to read raw/SOURCE/*.records: its "kind" names the converter, the rest is that
converter's. Everything that is needed to decode stands there, so that a recorder that was killed has lost nothing.
"""

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from insitu.errors import InsituError
from insitu.session.directory import raw_sources
from insitu.session.manifest import Manifest
from insitu.session.writer import SessionWriter

__all__ = ["LAYOUT", "RawSource", "convert_sources", "finish", "mapped"]

LAYOUT: Final = "layout.json"
_MOST_LAYOUT_BYTES: Final = 64 << 20

# Kind -> the module whose convert_source(RawSource, SessionWriter) reads it.
_CONVERTERS: Final = {"perf": "insitu.convert.perf_source", "records": "insitu.convert.records"}


class RawSource:
    """The raw records of one source: its id, its layout and its files."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Raises InsituError where the layout cannot be read."""
        self.directory = directory
        self.id = directory.name
        self.manifest = manifest
        try:
            with (directory / LAYOUT).open("rb") as file:
                raw = file.read(_MOST_LAYOUT_BYTES)
            self.layout: Mapping[str, Any] = json.loads(raw)
        except (OSError, ValueError, RecursionError):
            raise InsituError(f"{directory / LAYOUT}: missing or damaged; its records cannot be read") from None
        if not isinstance(self.layout, dict):
            raise InsituError(f"{directory / LAYOUT}: damaged; its records cannot be read")

    @property
    def losses(self) -> list[dict[str, Any]]:
        """What the records do not tell of losses, as the recorder noted it at its end (see record/run.py)."""
        try:
            with (self.directory / "end.json").open("rb") as file:
                found = json.loads(file.read(_MOST_LAYOUT_BYTES))["losses"]
            return [each for each in found if isinstance(each, dict) and isinstance(each.get("count"), int)]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return []

    @property
    def files(self) -> list[Path]:
        """The streams of records."""
        return sorted(self.directory.glob("*.records"))


def convert_sources(path: Path, writer: SessionWriter) -> None:
    """Convert the raw records of every source of a session into ``writer``."""
    for directory in raw_sources(path):
        source = RawSource(directory, writer.manifest)
        kind = source.layout.get("kind")
        if kind not in _CONVERTERS:
            raise InsituError(f"{directory / LAYOUT}: records of unknown kind {kind!r}", remedy="update insitu")
        convert: Callable[[RawSource, SessionWriter], None] = import_module(_CONVERTERS[kind]).convert_source
        convert(source, writer)
        for loss in source.losses:
            writer.lost(
                loss.get("what", source.id), loss["count"], cpu=loss.get("cpu", -1), ts_ns=loss.get("ts_ns", 0)
            )


def finish(path: Path) -> Manifest:
    """Convert raw/ to tables, drop it, and mark the session complete; its manifest.

    Until the tables are all there raw/ stays, so a failure (a full disk) loses nothing: OSError is raised.
    Raises InsituError when raw/ cannot be read.
    """
    with SessionWriter.on_disk(path) as writer:
        convert_sources(path, writer)
        return writer.finish()


def mapped(file: Path) -> "memoryview | bytes":
    """A file's bytes, mapped where its file system can."""
    import mmap

    with file.open("rb") as opened:
        if not file.stat().st_size:
            return b""
        try:
            return memoryview(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ))
        except OSError:  # a file system without mmap(2), as 9p shares can be
            return opened.read()
