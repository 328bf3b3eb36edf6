"""The checker's state, and what its rules have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from msgspec import Struct

from insitu.errors import nearest
from insitu.plurals import plural
from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.options import Options
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.check import folding
from insitu.probe.passes.check.dialect import (
    MapType,
    holds_element,
    is_key_of_parts,
    key_parts,
    named_constant,
    widened,
)
from insitu.probe.passes.check.folding import Constant
from insitu.probe.passes.check.unify import unify
from insitu.probe.passes.scopes import plain_name
from insitu.probe.providers.base import Context
from insitu.probe.source import ScriptError, Source
from insitu.probe.type_resolver import Structures
from insitu.probe.types import (
    UNKNOWN,
    VOID,
    Array,
    Integer,
    NamedNumber,
    Pointer,
    Record,
    Space,
    String,
    Tuple,
    Type,
    Unknown,
    is_scalar,
)

__all__ = ["Checker", "Rules", "TypedFunction", "TypedVariable"]


_MAX_PARTS = 1024


def _parts(kind: Type) -> int:
    return 1 + sum(map(_parts, kind.elements)) if isinstance(kind, Tuple) else 1


class TypedVariable(Protocol):
    """What the checker needs of a builtin variable (builtins/registry.py)."""

    @property
    def check(self) -> Callable[[Checker, Any], Type]:
        """The type of a mention."""

    @property
    def constant(self) -> Callable[[Checker], Constant | None] | None:
        """The value, where it is known at compile time."""


class TypedFunction(Protocol):
    """What the checker needs of a builtin function."""

    @property
    def check(self) -> Callable[[Checker, Any], Type]:
        """The type of a call."""

    @property
    def minimum(self) -> int:
        """The least number of arguments."""

    @property
    def maximum(self) -> int:
        """The greatest number of arguments."""

    @property
    def unsafe(self) -> bool:
        """Whether it changes the system."""

    @property
    def constant(self) -> Callable[[Checker, ast.Call], Constant | None] | None:
        """The value of a typed call that is known at compile time."""


class Rules(Struct, frozen=True):
    """How each class of expression and statement is typed, and the builtins by name (walk.py)."""

    expressions: Mapping[type[ast.Expression], Callable[[Checker, Any], Type]]
    statements: Mapping[type[ast.Statement], Callable[[Checker, Any], None]]
    functions: Mapping[str, TypedFunction]
    variables: Mapping[str, TypedVariable]


class Checker:
    """State of the walk. ``strict`` is set for the last one."""

    def __init__(
        self,
        clauses: list[Clause],
        source: Source,
        structures: Structures,
        options: Options,
        context: Context,
        rules: Rules,
    ) -> None:
        self.source = source
        self.structures = structures
        self.options = options
        self.context = context
        self.rules = rules
        self.maps: dict[str, MapType] = {}
        self.events: dict[str, tuple[ast.Call, Tuple]] = {}  # by label: where emit() first has it, and its fields
        self._clause: Clause
        self.strict = False
        self._variables: dict[int, dict[str, Type]] = {}
        self._declared: dict[tuple[int, str], Integer] = {}  # by clause and variable
        self.changes = 0  # of the types of maps, keys and variables, to see whether a walk made any
        self.loop_depth = 0
        self.elements: list[str] = []  # variables that are elements of maps, of the blocks around the current node
        self.option_names: set[str] = set()  # those that getopt() looks up
        names = [(point.name, point.function) for clause in clauses for point in clause.points]
        lengths = [[len(text.encode("utf-8", "surrogateescape")) for text in name] for name in names] or [[0, 0]]
        self._name_capacities = {
            kind: max((length[part] // 8 + 1) * 8 for length in lengths)
            for part, kind in enumerate(("probe", "func"))
        }
        self.unreached = 0  # how many branches around the current node are never taken

    def error(self, message: str, node: ast.Node, *, remedy: str = "") -> ScriptError:
        """A ScriptError at a node."""
        return ScriptError(message, self.source, node.span, remedy=remedy)

    @property
    def clause(self) -> Clause:
        """The clause that is being checked."""
        return self._clause

    @clause.setter
    def clause(self, clause: Clause) -> None:
        self._clause = clause
        point = clause.points[0]
        self.structures.look_in(point.target if point.in_binary else "")

    @property
    def variables(self) -> dict[str, Type]:
        """The variables of the current clause."""
        return self.variables_of(self.clause)

    def variables_of(self, clause: Clause) -> dict[str, Type]:
        """The variables of a clause."""
        return self._variables.setdefault(id(clause), {})

    def clause_types(self, clause: Clause) -> None:
        """Walk one clause."""
        self.clause = clause
        if clause.probe.predicate is not None:
            self.condition(clause.probe.predicate)
        self.statement(clause.probe.body)

    def statement(self, node: ast.Statement) -> None:
        """Type everything in a statement."""
        self.rules.statements[type(node)](self, node)

    # Expressions

    def infer(self, node: ast.Expression) -> Type:
        """The type of an expression, also left in ``node.type``."""
        rule = self.rules.expressions.get(type(node))
        if rule is None:  # an argument of a macro, where that has an expression
            raise self.error("expected a value, not a type", node)
        node.type = rule(self, node)
        return node.type

    def known(self, node: ast.Expression) -> Type:
        """As infer(); in the strict walk, an error when it is still unknown."""
        found = self.infer(node)
        if self.strict and isinstance(found, Unknown):
            raise self.error("the type of this is unknown: it is never assigned", node)
        return found

    def scalar(self, node: ast.Expression, what: str) -> Type:
        """The type of an expression that has to fit in a register.

        :raises ScriptError: saying that ``what`` needs a number.
        """
        found = self.known(node)
        if not is_scalar(found):
            raise self.error(f"{what} needs a number, not {found}", node)
        return found

    def ways(self, condition: ast.Expression) -> Iterator[bool]:
        """The branches of a typed condition, which are typed one after the other: True, then False.

        Only the one that is taken, if the condition is ``comptime``; of other constants the other is unreached.
        """
        value = self.known_value(condition)
        if isinstance(value, dict):
            value = None
        for way in (True, False):
            never = value is not None and bool(value) is not way
            if not folding.is_comptime(condition) or (value is not None and not never):
                self.unreached += never
                yield way
                self.unreached -= never

    def condition(self, node: ast.Expression) -> None:
        """An expression used as a truth value: a number, a pointer, or a string (true when not empty)."""
        found = self.known(node)
        if not is_scalar(found) and not isinstance(found, String):
            raise self.error(f"a condition needs a number, not {found}", node)

    def written(self, name: ast.TypeName, space: Space = Space.ANY) -> Type:
        """The type that a script names, also left in ``name.type``; pointers in it lead into ``space``."""
        if name.of is None:
            name.type = self.structures.resolve(name, space)
        else:
            name.type = self.structures.around(self._type_of(name.of), name, space)
        return name.type

    def _type_of(self, node: ast.Expression) -> Type:
        """What typeof() means: of a map that has keys, the type of a key."""
        if not isinstance(node, ast.MapAccess) or node.key is not None:
            return self.known(node)
        entry = self.maps.get(node.name)
        if entry is None or entry.key is None:
            return self.assigned(node, UNKNOWN)
        keys = entry.key.elements
        if not keys:
            return self.known(node)
        return keys[0] if len(keys) == 1 else entry.key

    def argument(self, node: ast.Call, index: int) -> ast.Expression:
        """An argument that is an expression.

        :raises ScriptError: for a type.
        """
        found = node.arguments[index]
        if isinstance(found, ast.TypeName):
            raise self.error("expected a value, not a type", found)
        return found

    def as_text(self, node: ast.Expression) -> ast.Expression:
        """A typed expression where text is wanted, as text if it can be: a positional parameter is what was given,
        the name of an attach point is read by str()."""
        text: ast.Expression
        if isinstance(node, ast.Positional) and node.index:
            text = self.parameter_literal(node)
        elif isinstance(node.type, NamedNumber) and node.type.is_text:
            text = ast.Call(node.span, "str", [node])
        else:
            return node
        self.infer(text)
        return text

    def name_capacity(self, kind: str) -> int:
        """How many bytes the longest name of an attach point ("probe"), or of its function ("func"), takes.

        A multiple of 8.
        """
        return self._name_capacities[kind]

    # Constants

    def literal(self, node: ast.Expression | ast.TypeName, what: str) -> int:
        """The value of a constant number, positional parameters and enumerators included."""
        if isinstance(node, ast.Expression):
            self.infer(node)
            value = self.constant(node)
            if value is not None:
                return value
        raise self.error(f"{what} has to be a constant number", node)

    def constant(self, node: ast.Expression) -> int | None:
        """The value of an expression that is one number at compile time, else None."""
        return folding.constant(node, self)

    def known_value(self, node: ast.Expression) -> Constant | None:
        """The value of an expression that is known at compile time: a number, text or tuple; else None."""
        return folding.known_value(node, self)

    def constant_name(self, name: str) -> Constant | None:
        """The value of an enumerator, another named constant or a constant variable, else None."""
        builtin = self.rules.variables.get(name)
        if builtin is not None:
            return builtin.constant(self) if builtin.constant is not None else None
        found = named_constant(self.structures, name)
        return found[0] if found else None

    def constant_size(self, node: ast.TypeOf) -> int | None:
        """The value of a typed sizeof() or offsetof()."""
        found = node.subject.type
        return (
            None if found is None or isinstance(found, Unknown) else self.structures.size_or_offset(found, node.path)
        )

    def constant_call(self, call: ast.Call) -> Constant | None:
        """The value of a call that the compiler itself evaluates, else None."""
        builtin = self.rules.functions.get(call.name)
        return builtin.constant(self, call) if builtin is not None and builtin.constant is not None else None

    def text(self, node: ast.Expression | ast.TypeName, what: str) -> str:
        """The text of a string literal (or a positional parameter).

        :raises ScriptError: for anything else.
        """
        if isinstance(node, ast.StringLiteral):
            node.type = String(len(node.value) + 1)
            return node.value.decode("utf-8", "surrogateescape")
        if isinstance(node, ast.Positional):
            return str(self.positional_text(node))
        if isinstance(node, ast.Call) and node.name == "str":
            self.infer(node)
            given = node.arguments[0]
            if isinstance(given, ast.StringLiteral) and isinstance(node.type, String):
                return given.value[: node.type.capacity - 1].decode("utf-8", "surrogateescape")
        raise self.error(f"{what} has to be a string literal", node)

    def positional_text(self, node: ast.Positional) -> str | int:
        """The text of a positional parameter ("" when it is not given); for $#, their number."""
        given = self.options.parameters
        if node.index == 0:
            return len(given)
        return given[node.index - 1] if node.index <= len(given) else ""

    def parameter_literal(self, node: ast.Positional) -> ast.StringLiteral:
        """A positional parameter as the text that was given."""
        return ast.StringLiteral(node.span, str(self.positional_text(node)).encode("utf-8", "surrogateescape"))

    # Variables and maps

    def unified(self, old: Type, new: Type, node: ast.Node, what: str) -> Type:
        """The type that holds both.

        :raises ScriptError: when they do not fit.
        """
        result = unify(old, new)
        if result is None:
            raise self.error(f"type mismatch: {what} is {old}, this is {new}", node)
        return result

    def bind(self, variable: ast.Variable, value: Type, node: ast.Node) -> None:
        """A variable gets a value of this type. It is as wide as the widest: bswap() of a port is a port.

        One that is declared an integer stays that, and holds what of a value fits, as in C.
        """
        self.copied(value, node)
        if isinstance(value, Integer):
            value = self._declared.get((id(self.clause), variable.name), value)
        old = self.variables.get(variable.name, UNKNOWN)
        variable.type = self.variables[variable.name] = self.unified(old, value, node, plain_name(variable.name))
        self.changes += variable.type != old

    def declare(self, variable: ast.Variable, kind: Type, node: ast.Node) -> None:
        """A variable is declared to be of a type."""
        if isinstance(kind, Integer):
            self._declared[id(self.clause), variable.name] = kind
        self.bind(variable, kind, node)

    def set_value(self, entry: MapType, value: Type) -> None:
        """A map holds values of this type."""
        self.changes += entry.value != value
        entry.value = value

    def copied(self, value: Type, node: ast.Node) -> None:
        """Refuse a copy of a record or array whose size is not known."""
        if isinstance(value, Record | Array) and not value.size:
            remedy = "use a pointer to it" if isinstance(value, Record) else "use & of its first element"
            raise self.error(f"the size of {value} is unknown: it cannot be copied", node, remedy=remedy)

    def whole_map(self, node: ast.MapAccess) -> Type:
        """The value type of a map that is used as a whole, without a key.

        :raises ScriptError: in the strict walk, when nothing assigns it.
        """
        entry = self.maps.get(node.name)
        return self.assigned(node, entry.value if entry is not None else UNKNOWN)

    def assigned(self, node: ast.MapAccess, value: Type) -> Type:
        """``value``, what the map holds. :raises ScriptError: in the strict walk, when nothing assigns it."""
        if self.strict and isinstance(value, Unknown):
            known = [name for name, m in self.maps.items() if not isinstance(m.value, Unknown)]
            raise self.error(f"undefined map: {node.name}{nearest(node.name, known)}", node)
        return value

    def map_entry(self, node: ast.MapAccess) -> MapType:
        """A map's entry; the node's key is typed and taken into account."""
        entry = self.maps.setdefault(node.name, MapType(first=node.span))
        keys = key_parts(node)
        elements = tuple(self.key_part(k) for k in keys)
        only = elements[0] if len(elements) == 1 else VOID
        if is_key_of_parts(only):
            elements, keys = only.elements, keys * len(only.elements)
        if node.key is not None and not elements:
            raise self.error("an empty tuple cannot be a key", node)
        old_key = entry.key
        if entry.key is None:
            entry.key = self.tuple(elements, None, node)
        else:
            if len(entry.key.elements) != len(elements):
                had, got = len(entry.key.elements), len(elements)
                raise self.error(
                    f"{node.name} is used with {got or 'no'} {plural(max(got, 1), 'key')} here, "
                    f"and with {had or 'none'} at {self.source.where(entry.first)}",
                    node,
                )
            entry.key = Tuple(
                tuple(
                    self.unified(old, new, part, f"key of {node.name}")
                    for old, new, part in zip(entry.key.elements, elements, keys, strict=True)
                )
            )
        self.changes += entry.key != old_key
        return entry

    def tuple(self, elements: Iterable[Type], names: Iterable[str] | None, node: ast.Node) -> Tuple:
        """The type of a tuple.

        :raises ScriptError: when it has too many elements, which tuples of tuples multiply.
        """
        found = Tuple(tuple(elements), tuple(names) if names else None)
        if _parts(found) > _MAX_PARTS:
            raise self.error(f"a tuple may have {_MAX_PARTS} elements, those of tuples in it counted", node)
        return found

    def key_part(self, node: ast.Expression) -> Type:
        """The type of a key's element."""
        found = self.infer(node)
        if isinstance(found, Aggregation) or holds_element(found):
            raise self.error(f"a {found} cannot be a key", node)
        if found == VOID:
            raise self.error("this has no value", node)
        self.copied(found, node)
        return widened(found)

    # What builtins ask

    def kernel_address(self, name: str) -> int | None:
        """The address of a kernel symbol, or None."""
        from insitu.symbols.kallsyms import symbol_address

        return symbol_address(name)

    def record_of(self, found: Type) -> Record | None:
        """The record that a value is, or points to."""
        if isinstance(found, Pointer):
            found = self.structures.target(found)
        return found if isinstance(found, Record) else None
