"""The syntax tree: one small class per construct.

Passes put copies of macros and functions in the place of their calls, and give each variable a name of its own; the
checker fills ``type``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from insitu.dataclass import dataclass, field, fields
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
    "Jump",
    "Let",
    "Macro",
    "MapAccess",
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
    "replace_children",
    "walk",
]


@dataclass(slots=True)
class Node:
    """Anything in the tree; ``span`` is where it stands in the script."""

    span: Span


@dataclass(slots=True)
class TypeName(Node):
    """A type as written: ``struct sock *`` is ("sock", "struct", 1 pointer); ``array`` holds ``[n]`` suffixes.

    ``of`` is the expression of ``typeof(expression)``. ``type`` is set by the checker.
    """

    name: str
    tag: str = ""  # struct, union, enum, or nothing
    pointers: int = 0
    array: tuple[int, ...] = ()
    of: Expression | None = None
    type: Type | None = field(default=None, init=False, compare=False)

    def __str__(self) -> str:
        words = f"{self.tag} {self.name}" if self.tag else self.name
        return words + (" " + "*" * self.pointers if self.pointers else "") + "".join(f"[{n}]" for n in self.array)


@dataclass(slots=True)
class Expression(Node):
    """What has a value. ``type`` is set by the checker."""

    type: Type | None = field(default=None, init=False, compare=False)


@dataclass(slots=True)
class Integer(Expression):
    value: int
    unsigned: bool = False


@dataclass(slots=True)
class StringLiteral(Expression):
    value: bytes


@dataclass(slots=True)
class Identifier(Expression):
    """A builtin variable, an enumerator, a constant, or a macro's parameterless name."""

    name: str


@dataclass(slots=True)
class Positional(Expression):
    """``$1`` ..., or ``$#`` as index 0."""

    index: int


@dataclass(slots=True)
class Variable(Expression):
    name: str  # with its $


@dataclass(slots=True)
class MapAccess(Expression):
    """``@name`` (key None) or ``@name[key, ...]``."""

    name: str  # with its @
    key: list[Expression] | None = None


@dataclass(slots=True)
class Call(Expression):
    name: str
    arguments: list[Expression | TypeName]


@dataclass(slots=True)
class Unary(Expression):
    operator: str  # - ! ~ * &
    operand: Expression


@dataclass(slots=True)
class Step(Expression):
    """``++x``, ``x--``: ``delta`` is 1 or -1; ``postfix`` answers the value from before."""

    target: Expression
    delta: int
    postfix: bool


@dataclass(slots=True)
class Binary(Expression):
    operator: str
    left: Expression
    right: Expression


@dataclass(slots=True)
class Ternary(Expression):
    condition: Expression
    true: Expression
    false: Expression


@dataclass(slots=True)
class Member(Expression):
    """``object.name`` or ``object->name``; a number as name is a tuple's element."""

    object: Expression
    name: str
    arrow: bool = False


@dataclass(slots=True)
class Index(Expression):
    object: Expression
    index: Expression


@dataclass(slots=True)
class Cast(Expression):
    target: TypeName
    operand: Expression


@dataclass(slots=True)
class TypeOf(Expression):
    """``sizeof(TYPE or expression)``; ``offsetof(TYPE, a.b)`` has ``path``."""

    subject: TypeName | Expression
    path: tuple[str, ...] = ()


@dataclass(slots=True)
class TupleLiteral(Expression):
    elements: list[Expression]
    names: list[str] | None = None


@dataclass(slots=True)
class BlockExpression(Expression):
    """``{ statements; expression }``: what a macro's body becomes."""

    statements: list[Statement]
    value: Expression | None


@dataclass(slots=True)
class FunctionCall(Expression):
    """A call of a function of the script, and its copy of the body; return leaves its value in ``result``."""

    name: str
    parameters: list[Parameter]
    arguments: list[Expression]
    body: Block
    result: Variable
    declared: TypeName


