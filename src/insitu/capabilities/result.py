"""The shape of an answer, and the few ways in which most probes come to theirs."""

import os
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs

__all__ = [
    "CAPABILITIES",
    "Answer",
    "Feature",
    "Probe",
    "State",
    "has_capability",
    "no",
    "opened",
    "partly",
    "refused",
    "yes",
]


class State(StrEnum):
    """Whether a feature can be used."""

    YES = "yes"
    NO = "no"
    PARTLY = "partly"


class Answer(NamedTuple):
    """What a probe found: ``why`` is a short reason or detail, ``remedy`` what to do about a missing feature."""

    state: State
    why: str = ""
    remedy: str = ""


class Feature(NamedTuple):
    """A probe's answer with its place in the whole: see Answer."""

    group: str
    name: str
    state: State
    why: str
    remedy: str


Probe = Callable[[], Answer]

# Bit numbers of include/uapi/linux/capability.h.
CAPABILITIES: Final = {"SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_RESOURCE": 24, "PERFMON": 38, "BPF": 39}


def yes(why: str = "") -> Answer:
    """The feature is there."""
    return Answer(State.YES, why)


def partly(why: str, remedy: str = "") -> Answer:
    """The feature is there, but not all of it."""
    return Answer(State.PARTLY, why, remedy)


def no(why: str, remedy: str = "") -> Answer:
    """The feature is missing."""
    return Answer(State.NO, why, remedy)


def opened(open_one: Callable[[], int], why: str = "", remedy: str = "") -> Answer:
    """Yes if ``open_one`` returns a descriptor, which is closed at once; else no, for the reason that it raises.

    ``remedy`` is used where the refusal itself does not name one.
    """
    try:
        os.close(open_one())
    except InsituError as error:
        return refused(error, remedy)
    except OSError as error:
        return no(error.strerror or str(error), remedy)
    return yes(why)


def refused(error: InsituError, remedy: str = "") -> Answer:
    """No, for the reason that the error tells; ``remedy`` is used where the error names none."""
    return no(Exception.__str__(error), error.remedy or remedy)


def has_capability(name: str) -> bool:
    """Whether this process has a capability in effect, such as "BPF"."""
    for line in _status_lines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAPABILITIES[name] & 1)
    return False


def _status_lines() -> list[str]:
    return (procfs.text("/proc/self/status") or "").splitlines()
