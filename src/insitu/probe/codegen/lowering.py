"""Lowers one program: holds its state, and finds for each construct the function that lowers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from insitu.kernel.calling_convention import MACHINE
from insitu.probe import ast
from insitu.probe.codegen.callback_frame import Ending, Link
from insitu.probe.codegen.emitter import Function
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.memory_access import UNROLLED_BYTES, MemoryAccess
from insitu.probe.codegen.places import Local, Place, Remote
from insitu.probe.layout import Layout
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check.checker import Checker
from insitu.probe.passes.check.folding import Constant
from insitu.probe.passes.check.members import member_field
from insitu.probe.source import ScriptError, Span
from insitu.probe.types import (
    Field,
    Integer,
    NamedNumber,
    Space,
    String,
    Tuple,
    Type,
    is_scalar,
    memory_size,
    stored_size,
)

__all__ = ["Local", "Lowered", "LoweredBuiltin", "Lowering", "Place", "PlaceOf", "Remote", "Rules", "Store", "Value"]


# An expression's i64; its stored form written to a pointer; its location; a statement
Value = Callable[["Lowering", Any], str]
Store = Callable[["Lowering", Any, str], None]
PlaceOf = Callable[["Lowering", Any], Place]
Lowered = Callable[["Lowering", Any], None]
# Sends a warning with a format, the types of the values in it, and their registers.
Warn = Callable[["Lowering", str, Sequence[tuple[Type, str]]], None]


class LoweredBuiltin(Protocol):
    """What code generation needs of a builtin (builtins/registry.py)."""

    @property
    def value(self) -> Value | None:
        """Lowers it to the i64 of a scalar, "0" when it has no value."""

    @property
    def store(self) -> Store | None:
        """Lowers it to what is larger than a register."""


_MOST_LINES = 1_000_000  # of a whole script; LLVM compiles some 75,000 in a second


class Rules(Struct, frozen=True):
    """How each class of expression and statement is lowered, and the builtins by name (tables.py).

    ``store_name`` and ``write_name`` make text of the names of attach points (point_names.py). ``text_place`` returns
    what lowers the place whose text is an expression's value; None for an expression that is not read from memory.
    """

    values: Mapping[type[ast.Expression], Value]
    stores: Mapping[type[ast.Expression], Store]
    places: Mapping[type[ast.Expression], PlaceOf]
    statements: Mapping[type[ast.Statement], Lowered]
    functions: Mapping[str, LoweredBuiltin]
    variables: Mapping[str, LoweredBuiltin]
    warn: Warn
    store_name: Callable[[Lowering, ast.Expression, str, String], None]
    write_name: Callable[[Lowering, NamedNumber, str, str, String], None]
    text_place: Callable[[Lowering, ast.Expression], Callable[[], Remote] | None]


class Lowering(MemoryAccess):
    """The state of one program's lowering: where its variables are, what stack is free, which loop it is in."""

    def __init__(
        self,
        rules: Rules,
        checker: Checker,
        emitter: Function,
        layout: Layout,
        clause: Clause,
        program: int,
        *,
        outer: Lowering | None = None,
        from_outside: frozenset[str] = frozenset(),
    ) -> None:
        """``outer``: of a callback, the function around it; ``from_outside``: variables of functions further out."""
        super().__init__(emitter, layout, checker.options, outer)
        self.rules = rules
        self.source = checker.source
        self.structures = checker.structures
        self.probe_context = checker.context
        self.parameters = checker.options.parameters
        self.prints_events = checker.options.events == "print" and bool(checker.events)
        self.clause = clause
        self.program = program
        self.variable_types = checker.variables_of(clause)
        self.variables: dict[str, str] = {}
        self.tuple_copies: dict[str, str] = {}  # of variables, in C's layout, to which & leads
        self._checker = checker
        self.loops: list[tuple[str, str]] = []  # labels of continue and break
        self.returns: list[str] = []  # labels after the functions that are expanded here
        self.context = "%context"
        self.span = clause.probe.span  # of the expression that is lowered now
        self.walked: dict[str, str] = {}  # an iterator's objects, known not to be null
        self.from_outside = from_outside
        self.part = 0  # of a body that is too long for one program (program.py)
        self.adopted: dict[str, int] = {}  # variables of earlier parts: their offsets in scratch memory
        self.in_scratch: dict[str, int] = {}  # the same of own variables
        self.off_stack = False  # whether all variables are kept there, except these
        self.kept_on_stack: frozenset[str] = frozenset()
        self.link: Link = Link(self, outer.link if outer is not None else None)
        self.endings: set[Ending] = set()  # how this callback may end, besides by itself
        self._shared: frozenset[str] = frozenset()

    def send_warning(self, text: str, values: Sequence[tuple[Type, str]]) -> None:
        self.rules.warn(self, text, values)

    def error(self, message: str, node: ast.Node, *, remedy: str = "") -> ScriptError:
        """A ScriptError at a node."""
        return ScriptError(message, self.source, node.span, remedy=remedy)

    def at(self, span: Span) -> None:
        """What is emitted next comes from here."""
        self.emit.at(*self.source.line_column(span.start))

    def for_callback(self, emitter: Function, shared: frozenset[str], from_outside: frozenset[str]) -> Lowering:
        """The lowering of a function that the kernel calls back while this one runs, on the same stack."""
        inner = Lowering(
            self.rules,
            self._checker,
            emitter,
            self.layout,
            self.clause,
            self.program,
            outer=self,
            from_outside=from_outside,
        )
        inner.expect_callbacks(self._slots.functions, shared)
        inner.off_stack, inner.kept_on_stack = self.off_stack, self.kept_on_stack
        return inner

    def expect_callbacks(self, functions: int, shared: frozenset[str]) -> None:
        """Before the body: how many functions may be on the stack at once, and the variables that callbacks use."""
        self._slots.functions = functions
        self._shared = shared

    def constant(self, node: ast.Expression) -> int:
        """The value of an expression that the checker found constant."""
        value = self.constant_or_none(node)
        assert value is not None
        return value

    def constant_or_none(self, node: ast.Expression) -> int | None:
        """The value of an expression that is one number at compile time, else None."""
        self._checker.clause = self.clause
        return self._checker.constant(node)

    def known_value(self, node: ast.Expression) -> Constant | None:
        """The value of an expression that is known at compile time: a number, text or tuple; else None."""
        self._checker.clause = self.clause
        return self._checker.known_value(node)

    def text(self, node: ast.Expression | ast.TypeName) -> str:
        """The text of an argument that the checker found to be a string literal."""
        return self._checker.text(node, "this")

    def field(self, node: ast.Member) -> Field:
        """The field that a member access means."""
        self._checker.clause = self.clause
        return member_field(self._checker, node)

    def kernel_address(self, name: str) -> int:
        """The address of a kernel symbol that the checker found."""
        return self._checker.kernel_address(name) or 0

    # Variables and the context

    def variable(self, node: ast.Variable) -> tuple[str, Type]:
        """A pointer to a variable, and its type; it is zeroed first."""
        held = self.variable_types[node.name]
        if node.name in self.from_outside and node.name not in self.variables:
            self.variables[node.name] = self.link.reach(node.name)
        if node.name in self.adopted and node.name not in self.variables:
            self.variables[node.name] = self.scratch_pointer(self.adopted[node.name])
        if node.name not in self.variables:
            size = stored_size(held)
            if self.off_stack and node.name not in self.kept_on_stack:
                self.in_scratch[node.name], pointer = self.scratch_at(size)
                self.link.adopt(node.name, self.in_scratch[node.name])
            else:
                pointer = self.link.home(node.name, size) if node.name in self._shared else self.permanent(size)
            self.variables[node.name] = pointer
            if size <= UNROLLED_BYTES:
                for at in range(0, size, 8):
                    register = self.emit.name_register()
                    self.emit.setup(f"  {register} = getelementptr i8, ptr {pointer}, i64 {at}\n")
                    self.emit.setup(f"  store i64 0, ptr {register}, align 8\n")
            else:
                reader = f"inttoptr (i64 {int(Helper.PROBE_READ_KERNEL)} to ptr)"
                self.emit.setup(f"  call i64 {reader}(ptr {pointer}, i64 {size}, i64 0)\n")
        return self.variables[node.name], held

    def load_context(self, offset: int, size: int, *, signed: bool = False) -> str:
        """``size`` bytes of the program's context. The kernel requires the offset in the load, hence volatile."""
        pointer = self.emit.offset(self.context, offset)
        return self.emit.load(pointer, size, signed=signed, volatile=True)

    def register(self, name: str) -> str:
        """A register of the interrupted code, or one by its role: sp, ip, result."""
        part = MACHINE.register(name)
        assert part is not None
        value = self.load_context(part.offset, 8)
        if part.shift:
            value = self.emit.op("lshr", value, str(part.shift))
        return value if part.size == 8 else self.emit.op("and", value, str((1 << 8 * part.size) - 1))

    def clear(self, node: ast.Variable) -> None:
        """Set a variable to zeros again: its block may be entered more than once."""
        pointer, held = self.variable(node)
        self.zero(pointer, stored_size(held))

    def stack_space(self) -> Space:
        """Whose stack the stack pointer of the context leads to."""
        return Space.USER if self.clause.points[0].in_binary else Space.KERNEL

    def adopt(self, name: str, at: int) -> None:
        """Take over a variable of an earlier part; this part's own scratch memory follows it."""
        self.adopted[name] = at
        self.link.adopt(name, at)
        self._scratch_bytes = max(self._scratch_bytes, at + stored_size(self.variable_types[name]))

    # Expressions

    def value(self, node: ast.Expression) -> str:
        """The i64 of a scalar expression."""
        outer, self.span = self.span, node.span
        found = self.rules.values[type(node)](self, node)
        self.span = outer
        return found

    def truth(self, node: ast.Expression) -> str:
        """i1: whether a condition holds. A string holds when it is not empty."""
        if isinstance(node.type, String):
            with self.temporaries():
                return self.emit.truth(self.emit.load(self.local(node), 1))
        return self.emit.truth(self.value(node))

    def store(self, node: ast.Expression, pointer: str, target: Type | None = None) -> None:
        """Write an expression's stored form to ``pointer``, widened to ``target`` where strings are longer there."""
        assert node.type is not None
        target = target or node.type
        outer, self.span = self.span, node.span
        if is_scalar(target) and is_scalar(node.type):
            self.emit.store(self.value(node), pointer)
        elif isinstance(node.type, NamedNumber) and isinstance(target, String):
            self.rules.store_name(self, node, pointer, target)
        elif isinstance(node, ast.TupleLiteral) and isinstance(target, Tuple):
            assert isinstance(node.type, Tuple)
            places = target.order_of(node.type)
            for element, place in zip(node.elements, places, strict=True):
                self.store(element, self.emit.offset(pointer, target.offset(place)), target.elements[place])
        elif type(node) in self.rules.stores and _same_form(node.type, target):
            self.rules.stores[type(node)](self, node, pointer)
        else:
            with self.temporaries():
                self.convert(self.place(node), node.type, pointer, target)
        self.span = outer

    def place(self, node: ast.Expression) -> Place:
        """The location of an expression's value; a temporary for one that is not in memory."""
        if type(node) in self.rules.places:
            return self.rules.places[type(node)](self, node)
        return Local(self.local(node))

    def local(self, node: ast.Expression) -> str:
        """A pointer to an expression's stored form, directly readable."""
        assert node.type is not None
        if type(node) in self.rules.places:
            place = self.rules.places[type(node)](self, node)
            if isinstance(place, Local) and not place.inner:
                return place.pointer
        pointer = self.temporary(stored_size(node.type))
        self.store(node, pointer)
        return pointer

    def convert(self, place: Place, held: Type, pointer: str, target: Type) -> None:
        """Copy the value at ``place`` to ``pointer``, strings padded to the target's length."""
        emit = self.emit
        if isinstance(place, Local) and place.inner:
            place = Remote(emit.address(place.pointer), Space.KERNEL)
        if isinstance(held, Tuple) and isinstance(place, Remote):
            whole = pointer if _same_form(held, target) else self.temporary(held.size)
            self.unpack(place, held, whole)
            if whole == pointer:
                return
            place = Local(whole)
        if isinstance(held, Tuple) and isinstance(target, Tuple) and not _same_form(held, target):
            assert isinstance(place, Local)
            for index, outer in zip(held.order_of(target), range(len(target.elements)), strict=True):
                source = Local(emit.offset(place.pointer, held.offset(index)))
                wanted = target.elements[outer]
                self.convert(source, held.elements[index], emit.offset(pointer, target.offset(outer)), wanted)
            return
        if isinstance(held, NamedNumber) and isinstance(target, String) and isinstance(place, Local):
            self.rules.write_name(self, held, emit.load(place.pointer), pointer, target)
            return
        if isinstance(place, Remote):
            if isinstance(target, String) and (place.terminated or target.capacity < held.size):
                self.read_string(pointer, target.capacity, place, min(target.capacity, held.size))
            elif isinstance(target, String):
                self.zero(pointer, stored_size(target))
                self.read_characters(pointer, place, held.size)
            elif target.size:
                emit.zero(emit.offset(pointer, stored_size(target) - 8), 8)
                self.read(pointer, min(held.size, target.size), place)
            return
        size = min(stored_size(held), stored_size(target))
        self.copy(pointer, place.pointer, size)
        self.zero(emit.offset(pointer, size), stored_size(target) - size)

    def unpack(self, place: Remote, held: Tuple, pointer: str) -> None:
        """Write the stored form of a tuple that is elsewhere in C's layout."""
        for index, kind in enumerate(held.elements):
            at = replace(place, address=self.emit.op("add", place.address, str(held.memory_offset(index))))
            target = self.emit.offset(pointer, held.offset(index))
            if is_scalar(kind):
                signed = isinstance(kind, Integer) and kind.signed
                self.emit.store(self.read_scalar(at, 0, memory_size(kind), signed), target)
            elif isinstance(kind, Tuple | String):
                self.convert(at, kind, target, kind)
            else:
                self.zero(self.emit.offset(target, stored_size(kind) - 8), 8)
                self.read(target, memory_size(kind), at)

    # Statements

    def statement(self, node: ast.Statement) -> None:
        """Lower a statement.

        :raises ScriptError: when the script's probes, repetitions by unroll and wildcards counted, become too large.
        """
        if self.emit.module.lines > _MOST_LINES:
            message = f"the script is too large: its probes take more than {_MOST_LINES} lines of LLVM's code"
            remedy = "unroll less, or match fewer probes with this body"
            raise self.error(message, node, remedy=remedy)
        self.at(node.span)
        self.span = node.span
        self.rules.statements[type(node)](self, node)

    def statements(self, nodes: Iterable[ast.Statement]) -> None:
        """Lower statements up to one that ends the program or jumps: the rest can never run."""
        for node in nodes:
            if self.emit.terminated:
                return
            self.statement(node)

    def statements_before_value(self, nodes: Iterable[ast.Statement]) -> None:
        """As statements(). What uses the value is lowered even where it can never run, in a block of its own."""
        self.statements(nodes)
        if self.emit.terminated:
            self.emit.block(self.emit.label())

    def leave(self, result: str = "0") -> None:
        """End the program here."""
        if self.outer is None:
            self.emit.ret(result)
        else:
            self.link.end(Ending.LEAVE, result)
            self.endings.add(Ending.LEAVE)
            self.emit.ret("1")

    def leave_function(self) -> None:
        """Leave the function that is expanded here, or that contains the loop whose callback this is."""
        if self.returns:
            self.emit.branch(self.returns[-1])
        else:
            self._end_callback(Ending.RETURN)

    def leave_loop(self) -> None:
        """Leave the innermost loop, which may be around the function that this is a part of."""
        if not self.loops:
            self._end_callback(Ending.BREAK)
        elif self.loops[-1][1]:
            self.emit.branch(self.loops[-1][1])
        else:  # the loop's body is a function of its own
            self.emit.ret("1")

    def next_iteration(self) -> None:
        """Go on with the next iteration of the innermost loop, as leave_loop()."""
        if not self.loops:
            self._end_callback(Ending.CONTINUE)
        elif self.loops[-1][0]:
            self.emit.branch(self.loops[-1][0])
        else:
            self.emit.ret("0")

    def _end_callback(self, how: Ending) -> None:
        self.link.end(how)
        self.endings.add(how)
        self.emit.ret("1")


def _same_form(held: Type, target: Type) -> bool:
    """Whether a value's stored form is also that of the other type."""
    if isinstance(held, Tuple) and isinstance(target, Tuple):
        return (
            held.names == target.names
            and len(held.elements) == len(target.elements)
            and all(map(_same_form, held.elements, target.elements))
        )
    return stored_size(held) == stored_size(target)
