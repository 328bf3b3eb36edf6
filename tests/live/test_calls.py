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


def calls(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "insitu", "calls", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("words", [["-g", "vfs_read"], ["--count", "vfs_*"]])
def test_without_function_graph_one_line_says_what_to_use_instead(words, tracefs) -> None:
    if "function_graph" in tracefs.tracers():
        pytest.skip("this kernel has function_graph")
    before = tracefs.names("instances")
    found = calls(*words, "--", "true")
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "CONFIG_FUNCTION_GRAPH_TRACER" in found.stderr
    assert "--user" in found.stderr
    assert tracefs.names("instances") == before


def test_where_the_lists_of_functions_are_refused_nothing_is_traced(tracefs) -> None:
    try:
        tracefs.read("available_filter_functions")
        pytest.skip("this kernel has lists of functions")
    except OSError:
        pass
    found = calls("-f", "vfs_read", "--", "true")
    assert found.returncode == 1
    assert found.stdout == ""
    assert "available_filter_functions" in found.stderr
