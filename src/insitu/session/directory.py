"""A session's directory: create it, move an earlier one aside, list its files."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from insitu.errors import InsituError
from insitu.files import make_directory
from insitu.foreign_files import open_foreign
from insitu.session.manifest import MANIFEST, Host, Manifest, is_recording
from insitu.temporary_directories import TemporaryDirectory

Renamed = list[tuple[Path, Path]]
"""Sessions that were moved aside: where each was before, and where it is now."""

_OLDER = ".older"

__all__ = [
    "Renamed",
    "create",
    "created_whole",
    "drop_raw",
    "is_private",
    "is_session",
    "open_part",
    "put_back",
    "raw_sources",
    "refuse_in_the_way",
    "settle",
    "table_files",
]


def is_session(path: Path) -> bool:
    """Whether ``path`` is a session directory."""
    return (path / MANIFEST).is_file()


def create(path: Path, manifest: Manifest, host: Host) -> "Renamed":
    """Make a session without tables at ``path``; an older session there is kept as PATH.old.

    Follow it with ``settle`` when the recording has begun, or with ``put_back`` if it has not: both take what is
    returned. Raises InsituError if something that is not a session is in the way or the directory cannot be made.
    """
    with _made(path, manifest, host) as (shown, path, temporary):
        return _named_at_last(shown, path, temporary, host)


@contextmanager
def created_whole(path: Path, manifest: Manifest, host: Host) -> Iterator[Path]:
    """A new session under a temporary name, which becomes ``path`` at the end; if that fails it is removed.

    Raises InsituError as ``create`` does, before anything is written.
    """
    with _made(path, manifest, host) as (shown, path, temporary):
        yield temporary
        settle(_named_at_last(shown, path, temporary, host))


@contextmanager
def _made(path: Path, manifest: Manifest, host: Host) -> Iterator[tuple[str, Path, Path]]:
    """A new session under a temporary name, whole before it can be found; removed if the context fails.

    The path as it is shown, the path, and where the session is.
    """
    shown, path = str(path), _named(path)
    refuse_in_the_way(path, host)
    _refuse_undecodable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(str(path.parent), f".{path.name[:40]}.", ".partial")
    except OSError as error:
        raise _cannot_make(shown, error) from error
    try:
        made = Path(temporary.path)
        try:
            make_directory(made / "raw")
            make_directory(made / "tables")
            manifest.write(made)
        except OSError as error:
            raise _cannot_make(shown, error) from error
        yield shown, path, made
    except BaseException as error:
        temporary.remove()
        if isinstance(error, OSError) and str(error.filename).startswith(temporary.path):
            error.filename = shown
        raise
    temporary.release()


def _named_at_last(shown: str, path: Path, temporary: Path, host: Host) -> "Renamed":
    """Rename a whole session to ``path``; the renames that made way for it."""
    renamed: Renamed = []
    try:
        if path.exists():
            renamed = _move_aside(path, host)
        temporary.rename(path)
    except OSError as error:
        _undo(renamed)
        raise _cannot_make(shown, error) from error
    except BaseException:
        _undo(renamed)
        raise
    return renamed


def _named(path: Path) -> Path:
    """``path`` with a final component, which "." lacks."""
    return path if path.name else path.absolute()


def _refuse_undecodable(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InsituError(f"{path}: the name is not valid UTF-8", remedy="choose another name") from None


def _cannot_make(shown: str, error: OSError) -> InsituError:
    return InsituError(f"cannot make the session {shown}: {error.strerror}", remedy="choose another -o")


def settle(renamed: "Renamed") -> None:
    """Remove the session that was PATH.old before, which ``create`` keeps until the new session has begun."""
    for _, now in renamed:
        if now.name.endswith(_OLDER):
            _remove(now)


def put_back(path: Path, renamed: "Renamed") -> None:
    """Remove a new session that recorded nothing, and undo the renames of ``create``."""
    _remove(_named(path))
    _undo(renamed)


def _undo(renamed: "Renamed") -> None:
    for before, now in reversed(renamed):
        if now.exists() and not before.exists():
            now.rename(before)


def refuse_in_the_way(path: Path, host: Host) -> None:
    """Raise InsituError if ``path`` exists and must not be replaced by a new session."""
    if path.is_symlink():
        raise InsituError(f"{path} is a symbolic link, which is not followed", remedy="choose another -o")
    if not path.exists():
        return
    if path.samefile(Path.cwd()):
        raise InsituError(f"{path} is the current directory", remedy="choose another -o")
    if path.is_dir() and not any(path.iterdir()):
        return
    if not is_session(path):
        raise InsituError(f"{path} exists and is not a session", remedy="choose another -o, or move it away")
    _refuse_older_in_the_way(path)
    try:
        manifest = Manifest.read(path)
    except InsituError:
        return  # damaged, or of another format: kept as PATH.old too
    if is_recording(manifest, host):
        raise InsituError(
            f"{path}: still being recorded by process {manifest.recorder_pid}", remedy="stop it, or choose another -o"
        )


def _refuse_older_in_the_way(path: Path) -> None:
    """Raise InsituError if PATH.old, which is removed for a new session, is not one or holds a user's own files."""
    old = path.with_name(path.name + ".old")
    if not os.path.lexists(old):
        return
    if old.is_symlink() or not is_session(old):
        raise InsituError(f"cannot keep the older {path.name}: {old} exists", remedy="move it away")
    if (foreign := _foreign(old)) is not None:
        raise InsituError(f"{old} holds files that are not insitu's, such as {foreign}", remedy="move it away")


