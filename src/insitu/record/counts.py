"""``insitu.stat``: counts of a command, of processes or of the machine, from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from insitu.kernel import procfs, topology
from insitu.record.count_metrics import Metric, key_of, metric_of
from insitu.record.counters import Count, choose_counted, count_value, why_not
from insitu.record.default_events import default_events
from insitu.record.event_names import all_events
from insitu.record.run import Destination, Request, run
from insitu.record.sources.counting import CountingOptions, CountingSource

__all__ = ["Counts", "stat"]


@dataclass(frozen=True)
class Counts(Mapping[str, float | None]):
    """Event -> its count, over all places; None where there is none, for the reason that ``reasons`` has.

    Clocks, ``duration_time`` and the like are in nanoseconds. Times in seconds; ``user_s`` and ``system_s`` are the
    command's, 0 without one. ``places`` has the counts of each thread, CPU and cgroup.
    """

    places: tuple[Count, ...]
    elapsed_s: float
    user_s: float
    system_s: float
    exit_status: int
    notes: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, Metric]:
        """Event -> what its count means beside the others, such as (1.2, "insn per cycle"), where it has a metric."""
        events = {each.counted.event.name: each.counted.event for each in self.places}
        # Metrics are of counts as the kernel has them, in nanoseconds or without the PMU's scale.
        values = {name: value / events[name].scale for name, value in self.items() if value is not None}
        by_key = {key_of(events[name]): value for name, value in values.items()}
        found = {name: metric_of(events[name], value, by_key, self.elapsed_s) for name, value in values.items()}
        return {name: metric for name, metric in found.items() if metric is not None}

    @property
    def reasons(self) -> dict[str, str]:
        """Event -> why it has no count."""
        return {
            each.counted.event.name: why_not(each.counted.event, each.counted.reason)
            for each in self.places
            if self[each.counted.event.name] is None
        }

    def __getitem__(self, event: str) -> float | None:
        of_event = [each for each in self.places if each.counted.event.name == event]
        if not of_event:
            raise KeyError(event)
        values = [value * each.counted.event.scale for each in of_event if (value := count_value(each)) is not None]
        return sum(values) if values else None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(each.counted.event.name for each in self.places))

    def __len__(self) -> int:
        return len(list(iter(self)))


def stat(
    command: Sequence[str] | None = None,
    *,
    pid: int | Sequence[int] | None = None,
    whole_system: bool = False,
    seconds: float | None = None,
    events: str | Sequence[str] = (),
    per: Literal["all", "cpu", "thread"] | topology.Domain = "all",
    cpus: Sequence[int] | None = None,
    inherit: bool = True,
    user: bool = True,
    kernel: bool = True,
) -> Counts:
    """Count events of a command, of running processes (``pid``) or of all CPUs, and return the counts.

    ``events`` are names as ``insitu stat -e`` takes them; without any, those that it counts by default.
    ``seconds`` ends the counting, which otherwise lasts until the command or the processes end, or until Ctrl-C.
    ``per`` "thread" (of ``pid``) and "cpu", "core", "die", "socket" and "node" (of ``whole_system``) keep these apart
    in ``places``; ``cpus``: only these. ``inherit``: children and threads that start later, too. Raises InsituError.
    """
    pids = () if pid is None else (pid,) if isinstance(pid, int) else tuple(pid)
    request = Request(tuple(command or ()), pids, whole_system, seconds, as_long_as=bool(command and pids))
    text = events if isinstance(events, str) else ",".join(events)
    named = all_events(text) if text else default_events(0, whole_system=whole_system)
    wanted = [each._replace(user=each.user and user, kernel=each.kernel and kernel) for each in named]
    chosen, notes = choose_counted(wanted, [], whole_system=whole_system)
    on = (list(cpus) if cpus is not None else procfs.online_cpus()) if whole_system else None
    options = CountingOptions(chosen, cpus=on, inherit=inherit)
    if per == "all" or per == "cpu" or per == "thread":
        options = options._replace(per=per)
    else:
        options = options._replace(per="domain", domains=topology.domains(per, on or ()))
    source = CountingSource(options)
    outcome = run(request, [source], Destination())
    user_s, system_s = source.times_s or (0.0, 0.0)
    return Counts(
        tuple(source.total.counts),
        source.total.elapsed_s,
        user_s,
        system_s,
        outcome.exit_status,
        (*notes, *outcome.notes),
    )
