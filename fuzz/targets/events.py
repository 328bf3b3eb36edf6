"""Filters, triggers and latencies as users write them, and the kernel's histograms."""

import contextlib
from pathlib import Path

from fuzz.registry import Read
from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat, parse_format
from insitu.record.ftrace.filters import parse_filter
from insitu.record.ftrace.histograms import histogram_request, parse_hist
from insitu.record.ftrace.latencies import latency_request, latency_script
from insitu.record.ftrace.triggers import parse_trigger

__all__ = ["filters", "histograms"]

_FORMAT = """name: sample
ID: 372
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;
\tfield:unsigned long args[6];\toffset:32;\tsize:48;\tsigned:0;
\tfield:__data_loc cpumask_t[] mask;\toffset:80;\tsize:4;\tsigned:0;
\tfield:pid_t pid;\toffset:84;\tsize:4;\tsigned:1;
\tfield:unsigned long ip;\toffset:88;\tsize:8;\tsigned:0;

print fmt: ""
"""
_EVENT = parse_format(_FORMAT, "a:sample")
_HISTOGRAMS = (["ip.sym"], ["stacktrace"], ["comm", "pid"], ["common_pid.execname", "pid.log2"], ["ip.hex", "cpu"])


def _event(category: str, name: str) -> EventFormat:
    if name != "sample":
        raise InsituError("there is no such event")
    return _EVENT


def filters(directory: Path) -> Read:
    """What is written for one is read the same again."""

    def read(data: bytes) -> None:
        text = data.decode(errors="replace")
        with contextlib.suppress(InsituError):
            checked = parse_filter(text, _EVENT)
            assert parse_filter(checked.text, _EVENT) == checked
        with contextlib.suppress(InsituError):
            trigger = parse_trigger(text, _EVENT, _event, variables=("ts0",))
            assert parse_trigger(trigger.text, _EVENT, _event, variables=("ts0",)) == trigger
        latency_script(latency_request(text, _event))

    return read


def histograms(directory: Path) -> Read:
    """The hist file of an event."""
    requests = [histogram_request(_EVENT, keys, ["pid"]) for keys in _HISTOGRAMS]

    def read(data: bytes) -> None:
        text = data.decode(errors="replace")
        for request in requests:
            parse_hist(text, request)

    return read
