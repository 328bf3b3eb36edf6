"""Which processes a script is about: what ``traced(process)`` tests, and a command's descendants for ready programs.

A script without traced() is restricted probe by probe to what happens in the process, or in it and its descendants.
One with it sees all events, and tests for the processes that these concern: what migrates, wakes up or gets a signal
is not what runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.probe import ast
    from insitu.probe.options import Options
    from insitu.probe.providers.base import Context
    from insitu.probe.source import Source, Span

__all__ = ["FOLLOWED", "finds_target", "follow", "target_of"]

FOLLOWED: Final = "@followed"
"""The map whose keys are the processes, where descendants are followed."""

_TEST = f"has_key({FOLLOWED}, pid)"

_CALL = re.compile(r"\btraced\(")
_OWN_PARAMETER = re.compile(r"\$1\b")

# A command is followed from its exec on: before, it is a copy of insitu. A process leaves when nothing refers to it
# any more, as it sends a signal to its parent when it has ended. CLONE_THREAD is 0x00010000.
_BEFORE = f"""
let {FOLLOWED} = hash(16384);
rawtracepoint:task_newtask /{_TEST} && !(args.clone_flags & 0x00010000)/ {{
	{FOLLOWED}[(uint32)args.task->tgid] = 1;
}}
"""
_FROM_EXEC = f"rawtracepoint:sched_process_exec /pid == cpid/ {{ {FOLLOWED}[pid] = 1; }}\n"
_FROM_BEGIN = f"BEGIN {{ {FOLLOWED}[(uint32)($1 ? $1 : cpid)] = 1; }}\n"
_AFTER = f"""
rawtracepoint:sched_process_free /args.p->pid == args.p->tgid/ {{
	delete({FOLLOWED}, (uint32)args.p->tgid);
}}
END {{ clear({FOLLOWED}); }}
"""


def finds_target(source: Source) -> bool:
    """Whether a script tests for the processes that it is about."""
    return _CALL.search(source.text) is not None


def target_of(source: Source, options: Options, context: Context) -> str:
    """What options.target is to be. Only ready programs follow descendants: others do as bpftrace does.

    The first parameter of a script that calls traced() is a process, unless the script itself uses it.

    :raises InsituError: for one that is not a number.
    """
    if context.runs_command and not context.whole_system:
        return "command" if source.built_in and source.scope != "process" else "process"
    if context.pid is not None:
        return "tree" if source.scope == "tree" else "process"
    if options.parameters and finds_target(source) and not _OWN_PARAMETER.search(source.text):
        if not options.parameters[0].isdecimal():
            what = f"{source.name} takes the number of a process, not {options.parameters[0]!r}"
            raise InsituError(what, remedy="after -- comes a command", status=2)
        return "tree" if source.scope == "tree" else "parameter"
    return ""


def follow(program: ast.Program, source: Source, options: Options) -> None:
    """Make a program see a process and its descendants only, in place."""
    from insitu.probe import ast
    from insitu.probe.bpftrace.expression_parser import ExpressionParser
    from insitu.probe.bpftrace.script_parser import parse
    from insitu.probe.providers import PROVIDERS
    from insitu.probe.source import Source, Span

    begin = _FROM_EXEC if options.target == "command" else _FROM_BEGIN
    before, after = (parse(Source(text, "target"), options.parameters) for text in (_BEFORE + begin, _AFTER))
    _set_spans([before.probes, before.maps, after.probes], Span(0, 0))
    if not finds_target(source):
        for probe in program.probes:
            if any(PROVIDERS[text.parts[0].lower()].traits.of_process for text in probe.attach_points):
                test = ExpressionParser(Source(_TEST, "target"), _TEST, {}, []).expression()
                _set_spans(test, probe.span)
                probe.predicate = ast.Binary(probe.span, "&&", test, probe.predicate) if probe.predicate else test
    # In front: what a process is started for has to know it.
    program.probes[:] = [*before.probes, *program.probes, *after.probes]
    program.maps += before.maps


def _set_spans(nodes: Any, span: Span) -> None:
    from insitu.probe import ast

    for node in ast.walk(nodes):
        node.span = span
