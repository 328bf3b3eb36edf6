"""Where the value of an expression is."""

from __future__ import annotations

from msgspec import Struct

from insitu.probe.types import Space

__all__ = ["Local", "Place", "Remote"]


class Local(Struct, frozen=True):
    """Memory that the program may read directly: its stack, a map's value, a reserved record.

    ``inner``: a part of a larger object in C's layout, not a stored form: it may be followed by padding, and lack
    padding of its own.
    """

    pointer: str
    inner: bool = False


class Remote(Struct, frozen=True):
    """Memory that only the probe_read helpers may read; ``address`` is an i64 register.

    ``direct``: the verifier knows the type of the pointer that leads there: loads are allowed, too; 0 if they fail.
    ``terminated``: text there ends with a zero wherever that is; a char array, else, may lack one.
    """

    address: str
    space: Space
    terminated: bool = False
    direct: bool = False


Place = Local | Remote
