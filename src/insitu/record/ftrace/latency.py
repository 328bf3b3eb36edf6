"""ftrace's latency tracers as a source: the longest section without interrupts or until a task runs, noise, timers.

They trace the whole machine, in an instance of our own; what only the top level of tracefs has is put back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.convert.latency_text import Measured, Section, StackFrame, measured, section, stack_frames, stacks
from insitu.errors import InsituError
from insitu.kernel.shared_settings import STACK_SWITCH, SharedSettings, setting
from insitu.kernel.trace_instance import TraceInstance
from insitu.kernel.tracefs_leftovers import leave_nothing, remove_dead
from insitu.kernel.tracefs_owner import owner_name
from insitu.record.row_log import RowLog
from insitu.session.special_tables import LATENCY

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.kernel.tracefs import Tracefs
    from insitu.record.source import Loss, Target

__all__ = ["STACK", "TRACERS", "LatencySource", "Result"]


STACK: Final = "stack"
# Tracer -> the kernel's option that has it.
TRACERS: Final = {
    "irqsoff": "CONFIG_IRQSOFF_TRACER",
    "preemptoff": "CONFIG_PREEMPT_TRACER",
    "preemptirqsoff": "CONFIG_PREEMPT_TRACER",
    "wakeup": "CONFIG_SCHED_TRACER",
    "wakeup_rt": "CONFIG_SCHED_TRACER",
    "wakeup_dl": "CONFIG_SCHED_TRACER",
    "hwlat": "CONFIG_HWLAT_TRACER",
    "osnoise": "CONFIG_OSNOISE_TRACER",
    "timerlat": "CONFIG_TIMERLAT_TRACER",
    STACK: "CONFIG_STACK_TRACER",
}
_OF_SECTIONS: Final = frozenset(list(TRACERS)[:6])
_MOST_BYTES: Final = 16 << 20
_STANDS_STILL: Final = (
    "measured by the trace clock global, which, if this machine's TSC is unstable, stands still between ticks while "
    "interrupts are disabled: such sections are then longer than they seem (echo mono > trace_clock)"
)
_NOT_NS: Final = ("counter", "uptime", "x86-tsc", "ppc-tb")  # clocks


class Result(NamedTuple):
    """What a tracer has found; what it does not measure is empty.

    ``stopped``: the threshold was exceeded; timerlat's ``stack`` is then that of its interrupt, innermost first.
    """

    tracer: str
    section: Section | None = None
    measured: Sequence[Measured] = ()
    frames: Sequence[StackFrame] = ()
    stopped: bool = False
    stack: Sequence[str] = ()

    @property
    def worst_ns(self) -> int:
        """The largest latency."""
        if self.section is not None:
            return self.section.latency_ns
        return max((each.latency_ns for each in self.measured), default=0)


class LatencySource:
    """One latency tracer. ``result`` has what it has found, once it has stopped."""

    id, fds, wait_s = "latency", (), 0.2

    def __init__(self, tracefs: Tracefs, tracer: str, threshold_us: int = 0) -> None:
        """With ``threshold_us``, a section or gap counts from there on, and osnoise and timerlat stop there."""
        self._tracefs = tracefs
        self._tracer = tracer
        self._threshold_us = threshold_us
        self._instance: TraceInstance | None = None
        self._shared: SharedSettings | None = None
        self._clock = ""
        self._log = RowLog(LATENCY)
        self.result = Result(tracer)
        self.notes: Sequence[str] = ()

    @property
    def options(self) -> Mapping[str, Any]:
        """The tracer and its threshold."""
        return {"tracer": self._tracer, "threshold_us": self._threshold_us}

    def layout(self) -> Mapping[str, Any]:
        """That of rows."""
        return self._log.layout

    def open(self, target: Target) -> None:
        """Make an instance. Raises InsituError if this kernel does not have the tracer."""
        if self._tracer == STACK:
            if not self._tracefs.exists("stack_max_size"):
                raise self._missing()
            remove_dead(self._tracefs)  # before what they have set is taken for what was there
            return
        if self._tracer not in self._tracefs.tracers():
            raise self._missing()
        if self._tracer in _OF_SECTIONS:
            self._clock = self._clock_of_sections()
            self.notes = (_STANDS_STILL,) * (self._clock == "global")  # kernel/sched/clock.c: sched_clock_local
        self._instance = TraceInstance.create(self._tracefs)

    def _missing(self) -> InsituError:
        known = [each for each in TRACERS if each in self._tracefs.tracers()]
        known += [STACK] * self._tracefs.exists("stack_max_size")
        others = ", ".join(known) or "none of the others"
        return InsituError(
            f"this kernel has no {self._tracer} tracer ({TRACERS[self._tracer]}); it has {others}",
            remedy="insitu lab build --with irqsoff,latency makes a guest kernel that has all of them",
        )

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Start the tracer. Raises InsituError where the kernel refuses, as while another one uses it."""
        if directory is not None:
            self._log.open(directory)
        try:
            if self._instance is None:
                shared = self._share("stack_max_size")
                shared.set("stack_max_size", "0")
                shared.set(STACK_SWITCH, "1")
            else:
                self._start(self._instance)
        except OSError as error:
            reason = "another one is using it" if error.errno == 16 else os.strerror(error.errno or 0)
            raise InsituError(f"cannot start the tracer {self._tracer}: {reason}") from None

    def _start(self, instance: TraceInstance) -> None:
        threshold = str(self._threshold_us)
        if self._tracer in _OF_SECTIONS:
            # They measure by the clock of the top level, also in an instance: by another one, the events that it
            # keeps are not from within the section. Nor are they if it is started later (seen on 6.1).
            instance.write("trace_clock", self._clock)
            instance.write("tracing_on", "1")
            with contextlib.suppress(OSError):  # functions would make each section longer
                instance.write("options/function-trace", "0")
        if self._threshold_us and self._tracer in (*_OF_SECTIONS, "hwlat"):
            self._share("tracing_thresh").set("tracing_thresh", threshold)
        elif self._threshold_us:
            shared = self._share("osnoise/stop_tracing_us")
            shared.set("osnoise/stop_tracing_us", threshold)
            if self._tracer == "timerlat":
                shared.set("osnoise/stop_tracing_total_us", threshold)
                shared.set("osnoise/print_stack", threshold)
        instance.write("current_tracer", self._tracer)
        if self._tracer in _OF_SECTIONS:
            instance.write("tracing_max_latency", "0")
        else:
            instance.write("tracing_on", "1")

    def _clock_of_sections(self) -> str:
        """The clock by which the kernel measures sections (kernel/trace/trace.c: ftrace_now)."""
        clock = setting(self._tracefs, "trace_clock")
        if clock in _NOT_NS:
            what = f"the tracer {self._tracer} measures by the machine's trace clock, and {clock} has no nanoseconds"
            raise InsituError(what, remedy="echo local > trace_clock, which empties the top level's buffer")
        return clock

    def _share(self, path: str) -> SharedSettings:
        """The settings that the machine has once; the file at ``path`` is locked meanwhile."""
        leave_nothing()
        self._shared = SharedSettings(self._tracefs, f"{owner_name()}-latency", path)
        return self._shared

    def drain(self) -> int:
        """Nothing: the kernel keeps what it has found."""
        return 0

    @property
    def ended(self) -> bool:
        """Whether the tracer has stopped at the threshold."""
        if self._instance is None or self._tracer not in ("osnoise", "timerlat") or not self._threshold_us:
            return False
        return self._instance.read("tracing_on").strip() == "0"

    def stop(self, end_ns: int) -> None:
        """Stop, and read what was found."""
        if self._instance is None:
            text = self._tracefs.read("stack_trace")
            self.result = Result(self._tracer, frames=stack_frames(text))
        else:
            stopped = self.ended
            self._instance.write("tracing_on", "0")
            text = self._instance.read("trace")[:_MOST_BYTES]
            if self._tracer in _OF_SECTIONS:
                self.result = Result(self._tracer, section(text))
            else:
                stack = stacks(text)[-1:] if stopped else []
                self.result = Result(
                    self._tracer, measured=list(measured(text)), stopped=stopped, stack=sum(stack, ())
                )
        if self._log.is_open:
            self._write_rows(end_ns)

    def _write_rows(self, end_ns: int) -> None:
        found = self.result.section
        if found is not None:
            row = Measured(end_ns, found.cpu, "", found.latency_ns)
            self._append(row, found.task, found.started, found.ended)
        for each in self.result.measured:
            self._append(each, "", "", "")
        self._log.write()

    def _append(self, row: Measured, task: str, started: str, ended: str) -> None:
        values = {name: getattr(row, name) for name in ("ts_ns", "cpu", "context", "latency_ns")}
        values |= {"runtime_ns": row.runtime_ns, "noise_ns": row.noise_ns, "tracer": self._tracer}
        self._log.append(**values, task=task, started=started, ended=ended)

    def losses(self) -> Sequence[Loss]:
        """None: the tracers overwrite only what is less."""
        return ()

    def close(self) -> None:
        """Put everything back. Idempotent."""
        if self._instance is not None:
            self._instance.close()
            self._instance = None
        if self._shared is not None:
            self._shared.restore()
        self._log.close()