@dataclass(slots=True)
class Range(Expression):
    """``start..end`` of a for loop, end excluded."""

    start: Expression
    end: Expression


@dataclass(slots=True)
class Statement(Node):
    pass


@dataclass(slots=True)
class ExpressionStatement(Statement):
    expression: Expression


@dataclass(slots=True)
class Assign(Statement):
    """``target = value``, or with ``operator`` such as ``+`` a compound assignment."""

    target: Expression
    operator: str
    value: Expression


@dataclass(slots=True)
class Let(Statement):
    """``let $x : type = value;``"""

    variable: Variable
    declared: TypeName | None
    value: Expression | None


@dataclass(slots=True)
class Block(Statement):
    statements: list[Statement]


@dataclass(slots=True)
class If(Statement):
    condition: Expression
    then: Block
    otherwise: Block | None


@dataclass(slots=True)
class While(Statement):
    """``shared``: the variables that the loop has in common with what stands around it (passes/scopes.py)."""

    condition: Expression
    body: Block
    shared: list[str] = field(default_factory=list, init=False, compare=False)


@dataclass(slots=True)
class Unroll(Statement):
    count: Expression
    body: Block


@dataclass(slots=True)
class For(Statement):
    """``shared`` as in While."""

    variable: Variable
    iterable: MapAccess | Range
    body: Block
    shared: list[str] = field(default_factory=list, init=False, compare=False)


@dataclass(slots=True)
class Jump(Statement):
    """``result`` and ``declared`` as in FunctionCall, of a return in the copy of a function's body."""

    keyword: str  # break, continue, return
    value: Expression | None = None
    result: Variable | None = field(default=None, init=False)
    declared: TypeName | None = field(default=None, init=False)


@dataclass(slots=True)
class AttachText(Node):
    """An attach point as written, split at its colons (quotes removed)."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ":".join(self.parts)


@dataclass(slots=True)
class Probe(Node):
    attach_points: list[AttachText]
    predicate: Expression | None
    body: Block


@dataclass(slots=True)
class StructureField(Node):
    name: str  # "" for an anonymous member
    type: TypeName | Structure
    bits: int = 0


@dataclass(slots=True)
class Structure(Node):
    """A struct, union, enum or typedef defined in the script. Enumerators are in ``values``."""

    tag: str
    name: str
    fields: list[StructureField] = field(default_factory=list)
    values: list[tuple[str, int]] = field(default_factory=list)
    alias: TypeName | None = None  # of a typedef


@dataclass(slots=True)
class Macro(Node):
    """``macro name($a, @b, c) { ... }``."""

    name: str
    parameters: list[str]
    body: BlockExpression


@dataclass(slots=True)
class Parameter(Node):
    """``$name : type`` of a function."""

    variable: Variable
    declared: TypeName


@dataclass(slots=True)
class Function(Node):
    """``fn name($a : type, ...) : type { ... }``."""

    name: str
    parameters: list[Parameter]
    result: TypeName
    body: Block


@dataclass(slots=True)
class Program(Node):
    probes: list[Probe]
    structures: list[Structure]
    macros: list[Macro]
    functions: list[Function]
    config: dict[str, str | int]


def walk(node: Any) -> Iterator[Node]:
    """The node and everything below it, outer first."""
    if isinstance(node, Node):
        yield node
        for item in fields(node):
            if item.name not in ("span", "type") or isinstance(node, StructureField):
                yield from walk(getattr(node, item.name))
    elif isinstance(node, list):
        for element in node:
            yield from walk(element)


def replace_children(node: Any, replaced: Callable[[Any], Any]) -> None:
    """Put ``replaced(child)`` in the place of each child of a node, or of each element of a list of nodes."""
    if isinstance(node, list):
        for index, element in enumerate(node):
            node[index] = replaced(element)
    elif isinstance(node, Node):
        for item in fields(node):
            if item.name not in ("span", "type"):
                setattr(node, item.name, replaced(getattr(node, item.name)))
