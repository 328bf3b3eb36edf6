"""Gives every expression its type, and rejects what has none.

A map may be read above the line that assigns it, so the whole script is walked again and again until no map, key or
variable changes its type; a last, strict walk then complains about what is still unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from insitu.probe import ast
from insitu.probe.builtins.constants import CONSTANTS
from insitu.probe.builtins.registry import FUNCTIONS, VARIABLES, load_builtins
from insitu.probe.layout import MAX_KEY_BYTES
from insitu.probe.options import Options
from insitu.probe.passes import members, operators
from insitu.probe.passes.attach import Clause
from insitu.probe.passes.library import NAMES
from insitu.probe.passes.readable import MapType, holds_element, is_key_of_parts, readable
from insitu.probe.passes.scopes import plain_name
from insitu.probe.passes.statements import STATEMENTS
from insitu.probe.passes.unify import unify
from insitu.probe.providers.base import Argument, Context
from insitu.probe.source import ScriptError, Source, nearest
from insitu.probe.type_resolver import Structures
from insitu.probe.types import (
    BOOL,
    INT64,
    UINT64,
    UNKNOWN,
    VOID,
    Aggregation,
    Array,
    Integer,
    Pointer,
    Record,
    Space,
    String,
    Tuple,
    Type,
    Unknown,
    is_scalar,
)

__all__ = ["Checker", "check"]

_MAX_WALKS = 12


def check(
    clauses: list[Clause], source: Source, structures: Structures, options: Options, context: Context
) -> Checker:
    """Type all clauses: the checker, which knows every map's type.

    :raises ScriptError: at the first thing that is wrong.
    """
    load_builtins()
    checker = Checker(source, structures, options, context)
    for _ in range(_MAX_WALKS):
        before = checker.state()
        for clause in clauses:
            checker.clause_types(clause)
        if checker.state() == before:
            break
    checker.strict = True
    for clause in clauses:
        checker.clause_types(clause)
    for name, entry in checker.maps.items():
        if entry.key is not None and entry.key.size > MAX_KEY_BYTES:
            message = f"the key of {name} takes {entry.key.size} bytes, the kernel allows {MAX_KEY_BYTES}"
            raise ScriptError(message, source, entry.first, remedy="use fewer or smaller parts as the key")
    options.check_named(checker.option_names)
    return checker


class Checker:
    """State of the walk. ``strict`` is set for the last one."""

    def __init__(self, source: Source, structures: Structures, options: Options, context: Context) -> None:
        self.source = source
        self.structures = structures
        self.options = options
        self.context = context
        self.maps: dict[str, MapType] = {}
        self._clause: Clause
        self.strict = False
        self._variables: dict[int, dict[str, Type]] = {}
        self.loop_depth = 0
        self.option_names: set[str] = set()  # what getopt() asks for
        self.unreached = 0  # branches around this place that are never taken

    def error(self, message: str, node: ast.Node, *, remedy: str = "") -> ScriptError:
        """A ScriptError at a node."""
        return ScriptError(message, self.source, node.span, remedy=remedy)

    def state(self) -> list[object]:
        """Everything that a walk may change, to see whether it did."""
        maps = [(name, m.key, m.value) for name, m in sorted(self.maps.items())]
        return [maps, [sorted((n, str(t), t) for n, t in v.items()) for v in self._variables.values()]]

    @property
    def clause(self) -> Clause:
        """The clause at hand."""
        return self._clause

    @clause.setter
    def clause(self, clause: Clause) -> None:
        self._clause = clause
        point = clause.points[0]
        self.structures.look_in(point.target if point.in_binary else "")

    @property
    def variables(self) -> dict[str, Type]:
        """The variables of the clause at hand."""
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

    # Expressions

    def infer(self, node: ast.Expression) -> Type:
        """The type of an expression, also left in ``node.type``."""
        node.type = self._EXPRESSIONS[type(node)](self, node)
        return node.type

    def known(self, node: ast.Expression) -> Type:
        """As infer(); in the strict walk, an error when it is still unknown."""
        found = self.infer(node)
        if self.strict and isinstance(found, Unknown):
            raise self.error("the type of this cannot be told: it is never assigned", node)
        return found

    def scalar(self, node: ast.Expression, what: str) -> Type:
        """The type of an expression that has to fit in a register.

        :raises ScriptError: saying that ``what`` needs a number.
        """
        found = self.known(node)
        if not is_scalar(found):
            raise self.error(f"{what} needs a number, not {found}", node)
        return found

    def condition(self, node: ast.Expression) -> None:
        """An expression used as a truth value: a number, a pointer, or a string (true when not empty)."""
        found = self.known(node)
        if not is_scalar(found) and not isinstance(found, String):
            raise self.error(f"a condition needs a number, not {found}", node)

    def literal(self, node: ast.Expression | ast.TypeName, what: str) -> int:
        """The value of a constant number, positional parameters and enumerators included."""
        if isinstance(node, ast.Expression):
            self.infer(node)
            value = self.constant(node)
            if value is not None:
                return value
        raise self.error(f"{what} has to be a constant number", node)

    def written(self, name: ast.TypeName, space: Space = Space.ANY) -> Type:
        """The type that a script names, also left in ``name.type``; pointers in it lead into ``space``."""
        if name.of is None:
            name.type = self.structures.resolve(name, space)
        else:
            name.type = self.structures.around(self.known(name.of), name, space)
        return name.type

    def constant(self, node: ast.Expression) -> int | None:
        """The value of an expression that is one number at compile time, else None."""
        if isinstance(node, ast.Integer):
            return node.value
        if isinstance(node, ast.Positional):
            text = self.positional_text(node)
            return operators.number(text) if isinstance(text, str) else text
        if isinstance(node, ast.Identifier) and node.name not in VARIABLES:
            found = self._constant_identifier(node.name)
            return found[0] if found else None
        if isinstance(node, ast.Binary):
            left, right = self.constant(node.left), self.constant(node.right)
            if left is not None and right is not None:
                return operators.fold(node.operator, left, right)
        if isinstance(node, ast.Unary) and node.operator == "!":
            value = self.constant(node.operand)
            return None if value is None else int(not value)
        if isinstance(node, ast.Call) and node.name in FUNCTIONS:
            decide = FUNCTIONS[node.name].constant
            return decide(self, node) if decide is not None else None
        return None

    def text(self, node: ast.Expression | ast.TypeName, what: str) -> str:
        """The text of a string literal (or a positional parameter).

        :raises ScriptError: for anything else.
        """
        if isinstance(node, ast.StringLiteral):
            node.type = String(len(node.value) + 1)
            return node.value.decode("utf-8", "surrogateescape")
        if isinstance(node, ast.Positional):
            return str(self.positional_text(node))
        raise self.error(f"{what} has to be a string literal", node)

    def positional_text(self, node: ast.Positional) -> str | int:
        """The text of a positional parameter ("" when it is not given); for $#, their number."""
        if node.index == 0:
            return len(self.options.parameters)
        given = self.options.parameters
        return given[node.index - 1] if node.index <= len(given) else ""

    def _integer(self, node: ast.Integer) -> Type:
        return UINT64 if node.unsigned else INT64

    def _string(self, node: ast.StringLiteral) -> Type:
        if len(node.value) + 1 > self.options.max_literal:
            raise self.error(f"string literals hold at most {self.options.max_literal - 1} bytes", node)
        return String(len(node.value) + 1)

    def _positional(self, node: ast.Positional) -> Type:
        text = self.positional_text(node)
        if isinstance(text, str) and text and operators.number(text) is None:
            raise self.error(
                f"parameter ${node.index} is {text!r}, not a number",
                node,
                remedy=f"use str(${node.index}) for its text",
            )
        return INT64

    def _identifier(self, node: ast.Identifier) -> Type:
        if node.name in VARIABLES:
            return VARIABLES[node.name].check(self, node)
        if node.name in FUNCTIONS and FUNCTIONS[node.name].minimum == 0:
            raise self.error(f"{node.name} is a function: write {node.name}()", node)
        found = self._constant_identifier(node.name)
        if found is None:
            known = [*VARIABLES, *CONSTANTS, *NAMES]
            raise self.error(f"unknown name {node.name!r}{nearest(node.name, known)}", node)
        return found[1]

    def _constant_identifier(self, name: str) -> tuple[int, Type] | None:
        own = self.structures.enumerator(name)
        if own is not None:
            return own
        if name in ("true", "false"):
            return CONSTANTS[name], BOOL
        if name in CONSTANTS:
            return CONSTANTS[name], INT64
        if not name.isupper() and not any(c.isupper() or c == "_" for c in name):
            return None
        return self.structures.described_enumerator(name)

    def _variable(self, node: ast.Variable) -> Type:
        return self.variables.get(node.name, UNKNOWN)

    def _map(self, node: ast.MapAccess) -> Type:
        found = self.map_entry(node)
        if self.strict and isinstance(found.value, Unknown):
            raise self.error(f"undefined map: {node.name}{nearest(node.name, self._assigned())}", node)
        return readable(found.value)

    def whole_map(self, node: ast.MapAccess) -> Type:
        """What a map holds that is named without a key, but meant with all of its keys.

        :raises ScriptError: in the strict walk, when nothing assigns it.
        """
        entry = self.maps.get(node.name)
        found = entry.value if entry is not None else UNKNOWN
        if self.strict and isinstance(found, Unknown):
            raise self.error(f"undefined map: {node.name}{nearest(node.name, self._assigned())}", node)
        return found

    def _assigned(self) -> list[str]:
        return [name for name, m in self.maps.items() if not isinstance(m.value, Unknown)]

    def map_entry(self, node: ast.MapAccess) -> MapType:
        """A map's entry; the node's key is typed and taken into account."""
        entry = self.maps.setdefault(node.name, MapType(first=node.span))
        keys = node.key or []
        if len(keys) == 1 and isinstance(keys[0], ast.TupleLiteral) and not keys[0].names:
            # bpftrace treats @x[(a, b)] as @x[a, b].
            keys = node.key = keys[0].elements
        elements = tuple(self.key_part(k) for k in keys)
        only = elements[0] if len(elements) == 1 else VOID
        if is_key_of_parts(only):
            elements, keys = only.elements, keys * len(only.elements)
        if entry.key is None:
            entry.key = Tuple(elements)
        else:
            if len(entry.key.elements) != len(elements):
                had, got = len(entry.key.elements), len(elements)
                raise self.error(
                    f"{node.name} is used with {got or 'no'} key{'s' * (got > 1)} here, "
                    f"and with {had or 'none'} at {self.source.where(entry.first)}",
                    node,
                )
            entry.key = Tuple(
                tuple(
                    self.unified(old, new, part, f"key of {node.name}")
                    for old, new, part in zip(entry.key.elements, elements, keys, strict=True)
                )
            )
        return entry

    def key_part(self, node: ast.Expression) -> Type:
        """The type of a key's element."""
        found = self.infer(node)
        if isinstance(found, Aggregation) or holds_element(found):
            raise self.error(f"a {found} cannot be a key", node)
        if found == VOID:
            raise self.error("this has no value", node)
        self.copied(found, node)
        if isinstance(found, Integer):
            # Keys of different widths must meet: 64 bits, and C's sign.
            return Integer(8, found.signed, found.enum, found.enumerators)
        return found

    def unified(self, old: Type, new: Type, node: ast.Node, what: str) -> Type:
        """The type that holds both.

        :raises ScriptError: when there is none.
        """
        result = unify(old, new)
        if result is None:
            raise self.error(f"type mismatch: {what} is {old}, this is {new}", node)
        return result

    def _call(self, node: ast.Call) -> Type:
        builtin = FUNCTIONS.get(node.name)
        if builtin is None:
            hint = nearest(node.name, [*FUNCTIONS, *NAMES])
            raise self.error(f"unknown function {node.name}(){hint}", node)
        given = len(node.arguments)
        if not builtin.minimum <= given <= builtin.maximum:
            wanted = str(builtin.minimum)
            if builtin.maximum != builtin.minimum:
                wanted = f"{builtin.minimum} to {builtin.maximum}" if builtin.maximum < 99 else f"at least {wanted}"
            raise self.error(f"{node.name}() takes {wanted} argument{'s' * (wanted != '1')}, not {given}", node)
        if builtin.unsafe and not self.options.unsafe:
            raise self.error(f"{node.name}() changes the system", node, remedy="allow it with --unsafe")
        return builtin.check(self, node)

    def argument(self, node: ast.Call, index: int) -> ast.Expression:
        """An argument that is an expression.

        :raises ScriptError: when a type was written there.
        """
        found = node.arguments[index]
        if isinstance(found, ast.TypeName):
            raise self.error("expected a value, not a type", found)
        return found

    def _step(self, node: ast.Step) -> Type:
        target = node.target
        if isinstance(target, ast.MapAccess):
            entry = self.map_entry(target)
            if isinstance(entry.value, Unknown):
                entry.value = INT64
            target.type = found = entry.value
        else:
            found = self.infer(target)
            if isinstance(found, Unknown) and isinstance(target, ast.Variable):
                self.bind(target, INT64, target)  # let $x; $x++
        if not isinstance(found, Integer | Pointer | Unknown):
            raise self.error(f"{'++' if node.delta > 0 else '--'} needs a number, not {found}", target)
        return found

    def _ternary(self, node: ast.Ternary) -> Type:
        self.condition(node.condition)
        true, false = self.infer(node.true), self.infer(node.false)
        if true == VOID and false == VOID:
            return VOID
        return self.unified(true, false, node.false, "the other branch")

    def _tuple(self, node: ast.TupleLiteral) -> Type:
        elements = []
        for element in node.elements:
            found = self.known(element)
            if found == VOID or isinstance(found, Aggregation) or holds_element(found):
                raise self.error(f"a tuple cannot hold {'nothing' if found == VOID else found}", element)
            elements.append(found)
        return Tuple(tuple(elements), tuple(node.names) if node.names else None)

    def _block_expression(self, node: ast.BlockExpression) -> Type:
        for statement in node.statements:
            self.statement(statement)
        return self.infer(node.value) if node.value is not None else VOID

    def _function_call(self, node: ast.FunctionCall) -> Type:
        for index, parameter in enumerate(node.parameters):
            argument = node.arguments[index]
            declared = self.structures.resolve(parameter.declared, Space.ANY)
            given = self.known(argument)
            if isinstance(declared, Pointer) and isinstance(given, Pointer):
                declared = Pointer(declared.target, given.space)
            if unify(declared, given) is None:
                name = plain_name(parameter.variable.name)
                raise self.error(f"{node.name}() takes {declared} for {name}, not {given}", argument)
            if isinstance(declared, Integer) and not isinstance(argument, ast.Cast):
                node.arguments[index] = ast.Cast(argument.span, parameter.declared, argument)
                self.infer(node.arguments[index])
            self.bind(parameter.variable, declared, argument)
            if isinstance(declared, String):
                self.bind(parameter.variable, given, argument)
        declared = self.structures.resolve(node.declared, Space.ANY)
        if declared != VOID:
            self.bind(node.result, declared, node)
        outer_depth, self.loop_depth = self.loop_depth, 0
        self.statement(node.body)
        self.loop_depth = outer_depth
        return self.variables[node.result.name] if declared != VOID else VOID

    def _range(self, node: ast.Range) -> Type:
        raise self.error("a range belongs in a for loop", node)

    _EXPRESSIONS: ClassVar[dict[type[ast.Expression], Callable[[Checker, Any], Type]]] = {
        ast.Integer: _integer,
        ast.StringLiteral: _string,
        ast.Positional: _positional,
        ast.Identifier: _identifier,
        ast.Variable: _variable,
        ast.MapAccess: _map,
        ast.Call: _call,
        ast.Step: _step,
        ast.Ternary: _ternary,
        ast.TupleLiteral: _tuple,
        ast.BlockExpression: _block_expression,
        ast.FunctionCall: _function_call,
        ast.Range: _range,
        ast.Unary: operators.unary,
        ast.Binary: operators.binary,
        ast.Cast: operators.cast,
        ast.TypeOf: operators.type_of,
        ast.Member: members.member,
        ast.Index: members.index,
    }

    # Statements

    def statement(self, node: ast.Statement) -> None:
        """Type everything in a statement."""
        STATEMENTS[type(node)](self, node)

    def bind(self, variable: ast.Variable, value: Type, node: ast.Node) -> None:
        """A variable gets a value of this type. It is as wide as the widest: bswap() of a port is a port."""
        self.copied(value, node)
        old = self.variables.get(variable.name, UNKNOWN)
        variable.type = self.variables[variable.name] = self.unified(old, value, node, plain_name(variable.name))

    def copied(self, value: Type, node: ast.Node) -> None:
        """Refuse a copy of a record or array whose size is not known."""
        if isinstance(value, Record | Array) and not value.size:
            remedy = "use a pointer to it" if isinstance(value, Record) else "use & of its first element"
            raise self.error(f"the size of {value} is not known: it cannot be copied", node, remedy=remedy)

    # What builtins ask

    def usdt_arguments(self) -> list[Argument]:
        """The operands of the static probe at hand."""
        return self.clause.provider.arguments(self.clause.points[0], self.context) or []

    def kernel_address(self, name: str) -> int | None:
        """The address of a kernel symbol, or None."""
        from insitu.symbols.kallsyms import symbol_address

        return symbol_address(name)

    def record_of(self, found: Type) -> Record | None:
        """The record that a value is, or points to."""
        if isinstance(found, Pointer):
            found = self.structures.target(found)
        return found if isinstance(found, Record) else None
