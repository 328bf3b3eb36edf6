"""Options that commands share, declared once: a letter means the same everywhere.

``-o`` output, ``-p PID[,PID]`` processes, ``-n NAME`` threads or processes by name, ``-a`` the whole machine, ``-d``
duration, ``-e`` event (or expression), ``-F`` frequency, ``-f`` format, ``-q`` quiet, ``-v`` verbose, ``--json``.

Of an option that is given twice the last value counts, as an alias needs it; of processes (``-p 1 -p 2``) all do.

The converters are for argparse's ``type=``: they raise ArgumentTypeError, which ends as one line and status 2.
"""

import argparse
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from insitu.errors import InsituError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from insitu.convert.formats.registry import ImportOptions
    from insitu.session.weighted_stacks import Selection, Value, WeightedStacks

__all__ = [
    "DEFAULT_RUNS",
    "Gather",
    "address",
    "addresses_option",
    "chosen_run",
    "command_words",
    "count",
    "duration",
    "duration_option",
    "format_option",
    "frequency",
    "import_options",
    "json_option",
    "limit_option",
    "output_option",
    "pages",
    "percent",
    "perf_data_options",
    "pid_list",
    "pids_asked_for",
    "pids_named",
    "pixels",
    "positive",
    "process_options",
    "quiet_option",
    "range_option",
    "recording_target_options",
    "require_session_name",
    "require_stacks",
    "run_argument",
    "selection",
    "selection_options",
    "size",
    "unit_option",
    "unit_value",
]

# What recorders write where -o is not given; a view without RUN opens the newest of these.
DEFAULT_RUNS = ("profile.insitu", "why.insitu", "trace.insitu", "qemu.insitu")

_MAX_ADDRESS = (1 << 64) - 1
_MAX_COUNT = (1 << 63) - 1
_MAX_PID = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h
_MAX_HERTZ = 10**9  # beyond it two samples would have the same time stamp
_MAX_PAGES = 1 << 30
_MAX_SECONDS = 10**9
_NUMBER = r"([0-9]{0,18}\.?[0-9]{1,18})([A-Za-z]*)"
_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30}


# Converters


def count(text: str) -> int:
    """A number of things: 0 or more."""
    return _integer(text, 0, _MAX_COUNT)


def positive(text: str) -> int:
    """A number of things: 1 or more."""
    return _integer(text, 1, _MAX_COUNT)


def address(text: str) -> int:
    """An address in hexadecimal, with or without 0x."""
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not 0 <= value <= _MAX_ADDRESS:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address in hexadecimal")
    return value


def frequency(text: str) -> int:
    """Hertz: 1 to 10^9."""
    return _integer(text, 1, _MAX_HERTZ)


