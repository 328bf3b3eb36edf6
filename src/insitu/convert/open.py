"""Open a recording: a session directory, or a file that another tool recorded."""

import errno
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.convert.formats.registry import ImportOptions, importer_of, is_perf_directory
from insitu.errors import InsituError
from insitu.session import store
from insitu.session.profile import Profile

# What decodes and symbolizes is imported where it is needed: a complete session is read without it.
if TYPE_CHECKING:
    from types import TracebackType

    import polars

    from insitu.convert.build import Built

__all__ = ["Session", "import_file", "load_profile", "open_session"]


class Session:
    """A recording on disk.

    ``session["sample"]`` is a table as a Polars frame, ``session.sql("select ...")`` a query's answer as one,
    ``session.profile`` the samples as arrays. ``session.info`` is what session.json says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info: dict[str, Any] = store.read_info(path)
        self._profile: Profile | None = None

    @property
    def tables(self) -> list[str]:
        """Names of the tables that this session has."""
        return list(store.table_files(self.path))

    def __getitem__(self, table: str) -> "polars.DataFrame":
        files = store.table_files(self.path).get(table)
        if files is None:
            raise KeyError(f"no table {table!r}; this session has: {', '.join(self.tables)}")
        return store.read_table(files)

    @property
    def profile(self) -> Profile:
        """The samples as arrays (read once)."""
        if self._profile is None:
            from insitu.convert.profile_tables import read_profile

            self._profile = read_profile(self.path, self.info)
        return self._profile

    def sql(self, query: str) -> "polars.DataFrame":
        """The answer of a DuckDB query over the session's tables, as a Polars frame.

        Raises InsituError when the query cannot be run.
        """
        from insitu.session.query import connect, run

        with connect(self.path) as connection:
            return run(connection, query)

    def close(self) -> None:
        """Let go of what was made for this object only: nothing, for a session that lies on disk."""

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: "type[BaseException] | None", error: object, trace: "TracebackType | None") -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<insitu session {str(self.path)!r}: {self.info.get('samples', 0)} samples>"


def open_session(path: str | Path) -> Session:
    """Open a session directory; another tool's file (perf.data, folded stacks ...) becomes a temporary one.

    A session whose recorder died is converted where it lies. Raises InsituError when ``path`` is none of these.
    """
    path = Path(path)
    if not _is_session(path):
        directory = Path(tempfile.mkdtemp(prefix="insitu-"))
        try:
            import_file(path, directory / "imported.insitu")
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return _OwnedSession(directory / "imported.insitu")
    info = store.read_info(path)
    if store.raw_files(path) and info.get("state") != store.COMPLETE:
        from insitu.convert.convert import finish

        if store.is_recording(info):
            raise InsituError(
                f"{path}: still being recorded by process {info['recorder_pid']}", remedy="stop it first"
            )
        finish(path)
    return Session(path)


class _OwnedSession(Session):
    """A session in a temporary directory of its own, removed when the object goes."""

    def close(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def __del__(self) -> None:
        self.close()


def load_profile(path: str | Path, *, as_perf: bool = False) -> Profile:
    """The samples of a recording: a session directory or another tool's file (perf.data, folded stacks ...).

    ``as_perf`` looks return addresses of perf.data up as perf does. Raises InsituError when ``path`` is none of
    these or cannot be read.
    """
    path = Path(path)
    if not _is_session(path):
        read = _read_file(path, ImportOptions(as_perf=as_perf))
        return read if isinstance(read, Profile) else read.profile
    info = store.read_info(path)
    if info.get("state") != store.COMPLETE and store.raw_files(path):
        return _recovered(path, info)
    from insitu.convert.profile_tables import read_profile

    return read_profile(path, info)


def _recovered(path: Path, info: dict[str, object]) -> Profile:
    """The profile of a session that was not converted; converted if its recorder is gone and it is writable."""
    from insitu.convert.convert import profile_of_raw, save

    built = profile_of_raw(path)
    if not store.is_recording(info):
        try:
            save(path, built)
            store.drop_raw(path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT):
                raise
    return built.profile


def import_file(path: str | Path, output: str | Path, options: ImportOptions | None = None) -> None:
    """Make the session ``output`` from another tool's file (see formats/registry.py).

    Nothing is left there if that fails, with InsituError if the file cannot be read.
    """
    from insitu.convert.build import Built
    from insitu.convert.convert import save
    from insitu.convert.processes import Processes
    from insitu.symbols.address_space import AddressSpaces

    path, output = Path(path), Path(output)
    if _is_session(path):
        raise InsituError(f"{path}: a directory" + (", and a session already" if store.is_session(path) else ""))
    with store.created_whole(output, {"imported_from": str(path)}) as session:
        read = _read_file(path, options or ImportOptions())
        built = Built(read, Processes(AddressSpaces(), [], [])) if isinstance(read, Profile) else read
        store.update(session, **built.profile.info)
        save(session, built)
        store.drop_raw(session)


def _read_file(path: Path, options: ImportOptions) -> "Built | Profile":
    if not path.exists():
        raise InsituError(
            f"{path}: no such file or directory", remedy="record one with insitu profile -o FILE -- CMD"
        )
    return importer_of(path).read(path, options)


def _is_session(path: Path) -> bool:
    """Whether ``path`` is to be read as a session: any directory but one of perf record --threads."""
    return path.is_dir() and (store.is_session(path) or not is_perf_directory(path))
