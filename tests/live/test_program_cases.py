"""The cases of docs/cases about ready programs: their very programs and commands show what their pages say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars
import pytest

import insitu

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_PAGE = Path(__file__).parents[2] / "docs/cases/kmalloc-hot-spots.md"


def test_a_thousand_pipes_take_memory_in_alloc_pipe_info_and_lose_a_third_of_it_to_rounding(tmp_path: Path) -> None:
    text = _PAGE.read_text()
    for name, content in re.findall(r"`([\w.]+)`:\n\n```\w*\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).write_text(content)
    subprocess.run(["gcc", "-o", "pipes", "pipes.c"], cwd=tmp_path, check=True)
    outputs = []
    for command in re.findall(r"^\$ insitu (.*?(?:\n    .*?)*)$", text, re.MULTILINE):
        words = [sys.executable, "-m", "insitu", *shlex.split(command)]
        outputs.append(subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert "create_pipe_files" in outputs[1] and "alloc_pipe_info" in outputs[1]
    assert outputs[2].splitlines()[1].startswith("alloc_pipe_info")
    frame = insitu.open(tmp_path / "kmallocs.insitu").sql(
        "select asked_bytes, allocated_bytes, count(*) as times from event.kmalloc where stack in "
        "(select stack from stack_frame where function = 'alloc_pipe_info') group by all order by asked_bytes desc"
    )
    assert isinstance(frame, polars.DataFrame)
    # 16 (PIPE_DEF_BUFFERS) of struct pipe_buffer, 40 bytes; kmalloc-1k is the next cache.
    assert frame.row(0) == (640, 1024, 1000)
