"""The syntax tree: one small class per construct.

Passes replace calls of macros and functions by copies, and give each variable a unique name; the checker fills
``type``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from insitu.probe.source import Span

if TYPE_CHECKING:
    from insitu.probe.types import Type

__all__ = [
    "Assign",
    "AttachText",
    "Binary",
    "Block",
    "BlockExpression",
    "Call",
    "Cast",
    "Expression",
    "ExpressionStatement",
    "For",
    "Function",
    "FunctionCall",
    "Identifier",
    "If",
    "Index",
    "Integer",
    "JointUpdate",
    "Jump",
    "Let",
    "Macro",
    "MapAccess",
    "MapDeclaration",
    "Member",
    "Node",
    "Parameter",
    "Positional",
    "Probe",
    "Program",
    "Range",
    "Statement",
    "Step",
    "StringLiteral",
    "Structure",
    "StructureField",
    "Ternary",
    "TupleLiteral",
    "TypeName",
    "TypeOf",
    "Unary",
    "Unroll",
    "Variable",
    "While",
    "With",
    "child_names",
    "has_effects",
    "levels",
    "replace_children",
    "walk",
]


class Node(Struct):
    """Anything in the tree; ``span`` is its range in the script."""

    span: Span


class TypeName(Node):
    """A type as written: ``struct sock *`` is ("sock", "struct", 1 pointer); ``array`` holds ``[n]`` suffixes.

    ``of`` is the expression of ``typeof(expression)``. ``type`` is set by the checker.
    """

    name: str
    tag: str = ""  # struct, union, enum, or nothing
    pointers: int = 0
    array: tuple[int, ...] = ()
    of: Expression | None = None
    type: Type | None = None

    def __str__(self) -> str:
        words = f"{self.tag} {self.name}" if self.tag else self.name
        return words + (" " + "*" * self.pointers if self.pointers else "") + "".join(f"[{n}]" for n in self.array)


class Expression(Node, kw_only=True):
    """What has a value. ``type`` is set by the checker."""

    type: Type | None = None


class Integer(Expression):
    value: int
    unsigned: bool = False


class StringLiteral(Expression):
    value: bytes


class Identifier(Expression):
    """A builtin variable, an enumerator, a constant, or a macro's parameterless name."""

    name: str


class Positional(Expression):
    """``$1`` ..., or ``$#`` as index 0."""

    index: int


class Variable(Expression):
    name: str  # with its $


class MapAccess(Expression):
    """``@name`` (key None) or ``@name[key, ...]``."""

    name: str  # with its @
    key: list[Expression] | None = None


class Call(Expression):
    name: str
    arguments: list[Expression | TypeName]


class Unary(Expression):
    operator: str  # - ! ~ * &, or comptime: the operand has to be constant
    operand: Expression


class Step(Expression):
    """``++x``, ``x--``: ``delta`` is 1 or -1; with ``postfix`` the value is that from before."""

    target: Expression
    delta: int
    postfix: bool


class Binary(Expression):
    operator: str
    left: Expression
    right: Expression


class Ternary(Expression):
    """``condition ? true : false``, or an if/else with values; ``condition ?: false`` has no ``true``."""

    condition: Expression
    true: Expression | None
    false: Expression


class Member(Expression):
    """``object.name`` or ``object->name``; a number as name is a tuple's element."""

    object: Expression
    name: str
    arrow: bool = False


class Index(Expression):
    object: Expression
    index: Expression


class Cast(Expression):
    target: TypeName
    operand: Expression


class TypeOf(Expression):
    """``sizeof(TYPE or expression)``; ``offsetof(TYPE, a.b)`` has ``path``."""

    subject: TypeName | Expression
    path: tuple[str, ...] = ()


class TupleLiteral(Expression):
    elements: list[Expression]
    names: list[str] | None = None


class BlockExpression(Expression):
    """``{ statements; expression }``, also a macro's body."""

    statements: list[Statement]
    value: Expression | None


class FunctionCall(Expression):
    """A call of a function of the script, and its copy of the body; return leaves its value in ``result``."""

    name: str
    parameters: list[Parameter]
    arguments: list[Expression]
    body: Block
    result: Variable
    declared: TypeName


class Range(Expression):
    """``start..end`` of a for loop, end excluded."""

    start: Expression
    end: Expression


class Statement(Node):
    pass


class ExpressionStatement(Statement):
    """``bare``: without a semicolon, at the end of a block, which has its value where it is an expression."""

    expression: Expression
    bare: bool = False


class Assign(Statement):
    """``target = value``, or with ``operator`` such as ``+`` a compound assignment."""

    target: Expression
    operator: str
    value: Expression


class JointUpdate(Statement):
    """Assignments of aggregations at one key, to maps whose values are in one map of the kernel's."""

    updates: list[Assign]


class Let(Statement):
    """``let $x : type = value;``"""

    variable: Variable
    declared: TypeName | None
    value: Expression | None


class Block(Statement):
    statements: list[Statement]