def _foreign(session: Path) -> Path | None:
    """The first thing in a session, by its path in it, that insitu has not made; whatever is in raw/ is insitu's."""
    tables = session / "tables"
    for directory, own in (
        (session, _is_own),
        (tables, Path.is_dir),
        *((each, _is_rows) for each in _within(tables)),
    ):
        for each in _within(directory):
            if each.is_symlink() or not (own(each) or _is_temporary(each)):
                return each.relative_to(session)
    return None


def _within(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() and not directory.is_symlink() else []


def _is_own(path: Path) -> bool:
    return path.is_dir() if path.name in ("raw", "tables") else path.name == MANIFEST


def _is_rows(path: Path) -> bool:
    return path.suffix == ".parquet" and path.is_file()


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".partial"


def _move_aside(path: Path, host: Host) -> "Renamed":
    """Make way at ``path``; the renames that were done, as (before, now)."""
    refuse_in_the_way(path, host)
    if not is_session(path):
        path.rmdir()
        return []
    old, older = path.with_name(path.name + ".old"), path.with_name(f".{path.name}{_OLDER}")
    renamed: Renamed = []
    if old.exists():
        _remove(older)
        old.rename(older)
        renamed.append((old, older))
    path.rename(old)
    return [*renamed, (path, old)]


def open_part(session: Path, name: "Path | str") -> int:
    """A descriptor of a file of a session, for reading: a regular file, to which no link inside the session leads.

    Raises InsituError for anything else, and OSError where it cannot be opened.
    """
    try:
        return open_foreign(name, root=session, links=False)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EISDIR):
            raise OSError(error.errno, error.strerror, str(session / name)) from None
        raise InsituError(f"{session / name}: {error.strerror}") from None


def is_private(path: Path) -> bool:
    """Whether nobody else can change what a session's directories hold, or put another in its place."""
    user = os.geteuid()
    inside = [path, *(each for name in ("raw", "tables") for each in _directories(path / name))]
    try:
        if not all(_writable_by(each.lstat(), (user,)) for each in inside):
            return False
        return all(_writable_by(each.stat(), (0, user), sticky=True) for each in path.resolve().parents)
    except OSError:
        return False


def _directories(path: Path) -> list[Path]:
    """``path``, if it is there, and what is in it but files."""
    if not os.path.lexists(path):
        return []
    return [path, *(each for each in path.iterdir() if not each.is_file() or each.is_symlink())]


def _writable_by(found: os.stat_result, users: tuple[int, ...], *, sticky: bool = False) -> bool:
    """Whether it is a directory that only these users can write to, or where others cannot touch what is theirs."""
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    kept = not others or (sticky and found.st_mode & stat.S_ISVTX)
    return stat.S_ISDIR(found.st_mode) and found.st_uid in users and bool(kept)


def raw_sources(path: Path) -> list[Path]:
    """The directories of raw records that a session still holds, one for each source, in order of name."""
    raw = path / "raw"
    return sorted(each for each in raw.iterdir() if each.is_dir()) if raw.is_dir() else []


def drop_raw(path: Path) -> None:
    """Remove the raw records, once they are converted."""
    _remove(path / "raw")


def table_files(path: Path) -> dict[str, list[Path]]:
    """The parquet files of each table of a session, in order."""
    tables = {}
    for directory in sorted((path / "tables").glob("*")):
        files = sorted(directory.glob("*.parquet"), key=lambda file: (len(file.name), file.name))
        if files:
            tables[directory.name] = files
    return tables


def _remove(path: Path) -> None:
    """Remove a directory as far as that is possible."""
    import shutil  # which reading does without

    shutil.rmtree(path, ignore_errors=True)
