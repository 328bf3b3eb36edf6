"""Attach points of a script: names that are none."""

import pytest

from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.passes.attach import resolve_attach_points
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import AbsentError
from insitu.probe.providers.support.matching import missing
from insitu.probe.source import ScriptError, Source

from .probe_scripts import NoKernel, checked


def test_an_unknown_kind_is_an_error_with_the_nearest_name_whatever_kinds_were_used_before():
    for kind in PROVIDERS:
        assert kind in PROVIDERS[kind].names
    with pytest.raises(ScriptError, match="did you mean 'interval'"):
        checked("intervall:s:1 { exit(); }")


def test_the_names_most_like_a_missing_one_are_found_among_a_whole_kernels():
    names = [
        f"{verb}_{noun}_{number}" for verb in ("get", "put", "drop") for noun in "abcdef" for number in range(4000)
    ]
    error = missing("kernel function", "tcp_conect", [*names, "tcp_connect", "tcp_sendmsg"])
    assert isinstance(error, AbsentError)
    assert error.remedy == "did you mean tcp_connect?"
    assert missing("name", "reads", ["read", "reada", "readb"]).remedy == "did you mean read, readb or reada?"


def test_of_several_places_those_that_are_absent_are_left_out_but_a_misspelt_one_is_an_error():
    source = Source("interval:s:1,usdt:/nonexistent:probe { }")
    _, warnings = resolve_attach_points(parse(source), source, NoKernel())
    assert warnings == ["stdin:1:14: there is no file /nonexistent (skipped)"]
    with pytest.raises(ScriptError, match="unknown unit hours"):
        checked("interval:s:1,interval:hours:1 { }")
