"""insitu: see inside a running Linux system.

``insitu.profile(...)`` records, ``insitu.stat(...)`` counts, ``insitu.cache(path)`` looks at the page cache,
``insitu.memory(pid)`` at the memory of a process,
``insitu.guard([...])`` runs a command and returns the faults in its use of the heap,
``insitu.leaks(pid)`` finds lost memory, ``insitu.open(path)`` opens a recording, and the
session it returns answers SQL and gives its tables as Polars frames.
"""

TYPE_CHECKING = False  # what type checkers take for true; importing typing would cost every start

__all__ = [
    "InsituError",
    "__version__",
    "cache",
    "guard",
    "lab",
    "leaks",
    "memory",
    "open",
    "profile",
    "stat",
    "trace",
]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from insitu import lab as lab
    from insitu.convert.open import open_session as open
    from insitu.debug.guard import guard as guard
    from insitu.errors import InsituError as InsituError
    from insitu.inspect.heap.leaks import leaks as leaks
    from insitu.inspect.memory_map import memory as memory
    from insitu.inspect.page_cache import cache as cache
    from insitu.record.counts import stat as stat
    from insitu.record.cpu import profile as profile
    from insitu.record.script import trace as trace

# Public name -> module and name there. Resolved on first use: importing insitu must stay cheap.
_LAZY = {
    "InsituError": ("insitu.errors", "InsituError"),
    "cache": ("insitu.inspect.page_cache", "cache"),
    "guard": ("insitu.debug.guard", "guard"),
    "lab": ("insitu.lab", ""),  # the package itself: insitu.lab.guest(...)
    "leaks": ("insitu.inspect.heap.leaks", "leaks"),
    "memory": ("insitu.inspect.memory_map", "memory"),
    "open": ("insitu.convert.open", "open_session"),
    "profile": ("insitu.record.cpu", "profile"),
    "stat": ("insitu.record.counts", "stat"),
    "trace": ("insitu.record.script", "trace"),
}


def __getattr__(name: str) -> "Any":
    if name not in _LAZY:
        raise AttributeError(f"module 'insitu' has no attribute {name!r}")
    import importlib

    module, attribute = _LAZY[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
