"""BTF types as C: declarations and definitions, for listings and messages."""

from __future__ import annotations

from insitu.symbols.btf import Kind, Type

__all__ = ["declaration", "definition"]

_QUALIFIER_WORDS = {Kind.VOLATILE: "volatile", Kind.CONST: "const", Kind.RESTRICT: "restrict"}
_TAGS = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
_MAX_DEPTH = 32  # damaged BTF may nest without an end


def declaration(type_: Type, name: str = "") -> str:
    """The type in C, as a declaration of ``name``: ``char *argv[4]``."""
    return _declared(type_, name, 0)


def definition(type_: Type) -> str:
    """A struct, union or enum in C with what it contains, indented by tabs; for others, the declaration."""
    return _defined(type_, "", 0) + ";"


def _declared(type_: Type, name: str, depth: int) -> str:
    """C's declaration syntax, inside out: each step wraps ``name`` in what the type derives from."""
    if depth > _MAX_DEPTH:
        return f"... {name}".rstrip()
    kind = type_.kind
    if kind == Kind.PTR:
        target = type_.target
        inner = f"(*{name})" if target.kind in (Kind.ARRAY, Kind.FUNC_PROTO) else f"*{name}"
        return _declared(target, inner, depth + 1)
    if kind == Kind.ARRAY:
        return _declared(type_.target, f"{name}[{type_.count}]", depth + 1)
    if kind in (Kind.FUNC_PROTO, Kind.FUNC):
        name = name or type_.name
        words = [
            _declared(parameter.type, parameter.name, depth + 1) if parameter.type.kind != Kind.VOID else "..."
            for parameter in type_.parameters
        ]
        return _declared(type_.returns, f"{name}({', '.join(words) or 'void'})", depth + 1)
    if kind in _QUALIFIER_WORDS:
        target, word = type_.target, _QUALIFIER_WORDS[kind]
        if target.kind == Kind.PTR:
            return _declared(target, f"{word} {name}".rstrip(), depth + 1)
        return f"{word} {_declared(target, name, depth + 1)}"
    if kind == Kind.TYPE_TAG:
        return _declared(type_.target, name, depth + 1)
    word = _tagged(type_)
    return f"{word} {name}" if name else word


def _tagged(type_: Type) -> str:
    if type_.kind == Kind.VOID:
        return "void"
    tag = _TAGS.get(type_.kind, "")
    if type_.kind == Kind.FWD:
        tag = "union" if type_.flag else "struct"
    return f"{tag} {type_.name or '{...}'}" if tag else type_.name


def _defined(type_: Type, name: str, depth: int) -> str:
    pad = "\t" * depth
    if depth > _MAX_DEPTH or type_.kind not in _TAGS:
        return type_.declaration(name)
    head = f"{_TAGS[type_.kind]} {type_.name}".rstrip() + " {\n"
    body = ""
    if type_.kind in _ENUMS:
        body = "".join(f"{pad}\t{key} = {value},\n" for key, value in type_.enumerators.items())
    for member in type_.members:
        bare = member.type
        if bare.kind in _TAGS and not bare.name:
            text = _defined(bare, member.name, depth + 1)
        else:
            text = bare.declaration(member.name)
        body += f"{pad}\t{text}{f':{member.bit_size}' if member.bit_size else ''};\n"
    return f"{head}{body}{pad}}}{f' {name}' if name else ''}"
