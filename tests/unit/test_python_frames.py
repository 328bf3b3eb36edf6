"""Python frames in memory: this interpreter's own, whose functions and lines are known, and memory that lies."""

import ctypes
import random
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from insitu.kernel.process_memory import ProcessMemory
from insitu.symbols.python_frames import interpreter_at, line_at


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


@pytest.mark.skipif(not hasattr(CodeType, "co_positions"), reason="another table of lines")
@pytest.mark.parametrize("module", ["argparse", "ast", "asyncio.base_events", "test_python_frames"])
def test_lines_of_instructions_are_those_that_the_interpreter_gives(module: str) -> None:
    file = __file__ if module == "test_python_frames" else __import__(module, fromlist=["x"]).__file__
    assert file
    whole = compile(Path(file).read_bytes(), file, "exec")
    for code in _codes(whole):
        for at, (line, *_) in enumerate(code.co_positions()):
            assert line_at(code.co_linetable, code.co_firstlineno, 2 * at) == (line or 0)


@pytest.mark.parametrize("seed", range(20))
def test_a_table_of_lines_that_lies_has_an_end(seed: int) -> None:
    table = random.Random(seed).randbytes(2000)
    assert all(line_at(table, 1, offset) >= 0 for offset in (-4, 0, 100, 1 << 40))
    assert line_at(b"", 5, 0) == 0


def test_a_thread_that_waits_is_in_its_functions() -> None:
    memory = ProcessMemory()
    library = ctypes.pythonapi
    runtime = ctypes.addressof(ctypes.c_char.in_dll(library, "_PyRuntime"))
    found = interpreter_at(lambda at, size: memory.read(threading.get_native_id(), at, size), runtime, sys.hexversion)
    if found is None:
        pytest.skip("a Python whose frames we cannot read")
    asleep, over, ids = threading.Event(), threading.Event(), []

    def waits_наружи() -> None:
        ids.append(threading.get_native_id())
        asleep.set()
        over.wait()

    thread = threading.Thread(target=waits_наружи)
    thread.start()
    asleep.wait()
    try:
        frames = found.frames(found.threads()[ids[0]])
    finally:
        over.set()
        thread.join()
    ours = next(frame for frame in frames if frame.file == __file__)
    assert ours.function == f"{test_a_thread_that_waits_is_in_its_functions.__name__}.<locals>.waits_наружи"
    first = waits_наружи.__code__.co_firstlineno
    assert first < ours.line <= first + 3
    assert [frame.function for frame in frames[-2:]] == ["Thread._bootstrap_inner", "Thread._bootstrap"]


@pytest.mark.parametrize("version", [0x030B07F0, 0x030C01F0, 0x030D00F0])
@pytest.mark.parametrize("content", ["itself", "random", "zeros"])
def test_memory_that_lies_ends_in_few_frames(version: int, content: str) -> None:
    reads = 0
    chance = random.Random(version)

    def read(at: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        if content == "itself":  # every pointer leads to one place
            return struct.pack("<Q", 0x1000) * (size // 8) + bytes(size % 8)
        return chance.randbytes(size) if content == "random" else bytes(size)

    found = interpreter_at(read, 0x1000, version)
    if found is None:
        assert version == 0x030D00F0  # its own offsets are checked
        return
    threads = found.threads()
    for thread in [*threads.values()][:3]:
        assert len(found.frames(thread)) <= 256
    assert reads < 5_000


@pytest.mark.parametrize("version", [0, 0x02070000, 0x030A00F0, 0x030E00F0, 0x04000000])
def test_other_versions_are_left_alone(version: int) -> None:
    assert interpreter_at(lambda at, size: bytes(size), 0x1000, version) is None
