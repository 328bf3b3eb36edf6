"""insitu calls: kernel functions, by ftrace's function tracers."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from insitu import messages
from insitu.commands._options import command_words, json_option, limit_option, pids_asked_for, size
from insitu.errors import InsituError
from insitu.plurals import counted

if TYPE_CHECKING:
    from insitu.record.ftrace.functions import FunctionTracing, GraphTracing
    from insitu.record.run import Request
    from insitu.record.sources.trace_pages import TracePagesSource

__all__ = ["kernel_options", "run_kernel"]


def kernel_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that only kernel functions have."""
    group = parser.add_argument_group("kernel functions")
    group.add_argument(
        "-g", "--graph", action="append", default=[], metavar="FUNC", help="these functions, and all that they call"
    )
    group.add_argument("--count", action="append", default=[], metavar="FUNC", help="add these functions up instead")
    group.add_argument("--stack", action="store_true", help="with -f: the kernel's stack of each call")
    group.add_argument("--comm", metavar="NAME", help="trace running processes of this name")
    group.add_argument("-a", "--all", action="store_true", help="trace the whole machine")
    group.add_argument("-b", "--buffer", type=size, metavar="SIZE", help="buffer for each CPU (default 4M)")
    json_option(group, "a line of JSON for each call, or with --count one document")
    limit_option(parser, 30, "--count: rows")


def run_kernel(args: argparse.Namespace) -> int:
    """Trace; returns the exit status. Raises InsituError."""
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.run import Request
    from insitu.symbols import kallsyms

    command = tuple(command_words(args))
    request = Request(command, pids_asked_for(args), args.all, args.duration)
    request.check()
    if not kallsyms.are_shown():
        raise InsituError("the names of kernel functions are hidden from this user", remedy=kallsyms.remedy())
    tracefs = Tracefs.open()
    try:
        return _traced(args, request, _tracing(args, tracefs), tracefs)
    finally:
        tracefs.close()


def _tracing(args: argparse.Namespace, tracefs: Any) -> "GraphTracing | FunctionTracing":
    from insitu.record.ftrace.functions import FunctionTracing, GraphTracing

    if args.count and (args.graph or args.function):
        raise InsituError("--count cannot be combined with -g or -f", status=2)
    if args.count or args.graph:
        if args.stack:
            raise InsituError("--stack is for -f", status=2)
        only = args.count or args.function
        calibrates = bool(args.count or args.output)  # printed are durations as they were measured
        without = args.no_function
        return GraphTracing(tracefs, args.graph, only=only, excluded=without, depth=args.depth, calibrates=calibrates)
    if args.depth:
        raise InsituError("--depth is for -g", status=2)
    return FunctionTracing(tracefs, args.function, excluded=args.no_function, stack=args.stack)


def _traced(
    args: argparse.Namespace, request: "Request", tracing: "GraphTracing | FunctionTracing", tracefs: Any
) -> int:
    from insitu.record.sources.trace_pages import TracePagesSource

    source = TracePagesSource(tracing, buffer_kb=(args.buffer or 0) >> 10, tracefs=tracefs)
    if args.output is not None:
        return _recorded(args, request, source, "span" if tracing.tracer == "function_graph" else "event.function")
    from insitu.commands._text_destination import TextDestination
    from insitu.record.run import run

    sink = _sink(args, source, tracing.tracer)
    source.see = sink.add
    destination = TextDestination()
    if args.count:
        destination.when_attached = lambda: sink.charge(*tracing.options["call_cost_ns"])
    outcome = run(request, [source], destination)
    sink.finish()
    if args.count:
        _print_count(args, sink)
    if outcome.lost and not args.quiet:
        messages.warning(f"{counted(outcome.lost, 'record')} lost: calls are missing; -b takes a larger buffer")
    return outcome.exit_status or int(bool(outcome.failure))


def _recorded(args: argparse.Namespace, request: "Request", source: "TracePagesSource", table: str) -> int:
    from pathlib import Path

    from insitu.commands._output import recorded, status_of
    from insitu.record.sources.processes import ProcessesSource

    outcome, manifest = recorded(
        request, [source, ProcessesSource()], Path(args.output), quiet=args.quiet, default_table=table
    )
    if manifest and not args.quiet:
        rows = manifest.tables.get(table, {"rows": 0})["rows"]
        messages.note(f"{counted(rows, 'call')}, {counted(manifest.lost, 'record')} lost, in {args.output}")
    return status_of(outcome, manifest)


def _sink(args: argparse.Namespace, source: "TracePagesSource", tracer: str) -> Any:
    """What takes a source's pages."""
    from insitu.commands._live_names import thread_names
    from insitu.convert.trace_events import described
    from insitu.symbols.symbolizer import Symbolizer
    from insitu.views.calls.live import CallCollector, CallPrinter, FunctionPrinter, PageReader

    symbols = Symbolizer(live=True)

    def frames(addresses: Any) -> Any:
        return [found[-1] for found in symbols.kernel(addresses)]

    pages = PageReader(*described(source.layout()), frames)
    if args.count:
        return CallCollector(pages)
    printer = CallPrinter if tracer == "function_graph" else FunctionPrinter
    return printer(pages, sys.stdout, thread_names(source.tracefs), as_json=args.json)


def _print_count(args: argparse.Namespace, sink: Any) -> None:
    from insitu.views.calls.functions import function_calls
    from insitu.views.calls.text import functions_json, functions_table
    from insitu.views.terminal import Screen

    rows = function_calls(sink.table())
    if args.json:
        print(functions_json(rows, args.limit))
    else:
        Screen.of(sys.stdout).write(functions_table(rows, args.limit))
