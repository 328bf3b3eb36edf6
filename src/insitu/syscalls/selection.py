"""Which calls are shown: by name, path, status, duration, and filter expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from insitu.syscalls.call import Call, Enter, Event, c_int, path_at
from insitu.syscalls.call_sets import Calls
from insitu.syscalls.decode import signature_of

__all__ = ["STATUSES", "Expression", "Selection"]

STATUSES: Final = ("successful", "failed", "unfinished", "unavailable", "detached")
"""strace(1)'s -e status=; a call that has not returned is unfinished when its thread ends, detached when we do."""


class Expression(Protocol):
    """A filter expression."""

    def observe(self, event: Event) -> None:
        """Take note of an event."""

    def __call__(self, call: Call, /) -> bool:
        """Returns whether it holds for a call."""


@dataclass(frozen=True)
class Selection:
    """What is selected. By default: everything."""

    calls: Calls | None = None
    statuses: frozenset[str] = frozenset(STATUSES)
    paths: frozenset[str] = frozenset()
    """-P, each as given and with symbolic links resolved."""
    slower_ns: int = 0
    expression: Expression | None = None
    """--filter, evaluated when the call has returned, or never will."""

    @property
    def staged(self) -> bool:
        """Whether a call's line must wait for its return."""
        return len(self.statuses) < len(STATUSES) or self.slower_ns > 0 or self.expression is not None

    @property
    def selects_returns(self) -> bool:
        """Whether more than names select: something that is known of each call only."""
        return self.staged or bool(self.paths)

    def observe(self, event: Event) -> None:
        """To be called with every event, in order."""
        if self.expression is not None:
            self.expression.observe(event)

    def entry(self, enter: Enter) -> bool:
        """Returns whether a call that is entered may be selected."""
        if self.calls is not None and (enter.abi, enter.nr) not in self.calls:
            return False
        return not self.paths or self._touches(enter)

    def returned(self, call: Call) -> bool:
        """Returns whether a call that has returned, and was selected at its entry, is."""
        if ("failed" if call.failed else "successful") not in self.statuses:
            return False
        if self.slower_ns and (call.dur_ns or 0) < self.slower_ns:
            return False
        return self.expression is None or self.expression(call)

    def unfinished(self, call: Call) -> bool:
        """Returns whether a call whose thread ended in it is."""
        if "unfinished" not in self.statuses or self.slower_ns:
            return False
        return self.expression is None or self.expression(call)

    def _touches(self, enter: Enter) -> bool:
        descriptors = getattr(enter.memory, "descriptors", {})
        for parameter, value in zip(signature_of(enter.abi, enter.nr).parameters, enter.args, strict=False):
            if parameter.kind.startswith("path"):
                if path_at(enter, value) in self.paths:
                    return True
            elif parameter.kind in ("fd", "dirfd"):
                fd = c_int(value)
                if fd >= 0 and descriptors.get(fd) in self.paths:
                    return True
        return False
