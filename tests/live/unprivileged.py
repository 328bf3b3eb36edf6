"""insitu run by a user without privileges, with exactly the capabilities that a test gives it."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import insitu

_USER = 65534
# Python, its packages and insitu may be in directories that only root enters.
_MOUNTED = {
    "python": sys.base_prefix,
    "packages": sysconfig.get_path("purelib"),
    "src": str(Path(insitu.__file__).parents[1]),
}
# tracefs is mounted on most machines; here for this process alone.
_BIND = (
    'for at in python packages src; do mount --bind "$1" "$at" && shift || exit 99; done; '
    "[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; "
    'exec "$@"'
)


class Unprivileged:
    """Runs `insitu` in ``directory``, which is that user's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, capabilities: tuple[str, ...], *words: str) -> "subprocess.CompletedProcess[str]":
        return self.python("-m", "insitu", *words, capabilities=capabilities)

    def python(self, *words: str, capabilities: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """Runs Python as that user."""
        given = ",".join(f"+{name.lower()}" for name in capabilities)
        ambient = [f"--inh-caps={given}", f"--ambient-caps={given}"] if given else []
        python = f"python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        command = [
            *("unshare", "-m", "sh", "-c", _BIND, "sh", *_MOUNTED.values()),
            *("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", *ambient),
            *(python, *words),
        ]
        home = {"HOME": str(self.directory), "PATH": os.environ["PATH"]}
        # The path of libpython that is written into the interpreter may be closed to that user.
        paths = {
            "PYTHONPATH": f"{self.directory}/src:{self.directory}/packages",
            "LD_LIBRARY_PATH": f"{self.directory}/python/lib",
        }
        return subprocess.run(
            command, cwd=self.directory, env=home | paths, capture_output=True, text=True, timeout=300, check=False
        )


@pytest.fixture
def unprivileged() -> Iterator[Unprivileged]:
    """A user's directory, and insitu run by that user in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    with TemporaryDirectory(prefix="insitu-unprivileged-", dir="/tmp") as name:  # pytest's are closed to others
        directory = Path(name)
        for each in _MOUNTED:
            (directory / each).mkdir()
        os.chown(directory, _USER, _USER)
        yield Unprivileged(directory)
