"""What a process that serves a guest's files is refused, and what it still can do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from insitu.lab.guests.set_id_refusal import refusing_set_ids


def outcome(directory: Path, call: str) -> str:
    """ "done", or the errno's name, of a call in a child process that is refused set-id bits."""
    script = (
        "import errno, os, stat\n"
        "open('file', 'w').close(); os.umask(0)\n"
        "fd = os.open('file', os.O_RDONLY); here = os.open('.', os.O_RDONLY)\n"
        f"try: {call}\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
        "else: print('done')\n"
    )
    command = [sys.executable, "-c", script]
    child = subprocess.run(
        command, cwd=directory, preexec_fn=refusing_set_ids(), capture_output=True, text=True, check=True
    )
    return child.stdout.strip()


@pytest.mark.parametrize(
    "call",
    [
        "os.chmod('file', 0o4755)",
        "os.chmod('file', 0o2755)",
        "os.fchmod(fd, 0o6755)",
        "os.chmod('file', 0o4755, dir_fd=here)",
        "os.open('new', os.O_CREAT | os.O_WRONLY, 0o4755)",
        "os.open('new', os.O_CREAT | os.O_WRONLY, 0o2755, dir_fd=here)",
        "os.mknod('new', stat.S_IFREG | 0o4755)",
        "os.mknod('new', stat.S_IFCHR | 0o666, os.makedev(1, 3))",
        "os.mknod('new', stat.S_IFBLK | 0o666, os.makedev(7, 0), dir_fd=here)",
    ],
)
def test_set_id_bits_and_devices_are_refused(tmp_path: Path, call: str) -> None:
    assert outcome(tmp_path, call) == "EPERM"
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
    assert not (tmp_path / "file").stat().st_mode & 0o6000


@pytest.mark.parametrize(
    "call",
    [
        "os.chmod('file', 0o1777)",
        "os.chmod('.', 0o700)",
        "os.open('new', os.O_CREAT | os.O_WRONLY, 0o777)",
        "os.mknod('new', stat.S_IFREG | 0o777)",
        "os.mkfifo('new', 0o777)",
        "os.mkdir('new', 0o777)",
    ],
)
def test_other_modes_and_files_are_not(tmp_path: Path, call: str) -> None:
    assert outcome(tmp_path, call) == "done"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose writes keep the bits (CAP_FSETID)")
def test_a_set_id_file_that_was_there_loses_its_bits_when_it_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    (tmp_path / "before").chmod(0o6755)
    assert outcome(tmp_path, "open('before', 'w').write('x')") == "done"
    assert (tmp_path / "before").stat().st_mode & 0o7777 == 0o755
