"""Attach points of a script: names that are none."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.probe.bpftrace.script_parser import parse
from insitu.probe.passes.attach import resolve_attach_points
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import AbsentError, AttachSpec, Context
from insitu.probe.providers.support import binary
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


def test_of_alternatives_the_first_that_exists_is_attached_and_the_others_are_not_missed():
    cases = {
        "usdt:/nonexistent:probe || interval:s:1 || interval:s:2 { }": ["interval:s:1"],
        "interval:s:3 || usdt:/nonexistent:probe { }": ["interval:s:3"],
        "interval:s:4, usdt:/nonexistent:probe || interval:s:5 { }": ["interval:s:4", "interval:s:5"],
    }
    for text, wanted in cases.items():
        clauses, warnings = resolve_attach_points(parse(Source(text)), Source(text), NoKernel())
        assert ([point.name for clause in clauses for point in clause.points], warnings) == (wanted, [])


def test_an_error_names_all_alternatives_where_none_exists_and_a_misspelt_last_one():
    with pytest.raises(ScriptError, match="there is no file /nonexistent; there is no file /absent"):
        checked("usdt:/nonexistent:probe || usdt:/absent:probe { }")
    with pytest.raises(ScriptError, match="unknown probe kind 'intervall'"):
        checked("usdt:/nonexistent:probe || intervall:s:1 { }")


def test_what_a_built_in_program_misses_is_one_line_without_its_text():
    source = Source("usdt:/nonexistent:probe { }", "lostcalls", built_in=True)
    with pytest.raises(InsituError) as raised:
        resolve_attach_points(parse(source), source, NoKernel())
    assert not isinstance(raised.value, ScriptError)
    assert str(raised.value) == "lostcalls: there is no file /nonexistent"


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


def test_the_attach_points_of_the_whole_script_are_limited() -> None:
    source = Source("BEGIN { } software:*,interval:s:1 { } software:cpu:5 { } END { }")
    software = len(PROVIDERS["software"].expand(AttachSpec("software", ("*",)), NoKernel()))
    points = software + 4
    for limit in (points, points - 1, software, 1):
        context = NoKernel(max_probes=limit)
        if limit == points:
            clauses, _ = resolve_attach_points(parse(source), source, context)
            assert sum(len(clause.points) for clause in clauses) == points
        else:  # bpftrace's message
            message = f"can't attach to {points} probes because it exceeds the current limit of {limit} probes"
            with pytest.raises(InsituError, match=message):
                resolve_attach_points(parse(source), source, context)
    filtered, _ = resolve_attach_points(parse(source), source, NoKernel(max_probes=3, probe_filter="interval"))
    assert len(filtered) == 3


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


# Damaged and other files among those of a pattern


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of one program and of everything that is none."""
    found = tmp_path_factory.mktemp("mixed")
    (found / "f.c").write_text("int f(int n) { return n; }\nint main(void) { return f(0); }\n")
    subprocess.run(["gcc", "-g", "-o", "good", "f.c"], cwd=found, check=True)
    good = (found / "good").read_bytes()
    (found / "short").write_bytes(good[:40])
    (found / "cut").write_bytes(good[: len(good) // 2])
    (found / "class").write_bytes(good[:4] + b"\7" + good[5:])
    (found / "endian").write_bytes(good[:5] + b"\2" + good[6:])
    (found / "lib.so").mkdir()
    os.mkfifo(found / "fifo")
    (found / "dangling").symlink_to("nothing")
    (found / "loop").symlink_to("loop")
    with zipfile.ZipFile(found / "app.apk", "w") as packed:
        packed.write(found / "good", "good.so")
    archive = (found / "app.apk").read_bytes()
    (found / "cut.apk").write_bytes(archive[:100] + archive[-100:])
    return found


_DAMAGED = ("class", "cut", "endian", "short")


@pytest.mark.parametrize(
    "form", ["uprobe:{}/*:f", "uretprobe:{}/*:f", "uprobe:{}/*@f.c:1", "uprobe:{}/*:cpp:f", "usdt:{}/*:*:*"]
)
@pytest.mark.parametrize("lists", [False, True])
def test_damaged_files_of_a_pattern_are_skipped_with_a_warning_each(
    mixed: Path, form: str, lists: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, *parts = form.format(mixed).split(":")
    spec, context, provider = AttachSpec(kind, tuple(parts)), NoKernel(), PROVIDERS[kind]
    for _ in range(2):  # as a script that names them twice
        if kind == "usdt":
            assert provider.listing(spec, context) == []
            if not lists:
                with pytest.raises(AbsentError, match="has no USDT probes"):
                    provider.expand(spec, context)
        else:
            found = provider.listing(spec, context) if lists else provider.expand(spec, context)
            assert [point.target for point in found] == [f"{mixed}/good"]
    warnings = capsys.readouterr().err.splitlines()
    assert [line.partition(" is skipped: ")[0] for line in warnings] == [
        f"insitu: warning: {mixed}/{name}" for name in _DAMAGED
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "ELF header is cut short"),
        ("sho*", "ELF header is cut short"),
        ("cut", "truncated"),
        ("endian", "big-endian"),
        ("lib.so", "is a directory"),
        ("fifo", "not a regular file"),
        ("loop", "symbolic links"),
        ("dangling", "there is no file"),
        ("good/f", "there is no file"),
        ("f.c", "not an ELF file"),
        ("cut.apk!/good.so", "is not a ZIP archive that can be read"),
        ("app.apk!/bad.so", "there is no bad.so in"),
    ],
)
def test_a_file_that_is_named_and_cannot_be_probed_is_an_error_that_says_why(
    mixed: Path, name: str, message: str
) -> None:
    for kind in ("uprobe", "usdt"):
        spec = AttachSpec(kind, (f"{mixed}/{name}", "f"))
        for use in (PROVIDERS[kind].expand, PROVIDERS[kind].listing):
            with pytest.raises(InsituError, match=message):
                use(spec, NoKernel())


def test_a_file_that_vanishes_while_a_pattern_is_expanded_is_skipped(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"{mixed}/gone", f"{mixed}/good"]
    monkeypatch.setattr(binary, "binaries", lambda *_: files)
    (point,) = PROVIDERS["uprobe"].expand(AttachSpec("uprobe", (f"{mixed}/*", "f")), NoKernel())
    assert point.target == files[1]
    assert capsys.readouterr().err.splitlines() == [
        f"insitu: warning: {files[0]} is skipped: cannot open {files[0]}: No such file or directory"
    ]


def test_a_program_on_path_that_is_a_script_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some-script").write_text("#!/bin/sh\n")
    (tmp_path / "some-script").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AbsentError, match="some-script: not an ELF file"):
        PROVIDERS["uprobe"].expand(AttachSpec("uprobe", ("some-script", "main")), NoKernel())
