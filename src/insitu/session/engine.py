"""DuckDB without the Python part of its package, which imports email, sockets and zipfile to know its version."""

from typing import TYPE_CHECKING

from insitu.limits import ENGINE_BYTES, refuse_little_memory

refuse_little_memory(ENGINE_BYTES)

if TYPE_CHECKING:
    import duckdb
else:
    try:
        import _duckdb as duckdb  # what that part passes on, 25 ms sooner
    except ImportError:
        import duckdb

__all__ = ["duckdb"]
