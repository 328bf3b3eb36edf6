"""The command line: find the command, run it, turn failures into one line and an exit status."""

import argparse
import importlib
import keyword
import os
import signal
import sys
from collections.abc import Sequence

from insitu import __version__
from insitu.commands import COMMANDS
from insitu.errors import InsituError

__all__ = ["command_parser", "full_parser", "main"]

# Commands that start users' programs, which must find the environment as it was.
_RUNS_PROGRAMS = ("profile", "trace", "lab")
_EXIT_INTERRUPTED = 128 + signal.SIGINT


def command_parser(name: str, parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The parser of one command, its options declared by the command's module.

    ``parser``, when given, is filled instead of a new one (for the parser of all commands).
    """
    module = importlib.import_module(f"insitu.commands.{name}{'_' if keyword.iskeyword(name) else ''}")
    if parser is None:
        parser = argparse.ArgumentParser(prog=f"insitu {name}", allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = module.__doc__
    module.arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def full_parser() -> argparse.ArgumentParser:
    """One parser that holds every command (imports every command module): for shell completion."""
    parser = argparse.ArgumentParser(prog="insitu")
    subparsers = parser.add_subparsers(dest="command")
    for name, line in COMMANDS.items():
        command_parser(name, subparsers.add_parser(name, help=line))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status is returned, and nothing is raised but SystemExit."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        return _flushed(_print_overview)
    if words[0] in ("-V", "--version"):
        print(f"insitu {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        return _complain(f"no command {name!r}{_nearest(name)}", "see insitu --help", status=2)
    return _flushed(lambda: _run(name, words[1:]))


def _run(name: str, words: list[str]) -> int:
    args = command_parser(name).parse_args(words)
    if name not in _RUNS_PROGRAMS:
        # numpy's linear algebra, which nothing here uses, would start a thread for each CPU.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        _keep_freed_memory()
    status: int = args.run(args)
    return status


def _keep_freed_memory() -> None:
    """Tell malloc to reuse the memory of arrays that were freed: the kernel would clear each page anew otherwise."""
    import ctypes

    mmap_threshold, trim_threshold = -3, -1  # <malloc.h>
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap_threshold, 1 << 25)  # the most that glibc takes
        mallopt(trim_threshold, 1 << 30)


def _flushed(action: "object") -> int:
    """Call ``action`` and flush its output here, where a closed pipe can still be handled."""
    assert callable(action)
    try:
        status = int(action() or 0)
        sys.stdout.flush()
    except InsituError as error:
        return _complain(super(InsituError, error).__str__(), error.remedy, status=error.status)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", "")
    return status


def _complain(message: str, remedy: str, status: int = 1) -> int:
    line = " ".join(f"insitu: {message}{f' ({remedy})' if remedy else ''}".split())
    print(line.encode(errors="backslashreplace").decode(), file=sys.stderr)
    return status


def _print_overview() -> int:
    width = max(map(len, COMMANDS))
    print("usage: insitu COMMAND [OPTIONS]\n\nSee inside a running Linux system.\n\ncommands:")
    for name, line in COMMANDS.items():
        print(f"  {name:<{width}}  {line}")
    print("\n'insitu COMMAND --help' explains a command, with examples.")
    return 0


def _nearest(name: str) -> str:
    import difflib

    matches = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
