"""A session on disk: its description, its raw records while recording, its tables afterwards.

Every file is written under a temporary name and renamed, so that what is there is whole.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu import __version__
from insitu.errors import InsituError

if TYPE_CHECKING:
    import polars

__all__ = [
    "COMPLETE",
    "RECORDING",
    "boot_id",
    "create",
    "created_whole",
    "drop_raw",
    "is_recording",
    "is_session",
    "name_beside",
    "raw_files",
    "read_info",
    "read_table",
    "refuse_in_the_way",
    "replace",
    "table_files",
    "update",
    "write_table",
]

RECORDING = "recording"
COMPLETE = "complete"
FORMAT_VERSION = 1

_INFO = "session.json"


def is_session(path: Path) -> bool:
    """Whether ``path`` is a session directory."""
    return (path / _INFO).is_file()


def create(path: Path, info: Mapping[str, Any]) -> None:
    """Make an empty session at ``path`` in state "recording"; an older session there is kept as PATH.old.

    Raises InsituError if something that is not a session is in the way or the directory cannot be made.
    """
    _create(_named(path), info, str(path))


def _named(path: Path) -> Path:
    """``path`` with a last name, which "." has not."""
    return path if path.name else path.absolute()


def _create(path: Path, info: Mapping[str, Any], shown: str) -> None:
    _refuse_undecodable(path)
    try:
        if path.exists():
            _move_aside(path)
        path.mkdir(parents=True)
    except OSError as error:
        raise _cannot_make(shown, error) from error
    try:
        (path / "raw").mkdir()
        head = {"format": FORMAT_VERSION, "insitu": __version__, "state": RECORDING, "boot_id": boot_id()}
        recorder = {"recorder_pid": os.getpid(), "recorder_start": _started(os.getpid())}
        _write_json(path / _INFO, {**head, **recorder, **info})
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise _cannot_make(shown, error) from error


def _refuse_undecodable(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InsituError(
            f"{path}: not a name in UTF-8, which the tables of a session need", remedy="choose another name"
        ) from None


def _cannot_make(shown: str, error: OSError) -> InsituError:
    return InsituError(f"cannot make the session {shown}: {error.strerror}", remedy="choose another -o")


@contextmanager
def created_whole(path: Path, info: Mapping[str, Any]) -> Iterator[Path]:
    """A new session under a temporary name, which becomes ``path`` at the end; should that not come it is removed.

    Raises InsituError as ``create`` does, before anything is written.
    """
    shown, path = str(path), _named(path)
    refuse_in_the_way(path)
    temporary = name_beside(path)
    try:
        _create(temporary, info, shown)
        yield temporary
        replace(path, temporary)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _cannot_make(shown, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def name_beside(path: Path) -> Path:
    """A name in the same directory for a session that is to be moved to ``path`` later; see ``replace``."""
    path = _named(path)
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def replace(path: Path, temporary: Path) -> None:
    """Move a session from a temporary name to ``path``; an older one there is kept as PATH.old. Raises OSError."""
    path = _named(path)
    if path.exists():
        _move_aside(path)
    temporary.rename(path)


def refuse_in_the_way(path: Path) -> None:
    """Raise InsituError if what is at ``path`` must not make way for a new session."""
    if path.exists() and path.samefile(Path.cwd()):
        raise InsituError(f"{path}: the current directory, which stays where it is", remedy="choose another -o")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_session(path):
        raise InsituError(f"{path} exists and is not a session", remedy="choose another -o, or move it away")
    try:
        info = read_info(path)
    except InsituError:
        return  # damaged: kept aside all the same
    if is_recording(info):
        raise InsituError(
            f"{path}: still being recorded by process {info['recorder_pid']}", remedy="stop it, or choose another -o"
        )


def is_recording(info: Mapping[str, Any]) -> bool:
    """Whether another process still records the session that ``info`` describes."""
    pid = info.get("recorder_pid")
    if info.get("state") != RECORDING or info.get("boot_id") != boot_id():
        return False
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    # The number may belong to somebody else by now.
    return info.get("recorder_start") in (None, _started(pid)) and Path(f"/proc/{pid}").exists()


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc_pid_stat(5): starttime); None if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _move_aside(path: Path) -> None:
    refuse_in_the_way(path)
    if not is_session(path):
        path.rmdir()
        return
    old = path.with_name(path.name + ".old")
    if old.exists():
        if not is_session(old):
            raise InsituError(f"{old} is in the way of keeping the older {path.name}", remedy="move it away")
        shutil.rmtree(old)
    path.rename(old)


def read_info(path: Path) -> dict[str, Any]:
    """The content of session.json. Raises InsituError when ``path`` is no session or a damaged one."""
    _refuse_undecodable(path)
    try:
        info = json.loads((path / _INFO).read_bytes())
    except FileNotFoundError:
        raise InsituError(f"{path}: not an insitu session: it has no {_INFO}") from None
    except (ValueError, RecursionError):
        raise InsituError(f"{path}: its {_INFO} is damaged") from None
    if not isinstance(info, dict):
        raise InsituError(f"{path}: its {_INFO} is damaged")
    if not isinstance(info.get("format"), int) or info["format"] > FORMAT_VERSION:
        raise InsituError(f"{path}: written by a newer insitu ({info.get('insitu')})", remedy="update insitu")
    return info


def update(path: Path, **info: Any) -> None:
    """Change or add entries of session.json."""
    _write_json(path / _INFO, {**read_info(path), **info})


def raw_files(path: Path) -> list[Path]:
    """The raw record streams that a session still holds."""
    return sorted((path / "raw").glob("*.records"))


def drop_raw(path: Path) -> None:
    """Remove the raw records, once the tables hold what was in them."""
    shutil.rmtree(path / "raw", ignore_errors=True)


def table_files(path: Path) -> dict[str, list[Path]]:
    """The parquet files of each table of a session, in order."""
    tables = {}
    for directory in sorted((path / "tables").glob("*")):
        files = sorted(directory.glob("*.parquet"), key=lambda file: (len(file.name), file.name))
        if files:
            tables[directory.name] = files
    return tables


def write_table(path: Path, table: str, frame: "polars.DataFrame", part: int = 0) -> None:
    """Write one part of a table: PATH/tables/TABLE/PART.parquet. Raises OSError when there is no room for it."""
    import polars

    directory = path / "tables" / table
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{part}.parquet"
    temporary = target.with_suffix(".partial")
    try:
        frame.write_parquet(temporary, compression="zstd", compression_level=1, statistics=True)
        temporary.replace(target)
    except polars.exceptions.ComputeError as error:
        temporary.unlink(missing_ok=True)
        # Polars hands a failed write(2) on as text only: "... (os error 28)".
        code = re.search(r"\(os error (\d+)\)", str(error))
        if not code:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(temporary)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_table(files: Sequence[Path], columns: list[str] | None = None) -> "polars.DataFrame":
    """All parts of a table, or only some of its columns. Raises InsituError when a part cannot be read.

    A damaged one can make Polars panic, of which the Rust runtime tells on standard error by itself.
    """
    import polars

    try:
        return polars.concat([polars.read_parquet(file, columns=columns) for file in files])
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InsituError(f"{files[0].parent}: cannot read this table: {reason}") from None


def boot_id() -> str:
    """Identifies this boot of this machine (proc_sys_kernel(5): /proc/sys/kernel/random/boot_id)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _write_json(target: Path, value: Mapping[str, Any]) -> None:
    temporary = target.with_suffix(".partial")
    try:
        temporary.write_text(json.dumps(value, indent=1, default=str) + "\n")
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