def pages(text: str) -> int:
    """Pages of a ring buffer: a power of two."""
    number = _integer(text, 1, _MAX_PAGES)
    if number & (number - 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a power of two")
    return number


def percent(text: str) -> float:
    """A share of all, from 0 to 100."""
    number = _decimal(text.removesuffix("%"), {"": 1.0})
    if number is None or number > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return number


def pixels(text: str) -> float:
    """A width in a picture: 0.1 to 100 pixels."""
    number = _decimal(text, {"": 1.0, "px": 1.0})
    if number is None or not 0.1 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width from 0.1 to 100 pixels")
    return number


def duration(text: str) -> float:
    """Seconds, more than 0; a unit may follow: us, ms, s, m, h."""
    number = _decimal(text, _SECONDS)
    if number is None or not 0 < number <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 10, 2.5 or 500ms")
    return number


def size(text: str) -> int:
    """Bytes, more than 0; K, M or G may follow (powers of 1024)."""
    number = _decimal(text, {unit: float(1 << shift) for unit, shift in _BYTES.items()})
    if number is None or not 1 <= number <= _MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4096, 512K or 2G")
    return int(number)


def pid_list(text: str) -> tuple[int, ...]:
    """Process ids with commas or blanks between them, as pidof(1) prints them."""
    words = re.split(r",|[ \n]+", text)
    if not all(word.isascii() and word.isdecimal() and len(word) < 9 and 0 < int(word) <= _MAX_PID for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id, or several with commas between them")
    return tuple(dict.fromkeys(map(int, words)))


def _integer(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal()):
        negative = text[:1] == "-" and text[1:].isdecimal()
        what = f"must be at least {low}, not {text}" if negative else f"{text!r} is not a whole number"
        raise argparse.ArgumentTypeError(what)
    number = int(text) if len(text) < 20 else high + 1
    if number < low:
        raise argparse.ArgumentTypeError(f"must be at least {low}, not {text}")
    if number > high:
        raise argparse.ArgumentTypeError(f"must be at most {high}, not {text}")
    return number


def _decimal(text: str, units: dict[str, float]) -> float | None:
    """A number without sign and its unit, as a multiple of the unit ""; None for anything else (nan, inf)."""
    match = re.fullmatch(_NUMBER, text)
    if not match or match[2].lower() not in units:
        return None
    return float(match[1]) * units[match[2].lower()]


class Gather(argparse.Action):
    """Puts the tuples of all times that an option is given together, each element once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, tuple(dict.fromkeys((*(getattr(namespace, self.dest) or ()), *values))))


def require_stacks(path: "str | Path", stacks: "WeightedStacks") -> None:
    """Raise InsituError for a recording without any stack, of which a graph would be empty."""
    if not stacks.frames and stacks.total_count:
        raise InsituError(f"{path}: no stacks were recorded", remedy=f"insitu report {path} shows what there is")


# Groups of options


def output_option(
    parser: argparse.ArgumentParser, help: str, *, metavar: str = "FILE", default: str | None = None
) -> None:
    """``-o``: where the result goes."""
    parser.add_argument("-o", "--output", metavar=metavar, default=default, help=help)


def json_option(parser: argparse._ActionsContainer, help: str = "write one JSON document instead") -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help=help)


def quiet_option(parser: argparse.ArgumentParser, help: str = "print nothing but errors") -> None:
    """``-q``."""
    parser.add_argument("-q", "--quiet", action="store_true", help=help)


def duration_option(parser: argparse._ActionsContainer, help: str = "stop after this time") -> None:
    """``-d``: seconds, as a float in ``args.duration``."""
    parser.add_argument("-d", "--duration", type=duration, metavar="SECONDS", help=help)


def format_option(
    parser: argparse.ArgumentParser, choices: Sequence[str], help: str, *, default: str | None = None
) -> None:
    """``-f``: one of several formats."""
    parser.add_argument("-f", "--format", choices=choices, default=default, help=help)


def limit_option(parser: argparse.ArgumentParser, default: int, what: str = "rows of a table") -> None:
    """``--limit``: 0 for all."""
    parser.add_argument(
        "--limit", type=count, default=default, metavar="N", help=f"{what}, 0 for all (default %(default)s)"
    )


def recording_target_options(
    parser: argparse.ArgumentParser, verb: str, *, whole_system: str = "", one: bool = False
) -> None:
    """What to record besides a command: ``args.pid`` (a tuple of ids, or None), ``args.comm``, ``args.all``.

    ``whole_system`` is the help of ``-a``, where that of the others does not fit; ``one``: only one process is taken.
    """
    what, metavar = ("running process", "PID") if one else ("running processes", "PID[,PID]")
    group = parser.add_argument_group("target")
    pids = f"{verb} {'a ' * one}{what}"
    group.add_argument("-p", "--pid", type=pid_list, action=Gather, metavar=metavar, help=pids)
    group.add_argument("-n", "--comm", metavar="NAME", help=f"{verb} the {what} of this name")
    group.add_argument("-a", "--all", action="store_true", help=whole_system or f"{verb} the whole machine")


def command_words(args: argparse.Namespace) -> list[str]:
    """The words of ``args.command``, without the "--" before them, which argparse.REMAINDER keeps."""
    return list(args.command[1:] if args.command[:1] == ["--"] else args.command)


def require_session_name(output: str | None, remedy: str = "") -> None:
    """Raise InsituError if ``-o`` is given and is not the name of a session."""
    if output and not output.endswith(".insitu"):
        raise InsituError(f"-o {output}: a session's name ends in .insitu", remedy=remedy, status=2)


def run_argument(parser: argparse.ArgumentParser, help: str = "session, perf.data or folded stacks") -> None:
    """RUN: the recording to look at, ``args.run_path``; see chosen_run() for what None means."""
    default = f"default: the newest of {', '.join(DEFAULT_RUNS)} here"
    parser.add_argument("run_path", nargs="?", metavar="RUN", help=f"{help} ({default})")


def selection_options(parser: argparse.ArgumentParser, *, thread: bool = True) -> None:
    """Which rows: ``args.table``, ``args.event``, ``args.comm`` and, with ``thread``, ``args.thread``."""
    group = parser.add_argument_group("selection")
    group.add_argument("--table", metavar="NAME", help="which table with stacks (default: sample, else the first)")
    group.add_argument("-e", "--event", metavar="NAME", help="which event (default: the first recorded)")
    group.add_argument("-n", "--comm", metavar="NAME", help="only threads of this name")
    if thread:
        group.add_argument("--thread", type=count, metavar="TID", help="only this thread")


def range_option(parser: argparse.ArgumentParser) -> None:
    """``--range``, which selection() takes: ``args.range``."""
    parser.add_argument("--range", metavar="FROM-TO", help="only these seconds since the first sample, such as 2.5-4")


def unit_option(parser: argparse.ArgumentParser, what: str = "what is added up") -> None:
    """``--unit``: what a sample counts for, ``args.unit``."""
    parser.add_argument(
        "--unit", choices=("samples", "time", "bytes", "events"), help=f"{what} (default: what suits the rows)"
    )


def addresses_option(parser: argparse.ArgumentParser) -> None:
    """``--addresses``, of views of functions."""
    parser.add_argument(
        "--addresses", action="store_true", help="show unknown functions by address (default: added up as [module])"
    )


def perf_data_options(parser: argparse.ArgumentParser) -> None:
    """``--as-perf`` and ``--symfs``, for perf.data: see import_options()."""
    group = parser.add_argument_group("perf.data")
    group.add_argument("--as-perf", action="store_true", help="resolve return addresses unadjusted, like perf script")
    group.add_argument("--symfs", metavar="DIR", help="look for the binaries of the recorded machine in DIR first")


def import_options(args: argparse.Namespace) -> "ImportOptions":
    """What perf_data_options() asks for. Raises InsituError (status 2) unless --symfs is a directory."""
    from pathlib import Path

    from insitu.convert.formats.registry import ImportOptions

    symfs = Path(args.symfs).absolute() if args.symfs is not None else None
    if symfs is not None and not symfs.is_dir():
        raise InsituError(f"--symfs {args.symfs}: not a directory", status=2)
    return ImportOptions(as_perf=args.as_perf, symfs=symfs)


# What they mean for a recording, and on this machine


def unit_value(stacks: "WeightedStacks", unit: str | None) -> "Value":
    """What --unit asks to add up in ``stacks``. Raises InsituError (status 2) for a unit that their rows lack."""
    if unit is None:
        return stacks.preferred
    has = {"ns": "time", "bytes": "bytes", "samples": "samples"}.get(stacks.unit, "events")
    if unit == has:
        return "weight"
    if unit in ("samples", stacks.counted):
        return "count"
    what = stacks.event or stacks.table
    raise InsituError(f"--unit {unit}: {what} counts {stacks.unit}", remedy=f"--unit {has}", status=2)


def selection(args: argparse.Namespace) -> "Selection":
    """What the options of ``selection_options`` and ``range_option`` ask for."""
    from insitu.session.weighted_stacks import Selection
    from insitu.views.time_range import time_range

    start, end = time_range(args.range) if getattr(args, "range", None) else (None, None)
    return Selection(
        table=args.table or "",
        event=args.event or "",
        tid=getattr(args, "thread", None),
        comm=args.comm,
        start_s=start,
        end_s=end,
    )


def chosen_run(given: str | None, names: Sequence[str] = DEFAULT_RUNS) -> str:
    """RUN as it was given, else the newest session of a default name in this directory, which a message names.

    Raises InsituError (status 2) when there is none.
    """
    if given is not None:
        return given
    found = []
    for name in names:
        try:
            found.append((os.stat(f"{name}/session.json").st_mtime_ns, name))  # noqa: PTH116 - --help imports this
        except OSError:
            continue
    if not found:
        listed = f"{', '.join(names[:-1])} or {names[-1]}"
        raise InsituError(
            f"no RUN given, and this directory has no {listed}",
            remedy="name a recording, or make one: insitu profile -- COMMAND",
            status=2,
        )
    from insitu import messages

    name = max(found)[1]
    messages.note(f"opening {name}")
    return name


def process_options(parser: argparse.ArgumentParser) -> None:
    """Which running processes to look at, for pids_asked_for(): ``args.pids``, ``args.pid`` and ``args.comm``."""
    parser.add_argument("pids", nargs="*", type=pid_list, metavar="PID", help="processes")
    parser.add_argument("-p", "--pid", type=pid_list, action=Gather, metavar="PID[,PID]", help="the same")
    parser.add_argument("-n", "--comm", metavar="NAME", help="the processes of this name")


def pids_asked_for(args: argparse.Namespace, words: "Iterable[tuple[int, ...]]" = ()) -> tuple[int, ...]:
    """The processes that ``words``, -p and -n name, each once; see recording_target_options(). Raises InsituError."""
    found = [pid for each in (*words, args.pid or ()) for pid in each]
    if args.comm is not None:
        found += pids_named(args.comm)
    return tuple(dict.fromkeys(found))


def pids_named(name: str) -> tuple[int, ...]:
    """The running processes whose name (``comm``) is this one. Raises InsituError when none is."""
    from insitu.kernel import procfs

    if not name:
        raise InsituError("-n: the name is empty", status=2)
    wanted = os.fsencode(name)[:15]  # TASK_COMM_LEN - 1, include/linux/sched.h
    found = []
    for pid in procfs.pids():
        try:
            if procfs.comm(pid) == wanted and pid != os.getpid():
                found.append(pid)
        except OSError:
            continue  # it has ended since it was listed
    if not found:
        raise InsituError(f"no process is named {name!r}", remedy="ps -eo pid,comm lists them", status=2)
    return tuple(found)
