"""The command line: find the command, run it, turn failures into one line and an exit status."""

import argparse
import errno
import importlib
import keyword
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import NoReturn

from insitu import __version__, limits, messages, terminal_text
from insitu.commands import COMMANDS, PEER_COMMANDS, Properties
from insitu.errors import InsituError, nearest
from insitu.native_calls import handled, second_signal_ends

__all__ = ["command_parser", "full_parser", "main"]

_EXIT_INTERRUPTED = 128 + signal.SIGINT

_IMPORT_POLL_S = 0.01
# What Python and numpy take of the address space before anything is read; numpy ends the process if it gets less.
_LEAST_BYTES = 256 << 20
_LEAST_FILES = 32  # that are open at a time; QEMU needs 29

# Every message would be looked for in catalogues of translations: argparse has none.
argparse._ = str  # type: ignore[attr-defined]

# argparse's message; Python 3.12 and newer leave the quotation marks out.
_INVALID_CHOICE = r"argument (.*): invalid choice: (.*) \(choose from (.*)\)"

_asked: list[int] = []  # signals that have asked this command to end


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal. (By default a formatter asks shutil: even to parse, every start would import it.)"""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_text.columns(sys.stdout) - 2)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    peer_options: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        _, unknown, words = message.partition("unrecognized arguments: ")
        if unknown:
            message = self._unknown(words.split(" ")[0])
        elif choice := re.fullmatch(_INVALID_CHOICE, message):
            message = f"{choice[1]}: {choice[2]} is not one of {choice[3].replace(chr(39), '')}"
        raise InsituError(message.removeprefix("argument "), remedy=f"see {self.prog} --help", status=2)

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"unexpected argument {word!r}"
        name = word.partition("=")[0]
        peer = self.peer_options.get(name, "")
        options = [option for option in self._option_string_actions if option.startswith("--")]
        prefixed = [option for option in options if option.startswith(name)] if len(name) > 3 else []
        hint = f"; {peer}" if peer else nearest(name, prefixed or options) if name.startswith("--") else ""
        return f"unknown option {name}{hint}"


def command_parser(name: str, parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The parser of one command, its options declared by the command's module.

    ``parser``, when given, is filled instead of a new one (for the parser of all commands).
    """
    module = _module(name)
    if parser is None:
        parser = _Parser(prog=f"insitu {name}", allow_abbrev=False, formatter_class=_Formatter)
        parser.peer_options = getattr(module, "PROPERTIES", Properties()).peer_options
    parser.formatter_class = _Formatter
    parser.description = module.__doc__
    module.arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def _module(name: str) -> ModuleType:
    if name not in COMMANDS:
        hint = f"; {PEER_COMMANDS[name]}" if name in PEER_COMMANDS else nearest(name, COMMANDS)
        raise InsituError(f"no command {name!r}{hint}", remedy="see insitu --help", status=2)
    return importlib.import_module(f"insitu.commands.{name}{'_' if keyword.iskeyword(name) else ''}")


def full_parser() -> argparse.ArgumentParser:
    """One parser that holds every command (imports every command module): for shell completion."""
    parser = argparse.ArgumentParser(prog="insitu")
    subparsers = parser.add_subparsers(dest="command")
    for name, line in COMMANDS.items():
        command_parser(name, subparsers.add_parser(name, help=line))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status is returned, and nothing is raised."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_missing_streams()
    terminal_text.prepare()
    try:
        with _signals():
            status = _flushed(lambda: _interruptible(words))
            messages.finish()
            return status
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except SystemExit as leaving:  # a signal at the very end
        return int(leaving.code or 0)


def _interruptible(words: list[str]) -> int:
    """Run the command line. Of a signal, C code (DuckDB) makes other exceptions: these exit as it does."""
    del _asked[:]
    try:
        return _run(words)
    except Exception:
        if _asked:
            raise SystemExit(128 + _asked[0]) from None
        raise


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        return _print_overview()
    if words[0] == "help":
        if len(words) == 1:
            return _print_overview()
        words = [*words[1:], "--help"]
    if {"-V", "--version"} & {words[0], *words[1:2]}:
        print(f"insitu {__version__}")
        return 0
    name, *words = words
    properties: Properties = getattr(_module(name), "PROPERTIES", Properties())
    args = _parsed(command_parser(name), words, properties)
    limits.refuse_little_memory(_LEAST_BYTES)
    limits.refuse_few_descriptors(_LEAST_FILES)
    if not properties.starts_programs:
        # numpy's linear algebra, which nothing here uses, would start a thread for each CPU.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        _keep_freed_memory()
        with second_signal_ends():
            return int(args.run(args))
    return int(args.run(args))