class If(Statement):
    condition: Expression
    then: Block
    otherwise: Block | None


class While(Statement):
    """``shared``: the variables that the loop shares with the code around it (passes/scopes.py)."""

    condition: Expression
    body: Block
    shared: list[str] = field(default_factory=list)


class Unroll(Statement):
    count: Expression
    body: Block


class For(Statement):
    """``shared`` as in While."""

    variable: Variable
    iterable: MapAccess | Range
    body: Block
    shared: list[str] = field(default_factory=list)


class With(Statement):
    """``with ($x : @map[key]) { } else { }``: in the body $x is the map's element itself."""

    variable: Variable
    element: MapAccess
    body: Block
    otherwise: Block | None


class Part(Statement):
    """Statements of a long body that become a function (codegen/splitting.py); ``shared`` as in While."""

    body: Block
    shared: list[str] = field(default_factory=list)


class Jump(Statement):
    """``result`` and ``declared`` as in FunctionCall, of a return in the copy of a function's body."""

    keyword: str  # break, continue, return
    value: Expression | None = None
    result: Variable | None = None
    declared: TypeName | None = None


class AttachText(Node):
    """An attach point as written, split at its colons (quotes removed).

    ``instead``: it follows ``||``, and is attached only where those before it do not exist.
    """

    parts: tuple[str, ...]
    instead: bool = False

    def __str__(self) -> str:
        return ":".join(self.parts)


class Probe(Node):
    attach_points: list[AttachText]
    predicate: Expression | None
    body: Block


class StructureField(Node):
    """``packed`` and ``aligned`` (bytes, 0 for none) are its attributes."""

    name: str  # "" for an anonymous member
    declared: TypeName | Structure
    bits: int = 0
    is_bit_field: bool = False  # also one of no bits, which ends its word
    packed: bool = False
    aligned: int = 0


class Structure(Node):
    """A struct, union, enum or typedef defined in the script. Enumerators are in ``values``; attributes as above."""

    tag: str
    name: str
    fields: list[StructureField] = field(default_factory=list)
    values: list[tuple[str, int]] = field(default_factory=list)
    alias: TypeName | None = None  # of a typedef
    packed: bool = False
    aligned: int = 0


class Macro(Node):
    """``macro name($a, @b, c) { ... }``."""

    name: str
    parameters: list[str]
    body: BlockExpression


class Parameter(Node):
    """``$name : type`` of a function."""

    variable: Variable
    declared: TypeName


class Function(Node):
    """``fn name($a : type, ...) : type { ... }``."""

    name: str
    parameters: list[Parameter]
    result: TypeName
    body: Block


class MapDeclaration(Node):
    """``let @name = kind(entries);`` before the probes."""

    name: str  # with its @
    kind: str
    entries: Expression


class Program(Node):
    probes: list[Probe]
    structures: list[Structure]
    macros: list[Macro]
    functions: list[Function]
    config: dict[str, str | int]
    maps: list[MapDeclaration] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    # Copies of those functions that nothing calls, to be checked as well.
    uncalled: list[FunctionCall] = field(default_factory=list)


def child_names(node: Node) -> tuple[str, ...]:
    """The fields of a node that may hold further nodes, or lists of them."""
    return _child_names(type(node))


@cache
def _child_names(kind: type[Node]) -> tuple[str, ...]:
    return tuple(name for name in kind.__struct_fields__ if name not in ("span", "type", "warnings"))


def walk(node: Any) -> Iterator[Node]:
    """The node and everything below it, outer first, in the order of the script."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Node):
            yield each
            waiting += [getattr(each, name) for name in reversed(child_names(each))]
        elif isinstance(each, list):
            waiting += reversed(each)


def has_effects(node: Node) -> bool:
    """Whether computing an expression may change anything but the variables that it declares by itself."""
    own = {each.variable.name for each in walk(node) if isinstance(each, Let)}
    return any(_has_effect(each, own) for each in walk(node))


def _has_effect(node: Node, own: set[str]) -> bool:
    if isinstance(node, Assign | Step):
        return not (isinstance(node.target, Variable) and node.target.name in own)
    if isinstance(node, Call):
        return node.name == "delete"
    return isinstance(node, Statement) and not isinstance(node, Let | Block | If)


def levels(node: Node) -> int:
    """How deep the tree is: 1 for a node without children."""
    depth, level = 0, [node]
    while level:
        depth += 1
        below = [getattr(each, name) for each in level for name in child_names(each)]
        level = [each for found in below for each in (found if isinstance(found, list) else [found])]
        level = [each for each in level if isinstance(each, Node)]
    return depth


def replace_children(node: Any, replaced: Callable[[Any], Any]) -> None:
    """Replace each child of a node, or each element of a list of nodes, by ``replaced(child)``."""
    if isinstance(node, list):
        for index, element in enumerate(node):
            node[index] = replaced(element)
    elif isinstance(node, Node):
        for name in child_names(node):
            setattr(node, name, replaced(getattr(node, name)))
