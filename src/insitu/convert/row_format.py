"""Layout of rows in raw records: a header, 8 bytes per column, then values of variable length in column order.

The header is two u32: the row's length in bytes including the header, and a mask whose bit n is set where column n is
null. For texts, bytes and stacks the 8 bytes are the length in bytes; the values follow, each padded to a multiple of
8. A stack is its addresses, innermost first; a thread is two u32: pid and tid.
"""

import struct
from typing import Final

__all__ = ["CODES", "HEADER", "MOST_COLUMNS", "NUMPY", "VARIABLE"]

HEADER: Final = struct.Struct("<II")
MOST_COLUMNS: Final = 32

VARIABLE: Final = ("stack", "name", "enum", "path", "build_id", "text", "blob")
"""Semantic types of variable length."""

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
