"""DuckDB without the Python part of its package, which imports email, sockets and zipfile to know its version."""

from typing import TYPE_CHECKING

from insitu.limits import refuse_little_memory

refuse_little_memory(512 << 20)

if TYPE_CHECKING:
    import duckdb
else:
    try:
        import _duckdb as duckdb  # what that part passes on, 25 ms sooner
    except ImportError:
        import duckdb

__all__ = ["duckdb"]
