"""Lowers one clause: its predicate and its body, in as many BPF programs as that takes.

The verifier gives up at 8,192 branches in a row (BPF_COMPLEXITY_LIMIT_JMP_SEQ of kernel/bpf/verifier.c), and a jump
reaches 32,767 instructions. A longer body continues in further *parts*: bpf_tail_call() leads to a program of the
same kind with the same context, which is verified separately, and never returns. Variables are passed in scratch
memory. At most 33 such calls follow each other (MAX_TAIL_CALL_CNT of include/linux/bpf.h).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from insitu.kernel.bpf_abi import ProgramType
from insitu.probe import ast
from insitu.probe.codegen.emitter import Function, Module
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.loops import functions_on_stack, shared_variables, walked_counters
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.codegen.markers import Patch
from insitu.probe.codegen.process import process_id
from insitu.probe.codegen.splitting import LARGE_IF, split_long_bodies
from insitu.probe.codegen.tables import RULES
from insitu.probe.layout import MAX_SCRATCH_BYTES, Layout
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check.checker import Checker
from insitu.probe.passes.check.folding import is_comptime
from insitu.probe.providers.arguments import ContextField
from insitu.probe.source import ScriptError
from insitu.probe.types import stored_size

__all__ = ["ClauseLowering"]

# Of one part, in lines and branches of LLVM IR; LLVM makes about 0.8 instructions of a line, 1.2 at worst.
_PART_LINES, _PART_BRANCHES = 12_000, 1_500
_MOST_LINES = 27_000
_MAX_TAIL_CALLS = 33
# Bodies with more branches keep their variables in scratch memory: their values are unknown to the verifier. Those
# on the stack it follows along each way through the branches, until a million instructions are spent.
_MANY_BRANCHES = 24


class ClauseLowering:
    """The parts of one clause: ``count`` have been made, and need ``scratch_bytes`` of scratch memory."""

    def __init__(self, checker: Checker, module: Module, layout: Layout, clause: Clause, index: int) -> None:
        self.count = 0
        self.scratch_bytes = 0
        self._checker, self._module, self._layout = checker, module, layout
        self._clause, self._index = clause, index
        self._homes: dict[str, int] = {}  # where variables are in scratch memory
        self._named: dict[int, frozenset[str]] = {}  # variables of statements, by their ids
        self._functions_on_stack = 1  # these three from the first part on
        self._shared: frozenset[str] = frozenset()
        self._walked: frozenset[str] = frozenset()
        self._depths: list[int] = []  # tail calls up to each part
        branches = (ast.If, ast.Ternary, ast.For, ast.While, ast.With)
        count = sum(isinstance(node, branches) for node in ast.walk(clause.probe.body))
        self._has_many_branches = count > _MANY_BRANCHES

    def lower(self) -> None:
        """Lower it all.

        :raises ScriptError: for a probe that is too large even in parts.
        """
        self._checker.clause = self._clause
        first = len(self._module.functions)
        split_long_bodies(self._clause.probe, self._checker.options.max_strlen, self._checker.constant)
        low = self._part(0)
        probe, traits = self._clause.probe, self._clause.provider.traits
        if not traits.run_by_us:
            _leave_after_exit(low)
        if self._checker.options.one_process and traits.of_process:
            _leave_in_other_processes(low)
        if probe.predicate is not None:
            low.at(probe.predicate.span)
            with low.temporaries():
                truth = low.truth(probe.predicate)
            yes, no = low.emit.label(), low.emit.label()
            low.emit.branch_if(truth, yes, no)
            low.emit.block(no)
            low.emit.ret("0")
            low.emit.block(yes)
        self._go(low, probe.body.statements, None)
        if any(function.lines > _MOST_LINES for function in self._module.functions[first:]):
            raise self._too_large(probe.body)

    # Statements whose end is the end of the program, or ``then``: the part that follows

    def _go(self, low: Lowering, statements: Sequence[ast.Statement], then: _Rest | None) -> None:
        for index, statement in enumerate(statements):
            if low.emit.terminated:
                break
            if self._is_full(low):
                self._continue_in(low, self._rest(statements[index:], then))
                break
            if isinstance(statement, ast.If) and _is_large(statement) and not is_comptime(statement.condition):
                rest = statements[index + 1 :]
                self._if(low, statement, self._rest(rest, then) if rest else then)
                break
            low.statement(statement)
        else:
            if then is None:
                low.leave()
            else:
                self._continue_in(low, then)
        self._finish(low)

    def _if(self, low: Lowering, node: ast.If, then: _Rest | None) -> None:
        emit = low.emit
        low.at(node.span)
        with low.temporaries():
            truth = low.truth(node.condition)
        yes, no = emit.label(), emit.label()
        emit.branch_if(truth, yes, no)
        emit.block(yes)
        self._go(low, node.then.statements, then)
        emit.block(no)
        self._go(low, node.otherwise.statements if node.otherwise else [], then)

    # Parts

    def _part(self, depth: int) -> Lowering:
        """The beginning of a further part; the first is the program itself."""
        number = self.count
        self.count += 1
        self._depths.append(depth)
        probe = self._clause.probe
        suffix = f"_{number}" if number else ""
        line, _ = self._checker.source.line_column(probe.span.start)
        # A tracepoint's event is only passed on to perf's users, who are others, if the program does not return 0.
        passes_on = self._clause.kind.type == ProgramType.TRACEPOINT
        emit = Function(
            self._module,
            f"probe_{self._index}{suffix}",
            line,
            f"p{self._index}{suffix}",
            result="1" if passes_on else "0",
        )
        emit.setup("  %context = call ptr @llvm.preserve.static.offset(ptr %ctx)\n")
        low = Lowering(RULES, self._checker, emit, self._layout, self._clause, self._index)
        if not number:
            self._functions_on_stack = functions_on_stack(low, probe.body)
            self._shared, self._walked = shared_variables(low, probe.body), walked_counters(low, probe.body)
        low.expect_callbacks(self._functions_on_stack, self._shared)
        if self._clause.kind.context == "iterator":
            _leave_at_the_end_of_a_walk(low)
        low.part = number
        low.off_stack = self._has_many_branches
        low.kept_on_stack = self._walked
        for name, at in self._homes.items():
            low.adopt(name, at)
        return low

    def _continue_in(self, low: Lowering, rest: _Rest) -> None:
        """Go on in the part that holds ``rest``, which is made when it is first asked for."""
        for name in sorted(rest.variables & low.variables.keys() - low.adopted):
            pointer, held = low.variable(ast.Variable(self._clause.probe.span, name))
            if name not in self._homes and name in low.in_scratch:
                self._homes[name] = low.in_scratch[name]
                continue
            if name not in self._homes:
                self._homes[name], home = low.scratch_at(stored_size(held))
            else:
                home = low.scratch_pointer(self._homes[name])
            low.copy(home, pointer, stored_size(held))
        depth = self._depths[low.part] + 1
        if depth > _MAX_TAIL_CALLS:
            raise self._too_large(rest.statements[0])
        made = None
        if rest.part is None:
            rest.part = self.count
            made = self._part(depth)
        emit = low.emit
        number = self._layout.parts_map(self._index)
        emit.call(Helper.TAIL_CALL, "ptr %ctx", emit.map(number), f"i32 {rest.part - 1}")
        low.leave()
        if made is not None:
            self._go(made, rest.statements, rest.then)

    def _rest(self, statements: Sequence[ast.Statement], then: _Rest | None) -> _Rest:
        named = (self._variables_of(statement) for statement in statements)
        return _Rest(statements, then, frozenset().union(*named, then.variables if then else ()))

    def _variables_of(self, statement: ast.Statement) -> frozenset[str]:
        """The names of its variables, kept: many parts begin in front of the same statement."""
        found = self._named.get(id(statement))
        if found is None:
            found = frozenset(node.name for node in ast.walk(statement) if isinstance(node, ast.Variable))
            self._named[id(statement)] = found
        return found

    def _is_full(self, low: Lowering) -> bool:
        return low.emit.lines > _PART_LINES or low.emit.branches > _PART_BRANCHES

    def _finish(self, low: Lowering) -> None:
        self.scratch_bytes = max(self.scratch_bytes, low.scratch_bytes)
        if low.scratch_bytes > MAX_SCRATCH_BYTES:
            message = f"the values of this probe take {low.scratch_bytes} bytes; {MAX_SCRATCH_BYTES} are allowed"
            remedy = "use pointers to large structs rather than copies"
            raise ScriptError(message, self._checker.source, self._clause.probe.attach_points[0].span, remedy=remedy)

    def _too_large(self, node: ast.Node) -> ScriptError:
        remedy = "split it into several probes of the same event"
        return self._checker.error("this probe is too long", node, remedy=remedy)


class _Rest(Struct):
    """Statements that a further part begins with, what follows them, and the variables used from here on."""

    statements: Sequence[ast.Statement]
    then: _Rest | None
    variables: frozenset[str]
    part: int | None = None


def _is_large(node: ast.Node) -> bool:
    return sum(1 for _ in ast.walk(node)) > LARGE_IF


def _leave_in_other_processes(low: Lowering) -> None:
    """Run the rest of the program in the one process that probes are restricted to, and in no other."""
    emit = low.emit
    ours, other = emit.label(), emit.label()
    emit.branch_if(emit.value(f"icmp eq i64 {process_id(low)}, {emit.patched(Patch.ONLY_PID)}"), ours, other)
    emit.block(other)
    emit.ret("0")
    emit.block(ours)


def _leave_after_exit(low: Lowering) -> None:
    """After exit(), and while probes are detached one by one, events no longer count."""
    over = low.emit.truth(low.emit.load(low.emit.map_value(low.layout.exit_map())))
    gone, there = low.emit.label(), low.emit.label()
    low.emit.branch_if(over, gone, there)
    low.emit.block(gone)
    low.emit.ret("0")
    low.emit.block(there)


def _leave_at_the_end_of_a_walk(low: Lowering) -> None:
    """An iterator's last run has no object. The verifier requires one null test of each pointer, before its uses."""
    from insitu.symbols.btf import Kind, Type

    for argument in low.clause.arguments or ():
        if not isinstance(argument.type, Type) or argument.type.strip().kind != Kind.PTR or argument.name == "meta":
            continue
        assert isinstance(argument.load, ContextField)
        value = low.load_context(argument.load.offset, argument.load.size)
        there, gone = low.emit.label(), low.emit.label()
        low.emit.branch_if(low.emit.truth(value), there, gone)
        low.emit.block(gone)
        low.emit.ret("0")
        low.emit.block(there)
        low.walked[argument.name] = value
