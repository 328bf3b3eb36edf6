"""Lowers one program: holds its state, and finds for each construct the function that lowers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from insitu.kernel.calling_convention import MACHINE
from insitu.probe import ast
from insitu.probe.codegen.callback_frame import Ending, Link
from insitu.probe.codegen.emitter import Function
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.places import Local, Place, Remote
from insitu.probe.codegen.stack_slots import StackSlots
from insitu.probe.layout import Layout
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check.checker import Checker
from insitu.probe.passes.check.folding import Constant
from insitu.probe.passes.check.members import member_field
from insitu.probe.source import ScriptError, Span
from insitu.probe.types import (
    INT64,
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

# Larger values are copied and cleared by the kernel's helper rather than word by word.
_UNROLLED = 512


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


class Rules(Struct, frozen=True):
    """How each class of expression and statement is lowered, and the builtins by name (tables.py).

    ``store_name`` and ``write_name`` make text of the names of attach points (point_names.py).
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


class Lowering:
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
        self.rules = rules
        self.source = checker.source
        self.structures = checker.structures
        self.options = checker.options
        self.probe_context = checker.context
        self.parameters = checker.options.parameters
        self.emit = emitter
        self.layout = layout
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
        self.outer = outer
        self.from_outside = from_outside
        self.part = 0  # of a body that is too long for one program (program.py)
        self.adopted: dict[str, int] = {}  # variables of earlier parts: their offsets in scratch memory
        self.in_scratch: dict[str, int] = {}  # the same of own variables
        self.off_stack = False  # whether all variables are kept there, except these
        self.kept_on_stack: frozenset[str] = frozenset()
        self.link: Link = Link(self, outer.link if outer is not None else None)
        self.endings: set[Ending] = set()  # how this callback may end, besides by itself
        self.scratch_base = ""
        self._shared: frozenset[str] = frozenset()
        self._slots = StackSlots(emitter.allocate, self.scratch)
        self._scratch_bytes = 0

    @property
    def scratch_bytes(self) -> int:
        """How much scratch memory this program uses."""
        return self._scratch_bytes if self.outer is None else self.outer.scratch_bytes

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
            if size <= _UNROLLED:
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
        roles = {"sp": MACHINE.stack, "ip": MACHINE.instruction, "result": MACHINE.result}
        part = MACHINE.registers[roles.get(name, name)]
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

    # Memory for intermediate values

    def temporary(self, size: int) -> str:
        """``size`` bytes, undefined, until the enclosing ``temporaries()`` block ends: a pointer."""
        return self._slots.temporary(size)

    def temporaries(self) -> AbstractContextManager[None]:
        """Free at the end what temporary() allocated inside."""
        return self._slots.temporaries()

    def permanent(self, size: int) -> str:
        """``size`` bytes for the whole program (a variable): a pointer."""
        return self._slots.permanent(size)

    def scratch(self, size: int) -> str:
        """As permanent(), off the stack: a pointer."""
        return self.scratch_at(size)[1]

    def scratch_at(self, size: int) -> tuple[int, str]:
        """``size`` bytes of this program's scratch memory: where they begin in it, and a pointer."""
        root = self
        while root.outer is not None:
            root = root.outer
        at = root._scratch_bytes
        root._scratch_bytes += size
        return at, self.scratch_pointer(at)

    def scratch_pointer(self, at: int) -> str:
        """A pointer into this program's scratch memory."""
        return self.emit.setup_value(f"getelementptr i8, ptr {self.use_scratch()}, i64 {at}")

    def adopt(self, name: str, at: int) -> None:
        """Take over a variable of an earlier part; this part's own scratch memory follows it."""
        self.adopted[name] = at
        self.link.adopt(name, at)
        self._scratch_bytes = max(self._scratch_bytes, at + stored_size(self.variable_types[name]))

    def use_scratch(self) -> str:
        """This program's scratch memory on this CPU, looked up once before the body: a pointer."""
        if self.scratch_base:
            return self.scratch_base
        if self.outer is not None:
            self.scratch_base = self.link.scratch()
            return self.scratch_base
        number = self.layout.scratch_map()
        emit = self.emit
        emit.setup("  %scratch_key = alloca i64, align 8\n")
        emit.setup(f"  %scratch_cpu = call i64 inttoptr (i64 {int(Helper.GET_SMP_PROCESSOR_ID)} to ptr)()\n")
        emit.setup("  store i64 %scratch_cpu, ptr %scratch_key, align 8\n")
        emit.setup(f"  %scratch_map = call i64 @llvm.bpf.pseudo(i64 1, i64 {number})\n")
        emit.setup("  %scratch_all = call ptr inttoptr (i64 1 to ptr)(i64 %scratch_map, ptr %scratch_key)\n")
        emit.setup("  %scratch_null = icmp eq ptr %scratch_all, null\n")
        emit.setup("  br i1 %scratch_null, label %scratch_missing, label %scratch_found\n")
        emit.setup("scratch_missing:\n  ret i64 0\nscratch_found:\n")
        emit.setup(f"  %scratch = getelementptr i8, ptr %scratch_all, i64 {self.layout.scratch_bytes()}\n")
        self.scratch_base = "%scratch"
        self.link.scratch_found(self.scratch_base)
        return self.scratch_base

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

    def copy(self, destination: str, source: str, size: int) -> None:
        """Copy ``size`` bytes (a multiple of 8) between pointers that the program may dereference."""
        if size <= _UNROLLED:
            self.emit.copy(destination, source, size)
        else:
            self.read(destination, size, Remote(self.emit.address(source), Space.KERNEL))

    def zero(self, pointer: str, size: int) -> None:
        """Clear ``size`` bytes (a multiple of 8)."""
        if size <= _UNROLLED:
            self.emit.zero(pointer, size)
        else:
            # A read that fails clears what it was to fill.
            self.read(pointer, size, Remote("0", Space.KERNEL), may_fail=True)

    # The probe_read helpers

    def read(self, pointer: str, size: int | str, place: Remote, *, may_fail: bool = False) -> str:
        """Copy ``size`` bytes from elsewhere; zeros when that fails: the helper's result.

        ``may_fail``: errors are not warned of.
        """
        helper = {
            Space.KERNEL: Helper.PROBE_READ_KERNEL,
            Space.USER: Helper.PROBE_READ_USER,
            Space.ANY: Helper.PROBE_READ,
        }[place.space]
        result = self.emit.call(helper, f"ptr {pointer}", f"i64 {size}", f"i64 {place.address}")
        return result if may_fail else self.checked(helper, result)

    def read_string(self, pointer: str, capacity: int, place: Remote, limit: int | str) -> None:
        """Copy a string from elsewhere, at most ``limit`` bytes with its zero; the rest of ``capacity`` is zeroed."""
        self.zero(pointer, -(-capacity // 8) * 8)
        self.read_text(pointer, limit, place)

    def read_text(self, pointer: str, limit: int | str, place: Remote) -> str:
        """Copy a string from elsewhere, at most ``limit`` bytes with its zero: how many, or a negative error."""
        helper = {
            Space.KERNEL: Helper.PROBE_READ_KERNEL_STR,
            Space.USER: Helper.PROBE_READ_USER_STR,
            Space.ANY: Helper.PROBE_READ_STR,
        }[place.space]
        return self.checked(helper, self.emit.call(helper, f"ptr {pointer}", f"i64 {limit}", f"i64 {place.address}"))

    def read_characters(self, pointer: str, place: Remote, count: int) -> str:
        """Copy a char array, at most up to its zero: how many characters, or a negative error.

        The helper ends what it copies with a zero. A text as long as the array may lack its last byte then.
        """
        emit = self.emit
        length = self.read_text(pointer, count, place)
        begun, full, end = emit.block_name, emit.label(), emit.label()
        before = emit.op("sub", length, "1")
        emit.branch_if(emit.value(f"icmp eq i64 {length}, {count}"), full, end)
        emit.block(full)
        last = emit.offset(pointer, count - 1)
        self.read(last, 1, Remote(emit.op("add", place.address, str(count - 1)), place.space))
        whole = emit.op("sub", str(count), emit.value(f"select i1 {self._is_zero(last)}, i64 1, i64 0"))
        came_from = emit.block_name
        emit.block(end)
        return emit.phi("i64", (before, begun), (whole, came_from))

    def _is_zero(self, pointer: str) -> str:
        """i1: whether a byte is zero."""
        return self.emit.value(f"icmp eq i64 {self.emit.load(pointer, 1)}, 0")

    def read_scalar(self, place: Place, offset: int, size: int, signed: bool) -> str:
        """``size`` bytes (1, 2, 4 or 8) at a location, as an i64."""
        emit = self.emit
        if isinstance(place, Local):
            # The stack is read at aligned addresses only: packed records need single bytes.
            align = size if offset % size == 0 else 1
            return emit.load(emit.offset(place.pointer, offset), size, signed=signed, align=align)
        address = emit.op("add", place.address, str(offset)) if offset else place.address
        with self.temporaries():
            slot = self.temporary(8)
            self.read(slot, size, Remote(address, place.space))
            return emit.load(slot, size, signed=signed)

    # Warnings at run time

    def checked(self, helper: Helper, result: str) -> str:
        """A helper's result, of which an error is warned of if the options say so."""
        if self.options.warns and not self.options.hides_warnings:
            emit = self.emit
            code = emit.value(f"sext i32 {emit.value(f'trunc i64 {result} to i32')} to i64")
            error = (NamedNumber("errno"), emit.op("sub", "0", code))
            text = f"bpf_{helper.name.lower()}() failed: %s (%d)"
            self.warn_if(emit.value(f"icmp slt i64 {code}, 0"), text, error, (INT64, code))
        return result

    def warn_if(self, truth: str, text: str, *values: tuple[Type, str], always: bool = False) -> None:
        """Where an i1 is true, warn of it if the options say so: a format and its values.

        ``always``: also without -k.
        """
        if self.options.hides_warnings or not (self.options.warns or always):
            return
        yes, end = self.emit.label(), self.emit.label()
        self.emit.branch_if(truth, yes, end)
        self.emit.block(yes)
        self.rules.warn(self, text, values)
        self.emit.block(end)

    # Statements

    def statement(self, node: ast.Statement) -> None:
        """Lower a statement."""
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
