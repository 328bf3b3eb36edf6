"""`insitu lab shell`: this terminal is the guest's, its size included."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

from insitu.lab.kernels.kernel import Kernel

SCRIPT = """
test -t 0 && test -t 1 && stty size; echo ready
read word; echo "got $word"
until [ "$(stty size)" = "44 99" ]; do :; done; stty size
exit 5
"""


def until(terminal: int, word: bytes) -> bytes:
    output = b""
    while word not in output:
        try:
            output += os.read(terminal, 4096)
        except OSError:  # EIO: the other side has closed
            break
    return output


def test_a_shell_has_this_terminals_size_and_input_and_passes_its_status_on(kernel_6_1: Kernel) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    before = termios.tcgetattr(theirs)
    shell = subprocess.Popen(
        [sys.executable, "-m", "insitu", "lab", "shell", "-k", "6.1", "--", "sh", "-c", SCRIPT],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={key: value for key, value in os.environ.items() if key not in ("LINES", "COLUMNS")},
    )
    assert b"33 101" in until(ours, b"ready")
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
    shell.send_signal(signal.SIGWINCH)
    os.write(ours, b"hello\r")
    output = until(ours, b"99")
    assert shell.wait(60) == 5
    assert b"got hello" in output
    assert b"44 99" in output
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
