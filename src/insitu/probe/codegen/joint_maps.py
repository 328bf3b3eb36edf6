"""Finds maps of aggregations that are always added to together, at the same key.

Each statement alone builds the key and looks it up. Such maps become one of the kernel's, with a part of its value
for each: the key is built, hashed and compared once. They may be read, each for itself, and cleared, all together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check.dialect import MapType
from insitu.probe.types import stored_size

__all__ = ["join_updates"]

# Of a value: the kernel takes 32 KiB for each CPU (PCPU_MIN_UNIT_SIZE of include/linux/percpu.h).
_MOST_BYTES = 16 << 10
_CHANGING = ("nsecs", "elapsed", "rand")  # may differ from one use to the next


class _Run(Struct, eq=False):
    """Updates that follow each other in a list of statements, from ``begin`` on: distinct maps at one key."""

    statements: list[ast.Statement]
    begin: int
    names: list[str]


def join_updates(clauses: Sequence[Clause], maps: Mapping[str, MapType]) -> list[tuple[str, ...]]:
    """Turn updates that can be made together into ast.JointUpdate: the names of the maps of each group.

    The maps of a group are printed whole, read as numbers, or cleared together, if they are used for anything else.
    """
    bodies = list({id(clause.probe): clause.probe.body for clause in clauses}.values())
    runs = [run for body in bodies for run in _runs(body, maps)]
    uses = Counter(each.name for body in bodies for each in ast.walk(body) if isinstance(each, ast.MapAccess))
    uses.update(
        each.name
        for clause in clauses
        for each in ast.walk(clause.probe.predicate)
        if isinstance(each, ast.MapAccess)
    )
    uses.subtract(name for body in bodies for name in _printed(body))
    uses.subtract(name for body in bodies for name in _read(body))
    cleared = _cleared(bodies)
    uses.subtract({name: len(places) for name, places in cleared.items()})
    where: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        for name in run.names:
            where.setdefault(name, []).append(number)
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for name, numbers in where.items():
        if uses[name] == len(numbers):
            alike.setdefault((tuple(numbers), tuple(cleared.get(name, ()))), []).append(name)
    groups = [
        (numbers, names)
        for (numbers, _), names in alike.items()
        if len(names) > 1
        and all(_follow_each_other(runs[number], names) for number in numbers)
        and sum(stored_size(maps[name].value) for name in names) <= _MOST_BYTES
    ]
    for together, names in groups:
        for number in together:
            _join(runs[number], names)
    return [tuple(names) for _, names in groups]


def _runs(body: ast.Block, maps: Mapping[str, MapType]) -> Iterator[_Run]:
    for node in ast.walk(body):
        if isinstance(node, ast.Block | ast.BlockExpression):
            yield from _runs_among(node.statements, maps)


def _runs_among(statements: list[ast.Statement], maps: Mapping[str, MapType]) -> Iterator[_Run]:
    run: _Run | None = None
    first: ast.MapAccess | None = None
    for index, statement in enumerate(statements):
        target = _updated(statement, maps)
        if target is None or first is None or run is None or not _joins(target, first, run, maps):
            if run is not None and len(run.names) > 1:
                yield run
            run = _Run(statements, index, []) if target is not None else None
            first = target
        if run is not None and target is not None:
            run.names.append(target.name)
    if run is not None and len(run.names) > 1:
        yield run


def _joins(target: ast.MapAccess, first: ast.MapAccess, run: _Run, maps: Mapping[str, MapType]) -> bool:
    return (
        target.name not in run.names
        and maps[target.name].key == maps[first.name].key
        and _same(target.key, first.key, {})
    )


def _updated(statement: ast.Statement, maps: Mapping[str, MapType]) -> ast.MapAccess | None:
    """The element that a statement adds to, if that may be done together with another."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return None
    target, entry = statement.target, maps.get(getattr(statement.target, "name", ""))
    if not isinstance(target, ast.MapAccess) or not target.key or not isinstance(target.type, Aggregation):
        return None
    if entry is None or entry.declared is not None or entry.evicts or ast.has_effects(statement.value):
        return None
    for part in target.key:
        names = (each.name for each in ast.walk(part) if isinstance(each, ast.Call | ast.Identifier))
        if ast.has_effects(part) or any(name in _CHANGING for name in names):
            return None
    return target


def _same(one: object, other: object, renamed: dict[str, str]) -> bool:
    """Whether two trees mean the same. ``renamed``: the other's names of variables that are declared in them."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair, renamed) for pair in zip(one, other, strict=True))
    if not isinstance(one, ast.Node) or type(one) is not type(other):
        return one == other
    if isinstance(one, ast.Let) and isinstance(other, ast.Let):
        renamed[one.variable.name] = other.variable.name
    if isinstance(one, ast.Variable) and isinstance(other, ast.Variable):
        return renamed.get(one.name, one.name) == other.name
    return all(_same(getattr(one, name), getattr(other, name), renamed) for name in ast.child_names(one))


def _printed(body: ast.Block) -> Iterator[str]:
    """The maps that are printed whole, as often as they are."""
    for node in ast.walk(body):
        subject = node.arguments[0] if isinstance(node, ast.Call) and node.name == "print" else None
        if isinstance(subject, ast.MapAccess) and subject.key is None:
            yield subject.name


def _read(body: ast.Block) -> Iterator[str]:
    """The maps of which an element is read as a number, as often as one is."""
    for node in ast.walk(body):
        subject = node.operand if isinstance(node, ast.Cast) else None
        if isinstance(subject, ast.MapAccess) and subject.key:
            yield subject.name


def _cleared(bodies: Sequence[ast.Block]) -> dict[str, list[int]]:
    """For each map that is cleared, the number of each list of statements in which it is."""
    found: dict[str, list[int]] = {}
    blocks = (node for body in bodies for node in ast.walk(body) if isinstance(node, ast.Block | ast.BlockExpression))
    for number, block in enumerate(blocks):
        for statement in block.statements:
            call = statement.expression if isinstance(statement, ast.ExpressionStatement) else None
            subject = call.arguments[0] if isinstance(call, ast.Call) and call.name == "clear" else None
            if isinstance(subject, ast.MapAccess):
                found.setdefault(subject.name, []).append(number)
    return found


def _follow_each_other(run: _Run, names: list[str]) -> bool:
    at = run.names.index(names[0])
    return run.names[at : at + len(names)] == names


def _join(run: _Run, names: list[str]) -> None:
    """Put the first of the updates in the place of all: the others become empty blocks, so that places stay."""
    at = run.begin + run.names.index(names[0])
    updates = [each for each in run.statements[at : at + len(names)] if isinstance(each, ast.Assign)]
    run.statements[at] = ast.JointUpdate(updates[0].span, updates)
    for index in range(at + 1, at + len(names)):
        run.statements[index] = ast.Block(run.statements[index].span, [])
