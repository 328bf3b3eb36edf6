"""What asking for a capability returns, and the few ways in which most questions are decided."""

import errno
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.capability_bits import BITS

__all__ = [
    "CAPABILITIES",
    "Probe",
    "Result",
    "State",
    "asked_once",
    "error_number",
    "has_capability",
    "no",
    "opened",
    "partly",
    "refused",
    "yes",
]

D = TypeVar("D")


class State(StrEnum):
    """Whether a capability can be used."""

    YES = "yes"
    NO = "no"
    PARTLY = "partly"


class Result(NamedTuple, Generic[D]):
    """Whether something can be done here. ``details`` are facts that callers may rely on, typed by the question.

    ``reason`` and ``remedy`` are for people: why not, or what there is, and what to do about it. ``errno`` is the
    kernel's where it refused, else 0.
    """

    state: State
    reason: str = ""
    remedy: str = ""
    errno: int = 0
    details: D | None = None

    @property
    def available(self) -> bool:
        """Whether it can be used, at least in part."""
        return self.state is not State.NO


CAPABILITIES: Final = {
    name: BITS[name]
    for name in (
        *("DAC_OVERRIDE", "DAC_READ_SEARCH", "NET_ADMIN", "SYS_PTRACE", "SYS_ADMIN"),
        *("SYS_RESOURCE", "SYSLOG", "PERFMON", "BPF"),
    )
}
"""Those that this program has a use for."""

_ENOTSUPP: Final = 524  # include/linux/errno.h: internal to the kernel, yet bpf(2) returns it


class asked_once(Generic[D]):  # noqa: N801 - used as a decorator
    """A question without parameters, whose result is kept; nothing is raised.

    One that fails in a way it did not foresee is a no, with what happened: it must not cost the other results.
    """

    def __init__(self, question: Callable[[], Result[D]]) -> None:
        self._question = question
        self._result: Result[D] | None = None
        self.__doc__ = question.__doc__

    def __call__(self) -> Result[D]:
        if self._result is None:
            try:
                self._result = self._question()
            except InsituError as error:
                self._result = refused(error)
            except Exception as error:
                self._result = no(str(error) or type(error).__name__)
        return self._result

    def forget(self) -> None:
        """Ask anew next time."""
        self._result = None


Probe = asked_once[Any]


def yes(reason: str = "", details: D | None = None) -> Result[D]:
    """It can be used."""
    return Result(State.YES, reason, details=details)


def partly(reason: str, remedy: str = "", details: D | None = None) -> Result[D]:
    """It can be used, but not all of it."""
    return Result(State.PARTLY, reason, remedy, details=details)


def no(reason: str, remedy: str = "", code: int = 0, details: D | None = None) -> Result[D]:
    """It cannot be used; ``code`` is the kernel's errno."""
    return Result(State.NO, reason, remedy, code, details)


def opened(open_one: Callable[[], int], reason: str = "", remedy: str = "", details: D | None = None) -> Result[D]:
    """Yes if ``open_one`` returns a descriptor, which is closed at once; else no, for the reason that it raises.

    ``remedy`` is used where the refusal itself does not name one.
    """
    try:
        os.close(open_one())
    except InsituError as error:
        return refused(error, remedy)
    except OSError as error:
        return no(error.strerror or str(error), remedy, error.errno or 0)
    return yes(reason, details)


def refused(error: InsituError, remedy: str = "") -> Result[D]:
    """No, for the error's reason; ``remedy`` is used where the error names none."""
    return no(error.message, error.remedy or remedy, error_number(error))


def error_number(error: InsituError) -> int:
    """The errno with which the kernel refused; 0 where the error has another cause."""
    number = getattr(error, "errno", None)  # kernel.bpf.BpfError
    if isinstance(number, int):
        return errno.EOPNOTSUPP if number == _ENOTSUPP else number
    cause = error.__cause__
    return cause.errno or 0 if isinstance(cause, OSError) else 0


def has_capability(name: str) -> bool:
    """Whether this process has a capability in effect, such as "BPF"."""
    for line in (procfs.text("/proc/self/status") or "").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAPABILITIES[name] & 1)
    return False
