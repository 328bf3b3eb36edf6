"""What travels in a page, declared once: for Python here, for TypeScript in web/src/schema.ts (tools/page_schema.py).

A page's data is a JSON header (``Meta``) and arrays. Arrow IPC was measured against this packing: its reader adds
21 kB to a script of 42 kB, data grows by 10 to 12 per cent (rising columns are stored as differences here), and
writing it needs Polars, whose import takes 0.14 s of CPU time; a page of a small recording takes 0.2 s.
"""

from typing import Annotated, Final, Literal, NamedTuple, NotRequired, TypedDict

__all__ = [
    "ARRAYS",
    "PAGES",
    "TIMELINE_ARRAYS",
    "ArrayType",
    "Head",
    "Heat",
    "Meta",
    "Names",
    "PageType",
    "Threads",
    "TimelineMeta",
]


class ArrayType(NamedTuple):
    """An array of a page: "indices" arrive as Int32Array, "numbers" as Float64Array (integers exact to 2**53)."""

    name: str
    kind: Literal["indices", "numbers"]
    doc: str
    always: bool = True
    """Whether every page of its kind has it."""


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


class Head(TypedDict):
    """What stands above every page."""

    mode: Literal["flame", "diff", "heatmap", "timeline"]
    title: str
    subtitle: str
    notes: list[str]
    losses: Annotated[dict[str, int], "Records lost, by what lost them."]


class Meta(Head):
    """What a page of a call tree shows besides its arrays."""

    unit: Annotated[str, 'What counts are of: "ns", "bytes", "samples" or an event\'s name.']
    counted: Annotated[str, 'What was recorded: "samples" or "events".']
    names: Names
    threads: Threads
    reverse: bool
    icicle: bool
    minWidth: Annotated[float, "Frames narrower than this many pixels are not drawn one by one."]
    heat: NotRequired[Heat]


class TimelineThreads(TypedDict):
    """Threads under their last names; thread 0 is unknown, or an idle CPU."""

    tid: list[int]
    comm: list[str]
    process: Annotated[list[int], "Indexes into processes."]


class Processes(TypedDict):
    """Processes, of which 0 is unknown."""

    pid: list[int]
    name: list[str]
    machine: Annotated[list[int], "Indexes into machines."]


class Machines(TypedDict):
    """A host and its guests; machine 0 is the host, or the only one."""

    name: list[str]
    firstCpu: Annotated[list[int], "What CPU 0 of each is called in the page's arrays."]


class VirtualCpus(TypedDict):
    """CPUs of guests of which the host's thread is known that runs them."""

    cpu: Annotated[list[int], "By the page's numbers."]
    thread: Annotated[list[int], "Indexes into threads."]


class Counters(TypedDict):
    """The tracks of counters."""

    name: list[str]
    unit: list[str]
    thread: Annotated[list[int], "0: of none."]
    cpu: Annotated[list[int], "-1: of none."]


class Functions(TypedDict):
    """Functions of stacks."""

    name: list[str]
    module: list[str]
    kind: list[str]


class TimelineMeta(Head):
    """What a timeline shows besides its arrays."""

    endNs: Annotated[float, "When the recording ended; like all times, since the beginning of the page."]
    threads: TimelineThreads
    processes: Processes
    machines: Machines
    virtualCpus: VirtualCpus
    states: Annotated[list[str], "What stateWhat is an index into."]
    names: Annotated[list[str], "What spanName is an index into."]
    categories: Annotated[list[str], "What spanCategory is an index into."]
    events: Annotated[list[str], "What eventType is an index into."]
    sampled: Annotated[list[str], "What sampleType is an index into."]
    counters: Counters
    functions: Functions
    texts: Annotated[list[str], "What spanText and eventText are indexes into; text 0 is empty."]


_THREAD: Final = "an index into threads."
_STACK: Final = "an index into stackParent; 0: unknown."

TIMELINE_ARRAYS: Final = (
    ArrayType("stateTime", "numbers", "Of each state of a thread, in the order of time: its start."),
    ArrayType("stateDuration", "numbers", "Until endNs of those that were open then."),
    ArrayType("stateThread", "indices", f"Whose it is, {_THREAD}"),
    ArrayType("stateWhat", "indices", "An index into states."),
    ArrayType("stateCpu", "indices", "The CPU, plus one; 0: none."),
    ArrayType("stateWaker", "indices", f"The thread that woke it, {_THREAD}"),
    ArrayType("stateStack", "indices", f"Where it left the CPU, {_STACK}"),
    ArrayType("spanTime", "numbers", "Of each span, in the order of time, of one time the longest first: its start."),
    ArrayType("spanDuration", "numbers", "Until endNs of those that were open then."),
    ArrayType("spanThread", "indices", f"Whose it is, {_THREAD}"),
    ArrayType("spanName", "indices", "An index into names."),
    ArrayType("spanCategory", "indices", "An index into categories."),
    ArrayType("spanText", "indices", "An index into texts."),
    ArrayType("spanStack", "indices", f"Where it began, {_STACK}"),
    ArrayType("sampleTime", "numbers", "Of each sample, in the order of time."),
    ArrayType("sampleThread", "indices", f"Whose it is, {_THREAD}"),
    ArrayType("sampleCpu", "indices", "The CPU, plus one; 0: unknown."),
    ArrayType("sampleType", "indices", "An index into sampled."),
    ArrayType("sampleStack", "indices", f"The stack, {_STACK}"),
    ArrayType("eventTime", "numbers", "Of each event, in the order of time."),
    ArrayType("eventThread", "indices", f"Whose it is, {_THREAD}"),
    ArrayType("eventCpu", "indices", "The CPU, plus one; 0: unknown."),
    ArrayType("eventType", "indices", "An index into events."),
    ArrayType("eventText", "indices", "An index into texts."),
    ArrayType("eventStack", "indices", f"The stack, {_STACK}"),
    ArrayType("counterTime", "numbers", "Of each value of a counter, in the order of time."),
    ArrayType("counterTrack", "indices", "An index into counters."),
    ArrayType("counterValue", "numbers", "The value from then on."),
    ArrayType("stackParent", "indices", "Of each stack: its caller's, which comes before it. Stack 0 is empty."),
    ArrayType("stackFunction", "indices", "Of each stack: its innermost function, an index into functions."),
)


class PageType(NamedTuple):
    """A page's script and style (web/src/pages/BUNDLE.ts), and its arrays."""

    bundle: str
    arrays: tuple[str, ...]


_TREE: Final = tuple(array.name for array in ARRAYS if array.always)

PAGES: Final = {
    "flame": PageType("flame", _TREE),
    "diff": PageType("flame", (*_TREE, "entryBefore")),
    "heatmap": PageType("heatmap", (*_TREE, "entryCell")),
    "timeline": PageType("timeline", tuple(array.name for array in TIMELINE_ARRAYS)),
}
"""The types of pages, by ``Head.mode``."""
