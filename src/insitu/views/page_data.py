"""What travels in a page, declared once: for Python here, for TypeScript in web/src/schema.ts (tools/page_schema.py).

A page's data is a JSON header (``Meta``) and arrays. Arrow IPC was measured against this packing: its reader adds
21 kB to a script of 42 kB, data grows by 10 to 12 per cent (rising columns are stored as differences here), and
writing it needs Polars, whose import takes 0.14 s of CPU time; a page of a small recording takes 0.2 s.
"""

from typing import Annotated, Final, Literal, NamedTuple, NotRequired, TypedDict

__all__ = ["ARRAYS", "PAGES", "ArrayType", "Heat", "Meta", "Names", "PageType", "Threads"]


class ArrayType(NamedTuple):
    """An array of a page: "indices" arrive as Int32Array, "numbers" (exact to 2**53) as Float64Array."""

    name: str
    kind: Literal["indices", "numbers"]
    doc: str
    always: bool = True
    """Whether every page has it."""


ARRAYS: Final = (
    ArrayType("parent", "indices", "Of each node: its parent, which comes before it. Node 0 is the root."),
    ArrayType("name", "indices", "Of each node: its name, an index into Names.function."),
    ArrayType("entryNode", "indices", "Of each entry: the node it counts in."),
    ArrayType("entryGroup", "indices", "Of each entry: the thread, an index into Threads."),
    ArrayType("entryCount", "numbers", "Of each entry: how much, in Meta.unit."),
    ArrayType("entryBefore", "numbers", "Of a difference: the count before; entryCount is the one after.", False),
    ArrayType("entryCell", "indices", "Of a heat map: the cell; entries are in its order.", False),
)


class Names(TypedDict):
    """What nodes are called. All lists but the last three are per name; name 0 is the root."""

    function: list[str]
    module: Annotated[list[int], "Indexes into modules."]
    kind: Annotated[list[int], "Indexes into kinds."]
    inlined: list[int]
    symbolized: Annotated[list[int], "0 where no symbol covers the address: function is the module in brackets."]
    file: Annotated[list[int], "Indexes into files."]
    modules: list[str]
    kinds: list[str]
    files: list[str]


class Threads(TypedDict):
    """Threads, each under one of its names; empty where none is known."""

    tid: list[int]
    pid: list[int]
    comm: list[str]


class Heat(TypedDict):
    """The grid of a heat map: its cells are numbered column by column."""

    columns: int
    rows: int
    columnNs: int
    edgesNs: NotRequired[Annotated[list[float], "Of rows that are durations: their edges, one more than rows."]]


class Meta(TypedDict):
    """What a page shows besides its arrays."""

    mode: Literal["flame", "diff", "heatmap"]
    title: str
    subtitle: str
    notes: list[str]
    losses: Annotated[dict[str, int], "Records lost, by what lost them."]
    unit: Annotated[str, 'What counts are of: "ns", "bytes", "samples" or an event\'s name.']
    counted: Annotated[str, 'What was recorded: "samples" or "events".']
    names: Names
    threads: Threads
    reverse: bool
    icicle: bool
    minWidth: Annotated[float, "Frames narrower than this many pixels are not drawn one by one."]
    heat: NotRequired[Heat]


class PageType(NamedTuple):
    """A page's script and style (web/src/pages/BUNDLE.ts), and the arrays it has beside those of every page."""

    bundle: str
    arrays: tuple[str, ...] = ()


PAGES: Final = {
    "flame": PageType("flame"),
    "diff": PageType("flame", ("entryBefore",)),
    "heatmap": PageType("heatmap", ("entryCell",)),
}
"""The types of pages, by ``Meta.mode``."""
