"""Lowers loops. The kernel's verifier walks a loop iteration by iteration; long ones become callbacks instead.

A loop over a map is bpf_for_each_map_elem() (kernels from 5.13 on), one over a range or under a condition bpf_loop()
(from 5.17 on): the body is a function of its own, verified once. callback_frame.py has what it shares with its
program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from insitu.kernel.bpf_helpers import knows_helper
from insitu.probe import ast
from insitu.probe.aggregations import Aggregation, Element
from insitu.probe.codegen.callback_frame import OUTER, Ending
from insitu.probe.codegen.emitter import Function
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Lowered, Lowering
from insitu.probe.codegen.maps import aggregate_value, count_lost, count_lost_if
from insitu.probe.layout import LOST_ROUNDS, MAX_ROUNDS, MAX_WHILE_ROUNDS
from insitu.probe.types import Integer, Tuple, stored_size

__all__ = ["STATEMENTS", "count_elements", "counted", "functions_on_stack", "shared_variables", "walked_counters"]

# Innermost loops over ranges of constant length up to this are not callbacks: faster, and LLVM can unroll them. So
# are only those of short bodies (in nodes of the tree), since the verifier walks each iteration.
_INLINE_ITERATIONS = 32
_INLINE_NODES = 4_000
_Outlined = ast.For | ast.While | ast.Part  # what may become a function of its own
_MAX_FRAMES = 8  # MAX_CALL_FRAMES of include/linux/bpf_verifier.h


def functions_on_stack(low: Lowering, body: ast.Node) -> int:
    """How many functions may be on the stack at once in a program: itself, and loops inside loops."""
    deepest = _depth(low, body)
    return 1 + deepest


def _depth(low: Lowering, node: ast.Node) -> int:
    deepest = 0
    for loop in _outermost_callbacks(low, node):
        deepest = max(deepest, 1 + _depth(low, loop.body))
        if deepest >= _MAX_FRAMES:
            raise low.error(f"loops may be nested {_MAX_FRAMES - 1} deep", loop)
    return deepest


def shared_variables(low: Lowering, body: ast.Node) -> frozenset[str]:
    """The variables that callbacks of a function use besides it."""
    return frozenset(name for loop in _outermost_callbacks(low, body) for name in loop.shared)


def walked_counters(low: Lowering, body: ast.Node) -> frozenset[str]:
    """Variables in the conditions of loops that the verifier walks: it has to know their values to see an end."""
    walked = (each for each in ast.walk(body) if isinstance(each, ast.While) and not _is_callback(low, each))
    names = (each.name for loop in walked for each in ast.walk(loop.condition) if isinstance(each, ast.Variable))
    return frozenset(names)


def _outermost_callbacks(low: Lowering, node: ast.Node) -> list[_Outlined]:
    loops = [each for each in ast.walk(node) if isinstance(each, _Outlined) and _is_callback(low, each)]
    inside = {id(each) for loop in loops for each in ast.walk(loop.body)}
    return [loop for loop in loops if id(loop) not in inside]


def _is_callback(low: Lowering, node: _Outlined) -> bool:
    if isinstance(node, ast.Part) or (isinstance(node, ast.For) and isinstance(node.iterable, ast.MapAccess)):
        return True
    if isinstance(node, ast.For):
        assert isinstance(node.iterable, ast.Range)
        start, end = low.constant_or_none(node.iterable.start), low.constant_or_none(node.iterable.end)
        nodes = list(ast.walk(node.body))
        inner = any(isinstance(each, _Outlined) for each in nodes)
        if start is not None and end is not None and end - start <= _INLINE_ITERATIONS and not inner:
            return len(nodes) * (end - start) > _INLINE_NODES and knows_helper(Helper.LOOP)
    return knows_helper(Helper.LOOP)


# Callbacks


def _callback(
    low: Lowering, node: _Outlined, parameters: str, body: Callable[[Lowering], None]
) -> tuple[str, Lowering]:
    """Make the function of a loop's or part's body: its name, and its lowering."""
    outer = low.emit
    name = f"{outer.name}_{'part' if isinstance(node, ast.Part) else 'loop'}_{outer.label()}"
    line, _ = low.source.line_column(node.span.start)
    emit = Function(outer.module, name, line, outer.section, parameters=f"{parameters}ptr {OUTER}", callback=True)
    emit.setup(f"  %raw_context = load ptr, ptr {OUTER}, align 8\n")
    emit.setup("  %context = call ptr @llvm.preserve.static.offset(ptr %raw_context)\n")
    inner = low.for_callback(emit, shared_variables(low, node.body), frozenset(node.shared))
    if not isinstance(node, ast.Part):
        inner.loops.append(("", ""))
    body(inner)
    return name, inner


def _after(low: Lowering, inner: Lowering) -> None:
    """After the call: continue where a return from, or the end of the program in, the loop leads."""
    emit = low.emit
    for how in sorted(inner.endings):
        asked, end = emit.label(), emit.label()
        emit.branch_if(emit.value(f"icmp eq i64 {low.link.ending()}, {int(how)}"), asked, end)
        emit.block(asked)
        match how:
            case Ending.RETURN:
                low.leave_function()
            case Ending.BREAK:
                low.leave_loop()
            case Ending.CONTINUE:
                low.next_iteration()
            case _:
                low.leave(low.link.result() if low.outer is None else "0")
        emit.block(end)


def _zero(low: Lowering) -> str:
    """0, as a value that is unknown to the verifier."""
    return low.emit.load(low.emit.map_value(low.layout.zeros_map(8)))


def _forget_changing(low: Lowering, node: ast.For | ast.While) -> None:
    """Let the verifier forget the values of numbers that the loop changes.

    Knowing what they begin with, kernels from 6.7 on follow a comparison of them iteration by iteration.
    """
    changed = {
        target.name
        for each in ast.walk(node)
        if isinstance(each, ast.Assign | ast.Step) and isinstance(target := each.target, ast.Variable)
    }
    numbers = [name for name in node.shared if name in changed and isinstance(low.variable_types.get(name), Integer)]
    if numbers:
        zero = _zero(low)
        for name in numbers:
            pointer, _ = low.variable(ast.Variable(node.span, name))
            low.emit.store(low.emit.op("or", low.emit.load(pointer), zero), pointer)


# Parts of bodies that are too long for one function


def _part(low: Lowering, node: ast.Part) -> None:
    name, inner = _callback(low, node, "", lambda inner: inner.statement(node.body))
    low.link.begin()
    low.emit.value(f"call i64 @{name}(ptr {low.link.pointer()})")
    _after(low, inner)


# Loops over maps


def _need_map_walks(low: Lowering, what: str, node: ast.Node) -> None:
    if not knows_helper(Helper.FOR_EACH_MAP_ELEM):
        raise low.error(f"{what} needs Linux 5.13", node)


def _for_map(low: Lowering, node: ast.For, iterable: ast.MapAccess) -> None:
    _need_map_walks(low, "a loop over a map", node)
    number = low.layout.number(iterable.name)

    def body(inner: Lowering) -> None:
        emit = inner.emit
        pointer, held = inner.variable(node.variable)
        assert isinstance(held, Tuple)
        layout = inner.layout.maps[number]
        assert layout.key is not None and layout.value is not None
        emit.copy(pointer, "%key", layout.key.size)
        value = emit.offset(pointer, layout.key.size)
        if isinstance(held.elements[1], Element):
            pass  # it stays in the map, for user space to read
        elif isinstance(layout.value, Aggregation):
            emit.store(aggregate_value(inner, number, "%key", layout.value), value)
        else:
            inner.copy(value, "%value", stored_size(layout.value))
        inner.statement(node.body)

    name, inner = _callback(low, node, "ptr %map, ptr %key, ptr %value, ", body)
    _forget_changing(low, node)
    low.link.begin()
    emit = low.emit
    emit.call(Helper.FOR_EACH_MAP_ELEM, emit.map(number), f"ptr @{name}", f"ptr {low.link.pointer()}", "i64 0")
    _after(low, inner)


def count_elements(low: Lowering, access: ast.MapAccess) -> str:
    """How many elements a map with keys has: bpf_for_each_map_elem() with a callback that counts."""
    _need_map_walks(low, "len() of a map", access)
    number = low.layout.number(access.name)
    outer = low.emit
    name = f"{outer.name}_count_{outer.label()}"
    emit = Function(
        outer.module, name, 1, outer.section, parameters="ptr %map, ptr %key, ptr %value, ptr %frame", callback=True
    )
    emit.store(emit.op("add", emit.load("%frame"), "1"), "%frame")
    emit.ret("0")
    with low.temporaries():
        total = low.temporary(8)
        # Knowing what it begins with, the verifier would follow comparisons of it element by element.
        outer.store(_zero(low), total)
        outer.call(Helper.FOR_EACH_MAP_ELEM, outer.map(number), f"ptr @{name}", f"ptr {total}", "i64 0")
        return outer.load(total)


# Loops over ranges


def _for(low: Lowering, node: ast.For) -> None:
    if isinstance(node.iterable, ast.MapAccess):
        _for_map(low, node, node.iterable)
    elif _is_callback(low, node):
        _for_range(low, node, node.iterable)
    else:
        _walk_range(low, node, node.iterable)


def _for_range(low: Lowering, node: ast.For, iterable: ast.Range) -> None:
    """The loop's own counter is apart from the script's variable, which the body may change."""
    emit = low.emit
    start, end = low.value(iterable.start), low.value(iterable.end)
    constant = low.constant_or_none(iterable.start) is not None
    begin = f"{node.variable.name} from"
    if not constant:
        emit.store(start, low.link.home(begin, 8))

    def body(inner: Lowering) -> None:
        first = start if constant else inner.emit.load(inner.link.reach(begin))
        inner.emit.store(inner.emit.op("add", first, "%index"), inner.variable(node.variable)[0])
        inner.statement(node.body)

    name, inner = _callback(low, node, "i64 %index, ", body)
    _forget_changing(low, node)
    some = emit.value(f"icmp slt i64 {start}, {end}")
    iterations = emit.select(some, emit.op("sub", end, start), "0")
    # Verifiers do not handle a callback that is never reached, as with a constant 0.
    _call(low, name, inner, emit.op("or", iterations, _zero(low)))


def _call(low: Lowering, name: str, inner: Lowering, iterations: str) -> None:
    """bpf_loop(), at most MAX_ROUNDS iterations; more are counted as lost."""
    emit = low.emit
    fits, too_many, call = emit.label(), emit.label(), emit.label()
    low.link.begin()
    emit.branch_if(emit.value(f"icmp ugt i64 {iterations}, {MAX_ROUNDS}"), too_many, fits)
    emit.block(too_many)
    count_lost(low, LOST_ROUNDS)
    emit.branch(call)
    capped = emit.block_name
    emit.block(fits)
    emit.branch(call)
    emit.block(call)
    bound = emit.phi("i64", (str(MAX_ROUNDS), capped), (iterations, fits))
    emit.call(Helper.LOOP, f"i64 {bound}", f"ptr @{name}", f"ptr {low.link.pointer()}", "i64 0")
    _after(low, inner)


def _walk_range(low: Lowering, node: ast.For, iterable: ast.Range) -> None:
    emit = low.emit
    head, body, following, end = (emit.label() for _ in range(4))
    counter = low.permanent(8)
    emit.store(low.value(iterable.start), counter)
    last = low.value(iterable.end)
    emit.block(head)
    current = emit.load(counter)
    emit.branch_if(emit.value(f"icmp slt i64 {current}, {last}"), body, end)
    emit.block(body)
    emit.store(current, low.variable(node.variable)[0])
    low.loops.append((following, end))
    low.statement(node.body)
    low.loops.pop()
    emit.block(following)
    emit.store(emit.op("add", emit.load(counter), "1"), counter)
    emit.branch(head)
    emit.block(end)


# Loops under a condition


def _while(low: Lowering, node: ast.While) -> None:
    if not _is_callback(low, node):
        _walk_while(low, node)
        return

    def body(inner: Lowering) -> None:
        emit = inner.emit
        holds, ends = emit.label(), emit.label()
        with inner.temporaries():
            truth = inner.truth(node.condition)
        emit.branch_if(truth, holds, ends)
        emit.block(ends)
        emit.ret("1")
        emit.block(holds)
        inner.statement(node.body)

    name, inner = _callback(low, node, "i64 %index, ", body)
    _forget_changing(low, node)
    emit = low.emit
    low.link.begin()
    iterations = emit.call(
        Helper.LOOP, f"i64 {MAX_WHILE_ROUNDS}", f"ptr @{name}", f"ptr {low.link.pointer()}", "i64 0"
    )
    count_lost_if(low, emit.value(f"icmp eq i64 {iterations}, {MAX_WHILE_ROUNDS}"), LOST_ROUNDS)
    _after(low, inner)


def _walk_while(low: Lowering, node: ast.While) -> None:
    emit = low.emit
    head, body, end = emit.label(), emit.label(), emit.label()
    emit.block(head)
    with low.temporaries():
        truth = low.truth(node.condition)
    emit.branch_if(truth, body, end)
    emit.block(body)
    low.loops.append((head, end))
    low.statement(node.body)
    low.loops.pop()
    emit.branch(head)
    emit.block(end)


def _unroll(low: Lowering, node: ast.Unroll) -> None:
    emit = low.emit
    end = emit.label()
    for _ in range(low.constant(node.count)):
        following = emit.label()
        low.loops.append((following, end))
        low.statement(node.body)
        low.loops.pop()
        emit.block(following)
    emit.block(end)


# Loops that the compiler adds


def counted(low: Lowering, iterations: int | str, body: Callable[[str], None]) -> None:
    """Emit a loop with ``body``, called with the i64 of the iteration: 0 up to ``iterations`` (excluded)."""
    emit = low.emit
    counter = low.permanent(8)
    head, inside, end = emit.label(), emit.label(), emit.label()
    emit.store("0", counter)
    emit.block(head)
    current = emit.load(counter)
    emit.branch_if(emit.value(f"icmp ult i64 {current}, {iterations}"), inside, end)
    emit.block(inside)
    body(current)
    emit.store(emit.op("add", emit.load(counter), "1"), counter)
    emit.branch(head)
    emit.block(end)


STATEMENTS: Mapping[type[ast.Statement], Lowered] = {
    ast.For: _for,
    ast.While: _while,
    ast.Unroll: _unroll,
    ast.Part: _part,
}
