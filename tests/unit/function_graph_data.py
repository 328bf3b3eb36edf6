"""What Debian's kernels recorded in guests with function_graph: `trace`, and then trace_pipe_raw of both CPUs."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from insitu.convert.sources import finish
from insitu.kernel import procfs
from insitu.session.directory import create
from insitu.session.manifest import Manifest

__all__ = ["DATA", "EVENTS", "PAGE", "TextCall", "calls_of_text", "recording"]

DATA = Path(__file__).parent / "function_graph"
EVENTS = ("funcgraph_entry", "funcgraph_exit")
PAGE = 4096
# 7.912504 |   1)    true-162    | + 56.605 us   |    irq_enter_rcu();
_LINE = re.compile(
    r" *\d+\.\d+ \| +\d+\) +\S+-(?P<pid>\d+) +\| .? ?(?:(?P<us>[\d.]+) us)? +\|"
    r" +(?:(?P<leaf>[\w.]+)\(\);|(?P<begins>[\w.]+)\(\) \{|\}.*)"
)


class TextCall(NamedTuple):
    """A call of the kernel's text; ``parent`` is its caller's place in the list, -1: none."""

    pid: int
    function: str
    parent: int
    dur_ns: int


def calls_of_text(kernel: str) -> list[TextCall]:
    """The calls of `trace` by a walk over its braces, in the order of its lines."""
    calls: list[TextCall] = []
    open_calls: dict[int, list[int]] = {}
    for match in filter(None, map(_LINE.fullmatch, (DATA / kernel / "graph.txt").read_text().splitlines())):
        path = open_calls.setdefault(int(match["pid"]), [])
        took = round(float(match["us"] or 0) * 1000)
        if name := match["leaf"] or match["begins"]:
            calls.append(TextCall(int(match["pid"]), name, path[-1] if path else -1, took))
        if match["begins"]:
            path.append(len(calls) - 1)
        elif not name:
            at = path.pop()
            calls[at] = calls[at]._replace(dur_ns=took)
    return calls


def recording(path: Path, kernel: str, *, cost_ns: tuple[int, int] = (0, 0)) -> Path:
    """A session of these pages, converted."""
    source = {"id": "trace", "kind": "trace_pages", "options": {"call_cost_ns": [*cost_ns]}}
    create(path, Manifest.here(procfs, command=["sh"], default_table="span", sources=[source]), procfs)
    directory = path / "raw" / "trace"
    directory.mkdir(parents=True)
    formats = [["ftrace", name, (DATA / kernel / f"{name}.format").read_text()] for name in EVENTS]
    header = (DATA / kernel / "header_page").read_text()
    layout = {"kind": "trace_pages", "page_bytes": PAGE, "header_page": header, "formats": formats}
    (directory / "layout.json").write_text(json.dumps(layout))
    for cpu in (0, 1):
        (directory / f"cpu{cpu}.records").write_bytes((DATA / kernel / f"cpu{cpu}.pages").read_bytes())
    functions = sorted(json.loads((DATA / kernel / "functions.json").read_text()).items(), key=lambda item: item[1])
    (path / "raw" / "kallsyms").write_text("".join(f"{address:016x} t {name}\n" for name, address in functions))
    finish(path)
    return path
