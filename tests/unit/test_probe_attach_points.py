"""Attach points of a script: names that are none."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.passes.attach import resolve_attach_points
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import AbsentError, Context
from insitu.probe.providers.support.archives import archived, stored_entry
from insitu.probe.providers.support.matching import missing
from insitu.probe.source import ScriptError, Source

from .probe_scripts import NoKernel, checked


def test_a_kind_that_matches_none_is_an_error_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "insitu", "trace", "-e", "config* { }"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        done.stderr.startswith("insitu: -e:1:1: error: no probe kind matches 'config*'")
        and "Traceback" not in done.stderr
    )


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


def test_a_list_of_traceable_functions_takes_the_place_of_the_kernels(tmp_path: Path) -> None:
    listed = tmp_path / "functions"
    listed.write_text("vfs_read\next4_sync [ext4]\n\n")
    assert Context(traceable_functions=str(listed)).functions == [("vfs_read", ""), ("ext4_sync", "ext4")]
    with pytest.raises(InsituError, match="cannot read /nonexistent"):
        _ = Context(traceable_functions="/nonexistent").functions


def test_a_filter_leaves_the_points_whose_names_match_and_what_the_runtime_runs() -> None:
    source = Source("BEGIN { } interval:s:1,interval:s:20 { } interval:ms:5 { } END { }")
    context = NoKernel(probe_filter="s:2|hz")
    clauses, _ = resolve_attach_points(parse(source), source, context)
    assert [[point.name for point in clause.points] for clause in clauses] == [["BEGIN"], ["interval:s:20"], ["END"]]


def test_entries_of_archives_are_found_where_they_are_stored_whole(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("one", b"first")
        packed.writestr("deep/two", b"second", zipfile.ZIP_STORED)
        packed.writestr("three", b"third" * 100, zipfile.ZIP_DEFLATED)
    data, begin = stored_entry(str(archive), "deep/two")
    assert data == b"second" == archive.read_bytes()[begin : begin + 6]
    assert archived(f"{archive}!/deep/two") == (str(archive), "deep/two")
    for name, message in (("three", "is compressed"), ("four", "there is no four")):
        with pytest.raises(InsituError, match=message):
            stored_entry(str(archive), name)
    archive.write_bytes(b"PK nothing")
    with pytest.raises(InsituError, match="is not a ZIP archive"):
        stored_entry(str(archive), "one")
