"""Sysctls: their values on this machine, what the kernel's documentation says of them, and which differ from others.

Beside this module: ``documentation`` (tools/sysctl_documentation.py), and ``defaults.VERSION``, the values of a guest
that was just booted, as ``insitu sysctl --save`` writes them.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Final, NamedTuple

from insitu.errors import InsituError

__all__ = [
    "Difference",
    "Sysctl",
    "Values",
    "defaults",
    "differences",
    "documentation",
    "read_sysctls",
    "read_values",
    "values_here",
]

_HERE: Final = Path(__file__).parent
_FORMAT: Final = "insitu-sysctl-1"
_MOST_BYTES: Final = 1 << 16  # of a value
_MOST_FILE_BYTES: Final = 64 << 20

_STATE: Final = re.compile(r"kernel\.(ns_last_pid|random\..*)|fs\.binfmt_misc\..*|.*\.flush")  # can be written, too
# Settings that the kernel makes from the machine's memory and CPUs, or that a distribution's first program sets.
_BY_MACHINE: Final = re.compile(
    r"kernel\.(threads-max|pid_max|hostname|domainname|core_pattern|random\..*|sched_domain\..*|shmall|msgmni|bootloader_.*)"
    r"|fs\.(file-max|nr_open|epoll\.max_user_watches|inotify\.max_user_watches|binfmt_misc\..*|quota\..*)"
    r"|vm\.(min_free_kbytes|lowmem_reserve_ratio|user_reserve_kbytes|admin_reserve_kbytes)|user\.max_.*"
    r"|net\.ipv4\.(tcp_mem|udp_mem|tcp_rmem|tcp_wmem|tcp_max_orphans|tcp_max_tw_buckets|fib_sync_mem|ipfrag_.*|tcp_.*syn.*)"
    r"|net\.(ipv4|ipv6)\.(conf|neigh|route)\..*|net\.core\.(rps_.*|netdev_rss_key)|net\.(netfilter|nf_).*|dev\..*|debug\..*"
)


class Sysctl(NamedTuple):
    """A sysctl as sysctl(8) names it. ``value`` is None where it cannot be read; words are separated by a blank.

    ``setting``: it can be written; the others tell of the kernel's state.
    """

    name: str
    value: str | None
    setting: bool


class Values(NamedTuple):
    """The values of a machine. ``of`` says which."""

    of: str
    release: str
    values: dict[str, str]

    def document(self) -> bytes:
        """What a file of them contains."""
        document = {"format": _FORMAT, "of": self.of, "release": self.release, "values": self.values}
        return (json.dumps(document, indent=0, sort_keys=True) + "\n").encode()


class Difference(NamedTuple):
    """A setting that differs; None: the other machine does not have it, or this one. ``by_machine``: the kernel makes
    it from the machine's size or devices, so that a difference is no surprise."""

    name: str
    here: str | None
    there: str | None
    by_machine: bool


def read_sysctls(root: Path = Path("/proc/sys")) -> list[Sysctl]:
    """Every sysctl of this machine, by name. Nothing is read that has no reader."""
    found = []
    for directory, directories, files in os.walk(root):
        directories.sort()
        for file in files:
            path = Path(directory, file)
            words = path.relative_to(root).parts
            name = ".".join(word.replace(".", "/") for word in words)
            try:
                mode = path.stat().st_mode
                if not stat.S_ISREG(mode):
                    continue
                value = _value(path) if mode & 0o444 else None
            except OSError:
                continue  # gone by now, or not for this user
            found.append(Sysctl(name, value, bool(mode & 0o222)))
    return sorted(found)


def _value(path: Path) -> str | None:
    try:
        with path.open("rb", buffering=0) as file:
            return " ".join(file.read(_MOST_BYTES).decode(errors="replace").split())
    except OSError:
        return None  # such as net.ipv6.conf.*.stable_secret before it is set


def values_here(sysctls: list[Sysctl]) -> Values:
    """The settings of this machine that have a value."""
    system = os.uname()
    return Values(
        system.nodename,
        system.release,
        {s.name: s.value for s in sysctls if s.setting and s.value is not None and not _STATE.fullmatch(s.name)},
    )


def documentation() -> tuple[str, dict[str, str]]:
    """The kernel version, and the text of each documented sysctl (reStructuredText)."""
    lines = (_HERE / "documentation").read_text(encoding="utf-8").splitlines()
    version = lines[0].partition(" of Linux ")[2].partition(", by ")[0]
    texts: dict[str, str] = {}
    name, previous = "", ""
    body: list[str] = []
    for line in [*(line for line in lines if not line.startswith("# ")), "@"]:
        if line.startswith("@"):
            if name:
                texts[name] = previous = "\n".join(body).strip("\n") or previous
            name, body = line[1:], []
        else:
            body.append(line)
    return version, texts


def read_values(path: Path) -> Values:
    """Values that were saved. Raises InsituError where the file has none."""
    try:
        with path.open("rb") as file:
            document: Any = json.loads(file.read(_MOST_FILE_BYTES))
        if document["format"] != _FORMAT:
            raise ValueError
        values = {str(name): str(value) for name, value in document["values"].items()}
        return Values(str(document["of"]), str(document["release"]), values)
    except OSError as error:
        raise InsituError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise InsituError(f"{path}: no saved sysctls", remedy="insitu sysctl --save FILE writes them") from None


def defaults(release: str) -> Values:
    """The defaults of a kernel of that release, such as 6.12.3-amd64. Raises InsituError where none were recorded."""
    series = ".".join(release.split(".")[:2])
    path = _HERE / f"defaults.{series}"
    if not path.exists():
        recorded = sorted(each.name.removeprefix("defaults.") for each in _HERE.glob("defaults.*"))
        raise InsituError(
            f"no defaults of Linux {series} are recorded (there are: {', '.join(recorded) or 'none'})",
            remedy="--against FILE compares with what insitu sysctl --save wrote on another machine, or before",
        )
    return read_values(path)


def differences(here: Values, there: Values) -> list[Difference]:
    """Settings that differ, by name."""
    return [
        Difference(name, here.values.get(name), there.values.get(name), bool(_BY_MACHINE.fullmatch(name)))
        for name in sorted(here.values.keys() | there.values.keys())
        if here.values.get(name) != there.values.get(name)
    ]
