"""Frames of the kernel's tracing at the leaf of stacks that were taken at a tracepoint."""

import numpy as np
import pytest

from insitu.convert.tracing_frames import is_tracing, without_tracing
from insitu.kernel import procfs
from insitu.session.manifest import Manifest
from insitu.session.writer import MemoryTables, SessionWriter
from insitu.symbols.frame import KERNEL, USER, Frame


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("__traceiter_sched_switch", True),
        ("__bpf_trace_sched_switch", True),
        ("bpf_trace_run4", True),
        ("bpf_prog_c60f3942ed9c0de6_sched_switch", True),
        ("perf_trace_sched_switch", True),
        ("trace_event_raw_event_sched_switch", True),
        ("trace_event_buffer_commit", True),
        ("__schedule", False),
        ("trace_hardirqs_on", False),
        ("bpf_prog_load", False),
        ("perf_event_task_tick", False),
    ],
)
def test_which_functions_are_of_the_tracing(function: str, expected: bool) -> None:
    assert is_tracing(function) is expected


def test_they_are_dropped_at_the_leaf_and_nowhere_else() -> None:
    writer = SessionWriter(MemoryTables(), Manifest.imported(procfs, "test"))
    tracing, other = Frame("__traceiter_sched_switch", kind=KERNEL), Frame("__schedule", kind=KERNEL)
    user = Frame("bpf_trace_run1", kind=USER)  # a program's own, of that name
    stacks = [[tracing, tracing, other], [other, tracing, other], [tracing], [], [user, other]]
    nodes = np.array([writer.intern_stack(frames) if frames else 0 for frames in stacks], np.int32)
    expected = [writer.intern_stack([other]), nodes[1], 0, 0, nodes[4]]
    assert without_tracing(writer, nodes).tolist() == expected
