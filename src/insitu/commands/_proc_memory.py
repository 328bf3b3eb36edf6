"""insitu proc --at and --pages: what addresses of a process belong to, and its pages."""

import argparse
import sys

from insitu import messages
from insitu.commands._options import address
from insitu.errors import InsituError

__all__ = ["address_range", "show_pages", "show_places"]


def address_range(text: str) -> tuple[int, int]:
    """START-END, or START alone, for which the end is 0. Raises ArgumentTypeError."""
    first, _, last = text.partition("-")
    start, end = address(first), address(last) if last else 0
    if last and end <= start:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of addresses START-END")
    return start, end


def show_places(args: argparse.Namespace, pid: int) -> int:
    """What each address of --at belongs to."""
    from insitu.inspect.address import place
    from insitu.views.address import blocks, document
    from insitu.views.terminal import Screen

    documents, screen = [], Screen.of(sys.stdout)
    for each in args.at:
        found = place(pid, each)
        if args.json:
            documents.append(document(found))
        else:
            screen.write(blocks(found))
        for note in () if args.quiet else found.notes:
            messages.note(note)
    if args.json:
        from insitu.valid_text import json_document

        print(json_document({"format": "insitu-proc-at-1", "pid": pid, "addresses": documents}))
    return 0


def show_pages(args: argparse.Namespace, pid: int) -> int:
    """The pages of a range, or of the mapping at an address."""
    from insitu.inspect.memory_map import mappings_of
    from insitu.inspect.page_runs import page_runs
    from insitu.views.address import run_blocks, run_document
    from insitu.views.terminal import Screen

    start, end = args.pages
    areas = mappings_of(pid)
    if not end:
        area = next((each for each in areas if each.start <= start < each.end), None)
        if area is None:
            raise InsituError(f"{start:#x} is not mapped", remedy=f"insitu proc --at {start:#x} {pid}")
        start, end = area.start, area.end
    found = page_runs(pid, start, end)
    if args.json:
        from insitu.valid_text import json_document

        print(json_document({"format": "insitu-proc-pages-1", "pid": pid, "pages": run_document(found)}))
    else:
        Screen.of(sys.stdout).write(run_blocks(found, args.limit))
    return 0
