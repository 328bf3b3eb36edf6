"""Open a recording: a session directory, or a file that another tool recorded."""

import errno
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Open a session directory; perf.data and folded stacks are converted into a temporary one first.

    A session whose recorder died is converted where it lies. Raises InsituError when ``path`` is none of these.
    """
    path = Path(path)
    if not _is_directory(path):
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
    """The samples of a recording: a session directory, a perf.data file or folded stacks.

    ``as_perf`` looks return addresses of perf.data up as perf does. Raises InsituError when ``path`` is none of
    these or cannot be read.
    """
    path = Path(path)
    if not _is_directory(path):
        return _built_from_file(path, as_perf=as_perf).profile
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


def import_file(path: str | Path, output: str | Path, *, as_perf: bool = False) -> None:
    """Make the session ``output`` from a perf.data file or folded stacks; nothing is left there if that fails."""
    from insitu.convert.convert import save

    path, output = Path(path), Path(output)
    if _is_directory(path):
        raise InsituError(f"{path}: a directory" + (", and a session already" if store.is_session(path) else ""))
    with store.created_whole(output, {"imported_from": str(path)}) as session:
        built = _built_from_file(path, as_perf=as_perf)
        store.update(session, **built.profile.info)
        save(session, built)
        store.drop_raw(session)


def _built_from_file(path: Path, *, as_perf: bool) -> "Built":
    from insitu.convert.build import Built, build, is_this_boot, no_collector
    from insitu.convert.formats.perf_data import is_perf_data, read_perf_data
    from insitu.convert.processes import Processes
    from insitu.symbols.process_map import ProcessMap

    with path.open("rb") as file:
        head = file.read(64)
    if is_perf_data(head):
        with no_collector():
            recording = read_perf_data(path)
            recording.live = is_this_boot(path, recording.info)
            return build(recording, as_perf=as_perf)
    from insitu.convert.formats.folded import read_folded

    if not head:
        raise InsituError(f"{path}: empty")
    if b"\0" in head:
        raise InsituError(
            f"{path}: neither a session, nor perf.data, nor folded stacks", remedy="record with insitu profile"
        )
    return Built(read_folded(path.read_bytes(), str(path)), Processes(ProcessMap()))


def _is_directory(path: Path) -> bool:
    if not path.exists():
        raise InsituError(
            f"{path}: no such file or directory", remedy="record one with insitu profile -o FILE -- CMD"
        )
    return path.is_dir()
