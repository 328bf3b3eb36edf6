"""The control channel of `insitu stat`: words that come in parts, writers that go, channels that are none."""

import os
import select
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.record.control import Control


def readable(control: Control) -> bool:
    return bool(select.select([control.fd], [], [], 0)[0])


def test_words_come_line_by_line_and_in_parts_and_the_end_is_silent() -> None:
    read, write = os.pipe()
    control = Control.parsed(f"fd:{read}")
    os.close(read)
    os.write(write, b"enable\ndis")
    assert control.words() == ["enable"]
    assert not readable(control)
    os.write(write, b"able\n\0ping\n")
    assert control.words() == ["disable", "ping"]
    os.close(write)
    assert readable(control) and control.words() == []
    assert not readable(control)
    control.answer()  # to nobody
    control.close()
    control.close()


def test_a_word_without_an_end_is_not_kept_for_ever() -> None:
    read, write = os.pipe()
    control = Control.parsed(f"fd:{read}")
    for _ in range(20):
        os.write(write, b"x" * 4096)
        assert control.words() == []
    os.write(write, b"\nping\n")
    found = control.words()
    assert len(found[0]) <= 4096 and found[1] == "ping"
    control.close()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    "text", ["", "fd:", "fd:x", "fd:999999999999999", "fd:-1", "pipe:1", "fifo:", "fifo:/none", "fd:1,2,3"]
)
def test_what_is_not_a_channel_is_refused(text: str) -> None:
    with pytest.raises(InsituError, match="--control"):
        Control.parsed(text)


def test_a_file_is_not_a_channel(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("enable\n")
    with path.open() as file, pytest.raises(InsituError, match="is a file, not a pipe"):
        Control.parsed(f"fd:{file.fileno()}")
    with pytest.raises(InsituError, match="is not a FIFO"):
        Control.parsed(f"fifo:{path}")