def _parsed(parser: argparse.ArgumentParser, words: list[str], properties: Properties) -> argparse.Namespace:
    after = None
    if properties.command_after_dashes and "--" in words:
        at = words.index("--")
        words, after = words[:at], words[at + 1 :]
    option = properties.program_option
    if option and option in words and "--" not in words:
        end = words.index(option) + 2
        if end <= len(words) and not words[end - 1].startswith("-"):
            words = [*words[:end], "--", *words[end:]]
    if properties.words_follow:
        args = parser.parse_args(words)
    else:
        ours = parser._option_string_actions
        for before, word in zip(["", *words], words, strict=False):  # first: what follows would be taken for a PID
            name = word.partition("=")[0]
            takes_it = before in ours and ours[before].nargs is None and re.fullmatch(r"-\d+", word)
            if name in properties.peer_options and name not in ours and not takes_it:
                parser.error(f"unrecognized arguments: {word}")
        args, left = parser.parse_known_args(words)
        foreign = [word for word in left if properties.foreign_options and word.startswith("--")]
        if left:  # options may stand between RUN and QUERY
            for word in foreign:
                words.remove(word)
            args = parser.parse_intermixed_args(words)
        args.foreign_options = foreign
    args.after_dashes = after
    return args


def _keep_freed_memory() -> None:
    """Tell malloc to reuse the memory of arrays that were freed: the kernel would clear each page anew otherwise."""
    import ctypes

    mmap_threshold, trim_threshold = -3, -1  # <malloc.h>
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap_threshold, 1 << 25)  # the most that glibc takes
        mallopt(trim_threshold, 1 << 30)


def _open_missing_streams() -> None:
    """Give standard streams that are closed (``>&-``) their descriptors back, before files take these numbers.

    Reading finds nothing; writing to standard output fails, as it should.
    """
    for fd, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, flags)
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            setattr(sys, name, os.fdopen(fd, "r" if fd == 0 else "w", closefd=False))


@contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end a command by an exception, so that temporary files go with it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        before = {
            number: signal.signal(number, _end)
            for number in numbers
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    except ValueError:  # not the main thread: signals are its business
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt for Ctrl-C, SystemExit for the others; during an import, when it is done.

    Inside of an import the exception could be lost, or become an ImportError: C code that runs then does both.
    """
    handled()
    if _is_importing(frame):
        signal.signal(signal.SIGALRM, lambda _, later: _send_again(number, later))
        signal.setitimer(signal.ITIMER_REAL, _IMPORT_POLL_S)
        return
    _asked.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _send_again(number: int, frame: FrameType | None) -> None:
    if _is_importing(frame):
        signal.setitimer(signal.ITIMER_REAL, _IMPORT_POLL_S)
    else:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # for whoever handles it by now


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _flushed(action: Callable[[], int]) -> int:
    """Call ``action`` and flush its output here, where a closed pipe or a full disk can still be handled."""
    try:
        try:
            status = action()
        except SystemExit as leaving:  # argparse after --help, or a signal
            status = int(leaving.code or 0)
        sys.stdout.flush()
    except InsituError as error:
        if error.rendered != str(error):  # with an excerpt; a line break in a file's name makes no lines
            messages.block(error.rendered)
        else:
            messages.error(error.message, limits.remedy(error.message) or error.remedy)
        return error.status
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted.
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        where = error.filename
        if where is None and error.errno in (errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EIO):
            where = "standard output"
            _drop_output()
        elif where is None and error.errno == errno.ENOENT:  # of os.getcwd(): others name a file
            where = "the current directory"
        text = f"{os.fsdecode(where)}: {error.strerror}" if where else str(error.strerror or error)
        messages.error(text, limits.remedy(text))
        return 1
    except BaseException as error:
        if not limits.is_out_of_memory(error):
            raise
        said = str(error) if isinstance(error, MemoryError) else ""
        text = f"out of memory: {said or 'the data does not fit in what this process may use'}"
    else:
        return status
    # Only here what the exception's frames held is free again, and the message has room.
    messages.error(text, limits.remedy(text))
    return 1


def _drop_output() -> None:
    """Without this Python would report standard output's error again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_overview() -> int:
    width = max(map(len, COMMANDS))
    print("usage: insitu COMMAND [OPTIONS]\n\nSee inside a running Linux system.\n\ncommands:")
    for name, line in COMMANDS.items():
        print(f"  {name:<{width}}  {line}")
    print("\n'insitu help COMMAND' explains a command, with examples.")
    return 0
