"""Trace events as -e names them, switched on in an instance."""

from __future__ import annotations

import errno
import fnmatch
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from insitu.errors import InsituError, nearest
from insitu.record.sources.trace_pages import restrict_to

if TYPE_CHECKING:
    from insitu.kernel.trace_instance import TraceInstance
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.source import Target

__all__ = ["EventChoice", "EventTracing", "matching_events"]

_USER_STACK_ONLY_ROOT = "options/userstacktrace"


class EventChoice(NamedTuple):
    """Events of one -e: a pattern, a filter of their fields, and triggers."""

    pattern: str
    filter: str = ""
    triggers: tuple[str, ...] = ()


def matching_events(pattern: str, known: Sequence[str]) -> list[str]:
    """The events "CATEGORY:NAME" of a pattern: a name, a category, or a glob of either.

    Raises InsituError (status 2) if there is none.
    """
    wanted = pattern.replace("/", ":", 1)
    if ":" not in wanted:
        found = [name for name in known if fnmatch.fnmatchcase(name.partition(":")[0], wanted)]
        found = found or [name for name in known if fnmatch.fnmatchcase(name.partition(":")[2], wanted)]
    else:
        wanted = f"{wanted}*" if wanted.endswith(":") else wanted
        found = [name for name in known if fnmatch.fnmatchcase(name, wanted)]
    if not found:
        raise InsituError(
            f"-e {pattern}: no such event{nearest(wanted, known)}",
            remedy="insitu trace -l 'tracepoint:*' lists them",
            status=2,
        )
    return found


class EventTracing:
    """Events with their filters, and stacks if they are wanted."""

    needs_top = False

    def __init__(
        self, tracefs: Tracefs, choices: Sequence[EventChoice], *, stack: bool = False, user_stack: bool = False
    ) -> None:
        """Raises InsituError for an event that does not exist."""
        known = tracefs.events()
        self._chosen: dict[str, EventChoice] = {}
        for choice in choices:
            self._chosen |= dict.fromkeys(matching_events(choice.pattern, known), choice)
        self._stack, self._user_stack = stack, user_stack

    @property
    def options(self) -> Mapping[str, Any]:
        """The events with their filters."""
        return {
            "events": [
                {"name": name, **({"filter": choice.filter} if choice.filter else {})}
                for name, choice in self._chosen.items()
            ]
        }

    @property
    def events(self) -> Sequence[tuple[str, str]]:
        """(category, name) of the events."""
        return [(category, name) for category, _, name in (each.partition(":") for each in self._chosen)]

    def set_up(self, instance: TraceInstance, target: Target) -> None:
        """Switch the events on. Raises InsituError for a filter or trigger that the kernel refuses; OSError."""
        restrict_to(instance, target)
        if self._stack:
            instance.set("options/stacktrace", "1")
        if self._user_stack:
            instance.set(_USER_STACK_ONLY_ROOT, "1")
        for name, choice in self._chosen.items():
            directory = f"events/{name.replace(':', '/', 1)}"
            if choice.filter:
                self._written(instance, f"{directory}/filter", choice.filter, f"-F {choice.filter}")
            for trigger in choice.triggers:
                self._written(instance, f"{directory}/trigger", trigger, f"--trigger {trigger}")
            instance.write(f"{directory}/enable", "1")

    def _written(self, instance: TraceInstance, path: str, text: str, said: str) -> None:
        try:
            instance.write(path, text)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.EEXIST, errno.EBUSY):
                raise
            why = os.strerror(error.errno)
            raise InsituError(f"{said}: the kernel refuses it for {path.split('/')[2]}: {why}", status=2) from None
