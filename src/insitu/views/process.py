"""A process in words: what it is, what it holds open, and what is about to run out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from insitu.inspect.descriptors import Descriptor, End
from insitu.inspect.environment import Environment
from insitu.inspect.process_facts import ProcessFacts
from insitu.views.quantity import percent, rest, size
from insitu.views.surroundings import environment_document
from insitu.views.surroundings import lines as surroundings
from insitu.views.table import Cell, Column, Line, Table
from insitu.views.terminal import Block, Prose

__all__ = ["Open", "blocks", "document", "first_line", "grown", "growth_line", "growth_title"]

_NEAR: Final = 80.0  # per cent of a limit
_MOST_OF_ONE: Final = 0.25  # of all descriptors: named in the verdict
_MOST_ENDS: Final = 2
_MOST_CHANGES: Final = 4  # kinds in one line of what has changed
_HIGHEST: Final = 1 << 62


class Open(NamedTuple):
    """What a process has open; ``limit`` is the soft limit of descriptors."""

    descriptors: Sequence[Descriptor]
    ends: Mapping[int, Sequence[End]]
    limit: int


def blocks(
    facts: ProcessFacts, environment: Environment | None, found: Open | None, limit: int, *, listed: bool
) -> Iterator[Block]:
    """The process, what is near a limit, its descriptors by kind; ``listed``: each descriptor, ``limit`` of them."""
    yield Prose([(f"{facts.name} ({facts.pid})", "bold"), (f"  {facts.command}", "")])
    yield from _facts(facts, environment)
    if found is None:
        return
    yield []
    yield from _verdict(found)
    yield []
    yield _kinds(found)
    if listed:
        yield []
        yield _table(found, limit)
        if limit and len(found.descriptors) > limit:
            yield [(rest(len(found.descriptors) - limit, "descriptor"), "dim")]


def _facts(facts: ProcessFacts, environment: Environment | None) -> Iterator[Line]:
    threads = f"{facts.threads:,} {'thread' if facts.threads == 1 else 'threads'}"
    yield Prose([(f"  {facts.state}; {threads}; user {facts.user}; parent {facts.parent}", "")])
    if memory := facts.memory:
        private = memory.get("Private_Clean", 0) + memory.get("Private_Dirty", 0)
        words = [f"{size(memory.get('Rss', 0))} resident", f"{size(private)} of it private"]
        pool = memory.get("Private_Hugetlb", 0) + memory.get("Shared_Hugetlb", 0)
        words += [f"{size(pool)} of the pool of huge pages (hugetlb)"] if pool else []
        words += [f"{size(memory['Swap'])} swapped"] if memory.get("Swap") else []
        words += [f"{size(memory['Locked'])} locked"] if memory.get("Locked") else []
        yield Prose([(f"  memory: {', '.join(words)}", "")])
    yield from surroundings(facts, environment)


def _verdict(found: Open) -> Iterator[Line]:
    count = len(found.descriptors)
    share = percent(count, found.limit) if 0 < found.limit < _HIGHEST else 0.0
    of = f" of {found.limit:,} ({share:.0f} %)" if share else ""
    style = "bold red" if share >= _NEAR else "bold"
    yield Prose([(f"{count:,} {'descriptor' if count == 1 else 'descriptors'}{of}", style), *_most(found)])
    if share >= _NEAR:
        at = "The limit is reached:" if count >= found.limit else f"{found.limit - count:,} more, and"
        fails = 'open(), socket() and accept() fail with EMFILE, "Too many open files".'
        advice = "  prlimit --nofile raises the limit; insitu proc --watch shows what grows, and who opens it."
        yield Prose([(f"  {at} {fails}", "")])
        yield Prose([(advice, "dim")])


def _most(found: Open) -> Line:
    """What most of them are, where that says something."""
    (groups,) = _groups(found)
    for name, number in groups.most_common(1):
        if number > 2 and number >= _MOST_OF_ONE * len(found.descriptors):
            return [(f": {number:,} are {name}", "bold")]
    return []


def _groups(*looks: Open) -> list[Counter[str]]:
    """How many descriptors of each look have what in common, which is named alike in all of them."""
    addresses = Counter(name for look in looks for each in look.descriptors for name in _socket_groups(each))
    # Of an accepted connection only the local address is that of others, of one that was made only the remote one.
    return [
        Counter(
            max(_socket_groups(each), key=addresses.__getitem__) if each.socket else _file_group(each)
            for each in look.descriptors
        )
        for look in looks
    ]


def _file_group(each: Descriptor) -> str:
    return f"{each.kind} {each.target}" if each.target.startswith("/") else each.kind


def _socket_groups(each: Descriptor) -> list[str]:
    """What a socket may have in common with others: its state and the address that it leads to, or its own."""
    if each.socket is None:
        return []
    kind = f"{each.kind}s in {each.socket.state}" if each.socket.state else f"{each.kind}s"
    local, _, remote = each.target.partition(" -> ")
    return [f"{kind} to {remote}", f"{kind} on {local}"] if remote else [kind]


def _kinds(found: Open) -> Table:
    kinds = Counter(each.kind for each in found.descriptors)
    rows: list[Sequence[Cell]] = []
    for kind, number in kinds.most_common():
        states = Counter(each.socket.state for each in found.descriptors if each.kind == kind and each.socket)
        shown = ", ".join(f"{many:,} {state}" for state, many in states.most_common() if state)
        if not shown:
            targets = Counter(each.target for each in found.descriptors if each.kind == kind and each.target)
            shown = next((f"{many:,} on {target}" for target, many in targets.most_common(1) if many > 1), "")
        rows.append([(f"{number:,}", ""), (kind, ""), (shown, "")])
    return Table([Column("count"), Column("kind", "left"), Column("", "left")], rows)


def _table(found: Open, limit: int) -> Table:
    columns = [Column("fd"), Column("kind", "left"), Column("access", "left", spare=True)]
    columns += [Column("offset", spare=True), Column("target", "left"), Column("", "left", fold=True)]
    rows: list[Sequence[Cell]] = []
    for each in found.descriptors[: limit or None]:
        ends = found.ends.get(each.number, ())
        words = [each.details] if each.details else []
        if ends:
            more = f" and {len(ends) - _MOST_ENDS} more" if len(ends) > _MOST_ENDS else ""
            words.append(
                "other end: " + ", ".join(f"{e.name}/{e.pid}:{e.descriptor}" for e in ends[:_MOST_ENDS]) + more
            )
        rows.append(
            [
                (str(each.number), ""),
                (each.kind, ""),
                (" ".join((each.access, *(flag for flag in each.flags if flag != "cloexec"))), ""),
                (f"{each.offset:,}" if each.offset else "", ""),
                (each.target, ""),
                ("; ".join(words), ""),
            ]
        )
    return Table(columns, rows)


def growth_title() -> Line:
    """What stands above growth_line()."""
    return [(f"# {'seconds':>9}{'open':>8}{'change':>8}  what has changed", "bold")]


def first_line(now: Open) -> Line:
    """What is open when the watching begins: what the first growth_line() is compared with."""
    (kinds,) = _groups(now)
    words = ", ".join(f"{number:,} {name}" for name, number in kinds.most_common(_MOST_CHANGES))
    more = len(kinds) - _MOST_CHANGES
    left = sum(number for _, number in kinds.most_common()[_MOST_CHANGES:])
    words += f" and {left:,} of {more:,} more kinds" if more > 0 else ""
    return [(f"  {0:9.1f}{len(now.descriptors):8,}{'':8}  {words}".rstrip(), "")]


def growth_line(seconds: float, before: Open, now: Open) -> Line:
    """What one interval has changed, by kind."""
    changed = grown(before, now)
    words = ", ".join(f"{number:+,} {name}" for name, number in changed[:_MOST_CHANGES])
    more = len(changed) - _MOST_CHANGES
    words += (
        f" and {sum(number for _, number in changed[_MOST_CHANGES:]):+,} of {more:,} more kinds" if more > 0 else ""
    )
    change = len(now.descriptors) - len(before.descriptors)
    return [(f"  {seconds:9.1f}{len(now.descriptors):8,}{change:+8,}  {words}", "")]


def grown(before: Open, now: Open) -> list[tuple[str, int]]:
    """How the number of each kind has changed, the largest growth first."""
    earlier, change = _groups(before, now)
    change.subtract(earlier)
    return sorted(((name, number) for name, number in change.items() if number), key=lambda each: -each[1])


def document(
    facts: ProcessFacts, environment: Environment | None, found: Open | None, others: Mapping[str, Any]
) -> dict[str, Any]:
    """The same for JSON; ``others``: what else was asked for, such as mappings and threads."""
    cgroup = facts.cgroup
    return {
        **facts._asdict(),
        "limits": [limit._asdict() for limit in facts.limits],
        "signals": facts.signals._asdict(),
        "cgroup": cgroup
        and {
            **cgroup._asdict(),
            "throttled": cgroup.throttled and cgroup.throttled._asdict(),
            "pressure": {name: stall._asdict() for name, stall in cgroup.pressure.items()},
        },
        "environment": environment_document(environment),
        **others,
        "descriptor_limit": found.limit if found else None,
        "descriptors": None
        if found is None
        else [
            {
                **each._asdict(),
                "socket": each.socket._asdict() if each.socket else None,
                "other_ends": [end._asdict() for end in found.ends.get(each.number, ())],
            }
            for each in found.descriptors
        ],
    }
