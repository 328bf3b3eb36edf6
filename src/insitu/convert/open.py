"""Open a recording: a session directory, or a file that another tool recorded."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.errors import InsituError, damaged_recording
from insitu.files import temporary_home
from insitu.kernel import procfs
from insitu.session.directory import created_whole, is_private, is_session, raw_sources
from insitu.session.manifest import COMPLETE, Manifest, is_recording
from insitu.temporary_directories import TemporaryDirectory

# What reads and decodes is imported where it is needed: each way in needs other libraries.
if TYPE_CHECKING:
    from insitu.convert.formats.registry import Importer, ImportOptions
    from insitu.session.reader import Session
    from insitu.session.weighted_stacks import Selection, WeightedStacks

__all__ = ["folded_stacks", "import_file", "is_like_a_session", "load_stacks", "open_session", "temporary_session"]

_NOT_WRITABLE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT)


def open_session(path: str | Path, options: "ImportOptions | None" = None) -> "Session":
    """Open a session directory; a file of another tool is converted into a temporary session first.

    A session whose recorder died is converted in place; in a temporary directory if it cannot be written, or if
    others can write there, too. One that is still being recorded is readable up to now.
    Raises InsituError when ``path`` is none of these.
    """
    from insitu.session.reader import Session

    path = Path(path)
    if _is_session(path):
        if _is_whole(path) or _converted_in_place(path):
            return Session(path)
        return _converted_elsewhere(path)
    return temporary_session(lambda target: import_file(path, target, options, lasting=False), str(path))


def is_like_a_session(path: Path) -> bool:
    """Whether it is a session, or a file whose tables are more than stacks. Raises as open_session does."""
    return _is_session(path) or ((path.is_file() or not path.exists()) and _importer(path).beyond_stacks)


def load_stacks(
    path: str | Path, want: "Selection | None" = None, *, times: bool = False, options: "ImportOptions | None" = None
) -> "WeightedStacks":
    """The weighted stacks of a session, or of a file of another tool, for which nothing is written.

    ``options`` say how such a file is read. Raises InsituError when ``path`` is neither, cannot be read, or
    nothing is selected.
    """
    from insitu.session.weighted_stacks import Selection

    path, want = Path(path), want or Selection()
    importer = None if _is_session(path) else _importer(path)
    if importer is None or importer.beyond_stacks:
        with open_session(path, options) as session:
            return session.stacks(want, times=times)
    from insitu.convert.formats.registry import ImportOptions
    from insitu.session.memory_stacks import stacks_in_memory
    from insitu.session.writer import MemoryTables, SessionWriter

    tables = MemoryTables()
    writer = SessionWriter(tables, Manifest.imported(procfs, str(path)))
    importer.read(path, writer, options or ImportOptions())
    writer.finish()
    return stacks_in_memory(tables, writer, want, times=times)


def folded_stacks(text: str, name: str) -> "WeightedStacks":
    """The weighted stacks of lines "comm;outer;inner count"; ``name`` is for messages. Raises as read_folded does."""
    from insitu.convert.formats.folded_reader import read_folded
    from insitu.session.memory_stacks import stacks_in_memory
    from insitu.session.weighted_stacks import Selection
    from insitu.session.writer import MemoryTables, SessionWriter

    tables = MemoryTables()
    writer = SessionWriter(tables, Manifest.imported(procfs, name))
    read_folded(text.encode(errors="surrogateescape"), name, writer, comm_first=True)
    writer.finish()
    return stacks_in_memory(tables, writer, Selection())


def import_file(
    path: str | Path,
    output: str | Path,
    options: "ImportOptions | None" = None,
    *,
    name: str = "",
    lasting: bool = True,
) -> None:
    """Make the session ``output`` from a file of another tool; nothing is left there if that fails.

    ``name`` is shown as what it was made from (default: ``path``). Not ``lasting``: it is read once.
    Raises InsituError when ``path`` is not such a file, or cannot be read.
    """
    from insitu.convert.formats.registry import ImportOptions
    from insitu.session.writer import SessionWriter

    path, output = Path(path), Path(output)
    if _is_session(path):
        raise InsituError(f"{path}: " + ("already a session" if is_session(path) else "is a directory"))
    with (
        created_whole(output, Manifest.imported(procfs, name or str(path)), procfs) as session,
        SessionWriter.on_disk(session, lasting=lasting) as writer,
    ):
        _importer(path).read(path, writer, options or ImportOptions())
        writer.finish()


def _importer(path: Path) -> "Importer":
    from insitu.convert.formats.registry import importer_of

    if not path.exists():
        raise InsituError(
            f"{path}: no such file or directory", remedy="insitu profile, events, syscalls ... -o FILE record one"
        )
    return importer_of(path)


def _is_whole(path: Path) -> bool:
    # Without raw records there is nothing to convert, whatever the state says.
    return Manifest.read(path).state == COMPLETE or not (path / "raw").is_dir()


def _converted_in_place(path: Path) -> bool:
    """Convert what a dead recorder left; whether the session at ``path`` is complete now.

    Concurrent readers wait for each other.
    """
    from insitu.convert.sources import finish

    if is_recording(Manifest.read(path), procfs) or not is_private(path):
        return False
    try:
        return finish(path).state == COMPLETE
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        return False


def _converted_elsewhere(path: Path) -> "Session":
    """A session that cannot be converted in place, converted in a temporary place up to what is there now."""
    from insitu.convert.sources import locked
    from insitu.session.reader import Session

    # Whoever converts it in place has finished, or waits.
    with locked(path, shared=True, wait=is_private(path)):
        manifest = Manifest.read(path)
        if manifest.state != COMPLETE:
            return temporary_session(lambda target: _convert_copy(path, manifest, target), str(path))
    return Session(path)


def _convert_copy(path: Path, manifest: Manifest, target: Path) -> None:
    from insitu.convert.sources import convert_sources
    from insitu.session.writer import SessionWriter

    recording = is_recording(manifest, procfs)
    notes = [*manifest.notes]
    if recording:
        notes.append("still being recorded: this is the state when it was opened")
    if not raw_sources(path):
        raise InsituError(f"{path}: no records yet") if recording else damaged_recording(path, "no records")
    with (
        created_whole(target, manifest.changed(notes=notes), procfs) as session,
        SessionWriter.on_disk(session, lasting=False) as writer,
    ):
        convert_sources(path, writer)
        writer.finish()


def temporary_session(make: Callable[[Path], object], name: str = "") -> "Session":
    """A session that ``make(path)`` makes in a temporary directory, which is deleted with the object.

    ``name`` is what the user calls it: the file that it is made of.
    """
    import weakref

    from insitu.session.reader import Session

    home = temporary_home()
    try:
        directory = TemporaryDirectory(home, "insitu-", "")
    except OSError as error:
        raise InsituError(
            f"{home}: no temporary directory can be made: {error.strerror}", remedy="set TMPDIR to another directory"
        ) from None
    try:
        path = Path(directory.path, "opened.insitu")
        make(path)
        session = Session(path, name)
    except BaseException as error:
        directory.remove()
        if isinstance(error, OSError) and str(error.filename).startswith(directory.path):
            raise InsituError(
                f"{home}: {error.strerror}", remedy="make room, or set TMPDIR to another directory"
            ) from None
        raise
    session.on_close = weakref.finalize(session, directory.remove)
    return session


def _is_session(path: Path) -> bool:
    """Whether ``path`` is to be read as a session: any directory but one of perf record --threads."""
    from insitu.convert.formats.registry import is_perf_directory

    return path.is_dir() and (is_session(path) or not is_perf_directory(path))
