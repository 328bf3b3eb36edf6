"""insitu calls --user: functions of a program, or the library functions that it calls."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from insitu import messages
from insitu.commands._options import command_words, pids_asked_for
from insitu.errors import InsituError
from insitu.plurals import counted

if TYPE_CHECKING:
    from insitu.record.run import Request
    from insitu.record.user_functions import Traced

__all__ = ["run_user", "user_options"]

_MANY: Final = 1000


def user_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that only user functions have."""
    group = parser.add_argument_group("user functions")
    group.add_argument(
        "--user", nargs="?", const="", metavar="PROGRAM", help="trace functions of this program, and run it"
    )
    group.add_argument("--library", action="store_true", help="instead, calls of libraries through its PLT")
    group.add_argument("--with-library", action="store_true", help="calls of libraries too")
    group.add_argument("--binary", metavar="FILE", help="trace functions of this file; the command is another")
    group.add_argument("-c", "--summary", action="store_true", help="as --count with all functions that are traced")


def run_user(args: argparse.Namespace) -> int:
    """Trace; returns the exit status. Raises InsituError."""
    from insitu.foreign_files import open_kernel_link
    from insitu.record.run import Request
    from insitu.record.user_functions import traced_functions
    from insitu.symbols.elf import Elf
    from insitu.symbols.elf_layout import ELF64
    from insitu.symbols.registers import machine_called

    for option, given in (("-g", args.graph), ("-a", args.all), ("--stack", args.stack)):
        if given:
            raise InsituError(f"{option} is for kernel functions, not for --user", status=2)
    words = command_words(args)
    command = [args.user, *words] if args.user else words
    pids = pids_asked_for(args)
    if pids and args.user and not words:
        args.binary, command = args.binary or args.user, []
    request = Request(tuple(command), pids, seconds=args.duration)
    request.check()
    path = _program(args, request)
    try:
        elf = Elf(open_kernel_link(path), path)  # the path may be /proc/PID/exe
    except OSError as error:
        raise InsituError(f"cannot open {path}: {error.strerror}") from None
    except InsituError as error:
        raise InsituError(error.message, remedy="--binary FILE names the program that runs it") from None
    if elf.layout is not ELF64 or elf.machine != machine_called(os.uname().machine).e_machine:
        raise InsituError(f"{path} is not a 64-bit program of this machine: only such programs' functions are traced")
    args.summary |= bool(args.count)
    if args.json and not args.summary:
        raise InsituError(
            "--json prints what calls of user functions add up to: not without -c or --count",
            remedy="-o RUN.insitu keeps each call, and insitu sql --json prints them",
            status=2,
        )
    arguments = not args.summary or args.output is not None
    patterns = [*args.function, *args.count]
    traced = traced_functions(
        elf,
        patterns,
        args.no_function,
        own=args.with_library or not args.library,
        library=args.with_library or args.library,
        arguments=arguments,
    )
    if len(traced.functions) > _MANY and not args.quiet:
        messages.note(f"attaching to {counted(len(traced.functions), 'function')}; -f and -n choose fewer")
    if args.output is not None:
        return _recorded(args, request, path, traced)
    return _shown(args, request, path, traced)


def _program(args: argparse.Namespace, request: "Request") -> str:
    """The file whose functions are traced, as an absolute path."""
    if args.binary:
        return str(os.path.abspath(args.binary))  # noqa: PTH100
    if request.command:
        from insitu.record.launcher import executable

        return os.path.realpath(executable(request.command))
    from insitu.kernel.ptrace_refusal import all_ended, none_left

    link = f"/proc/{request.pids[0]}/exe"
    try:
        path, running = os.readlink(link), os.stat(link)  # noqa: PTH115, PTH116
    except OSError as error:
        if none_left(request.pids[:1]):
            raise all_ended(request.pids[:1]) from None
        raise InsituError(f"process {request.pids[0]}: {error.strerror}", remedy="ps -e lists processes") from None
    try:
        found = os.stat(path)  # noqa: PTH116
        is_same = (found.st_dev, found.st_ino) == (running.st_dev, running.st_ino)
    except OSError:
        is_same = False
    return path if is_same else link  # deleted or replaced since, or in a container


def _recorded(args: argparse.Namespace, request: "Request", path: str, traced: "Traced") -> int:
    from pathlib import Path

    from insitu.commands._output import recorded, status_of
    from insitu.record.sources.processes import ProcessesSource
    from insitu.record.sources.user_calls import UserCallsSource

    source = UserCallsSource(path, traced)
    outcome, manifest = recorded(
        request, [ProcessesSource(), source], Path(args.output), quiet=args.quiet, default_table="span"
    )
    if manifest and not args.quiet:
        calls = manifest.tables["span"]["rows"]
        messages.note(f"{counted(calls, 'call')}, {manifest.lost} lost, in {args.output}")
    return status_of(outcome, manifest)


def _shown(args: argparse.Namespace, request: "Request", path: str, traced: "Traced") -> int:
    """Print calls, or with -c what they add up to, to standard error."""
    import time

    from insitu.commands._output import ended
    from insitu.commands._text_destination import standard_error
    from insitu.convert.user_calls import UserCalls, call_table
    from insitu.probe.runtime.event_decode import EventDecoder
    from insitu.record.run import run
    from insitu.record.sources.user_calls import UserCallsSource
    from insitu.views.calls.functions import function_calls
    from insitu.views.calls.text import functions_json, functions_table
    from insitu.views.calls.user_lines import UserCallLines
    from insitu.views.terminal import Screen

    functions = [(each.name, each.prototype) for each in traced.functions]
    decoders: list[EventDecoder] = []

    def deliver(data: bytes) -> None:
        if not decoders:
            decoders.append(EventDecoder(source.layout()))
        sink.add(decoders[0].decode(data).tables)

    source = UserCallsSource(path, traced, deliver=deliver)
    sink: Any
    with standard_error() as destination:
        if args.summary:
            sink = UserCalls()
        else:
            sink = UserCallLines(
                functions,
                lambda text: destination.stream.write(text.encode("utf-8", "backslashreplace")),
                depth=args.depth,
            )
            destination.when_attached = sink.begin
        outcome = run(request, [source], destination)
        end_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if args.summary:
            found = sink.joined(end_ns)
            rows = function_calls(call_table(found.calls, [name for name, _ in functions]))
            if args.json:
                print(functions_json(rows, args.limit))
            else:
                Screen.of(sys.stderr).write(functions_table(rows, args.limit))
            calls = len(rows)
        else:
            sink.finish(end_ns)
            calls = sink.calls
    if not calls and not args.quiet:
        advice = "" if args.library or args.with_library else "; --library traces the functions of libraries"
        messages.note(f"no call of {counted(len(functions), 'function')} that {path} has symbols of{advice}")
    return ended(outcome, "records lost: calls are missing", quiet=args.quiet)
