"""DuckDB without the Python part of its package, which imports email, sockets and zipfile to know its version."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
else:
    try:
        import _duckdb as duckdb  # what that part passes on, 25 ms sooner
    except ImportError:
        import duckdb

__all__ = ["duckdb"]
