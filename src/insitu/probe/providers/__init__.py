"""Probe kinds, one module each: to add a kind, write its module and name it here.

A module is imported when one of its kinds is first asked for: a script with one tracepoint reads no symbol tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from insitu.probe.providers.base import Provider

__all__ = ["PROVIDERS"]

# Module -> the names of its kinds and their aliases. Each module's PROVIDERS holds one provider for each kind.
_MODULES = {
    "begin_end": ("begin", "BEGIN", "end", "END", "self", "test", "bench"),
    "kprobe": ("kprobe", "k", "kretprobe", "kr"),
    "fentry": ("fentry", "f", "kfunc", "fexit", "fr", "kretfunc"),
    "tracepoint": ("tracepoint", "t"),
    "rawtracepoint": ("rawtracepoint", "rt"),
    "uprobe": ("uprobe", "u", "uretprobe", "ur"),
    "usdt": ("usdt", "U"),
    "timer": ("profile", "p", "interval", "i"),
    "counter": ("software", "s", "hardware", "h"),
    "watchpoint": ("watchpoint", "w", "asyncwatchpoint", "aw"),
    "iter": ("iter", "it"),
}


class _Registry(Mapping[str, Provider]):
    def __init__(self) -> None:
        self._module_of = {name: module for module, names in _MODULES.items() for name in names}

    def __getitem__(self, name: str) -> Provider:
        module = import_module(f"insitu.probe.providers.{self._module_of[name]}")
        providers: tuple[Provider, ...] = module.PROVIDERS
        return next(provider for provider in providers if name in provider.names)

    def __iter__(self) -> Iterator[str]:
        # Not iter(): once imported, the module of that name is found here instead of the function.
        yield from self._module_of

    def __len__(self) -> int:
        return len(self._module_of)


PROVIDERS: Mapping[str, Provider] = _Registry()
"""Every name and alias of a probe kind, and who provides it. The first of ``provider.names`` is the kind itself."""
