"""How rows lie in raw records: a header, then 8 bytes for each column, then what is longer, in order of columns.

The header is a u32 with the row's length in bytes, itself included, and a u32 that is zero. Texts, bytes and stacks
have their length in bytes among the numbers, and follow them, each padded to a multiple of 8. A stack is its
addresses, innermost first; a thread is two u32: process and thread.
"""

import struct
from typing import Final

__all__ = ["CODES", "HEADER", "NUMPY", "VARIABLE"]

HEADER: Final = struct.Struct("<II")

VARIABLE: Final = ("stack", "name", "enum", "path", "build_id", "text", "blob")
"""Semantic types whose values are as long as they are."""

CODES: Final = {
    **dict.fromkeys(VARIABLE, "Q"),
    "utid": "II",
    "kernel_address": "Q",
    "user_address": "Q",
    "file_offset": "Q",
    "unsigned": "Q",
    "number": "d",
}
"""Semantic type -> struct codes of its 8 bytes; "q" for all others."""

NUMPY: Final = {"Q": "<u8", "q": "<i8", "d": "<f8"}
