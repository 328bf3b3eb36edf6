"""QEMU's monitor from this side: replies, refusals, silence and a closed connection, against a monitor made here."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from insitu.lab.qmp import Qmp, QmpError

VERSION = {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}
GREETING = json.dumps({"QMP": {"version": VERSION, "capabilities": []}}).encode() + b"\r\n"
Answer = Callable[[dict[str, Any]], bytes]


def returned(request: dict[str, Any], value: object) -> bytes:
    return json.dumps({"return": value, "id": request.get("id")}).encode() + b"\r\n"


def requests(port: socket.socket) -> Iterator[dict[str, Any]]:
    """JSON objects as they arrive; nothing need separate them."""
    pending = ""
    while data := port.recv(1 << 16):
        pending += data.decode()
        while pending:
            request, end = json.JSONDecoder().raw_decode(pending)
            pending = pending[end:].lstrip()
            yield request


@contextmanager
def monitor(folder: Path, answer: Answer, greeting: bytes = GREETING) -> Iterator[Path]:
    """A socket that greets, takes the capabilities and then replies with ``answer(request)``; empty bytes hang up."""
    path = folder / "qmp"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        port, _ = listener.accept()
        with port, suppress(ConnectionError):
            port.sendall(greeting)
            for request in requests(port):
                negotiation = request["execute"] == "qmp_capabilities"
                reply = returned(request, {}) if negotiation else answer(request)
                if not reply:
                    return
                port.sendall(reply)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield path
    finally:
        listener.close()
        server.join(10)


def test_arguments_are_sent_with_hyphens_and_the_result_is_returned(tmp_path: Path) -> None:
    with monitor(tmp_path, lambda request: returned(request, request)) as path, Qmp(path) as qmp:
        request = qmp.execute("migrate", uri="x", dst_name=[1])
        assert (request["execute"], request["arguments"]) == ("migrate", {"uri": "x", "dst-name": [1]})
        assert "arguments" not in qmp.execute("stop")


def test_an_event_between_two_replies_is_passed_over(tmp_path: Path) -> None:
    event = json.dumps({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}).encode() + b"\r\n"
    with monitor(tmp_path, lambda request: event + returned(request, request["execute"])) as path, Qmp(path) as qmp:
        assert [qmp.execute("stop"), qmp.execute("cont")] == ["stop", "cont"]


def test_a_refusal_names_the_command_and_qemus_reason(tmp_path: Path) -> None:
    def refuse(request: dict[str, Any]) -> bytes:
        error = {"class": "GenericError", "desc": "no such migration"}
        return json.dumps({"error": error, "id": request.get("id")}).encode() + b"\r\n"

    with (
        monitor(tmp_path, refuse) as path,
        Qmp(path) as qmp,
        pytest.raises(QmpError, match=r"^QEMU refused migrate: no such migration$"),
    ):
        qmp.execute("migrate")


def test_a_monitor_that_does_not_reply_is_an_error_at_the_deadline_and_a_late_reply_is_not_taken_for_the_next(
    tmp_path: Path,
) -> None:
    held: list[bytes] = []

    def late(request: dict[str, Any]) -> bytes:
        if request["execute"] == "slow":
            held.append(returned(request, "slow"))
            return b" "
        return b"".join(held) + returned(request, request["execute"])

    with monitor(tmp_path, late) as path, Qmp(path) as qmp:
        with pytest.raises(QmpError, match=r"did not reply to slow within 0\.05 s"):
            qmp.execute("slow", timeout=0.05)
        assert qmp.execute("quick") == "quick"


@pytest.mark.parametrize("reply", [b"", b"not json\r\n", b"[1, 2]\r\n"])
def test_a_monitor_that_hangs_up_or_sends_nonsense_is_reported_in_one_line(
    tmp_path: Path, reply: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with monitor(tmp_path, lambda request: reply) as path, Qmp(path) as qmp:
        for _ in range(2):  # the connection stays closed
            with pytest.raises(QmpError, match="has exited or closed its monitor"):
                qmp.execute("stop")
    assert capfd.readouterr() == ("", "")


def test_a_socket_without_a_monitor_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match=r"cannot connect to QEMU on .*/qmp: No such file or directory"):
        Qmp(tmp_path / "qmp")


def test_a_monitor_that_does_not_greet_is_an_error_at_the_deadline(tmp_path: Path) -> None:
    with (
        monitor(tmp_path, lambda request: b"", greeting=b"\n") as path,
        pytest.raises(QmpError, match=r"(no reply from|cannot connect to) QEMU"),
    ):
        Qmp(path, timeout=0.2)


def test_a_coroutine_can_call_the_monitor_too(tmp_path: Path) -> None:
    async def ask(path: Path) -> object:
        with Qmp(path) as qmp:
            return qmp.execute("query-status")

    # In a thread of its own: Playwright's tests leave a running loop in that of the others.
    with monitor(tmp_path, lambda request: returned(request, "running")) as path, ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, ask(path)).result() == "running"


def test_the_lab_is_imported_without_asyncio() -> None:
    code = "import sys, insitu.lab.guests.guest, insitu.lab.qmp; print('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
