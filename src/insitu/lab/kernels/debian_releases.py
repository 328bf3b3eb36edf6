"""Debian releases that the machine is not configured for: the same mirrors with that release's suites.

apt keeps their lists in our cache, so that the machine's own configuration and lists stay as they are.
"""

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.architecture import host_architecture
from insitu.lab.directories import cache_directory

__all__ = ["release_of", "release_options"]

_RELEASES: Final = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
"""The Debian release that was made with each kernel version."""

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FRESH_SECONDS: Final = 24 * 3600


def release_of(kernel: str) -> str:
    """The Debian release of a kernel's short name, release or package, such as 5.10-cloud; empty if none has it."""
    version = re.match(r"(?:linux-image-)?(\d+\.\d+)(?!\d)", kernel)
    return _RELEASES.get(version[1], "") if version else ""


def release_options(release: str) -> list[str]:
    """Options for apt-get and apt-cache that replace the configured suites by those of a Debian release.

    Its lists are downloaded unless they are from the last day; older ones do if that fails. Raises InsituError if
    there are none, or if no mirror of Debian is configured.
    """
    home = cache_directory("apt") / release
    (home / "lists/partial").mkdir(parents=True, exist_ok=True)
    (home / "archives/partial").mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    sources = home / "sources.list"
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": home / "lists",
        "Dir::State::Status": home / "status",
        "Dir::Cache": home,
        "APT::Architecture": host_architecture().debian,
    }
    if os.getuid() == 0:
        settings["APT::Sandbox::User"] = "root"
    options = [f"-o{name}={value}" for name, value in settings.items()]
    updated = home / "updated"
    if not updated.exists() or time.time() - updated.stat().st_mtime > _FRESH_SECONDS:
        sources.write_text(_sources(release))
        try:
            _update(options, release)
            updated.touch()
        except InsituError:
            if not updated.exists():
                raise
    return options


def _sources(release: str) -> str:
    """The lines of a sources.list: each configured mirror of Debian, with the release's own suites."""
    fields = ["indextargets", "--format", "$(REPO_URI) $(LABEL)", "Origin: Debian", "Created-By: Packages"]
    listing = subprocess.run(["apt-get", *fields], capture_output=True, text=True, check=False).stdout
    suites = {"Debian": release, "Debian-Security": f"{release}-security"}
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    lines = {
        f"deb {signed}{uri} {suites[label]} main\n"
        for uri, label in (line.split() for line in listing.splitlines())
        if label in suites
    }
    if not lines:
        raise InsituError(f"no mirror of Debian is configured, which {release}'s kernels could come from")
    return "".join(sorted(lines))


def _update(options: list[str], release: str) -> None:
    command = ["apt-get", "-q", "-oAPT::Update::Error-Mode=any", *options, "update"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        reason = (outcome.stderr.strip().splitlines() or ["apt-get gave no reason"])[0].removeprefix("E: ")
        raise InsituError(f"cannot update the package lists of Debian {release}: {reason}")
