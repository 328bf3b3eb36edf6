"""Files that appear whole or not at all, whenever a signal comes."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from insitu import files
from insitu.files import write_whole


class _SignalError(BaseException):
    """What the handler of a signal raises."""


@contextmanager
def _signal_after(lines: int) -> Iterator[None]:
    """Raise before one of the lines of insitu/files.py that are run, the first after so many others."""
    left = lines

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != files.__file__:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                raise _SignalError
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.fixture(params=[True, False], ids=["nameless", "named"])
def directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on a file system that has files without names, or has not."""
    if not request.param:
        real = os.open

        def without(path: str, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
            return real(path, flags, *more, **named)

        monkeypatch.setattr(os, "open", without)
    return tmp_path


def test_a_signal_at_any_line_leaves_the_old_file_or_the_new_one_and_no_other(directory: Path) -> None:
    target = directory / "it"
    lines = 0
    while True:
        target.write_bytes(b"old")
        try:
            with _signal_after(lines):
                write_whole(target, b"new", 0o640)
        except _SignalError:
            assert target.read_bytes() in (b"old", b"new")
            assert list(directory.iterdir()) == [target]
            lines += 1
        else:
            break
    assert lines > 10
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o640)
    assert list(directory.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "it").write_bytes(b"old")

    def full(*words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(directory / "it", b"new")
    assert [(each.name, each.read_bytes()) for each in directory.iterdir()] == [("it", b"old")]


@pytest.mark.parametrize("target", ["is a directory", "none/it"])
def test_an_error_names_the_file_that_was_to_be_written(directory: Path, target: str) -> None:
    (directory / "is a directory").mkdir()
    with pytest.raises(OSError, match=r"\[Errno ") as failed:
        write_whole(directory / target, b"new")
    assert (failed.value.filename, failed.value.filename2) in [
        (str(directory / target), None),
        (str(directory / "none"), None),
    ]


def test_what_is_no_file_is_not_replaced(directory: Path) -> None:
    """As `insitu sysctl --save /dev/null` once did with the machine's null device."""
    os.mkfifo(directory / "it")
    with pytest.raises(FileExistsError, match="device, pipe or socket"):
        write_whole(directory / "it", b"new")
    assert (directory / "it").is_fifo() and [each.name for each in directory.iterdir()] == ["it"]
