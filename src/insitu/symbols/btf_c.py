"""BTF types as C: declarations and definitions, for listings and messages."""

from __future__ import annotations

from insitu.symbols.btf import Kind, Type

__all__ = ["declaration", "definition"]

_QUALIFIERS = {Kind.VOLATILE: "volatile", Kind.CONST: "const", Kind.RESTRICT: "restrict"}
_PTR = Kind.PTR
_AROUND = frozenset({Kind.ARRAY, Kind.FUNC, Kind.FUNC_PROTO})
_TAGS = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
# Damaged BTF may nest without an end, in breadth and in depth. The kernel's largest type takes some 2,000 steps.
_MAX_STEPS = 20_000
_MAX_DEPTH = 64


def declaration(type_: Type, name: str = "") -> str:
    """The type in C, as a declaration of ``name``: ``char *argv[4]``."""
    stem = _stem(type_)
    return f"{stem}{name}".rstrip() if stem else _Writer().declared(type_, name, 0)


def definition(type_: Type) -> str:
    """A struct, union or enum in C with what it contains, indented by tabs; for others, the declaration."""
    return _Writer().defined(type_, "") + ";"


def _stem(type_: Type) -> str:
    """What stands before the name in declarations of it: ``char *const ``. Empty for types that stand around it."""
    before = after = ""
    for _ in range(_MAX_DEPTH):
        kind = type_.kind
        if kind == _PTR:
            type_, after = type_.target, f"*{after}"
        elif kind in _QUALIFIERS:
            word, type_ = _QUALIFIERS[kind], type_.target
            if type_.kind == _PTR:
                after = f"{word} {after}"
            else:
                before += f"{word} "
        elif kind in _TAGS and (name := type_.name):
            return f"{before}{_TAGS[kind]} {name} {after}"
        elif kind in _AROUND:
            return ""
        elif kind == Kind.TYPE_TAG:
            type_ = type_.target
        else:
            return f"{before}{_base(type_)} {after}"
    return ""


class _Writer:
    """Writes one type, in a bounded number of steps; what is beyond them becomes "..."."""

    def __init__(self) -> None:
        self.steps = 0
        self.nesting = 0  # definitions that the one being written stands in

    def exhausted(self, depth: int) -> bool:
        self.steps += 1
        return self.steps > _MAX_STEPS or depth > _MAX_DEPTH

    def declared(self, type_: Type, name: str, depth: int) -> str:
        """C's declaration syntax, inside out: each step wraps ``name`` in what the type derives from."""
        if self.exhausted(depth):
            return f"... {name}".rstrip()
        kind = type_.kind
        if kind == Kind.PTR:
            target = type_.target
            inner = f"(*{name})" if target.kind in (Kind.ARRAY, Kind.FUNC_PROTO) else f"*{name}"
            return self.declared(target, inner, depth + 1)
        if kind == Kind.ARRAY:
            return self.declared(type_.target, f"{name}[{type_.count}]", depth + 1)
        if kind == Kind.FUNC:
            return self.declared(type_.target, name or type_.name, depth + 1)
        if kind == Kind.FUNC_PROTO:
            words = ", ".join(self.parameters(type_, depth + 1)) or "void"
            return self.declared(type_.returns, f"{name}({words})", depth + 1)
        if kind in _QUALIFIERS:
            target, word = type_.target, _QUALIFIERS[kind]
            if target.kind == Kind.PTR:
                return self.declared(target, f"{word} {name}".rstrip(), depth + 1)
            return f"{word} {self.declared(target, name, depth + 1)}"
        if kind == Kind.TYPE_TAG:
            return self.declared(type_.target, name, depth + 1)
        if kind in _TAGS and not type_.name and self.nesting:
            return self.defined(type_, name)
        return f"{_base(type_)} {name}".rstrip()

    def parameters(self, prototype: Type, depth: int) -> list[str]:
        """Parameters as declarations; stops early when the steps run out."""
        words = []
        for parameter in prototype.parameters:
            variadic = parameter.type.kind == Kind.VOID
            words.append("..." if variadic else self.declared(parameter.type, parameter.name, depth))
            if self.steps > _MAX_STEPS:
                break
        return words

    def defined(self, type_: Type, name: str) -> str:
        """A struct, union or enum with its contents; anonymous ones within it are written out where they stand."""
        if type_.kind not in _TAGS or self.exhausted(self.nesting):
            return type_.declaration(name)
        self.nesting += 1
        pad = "\t" * self.nesting
        body = "".join(f"{pad}{key} = {value},\n" for key, value in type_.enumerators.items())
        for member in type_.members:
            if self.steps > _MAX_STEPS:
                body += f"{pad}...\n"
                break
            bits = f": {member.bit_size}" if member.bit_size else ""
            body += f"{pad}{self.declared(member.type, member.name, 0)}{bits};\n"
        self.nesting -= 1
        head = f"{_TAGS[type_.kind]} {type_.name}".rstrip()
        return f"{head} {{\n{body}{pad[1:]}}} {name}".rstrip()


def _base(type_: Type) -> str:
    """What a declaration starts with."""
    if type_.kind == Kind.VOID:
        return "void"
    if type_.kind == Kind.FWD:
        return f"{'union' if type_.flag else 'struct'} {type_.name}"
    return f"{_TAGS[type_.kind]} {type_.name or '{...}'}" if type_.kind in _TAGS else type_.name
