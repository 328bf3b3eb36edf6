"""Converts the raw records of a session into its tables: one converter for each kind of source.

raw/SOURCE/layout.json says how to read raw/SOURCE/*.records: its "kind" names the converter, the rest is that
converter's. It holds everything needed for decoding, so that the recording of a killed recorder can be read.
"""

import contextlib
import fcntl
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from insitu.convert.file_bytes import FileBytes
from insitu.errors import InsituError, damaged_recording
from insitu.files import make_directory
from insitu.kernel import procfs
from insitu.session.directory import open_part, raw_sources
from insitu.session.manifest import COMPLETE, Manifest, is_recording
from insitu.session.writer import SessionWriter

if TYPE_CHECKING:
    from insitu.convert.raw import RawRecording

__all__ = ["LAYOUT", "RawSource", "convert_sources", "finish", "locked", "raw_bytes"]

LAYOUT: Final = "layout.json"
_MOST_TEXT_BYTES: Final = 64 << 20

# What decoding a layout that somebody has changed may end in.
_DAMAGE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
)

# Kind -> the module whose convert_source(RawSource, SessionWriter, Addresses) reads it.
_CONVERTERS: Final = {
    "perf": "insitu.convert.perf_source",
    "rows": "insitu.convert.rows",
    "probe": "insitu.convert.probe_source",
    "off_cpu": "insitu.convert.off_cpu",
    "counters": "insitu.convert.counters",
    "wall": "insitu.convert.wall",
    "syscalls": "insitu.convert.syscalls",
    "trace_pages": "insitu.convert.trace_events",
    "syscalls_ptrace": "insitu.convert.syscalls_ptrace",
    "user_calls": "insitu.convert.user_calls",
}


class RawSource:
    """The raw records of one source: its id, its layout and its files."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        """Raises InsituError where the layout cannot be read."""
        self.directory = directory
        self.id = directory.name
        self.manifest = manifest
        try:
            self.layout: Mapping[str, Any] = json.loads(_text(directory / LAYOUT))
        except (OSError, ValueError, RecursionError):
            raise damaged_recording(
                directory / LAYOUT, "it is not JSON, or missing, so that no record can be read"
            ) from None
        if not isinstance(self.layout, dict):
            raise damaged_recording(directory / LAYOUT, "it is no object of JSON, so that no record can be read")

    @property
    def kind(self) -> str:
        """Selects the converter."""
        return str(self.layout.get("kind"))

    @property
    def losses(self) -> list[dict[str, Any]]:
        """Losses that the records do not report, as the recorder wrote them at its end (see record/run.py)."""
        try:
            found = json.loads(_text(self.directory / "end.json"))["losses"]
            return [each for each in found if isinstance(each, dict) and isinstance(each.get("count"), int)]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return []

    def cut_off(self, file: Path, at: int, size: int) -> str:
        """The note about a stream of ``size`` bytes that cannot be read from byte ``at`` on."""
        return f"{self.id}/{file.name}: incomplete record at byte {at} dropped, and all after it ({size - at} bytes)"

    @property
    def files(self) -> list[Path]:
        """The streams of records."""
        return sorted(self.directory.glob("*.records"))

    @cached_property
    def recording(self) -> "RawRecording":
        """The records of a source of kind "perf". Raises InsituError when the layout is damaged."""
        from insitu.convert.perf_source import recording_of

        return recording_of(self)


def convert_sources(path: Path, writer: SessionWriter) -> None:
    """Convert the raw records of every source of a session into ``writer``.

    Sources of kind "perf" say what happened to processes, which those of other kinds need for their stacks.
    Raises InsituError where a layout cannot be read, or is of an unknown kind.
    """
    from insitu.convert.addresses import Addresses
    from insitu.convert.perf import no_collector, side_records_of
    from insitu.convert.perf_source import too_small_ring

    if not writer.manifest.end_ns and not is_recording(writer.manifest, procfs):
        writer.notes.append("the recorder was killed: up to a second of the end is missing")
    sources = []
    for directory in raw_sources(path):
        if not (directory / LAYOUT).exists() and not any(directory.glob("*.records")):
            writer.notes.append(f"{directory.name}: the recorder ended before it began")
            continue
        sources.append(RawSource(directory, writer.manifest))
    recordings = [source.recording for source in sources if source.kind == "perf"]
    kallsyms = path / "raw" / "kallsyms"
    with no_collector():
        addresses = Addresses(
            writer,
            side_records_of(*recordings),
            live=writer.manifest.live(procfs) and not kallsyms.exists(),
            kallsyms=_text(kallsyms) if kallsyms.exists() else None,
            unwinds=True,
            max_stack=max((recording.max_stack for recording in recordings), default=0),
        )
        for source in sources:
            module = _CONVERTERS.get(source.kind)
            if module is None:
                raise InsituError(
                    f"{source.directory / LAYOUT}: records of unknown kind {source.kind!r}", remedy="update insitu"
                )
            convert: Callable[[RawSource, SessionWriter, Addresses], None] = import_module(module).convert_source
            try:
                convert(source, writer, addresses)
            except _DAMAGE as error:
                what = f"{type(error).__name__}: {error}"
                raise damaged_recording(source.directory, what) from None
            for loss in source.losses:
                numbers = {name: _number(loss.get(name), default) for name, default in (("cpu", -1), ("ts_ns", 0))}
                writer.lost(str(loss.get("what", source.id)), _number(loss.get("count"), 0), **numbers)
        for source in sources:
            if source.kind == "perf" and (note := too_small_ring(source.manifest, source.id, writer)):
                writer.notes.append(note)
        addresses.finish()


def _number(found: Any, default: int) -> int:
    return found if isinstance(found, int) and -(2**31) <= found < 2**62 else default


def finish(path: Path) -> Manifest:
    """Convert raw/ to tables, drop it, and mark the session complete; its manifest.

    Until the tables are all there raw/ stays, so a failure (a full disk) loses nothing: OSError is raised, and what
    was written of the tables is removed. Converters that come at once wait for each other.
    Raises InsituError when raw/ cannot be read.
    """
    with locked(path):
        manifest = Manifest.read(path)
        if manifest.state == COMPLETE or not (path / "raw").is_dir():
            return manifest
        tables = path / "tables"
        shutil.rmtree(tables, ignore_errors=True)  # what an interrupted conversion left
        make_directory(tables)
        try:
            with SessionWriter.on_disk(path) as writer:
                convert_sources(path, writer)
                return writer.finish()
        except OSError:
            shutil.rmtree(tables, ignore_errors=True)
            raise


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a session's directory, alone or with other readers.

    Without ``wait``, go on without the lock where another process holds it: it may never give it up.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.nullcontext() if wait else contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)


def _opened(file: Path) -> int:
    """A file somewhere below raw/ of a session. Raises InsituError unless it is a regular file."""
    session = next(parent for parent in file.parents if parent.name == "raw").parent
    return open_part(session, file.relative_to(session))


def _text(file: Path) -> bytes:
    with os.fdopen(_opened(file), "rb") as opened:
        return opened.read(_MOST_TEXT_BYTES)


def raw_bytes(file: Path) -> FileBytes:
    """The bytes of a file of raw records. Raises InsituError unless it is a regular file."""
    return FileBytes(os.fdopen(_opened(file), "rb", buffering=0))
