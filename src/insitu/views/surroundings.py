"""What surrounds a process in words: its cgroup, namespaces, rights, signals, limits that are near, environment."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from insitu.inspect.cgroup_facts import Cgroup
from insitu.inspect.environment import Environment
from insitu.inspect.process_facts import Limit, ProcessFacts
from insitu.kernel.capability_bits import BITS
from insitu.syscalls.facts import Facts
from insitu.views.quantity import duration, percent, size
from insitu.views.table import Line
from insitu.views.terminal import Prose

__all__ = ["environment_document", "lines", "signal_names"]

NEAR: Final = 80.0  # per cent of a limit
_MOST_NAMES: Final = 8
_MOST_CHANGES: Final = 6
_MOST_VALUE: Final = 60  # characters of a variable's value
_STALLED: Final = 0.1  # per cent of the last 10 s
_SIGNALS: Final = Facts("x86_64")


def lines(facts: ProcessFacts, environment: Environment | None) -> Iterator[Line]:
    """A line for each of these of which there is something to say."""
    if facts.cgroup:
        yield Prose(
            [(f"  {'cgroup' if len(facts.cgroup.directories) == 1 else 'cgroups'} {_cgroup(facts.cgroup)}", "")]
        )
    if facts.namespaces:
        yield Prose([(f"  namespaces that are not ours: {', '.join(facts.namespaces)}", "")])
    if rights := _rights(facts):
        yield Prose([(f"  {rights}", "")])
    if signals := _signals(facts):
        yield Prose([(f"  signals: {signals}", "")])
    near = [text for limit in facts.limits if (text := _near(limit))]
    if near:
        yield Prose([(f"  near a limit: {'; '.join(near)}", "bold red")])
    if environment is not None and (changed := environment.changes()):
        yield Prose([(f"  environment changed since its start: {_changes(changed)}", "")])


def _cgroup(found: Cgroup) -> str:
    words = []
    for name, used in found.used.items():
        write, limit = _count if name == "pids" else size, found.limits[name]
        if limit >= 0 and used >= 0:
            share = percent(used, limit)
            what = "processes and threads" if name == "pids" else name
            words.append(f"{what} {write(used)} of {write(limit)} ({share:.0f} %)")
    if found.cpu_max:
        quota, period = found.cpu_max
        held = found.throttled
        stopped = f", throttled {held.times:,} times for {duration(held.ns)}" if held and held.times else ""
        words.append(f"CPU {quota / period:g} of {period / 1000:g} ms periods{stopped}")
    waits = [f"{name} {stall.avg10:.1f} %" for name, stall in found.pressure.items() if stall.avg10 >= _STALLED]
    if waits:
        words.append(f"waited in the last 10 s for {', '.join(waits)}")
    where = ", ".join(found.directories)
    return f"{where}: {'; '.join(words)}" if words else where


def _count(value: int) -> str:
    return f"{value:,}"


def _rights(facts: ProcessFacts) -> str:
    words = []
    every = (1 << len(BITS)) - 1
    held = facts.capabilities & every
    if held and (facts.user or held != every):
        names = _capabilities(held)
        lacking = _capabilities(every & ~held)
        words.append(
            f"all capabilities but {', '.join(lacking)}"
            if len(lacking) < len(names)
            else f"capabilities {', '.join(names)}"
        )
    elif not facts.user and not held:
        words.append("root without capabilities")
    if facts.seccomp:
        many = f" ({facts.seccomp_filters} filters)" if facts.seccomp_filters > 1 else ""
        words.append(f"seccomp {facts.seccomp}{many}")
    if facts.no_new_privileges:
        words.append("no new privileges")
    return "; ".join(words)


def _capabilities(mask: int) -> list[str]:
    return [name for name, bit in BITS.items() if mask >> bit & 1]


def signal_names(mask: int) -> list[str]:
    """The names of the signals of a mask."""
    return [_SIGNALS.signal_name(bit + 1) for bit in range(64) if mask >> bit & 1]


def _signals(facts: ProcessFacts) -> str:
    words = []
    for name in ("pending", "blocked", "caught", "ignored"):
        names = signal_names(getattr(facts.signals, name))
        if len(names) == 64:
            words.append(f"{name} all")
        elif names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            words.append(f"{name} {', '.join(names[:_MOST_NAMES])}{more}")
    return "; ".join(words)


def _near(limit: Limit) -> str:
    if limit.soft <= 0 or limit.used < 0 or limit.name == "Max open files":  # that one has a line of its own
        return ""
    share = percent(limit.used, limit.soft)
    if share < NEAR:
        return ""
    write = size if limit.unit == "bytes" else _count
    return f"{limit.name.removeprefix('Max ')} {write(limit.used)} of {write(limit.soft)} ({share:.0f} %)"


def _changes(changed: Mapping[str, tuple[str | None, str | None]]) -> str:
    words: Sequence[str] = [
        f"{name} removed" if after is None else f"{name}={_short(after)}" for name, (_, after) in changed.items()
    ]
    more = f" and {len(words) - _MOST_CHANGES} more" if len(words) > _MOST_CHANGES else ""
    return ", ".join(words[:_MOST_CHANGES]) + more


def _short(value: str) -> str:
    return value if len(value) <= _MOST_VALUE else f"{value[:_MOST_VALUE]}..."


def environment_document(found: Environment | None) -> dict[str, Any] | None:
    """The same for JSON."""
    if found is None:
        return None
    changed = [{"name": name, "before": before, "after": after} for name, (before, after) in found.changes().items()]
    return {"start": dict(found.start), "now_known": found.now is not None, "changed": changed}
