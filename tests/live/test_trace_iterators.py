"""Iterators in scripts, against what /proc says of a process that the test started."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_CHILD = "import os, sys; [os.open(name, os.O_RDONLY) for name in sys.argv[1:]]; print(); sys.stdin.read()"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[int]:
    """A process with seven open files of its own."""
    names = [tmp_path / str(number) for number in range(7)]
    for name in names:
        name.touch()
    command = [sys.executable, "-c", _CHILD, *map(str, names)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def _trace(script: str) -> list[str]:
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split("\n")


def test_the_files_of_a_process_are_those_of_proc(child: int) -> None:
    lines = _trace(f'iter:task_file {{ if (ctx->task->pid == {child}) {{ printf("fd %d\\n", ctx->fd); }} }}')
    listed = sorted(int(line.split()[1]) for line in lines if line.startswith("fd "))
    assert listed == sorted(int(path.name) for path in Path(f"/proc/{child}/fd").iterdir())
    assert len(listed) >= 7


def test_a_script_of_walks_alone_ends_by_itself_after_its_end_probe(child: int) -> None:
    lines = _trace(f'iter:task /ctx.task.tgid == {child}/ {{ @ = count(); }} END {{ printf("last\\n"); }}')
    assert "last" in lines
    assert f"@: {len(list(Path(f'/proc/{child}/task').iterdir()))}" in lines


def test_a_walk_goes_on_to_its_end_though_the_command_has_ended() -> None:
    # A task takes milliseconds; the command, the test's own process among the last ones of the walk, none.
    script = "iter:task { for ($i : 0..200000) { @rounds = $i; } @tasks[ctx.task.pid] = 1; }"
    command = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script, "-c", "/bin/true"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert f"@tasks[{os.getpid()}]: 1\n" in shown
