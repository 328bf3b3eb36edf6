"""Kernels of Debian releases that the machine is not configured for; apt-get is a script that notes its arguments."""

import os
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.lab.kernels.debian_releases import release_of, release_options

_APT_GET = """#!/bin/sh
echo "$*" >>{log}
case "$1" in
    indextargets) printf '{targets}' ;;
    *) [ ! -e {refuses} ] || { echo 'E: no network' >&2; exit 100; } ;;
esac
"""
_TARGETS = r"http://mirror/debian/ Debian\nhttp://mirror/security/ Debian-Security\nhttp://other/ubuntu/ Ubuntu\n"


class Machine:
    """A machine with a fake apt-get and a cache of its own."""

    def __init__(self, directory: Path, targets: str) -> None:
        self.cache, self.log, self.refuses = directory / "cache", directory / "log", directory / "refuses"
        program = directory / "bin" / "apt-get"
        program.parent.mkdir()
        text = _APT_GET
        for name, value in {"log": self.log, "targets": targets, "refuses": self.refuses}.items():
            text = text.replace(f"{{{name}}}", str(value))
        program.write_text(text)
        program.chmod(0o755)

    def updates(self) -> int:
        """How often lists were downloaded."""
        return sum(line.endswith(" update") for line in self.log.read_text().splitlines())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Machine:
    made = Machine(tmp_path, getattr(request, "param", _TARGETS))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.cache))
    return made


@pytest.mark.parametrize(
    ("kernel", "release"),
    [
        ("5.10", "bullseye"),
        ("5.10-cloud", "bullseye"),
        ("5.10.0-46-amd64", "bullseye"),
        ("linux-image-6.1.0-56-amd64", "bookworm"),
        ("6.12-rt", "trixie"),
        ("5.1", ""),
        ("5.100", ""),
        ("busybox-static", ""),
    ],
)
def test_a_kernel_version_belongs_to_a_debian_release(kernel: str, release: str) -> None:
    assert release_of(kernel) == release


def test_a_release_is_looked_for_on_the_configured_mirrors_of_debian_alone(machine: Machine) -> None:
    options = release_options("bullseye")
    sources = machine.cache / "insitu/apt/bullseye/sources.list"
    assert f"-oDir::Etc::SourceList={sources}" in options
    words = [line.split()[-3:] for line in sources.read_text().splitlines()]
    assert words == [
        ["http://mirror/debian/", "bullseye", "main"],
        ["http://mirror/security/", "bullseye-security", "main"],
    ]


def test_lists_of_the_last_day_are_not_downloaded_again(machine: Machine) -> None:
    release_options("bullseye")
    release_options("bullseye")
    assert machine.updates() == 1
    os.utime(machine.cache / "insitu/apt/bullseye/updated", (0, 0))
    release_options("bullseye")
    assert machine.updates() == 2


def test_without_a_network_older_lists_do_and_none_is_an_error(machine: Machine) -> None:
    machine.refuses.touch()
    with pytest.raises(InsituError, match="cannot update the package lists of Debian bullseye: no network"):
        release_options("bullseye")
    machine.refuses.unlink()
    release_options("bullseye")
    machine.refuses.touch()
    os.utime(machine.cache / "insitu/apt/bullseye/updated", (0, 0))
    assert release_options("bullseye")


@pytest.mark.parametrize("machine", [r"http://other/ubuntu/ Ubuntu\n"], indirect=True)
def test_a_machine_without_a_mirror_of_debian_is_told_so(machine: Machine) -> None:
    with pytest.raises(InsituError, match="no mirror of Debian is configured"):
        release_options("bullseye")
