"""All builtins by name."""

from __future__ import annotations

from insitu.probe.builtins import (
    addresses,
    aggregations,
    arguments,
    cgroups,
    clocks,
    conditions,
    debug,
    effects,
    events,
    introspection,
    maps,
    network,
    output,
    packets,
    paths,
    process,
    search,
    stacks,
    strings,
    time_series,
)
from insitu.probe.builtins.registry import BuiltinFunction, BuiltinVariable

__all__ = ["FUNCTIONS", "MODULES", "VARIABLES"]

MODULES = (
    addresses,
    aggregations,
    arguments,
    cgroups,
    clocks,
    conditions,
    debug,
    effects,
    events,
    introspection,
    maps,
    network,
    output,
    packets,
    paths,
    process,
    search,
    stacks,
    strings,
    time_series,
)
_ALL = [builtin for module in MODULES for builtin in module.BUILTINS]
VARIABLES = {each.name: each for each in _ALL if isinstance(each, BuiltinVariable)}
# A variable may be written as a call without arguments, too.
FUNCTIONS = {each.name: each.as_function() for each in VARIABLES.values()} | {
    each.name: each for each in _ALL if isinstance(each, BuiltinFunction)
}
