"""The tables of a session: names, columns, units. docs/session-format.md explains them for users.

Times are CLOCK_MONOTONIC nanoseconds (int64).
"""

from typing import Final

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["TABLES", "TEXT"]

TEXT: Final = "text"
"""Column type of strings: a Python list of str in memory, a UTF-8 column on disk."""

Column = DTypeLike | str

# Table -> column -> numpy dtype, or TEXT.
TABLES: Final[dict[str, dict[str, Column]]] = {
    "thread": {
        "tid": np.int32,
        "pid": np.int32,
        "ppid": np.int32,
        "comm": TEXT,
        "exe": TEXT,
        "start_ns": np.int64,
        "end_ns": np.int64,
    },
    "mapping": {
        "pid": np.int32,
        "start": np.uint64,
        "end": np.uint64,
        "offset": np.uint64,
        "path": TEXT,
        "build_id": TEXT,
    },
    "frame": {
        "id": np.int32,
        "function": TEXT,
        "module": TEXT,
        "file": TEXT,
        "line": np.int32,
        "inlined": np.bool_,
        "kind": TEXT,
    },
    "stack": {"id": np.int32, "parent": np.int32, "frame": np.int32, "depth": np.int32},
    "sample": {
        "ts_ns": np.int64,
        "cpu": np.int32,
        "tid": np.int32,
        "stack": np.int32,
        "event": TEXT,
        "weight": np.int64,
    },
    "span": {
        "ts_ns": np.int64,
        "dur_ns": np.int64,
        "tid": np.int32,
        "cpu": np.int32,
        "name": TEXT,
        "parent": np.int64,
        "depth": np.int32,
        "self_ns": np.int64,
    },
    "counter": {
        "ts_ns": np.int64,
        "cpu": np.int32,
        "tid": np.int32,
        "name": TEXT,
        "value": np.float64,
    },
    "lost": {"ts_ns": np.int64, "source": TEXT, "cpu": np.int32, "count": np.int64},
}
