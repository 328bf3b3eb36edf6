"""`insitu syscalls` of a user without privileges: own programs by ptrace, others' not at all."""

import os

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

__all__ = ["unprivileged"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_everybody_can_trace_programs_of_their_own(unprivileged: Unprivileged) -> None:
    done = unprivileged((), "syscalls", "-v", "-e", "exit_group", "sh", "-c", "exit 3")
    assert done.returncode == 3, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("insitu: engine: ptrace (no eBPF:")
    assert lines[1:] == ["exit_group(3)                           = ?", "+++ exited with 3 +++"]


@pytest.mark.parametrize("words", [("-p", "1"), ("-a",), ("--backend", "bpf", "true")])
def test_what_needs_privileges_is_refused_in_one_line(unprivileged: Unprivileged, words: tuple[str, ...]) -> None:
    done = unprivileged((), "syscalls", *words)
    assert done.returncode == 1
    assert done.stderr.startswith("insitu: ") and done.stderr.count("\n") == 1
