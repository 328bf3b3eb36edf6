"""How much of files is in the page cache, where in each file, on which NUMA node, and who maps it; change that.

Of a file, a block device or a directory with all below it, each file once. Only --touch reads files.
Of other users' files that one may not write, the kernel says nothing.

examples:
  insitu cache data.db                   a file: how much, and where in it
  insitu cache /var/lib/postgresql       a tree: sums, and the files with the most pages
  insitu cache --top                     the machine's file systems
  insitu cache --evict big.iso           write what is dirty, and drop it from the cache
  insitu cache --touch -i '*.log' www    read a tree into it, but no logs
  insitu cache --lock index.bin          keep it in memory until Ctrl-C
  insitu cache --watch data.db           what comes and goes, each second: does a scan use the cache up?
"""

import argparse
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from insitu import messages
from insitu.commands import Properties
from insitu.commands._options import (
    count,
    duration,
    duration_option,
    json_option,
    limit_option,
    output_option,
    quiet_option,
    require_session_name,
    size,
)
from insitu.errors import InsituError
from insitu.plurals import plural
from insitu.views import quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from insitu.inspect.cache_tables import Look
    from insitu.inspect.page_cache import FileCache, Segment, Selection, Walk

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    peer_options={
        "-t": "--touch reads files into the page cache",
        "-e": "--evict drops files from the page cache",
        "-l": "--lock keeps files in memory",
        "-L": "--lock keeps files in memory until Ctrl-C",
        "-f": "--follow follows symbolic links below a directory",
        "-F": "-x stays on one file system",
        "-p": "--range FIRST-END",
        "-b": "xargs -0 insitu cache < FILE",
        "-w": "--lock says when all is in memory, and stays",
        "-J": "--json",
        "-m": "--max-size SIZE",
    }
)
_SORTS = ("cached", "size", "dirty", "evicted", "path")
_MOST_WATCHED = 1000  # files, which are opened each time
_MOST_ASKED = 5  # files of which it is said who maps them
_PROGRESS_FILES = 5000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="*", metavar="PATH", help="files, directories, block devices")
    parser.add_argument(
        "--top", action="store_true", help="all file systems on disks and in memory, instead of paths"
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--touch", action="store_true", help="read the files into the page cache")
    actions.add_argument(
        "--evict", action="store_true", help="write what is dirty, and drop the files from the cache"
    )
    actions.add_argument("--lock", action="store_true", help="keep the files in memory until Ctrl-C (mlock)")
    actions.add_argument(
        "--watch", action="store_true", help="what comes and goes, each --interval, until Ctrl-C or -d"
    )
    parser.add_argument("--interval", type=duration, default=1.0, metavar="SECONDS", help="of --watch (default 1)")
    duration_option(parser, "how long to watch, or to lock")
    parser.add_argument(
        "--segments", type=count, default=10, metavar="N", help="parts of a file; 0: none (default 10)"
    )
    parser.add_argument("--numa", action="store_true", help="on which NUMA node the pages of each part are")
    parser.add_argument("--sort", choices=_SORTS, default="cached", help="order of the files (default %(default)s)")
    parser.add_argument("--range", metavar="FIRST-END", help="only these bytes of each file: 0-64M, 1G-")
    parser.add_argument("-i", "--ignore", action="append", metavar="GLOB", default=[], help="leave out these names")
    parser.add_argument("-I", "--only", action="append", metavar="GLOB", default=[], help="only files of these names")
    parser.add_argument("--max-size", type=size, metavar="SIZE", default=0, help="leave out larger files")
    parser.add_argument("--follow", action="store_true", help="follow symbolic links below directories, too")
    parser.add_argument("-x", "--one-file-system", action="store_true", help="stay on the file system of each PATH")
    limit_option(parser, 20, "files that are listed")
    json_option(parser)
    output_option(parser, "keep a session: the tables cached_file and cached_range", metavar="RUN.insitu")
    quiet_option(parser, "no progress and notes")


def run(args: argparse.Namespace) -> int:
    from insitu.inspect.page_cache import Walk, file_systems

    if bool(args.path) == args.top:
        what = "--top takes no paths" if args.top else "nothing to look at"
        raise InsituError(what, remedy="insitu cache PATH..., or insitu cache --top", status=2)
    require_session_name(args.output)
    if args.duration and not (args.watch or args.lock):
        raise InsituError("-d is for --watch and --lock", status=2)
    if args.json and args.watch:
        raise InsituError("--watch writes lines, no JSON", remedy="-o RUN.insitu keeps each look", status=2)
    selection = _selection(args)
    paths = file_systems() if args.top else args.path
    walk = Walk(selection) if args.quiet else Walk(selection, _Progress())
    if args.watch:
        return _watch(args, _files(walk, paths, _MOST_WATCHED))
    if args.lock:
        return _lock(args, _files(walk, paths))
    if args.touch or args.evict:
        failed = _change(args, _files(walk, paths), selection)
        return _show(args, Walk(selection), paths, selection) or failed
    return _show(args, walk, paths, selection)


def _selection(args: argparse.Namespace) -> "Selection":
    from insitu.inspect.page_cache import Selection

    first, end = 0, 0
    if args.range:
        words = args.range.split("-")
        try:
            if len(words) != 2 or not any(words):
                raise ValueError
            first, end = (size(word) if word.strip("0") else 0 for word in words)
            if end and end <= first:
                raise ValueError
        except (ValueError, argparse.ArgumentTypeError):
            raise InsituError(f"--range {args.range}: not a range such as 0-64M or 1G-", status=2) from None
    return Selection(
        follow=args.follow,
        one_file_system=args.one_file_system or args.top,
        ignore=tuple(args.ignore),
        only=tuple(args.only),
        most_bytes=args.max_size,
        first=first,
        end=end,
    )


class _Progress:
    """Says every few thousand files how far the walk is."""

    def __init__(self) -> None:
        self._said = 0

    def __call__(self, files: int, path: str) -> None:
        if files - self._said >= _PROGRESS_FILES:
            self._said = files
            messages.progress(f"{files:,} files; {path}")


def _files(walk: "Walk", paths: list[str], most: int = 0) -> "list[FileCache]":
    """All files. Raises InsituError for none, or more than ``most``."""
    found = list(walk.files(paths))
    messages.progress("")
    for path, why in (walk.totals.failed + walk.totals.unknown)[:3]:
        messages.warning(f"{path}: {why}")
    if not found:
        raise InsituError("there is no file that can be looked at")
    if most and len(found) > most:
        raise InsituError(f"--watch looks at {most:,} files at most, not {len(found):,}", remedy="give fewer paths")
    return found


def _show(args: argparse.Namespace, walk: "Walk", paths: list[str], selection: "Selection") -> int:
    import heapq

    from insitu.inspect.page_cache import mapped_by, segments
    from insitu.views import cache as view
    from insitu.views.terminal import Screen

    order = _ORDERS[args.sort]
    files = walk.files(paths)
    listed = heapq.nsmallest(args.limit, files, order) if args.limit else sorted(files, key=order)
    messages.progress("")
    parts: dict[str, list[Segment]] = {}
    for file in listed if args.segments else ():
        try:
            parts[file.path] = segments(file, args.segments, selection, numa=args.numa)
        except OSError as error:
            messages.warning(f"{file.path}: {error.strerror}")
    mappings = mapped_by(listed) if len(listed) <= _MOST_ASKED else {}
    if args.output:
        _save(args, [(time.clock_gettime_ns(time.CLOCK_MONOTONIC), listed, parts)])
    if args.json:
        from insitu.valid_text import json_document

        print(json_document(view.document(walk.totals, listed, parts, mappings)))
    else:
        Screen.of(sys.stdout).write(view.blocks(walk.totals, listed, parts, mappings))
    return 0 if walk.totals.files else 1


_ORDERS: "dict[str, Callable[[FileCache], Any]]" = {
    "cached": lambda file: (-file.counts.cached, file.path),
    "size": lambda file: (-file.size, file.path),
    "dirty": lambda file: (-(file.counts.dirty or 0), file.path),
    "evicted": lambda file: (-(file.counts.evicted or 0), file.path),
    "path": lambda file: file.path,
}


def _change(args: argparse.Namespace, files: "list[FileCache]", selection: "Selection") -> int:
    """Touch or evict the files; returns the exit status."""
    from insitu.inspect.cache_actions import evict, touch
    from insitu.inspect.page_cache import mapped_by

    done, failed = 0, 0
    whole = sum(file.size for file in files)

    def progress(size: int) -> None:
        nonlocal done
        done += size
        messages.progress(f"{quantity.size(done)} of {quantity.size(whole)}")

    for file in files:
        try:
            if args.touch:
                touch(file, selection, (lambda size: None) if args.quiet else progress)
            else:
                evict(file, selection)
        except OSError as error:
            failed += 1
            messages.warning(f"{file.path}: {error.strerror}")
    messages.progress("")
    if args.evict and not args.quiet and (mapped := mapped_by(files)):
        path, who = next(iter(mapped.items()))
        messages.note(f"{path} is mapped by {who[0].name}/{who[0].pid}: the kernel keeps what processes map")
    return int(bool(failed))


def _lock(args: argparse.Namespace, files: "list[FileCache]") -> int:
    """Keep the files in memory, for the time that was asked for or until a signal."""
    from insitu.inspect.cache_actions import lock

    with lock(files) as total:
        if not args.quiet:
            until = f"for {args.duration:g} s" if args.duration else "until Ctrl-C"
            messages.note(f"{quantity.size(total)} locked in memory {until}")
        _sleep(args.duration)
    return 0


def _sleep(seconds: float | None) -> bool:
    """Wait for so long, or for ever; whether nobody ended it by Ctrl-C."""
    try:
        time.sleep(seconds) if seconds is not None else threading.Event().wait()
    except KeyboardInterrupt:
        return False
    return True


def _watch(args: argparse.Namespace, files: "list[FileCache]") -> int:
    from insitu.inspect import cache_flow
    from insitu.views import cache as view
    from insitu.views.terminal import Screen

    screen = Screen.of(sys.stdout)
    start = time.monotonic()
    last = cache_flow.look(files)
    looks = [(time.clock_gettime_ns(time.CLOCK_MONOTONIC), last)]
    total = cache_flow.Flow(0, 0, 0)
    screen.write([view.flow_title()])
    goes_on = True
    while goes_on:
        left = start + args.duration - time.monotonic() if args.duration else args.interval
        goes_on = _sleep(max(0.0, min(args.interval, left))) and not (args.duration and left <= args.interval)
        now = cache_flow.look(files)
        change = cache_flow.flow(last, now)
        total = total.plus(change)
        screen.write([view.flow_line(time.monotonic() - start, now, change)])
        sys.stdout.flush()
        looks.append((time.clock_gettime_ns(time.CLOCK_MONOTONIC), now))
        last = now
    screen.write(view.flow_verdict(files, last, total))
    if args.output:
        _save(args, [(ts, cache_flow.counted(files, each), each.parts) for ts, each in looks])
    return 0


def _save(args: argparse.Namespace, looks: "list[Look]") -> None:
    from pathlib import Path

    from insitu.commands._output import Displaced
    from insitu.inspect.cache_tables import save

    displaced = Displaced(args.output)
    rows = save(Path(args.output), looks)
    if not args.quiet:
        displaced.report()
        messages.note(f"{rows:,} {plural(rows, 'row')} of cached_file in {args.output}")
