"""Data classes as the standard library's ``dataclasses`` has them, for programs that must start fast.

The standard ones compile several methods for each class when it is defined, and import ``inspect`` before: a third of
the time in which ``insitu trace`` started. Here a class shares its methods with all others, and its ``__init__`` is
compiled when its first object is made. There is what is used here: no order, no ``__post_init__``, no pattern
arguments; and annotations are text (``from __future__ import annotations``).
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform, overload

__all__ = ["Field", "dataclass", "field", "fields", "is_dataclass", "replace"]

T = TypeVar("T")
C = TypeVar("C", bound=type)


class _Missing:
    pass


_MISSING = _Missing()


class Field:
    """What a class says of one of its fields."""

    __slots__ = ("compare", "default", "factory", "init", "name", "repr")

    def __init__(
        self,
        default: Any,
        factory: Callable[[], Any] | None = None,
        init: bool = True,
        compare: bool = True,
        repr_: bool = True,
    ) -> None:
        self.name = ""
        self.default, self.factory = default, factory
        self.init, self.compare, self.repr = init, compare, repr_


def field(
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    init: bool = True,
    compare: bool = True,
    repr: bool = True,
) -> Any:
    """A field with more to it than a default value; ``compare`` False also leaves it out of the hash."""
    return Field(default, default_factory, init, compare, repr)


@overload
def dataclass(cls: C, /) -> C: ...
@overload
def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Callable[[C], C]: ...
@dataclass_transform(field_specifiers=(field,))
def dataclass(
    cls: C | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True
) -> C | Callable[[C], C]:
    """Make a class one whose annotated names are its fields and its constructor's parameters."""
    if cls is None:
        return lambda cls: _made(cls, frozen=frozen, slots=slots, eq=eq)
    return _made(cls, frozen=frozen, slots=slots, eq=eq)


def fields(of: object) -> tuple[Field, ...]:
    """The fields of a data class or of an object of one, those of its bases first."""
    found: dict[str, Field] = of.__fields__  # type: ignore[attr-defined]
    return tuple(found.values())


def is_dataclass(value: object) -> bool:
    """Whether this is a data class, or an object of one."""
    return hasattr(value, "__fields__")


def replace(value: T, /, **changes: Any) -> T:
    """A copy with some fields changed."""
    kept = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
    return type(value)(**{**kept, **changes})


def _made(cls: C, *, frozen: bool, slots: bool, eq: bool) -> C:
    found: dict[str, Field] = {}
    for base in cls.__mro__[:0:-1]:
        found.update(base.__dict__.get("__fields__", {}))
    content = dict(cls.__dict__)
    own = [name for name, text in content.get("__annotations__", {}).items() if not text.startswith("ClassVar")]
    for name in own:
        given = content.pop(name, _MISSING)
        each = given if isinstance(given, Field) else Field(given)
        each.name = name
        if each.default is not _MISSING and not slots:
            content[name] = each.default
        found[name] = each
    content["__fields__"] = found
    compared = [each.name for each in found.values() if each.compare]
    content["__compared__"] = staticmethod(attrgetter(*compared) if compared else _nothing)
    content.setdefault("__repr__", _repr)
    if eq and "__eq__" not in content:
        content["__eq__"] = _eq
        content.setdefault("__hash__", _hash if frozen else None)
    if frozen:
        content["__setattr__"], content["__delattr__"] = _refuse, _refuse
    for name in ("__dict__", "__weakref__"):
        content.pop(name, None)
    if slots:
        content["__slots__"] = tuple(own)
    made: C = type(cls)(cls.__name__, cls.__bases__, content)
    made.__qualname__ = cls.__qualname__

    def build(self: Any, *arguments: Any, **named: Any) -> None:
        constructor = _constructor(found, frozen=frozen)
        made.__init__ = constructor  # type: ignore[misc]
        constructor(self, *arguments, **named)

    if "__init__" not in content:
        made.__init__ = build  # type: ignore[misc]
    return made


def _constructor(found: dict[str, Field], *, frozen: bool) -> Callable[..., None]:
    """The ``__init__`` that sets these fields."""
    names: dict[str, Any] = {"_missing": _MISSING, "_set": object.__setattr__}
    parameters, lines = ["self"], ["pass"]
    for name, each in found.items():
        value = name
        if each.factory is not None:
            names[f"_make_{name}"] = each.factory
            value = f"_make_{name}()" + (f" if {name} is _missing else {name}" if each.init else "")
        if each.init:
            optional = each.factory is not None or each.default is not _MISSING
            parameters.append(f"{name}=_default_{name}" if optional else name)
        elif each.factory is None:
            value = f"_default_{name}"
        names[f"_default_{name}"] = each.default
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(lines), names)
    made: Callable[..., None] = names["__init__"]
    return made


def _nothing(value: object) -> tuple[()]:
    return ()


def _repr(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    compared = self.__compared__
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash((self.__class__, self.__compared__(self)))


def _refuse(self: object, name: str, *value: object) -> NoReturn:
    raise AttributeError(f"cannot change field {name!r}")
