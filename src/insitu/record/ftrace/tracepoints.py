"""Trace events as -e names them, switched on in an instance."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from insitu.errors import InsituError, nearest
from insitu.kernel.bpf_map import possible_cpus
from insitu.kernel.tracefs import event_directory
from insitu.record.ftrace.filters import Filter, parse_filter
from insitu.record.ftrace.triggers import Trigger, parse_trigger
from insitu.record.sources.trace_pages import restrict_to

if TYPE_CHECKING:
    from insitu.kernel.trace_instance import Shared, TraceInstance
    from insitu.kernel.tracefs import EventFormat, Tracefs
    from insitu.record.source import Target

__all__ = [
    "EventChoice",
    "EventTracing",
    "event_formats",
    "has_hist_triggers",
    "last_error",
    "matching_events",
    "write_checked",
]

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
            remedy="insitu events -l lists them",
            status=2,
        )
    return found


class EventTracing:
    """Events with their filters, and stacks if they are wanted."""

    shares: Shared = "nothing"

    def __init__(
        self, tracefs: Tracefs, choices: Sequence[EventChoice], *, stack: bool = False, user_stack: bool = False
    ) -> None:
        """Raises InsituError for an event that does not exist, and for a filter or trigger that does not fit it."""
        known = tracefs.events()
        self._chosen: dict[str, EventChoice] = {}
        for choice in choices:
            self._chosen |= dict.fromkeys(matching_events(choice.pattern, known), choice)
        self._stack, self._user_stack = stack, user_stack
        self._filters: dict[str, Filter] = {}
        self._triggers: list[tuple[str, Trigger]] = []
        self.results: dict[str, str] = {}
        """What triggers have left in the kernel, by what it is: text of hist files, the snapshot."""
        variables: list[str] = []
        formats, cpus = event_formats(tracefs), possible_cpus()
        for name, choice in self._chosen.items():
            if not (choice.filter or choice.triggers):
                continue
            event = tracefs.event(*name.split(":", 1))
            if choice.filter:
                self._filters[name] = parse_filter(choice.filter, event, cpus=cpus)
            for text in choice.triggers:
                trigger = parse_trigger(text, event, formats, variables=variables, cpus=cpus)
                _refuse_missing(tracefs, trigger)
                variables += trigger.hist.variables if trigger.hist else ()
                self._triggers.append((name, trigger))

    @property
    def options(self) -> Mapping[str, Any]:
        """The events with their filters."""
        return {
            "events": [
                {"name": name, **({"filter": choice.filter} if choice.filter else {})}
                for name, choice in self._chosen.items()
            ],
            "triggers": [{"event": name, "trigger": trigger.text} for name, trigger in self._triggers],
        }

    @property
    def events(self) -> Sequence[tuple[str, str]]:
        """(category, name) of the events."""
        return [(category, name) for category, _, name in (each.partition(":") for each in self._chosen)]

    def set_up(self, instance: TraceInstance, target: Target) -> None:
        """Switch the events on. Raises InsituError for a filter or trigger that the kernel refuses; OSError."""
        restrict_to(instance, target)
        if self._stack:
            instance.write("options/stacktrace", "1")
        if self._user_stack:
            instance.write(_USER_STACK_ONLY_ROOT, "1")
        for name, checked in self._filters.items():
            write_checked(
                instance, f"{event_directory(name)}/filter", checked.text, f"-F {checked.text}", checked.newer_syntax
            )
        for name, trigger in self._triggers:
            newer = trigger.where.newer_syntax if trigger.where else ""
            write_checked(
                instance, f"{event_directory(name)}/trigger", trigger.text, f"--trigger {trigger.text}", newer
            )
        for name in self._chosen:
            instance.write(f"{event_directory(name)}/enable", "1")

    def read_results(self, instance: TraceInstance) -> None:
        """Read what the triggers have left, before the instance is removed. Raises OSError."""
        for name, trigger in self._triggers:
            if trigger.hist is not None:
                self.results[f"histograms of {name}"] = instance.read(f"{event_directory(name)}/hist")
            if trigger.command == "snapshot" or (trigger.hist and any("snapshot" in a for a in trigger.hist.actions)):
                self.results["snapshot"] = instance.read("snapshot")


def event_formats(tracefs: Tracefs) -> Callable[[str, str], EventFormat]:
    """The function that returns an event's format, or raises InsituError with the event of the nearest name."""

    def find(category: str, name: str) -> EventFormat:
        try:
            return tracefs.event(category, name)
        except InsituError as error:
            known = tracefs.events()
            if f"{category}:{name}" in known:
                raise
            raise InsituError(
                f"there is no event {category}:{name}{nearest(f'{category}:{name}', known)}",
                remedy=error.remedy or "insitu events -l lists them",
            ) from None

    return find


def _refuse_missing(tracefs: Tracefs, trigger: Trigger) -> None:
    """Raise InsituError for a kind of trigger that needs what this kernel is built without."""
    if trigger.command in ("hist", "enable_hist", "disable_hist") and not has_hist_triggers(tracefs):
        remedy = "insitu events --hist EVENT --key FIELD counts by a BPF program"
        raise InsituError("this kernel has no hist triggers (CONFIG_HIST_TRIGGERS)", remedy=remedy)
    if trigger.command == "snapshot" and not tracefs.exists("snapshot"):
        raise InsituError("this kernel has no snapshots of the trace buffer (CONFIG_TRACER_SNAPSHOT)")


def has_hist_triggers(tracefs: Tracefs) -> bool:
    """Whether the kernel has histogram triggers."""
    return tracefs.exists("events/sched/sched_switch/hist")


def write_checked(instance: TraceInstance, path: str, text: str, said: str, newer: str = "") -> None:
    """Set a filter, or add a trigger to those that are there; with its instance it goes.

    ``newer`` is syntax in it that older kernels do not have. Raises OSError, and InsituError with what the kernel
    logs where it refuses ``said``.
    """
    try:
        instance.add(path, text)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.ENOMEM):
            raise
        why = last_error(instance.read) or os.strerror(error.errno or 0)
        why += f"; filters of older kernels have no {newer}" if newer else ""
        raise InsituError(f"{said}: the kernel refuses it for {path.split('/')[2]}: {why}", status=2) from None


def last_error(read: Callable[[str], str]) -> str:
    """The last message of error_log, which ``read`` reads; empty if there is none."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        found = re.findall(r"error: ([^\n]{1,200})$", read("error_log"), re.MULTILINE)
    return found[-1].rpartition("error: ")[2] if found else ""
