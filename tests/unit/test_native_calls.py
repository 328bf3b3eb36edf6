"""Signals while a library runs, which Python does not handle before it returns."""

import signal
import subprocess
import sys

import pytest

STUCK = """
import ctypes, sys
from insitu import cli
from insitu.commands import report

def run(args):
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    print("ready", flush=True)
    libc.pthread_mutex_lock(mutex)  # never returns

report.run = run
sys.exit(cli.main(["report"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_that_never_returns_is_ended_by_a_later_signal(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout and child.stderr
        assert child.stdout.readline() == b"ready\n"
        for _ in range(100):
            child.send_signal(number)
            try:
                status = child.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            child.kill()
            pytest.fail("signals did not end it")
        assert status == 128 + number
        assert child.stderr.read() == b""


CONVERTING = """
import ctypes
from pathlib import Path
from insitu.commands import _output
from insitu.convert import sources

def finish(path):
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    print("ready", flush=True)
    libc.pthread_mutex_lock(mutex)

sources.finish = finish
_output.finished(Path("s.insitu"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_conversion_after_a_recording_is_ended_by_one_signal(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", CONVERTING], stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(number)
        assert child.wait(60) == -number
