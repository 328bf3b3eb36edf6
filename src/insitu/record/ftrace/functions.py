"""ftrace's function tracers, switched on in an instance: which functions, how deep, with stacks or without."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.errors import InsituError, nearest
from insitu.kernel.trace_instance import GRAPH_LISTS, Shared, TraceInstance
from insitu.record.ftrace.call_cost import call_cost_ns
from insitu.record.sources.trace_pages import restrict_to

if TYPE_CHECKING:
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.source import Target

__all__ = ["FunctionTracing", "GraphTracing", "matching_functions"]

_MODULE: Final = ":mod:"
_FEW_NAMES: Final = 50
_DEEPEST: Final = 1000  # the kernel follows 50 calls (FTRACE_RETFUNC_DEPTH)


def matching_functions(pattern: str, known: Sequence[tuple[str, str]]) -> list[str]:
    """The functions that a pattern names: a name, a glob, or either with ``:mod:MODULE``; ``:mod:MODULE`` alone.

    ``known`` are (function, module). Raises InsituError (status 2) if there is none.
    """
    if not pattern:
        raise InsituError("the name of a function is empty", status=2)
    name, _, module = pattern.partition(_MODULE)
    name = name or "*"
    found = [
        function
        for function, owner in known
        if (not module or fnmatch.fnmatchcase(owner, module)) and fnmatch.fnmatchcase(function, name)
    ]
    if not found:
        candidates = {owner for _, owner in known if owner} if name == "*" else {function for function, _ in known}
        raise InsituError(
            f"{pattern}: no such function that can be traced{nearest(module if name == '*' else name, candidates)}",
            remedy="inlined functions, assembly and code marked notrace cannot",
            status=2,
        )
    return list(dict.fromkeys(found))


class _Functions:
    """What both tracers share: the tracer's presence, and lists of functions."""

    tracer = ""
    shares: Shared = "nothing"

    def __init__(self, tracefs: Tracefs, *chosen: Sequence[str]) -> None:
        """Raises InsituError for a pattern that fits no function."""
        patterns = [pattern for each in chosen for pattern in each]
        known = tracefs.functions() if patterns else []
        if patterns and not known:
            raise InsituError(
                "cannot read which functions can be traced (available_filter_functions)",
                remedy="needs root, no lockdown, and CONFIG_DYNAMIC_FTRACE",
            )
        self._patterns, self._excluded = (tuple(each) for each in chosen[:2])
        self._names = {each: matching_functions(each, known) for each in patterns}

    @property
    def options(self) -> Mapping[str, Any]:
        """Tracer and functions."""
        return {"tracer": self.tracer, "functions": [*self._patterns], "without": [*self._excluded]}

    def _choose(self, instance: TraceInstance, path: str, patterns: Sequence[str]) -> None:
        """Fill a list of functions: by a pattern, which the kernel matches faster than many names, if it can."""
        words: list[str] = []
        for pattern in patterns:
            names = self._names[pattern]
            words += names if len(names) <= _FEW_NAMES or _MODULE in pattern else [pattern]
        if words:
            instance.write(path, " ".join(words))
            if not instance.list_text(path):
                raise InsituError(f"the kernel has not taken {' '.join(patterns)} into {path}")

    def _start(self, instance: TraceInstance) -> None:
        try:
            instance.write("current_tracer", self.tracer)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise InsituError(f"the tracer {self.tracer} is in use elsewhere", remedy="end it first") from None
            raise


class GraphTracing(_Functions):
    """function_graph: every call of some functions, and what they call, with durations."""

    tracer = "function_graph"

    def __init__(
        self,
        tracefs: Tracefs,
        patterns: Sequence[str] = (),
        *,
        only: Sequence[str] = (),
        excluded: Sequence[str] = (),
        depth: int = 0,
        calibrates: bool = False,
    ) -> None:
        """Calls of ``patterns`` (all functions without), and of what these call, if it is among ``only``.

        ``depth`` is the number of levels of calls; 0: all. ``calibrates``: find out ``cost_ns`` first.

        Raises InsituError where the kernel has no such tracer, or no such function.
        """
        if self.tracer not in tracefs.tracers():
            raise InsituError(
                "this kernel has no function_graph tracer (CONFIG_FUNCTION_GRAPH_TRACER)",
                remedy="-f FUNCTION shows calls without durations, --user functions of programs",
            )
        super().__init__(tracefs, patterns, excluded, only)
        self._only = tuple(only)
        self._depth = depth
        self._tracefs = tracefs if calibrates else None
        self.cost_ns = (0, 0)
        # Since Linux 6.12 or so instances have the tracer, but not the lists of functions to start from.
        in_instances, has_lists = _of_instances(tracefs, self.tracer)
        self._needs_no_lists = in_instances and not has_lists and not (patterns or excluded or depth)
        if not in_instances:
            self.shares = "everything"
        elif not has_lists and not self._needs_no_lists:
            self.shares = "lists"

    @property
    def options(self) -> Mapping[str, Any]:
        """Tracer, functions, depth, and what tracing a call costs (see call_cost.py)."""
        return {**super().options, "depth": self._depth, "call_cost_ns": [*self.cost_ns]}

    @property
    def events(self) -> Sequence[tuple[str, str]]:
        """Entries and exits."""
        return [("ftrace", name) for name in ("funcgraph_entry", "funcgraph_retaddr_entry", "funcgraph_exit")]

    def set_up(self, instance: TraceInstance, target: Target) -> None:
        """Switch the tracer on. Raises InsituError, OSError."""
        if self._needs_no_lists:
            instance.uses_no_lists()
        if self._tracefs is not None:
            self.cost_ns = call_cost_ns(self._tracefs, instance)
        restrict_to(instance, target, functions=True)
        self._choose(instance, "set_graph_function", self._patterns)
        self._choose(instance, "set_graph_notrace", self._excluded)
        self._choose(instance, "set_ftrace_filter", self._only)
        if self._depth:
            instance.write("max_graph_depth", str(min(self._depth, _DEEPEST)))
        self._start(instance)


class FunctionTracing(_Functions):
    """function: every call of some functions with its caller, or its stack; no durations."""

    tracer = "function"

    def __init__(
        self, tracefs: Tracefs, patterns: Sequence[str], *, excluded: Sequence[str] = (), stack: bool = False
    ) -> None:
        """Raises InsituError where the kernel has no such tracer, or no such function."""
        if self.tracer not in tracefs.tracers():
            raise InsituError("this kernel has no function tracer (CONFIG_FUNCTION_TRACER)")
        super().__init__(tracefs, patterns, excluded)
        self._stack = stack

    @property
    def events(self) -> Sequence[tuple[str, str]]:
        """Calls."""
        return [("ftrace", "function")]

    def set_up(self, instance: TraceInstance, target: Target) -> None:
        """Switch the tracer on. Raises InsituError, OSError."""
        restrict_to(instance, target, functions=True)
        self._choose(instance, "set_ftrace_filter", self._patterns)
        self._choose(instance, "set_ftrace_notrace", self._excluded)
        if self._stack:
            instance.write("options/func_stack_trace", "1")
        self._start(instance)


def _of_instances(tracefs: Tracefs, tracer: str) -> tuple[bool, bool]:
    """Whether instances have the tracer, and the lists of functions that it starts from."""
    with contextlib.closing(TraceInstance.create(tracefs)) as instance:
        try:
            found = tracer in instance.read("available_tracers").split()
            return found, all(map(instance.exists, GRAPH_LISTS))
        except OSError as error:
            raise InsituError(f"cannot read available_tracers: {os.strerror(error.errno or 0)}") from None
