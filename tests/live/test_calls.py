"""Kernel functions on this kernel, where its tracers are missing or refused: one line, and nothing left."""

import subprocess
import sys

import pytest

from insitu.kernel.tracefs import Tracefs


@pytest.fixture
def tracefs():
    tree = Tracefs.open()
    yield tree
    tree.close()


def calls(*words: str) -> tuple[int, int, str, str]:
    """Its pid, exit status, standard output and error."""
    command = [sys.executable, "-m", "insitu", "calls", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        printed, said = running.communicate(timeout=300)
    return running.pid, running.returncode, printed, said


@pytest.mark.parametrize("words", [["-g", "vfs_read"], ["--count", "vfs_*"]])
def test_without_function_graph_one_line_says_what_to_use_instead(words, tracefs) -> None:
    if "function_graph" in tracefs.tracers():
        pytest.skip("this kernel has function_graph")
    pid, status, _, said = calls(*words, "--", "true")
    assert status == 1
    assert said.count("\n") == 1
    assert "CONFIG_FUNCTION_GRAPH_TRACER" in said
    assert "--user" in said
    assert not [name for name in tracefs.names("instances") if name.startswith(f"insitu-{pid}-")]


def test_where_the_lists_of_functions_are_refused_nothing_is_traced(tracefs) -> None:
    try:
        tracefs.read("available_filter_functions")
        pytest.skip("this kernel has lists of functions")
    except OSError:
        pass
    _, status, printed, said = calls("-f", "vfs_read", "--", "true")
    assert status == 1
    assert printed == ""
    assert "available_filter_functions" in said
